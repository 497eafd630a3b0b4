package deps

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Package is one package of the repository, parsed.
type Package struct {
	// Path is relative to the root module: "test/lab/ns", "." for its root.
	Path  string
	Files []File
}

// File is one Go file of a package.
type File struct {
	Path      string // relative to the folder given to Load
	Test      bool   // its name ends in _test.go
	Generated bool   // it has the standard comment that says so
	Lines     int
	Syntax    *ast.File
	Set       *token.FileSet
}

// listed is what of `go list -json` is used.
type listed struct {
	ImportPath     string
	Dir            string
	GoFiles        []string
	CgoFiles       []string
	IgnoredGoFiles []string
	TestGoFiles    []string
	XTestGoFiles   []string
}

// Load parses every package of the module in folder root, and of the modules
// nested in it at the given relative paths. Files for other systems count too.
func Load(root, modulePath string, nested ...string) ([]Package, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", root, err)
	}
	var packages []Package
	for _, module := range append([]string{"."}, nested...) {
		found, err := list(filepath.Join(root, module))
		if err != nil {
			return nil, err
		}
		for _, l := range found {
			p, err := parse(root, modulePath, l)
			if err != nil {
				return nil, err
			}
			packages = append(packages, p)
		}
	}
	return packages, nil
}

// list runs go list with -find: what the packages import need not be there.
func list(folder string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-find", "-json", "./...")
	cmd.Dir = folder
	// A workspace file around the checkout must not decide what is checked.
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages of %s: %w: %s", folder, err, complaint.String())
	}
	var found []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := decoder.Decode(&l); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, fmt.Errorf("decode packages of %s: %w", folder, err)
		}
		found = append(found, l)
	}
}

func parse(root, modulePath string, l listed) (Package, error) {
	p := Package{Path: relative(modulePath, l.ImportPath)}
	for _, names := range [][]string{l.GoFiles, l.CgoFiles, l.IgnoredGoFiles, l.TestGoFiles, l.XTestGoFiles} {
		for _, name := range names {
			path, err := filepath.Rel(root, filepath.Join(l.Dir, name))
			if err != nil {
				return Package{}, fmt.Errorf("locate %s: %w", name, err)
			}
			file, err := parseFile(root, path)
			if err != nil {
				return Package{}, err
			}
			p.Files = append(p.Files, file)
		}
	}
	return p, nil
}

func parseFile(root, path string) (File, error) {
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return File{}, fmt.Errorf("read Go file: %w", err)
	}
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, path, content, parser.ParseComments)
	if err != nil {
		return File{}, fmt.Errorf("parse Go file: %w", err)
	}
	return File{
		Path:      path,
		Test:      strings.HasSuffix(path, "_test.go"),
		Generated: ast.IsGenerated(syntax),
		Lines:     bytes.Count(content, []byte("\n")),
		Syntax:    syntax,
		Set:       set,
	}, nil
}

// relative shortens an import path of the module; others stay as they are.
func relative(modulePath, importPath string) string {
	if importPath == modulePath {
		return "."
	}
	return strings.TrimPrefix(importPath, modulePath+"/")
}

// product is the files that are neither tests nor generated.
func (p Package) product() []File {
	var files []File
	for _, f := range p.Files {
		if !f.Test && !f.Generated {
			files = append(files, f)
		}
	}
	return files
}

// line is the line of a position in the file.
func (f File) line(pos token.Pos) int {
	return f.Set.Position(pos).Line
}

// problem is a message that begins with the place, as compilers write it.
func (f File) problem(pos token.Pos, message string) string {
	return fmt.Sprintf("%s:%d: %s", f.Path, f.line(pos), message)
}
