// Package nfnltest gives tests network namespaces of their own: what they do to
// the kernel's tables, sets and connections ends with them. It may import
// nothing of this repository.
package nfnltest

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Isolate moves the calling test to a thread of its own, in a new network
// namespace and a mount namespace with an empty /run: so it has its own xtables
// lock and its own names of `ip netns`. All of it goes when the test ends. The
// goroutines that the test starts are elsewhere; the processes are not. It fails
// the test if it is not run by root.
func Isolate(t testing.TB) {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: it needs root")
	}
	// Never unlocked: the thread must not serve anything else, and ends with the
	// test's goroutine.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		t.Fatalf("make a network and a mount namespace: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("make the mounts private: %v", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatalf("mount an empty /run: %v", err)
	}
	Run(t, "", "ip", "link", "set", "lo", "up")
}

// Run runs a program with stdin, in the namespaces of the calling test, and
// gives what it prints. It fails the test if the program fails.
func Run(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, err := Try(stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Run for what may fail.
func Try(stdin string, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// Enter runs f on a thread of its own in the named network namespace, one of
// `ip netns` of the calling test. Sockets that f opens stay in it.
func Enter(t testing.TB, name string, f func() error) {
	t.Helper()
	fd, err := unix.Open("/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open network namespace %s: %v", name, err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", name, err)
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
