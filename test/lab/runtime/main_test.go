package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// The test binary is the lab's multi-call binary, a CNI plugin and an image's
// program, by the way it is called. The tests run in namespaces of their own:
// nothing they do is seen, or left, on the machine.
const (
	cniPlugin = "testnet"
	inside    = "RUNTIME_TEST_INSIDE"
)

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case cniPlugin:
		unix.Exit(pluginMain())
	case "agnhost":
		fmt.Println("agnhost called with", os.Args[1:])
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, unix.SIGTERM)
		<-signals
		os.Exit(0)
	}
	roles := map[string]func([]string) int{
		"container-shim": ShimMain, "container-init": InitMain, "container-exec": ExecMain,
		"test-reaper": reaperMain, "test-kubelet": kubeletMain,
	}
	if len(os.Args) > 1 {
		if role := roles[os.Args[1]]; role != nil {
			unix.Exit(role(os.Args[2:])) // not os.Exit: under the race detector that takes a second
		}
	}
	if os.Getenv(inside) == "" && os.Getuid() == 0 {
		os.Exit(enterNamespaces())
	}
	os.Exit(m.Run())
}

// enterNamespaces runs the tests again, below the first process of new
// namespaces.
func enterNamespaces() int {
	cmd := exec.Command("/proc/self/exe", append([]string{"test-reaper"}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  unix.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tests in namespaces:", err)
		return 1
	}
	return 0
}

// reaperMain is PID 1, as `lab init` is in a node.
func reaperMain(args []string) int {
	mounts := []struct{ kind, target, data string }{{"proc", "/proc", ""}, {"tmpfs", "/run", "mode=0755"}}
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	for _, m := range mounts {
		err = errors.Join(err, unix.Mount(m.kind, m.target, m.kind, 0, m.data))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare the tests' mounts:", err)
		return 1
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if pid == cmd.Process.Pid {
			return status.ExitStatus()
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 1
		}
	}
}

// kubeletMain is a kubelet to be killed, on the node whose folder it is given:
// it starts a container and waits, or ("many") goes on removing and starting.
func kubeletMain(args []string) int {
	r, err := New(testConfig(args[0]), quiet())
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for {
		s, err := r.RunSandbox(context.Background(), pod("orphan"))
		if err == nil {
			_, err = r.StartContainer(context.Background(), s.ID, shell("for", `while :; do echo tick; sleep 0.05; done`))
		}
		fmt.Println("started", err)
		if args[1] == "one" {
			time.Sleep(time.Hour)
		}
		if err := r.RemoveSandbox(context.Background(), s.ID); err != nil {
			fmt.Println(err)
			return 1
		}
	}
}

// pluginMain is a CNI plugin that notes its calls in the folder that its
// configuration names, and fails when it finds a file fail-COMMAND there.
func pluginMain() int {
	var conf struct {
		CNIVersion, Folder string
		RuntimeConfig      json.RawMessage
	}
	if err := json.NewDecoder(os.Stdin).Decode(&conf); err != nil {
		fmt.Println(err)
		return 1
	}
	command := os.Getenv("CNI_COMMAND")
	line := fmt.Sprintf("%s %s %s %s %s %s\n", command, os.Getenv("CNI_CONTAINERID"), os.Getenv("CNI_NETNS"),
		os.Getenv("CNI_IFNAME"), os.Getenv("CNI_ARGS"), conf.RuntimeConfig)
	f, err := os.OpenFile(filepath.Join(conf.Folder, "calls"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(line)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if _, err := os.Stat(filepath.Join(conf.Folder, "fail-"+command)); err == nil {
		fmt.Printf(`{"cniVersion":%q,"code":100,"msg":"told to fail %s"}`, conf.CNIVersion, command)
		return 1
	}
	if command == "ADD" {
		fmt.Printf(`{"cniVersion":%q,"ips":[{"version":"6","address":"fd00:9::9/64"},`+
			`{"version":"4","address":"10.9.0.9/16"}]}`, conf.CNIVersion)
	}
	return 0
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

func testConfig(dir string) Config {
	self, err := os.Executable()
	if err != nil {
		self = "/proc/self/exe"
	}
	return Config{
		Dir: dir + "/runtime", LogDir: dir + "/log", CNIConfDir: dir + "/net.d", CNIBinDirs: []string{dir + "/cni-bin"},
		CNICacheDir: dir + "/cache", NetNSDir: dir + "/netns", Programs: dir + "/programs", Self: self,
	}
}

// newNode is a node with a CNI plugin and one image program, and its runtime.
func newNode(t *testing.T) (*Runtime, Config) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root: containers are made of namespaces and mounts")
	}
	dir, err := os.MkdirTemp("/run", "node-")
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(dir)
	conf := fmt.Sprintf(`{"cniVersion":"0.3.0","name":"test","plugins":[{"type":%q,"folder":%q,`+
		`"capabilities":{"portMappings":true}}]}`, cniPlugin, dir)
	for _, folder := range []string{cfg.CNIConfDir, cfg.CNIBinDirs[0], cfg.Programs} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err = errors.Join(
		os.WriteFile(cfg.CNIConfDir+"/10-test.conflist", []byte(conf), 0o644),
		os.Symlink(cfg.Self, filepath.Join(cfg.CNIBinDirs[0], cniPlugin)),
		os.Symlink(cfg.Self, filepath.Join(cfg.Programs, "agnhost")),
	)
	if err != nil {
		t.Fatal(err)
	}
	r := restart(t, cfg)
	t.Cleanup(func() {
		r, err := New(cfg, quiet())
		if err != nil {
			t.Error(err)
			return
		}
		for _, s := range r.Sandboxes() {
			if err := r.RemoveSandbox(context.Background(), s.ID); err != nil {
				t.Error(err)
			}
		}
		for _, folder := range []string{cfg.Dir + "/sandboxes", cfg.Dir + "/containers", cfg.NetNSDir, cfg.LogDir} {
			if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
				t.Errorf("left in %s: %v %v", folder, left, err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return r, cfg
}

func restart(t *testing.T, cfg Config) *Runtime {
	t.Helper()
	r, err := New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func pod(name string) SandboxConfig {
	return SandboxConfig{
		Namespace: "default", Name: name, UID: "uid-of-" + name, Hostname: name, ResolvConf: "nameserver 10.0.0.10\n",
	}
}

func shell(name, script string) ContainerConfig {
	return ContainerConfig{Name: name, Image: "busybox:1.36", Command: []string{"sh", "-c", script}}
}

func sandboxOf(t *testing.T, r *Runtime, c SandboxConfig) Sandbox {
	t.Helper()
	s, err := r.RunSandbox(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t *testing.T, r *Runtime, s Sandbox, c ContainerConfig) Container {
	t.Helper()
	started, err := r.StartContainer(context.Background(), s.ID, c)
	if err != nil {
		t.Fatal(err)
	}
	return started
}

// awaitExit waits until the container has exited, by the Changed channel.
func awaitExit(t *testing.T, r *Runtime, id string) Container {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		for _, c := range r.Containers() {
			if c.ID == id && c.State == Exited {
				return c
			}
		}
		select {
		case <-r.Changed():
		case <-time.After(200 * time.Millisecond): // another waiter may have taken the word
		case <-deadline:
			t.Fatalf("container %s did not exit", id)
		}
	}
}

// runToEnd runs a container and returns how it ended and its log's text,
// without the prefixes.
func runToEnd(t *testing.T, r *Runtime, s Sandbox, c ContainerConfig) (Container, string) {
	t.Helper()
	ended := awaitExit(t, r, start(t, r, s, c).ID)
	return ended, logText(t, ended)
}

func logText(t *testing.T, c Container) string {
	t.Helper()
	text, err := os.ReadFile(c.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(line, " ", 4)
		if len(fields) != 4 {
			t.Fatalf("log line %q", line)
		}
		if _, err := time.Parse(time.RFC3339Nano, fields[0]); err != nil {
			t.Fatal(err)
		}
		b.WriteString(fields[3])
	}
	return b.String()
}
