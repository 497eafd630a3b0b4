package runtime

import (
	"bufio"
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func calls(t *testing.T, cfg Config) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(cfg.Dir), "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var commands []string
	for line := range strings.Lines(string(text)) {
		command, _, _ := strings.Cut(line, " ")
		commands = append(commands, command)
	}
	return commands
}

func TestSandboxIsConnectedAndDisconnected(t *testing.T) {
	r, cfg := newNode(t)
	c := pod("web")
	c.PortMappings = []PortMapping{{HostPort: 80, ContainerPort: 8080, Protocol: "TCP"}}
	c.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"}
	s := sandboxOf(t, r, c)
	want := []netip.Addr{netip.MustParseAddr("10.9.0.9"), netip.MustParseAddr("fd00:9::9")}
	if diff := cmp.Diff(want, s.IPs, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if len(s.ID) != 64 || !s.Ready || !strings.HasPrefix(s.NetNS, cfg.NetNSDir+"/cni-") || !isNamespace(s.NetNS) {
		t.Errorf("sandbox %+v", s)
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(cfg.Dir), "calls"))
	if err != nil {
		t.Fatal(err)
	}
	call := "ADD " + s.ID + " " + s.NetNS + " eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;" +
		"K8S_POD_INFRA_CONTAINER_ID=" + s.ID + ";K8S_POD_UID=uid-of-web " +
		`{"portMappings":[{"hostPort":80,"containerPort":8080,"protocol":"tcp"}]}` + "\n"
	if diff := cmp.Diff(call, string(text)); diff != "" {
		t.Error(diff)
	}
	_, out := runToEnd(t, r, s, shell("c", "hostname; cat /etc/resolv.conf /proc/sys/net/ipv4/ip_forward; ip -o addr show lo"))
	if !strings.HasPrefix(out, "web\nnameserver 10.0.0.10\n1\n") || !strings.Contains(out, "127.0.0.1/8") {
		t.Errorf("in the pod: %s", out)
	}
	for range 2 {
		if err := r.StopSandbox(context.Background(), s.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := calls(t, cfg); !slices.Equal(got, []string{"ADD", "DEL"}) {
		t.Errorf("CNI calls %v", got)
	}
	if isNamespace(s.NetNS) || r.Sandboxes()[0].Ready {
		t.Error("a stopped sandbox is still there")
	}
}

func TestHostNetworkSandboxIsNotConnected(t *testing.T) {
	r, cfg := newNode(t)
	c := pod("agent")
	c.HostNetwork, c.HostPID = true, true
	s := sandboxOf(t, r, c)
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	_, out := runToEnd(t, r, s, shell("c", "readlink /proc/self/ns/net; test -d /proc/"+strconv.Itoa(os.Getpid())+" && echo seen"))
	if want := own + "\nseen\n"; out != want || len(calls(t, cfg)) != 0 || s.NetNS != "" {
		t.Errorf("got %q, want %q; CNI calls %v", out, want, calls(t, cfg))
	}
	c.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"}
	if _, err := r.RunSandbox(context.Background(), c); err == nil {
		t.Error("a sysctl of the node was accepted")
	}
}

func TestHostPIDContainerLeavesNoProcess(t *testing.T) {
	r, _ := newNode(t)
	c := pod("agent")
	c.HostPID = true
	s := sandboxOf(t, r, c)
	_, out := runToEnd(t, r, s, shell("c", "(sleep 4321 & echo $!); exit 3"))
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("process %d of an exited container: %v", pid, err)
	}
}

func TestFailedAddIsUndone(t *testing.T) {
	r, cfg := newNode(t)
	dir := filepath.Dir(cfg.Dir)
	if err := os.WriteFile(dir+"/fail-ADD", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := r.RunSandbox(context.Background(), pod("web"))
	if !errors.Is(err, ErrNetwork) || !strings.Contains(err.Error(), "told to fail ADD") {
		t.Errorf("error %v", err)
	}
	if got := calls(t, cfg); !slices.Equal(got, []string{"ADD", "DEL"}) {
		t.Errorf("CNI calls %v", got)
	}
	left, err := os.ReadDir(cfg.NetNSDir)
	if err != nil || len(left) > 0 || len(r.Sandboxes()) > 0 {
		t.Errorf("left: %v, %v, %v", left, err, r.Sandboxes())
	}
}

func TestFailedDelCanBeRepeated(t *testing.T) {
	r, cfg := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	flag := filepath.Dir(cfg.Dir) + "/fail-DEL"
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.StopSandbox(context.Background(), s.ID); err == nil {
		t.Fatal("a failed DEL was not reported")
	}
	if r.Sandboxes()[0].Ready || !isNamespace(s.NetNS) {
		t.Error("want: not ready, but still connected")
	}
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	if err := r.StopSandbox(context.Background(), s.ID); err != nil {
		t.Error(err)
	}
}

func TestNetworkReadyNeedsConfigurationAndPlugins(t *testing.T) {
	r, cfg := newNode(t)
	if err := r.NetworkReady(); err != nil {
		t.Fatal(err)
	}
	conf := cfg.CNIConfDir + "/05-first.conf"
	if err := os.WriteFile(conf, []byte(`{"cniVersion":"0.3.0","name":"first","type":"absent"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.NetworkReady(); !errors.Is(err, ErrNetwork) || !strings.Contains(err.Error(), `"absent"`) {
		t.Errorf("missing plugin: %v", err)
	}
	if err := errors.Join(os.Remove(conf), os.Remove(cfg.CNIConfDir+"/10-test.conflist")); err != nil {
		t.Fatal(err)
	}
	if err := r.NetworkReady(); !errors.Is(err, ErrNetwork) {
		t.Errorf("no configuration: %v", err)
	}
	if _, err := r.RunSandbox(context.Background(), pod("web")); !errors.Is(err, ErrNetwork) {
		t.Errorf("sandbox without configuration: %v", err)
	}
}

func TestHalfMadeSandboxIsRemovedAtStart(t *testing.T) {
	r, cfg := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	r.sandboxes[s.ID].rec.Phase = creating // as if killed right after ADD
	if err := r.save(r.sandboxes[s.ID]); err != nil {
		t.Fatal(err)
	}
	r = restart(t, cfg)
	if got := calls(t, cfg); !slices.Equal(got, []string{"ADD", "DEL"}) || len(r.Sandboxes()) > 0 || isNamespace(s.NetNS) {
		t.Errorf("CNI calls %v, sandboxes %v", got, r.Sandboxes())
	}
}

func TestConnectionsOfBeforeARebootAreRemoved(t *testing.T) {
	r, cfg := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	// A reboot: /run is empty, the CNI cache and the logs are not.
	runToEnd(t, r, s, shell("c", "echo hello"))
	rec := r.sandboxes[s.ID].rec
	if err := errors.Join(unbind(s.NetNS), unbind(rec.UTS), unbind(rec.IPC), os.RemoveAll(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	restart(t, cfg)
	if got := calls(t, cfg); !slices.Equal(got, []string{"ADD", "DEL"}) {
		t.Errorf("CNI calls %v", got)
	}
	restart(t, cfg)
	if left, err := os.ReadDir(cfg.LogDir); err != nil || len(left) > 0 {
		t.Errorf("logs left: %v %v", left, err)
	}
	if got := calls(t, cfg); len(got) != 2 {
		t.Errorf("CNI calls at the next start %v", got)
	}
}

func TestContainersOutliveTheKubelet(t *testing.T) {
	_, cfg := newNode(t)
	dir := filepath.Dir(cfg.Dir)
	kubelet := exec.Command(cfg.Self, "test-kubelet", dir, "one")
	out, err := kubelet.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := kubelet.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started <nil>\n" {
		t.Fatalf("%q %v", line, err)
	}
	if err := kubelet.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = kubelet.Wait() // killed, as asked

	r := restart(t, cfg)
	all := r.Containers()
	if len(all) != 1 || all[0].State != Running || !r.Sandboxes()[0].Ready {
		t.Fatalf("taken over: %+v %+v", all, r.Sandboxes())
	}
	before := len(logText(t, all[0]))
	time.Sleep(300 * time.Millisecond)
	if after := len(logText(t, all[0])); after <= before {
		t.Errorf("the log stopped at %d", before)
	}
	code, stdout, _ := execIn(t, r, all[0].ID, ExecIO{}, "sh", "-c", "hostname; exit 4")
	if code != 4 || stdout != "orphan\n" {
		t.Errorf("exec: %d %q", code, stdout)
	}
	if err := r.StopContainer(context.Background(), all[0].ID, 0); err != nil {
		t.Fatal(err)
	}
	if c := awaitExit(t, r, all[0].ID); c.ExitCode != 137 {
		t.Errorf("ended with %d", c.ExitCode)
	}
	// Once more: now it is taken over as exited.
	if c := awaitExit(t, restart(t, cfg), all[0].ID); c.ExitCode != 137 {
		t.Errorf("recorded as %+v", c)
	}
}

func TestKubeletKilledAtAnyPointLeavesNothingHalfMade(t *testing.T) {
	_, cfg := newNode(t)
	for i := range 15 {
		kubelet := exec.Command(cfg.Self, "test-kubelet", filepath.Dir(cfg.Dir), "many")
		if err := kubelet.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+7*i) * time.Millisecond)
		if err := kubelet.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = kubelet.Wait() // killed, as asked
		r := restart(t, cfg)
		for _, c := range r.Containers() {
			if c.State == Running && c.PID == 0 {
				t.Errorf("%+v", c)
			}
		}
		for _, s := range r.Sandboxes() {
			if err := r.RemoveSandbox(context.Background(), s.ID); err != nil {
				t.Error(err)
			}
		}
		left, err := filepath.Glob(cfg.CNICacheDir + "/results/*")
		if err != nil || len(left) > 0 {
			t.Errorf("CNI results left: %v %v", left, err)
		}
	}
}

func TestKilledShimTakesItsContainerAlong(t *testing.T) {
	for _, user := range []int64{0, 1000} {
		r, _ := newNode(t)
		s := sandboxOf(t, r, pod("web"))
		c := shell("c", "sleep 1000")
		c.Security.User = &user
		started := start(t, r, s, c)
		state := r.containers[started.ID].lastState()
		if err := unix.Kill(state.Shim, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		ended := awaitExit(t, r, started.ID)
		if ended.ExitCode != 137 || ended.Signal != 9 {
			t.Errorf("%+v", ended)
		}
		if p, err := openProcess(state.PID, state.Start); err == nil {
			// At most its remains are there, which PID 1 has yet to take away.
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if err := p.wait(ctx); err != nil {
				t.Errorf("the container's process %d: %v", state.PID, err)
			}
			cancel()
			p.close()
		}
	}
}

func TestManyPodsAtOnce(t *testing.T) {
	r, _ := newNode(t)
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			s, err := r.RunSandbox(context.Background(), pod("p"+strconv.Itoa(i)))
			if err != nil {
				t.Error(err)
				return
			}
			c, err := r.StartContainer(context.Background(), s.ID, shell("c", "hostname; exec sleep 1000"))
			if err != nil || c.State != Running {
				t.Errorf("%+v %v", c, err)
			}
		})
	}
	group.Wait()
	if n := len(r.Containers()); n != 20 {
		t.Errorf("%d containers run", n)
	}
	var total int
	for _, c := range r.Containers() {
		shim := r.containers[c.ID].lastState().Shim
		text, err := os.ReadFile("/proc/" + strconv.Itoa(shim) + "/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rss, _ := strings.Cut(string(text), "RssAnon:") // the rest is the binary, shared by all
		kilobytes, err := strconv.Atoi(strings.Fields(rss)[0])
		if err != nil {
			t.Fatal(err)
		}
		total += kilobytes
	}
	t.Logf("a shim takes %d kB of memory of its own", total/20)
}
