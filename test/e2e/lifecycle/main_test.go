package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/daemon"
	"github.com/overland-net/overland/test/lab/preflight"
	"github.com/overland-net/overland/test/lab/rootcheck"
	"github.com/overland-net/overland/test/lab/state"
)

// baseVariable names, in the environment, the folder with the built program, in
// which the tests make their labs. It tells the process that runs the tests
// from the one that cleans up behind it, whatever becomes of it.
const baseVariable = "OVERLAND_LIFECYCLE_TEST"

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(baseVariable) != "" {
		os.Exit(m.Run())
	}
	status, err := runInner()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}

// runInner builds the program, runs the tests in a child and then ends all that
// they have left, as a test that panics or times out does.
func runInner() (status int, err error) {
	// Trying the kernel's features loads its modules, whose settings would
	// otherwise appear between two looks at the machine.
	if err := preflight.Check("nft"); err != nil {
		return 1, err
	}
	base, err := os.MkdirTemp("", "lifecycle")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	// Some tests run the program as another user.
	if err := os.Chmod(base, 0o755); err != nil {
		return 1, err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(base, "lab"), "../../lab")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the lab: %w: %s", err, out)
	}
	defer func() { err = errors.Join(err, endAll(base)) }()
	signal.Ignore(unix.SIGINT, unix.SIGQUIT) // the child ends by them, and we clean up
	inner := exec.Command(os.Args[0], os.Args[1:]...)
	inner.Env = append(os.Environ(), baseVariable+"="+base)
	inner.Stdout, inner.Stderr = os.Stdout, os.Stderr
	err = inner.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return 1, nil
	}
	return 0, err
}

// endAll ends every lab below base.
func endAll(base string) error {
	return filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() || !state.Dir(path).Exists() {
			return err
		}
		out, err := exec.Command(filepath.Join(base, "lab"), "--state", path, "down").CombinedOutput()
		if err != nil {
			return fmt.Errorf("end the lab in %s: %w: %s", path, err, out)
		}
		return fs.SkipDir
	})
}

func program() string { return filepath.Join(os.Getenv(baseVariable), "lab") }

// lab is a lab of one test, which need not be up.
type lab struct {
	t      *testing.T
	dir    state.Dir
	client *daemon.Client
	before rootcheck.Snapshot
}

// newLab names a lab with a state folder that is not there yet, and checks at
// the end of the test that nothing of it is left.
func newLab(t *testing.T, name string) *lab {
	t.Helper()
	parent, err := os.MkdirTemp(os.Getenv(baseVariable), "t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(parent, 0o755); err != nil { // for another user, too
		t.Fatal(err)
	}
	l := &lab{t: t, dir: state.Dir(filepath.Join(parent, name)), before: snapshot(t)}
	l.client = daemon.NewClient(l.dir)
	t.Cleanup(func() {
		if t.Failed() && l.dir.Exists() {
			text, _ := os.ReadFile(l.dir.Log("daemon")) // there may be none
			t.Logf("the daemon's log:\n%s", text)
		}
		l.down()
	})
	return l
}

func snapshot(t *testing.T) rootcheck.Snapshot {
	t.Helper()
	s, err := rootcheck.Take(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is what a command left.
type answer struct {
	out, complaint string
	status         int // -1: ended by a signal
}

func (a answer) String() string {
	return fmt.Sprintf("status %d, output:\n%s\nerrors:\n%s", a.status, a.out, a.complaint)
}

// running is a command that has been started.
type running struct {
	*exec.Cmd
	out, complaint bytes.Buffer
}

// small is a lab that comes up quickly.
func small() []string { return []string{"up", "--clusters", "west", "--nodes", "1"} }

func (l *lab) command(args ...string) *running {
	r := &running{Cmd: exec.Command(program(), args...)}
	r.Env = append(os.Environ(), "OVERLAND_LAB="+string(l.dir))
	r.Stdout, r.Stderr = &r.out, &r.complaint
	return r
}

func (l *lab) start(args ...string) *running {
	l.t.Helper()
	r := l.command(args...)
	if err := r.Start(); err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (r *running) wait(t *testing.T) answer {
	t.Helper()
	err := r.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return answer{out: r.out.String(), complaint: r.complaint.String(), status: r.ProcessState.ExitCode()}
}

func (l *lab) run(args ...string) answer {
	l.t.Helper()
	return l.start(args...).wait(l.t)
}

// must runs a command that has to succeed and returns its output.
func (l *lab) must(args ...string) string {
	l.t.Helper()
	a := l.run(args...)
	if a.status != 0 {
		l.t.Fatalf("lab %s: %s", strings.Join(args, " "), a)
	}
	return a.out
}

// refused runs a command that has to fail, with one line that has want in it.
func (l *lab) refused(r *running, status int, want string) {
	l.t.Helper()
	if err := r.Start(); err != nil {
		l.t.Fatal(err)
	}
	checkRefused(l.t, strings.Join(r.Args[1:], " "), r.wait(l.t), status, want)
}

func checkRefused(t *testing.T, what string, a answer, status int, want string) {
	t.Helper()
	if a.status != status || a.out != "" || strings.Count(a.complaint, "\n") != 1 || !strings.Contains(a.complaint, want) {
		t.Errorf("lab %s: want status %d and one line with %q, got %s", what, status, want, a)
	}
}

func (l *lab) status() daemon.Status {
	l.t.Helper()
	s, err := l.client.Status(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// first is the lab's first process, once it has written itself down.
func (l *lab) first() state.Process {
	l.t.Helper()
	var first state.Process
	l.eventually("the first process is recorded", func() bool {
		p, ok, err := l.dir.Recorded()
		first = p
		return err == nil && ok
	})
	return first
}

// down ends the lab and checks that nothing of it is left.
func (l *lab) down() {
	l.t.Helper()
	processes := l.processes()
	if a := l.run("down"); a.status != 0 {
		l.t.Errorf("lab down: %s", a)
	}
	l.nothingLeft(processes)
}

func (l *lab) nothingLeft(processes []process) {
	l.t.Helper()
	l.noneLeft(processes)
	if _, err := os.Lstat(string(l.dir)); !errors.Is(err, os.ErrNotExist) {
		l.t.Errorf("the state folder is still there: %v", err)
	}
	l.machineUnchanged()
}

// machineUnchanged compares the machine with what it was before the lab.
func (l *lab) machineUnchanged() {
	l.t.Helper()
	if diff := rootcheck.Diff(l.before, snapshot(l.t)); diff != "" {
		l.t.Errorf("the machine is not as it was:\n%s", diff)
	}
}

// eventually waits for a condition, for a minute at most.
func (l *lab) eventually(what string, is func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("in vain waited until %s", what)
		}
	}
}

// as makes a command run as nobody.
func (r *running) asNobody() *running {
	r.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return r
}
