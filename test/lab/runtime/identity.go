package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// processSpec is how a program is executed in a container, by its init and by
// exec alike.
type processSpec struct {
	Args            []string
	Env             []string
	Dir             string
	UID, GID        int
	Groups          []int
	Capabilities    uint64
	NoNewPrivileges bool
	TTY             bool
}

// become makes the calling thread, and no other, the user of p with its
// capabilities. The thread must be locked and root. The order matters: the
// bounding set and the groups need capabilities that are gone at the end.
func (p processSpec) become() error {
	if err := boundCapabilities(p.Capabilities); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := setUser(p.UID, p.GID, p.Groups); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := setCapabilities(p.Capabilities); err != nil {
		return err
	}
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	unix.Umask(0o022)
	return nil
}

// setUser uses the bare system calls because the libraries' functions change
// all threads of the process.
func setUser(uid, gid int, groups []int) error {
	list := make([]uint32, len(groups))
	for i, g := range groups {
		list[i] = uint32(g)
	}
	var first unsafe.Pointer
	if len(list) > 0 {
		first = unsafe.Pointer(&list[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(list)), uintptr(first), 0); errno != 0 {
		return fmt.Errorf("set groups %v: %w", groups, errno)
	}
	id := uintptr(gid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, id, id, id); errno != 0 {
		return fmt.Errorf("set group %d: %w", gid, errno)
	}
	id = uintptr(uid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); errno != 0 {
		return fmt.Errorf("set user %d: %w", uid, errno)
	}
	return nil
}

// Why a command cannot be executed, in the words that users know.
var (
	errNoFile        = errors.New("no such file or directory")
	errNotInPath     = errors.New("executable file not found in $PATH")
	errNotExecutable = errors.New("permission denied")
)

// executable is the path of the command args[0] as the calling thread finds it
// with the PATH of env.
func (p processSpec) executable() (string, error) {
	name := p.Args[0]
	fail := func(cause error) error { return &commandError{name, cause} }
	if strings.Contains(name, "/") {
		err := unix.Access(name, unix.X_OK)
		if errors.Is(err, unix.EACCES) {
			return "", fail(errNotExecutable)
		}
		if err != nil {
			return "", fail(errNoFile)
		}
		if info, err := os.Stat(name); err != nil || info.IsDir() {
			return "", fail(errNotExecutable)
		}
		return name, nil
	}
	denied := false
	for _, dir := range filepath.SplitList(getenv(p.Env, "PATH")) {
		path := filepath.Join("/", dir, name)
		info, err := os.Stat(path)
		if err != nil || info.IsDir() {
			continue
		}
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
		denied = true
	}
	if denied {
		return "", fail(errNotExecutable)
	}
	return "", fail(errNotInPath)
}

// commandError says that a command could not be executed, and is nobody else's
// fault.
type commandError struct {
	name  string
	cause error
}

func (e *commandError) Error() string { return fmt.Sprintf("exec: %q: %v", e.name, e.cause) }
func (e *commandError) Unwrap() error { return e.cause }

// exitCode is a shell's: 127 if the command is not there, else 126.
func (e *commandError) exitCode() int {
	if errors.Is(e, errNoFile) || errors.Is(e, errNotInPath) || errors.Is(e, unix.ENOENT) {
		return 127
	}
	return 126
}

// getenv is the value of the last entry of env with that name.
func getenv(env []string, name string) string {
	value := ""
	for _, entry := range env {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}
