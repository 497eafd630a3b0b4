package conflist

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/cni"
)

// testNode is the folders of a node, with an image's plugin beside them.
type testNode struct {
	t                    *testing.T
	dir, conf, bin, prog string
}

const program = "#!/bin/sh\nexit 0\n"

func newTestNode(t *testing.T) *testNode {
	t.Helper()
	dir := t.TempDir()
	n := &testNode{t: t, dir: dir, conf: dir + "/net.d", bin: dir + "/bin", prog: dir + "/overland-cni"}
	for _, d := range []string{n.conf, n.bin} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.write(n.prog, program)
	return n
}

func (n *testNode) write(path, text string) {
	n.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) read(path string) string {
	text, _ := os.ReadFile(path) // what is not there is ""
	return string(text)
}

func (n *testNode) rename(text, name string) {
	n.t.Helper()
	n.write(n.conf+"/new", text)
	if err := os.Rename(n.conf+"/new", n.conf+"/"+name); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) ours() string { return n.read(n.conf + "/" + FileName) }

func (n *testNode) config() Config {
	return Config{ConfDir: n.conf, BinDir: n.bin, Plugin: n.prog, Conf: cni.Conf{TimeoutSeconds: 10}}
}

// quick is for tests that do not want to wait; looks are seldom, so that what is
// seen soon was seen by the watch.
var quick = timing{look: time.Minute, retry: 50 * time.Millisecond, grace: 300 * time.Millisecond, quarrel: 50 * time.Millisecond, blind: 50 * time.Millisecond}

func (n *testNode) installer(cfg Config) *Installer {
	n.t.Helper()
	log := logrus.New()
	log.SetOutput(n.t.Output())
	i, err := New(cfg, logrus.NewEntry(log))
	if err != nil {
		n.t.Fatal(err)
	}
	i.timing = quick
	return i
}

// run starts it; the function ends it.
func (n *testNode) run(i *Installer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := i.Run(ctx); err != nil {
			n.t.Errorf("Run: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	n.t.Cleanup(stop)
	return stop
}

func (n *testNode) await(i *Installer, what string, ok func(Status) bool) Status {
	n.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		changed := i.Changed()
		s := i.Status()
		if ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond): // files change without it
		case <-limit:
			n.t.Fatalf("%s: never; the status is %+v, ours is\n%s", what, s, n.ours())
		}
	}
}

func good(s Status) bool { return s.Installed && s.Error == "" }

func failing(with string) func(Status) bool {
	return func(s Status) bool { return strings.Contains(s.Error, with) }
}

func TestTheListFollowsAzures(t *testing.T) {
	n := newTestNode(t)
	i := n.installer(n.config())
	stop := n.run(i)
	n.await(i, "waits for Azure's list", func(s Status) bool { return !s.Installed && strings.Contains(s.Error, "no list of Azure CNI yet") })

	n.rename(minimal(vnet), "10-azure.conflist")
	s := n.await(i, "is installed", good)
	if s.Source != n.conf+"/10-azure.conflist" || s.Since.IsZero() {
		t.Errorf("the status is %+v", s)
	}
	info, err := os.Stat(i.list)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("our list: %v, %v", info, err)
	}
	info, err = os.Stat(n.bin + "/overland-cni")
	if err != nil || info.Mode() != 0o755 || n.read(n.bin+"/overland-cni") != program {
		t.Errorf("our plugin: %v, %v", info, err)
	}

	n.rename(minimal(vnet, portmap), "10-azure.conflist")
	n.await(i, "follows a rename", func(Status) bool { return strings.Contains(n.ours(), "portmap") })
	n.write(n.conf+"/10-azure.conflist", minimal(vnet, `{"type":"tuning"}`))
	n.await(i, "follows a write in place", func(Status) bool {
		return strings.Contains(n.ours(), "tuning") && !strings.Contains(n.ours(), "portmap")
	})
	n.rename(minimal(vnet, `{"type":"bandwidth"}`), "09-azure.conflist")
	n.await(i, "follows an earlier name", func(s Status) bool {
		return strings.Contains(n.ours(), "bandwidth") && s.Source == n.conf+"/09-azure.conflist"
	})
	if err := os.Remove(i.list); err != nil {
		t.Fatal(err)
	}
	n.await(i, "puts back what somebody removes", func(Status) bool { return strings.Contains(n.ours(), "bandwidth") })
	n.write(n.bin+"/overland-cni", "changed")
	n.await(i, "puts back a changed plugin", func(Status) bool { return n.read(n.bin+"/overland-cni") == program })

	stop()
	if n.ours() == "" {
		t.Error("the list is gone with the agent")
	}
	expectNoLeftover(t, n.conf, n.bin)
}

func expectNoLeftover(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		left, err := filepath.Glob(dir + "/" + tempPrefix + "*")
		if err != nil || len(left) > 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
	}
}

func TestNothingIsWrittenThatIsThere(t *testing.T) {
	n := newTestNode(t)
	n.rename(minimal(vnet), "10-azure.conflist")
	i := n.installer(n.config())
	stop := n.run(i)
	n.await(i, "is installed", good)
	stop()
	list, err := stampOf(i.list)
	if err != nil {
		t.Fatal(err)
	}
	prog, err := stampOf(n.bin + "/overland-cni")
	if err != nil {
		t.Fatal(err)
	}
	i = n.installer(n.config())
	n.run(i)
	n.await(i, "is installed", good)
	if again, err := stampOf(i.list); err != nil || again != list {
		t.Errorf("the list was written anew: %v, %v", again, err)
	}
	if again, err := stampOf(n.bin + "/overland-cni"); err != nil || again != prog {
		t.Errorf("the plugin was written anew: %v, %v", again, err)
	}
}

func TestTheListOutlivesARewriteAndNotItsSource(t *testing.T) {
	for name, lose := range map[string]func(n *testNode, path string) error{
		"removed":   func(_ *testNode, path string) error { return os.Remove(path) },
		"moved":     func(_ *testNode, path string) error { return os.Rename(path, path+"-old") },
		"emptied":   func(_ *testNode, path string) error { return os.Truncate(path, 0) },
		"half":      func(_ *testNode, path string) error { return os.WriteFile(path, []byte(minimal(vnet)[:40]), 0o600) },
		"no list":   func(_ *testNode, path string) error { return os.WriteFile(path, []byte(`{}`), 0o600) },
		"a link":    func(_ *testNode, path string) error { return relink(path) },
		"irregular": func(_ *testNode, path string) error { return repipe(path) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTestNode(t)
			source := n.conf + "/10-azure.conflist"
			n.rename(minimal(vnet), "10-azure.conflist")
			i := n.installer(n.config())
			i.timing.grace = time.Second
			n.run(i)
			n.await(i, "is installed", good)
			before := n.ours()

			if err := lose(n, source); err != nil {
				t.Fatal(err)
			}
			s := n.await(i, "says what is wrong", func(s Status) bool { return s.Error != "" })
			if !s.Installed || n.ours() != before {
				t.Errorf("it is not kept for a while: %+v\n%s", s, n.ours())
			}
			n.rename(minimal(vnet, portmap), "10-azure.conflist")
			n.await(i, "follows the new one", func(s Status) bool { return good(s) && strings.Contains(n.ours(), "portmap") })

			if err := lose(n, source); err != nil {
				t.Fatal(err)
			}
			n.await(i, "is removed", func(s Status) bool { return !s.Installed && s.Error != "" && s.Source == "" })
			if n.ours() != "" {
				t.Error("our list is still there")
			}
			n.rename(minimal(vnet), "10-azure.conflist")
			n.await(i, "comes back", good)
		})
	}
}

func relink(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink("/does/not/exist", path)
}

func repipe(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return unix.Mkfifo(path, 0o600)
}

func TestAnotherNetworkIsNotHiddenForAMoment(t *testing.T) {
	for name, text := range map[string]string{
		"05-cilium.conflist": minimal(`{"type":"cilium-cni"}`),
		"06-bridge.conflist": minimal(`{"type":"bridge"}`),
		"10-azure.conflist":  minimal(`{"type":"azure-vnet","mode":"bridge"}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTestNode(t)
			n.rename(minimal(vnet), "10-azure.conflist")
			i := n.installer(n.config())
			i.timing.grace = time.Hour
			n.run(i)
			n.await(i, "is installed", good)
			n.rename(text, name)
			n.await(i, "is removed", func(s Status) bool { return !s.Installed && strings.Contains(s.Error, name) && n.ours() == "" })
			if err := os.Remove(n.conf + "/" + name); err != nil {
				t.Fatal(err)
			}
			n.rename(minimal(vnet), "10-azure.conflist")
			n.await(i, "comes back", good)
		})
	}
}

func TestOffRemovesWhatIsThere(t *testing.T) {
	n := newTestNode(t)
	n.rename(minimal(vnet), "10-azure.conflist")
	n.write(n.conf+"/"+FileName, "{}")
	cfg := n.config()
	cfg.Off = true
	i := n.installer(cfg)
	n.run(i)
	n.await(i, "is removed", func(s Status) bool {
		return s.Off && !s.Installed && s.Error == "" && !s.Since.IsZero() && n.ours() == ""
	})
	if n.read(n.conf+"/10-azure.conflist") == "" || exists(n.bin+"/overland-cni") {
		t.Error("other files are not as they were")
	}
}

func TestFoldersMayComeLater(t *testing.T) {
	n := newTestNode(t)
	if err := os.RemoveAll(n.conf); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(n.bin); err != nil {
		t.Fatal(err)
	}
	i := n.installer(n.config())
	n.run(i)
	n.await(i, "says so", failing("the DaemonSet must mount this folder"))
	if err := os.Mkdir(n.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	n.rename(minimal(vnet), "10-azure.conflist")
	s := n.await(i, "says so of programs", failing(n.bin+"/overland-cni: no such file or directory: the DaemonSet must mount this folder"))
	if s.Installed {
		t.Error("the list is there without its plugin")
	}
	if err := os.Mkdir(n.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	n.await(i, "is installed", good)
}

func TestAnImageWithoutThePluginKeepsTheOldOne(t *testing.T) {
	n := newTestNode(t)
	n.rename(minimal(vnet), "10-azure.conflist")
	if err := os.Remove(n.prog); err != nil {
		t.Fatal(err)
	}
	i := n.installer(n.config())
	n.run(i)
	if s := n.await(i, "says so", failing("the agent's image lacks it")); s.Installed {
		t.Error("the list is there without its plugin")
	}
	n.write(n.bin+"/overland-cni", "old")
	if err := os.Chmod(n.bin+"/overland-cni", 0o755); err != nil {
		t.Fatal(err)
	}
	n.await(i, "uses the old one", func(s Status) bool {
		return s.Installed && strings.Contains(s.Error, "pods start with an older plugin")
	})
}

func TestARunningPluginIsNotDisturbed(t *testing.T) {
	n := newTestNode(t)
	n.rename(minimal(vnet), "10-azure.conflist")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	n.write(n.prog, string(text))
	i := n.installer(n.config())
	n.run(i)
	n.await(i, "is installed", good)
	cmd := exec.Command(n.bin+"/overland-cni", "60")
	cmd.Args[0] = "sleep" // some systems have one program for many names
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.write(n.prog, program)
	if err := os.Remove(n.bin + "/overland-cni"); err != nil { // the image's folder is not watched
		t.Fatal(err)
	}
	n.await(i, "is replaced", func(Status) bool { return n.read(n.bin+"/overland-cni") == program })
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the old one has ended: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
}

// TestNoProcessIsStartedWhileAFileIsWritten: it would have the file open for
// writing, too, and to run the file meanwhile would fail.
func TestNoProcessIsStartedWhileAFileIsWritten(t *testing.T) {
	n := newTestNode(t)
	started := make(chan error, 1)
	err := writer{}.replace(n.bin, "overland-cni", pluginMode, func(to io.Writer) error {
		go func() { started <- exec.Command("true").Run() }()
		select {
		case err := <-started:
			t.Errorf("a process was started: %v", err)
			started <- nil
		case <-time.After(100 * time.Millisecond):
		}
		_, err := io.WriteString(to, program)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(n.bin + "/overland-cni").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := <-started; err != nil {
		t.Errorf("not even afterwards: %v", err)
	}
}

// TestTwoWritersAtOnceHaveAWholeFile: an agent that is just ending, and that of
// the next version.
func TestTwoWritersAtOnceHaveAWholeFile(t *testing.T) {
	n := newTestNode(t)
	n.rename(minimal(vnet), "10-azure.conflist")
	old, next := n.config(), n.config()
	old.Conf.TimeoutSeconds, next.Conf.TimeoutSeconds = 20, 30
	next.Plugin = n.dir + "/next"
	n.write(next.Plugin, "#!/bin/sh\nexit 1\n")
	a, b := n.installer(old), n.installer(next)
	stop := n.run(a)
	n.run(b)
	want := map[string]bool{}
	for _, i := range []*Installer{a, b} {
		text, err := Derive("10-azure.conflist", []byte(minimal(vnet)), i.entry)
		if err != nil {
			t.Fatal(err)
		}
		want[string(text)] = true
	}
	n.await(a, "one is there", func(Status) bool { return n.ours() != "" })
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if text := n.ours(); !want[text] {
			t.Fatalf("our list is\n%s", text)
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	n.await(b, "the one that goes on wins", func(s Status) bool {
		return good(s) && strings.Contains(n.ours(), `"timeoutSeconds": 30`) && strings.Contains(n.read(n.bin+"/overland-cni"), "exit 1")
	})
	expectNoLeftover(t, n.conf, n.bin)
}

func TestRemovalIsOursOnlyAndMayBeRepeated(t *testing.T) {
	n := newTestNode(t)
	n.rename(minimal(vnet), "10-azure.conflist")
	i := n.installer(n.config())
	stop := n.run(i)
	n.await(i, "is installed", good)
	stop()
	n.write(n.conf+"/"+tempPrefix+"1"+tempSuffix, "half")
	n.write(n.bin+"/azure-vnet", "azure")
	for _, want := range []bool{true, false} {
		there, err := RemoveList(n.conf)
		if err != nil || there != want {
			t.Errorf("list: %v, %v", there, err)
		}
		if err := RemovePlugin(n.bin, cni.PluginType); err != nil {
			t.Error(err)
		}
	}
	if n.ours() != "" || exists(n.bin+"/overland-cni") || n.read(n.bin+"/azure-vnet") != "azure" || n.read(n.conf+"/10-azure.conflist") != minimal(vnet) {
		t.Error("the folders are not as they should be")
	}
	expectNoLeftover(t, n.conf, n.bin)
	if _, err := RemoveList(n.dir + "/none"); err != nil {
		t.Error(err)
	}
}
