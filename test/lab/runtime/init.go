package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/ns"
)

// controlFD is where the init of a container and its shim talk: a message is
// an exit code and the reason, the socket's end means that the command was
// executed.
const controlFD = 3

// InitMain is the role container-init of the lab's binary: as the first
// process of new PID and mount namespaces it enters the pod's others, builds
// the container's root, gives up what the container may not have and becomes
// its command. args are those after the role's name; it returns only if it
// fails.
func InitMain(args []string) int {
	unix.CloseOnExec(controlFD)
	code, err := 128, errors.New("usage: container-init FOLDER")
	if len(args) == 1 {
		code, err = becomeContainer(args[0])
	}
	message := fmt.Appendf(nil, "%d %v", code, err)
	_ = unix.Sendto(controlFD, message, 0, nil) // without a shim nobody cares
	return 1
}

// becomeContainer returns an exit code for the container, and why.
func becomeContainer(dir string) (int, error) {
	spec, err := readJSON[containerSpec](dir + "/spec.json")
	if err != nil {
		return 128, err
	}
	// One thread enters the namespaces, and that one executes the command.
	err = ns.Set{Net: spec.Net, UTS: spec.UTS, IPC: spec.IPC}.Do(func() error {
		if err := spec.build(); err != nil {
			return err
		}
		if err := spec.stdio(); err != nil {
			return err
		}
		if err := unix.Chdir(spec.Process.Dir); err != nil {
			return fmt.Errorf("enter the working folder %s: %w", spec.Process.Dir, err)
		}
		if err := spec.Process.become(); err != nil {
			return err
		}
		if err := dieWithParent(); err != nil {
			return err
		}
		path, err := spec.Process.executable()
		if err != nil {
			return err
		}
		if err := keepDescriptors(); err != nil {
			return err
		}
		return &commandError{spec.Process.Args[0], unix.Exec(path, spec.Process.Args, spec.Process.Env)}
	})
	if command := (*commandError)(nil); errors.As(err, &command) {
		return command.exitCode(), err
	}
	return 128, err
}

// build makes the container's root and enters it.
func (s containerSpec) build() error {
	if err := s.Root.Enter(); err != nil {
		return err
	}
	for _, f := range s.Folders {
		_, err := os.Stat(f.Path)
		if err == nil {
			continue // a volume's, or made before: not ours to change
		}
		if err := os.MkdirAll(f.Path, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
		if err := os.Chmod(f.Path, f.Mode|fs.ModeDir); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	if !s.Config.Security.ReadOnlyRoot {
		return nil
	}
	// Not left to rootfs, since folders had to be made first.
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}

// stdio lets the container's user open its standard files again, by
// /dev/stdout, and makes the terminal if there is to be one.
func (s containerSpec) stdio() error {
	if !s.Process.TTY {
		for fd := range 3 {
			var stat unix.Stat_t
			if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
				continue
			}
			if err := unix.Fchown(fd, s.Process.UID, s.Process.GID); err != nil {
				return fmt.Errorf("hand over standard file %d: %w", fd, err)
			}
		}
		return nil
	}
	ours, theirs, err := openTerminal()
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(controlFD, []byte{0}, unix.UnixRights(ours), nil, 0); err != nil {
		return fmt.Errorf("hand over the terminal: %w", err)
	}
	if err := unix.Fchown(theirs, s.Process.UID, -1); err != nil {
		return fmt.Errorf("hand over the terminal: %w", err)
	}
	for to := range 3 {
		if err := unix.Dup3(theirs, to, 0); err != nil {
			return fmt.Errorf("connect the terminal: %w", err)
		}
	}
	if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("take the terminal: %w", err)
	}
	return nil
}

// keepDescriptors marks everything but the standard files to be closed in
// programs executed from now on, also what our own parents left open to us.
func keepDescriptors() error {
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark descriptors: %w", err)
	}
	return nil
}

// dieWithParent asks the kernel again for what a change of user made it
// forget: to kill this process when its shim ends.
func dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("tie the container to its shim: %w", err)
	}
	polled := []unix.PollFd{{Fd: controlFD}}
	if n, err := unix.Poll(polled, 0); err == nil && n > 0 && polled[0].Revents&unix.POLLHUP != 0 {
		return errors.New("the shim is gone")
	}
	return nil
}
