package labtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/state"
)

// Variables that change what Up does.
const (
	// labVariable names a lab that is up and is to be used; it stays up.
	labVariable = "OVERLAND_E2E_LAB"
	// programVariable names the lab's program.
	programVariable = "OVERLAND_LAB_PROGRAM"
)

const (
	connectTimeout = 30 * time.Second
	logLines       = 40 // of each component, when a suite has failed
)

// watchdogScript ends the lab when the tests' process is gone without having
// said so: killed, timed out, panicked or interrupted. The second time is for
// a `lab up` that was still at work.
const watchdogScript = `read -r word && exit 0
echo "labtest: the tests ended without a word: removing their lab" >&2
"$1" --state "$2" down >&2; sleep 2; "$1" --state "$2" down >/dev/null 2>&1
rmdir "$3" 2>/dev/null; true`

// Main runs a package's tests in a lab of their own, with Overland in each of its
// clusters and every two of them linked, and gives the status for os.Exit. The lab
// is as Up makes it, and is at *lab while the tests run.
func Main(m *testing.M, name string, lab **Lab, flags ...string) int {
	flag.Parse()
	say := func(err error) { fmt.Fprintf(os.Stderr, "%s: %v\n", name, err) }
	up, down, err := Up(flags...)
	if err != nil {
		say(err)
		return 1
	}
	*lab = up
	code := 1
	if err := up.InstallOverland(); err != nil {
		say(err)
	} else {
		code = m.Run()
	}
	if err := down(code != 0); err != nil {
		say(err)
		code = 1
	}
	return code
}

// Up brings up a lab of its own for a package's tests, in a temporary state
// folder, with the given flags of `lab up`. Call it from TestMain, and call
// down with whether tests failed: it then prints the ends of the components'
// logs. Whatever becomes of the tests' process, the lab is taken down.
//
// $OVERLAND_LAB_PROGRAM names the lab's program; by default it is built, since
// one that is found may be older than its source. With $OVERLAND_E2E_LAB, the lab
// of that state folder is used as it is, and stays up.
func Up(flags ...string) (lab *Lab, down func(failed bool) error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if dir := os.Getenv(labVariable); dir != "" {
		lab, err := connect(ctx, dir)
		return lab, func(bool) error { return nil }, err
	}
	if os.Geteuid() != 0 {
		return nil, nil, errors.New("needs root: the lab is made of namespaces")
	}
	folder, err := os.MkdirTemp("", "overland-e2e-")
	if err != nil {
		return nil, nil, fmt.Errorf("make the lab's folder: %w", err)
	}
	own := &ownLab{folder: folder, dir: state.Dir(filepath.Join(folder, "lab"))}
	if own.program, err = findProgram(folder); err == nil {
		err = own.start(flags)
	}
	if err != nil {
		return nil, nil, errors.Join(err, own.end())
	}
	// The time of `lab up` is its own matter.
	ctx, cancel = context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if lab, err = connect(ctx, string(own.dir)); err != nil {
		return nil, nil, errors.Join(err, own.end())
	}
	return lab, func(failed bool) error {
		if failed {
			lab.printLogs(os.Stderr)
		}
		return own.end()
	}, nil
}

// ownLab is a lab that Up has started.
type ownLab struct {
	folder   string // temporary, holds all
	dir      state.Dir
	program  string
	watchdog *exec.Cmd
	alive    *os.File // a pipe to the watchdog: it ends with this process
}

// start sets the watchdog and brings the lab up.
func (o *ownLab) start(flags []string) error {
	if err := o.watch(); err != nil {
		return err
	}
	up := exec.Command(o.program, append([]string{"--state", string(o.dir), "up"}, flags...)...)
	up.Stdout, up.Stderr = os.Stderr, os.Stderr
	// The signal comes when the thread ends that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	up.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := up.Run(); err != nil {
		return fmt.Errorf("bring the lab up: %w", err)
	}
	return nil
}

// watch starts the watchdog, in a session of its own so that the terminal's
// signals pass it by.
func (o *ownLab) watch() error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the watchdog: %w", err)
	}
	defer func() { _ = read.Close() }() // the watchdog has its own copy
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "watchdog", o.program, string(o.dir), o.folder)
	// The standard error makes `go test` wait for it.
	cmd.Stdin, cmd.Stderr = read, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start the watchdog: %w", err), write.Close())
	}
	o.watchdog, o.alive = cmd, write
	return nil
}

// end takes the lab down and dismisses the watchdog.
func (o *ownLab) end() error {
	var failures []error
	if o.program != "" {
		out, err := exec.Command(o.program, "--state", string(o.dir), "down").CombinedOutput()
		if err != nil {
			failures = append(failures, fmt.Errorf("take the lab down: %w: %s", err, out))
		}
	}
	if o.watchdog != nil {
		_, err := io.WriteString(o.alive, "done\n")
		failures = append(failures, err, o.alive.Close(), o.watchdog.Wait())
	}
	failures = append(failures, os.RemoveAll(o.folder))
	return errors.Join(failures...)
}

// findProgram is the path of the lab's program, built into the folder unless one
// is named.
func findProgram(folder string) (string, error) {
	if path := os.Getenv(programVariable); path != "" {
		return filepath.Abs(path)
	}
	root, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	checkout := filepath.Dir(strings.TrimSpace(string(root)))
	built := filepath.Join(folder, "lab-program")
	cmd := exec.Command("go", "build", "-o", built, "./test/lab")
	cmd.Dir = checkout
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the lab's program: %w: %s", err, out)
	}
	return built, nil
}

// printLogs prints the end of every log of the lab.
func (l *Lab) printLogs(to io.Writer) {
	names := []string{"daemon"}
	for _, c := range l.Topology.Clusters {
		for _, name := range []string{"kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler"} {
			names = append(names, c.Name+"/"+name)
		}
		for _, n := range c.Nodes {
			names = append(names, n.Path()+"/kubelet", n.Path()+"/kube-proxy")
		}
	}
	for _, name := range names {
		_, _ = fmt.Fprintf(to, "--- the end of %s's log\n%s\n", name, l.tail(name, logLines)) // nobody is left to be told
	}
}
