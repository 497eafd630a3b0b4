package conflist

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// again runs the test anew as a process of its own, with a mount namespace of its
// own, and this in its environment. It tells whether it did.
func again(t *testing.T, variable, value string) (did bool, err error) {
	t.Helper()
	if os.Getenv(variable) != "" {
		return false, nil
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root: makes a mount namespace")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), variable+"="+value)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err = cmd.Run(); err != nil {
		t.Logf("%v: %s", err, out.String())
	}
	return true, err
}

// ownMounts tells that this process has a mount namespace of its own, and makes it so
// that nothing of it is seen elsewhere.
func ownMounts(t *testing.T) bool {
	t.Helper()
	did, err := again(t, "CONFLIST_TEST_MOUNTS", "1")
	if did {
		if err != nil {
			t.Errorf("in a mount namespace: %v", err)
		}
		return false
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestAReadOnlyFolderIsNamedAndTriedAgain(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	for _, which := range []string{"conf", "bin"} {
		n := newTestNode(t)
		n.rename(minimal(vnet), "10-azure.conflist")
		dir := map[string]string{"conf": n.conf, "bin": n.bin}[which]
		remount := func(flags uintptr) {
			t.Helper()
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		remount(unix.MS_RDONLY)
		i := n.installer(n.config())
		stop := n.run(i)
		s := n.await(i, "says so", failing("read-only file system: the DaemonSet must mount this folder of the node to be written to"))
		if s.Installed {
			t.Errorf("%+v", s)
		}
		remount(0)
		n.await(i, "is installed", good)
		// A list that is to go and cannot is said to be there.
		if which == "conf" {
			remount(unix.MS_RDONLY)
			cfg := n.config()
			cfg.Off = true
			off := n.installer(cfg)
			offStop := n.run(off)
			if s := n.await(off, "says so", failing("read-only file system")); !s.Installed {
				t.Errorf("%+v", s)
			}
			offStop()
			remount(0)
		}
		stop()
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFullDiskIsNamedAndTriedAgain(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	for _, which := range []string{"conf", "bin"} {
		n := newTestNode(t)
		dir := map[string]string{"conf": n.conf, "bin": n.bin}[which]
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		n.rename(minimal(vnet), "10-azure.conflist")
		ballast := fill(t, dir)
		i := n.installer(n.config())
		stop := n.run(i)
		s := n.await(i, "says so", failing("the disk is full: free space on the node"))
		if s.Installed || n.ours() != "" {
			t.Errorf("%+v", s)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		n.await(i, "is installed", good)

		// What is there stays, whole, while the next cannot be written.
		before := n.ours()
		ballast = fill(t, dir)
		if which == "conf" {
			// In place, and no larger than a page, so that it has room.
			n.write(n.conf+"/10-azure.conflist", minimal(vnet, portmap))
			n.await(i, "says so", failing("the disk is full"))
			if n.ours() != before {
				t.Errorf("our list is now\n%s", n.ours())
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			n.await(i, "follows", func(s Status) bool { return good(s) && strings.Contains(n.ours(), "portmap") })
		}
		stop()
		expectNoLeftover(t, n.conf, n.bin)
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
}

// fill makes a file that takes all that is free.
func fill(t *testing.T, dir string) string {
	t.Helper()
	path := dir + "/ballast"
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := f.Write(make([]byte, 1024)); err != nil {
			break
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAKillBeforeTheRenameLeavesTheOldListWhole: the next agent removes what was
// being written.
func TestAKillBeforeTheRenameLeavesTheOldListWhole(t *testing.T) {
	const variable = "CONFLIST_TEST_KILL"
	if dir := os.Getenv(variable); dir != "" {
		n := &testNode{t: t, dir: dir, conf: dir + "/net.d", bin: dir + "/bin", prog: dir + "/overland-cni"}
		i := n.installer(n.config())
		i.writer.renaming = func(temp string) {
			if filepath.Dir(temp) == n.conf {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // we do not get to see an error
			}
		}
		n.run(i)
		n.await(i, "is never", func(Status) bool { return false })
	}
	n := newTestNode(t)
	n.rename(minimal(vnet), "10-azure.conflist")
	i := n.installer(n.config())
	stop := n.run(i)
	n.await(i, "is installed", good)
	stop()
	before := n.ours()
	n.rename(minimal(vnet, portmap), "10-azure.conflist")
	if _, err := again(t, variable, n.dir); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("it was not killed: %v", err)
	}
	if n.ours() != before {
		t.Errorf("our list is\n%s", n.ours())
	}
	left, err := filepath.Glob(n.conf + "/" + tempPrefix + "*" + tempSuffix)
	if err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if _, err := Source([]string{filepath.Base(left[0])}); err == nil {
		t.Error("a runtime would take what is half written")
	}
	i = n.installer(n.config())
	n.run(i)
	n.await(i, "follows", func(s Status) bool { return good(s) && strings.Contains(n.ours(), "portmap") })
	expectNoLeftover(t, n.conf, n.bin)
}

func TestWhatIsBeingWrittenIsNotSwept(t *testing.T) {
	n := newTestNode(t)
	swept := false
	w := writer{renaming: func(temp string) {
		swept = true
		if err := sweep(n.conf); err != nil {
			t.Error(err)
		}
		if !exists(temp) {
			t.Error("it is gone")
		}
	}}
	if err := w.replace(n.conf, "x", fs.FileMode(0o600), (&plugin{source: n.prog}).copy); err != nil || !swept {
		t.Error(err)
	}
}
