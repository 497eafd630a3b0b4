package azurecni

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func range4() Range {
	return Range{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParseAddr("10.1.1.10"), netip.MustParseAddr("10.1.1.250")}
}

func range6() Range {
	return Range{netip.MustParsePrefix("fd00:1::/48"), netip.MustParseAddr("fd00:1:0:1::10"), netip.MustParseAddr("fd00:1:0:1::fa")}
}

func TestAddPrintsResultOfTransparentMode(t *testing.T) {
	n := newNode(t, range4(), range6())
	p := n.pod("web-0")
	got := n.add(p)
	var mac string
	n.in(p.ns, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err == nil {
			mac = eth0.Attrs().HardwareAddr.String()
		}
		return err
	})
	if want := []map[string]string{{"name": "eth0", "mac": mac}}; !cmp.Equal(want, got.Interfaces) {
		t.Errorf("interfaces: %s", cmp.Diff(want, got.Interfaces))
	}
	want := []map[string]string{
		{"version": `"4"`, "address": `"10.1.1.10/16"`, "gateway": `"10.1.0.1"`},
		{"version": `"6"`, "address": `"fd00:1:0:1::10/48"`, "gateway": `"fd00:1::1"`},
	}
	var ips []map[string]string
	for _, ip := range got.IPs {
		fields := map[string]string{}
		for k, v := range ip {
			fields[k] = string(v)
		}
		ips = append(ips, fields)
	}
	if !cmp.Equal(want, ips) {
		t.Errorf("ips, which have no interface index: %s", cmp.Diff(want, ips))
	}
	if got.CNIVersion != "0.3.0" {
		t.Errorf("cniVersion %q, want that of the conflist", got.CNIVersion)
	}
}

func TestAddLeavesAzuresTracesOnTheHost(t *testing.T) {
	n := newNode(t, range4(), range6())
	n.add(n.pod("web-0"))
	name := HostVethName("default", "web-0")
	n.in(n.ns, func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a := link.Attrs()
		if a.HardwareAddr.String() != hostMAC || a.MTU != nodeMTU || a.Flags&net.FlagUp == 0 {
			t.Errorf("%s has MAC %s, MTU %d, flags %s", name, a.HardwareAddr, a.MTU, a.Flags)
		}
		for key, want := range map[string]string{
			"net/ipv4/conf/" + name + "/proxy_arp": "1", "net/ipv6/conf/" + name + "/accept_ra": "0",
			"net/ipv6/conf/all/forwarding": "1",
		} {
			got, err := os.ReadFile("/proc/sys/" + key)
			if err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("%s is %q (%v), want %s", key, got, err, want)
			}
		}
		want := []string{"10.1.1.10/32 via - scope universe proto static", "fd00:1:0:1::10/128 via - scope universe proto static"}
		if got := routesOf(t, link); !cmp.Equal(want, got) {
			t.Errorf("host routes: %s", cmp.Diff(want, got))
		}
		return nil
	})
}

func TestAddConfiguresThePod(t *testing.T) {
	n := newNode(t, range4(), range6())
	p := n.pod("web-0")
	n.add(p)
	n.in(p.ns, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if link.Attrs().MTU != nodeMTU {
			t.Errorf("MTU %d, want the node's %d", link.Attrs().MTU, nodeMTU)
		}
		want := []string{
			"169.254.1.1/32 via - scope link proto static", "0.0.0.0/0 via 169.254.1.1 scope universe proto static",
			"fe80::1234:5678:9abc/128 via - scope universe proto static", "::/0 via fe80::1234:5678:9abc scope universe proto static",
		}
		if got := routesOf(t, link); !sameSet(want, got) {
			t.Errorf("pod routes %q, want %q", got, want)
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if a.Flags&unix.IFA_F_TENTATIVE != 0 {
				t.Errorf("%s is tentative: the pod cannot answer yet", a.IPNet)
			}
		}
		neighs, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		var got []string
		for _, ne := range neighs {
			if ne.State == netlink.NUD_PERMANENT {
				got = append(got, ne.IP.String()+" "+ne.HardwareAddr.String())
			}
		}
		if want := []string{gateway4 + " " + hostMAC, gateway6 + " " + hostMAC}; !sameSet(want, got) {
			t.Errorf("permanent neighbours %q, want %q", got, want)
		}
		return nil
	})
}

// routesOf lists the unicast routes by link in the main table, but for the
// kernel's own of link-local and multicast addresses.
func routesOf(t *testing.T, link netlink.Link) []string {
	t.Helper()
	var list []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(link, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Dst != nil && (r.Dst.String() == "fe80::/64" || r.Dst.IP.IsMulticast()) {
				continue
			}
			via := "-"
			if r.Gw != nil {
				via = r.Gw.String()
			}
			list = append(list, fmt.Sprintf("%s via %s scope %s proto %s", r.Dst, via, r.Scope, r.Protocol))
		}
	}
	return list
}

func sameSet(a, b []string) bool {
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	for _, c := range count {
		if c != 0 {
			return false
		}
	}
	return true
}

// ask sends a datagram from one namespace to an address in another one and
// returns the source address that arrived, after its way back too.
func ask(t *testing.T, from, to netns.NsHandle, dst netip.Addr) netip.Addr {
	t.Helper()
	const port = 7777
	var server, client *net.UDPConn
	enter := func(ns netns.NsHandle, fn func() error) {
		if err := inNamespace(ns, fn); err != nil {
			t.Fatal(err)
		}
	}
	enter(to, func() (err error) {
		server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, port)))
		return err
	})
	defer func() { _ = server.Close() }()
	enter(from, func() (err error) {
		client, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, port)))
		return err
	})
	defer func() { _ = client.Close() }()
	deadline := time.Now().Add(3 * time.Second)
	_, _ = server.SetDeadline(deadline), client.SetDeadline(deadline)
	buf := make([]byte, 16)
	if _, err := client.Write([]byte("ping")); err != nil {
		t.Fatalf("send to %s: %v", dst, err)
	}
	_, src, err := server.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatalf("receive at %s: %v", dst, err)
	}
	if _, err := server.WriteToUDPAddrPort([]byte("pong"), src); err != nil {
		t.Fatalf("answer %s: %v", src, err)
	}
	if _, err := client.Read(buf); err != nil {
		t.Fatalf("receive the answer of %s: %v", dst, err)
	}
	return src.Addr().Unmap()
}

func TestPodsAndNodeReachEachOtherAtOnceFromTheirOwnAddresses(t *testing.T) {
	n := newNode(t, range4(), range6())
	a, b := n.pod("a"), n.pod("b")
	addrsA, addrsB := n.add(a).addresses(t), n.add(b).addresses(t)
	nodeAddrs := []netip.Addr{netip.MustParseAddr("10.1.0.4"), netip.MustParseAddr("fd00:1::4")}
	for family := range 2 {
		for _, c := range []struct {
			what     string
			from, to netns.NsHandle
			src, dst netip.Addr
		}{
			{"pod to pod", a.ns, b.ns, addrsA[family], addrsB[family]},
			{"node to pod", n.ns, a.ns, nodeAddrs[family], addrsA[family]},
			{"pod to node", b.ns, n.ns, addrsB[family], nodeAddrs[family]},
		} {
			if got := ask(t, c.from, c.to, c.dst); got != c.src {
				t.Errorf("%s: %s saw source %s, want %s", c.what, c.dst, got, c.src)
			}
		}
	}
}

func TestDelRemovesRouteAndLeavesTheVethToTheNamespace(t *testing.T) {
	n := newNode(t, range4(), range6())
	p := n.pod("web-0")
	n.add(p)
	if _, err := n.call("CHECK", p, p.netns()); err == nil {
		t.Error("CHECK of a 0.3.0 configuration succeeded; that version has none")
	}
	n.del(p)
	n.in(n.ns, func() error {
		link, err := netlink.LinkByName(HostVethName("default", "web-0"))
		if err != nil {
			return fmt.Errorf("the veth must outlive DEL: %w", err)
		}
		if got := routesOf(t, link); len(got) != 0 {
			t.Errorf("routes left: %q", got)
		}
		return nil
	})
	n.del(p) // again
	if _, err := n.call("DEL", p, "/var/run/netns/gone"); err != nil {
		t.Errorf("DEL without its namespace: %v", err)
	}
	if _, err := n.call("DEL", n.pod("never-added"), ""); err != nil {
		t.Errorf("DEL of an unknown container: %v", err)
	}
	if err := os.RemoveAll(n.cfg.StateFile); err != nil {
		t.Fatal(err)
	}
	n.del(p)
}

func TestCheckSeesMissingRoute(t *testing.T) {
	n := newNode(t, range4())
	n.version = "1.0.0"
	p := n.pod("web-0")
	addr := n.add(p).addresses(t)[0]
	if _, err := n.call("CHECK", p, p.netns()); err != nil {
		t.Errorf("CHECK after ADD: %v", err)
	}
	n.in(n.ns, func() error {
		return removeHostRoutes(HostVethName("default", "web-0"), []netip.Addr{addr})
	})
	if _, err := n.call("CHECK", p, p.netns()); err == nil || !strings.Contains(err.Error(), "no route to "+addr.String()) {
		t.Errorf("CHECK without the route: %v", err)
	}
}

func TestPodMadeAgainReplacesTheStaleVethAndGetsANewAddress(t *testing.T) {
	n := newNode(t, range4(), range6())
	old := n.pod("web-0")
	oldAddrs := n.add(old).addresses(t)
	again := n.pod("web-0")
	again.id = "another"
	newAddrs := n.add(again).addresses(t) // before the old one's DEL
	for i := range newAddrs {
		if newAddrs[i] == oldAddrs[i] {
			t.Errorf("address %s given twice", newAddrs[i])
		}
	}
	n.in(old.ns, func() error {
		if _, err := netlink.LinkByName("eth0"); !isNotFound(err) {
			t.Errorf("the old pod's eth0 must be gone with its host end: %v", err)
		}
		return nil
	})
	n.del(old) // late: must not touch the successor
	ask(t, n.ns, again.ns, newAddrs[0])
	n.del(again)
	third := n.pod("web-0")
	if got, want := n.add(third).addresses(t)[0], oldAddrs[0].Next().Next(); got != want {
		t.Errorf("third address %s, want the next after the last given, %s", got, want)
	}
}

func TestAddToNamespaceWithEth0FailsAndChangesNothing(t *testing.T) {
	n := newNode(t, range4())
	p := n.pod("web-0")
	addr := n.add(p).addresses(t)[0]
	got, err := n.call("ADD", p, p.netns())
	if err == nil || !strings.Contains(got.Msg, "already has an interface eth0") {
		t.Errorf("second ADD: %v", err)
	}
	ask(t, n.ns, p.ns, addr)
}

func TestFailureMidwayRollsBack(t *testing.T) {
	n := newNode(t, range4())
	taken := range4().First
	n.in(n.ns, func() error { // the host route of the first address cannot be added
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(hostRoute(lo, taken))
	})
	p := n.pod("web-0")
	got, err := n.call("ADD", p, p.netns())
	if err == nil || !strings.Contains(got.Msg, "add route "+taken.String()) {
		t.Fatalf("ADD: %v", err)
	}
	n.in(n.ns, func() error {
		if _, err := netlink.LinkByName(HostVethName("default", "web-0")); !isNotFound(err) {
			t.Errorf("veth left after a failed ADD: %v", err)
		}
		return nil
	})
	state, err := os.ReadFile(n.cfg.StateFile)
	if err != nil || strings.Contains(string(state), p.id) {
		t.Errorf("allocation left after a failed ADD (%v): %s", err, state)
	}
	if got := n.add(p).addresses(t)[0]; got != taken.Next() {
		t.Errorf("ADD again gave %s, want %s", got, taken.Next())
	}
}

func TestTwentyAddsAtOnceGetTwentyAddresses(t *testing.T) {
	n := newNode(t, range4(), range6())
	const count = 20
	pods := make([]testPod, count)
	for i := range pods {
		pods[i] = n.pod(fmt.Sprintf("p-%d", i))
	}
	answers, errs := make([]answer, count), make([]error, count)
	var wg sync.WaitGroup
	for i := range pods {
		wg.Go(func() { answers[i], errs[i] = n.call("ADD", pods[i], pods[i].netns()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]bool{}
	for i, a := range answers {
		for _, addr := range a.addresses(t) {
			if seen[addr] {
				t.Errorf("%s given twice", addr)
			}
			seen[addr] = true
		}
		ask(t, n.ns, pods[i].ns, a.addresses(t)[i%2])
	}
	if len(seen) != 2*count {
		t.Errorf("%d addresses, want %d", len(seen), 2*count)
	}
}

func TestSingleStackPodHasNoIPv6Route(t *testing.T) {
	n := newNode(t, range4())
	p := n.pod("web-0")
	if got := n.add(p).addresses(t); len(got) != 1 {
		t.Fatalf("addresses %v, want one", got)
	}
	n.in(p.ns, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, r := range routesOf(t, link) {
			if strings.HasPrefix(r, "::/0") || strings.HasPrefix(r, "fe80::1234") {
				t.Errorf("route %s in a pod without an IPv6 address", r)
			}
		}
		return nil
	})
}

func TestClearErrors(t *testing.T) {
	n := newNode(t, range4())
	p := n.pod("web-0")
	if got, err := n.call("ADD", p, "/var/run/netns/gone"); err == nil || !strings.Contains(got.Msg, "/var/run/netns/gone does not exist") {
		t.Errorf("ADD without its namespace: %v", err)
	}
	n.cfg.Master = "eth9"
	if got, err := n.call("ADD", p, p.netns()); err == nil || !strings.Contains(got.Msg, "interface eth9 for its MTU") {
		t.Errorf("ADD on a node without the interface: %v", err)
	}
	if _, err := os.Stat(n.cfg.StateFile); errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state file must be there after a roll back: %v", err)
	}
}
