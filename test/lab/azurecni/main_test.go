package azurecni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// asPlugin, in the environment, makes the test binary the plugin, so that the
// tests call it as a container runtime does: as a process, many at a time.
const asPlugin = "AZURECNI_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		Main()
		return
	}
	os.Exit(m.Run())
}

const nodeMTU = 1450

// testNode is a node: a network namespace with eth0, and the plugin's files.
type testNode struct {
	t       *testing.T
	ns      netns.NsHandle
	cfg     Config
	bootID  string
	version string
}

func newNode(t *testing.T, ranges ...Range) *testNode {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root: makes network namespaces")
	}
	dir := t.TempDir()
	n := &testNode{t: t, ns: newNamespace(t), bootID: filepath.Join(dir, "boot_id"), version: conflistVersion}
	n.cfg = Config{Ranges: ranges, StateFile: filepath.Join(dir, "state", "ipam.json"), BootIDFile: n.bootID}
	n.boot("boot-1")
	n.in(n.ns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = "eth0", nodeMTU
		eth0 := netlink.NewVeth(attrs)
		eth0.PeerName = "fabric"
		if err := netlink.LinkAdd(eth0); err != nil {
			return fmt.Errorf("create eth0: %w", err)
		}
		for _, cidr := range []string{"10.1.0.4/16", "fd00:1::4/64"} {
			prefix := netip.MustParsePrefix(cidr)
			if err := netlink.AddrAdd(eth0, &netlink.Addr{IPNet: ipNet(prefix), Flags: 2 /* nodad */}); err != nil {
				return fmt.Errorf("add %s: %w", cidr, err)
			}
		}
		if err := netlink.LinkSetUp(eth0); err != nil {
			return err
		}
		return writeSysctl("net/ipv4/ip_forward", "1")
	})
	return n
}

// newNamespace makes a network namespace that lives until the test ends.
func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	own, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	var ns netns.NsHandle
	// Entering one's own namespace: inNamespace then brings the thread back
	// out of the one that is made.
	err = inNamespace(own, func() (err error) {
		if ns, err = netns.New(); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// in runs fn with the thread in ns.
func (n *testNode) in(ns netns.NsHandle, fn func() error) {
	n.t.Helper()
	if err := inNamespace(ns, fn); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) boot(id string) {
	n.t.Helper()
	if err := os.WriteFile(n.bootID, []byte(id+"\n"), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// testPod is a pod as the runtime sees it.
type testPod struct {
	id, name string
	ns       netns.NsHandle
}

func (n *testNode) pod(name string) testPod {
	n.t.Helper()
	return testPod{id: "container-of-" + name, name: name, ns: newNamespace(n.t)}
}

func (p testPod) netns() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(p.ns)) }

// conf is what libcni would pass on stdin, taken from the rendered conflist.
func (n *testNode) conf() []byte {
	n.t.Helper()
	var list struct {
		Plugins []map[string]json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(Conflist(n.cfg), &list); err != nil {
		n.t.Fatal(err)
	}
	conf := list.Plugins[0]
	conf["name"], conf["cniVersion"] = json.RawMessage(`"azure"`), json.RawMessage(`"`+n.version+`"`)
	data, err := json.Marshal(conf)
	if err != nil {
		n.t.Fatal(err)
	}
	return data
}

// answer is what the plugin printed: a result or an error.
type answer struct {
	CNIVersion string
	Interfaces []map[string]string
	IPs        []map[string]json.RawMessage
	Routes     []map[string]string
	Code       uint
	Msg        string
	Details    string
}

// call runs the plugin in the node's namespace. It may be called from any goroutine.
func (n *testNode) call(command string, p testPod, netnsPath string) (answer, error) {
	exe, err := os.Executable()
	if err != nil {
		return answer{}, err
	}
	cmd := exec.Command(exe)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(n.conf()), &stdout, &stderr
	cmd.Env = []string{
		asPlugin + "=1", "CNI_COMMAND=" + command, "CNI_CONTAINERID=" + p.id, "CNI_NETNS=" + netnsPath,
		"CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + p.name + ";K8S_POD_UID=u-1",
	}
	runErr := inNamespace(n.ns, cmd.Run)
	var got answer
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
			return answer{}, fmt.Errorf("decode %q: %w", stdout.String(), err)
		}
	}
	if runErr != nil {
		return got, fmt.Errorf("%s %s: %w: %s: %s; stderr %s", command, p.name, runErr, got.Msg, got.Details, stderr.String())
	}
	return got, nil
}

func (n *testNode) add(p testPod) answer {
	n.t.Helper()
	got, err := n.call("ADD", p, p.netns())
	if err != nil {
		n.t.Fatal(err)
	}
	return got
}

func (n *testNode) del(p testPod) {
	n.t.Helper()
	if _, err := n.call("DEL", p, p.netns()); err != nil {
		n.t.Fatal(err)
	}
}

// addresses are the addresses of a result, without their lengths.
func (a answer) addresses(t *testing.T) []netip.Addr {
	t.Helper()
	var addrs []netip.Addr
	for _, ip := range a.IPs {
		var cidr string
		if err := json.Unmarshal(ip["address"], &cidr); err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, netip.MustParsePrefix(cidr).Addr())
	}
	return addrs
}
