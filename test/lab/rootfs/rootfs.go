// Package rootfs builds a root file system out of the machine's own programs
// and private folders, and moves the calling process into it: a node of the
// lab and a container are made so. It may import nothing of this repository.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Mount is one mount of the new root.
type Mount struct {
	// Source is the folder or file to bind (with what is mounted below it), or
	// empty for a file system of its own.
	Source string `json:"source,omitempty"`
	// Target is the path in the new root; missing parents are made, and so is
	// the target: a file if Source is one, else a folder.
	Target string `json:"target"`
	// Type is the file system of a mount without Source: tmpfs, proc, sysfs…
	Type string `json:"type,omitempty"`
	// Data is that file system's options, such as "mode=1777,size=64m".
	Data     string `json:"data,omitempty"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	NoSuid   bool   `json:"noSuid,omitempty"`
}

// Spec describes a root. It is plain data so that it can be handed to the
// process that enters it.
type Spec struct {
	// Dir is an existing folder, used as a mount point while building.
	Dir string `json:"dir"`
	// Mounts are made in order; a later one may lie below an earlier one.
	Mounts []Mount `json:"mounts"`
	// Links are symbolic links, by path in the root.
	Links map[string]string `json:"links,omitempty"`
	// Files are small files, by path in the root.
	Files map[string]string `json:"files,omitempty"`
	// ReadOnly makes the root itself read-only once it is built; mounts keep
	// their own setting.
	ReadOnly bool `json:"readOnly,omitempty"`
}

// System is what every root shares with the machine: its programs and
// libraries, read-only. /bin and the like are links where they are so on the
// machine.
func System() (mounts []Mount, links map[string]string, err error) {
	links = map[string]string{}
	for _, dir := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		info, err := os.Lstat(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("look at %s: %w", dir, err)
		}
		if info.Mode()&os.ModeSymlink == 0 {
			mounts = append(mounts, Mount{Source: dir, Target: dir, ReadOnly: true})
			continue
		}
		if links[dir], err = os.Readlink(dir); err != nil {
			return nil, nil, fmt.Errorf("look at %s: %w", dir, err)
		}
	}
	return mounts, links, nil
}

// Devices is a small /dev: the harmless devices bound from the machine, own
// terminals and shared memory.
func Devices() (mounts []Mount, links map[string]string) {
	mounts = []Mount{
		{Type: "tmpfs", Target: "/dev", Data: "mode=0755,size=64k"},
		{Type: "devpts", Target: "/dev/pts", Data: "newinstance,ptmxmode=0666,mode=0620"},
		{Type: "tmpfs", Target: "/dev/shm", Data: "mode=1777,size=64m"},
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		mounts = append(mounts, Mount{Source: "/dev/" + name, Target: "/dev/" + name})
	}
	return mounts, map[string]string{
		"/dev/ptmx": "pts/ptmx", "/dev/fd": "/proc/self/fd",
		"/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	}
}

// Enter builds the root and makes it the calling process's own. The caller must
// be alone in a new mount namespace, be single-minded about its threads (they
// all move), and be in the PID and network namespaces whose /proc and /sys it
// wants. On an error the process must end: its root is half built.
func (s Spec) Enter() error {
	// Nothing of this must spread to the machine, whatever its propagation is.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", s.Dir, "tmpfs", 0, "mode=0755,size=64m"); err != nil {
		return fmt.Errorf("mount the root at %s: %w", s.Dir, err)
	}
	for _, m := range s.Mounts {
		if err := m.apply(s.Dir); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	for path, target := range s.Links {
		if err := place(s.Dir, path, func(p string) error { return os.Symlink(target, p) }); err != nil {
			return fmt.Errorf("link %s: %w", path, err)
		}
	}
	for path, text := range s.Files {
		write := func(p string) error { return os.WriteFile(p, []byte(text), 0o644) }
		if err := place(s.Dir, path, write); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return s.pivot()
}

func (s Spec) pivot() error {
	if err := unix.Chdir(s.Dir); err != nil {
		return fmt.Errorf("enter the root %s: %w", s.Dir, err)
	}
	// With both arguments the same folder the old root ends up on top of the
	// new one, so no place has to be kept for it.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot to the root %s: %w", s.Dir, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	if !s.ReadOnly {
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}

func (m Mount) apply(root string) error {
	target, err := below(root, m.Target)
	if err != nil {
		return err
	}
	file := false
	if m.Source != "" {
		info, err := os.Stat(m.Source)
		if err != nil {
			return err
		}
		file = !info.IsDir()
	}
	if err := makePoint(target, file); err != nil {
		return err
	}
	if m.Source != "" {
		err = unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, "")
	} else {
		err = unix.Mount(m.Type, target, m.Type, unix.MS_NOSUID, m.Data)
	}
	if err != nil {
		return err
	}
	var attr uint64
	if m.ReadOnly {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	if m.NoSuid {
		attr |= unix.MOUNT_ATTR_NOSUID
	}
	if attr == 0 {
		return nil
	}
	flags := uint(unix.AT_RECURSIVE)
	return unix.MountSetattr(unix.AT_FDCWD, target, flags, &unix.MountAttr{Attr_set: attr})
}

func makePoint(target string, file bool) error {
	if !file {
		return os.MkdirAll(target, 0o755)
	}
	if _, err := os.Lstat(target); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, nil, 0o644)
}

func place(root, path string, do func(string) error) error {
	target, err := below(root, path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return do(target)
}

// below joins path to root without following any link out of root, so that a
// container's own folders cannot redirect a mount onto the machine.
func below(root, path string) (string, error) {
	clean := filepath.Clean("/" + path)
	at := root
	for _, part := range splitPath(clean) {
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return "", fmt.Errorf("%s lies behind the symbolic link %s", path, at[len(root):])
		}
	}
	return at, nil
}

func splitPath(clean string) []string {
	var parts []string
	for clean != "/" {
		parts = append([]string{filepath.Base(clean)}, parts...)
		clean = filepath.Dir(clean)
	}
	return parts
}
