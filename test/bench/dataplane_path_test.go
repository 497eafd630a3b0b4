package bench

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/dataplane/conntrack"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
	"github.com/overland-net/overland/pkg/pset"
)

const (
	rounds    = 15
	localPods = 250
	// crowd is how many members the sets have that a packet's path asks.
	crowd = 10_000
)

// floor is a rule that needs conntrack: beside kube-proxy there is no node
// without it.
const floor = "iptables-%s -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"

// handmade is a State made by hand.
type handmade struct {
	rules desired.Rules
	sets  pset.Map[desired.SetID, desired.Members]
}

func (h *handmade) set(what string, members ...netip.Addr) desired.Rule {
	text := "bench v1 " + what
	spec := desired.SetSpec{ID: desired.SetIDOf(desired.IPv4, text), Kind: desired.Addresses, Family: desired.IPv4, Text: text}
	edit := pset.Set[netip.Addr]{}.Edit()
	for _, a := range members {
		edit.Add(a)
	}
	h.rules.Sets = append(h.rules.Sets, spec)
	h.sets = h.sets.With(spec.ID, desired.Members{Addrs: edit.Done()})
	return desired.Rule{Family: desired.IPv4, Peer: desired.Peer{Set: spec.ID}}
}

func on(p model.Protocol, port uint16, r desired.Rule) desired.Rule {
	r.Protocol, r.First, r.Last = p, port, port
	return r
}

func isolated(rules []desired.Rule) *desired.Side {
	key := model.PolicyKey(localCluster, "bench", "policy")
	s := &desired.Side{List: desired.NewList(rules), Policies: []model.Key{key}}
	for i := range s.List.Rules {
		s.Origins = append(s.Origins, []desired.Origin{{Policy: key, Rule: i, Peer: -1, Port: -1}})
	}
	return s
}

func (h *handmade) state() *desired.State {
	rules := h.rules
	slices.SortFunc(rules.Endpoints, func(a, b desired.Endpoint) int { return cmp.Compare(a.Interface.Name, b.Interface.Name) })
	slices.SortFunc(rules.Sets, func(a, b desired.SetSpec) int { return cmp.Compare(a.ID, b.ID) })
	return &desired.State{Gen: 1, Rules: &rules, Sets: h.sets}
}

// pathPolicy is what one side of the path allows. Its last rule that is about
// UDP is the only one that lets a packet of the loads pass; there are five, all
// sides counted ten, that such a packet walks through.
type pathPolicy func(h *handmade, side string, peer netip.Addr) []desired.Rule

// byPort: each rule is about another port, so that one a side asks a set. Two are
// about TCP.
func byPort(h *handmade, side string, peer netip.Addr) []desired.Rule {
	var rules []desired.Rule
	for i := range uint16(3) {
		match := h.set(fmt.Sprint(side, i), slices.Insert(strangers(), 0, peer)...)
		rules = append(rules, on(model.UDP, pathPort-2+i, match))
		if i > 0 {
			rules = append(rules, on(model.TCP, pathPort-2+i, match))
		}
	}
	return rules
}

// bySet: all rules are about the same port and each asks its set, the last one
// with success.
func bySet(h *handmade, side string, peer netip.Addr) []desired.Rule {
	var rules []desired.Rule
	for i := range 5 {
		rules = append(rules, on(model.UDP, pathPort, h.set(fmt.Sprint(side, i), strangers()...)))
	}
	last := desired.NewList(rules).Rules[4].Peer.Set
	m, _ := h.sets.Get(last)
	m.Addrs = m.Addrs.With(peer)
	h.sets = h.sets.With(last, m)
	return append(rules, on(model.TCP, pathPort, desired.Rule{Family: desired.IPv4, Peer: desired.Peer{Set: last}}))
}

// strangers are addresses of the mesh.
func strangers() []netip.Addr {
	all := make([]netip.Addr, crowd)
	for i := range all {
		all[i] = numberedAddress(1<<20 + i)
	}
	return all
}

func iface(pod string) string { return policy.InterfaceName("bench", pod) }

// pathState is that of a node with 250 pods, all with policy, of which two are
// real: the client and the server.
func pathState(p pathPolicy, client, server netip.Addr) *desired.State {
	h := &handmade{rules: desired.Rules{Protected: true}}
	out, in := isolated(p(h, "out", server)), isolated(p(h, "in", client))
	other := make([]*desired.Side, 10)
	for i := range other {
		other[i] = isolated([]desired.Rule{on(model.TCP, uint16(1+i), h.set(fmt.Sprint("other", i), numberedAddress(i)))})
	}
	for i := range localPods {
		name, address := fmt.Sprint("pod-", i), numberedAddress(1<<16+i)
		e := desired.Endpoint{Ingress: other[i%10], Egress: other[i*3%10]}
		switch i {
		case 0:
			name, address = "client", client
			e.Egress = out
		case 1:
			name, address = "server", server
			e.Ingress = in
		}
		e.Interface = model.Interface{Name: iface(name), Index: 10 + i, Addrs: []netip.Addr{address}}
		e.Pod, e.UID, e.Addrs = model.PodKey(localCluster, "bench", name), numberedUID(i), []netip.Addr{address}
		h.rules.Endpoints = append(h.rules.Endpoints, e)
	}
	return h.state()
}

// track is one configuration of a node between two pods.
type track struct {
	name, base string // base: the one that it is compared with
	backend    string
	kubelet    bool // with the table that the kubelet makes on every node
	policy     pathPolicy
	space      *space
	ends       *ends
	conns      *conntrack.Conn
	figures    map[string][]float64 // ns, by load, one a round
}

func tracks() []*track {
	return []*track{
		{name: "forwarding-only", base: "conntrack-legacy"},
		{name: "conntrack-legacy", base: "conntrack-legacy", backend: iptables.BackendLegacy},
		{name: "conntrack-legacy-kubelet", base: "conntrack-legacy", backend: iptables.BackendLegacy, kubelet: true},
		{name: "conntrack-nft", base: "conntrack-nft", backend: iptables.BackendNFT},
		{name: "policy-legacy", base: "conntrack-legacy", backend: iptables.BackendLegacy, policy: byPort},
		{name: "policy-nft", base: "conntrack-nft", backend: iptables.BackendNFT, policy: byPort},
		{name: "policy-legacy-10-sets", base: "conntrack-legacy", backend: iptables.BackendLegacy, policy: bySet},
		{name: "policy-nft-10-sets", base: "conntrack-nft", backend: iptables.BackendNFT, policy: bySet},
	}
}

// build makes the node: one pod, the node, the other pod.
func (c *track) build(b *testing.B) {
	client, server := netip.MustParseAddr("10.1.1.10"), netip.MustParseAddr("10.1.1.11")
	c.space, c.figures = newSpace(b), map[string][]float64{}
	c.space.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0")
	c.space.pod("client", iface("client"), client.String())
	c.space.pod("server", iface("server"), server.String())
	if c.backend != "" {
		c.space.run(fmt.Sprintf(floor, c.backend))
		if c.kubelet {
			c.space.run(fmt.Sprintf("iptables-%s -t mangle -N KUBE-KUBELET-CANARY", c.backend))
		}
		c.space.do(func() {
			var err error
			if c.conns, err = conntrack.Dial(); err != nil {
				b.Fatal(err)
			}
		})
		b.Cleanup(func() { _ = c.conns.Close() }) // nothing is written through it any more
	}
	if c.policy != nil {
		want := pathState(c.policy, client, server)
		if err := want.Validate(); err != nil {
			b.Fatal(err)
		}
		d := newDataplane(c.space.open(c.backend, false), false)
		c.space.apply(d, want)
	}
	c.ends = openEnds(c.space, client, server)
}

// visit takes each load's figure of a round.
func (c *track) visit(b *testing.B) {
	sockets := opened(c.space, "client", openSockets)
	for _, load := range []struct {
		name string
		run  func() ([]time.Duration, error)
		of   func([]time.Duration) time.Duration
	}{
		{"established", c.ends.established, tenth},
		{"ping-pong", c.ends.pingPong, median[time.Duration]},
		{"connect", func() ([]time.Duration, error) { return c.ends.connect(sockets) }, tenth},
		{"first", c.ends.first, tenth},
	} {
		all, err := load.run()
		if err != nil {
			b.Fatalf("%s: %s: %v", c.name, load.name, err)
		}
		c.figures[load.name] = append(c.figures[load.name], float64(load.of(all)))
	}
	if c.conns != nil {
		if _, err := c.conns.Delete(b.Context(), conntrack.Filter{All: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDataplanePath is what a packet costs between two pods of a node, with
// policy on 250 of its pods and ten rules on the way, each asked of 10,000
// addresses where it asks: of an established flow (UDP), of a TCP exchange, of a
// whole TCP connection, and the first packet of a flow (UDP). Ratios are to a
// node that only tracks connections, in the same backend; beside it stands one
// that has the kubelet's table too, which the policy's rules use. Each is the median of the rounds' and, as
// "of-minima", that of the shortest times. Figures of packets and connections are
// tenths, from below, so that they are those of an undisturbed processor.
func BenchmarkDataplanePath(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := tracks()
	once(b, func() {
		for _, c := range all {
			c.build(b)
		}
		release := pin(b)
		defer release()
		for range rounds {
			for _, i := range rand.Perm(len(all)) {
				all[i].visit(b)
			}
		}
	})
	for _, c := range all {
		base := all[slices.IndexFunc(all, func(o *track) bool { return o.name == c.base })]
		b.Run(c.name, func(b *testing.B) {
			once(b, func() {})
			for _, load := range []string{"established", "ping-pong", "connect", "first"} {
				compare(b, load, c.figures[load], base.figures[load])
			}
		})
	}
}

// compare reports figures of rounds beside those of a baseline in the same
// rounds.
func compare(b *testing.B, name string, these, base []float64) {
	ratios := make([]float64, len(these))
	for i := range these {
		ratios[i] = these[i] / base[i]
	}
	b.ReportMetric(median(these), "ns-"+name)
	b.ReportMetric(median(ratios), "x-"+name)
	b.ReportMetric(slices.Min(these)/slices.Min(base), "x-"+name+"-of-minima")
}

// pin keeps this thread, and so both ends of the loads, on one processor.
func pin(b *testing.B) (release func()) {
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		b.Fatal(err)
	}
	for cpu := range 1024 {
		if old.IsSet(cpu) {
			one.Set(cpu) // the last one: interrupts are for the first, mostly
		}
	}
	for cpu := range 1024 {
		if one.Count() > 1 {
			one.Clear(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		b.Fatal(err)
	}
	return func() {
		if err := unix.SchedSetaffinity(0, &old); err != nil {
			b.Error(strings.TrimSpace("the thread stays on its processor: " + err.Error()))
		}
	}
}
