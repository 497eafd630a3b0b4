package kubebin

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// module is a folder with a program that stands for the Kubernetes programs.
func module(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/kube\n\ngo 1.26\n", "go.sum": "", "main.go": "package main\n\nfunc main() {}\n",
	} {
		put(t, dir, name, text)
	}
	return dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func key(t *testing.T, module string) string {
	t.Helper()
	key, err := sourceKey(module)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTheSetFollowsItsSource(t *testing.T) {
	dir := module(t)
	first := key(t, dir)
	if again := key(t, dir); again != first || len(first) != 12 {
		t.Errorf("the key is %s and then %s", first, again)
	}
	for _, change := range []struct{ name, text string }{
		{"main.go", "package main\n\nfunc main() { println() }\n"},
		{"go.mod", "module example.com/kube\n\ngo 1.26\n\nrequire example.com/x v1.0.0\n"},
		{"go.sum", "example.com/x v1.0.0 h1:x\n"},
		{"more.go", "package main\n"},
	} {
		before := key(t, dir)
		put(t, dir, change.name, change.text)
		if key(t, dir) == before {
			t.Errorf("a change of %s is not noticed", change.name)
		}
	}
	before := key(t, dir)
	put(t, dir, "README", "not built\n")
	if key(t, dir) != before {
		t.Error("a file that is not built makes another set")
	}
}

func TestASetIsBuiltOnlyWhenBothFilesAreThere(t *testing.T) {
	source := module(t)
	dir, built, err := Dir(source)
	if err != nil || built || !strings.HasPrefix(dir, os.Getenv("XDG_CACHE_HOME")+"/overland-lab/"+Version+"-") {
		t.Fatalf("got %s, %t, %v", dir, built, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		want bool
	}{{Kube, false}, {Portmap, true}} {
		put(t, dir, step.name, "")
		if _, built, err := Dir(source); err != nil || built != step.want {
			t.Errorf("with %s: built %t, %v", step.name, built, err)
		}
	}
	var out bytes.Buffer
	got, err := Build(context.Background(), source, &out)
	if err != nil || got != dir || out.Len() > 0 {
		t.Errorf("building what is there: %s, %v, it says %q", got, err, out.String())
	}
}

func TestAProgramIsBuiltOrItsErrorTold(t *testing.T) {
	source := module(t)
	target := filepath.Join(t.TempDir(), "program")
	if err := build(context.Background(), source, ".", target, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("the program: %v, %v", info, err)
	}
	put(t, source, "main.go", "package main\n\nfunc main() { return 1 }\n")
	broken := target + "-broken"
	err := build(context.Background(), source, ".", broken, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "build .: exit status 1: ") || !strings.Contains(err.Error(), "main.go:3") {
		t.Errorf("a program that does not compile: %v", err)
	}
	if _, err := os.Stat(broken); err == nil {
		t.Error("a program that does not compile is there")
	}
	if err := build(context.Background(), source, "example.com/absent", broken, &bytes.Buffer{}); err == nil ||
		!strings.Contains(err.Error(), "list the packages of example.com/absent: ") {
		t.Errorf("a package that is not there: %v", err)
	}
}

func TestASourceThatIsNotThereIsAnError(t *testing.T) {
	if _, _, err := Dir(t.TempDir()); err == nil || !strings.Contains(err.Error(), "read the source of the Kubernetes programs: ") {
		t.Errorf("got %v", err)
	}
}

func TestTheLastLinesOfABuildAreKept(t *testing.T) {
	var count atomic.Int64
	last := readPackages(strings.NewReader(strings.Repeat("package\n", 20)+"error\n"), &count)
	if count.Load() != 21 || len(last) != 8 || last[7] != "error" {
		t.Errorf("%d lines, the last are %q", count.Load(), last)
	}
}

func TestTheReleaseIsThatOfTheModule(t *testing.T) {
	text, err := os.ReadFile("../kube/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "k8s.io/kubernetes "+Version+"\n") {
		t.Errorf("go.mod does not require k8s.io/kubernetes %s", Version)
	}
	if link := flags()[2]; !strings.Contains(link, "version.gitMajor=1 ") || !strings.Contains(link, "version.gitMinor=37 ") {
		t.Errorf("the linker is told %s", link)
	}
}
