package deps

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
)

// Budgets of size: what a reader can hold at once.
const (
	maxFileLines        = 500
	maxFunctionLines    = 60 // from the line of func to that of the closing brace
	maxInterfaceMethods = 6
)

// CheckDocs tells the packages without a doc comment, and those whose comment
// does not say what of the repository they may import.
func CheckDocs(packages []Package) []string {
	var problems []string
	for _, p := range packages {
		var doc string
		for _, f := range p.Files {
			doc += " " + f.Syntax.Doc.Text()
		}
		words := strings.ToLower(strings.Join(strings.Fields(doc), " "))
		switch {
		case words == "":
			problems = append(problems, fmt.Sprintf("%s: the package has no doc comment: say what it is for and what of this repository it may import", p.Path))
		case !strings.Contains(words, "may import"):
			problems = append(problems, fmt.Sprintf("%s: the package's doc comment does not say what of this repository it %q", p.Path, "may import"))
		}
	}
	return problems
}

// CheckBudgets tells files, functions and interfaces that are too large.
func CheckBudgets(packages []Package) []string {
	var problems []string
	for _, p := range packages {
		interfaces := namedInterfaces(p)
		for _, f := range p.product() {
			if f.Lines > maxFileLines {
				problems = append(problems, fmt.Sprintf("%s: the file has %d lines, at most %d are allowed", f.Path, f.Lines, maxFileLines))
			}
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if lines := f.line(n.End()) - f.line(n.Pos()) + 1; lines > maxFunctionLines {
						problems = append(problems, f.problem(n.Pos(), fmt.Sprintf("function %s has %d lines, at most %d are allowed", n.Name.Name, lines, maxFunctionLines)))
					}
				case *ast.InterfaceType:
					if methods := countMethods(n, interfaces, 0); methods > maxInterfaceMethods {
						problems = append(problems, f.problem(n.Pos(), fmt.Sprintf("the interface has %d methods, at most %d are allowed", methods, maxInterfaceMethods)))
					}
				}
				return true
			})
		}
	}
	return problems
}

func namedInterfaces(p Package) map[string]*ast.InterfaceType {
	found := map[string]*ast.InterfaceType{}
	for _, f := range p.Files {
		for _, declaration := range declarations(f, token.TYPE) {
			for _, spec := range declaration.Specs {
				named, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				if i, ok := named.Type.(*ast.InterfaceType); ok {
					found[named.Name.Name] = i
				}
			}
		}
	}
	return found
}

// countMethods counts those of embedded interfaces of the same package too. One
// of another package counts as one: its size is the other's decision. depth
// ends a cycle, which only code that does not compile has.
func countMethods(i *ast.InterfaceType, interfaces map[string]*ast.InterfaceType, depth int) int {
	const deepest = 10
	count := 0
	for _, field := range i.Methods.List {
		name, ok := field.Type.(*ast.Ident)
		switch {
		case len(field.Names) > 0:
			count += len(field.Names)
		case ok && interfaces[name.Name] != nil && depth < deepest:
			count += countMethods(interfaces[name.Name], interfaces, depth+1)
		default:
			count++
		}
	}
	return count
}

// CheckState tells init functions and package variables that could change.
func CheckState(packages []Package) []string {
	var problems []string
	for _, p := range packages {
		for _, f := range p.product() {
			for _, d := range f.Syntax.Decls {
				if function, ok := d.(*ast.FuncDecl); ok && function.Recv == nil && function.Name.Name == "init" {
					problems = append(problems, f.problem(function.Pos(), "no init functions: construct it where it is used"))
				}
			}
			for _, declaration := range declarations(f, token.VAR) {
				problems = append(problems, mutable(f, declaration)...)
			}
		}
	}
	return problems
}

func mutable(f File, declaration *ast.GenDecl) []string {
	var problems []string
	for _, s := range declaration.Specs {
		spec, ok := s.(*ast.ValueSpec)
		if !ok || embedded(declaration.Doc) || embedded(spec.Doc) {
			continue
		}
		for i, name := range spec.Names {
			if name.Name == "_" || i < len(spec.Values) && constant(f, spec.Values[i]) {
				continue
			}
			problems = append(problems, f.problem(name.Pos(), fmt.Sprintf("package variable %s could change: make it a constant, a function or a field", name.Name)))
		}
	}
	return problems
}

// embedded tells a variable that the compiler fills from a file.
func embedded(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, comment := range doc.List {
		if strings.HasPrefix(comment.Text, "//go:embed ") {
			return true
		}
	}
	return false
}

// constant tells the calls whose results are constants but for the language:
// error sentinels, compiled expressions, addresses, and the seed of hashes, which
// has to be one for the process and decides nothing but an order.
func constant(f File, value ast.Expr) bool {
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	name, ok := selector.X.(*ast.Ident)
	if !ok {
		return false
	}
	switch importedAs(f, name.Name) + "." + selector.Sel.Name {
	case "errors.New", "fmt.Errorf", "regexp.MustCompile", "hash/maphash.MakeSeed",
		"net/netip.MustParseAddr", "net/netip.MustParsePrefix", "net/netip.MustParseAddrPort":
		return true
	}
	return false
}
