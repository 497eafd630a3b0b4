package deps

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Rule says what a package's files, but for its tests, may import beside the
// standard library.
type Rule struct {
	// Repo is packages of this repository by their path relative to the root
	// module; one that ends in "/..." stands for all below it and itself.
	Repo []string
	// Modules is modules, or folders of one, of others.
	Modules []string
	// Pure packages compute and do nothing else: no goroutine, lock, clock,
	// context, logger, file, network or chance, and they import only pure ones.
	Pure bool
	// PureFiles are the beginnings of names of files to which the same applies
	// in a package that is not pure as a whole.
	PureFiles []string
}

// of is the rule as it is for one file.
func (r Rule) of(f File) Rule {
	if !f.Test && slices.ContainsFunc(r.PureFiles, func(prefix string) bool { return strings.HasPrefix(path.Base(f.Path), prefix) }) {
		r.Pure = true
	}
	return r
}

// Table is the rule of every package, by its path relative to the root module.
type Table map[string]Rule

// CheckImports tells every import that the table does not allow, every package
// that it does not know and every row without a package.
func CheckImports(modulePath string, packages []Package, table Table) []string {
	var problems []string
	known := map[string]bool{}
	for _, p := range packages {
		known[p.Path] = true
		rule, found := table[p.Path]
		if !found {
			problems = append(problems, fmt.Sprintf("%s: not in the import table: add a row to test/deps/table_test.go", p.Path))
			continue
		}
		for _, f := range p.Files {
			if f.Test {
				continue
			}
			rule := rule.of(f)
			for _, spec := range f.Syntax.Imports {
				if why := rule.refuses(modulePath, importPath(spec), table); why != "" {
					problems = append(problems, f.problem(spec.Pos(), fmt.Sprintf("package %s may not import %s: %s", p.Path, importPath(spec), why)))
				}
			}
			if rule.Pure {
				problems = append(append(problems, goStatements(p, f)...), clockCalls(p, f)...)
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(table)) {
		if !known[path] {
			problems = append(problems, fmt.Sprintf("%s: in the import table but not in the repository: delete its row in test/deps/table_test.go", path))
		}
	}
	return problems
}

// refuses says why an import is not allowed; empty if it is.
func (r Rule) refuses(modulePath, path string, table Table) string {
	inRepo := path == modulePath || strings.HasPrefix(path, modulePath+"/")
	switch {
	case inRepo:
		path = relative(modulePath, path)
		if r.Pure && !table[path].Pure {
			return "a pure package imports only pure ones"
		}
		if !matchesAny(path, r.Repo) {
			return "its row in test/deps/table_test.go does not list it in Repo"
		}
	case r.Pure && impure(path):
		return "a pure package has no goroutine, lock, clock, context, logger, file, network or chance"
	case strings.Contains(strings.Split(path, "/")[0], "."):
		if !slices.ContainsFunc(r.Modules, func(module string) bool { return within(path, module) }) {
			return "its row in test/deps/table_test.go does not list it in Modules"
		}
	}
	return ""
}

func matchesAny(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		folder, all := strings.CutSuffix(pattern, "/...")
		return path == folder || all && within(path, folder)
	})
}

func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// impure tells the packages that bring in what a pure package must not have.
// "net" is one, "net/netip" is not: hence folders are named as such. "time" has
// values too, so of that one, clockCalls looks at what is called.
func impure(path string) bool {
	switch path {
	case "context", "net", "syscall", "unsafe", "math/rand", "math/rand/v2", "crypto/rand":
		return true
	}
	for _, folder := range []string{
		"sync", "os", "log", "net/http", "net/rpc", "runtime", "testing", "io/ioutil",
		"github.com/sirupsen/logrus", "k8s.io/client-go", "k8s.io/klog", "golang.org/x/sync", "golang.org/x/sys",
	} {
		if within(path, folder) {
			return true
		}
	}
	return false
}

// clockCalls finds what of package time looks at a clock or waits for one.
func clockCalls(p Package, f File) []string {
	var problems []string
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		name, ok := selector.X.(*ast.Ident)
		if !ok || importedAs(f, name.Name) != "time" {
			return true
		}
		switch selector.Sel.Name {
		case "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Timer", "Ticker":
			problems = append(problems, f.problem(selector.Pos(), fmt.Sprintf("package %s is pure: no time.%s", p.Path, selector.Sel.Name)))
		}
		return true
	})
	return problems
}

func goStatements(p Package, f File) []string {
	var problems []string
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		if statement, ok := n.(*ast.GoStmt); ok {
			problems = append(problems, f.problem(statement.Pos(), fmt.Sprintf("package %s is pure: no go statement", p.Path)))
		}
		return true
	})
	return problems
}

// importPath is the path of an import; the parser has checked its quotes.
func importPath(spec *ast.ImportSpec) string {
	path, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value
	}
	return path
}

// importedAs is the path that a name at the start of a selector stands for in
// the file; empty if it is not an import.
func importedAs(f File, name string) string {
	for _, spec := range f.Syntax.Imports {
		path := importPath(spec)
		local := path[strings.LastIndexByte(path, '/')+1:]
		if spec.Name != nil {
			local = spec.Name.Name
		}
		if local == name {
			return path
		}
	}
	return ""
}

// declarations of one kind (token.VAR, token.TYPE…) at the file's top level.
func declarations(f File, kind token.Token) []*ast.GenDecl {
	var found []*ast.GenDecl
	for _, d := range f.Syntax.Decls {
		if declaration, ok := d.(*ast.GenDecl); ok && declaration.Tok == kind {
			found = append(found, declaration)
		}
	}
	return found
}
