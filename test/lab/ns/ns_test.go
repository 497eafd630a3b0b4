package ns

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace, in the environment, says that the process has a mount namespace
// of its own, in which the tests may bind network namespaces to names.
const inNamespace = "NS_TEST_IN_NAMESPACE"

func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case os.Getenv(inNamespace) != "":
		err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		if err == nil {
			err = unix.Mount("tmpfs", "/run", "tmpfs", 0, "")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "make mounts private:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case os.Geteuid() != 0:
		fmt.Fprintln(os.Stderr, "needs root: makes namespaces")
		os.Exit(1)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the child dies with this thread
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			fmt.Fprintln(os.Stderr, "run the tests in a namespace:", err)
		}
		os.Exit(1)
	}
}

// own is the network namespace of the calling thread.
func own(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func create(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("/run/netns", name)
	if err := CreateNet(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := DeleteNet(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestDoRunsInTheNamespaceAndLeavesNoThreadThere(t *testing.T) {
	before := own(t)
	path := create(t, "do")
	var group sync.WaitGroup
	for range 32 { // many at once, so that a thread that was not given up is met again
		group.Go(func() {
			err := Net(path).Do(func() error {
				if own(t) == before {
					t.Error("it runs where it was")
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if own(t) != before {
				t.Error("a goroutine is in the other namespace afterwards")
			}
		})
	}
	group.Wait()
}

func TestDoReturnsTheFunctionsError(t *testing.T) {
	want := errors.New("mine")
	if err := (Set{}).Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestANamespaceThatIsNotThereIsNamedAndNothingIsRun(t *testing.T) {
	for _, s := range []Set{{Net: "/run/netns/absent"}, {Mnt: "/proc/self/ns/absent"}, {PID: "/absent"}} {
		err := s.Do(func() error { t.Error("the function was run"); return nil })
		if err == nil || !strings.Contains(err.Error(), "open namespace: open /") || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%+v: got %v", s, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := Net(file).Do(func() error { t.Error("the function was run"); return nil })
	if err == nil || !strings.Contains(err.Error(), "enter namespace "+file) {
		t.Errorf("a plain file: %v", err)
	}
}

func TestASocketStaysInItsNamespace(t *testing.T) {
	path := create(t, "socket")
	var listener net.Listener
	err := Net(path).Do(func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	dial := func() error {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return err
		}
		return conn.Close()
	}
	if err := Net(path).Do(dial); err != nil {
		t.Errorf("from within (where lo has to be up): %v", err)
	}
	if err := dial(); err == nil {
		t.Error("it can be reached from without")
	}
}

func TestStartMakesAProcessInTheNamespaces(t *testing.T) {
	path := create(t, "start")
	first := exec.Command("unshare", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", "hostname inner; echo ready; sleep 60")
	out, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := Net(path).Start(first); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = first.Process.Kill()
		_ = first.Wait()
	})
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", first.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(children))[0])
	if err != nil {
		t.Fatal(err)
	}
	// In the new PID namespace, with its own /proc, it sees itself under a small number.
	cmd := exec.Command("/bin/sh", "-c", "hostname; readlink /proc/self/ns/net; cat /proc/1/comm; echo $$")
	var text strings.Builder
	cmd.Stdout = &text
	if err := OfProcess("/proc", pid).Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 4 || lines[0] != "inner" || lines[1] == own(t) || lines[2] != "sh" {
		t.Fatalf("the process tells %q", lines)
	}
	if number, err := strconv.Atoi(lines[3]); err != nil || number > 100 {
		t.Errorf("its number is %q, %v", lines[3], err)
	}
}

func TestStartNamesTheProgramThatIsNotThere(t *testing.T) {
	err := Set{}.Start(exec.Command("/no/such/program"))
	if err == nil || !strings.Contains(err.Error(), "start /no/such/program: ") {
		t.Errorf("got %v", err)
	}
}

func TestANameIsTakenOnceAndFreedByDelete(t *testing.T) {
	path := create(t, "twice")
	if err := CreateNet(path); !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), "create network namespace: open "+path) {
		t.Errorf("creating it twice: %v", err)
	}
	for range 2 { // the second time there is nothing to do
		if err := DeleteNet(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the name is still there: %v", err)
	}
	if err := CreateNet(path); err != nil {
		t.Errorf("creating it again: %v", err)
	}
}
