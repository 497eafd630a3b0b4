package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/rootfs"
	"github.com/overland-net/overland/test/lab/state"
)

// InitRole is the first argument by which the lab's program is told to be the
// first process of a PID namespace.
const InitRole = "init"

// initSpec is handed to a new first process on descriptor 3; on 4 it answers
// with nothing once it is ready, or with why it is not.
type initSpec struct {
	Hostname string `json:"hostname"`
	// State is set for the lab's own first process: it writes itself down there
	// before anything else, so that whatever happens it can be found and ended.
	State state.Dir `json:"state,omitempty"`
	// Root is a node's root file system.
	Root *rootfs.Spec `json:"root,omitempty"`
	// Argv is a program to run; when it ends, so does the first process. Without
	// one it runs until it is killed.
	Argv []string `json:"argv,omitempty"`
}

const (
	initSpecFD  = 3
	initReadyFD = 4
)

// startInit starts a first process in new PID, mount, UTS and IPC namespaces,
// in the network namespace of where, or in a new one if that names none, and
// waits until it is ready. Its standard output goes to log.
func startInit(program string, spec initSpec, where ns.Set, log *os.File) (*exec.Cmd, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode the specification of %s: %w", spec.Hostname, err)
	}
	specRead, specWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	readyRead, readyWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe: %w", err), specRead.Close(), specWrite.Close())
	}
	cmd := exec.Command(program, InitRole)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{specRead, readyWrite}
	flags := uintptr(unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if where.Net == "" {
		flags |= unix.CLONE_NEWNET
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Setsid: true}
	err = where.Start(cmd)
	// The child has its own copies now; without closing ours we would never see
	// the end of the answer.
	_, _ = specRead.Close(), readyWrite.Close()
	if err != nil {
		_, _ = specWrite.Close(), readyRead.Close()
		return nil, err
	}
	_, writeErr := specWrite.Write(text)
	_ = specWrite.Close() // a failed write shows in the answer
	answer, readErr := io.ReadAll(readyRead)
	_ = readyRead.Close() // only read from
	if writeErr == nil && readErr == nil && string(answer) == readyText {
		return cmd, nil
	}
	_ = cmd.Process.Kill() // it may have ended by itself
	_ = cmd.Wait()         // the answer says more than the status
	return nil, fmt.Errorf("start the first process of %s: %w", spec.Hostname,
		errors.Join(writeErr, readErr, errors.New(string(answer))))
}

// readyText is the answer of a first process that is ready; anything else, and
// nothing at all, is a failure.
const readyText = "ready"

// InitMain is the first process of a lab or of a node. It returns the exit
// status of the process.
func InitMain() int {
	// The program started below must not inherit them: the parent waits for the
	// last copy to be closed.
	unix.CloseOnExec(initSpecFD)
	unix.CloseOnExec(initReadyFD)
	ready := os.NewFile(initReadyFD, "ready")
	var spec initSpec
	err := json.NewDecoder(os.NewFile(initSpecFD, "spec")).Decode(&spec)
	if err == nil {
		err = prepare(spec)
	}
	if err != nil {
		_, _ = fmt.Fprintln(ready, err) // the parent sees at least the end of us
		return 1
	}
	// Only SIGKILL is to end the namespace. Taken and dropped rather than
	// ignored, because programs would inherit the latter.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGHUP, unix.SIGTERM, unix.SIGPIPE)
	child := 0
	if len(spec.Argv) > 0 {
		cmd := exec.Command(spec.Argv[0], spec.Argv[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			_, _ = fmt.Fprintln(ready, err) // as above
			return 1
		}
		child = cmd.Process.Pid
	}
	_, _ = io.WriteString(ready, readyText) // as above
	_ = ready.Close()
	return reap(child)
}

// reap collects ended processes until the child ends; with none, for ever.
func reap(child int) int {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for {
		for {
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || pid == 0 {
				break
			}
			if pid == child {
				return status.ExitStatus()
			}
		}
		<-ended
	}
}

func prepare(spec initSpec) error {
	if spec.State != "" {
		// This /proc is still the machine's, so the numbers are, too.
		self, err := state.Self("/proc")
		if err != nil {
			return err
		}
		if err := spec.State.Record(self); err != nil {
			return err
		}
	}
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("set the host name %s: %w", spec.Hostname, err)
	}
	if spec.Root != nil {
		return spec.Root.Enter()
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return nil
}

// Launch starts the lab whose options and programs are in dir; it goes on by
// itself. What its first processes print goes to log.
func Launch(dir state.Dir, log *os.File) error {
	program := filepath.Join(dir.Bin(), "lab")
	cmd, err := startInit(program, initSpec{
		Hostname: "lab", State: dir, Argv: []string{program, Role, string(dir)},
	}, ns.Set{}, log)
	if err != nil {
		return fmt.Errorf("start the lab: %w", err)
	}
	if err := cmd.Process.Release(); err != nil {
		return fmt.Errorf("start the lab: %w", err)
	}
	return nil
}
