package iptables_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/dataplane/dataplanetest"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// onKernel runs a test with the real kernel, in namespaces of its own, on both
// backends.
func onKernel(t *testing.T, run func(t *testing.T, k iptables.Kernel)) {
	for _, backend := range []string{iptables.BackendLegacy, iptables.BackendNFT} {
		t.Run(backend, func(t *testing.T) {
			nfnltest.Isolate(t)
			s, err := iptables.Open(context.Background(), iptables.SystemConfig{Backend: backend, IPv6: true, LockTimeout: time.Second}, quiet())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			run(t, s)
		})
	}
}

// settle applies until nothing is left to do.
func settle(t testing.TB, d dataplane.Dataplane, s *desired.State) (sum dataplane.Report) {
	t.Helper()
	const most = 50
	for range most {
		r, err := d.Apply(context.Background(), s)
		if err != nil || !r.Applied {
			t.Fatalf("not in force: %+v: %v", r, err)
		}
		sum.Transactions += r.Transactions
		sum.SetsCreated += r.SetsCreated
		sum.SetsRemoved += r.SetsRemoved
		sum.Added += r.Added
		sum.Deleted += r.Deleted
		sum.Swept += r.Swept
		sum.Raised = sum.Raised || r.Raised
		sum.Repaired = append(sum.Repaired, r.Repaired...)
		sum.Problems = r.Problems
		if r.Retry == 0 {
			return sum
		}
		time.Sleep(r.Retry)
	}
	t.Fatalf("never done: %+v", sum)
	return sum
}

// unchanged fails if there is anything to do for a State that is in force.
func unchanged(t testing.TB, d dataplane.Dataplane, s *desired.State) {
	t.Helper()
	for _, forget := range []bool{false, true} {
		if forget {
			d.Forget()
		}
		r := settle(t, d, s)
		if r.Transactions+r.SetsCreated+r.SetsRemoved+r.Added+r.Deleted > 0 || r.Raised || len(r.Repaired)+len(r.Problems) > 0 {
			t.Fatalf("all read again, %t: %+v\n%s", forget, r, s.Text())
		}
	}
}

// TestEveryRuleIsReadBackAsItWasWritten compares the text of what was compiled
// with what iptables-save prints, for every form of rule, and sets with theirs.
func TestEveryRuleIsReadBackAsItWasWritten(t *testing.T) {
	onKernel(t, func(t *testing.T, k iptables.Kernel) {
		for _, mask := range []uint32{0, 0x0ff0, 0xffffffff} {
			d := iptables.New(iptables.Config{IPv6: true, Mask: mask}, k, quiet())
			settle(t, d, everything())
			unchanged(t, d, everything())
		}
	})
}

// TestChangesOnTheRealKernel walks through States: each is read back as it was
// written, a new life finds nothing to do but to judge all connections again,
// and at the end all that is ours can be removed.
func TestChangesOnTheRealKernel(t *testing.T) {
	states := 25
	if testing.Short() {
		states = 8
	}
	onKernel(t, func(t *testing.T, k iptables.Kernel) {
		cfg := iptables.Config{IPv6: true}
		d := iptables.New(cfg, k, quiet())
		walk := dataplanetest.NewStates(rand.New(rand.NewPCG(1, 1)))
		for range states {
			s := walk.Next()
			settle(t, d, s)
			unchanged(t, d, s)
			d = iptables.New(cfg, k, quiet())
			if r := settle(t, d, s); r.Transactions != 2 || !r.Raised || r.Added+r.Deleted+r.SetsCreated+r.SetsRemoved+len(r.Repaired) > 0 {
				t.Fatalf("a new life: %+v", r)
			}
		}
		for range 2 {
			if err := d.Remove(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		for _, command := range []string{"iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save", "ipset save"} {
			if out := nfnltest.Run(t, "", strings.Fields(command)...); strings.Contains(strings.ToLower(out), "ovl") {
				t.Errorf("left over: %s:\n%s", command, out)
			}
		}
	})
}

// podLink makes a pod's link as Azure CNI does: a namespace of that name, the
// node's end azvNAME and a route to the pod's address.
func podLink(t *testing.T, name string, own ...string) {
	t.Helper()
	const mac = "02:00:00:00:00:01"
	iface := "azv" + name
	for _, command := range []string{
		"sysctl -qw net.ipv6.conf.default.accept_dad=0",
		"ip netns add " + name,
		"ip netns exec " + name + " sysctl -qw net.ipv6.conf.default.accept_dad=0",
		"ip link add " + iface + " type veth peer name eth0 netns " + name,
		"ip link set " + iface + " address " + mac + " up",
		"ip -n " + name + " link set lo up",
		"ip -n " + name + " link set eth0 up",
	} {
		nfnltest.Run(t, "", strings.Fields(command)...)
	}
	for _, a := range own {
		addr := netip.MustParseAddr(a)
		gateway, nodad := "169.254.1.1", ""
		if addr.Is6() {
			gateway, nodad = "fe80::1234:5678:9abc", " nodad"
		}
		for _, command := range []string{
			fmt.Sprintf("ip route add %s/%d dev %s", addr, addr.BitLen(), iface),
			fmt.Sprintf("ip -n %s addr add %s/%d dev eth0%s", name, addr, addr.BitLen(), nodad),
			fmt.Sprintf("ip -n %s neigh add %s lladdr %s dev eth0 nud permanent", name, gateway, mac),
			fmt.Sprintf("ip -n %s route add default via %s dev eth0 onlink", name, gateway),
		} {
			nfnltest.Run(t, "", strings.Fields(command)...)
		}
	}
}

// echo answers what comes to a UDP port of a namespace, until the test ends.
func echo(t *testing.T, netns, addr string, port uint16) {
	t.Helper()
	var conn net.PacketConn
	open := func() (err error) {
		conn, err = net.ListenPacket("udp", netip.AddrPortFrom(netip.MustParseAddr(addr), port).String())
		return err
	}
	if netns == "" {
		if err := open(); err != nil {
			t.Fatal(err)
		}
	} else {
		nfnltest.Enter(t, netns, open)
	}
	t.Cleanup(func() { _ = conn.Close() }) // ends the loop
	go func() {
		buffer := make([]byte, 64)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buffer[:n], from) // dropped is as good as denied
		}
	}()
}

// flow is a UDP connection that goes on.
type flow struct{ net.Conn }

func client(t *testing.T, netns, from, to string) flow {
	t.Helper()
	var f flow
	nfnltest.Enter(t, netns, func() (err error) {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
		f.Conn, err = d.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(to), 53).String())
		return err
	})
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// answered asks until there is an answer. Where none is expected it is not so
// patient.
func (f flow) answered(t *testing.T, what string, want bool) {
	t.Helper()
	tries := 2
	if want {
		tries = 50
	}
	buffer := make([]byte, 64)
	got := false
	for ; tries > 0 && !got; tries-- {
		if _, err := f.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		if err := f.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := f.Read(buffer)
		got = err == nil
	}
	if got != want {
		t.Errorf("%s: %s to %s: answered %t", what, f.LocalAddr(), f.RemoteAddr(), got)
	}
}

// TestPacketsOnTheRealKernel sends packets between two pods and their node:
// what a State denies stops, also what runs already, and what it allows goes on.
func TestPacketsOnTheRealKernel(t *testing.T) {
	const (
		a, b   = "aaaaaaaaaa1", "bbbbbbbbbb1"
		a4, b4 = "10.1.0.1", "10.1.0.2"
		a6, b6 = "fd00:1::1", "fd00:1::2"
		node4  = "10.3.0.1"
	)
	onKernel(t, func(t *testing.T, k iptables.Kernel) {
		for _, s := range []string{"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"} {
			nfnltest.Run(t, "", "sysctl", "-qw", s)
		}
		podLink(t, a, a4, a6)
		podLink(t, b, b4, b6)
		nfnltest.Run(t, "", strings.Fields("ip addr add "+node4+"/32 dev lo")...)
		echo(t, b, b4, 53)
		echo(t, b, b6, 53)
		echo(t, "", node4, 53)
		check := func(what string, v4, v6, node bool) {
			t.Helper()
			client(t, a, a4, b4).answered(t, what, v4)
			client(t, a, a6, b6).answered(t, what, v6)
			client(t, a, a4, node4).answered(t, what, node)
		}
		check("without rules", true, true, true)
		d := iptables.New(iptables.Config{IPv6: true}, k, quiet())
		settle(t, d, desired.Skeleton())
		check("skeleton", false, false, true)

		w := &world{rules: desired.Rules{Protected: true}}
		db4 := w.addresses(desired.IPv4, "app=db", b4)
		out := side(on(model.UDP, 53, 53, inSet(db4)))
		w.pod(a, nil, out, a4, a6)
		w.pod(b, side(block("0.0.0.0/0")), nil, b4, b6)
		s := w.state()
		settle(t, d, s)
		check("allowed by a set, in one family", true, false, true)

		live := w.rules
		live.OwnNodeEgress = true
		own := &desired.State{Gen: s.Gen + 1, Rules: &live, Sets: s.Sets}
		settle(t, d, own)
		check("with egress to the own node", true, false, false)

		conn := client(t, a, a4, b4)
		conn.answered(t, "the connection that runs", true)
		w.rules = live
		gone := w.members(own, db4)
		if r := settle(t, d, gone); r.Transactions > 0 || r.Swept == 0 {
			t.Errorf("a member that left: %+v", r)
		}
		conn.answered(t, "the connection that runs", false)
		check("without the member", false, false, false)
		settle(t, d, w.members(gone, db4, b4))
		conn.answered(t, "the connection that runs", true)
		if err := d.Remove(context.Background()); err != nil {
			t.Fatal(err)
		}
		check("removed", true, true, true)
	})
}
