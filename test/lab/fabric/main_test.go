package fabric

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/netprobe"
	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/topology"
)

// Roles of the test binary beside that of starting the tests, by environment.
const (
	inNamespaces = "FABRIC_TEST_IN_NAMESPACES"
	asProbe      = "FABRIC_TEST_AS_PROBE"
)

// TestMain runs the tests in network and mount namespaces that end with them.
func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case os.Getenv(asProbe) != "":
		os.Exit(netprobe.Main(flag.Args()))
	case os.Getenv(inNamespaces) != "":
		if err := privateMounts(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case os.Geteuid() != 0:
		fmt.Fprintln(os.Stderr, "needs root: makes network namespaces")
		os.Exit(1)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespaces+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	runtime.LockOSThread() // the child dies with this thread
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintf(os.Stderr, "run the tests in namespaces: %v\n", err)
	}
	if err != nil {
		os.Exit(1)
	}
}

func privateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return nil
}

// twoClusters is a dual-stack lab of two clusters with two nodes each.
func twoClusters() topology.Lab {
	return topology.New(topology.Options{Clusters: []string{"west", "canada"}, Nodes: 2, DualStack: true, Iptables: "nft"})
}

// build builds the lab's network. Each node gets its first pod address on its
// loopback interface, as a pod would have it behind the node.
func build(t *testing.T, lab topology.Lab) *Fabric {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "netns")
	if err != nil {
		t.Fatal(err)
	}
	f := New(dir, lab)
	if err := f.Build(); err != nil {
		t.Fatal(err)
	}
	for _, c := range lab.Clusters {
		for _, n := range c.Nodes {
			attach(t, f, n)
		}
	}
	return f
}

func attach(t *testing.T, f *Fabric, n topology.Node) {
	t.Helper()
	if err := f.AttachNode(n); err != nil {
		t.Fatal(err)
	}
	err := f.at(n.Namespace, func(h *netlink.Handle) error {
		return addAddrs(h, "lo", []netip.Addr{n.Pods.V4.First, n.Pods.V6.First})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// probe asks targets from a namespace, by a process, because a probe's
// goroutines would not stay in the namespace.
func probe(t *testing.T, f *Fabric, from string, targets ...string) []netprobe.Result {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"probe", "--timeout=1s", "--"}, targets...)...)
	cmd.Env = append(os.Environ(), asProbe+"=1")
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := ns.Net(f.Path(from)).Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("probe from %s: %v: %s", from, err, complaint.String())
	}
	results, err := netprobe.ParseResults(&out)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func icmp(all ...netip.Addr) []string {
	var targets []string
	for _, a := range all {
		if a.Is6() {
			targets = append(targets, "icmp://["+a.String()+"]")
		} else {
			targets = append(targets, "icmp://"+a.String())
		}
	}
	return targets
}

// expect probes addresses and checks whether all, or none, of them answer.
func expect(t *testing.T, f *Fabric, from string, reachable bool, all ...netip.Addr) {
	t.Helper()
	for _, r := range probe(t, f, from, icmp(all...)...) {
		if r.OK != reachable {
			t.Errorf("from %s to %s: reachable %t, want %t (%s %s)", from, r.Target, r.OK, reachable, r.Kind, r.Error)
		}
	}
}

// arrives tells whether a datagram gets from one node to another: one way only,
// unlike a probe.
func arrives(t *testing.T, f *Fabric, from, to topology.Node) bool {
	t.Helper()
	var in *net.UDPConn
	var out net.Conn
	err := ns.Net(f.Path(to.Namespace)).Do(func() (err error) {
		in, err = net.ListenUDP("udp4", &net.UDPAddr{IP: to.Addresses.V4.AsSlice()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	err = ns.Net(f.Path(from.Namespace)).Do(func() (err error) {
		out, err = net.Dial("udp4", in.LocalAddr().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	for range 3 {
		if _, err := out.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := in.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Read(make([]byte, 16)); err == nil {
			return true
		}
	}
	return false
}

// neighbour is the link-layer address that a namespace has found out for an
// address; empty if nobody answered.
func neighbour(t *testing.T, f *Fabric, namespace string, a netip.Addr) string {
	t.Helper()
	found := ""
	err := f.at(namespace, func(h *netlink.Handle) error {
		all, err := h.NeighList(0, netlink.FAMILY_V4)
		for _, n := range all {
			if n.IP.Equal(a.AsSlice()) && n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) == 0 {
				found = n.HardwareAddr.String()
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func exists(f *Fabric, namespace string) bool {
	_, err := os.Stat(filepath.Join(f.dir, namespace))
	return err == nil
}

// linkNames are the interfaces of a namespace, sorted by number.
func linkNames(t *testing.T, f *Fabric, namespace string) string {
	t.Helper()
	var names []string
	err := f.at(namespace, func(h *netlink.Handle) error {
		links, err := h.LinkList()
		for _, l := range links {
			names = append(names, l.Attrs().Name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}
