package state

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper is a process that ends only when it is killed, and its record.
func sleeper(t *testing.T) (*exec.Cmd, Process) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone
		_ = cmd.Wait()         // as above
	})
	start, err := startTime("/proc", cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	return cmd, Process{PID: cmd.Process.Pid, Start: start, Boot: boot}
}

func TestOnlyTheVeryProcessIsAliveAndEnded(t *testing.T) {
	cmd, p := sleeper(t)
	tests := []struct {
		name   string
		change func(*Process)
	}{
		{"an earlier one of that number", func(p *Process) { p.Start-- }},
		{"a later one of that number", func(p *Process) { p.Start++ }},
		{"one of another boot", func(p *Process) { p.Boot = "6e9a8a05-0000-0000-0000-000000000000" }},
		{"one without a boot", func(p *Process) { p.Boot = "" }},
		{"a number that no process has", func(p *Process) { p.PID = 1 << 22 }},
	}
	for _, tt := range tests {
		other := p
		tt.change(&other)
		if other.Alive() {
			t.Errorf("%s is alive", tt.name)
		}
		if err := other.Kill(time.Second); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if !p.Alive() {
		t.Fatal("the process was ended in the place of another one")
	}
	if err := p.Kill(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	// Ended, though nobody has waited for it.
	if p.Alive() {
		t.Error("a zombie is alive")
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("it ended with %v", err)
	}
	if err := p.Kill(time.Second); err != nil {
		t.Errorf("ending it again: %v", err)
	}
}

func TestKillSaysSoWhenTheProcessStays(t *testing.T) {
	_, p := sleeper(t)
	// No time at all: the process cannot be gone yet.
	if err := p.Kill(0); err == nil || !strings.Contains(err.Error(), "it is still there after 0s") {
		t.Errorf("got %v", err)
	}
}

func TestSelfIsThisProcess(t *testing.T) {
	p, err := Self("/proc")
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != os.Getpid() || p.Start == 0 || len(p.Boot) != 36 || !p.Alive() {
		t.Errorf("got %+v", p)
	}
	if _, err := Self(t.TempDir()); err == nil || !strings.Contains(err.Error(), "find own process id: ") {
		t.Errorf("without proc: %v", err)
	}
}

func TestStartTimeSkipsAnyCommandName(t *testing.T) {
	tests := []struct {
		name, stat string
		want       uint64
		bad        bool
	}{
		{"plain", "7 (a) R 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n", 4242, false},
		{"parentheses and blanks", "7 (a) b (c) R 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0\n", 99, false},
		{"empty", "", 0, true},
		{"short", "7 (a) R 1 2", 0, true},
		{"no number", "7 (a) R 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 x 0 0\n", 0, true},
	}
	for _, tt := range tests {
		proc := t.TempDir()
		if err := os.Mkdir(filepath.Join(proc, "7"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, "7", "stat"), []byte(tt.stat), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := startTime(proc, 7)
		if (err != nil) != tt.bad || got != tt.want {
			t.Errorf("%s: got %d, %v", tt.name, got, err)
		}
	}
}

func TestARecordIsReadBack(t *testing.T) {
	d := Dir(t.TempDir())
	if _, ok, err := d.Recorded(); ok || err != nil {
		t.Errorf("an empty folder has a record: %t, %v", ok, err)
	}
	want := Process{PID: 17, Start: 4242, Boot: "boot"}
	if err := d.Record(want); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := d.Recorded(); got != want || !ok || err != nil {
		t.Errorf("got %+v, %t, %v", got, ok, err)
	}
	if err := os.WriteFile(d.record(), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	var syntax *json.SyntaxError
	if _, _, err := d.Recorded(); !errors.As(err, &syntax) || !strings.Contains(err.Error(), "read the lab's record "+d.record()) {
		t.Errorf("a broken record: %v", err)
	}
	if err := Dir(filepath.Join(string(d), "absent")).Record(want); err == nil {
		t.Error("a record was made without a folder")
	}
}

func TestOnlyALabsFolderIsTakenAndRemoved(t *testing.T) {
	tests := []struct {
		name   string
		make   func(t *testing.T, d string) // what is there before
		create string                       // errors, or empty
		remove string
	}{
		{"absent", func(*testing.T, string) {}, "", ""},
		{"empty", mkdir, "", "is not a lab's: not removed"},
		{"a lab's", func(t *testing.T, d string) {
			mkdir(t, d)
			write(t, filepath.Join(d, mark))
			write(t, filepath.Join(d, "x"))
		}, "", ""},
		{"foreign", func(t *testing.T, d string) { mkdir(t, d); write(t, filepath.Join(d, "x")) }, "it has files that are not a lab's", "is not a lab's: not removed"},
		{"a file", write, "not a directory", "is not a lab's: not removed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, step := range map[string]struct {
				do   func(Dir) error
				want string
			}{
				"refuse": {Dir.Refuse, tt.create}, "create": {Dir.Create, tt.create}, "remove": {Dir.Remove, tt.remove},
			} {
				path := filepath.Join(t.TempDir(), "state")
				tt.make(t, path)
				err := step.do(Dir(path))
				if (err == nil) != (step.want == "") || (err != nil && !strings.Contains(err.Error(), step.want)) {
					t.Errorf("%s: want %q, got %v", name, step.want, err)
				}
				if name == "remove" && err == nil {
					if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("the folder is still there: %v", err)
					}
				}
				if tt.name == "foreign" {
					if _, err := os.Stat(filepath.Join(path, "x")); err != nil {
						t.Errorf("%s: the file that was there: %v", name, err)
					}
				}
			}
		})
	}
}

func TestAFolderIsALabsFromItsMakingToItsRemoval(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "deep", "state"))
	if d.Exists() {
		t.Error("it exists before it is made")
	}
	for range 2 { // as it was left by a crash, it can be taken again
		if err := d.Create(); err != nil {
			t.Fatal(err)
		}
	}
	if !d.Exists() {
		t.Error("it does not exist after it was made")
	}
	for _, path := range []string{d.Bin(), d.Cluster("west"), d.Node("west", "node-1"), filepath.Dir(d.Log("west/etcd"))} {
		if err := os.MkdirAll(path, 0o755); err != nil || !strings.HasPrefix(path, string(d)+"/") {
			t.Errorf("%s: %v", path, err)
		}
	}
	for range 2 { // the second time there is nothing to do
		if err := d.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if d.Exists() {
		t.Error("it exists after it was removed")
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
}
