// Package ns enters Linux namespaces: it runs a function or starts a process
// in the namespaces of a node, a pod or a router of the lab, and makes network
// namespaces with a name. It may import nothing of this repository.
package ns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Set names the namespaces to enter by the path of their nsfs file, such as
// /run/netns/west-node-1 or /proc/17/ns/mnt. An empty path means to stay.
// Paths are resolved before any namespace is entered.
type Set struct {
	Net, Mnt, UTS, IPC string
	PID                string // for children only: no process can change its own
}

// Net is the set of one network namespace.
func Net(path string) Set { return Set{Net: path} }

// OfProcess is the set of all namespaces that the process has, seen through
// the given mount point of proc (normally "/proc").
func OfProcess(proc string, pid int) Set {
	dir := filepath.Join(proc, strconv.Itoa(pid), "ns")
	return Set{
		Net: filepath.Join(dir, "net"), Mnt: filepath.Join(dir, "mnt"), UTS: filepath.Join(dir, "uts"),
		IPC: filepath.Join(dir, "ipc"), PID: filepath.Join(dir, "pid"),
	}
}

// Do runs f in the namespaces of s (PID apart: f stays the process it is) on a
// thread of its own, which ends with it, so nothing leaks into other
// goroutines. Sockets that f opens stay in the namespace; goroutines that f
// starts do not. Do returns f's error, or why a namespace could not be entered.
func (s Set) Do(f func() error) error {
	return onThread(func() error {
		if err := s.enter(); err != nil {
			return err
		}
		return f()
	})
}

// Start starts cmd in the namespaces of s. The command's path and folders are
// those of s.Mnt where that is set. cmd is then waited for as usual.
func (s Set) Start(cmd *exec.Cmd) error {
	err := s.Do(cmd.Start)
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return nil
}

// onThread runs f on a locked OS thread that is thrown away afterwards. The
// process's first thread is never used, because /proc/self follows it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// Hold the first thread here while another one does the work.
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		done <- f()
		// Not unlocked: the thread must not serve anything else.
	}()
	return <-done
}

func (s Set) enter() error {
	steps := []struct {
		path string
		kind int
	}{
		{s.PID, unix.CLONE_NEWPID},
		{s.UTS, unix.CLONE_NEWUTS},
		{s.IPC, unix.CLONE_NEWIPC},
		{s.Net, unix.CLONE_NEWNET},
		{s.Mnt, unix.CLONE_NEWNS},
	}
	files := make([]*os.File, len(steps))
	defer func() {
		for _, f := range files {
			if f != nil {
				_ = f.Close() // a descriptor of nsfs: closing cannot fail in a way that matters
			}
		}
	}()
	for i, step := range steps {
		if step.path == "" {
			continue
		}
		f, err := os.Open(step.path)
		if err != nil {
			return fmt.Errorf("open namespace: %w", err)
		}
		files[i] = f
	}
	if s.Mnt != "" {
		// The kernel lets a thread change its mount namespace only if it shares
		// its working folder and root with no other.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare the working folder: %w", err)
		}
	}
	for i, step := range steps {
		if files[i] == nil {
			continue
		}
		if err := unix.Setns(int(files[i].Fd()), step.kind); err != nil {
			return fmt.Errorf("enter namespace %s: %w", step.path, err)
		}
	}
	return nil
}

// CreateNet makes a network namespace, with its loopback interface up, and
// binds it at path, which must be on a file system private to the caller's
// mount namespace. It fails if path exists.
func CreateNet(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("create network namespace %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("create network namespace %s: %w", path, err)
	}
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := loopbackUp(); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return errors.Join(fmt.Errorf("create network namespace %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// DeleteNet removes the name of a network namespace; the namespace goes when
// its last process or socket does. An absent name is fine.
func DeleteNet(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("delete network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete network namespace: %w", err)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
