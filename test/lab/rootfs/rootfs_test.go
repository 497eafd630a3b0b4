package rootfs

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asEnterer, in the environment, makes the test binary enter the root whose
// specification is on its standard input, and run its arguments there.
const asEnterer = "ROOTFS_TEST_AS_ENTERER"

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(asEnterer) == "" {
		os.Exit(m.Run())
	}
	var spec Spec
	err := json.NewDecoder(os.Stdin).Decode(&spec)
	if err == nil {
		err = spec.Enter()
	}
	if err == nil {
		err = unix.Exec("/bin/sh", []string{"sh", "-c", flag.Arg(0)}, []string{"PATH=/usr/bin:/bin"})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// base is a root with the machine's programs and nothing else.
func base(t *testing.T) Spec {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root: makes mounts, in namespaces of their own")
	}
	mounts, links, err := System()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Dir: t.TempDir(), Mounts: mounts, Links: links}
}

// inside runs shell code in the root, in namespaces of its own.
func inside(t *testing.T, spec Spec, script string) (string, error) {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", script)
	cmd.Stdin, cmd.Env = strings.NewReader(string(text)), []string{asEnterer + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustInside(t *testing.T, spec Spec, script string) string {
	t.Helper()
	out, err := inside(t, spec, script)
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return out
}

func TestARootHasWhatWasAskedForAndNothingElse(t *testing.T) {
	spec := base(t)
	own := t.TempDir()
	file := filepath.Join(t.TempDir(), "one")
	for path, text := range map[string]string{filepath.Join(own, "inside"): "kept\n", file: "one\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	devices, links := Devices()
	for path, target := range links {
		spec.Links[path] = target
	}
	spec.Links["/var/run"] = "/run"
	spec.Files = map[string]string{"/etc/hosts": "127.0.0.1 me\n"}
	spec.Mounts = append(append(spec.Mounts, devices...),
		Mount{Source: own, Target: "/data/deep"},
		Mount{Source: file, Target: "/data/file", ReadOnly: true},
		Mount{Type: "tmpfs", Target: "/tmp", Data: "mode=1777,size=1m"},
		Mount{Type: "proc", Target: "/proc"},
	)
	for _, tt := range []struct{ name, script, want string }{
		{"folders", "cd /; for d in *; do test -L $d || echo $d; done | grep -v '^lib\\|bin$'", "data\ndev\netc\nproc\ntmp\nusr\nvar\n"},
		{"own PID namespace", "cat /proc/$$/comm; echo $$", "sh\n1\n"},
		{"a file", "cat /etc/hosts", "127.0.0.1 me\n"},
		{"a link", "readlink /var/run", "/run\n"},
		{"a folder of the machine", "cat /data/deep/inside; echo more >/data/deep/new", "kept\n"},
		{"a file of the machine", "cat /data/file; echo x 2>&1 >>/data/file | grep -o 'Read-only.*'", "one\nRead-only file system\n"},
		{"programs read-only", "touch /usr/bin/x 2>&1 | grep -o 'Read-only.*'", "Read-only file system\n"},
		{"devices", "echo gone >/dev/null; head -c 3 /dev/zero | wc -c; test -c /dev/urandom && ls -L /dev/stdin >/dev/null", "3\n"},
		{"the mode of /tmp", "stat -c %a /tmp", "1777\n"},
	} {
		out, err := inside(t, spec, tt.script)
		if out != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.name, out, err, tt.want)
		}
	}
	if text, err := os.ReadFile(filepath.Join(own, "new")); string(text) != "more\n" {
		t.Errorf("what was written there is here %q, %v", text, err)
	}
}

func TestNothingOfARootIsLeftOnTheMachine(t *testing.T) {
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	spec := base(t)
	mustInside(t, spec, "true")
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || string(after) != string(before) {
		t.Errorf("mounts before:\n%s\nand after (%v):\n%s", before, err, after)
	}
	if entries, err := os.ReadDir(spec.Dir); err != nil || len(entries) > 0 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}

func TestAReadOnlyRootKeepsWritableMounts(t *testing.T) {
	spec := base(t)
	spec.ReadOnly = true
	spec.Mounts = append(spec.Mounts, Mount{Type: "tmpfs", Target: "/tmp"})
	out := mustInside(t, spec, "touch /x 2>&1 | grep -o 'Read-only.*'; touch /tmp/x && echo fine")
	if out != "Read-only file system\nfine\n" {
		t.Errorf("got %q", out)
	}
}

func TestARootThatCannotBeBuiltSaysWhatIsWrong(t *testing.T) {
	evil := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(evil, "out")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"no folder", func(s *Spec) { s.Dir = "/no/such/folder" }, "mount the root at /no/such/folder: no such file or directory"},
		{"no source", func(s *Spec) { s.Mounts = append(s.Mounts, Mount{Source: "/no/such", Target: "/x"}) }, "mount /x: stat /no/such"},
		{"no such file system", func(s *Spec) { s.Mounts = append(s.Mounts, Mount{Type: "nosuchfs", Target: "/x"}) }, "mount /x: no such device"},
		{
			"out through a link", func(s *Spec) {
				s.Mounts = append(s.Mounts, Mount{Source: evil, Target: "/evil"}, Mount{Type: "tmpfs", Target: "/evil/out/x"})
			}, "/evil/out/x lies behind the symbolic link /evil/out",
		},
		{
			"a file through a link", func(s *Spec) {
				s.Mounts = append(s.Mounts, Mount{Source: evil, Target: "/evil"})
				s.Files = map[string]string{"/evil/out/passwd": "x"}
			}, "write /evil/out/passwd: /evil/out/passwd lies behind the symbolic link /evil/out",
		},
		{"a link over something", func(s *Spec) { s.Links["/usr"] = "/x" }, "link /usr: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := base(t)
			tt.change(&spec)
			if out, err := inside(t, spec, "true"); err == nil || !strings.Contains(out, tt.want) {
				t.Errorf("want %q, got %q, %v", tt.want, out, err)
			}
		})
	}
}

func TestBelowStaysInTheRoot(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(root, "a", "link")); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ path, want string }{
		{"/a/b/c", "/a/b/c"},
		{"a/b", "/a/b"},
		{"/", ""},
		{"/../../etc", "/etc"},
		{"/a/../../x", "/x"},
	}
	for _, tt := range tests {
		if got, err := below(root, tt.path); err != nil || got != root+tt.want {
			t.Errorf("%s: got %s, %v", tt.path, got, err)
		}
	}
	for _, path := range []string{"/a/link", "/a/link/etc"} {
		if got, err := below(root, path); err == nil || !strings.Contains(err.Error(), "symbolic link /a/link") {
			t.Errorf("%s: got %s, %v", path, got, err)
		}
	}
	if _, err := below(root, strings.Repeat("x", 300)); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a name that is too long: %v", err)
	}
}
