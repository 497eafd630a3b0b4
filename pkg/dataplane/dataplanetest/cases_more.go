package dataplanetest

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

func families() []desired.Family { return []desired.Family{desired.IPv4, desired.IPv6} }

func (s *subject) must(err error) {
	s.t.Helper()
	if err != nil {
		s.fatalf("%v", err)
	}
}

// preload puts there what other programs have, and tells what it is.
func (s *subject) preload() string {
	s.t.Helper()
	for _, f := range families() {
		s.must(s.k.Edit(f, "mangle",
			"-N KUBE-PROXY-CANARY", "-N OTHER-FORWARD", "-A OTHER-FORWARD -p tcp -m tcp --dport 8443 -j ACCEPT",
			"-A FORWARD -m comment --comment \"another agent's\" -j OTHER-FORWARD",
			"-A POSTROUTING -m mark --mark 0x4000/0x4000 -j CONNMARK --set-xmark 0x4000/0x4000",
		))
		s.must(s.k.Edit(f, "filter", "-N KUBE-FORWARD", "-A FORWARD -j KUBE-FORWARD", "-A KUBE-FORWARD -j ACCEPT"))
		s.must(s.k.Edit(f, "raw", "-N OTHER-RAW", "-A PREROUTING -j OTHER-RAW"))
		h := iptables.SetHeader{Name: "ovl" + f.String(), Type: iptables.HashNet, Family: f}
		s.must(s.k.EditSet(iptables.SetChange{Op: iptables.CreateSet, Set: h}))
		bits := map[desired.Family]uint8{desired.IPv4: 24, desired.IPv6: 64}[f]
		s.must(s.k.EditSet(iptables.SetChange{Op: iptables.AddElements, Set: h, Elements: slices.Values([]iptables.Element{
			{Addr: allAddrs(f)[0], Bits: bits},
		})}))
	}
	return s.k.Foreign()
}

func foreign(t *testing.T, open Factory) {
	n, length := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, 0)
		others := s.preload()
		states := NewStates(s.rng)
		for range length {
			if s.rng.IntN(3) == 0 {
				s.k.KillAfter(1+s.rng.IntN(14), Effect(s.rng.IntN(3)))
			}
			s.settle(states.Next())
			if now := s.k.Foreign(); now != others {
				s.fatalf("foreign things have changed from\n%s\nto\n%s", others, now)
			}
		}
	}
}

// generation finds what differs between two lives of equal rules.
func generation() *regexp.Regexp { return regexp.MustCompile(`0x[0-9a-f]+/0xff000000`) }

func restarts(t *testing.T, open Factory) {
	n, _ := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, -1)
		states := NewStates(s.rng)
		s.settle(states.Next())
		for range 3 {
			want := states.Next()
			s.settle(want)
			s.connect(12)
			before := s.k.Dump()
			s.dp = s.open(t, s.k)
			r := s.settle(want)
			// One transaction a family, in which the generation is raised.
			if r.Transactions > len(families()) || r.Added+r.Deleted+r.SetsCreated+r.SetsRemoved > 0 {
				s.fatalf("a restart: %+v", r)
			}
			after := s.k.Dump()
			if generation().ReplaceAllString(before, "G") != generation().ReplaceAllString(after, "G") {
				s.fatalf("a restart has changed\n%s\nto\n%s", before, after)
			}
		}
	}
}

func leftovers(t *testing.T, open Factory) {
	n, _ := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, 0)
		states := NewStates(s.rng)
		if seed%2 == 0 {
			s.settle(states.Next())
		}
		for _, f := range families() {
			name := "ovl4-leftover"
			if f == desired.IPv6 {
				name = "ovl6-leftover"
			}
			h := iptables.SetHeader{Name: name, Type: iptables.HashIP, Family: f}
			s.must(s.k.EditSet(iptables.SetChange{Op: iptables.CreateSet, Set: h}))
			s.must(s.k.EditSet(iptables.SetChange{Op: iptables.AddElements, Set: h, Elements: slices.Values([]iptables.Element{
				{Addr: allAddrs(f)[0]},
			})}))
			s.must(s.k.Edit(f, "mangle", "-N OVL-PE-OLD", "-N OVL-OLD", "-A OVL-OLD -g OVL-PE-OLD",
				"-A OVL-PE-OLD -m set --match-set "+name+" src -j RETURN", "-A OVL-PE-OLD -j DROP"))
			s.must(s.k.Edit(f, "raw", "-N OVL-OLD-SOURCE", "-A OVL-OLD-SOURCE -j RETURN"))
		}
		s.dp = s.open(t, s.k)
		s.settle(states.Next())
		s.k.OneIn(0)
		s.settle(states.Next())
		s.clean()
	}
}

// ourHooks are the rules of built-in chains that lead to ours.
func (s *subject) ourHooks(f desired.Family) map[string][]string {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	list := map[string][]string{}
	for _, t := range s.k.families[f].tables {
		for _, chain := range t.builtin {
			for _, r := range t.chains[chain] {
				if ours(r.target.chain) {
					list[t.name] = append(list[t.name], chain+" "+r.String())
				}
			}
		}
	}
	return list
}

func hooks(t *testing.T, open Factory) {
	n, _ := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, -1)
		states := NewStates(s.rng)
		want := states.Next()
		s.settle(want)
		s.connect(8)
		f := families()[s.rng.IntN(2)]
		for table, list := range s.ourHooks(f) {
			for _, h := range list {
				chain, _, _ := strings.Cut(h, " ")
				if seed%2 == 0 {
					s.must(s.k.Edit(f, table, "-D "+h))
				} else {
					s.must(s.k.Edit(f, table, "-I "+chain+" -j ACCEPT"))
				}
				// It is seen by the check that the loop makes every 5 s. Until then
				// the others' rule is in force: nothing can be promised.
				time.Sleep(5 * time.Second)
				s.pending = nil
				r := s.settle(want)
				if len(r.Repaired)+len(r.Problems) == 0 {
					s.fatalf("%s of %s was gone or not the first any more, and nobody is told: %+v", h, table, r)
				}
			}
		}
		s.settle(states.Next())
	}
}

func drift(t *testing.T, open Factory) {
	n, length := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, -1)
		states := NewStates(s.rng)
		for range length {
			want := states.Next()
			s.settle(want)
			if !s.damage(want) {
				continue
			}
			// What passes now by mistake is found again when it is mended.
			s.mistaken(want)
			s.pending, s.raised = nil, false
			s.dp.Forget()
			r := s.settle(want)
			if len(r.Repaired) == 0 {
				s.fatalf("repaired, and nobody is told: %+v", r)
			}
		}
		s.clean()
	}
}

// damage changes something of ours behind the dataplane's back.
func (s *subject) damage(want *desired.State) bool {
	s.t.Helper()
	f := families()[s.rng.IntN(2)]
	if s.rng.IntN(2) == 0 {
		return s.damageSet(want, f)
	}
	mangle := s.k.families[f].tables["mangle"]
	var chains []string
	for c, rules := range mangle.chains {
		if ours(c) && len(rules) > 0 {
			chains = append(chains, c)
		}
	}
	slices.Sort(chains)
	chain := chains[s.rng.IntN(len(chains))]
	rules := mangle.chains[chain]
	switch s.rng.IntN(3) {
	case 0:
		s.must(s.k.Edit(f, "mangle", "-D "+chain+" "+rules[s.rng.IntN(len(rules))].String()))
	case 1:
		s.must(s.k.Edit(f, "mangle", "-I "+chain+" -j ACCEPT"))
	default:
		s.must(s.k.Edit(f, "mangle", "-F "+chain))
	}
	return true
}

func (s *subject) damageSet(want *desired.State, f desired.Family) bool {
	s.t.Helper()
	var specs []desired.SetSpec
	for _, spec := range want.Rules.Sets {
		if spec.Family == f && spec.Kind == desired.Addresses {
			specs = append(specs, spec)
		}
	}
	if len(specs) == 0 {
		return false
	}
	spec := specs[s.rng.IntN(len(specs))]
	m, _ := want.Sets.Get(spec.ID)
	addrs := allAddrs(f)
	a := addrs[s.rng.IntN(len(addrs))]
	op := iptables.AddElements
	if m.Addrs.Has(a) {
		op = iptables.DeleteElements
	}
	s.must(s.k.EditSet(iptables.SetChange{
		Op: op, Set: iptables.SetHeader{Name: string(spec.ID)}, Elements: slices.Values([]iptables.Element{{Addr: a}}),
	}))
	return true
}

// mistaken makes connections that pass now though the State denies them. They
// are ended when the damage is mended.
func (s *subject) mistaken(want *desired.State) {
	all := flows(want)
	found := 0
	for _, i := range s.rng.Perm(len(all)) {
		f := all[i]
		if f.To.Node || s.known(f) || !consistent(s.k, f) || f.From == f.To && f.From.Interface == "" || want.Verdict(f).Allowed {
			continue
		}
		if p := packet(f); s.k.Send(p).Passed {
			s.live = append(s.live, live{flow: f, oneWay: !s.k.Send(p.Reverse()).Passed})
			const enough = 5
			if found++; found == enough {
				return
			}
		}
	}
}

func ownNode(t *testing.T, open Factory) {
	s := newSubject(t, open, 1, -1)
	w := newFixed(s)
	for i := range 2 {
		w.slots[i].ingress, w.slots[i].egress = side(), side()
	}
	for _, policy := range []bool{false, true} {
		s.settle(w.state(true, policy))
		for i, pod := range localAddrs(0) {
			node, name := nodeAddrs()[i], interfaceNames()[0]
			to := pairOf(s.k, pod, node, model.TCP, 10250)
			s.passes("a pod to its node", !policy, s.k.ProbeNew(packet(to)))
			// The kubelet's probe has left by OUTPUT; here is the answer.
			probe := Packet{In: name, Src: pod, Dst: node, Protocol: model.TCP, SrcPort: 80, DstPort: clientPort}
			conn := Conn{
				Protocol: model.TCP, Src: netip.AddrPortFrom(node, clientPort), Dst: netip.AddrPortFrom(pod, 80),
				Real: netip.AddrPortFrom(pod, 80),
			}
			s.passes("an answer to the node's probe", true, s.k.ProbeWith(probe, conn))
			self := pairOf(s.k, pod, pod, model.TCP, 80)
			s.passes("a pod to itself", true, s.k.ProbeNew(packet(self)))
			other := pairOf(s.k, pod, localAddrs(1)[i], model.TCP, 80)
			s.passes("a pod to another", false, s.k.ProbeNew(packet(other)))
			s.relatedErrors(pod, i)
		}
		s.discovery(policy)
	}
}

func (s *subject) passes(what string, want bool, f Fate) {
	s.t.Helper()
	if f.Passed != want {
		s.fatalf("%s: passed %t, want %t\n%s", what, f.Passed, want, f)
	}
}

// relatedErrors are about a connection, and come from a router or from a pod.
func (s *subject) relatedErrors(pod netip.Addr, i int) {
	s.t.Helper()
	p := model.Protocol(1)
	if pod.Is6() {
		p = 58
	}
	about := packet(pairOf(s.k, pod, remoteAddrs()[i], model.TCP, 80))
	conn := connection(pairOf(s.k, pod, remoteAddrs()[i], model.TCP, 80), 0)
	in := Packet{In: Uplink, Out: about.In, Src: remoteAddrs()[4+i], Dst: pod, Protocol: p, ICMPType: 3, Error: &about}
	s.passes("an ICMP error", true, s.k.ProbeWith(in, conn))
	s.passes("an ICMP error about nothing", false, s.k.ProbeNew(in))
	spoofed := Packet{
		In: about.In, Out: Uplink, Src: remoteAddrs()[4+i], Dst: remoteAddrs()[i], Protocol: p, ICMPType: 3, Error: &about,
	}
	s.passes("a spoofed ICMP error", false, s.k.ProbeWith(spoofed, conn))
}

// discovery is what keeps a link working; forwarded, it is like anything else.
func (s *subject) discovery(policy bool) {
	s.t.Helper()
	const icmp6 model.Protocol = 58
	name := interfaceNames()[0]
	link, routers := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::2")
	ask := Packet{In: name, Src: link, Dst: routers, Protocol: icmp6, ICMPType: 135, HopLimit: 255}
	s.passes("neighbour discovery", true, s.k.ProbeNew(ask))
	report := Packet{In: name, Src: netip.IPv6Unspecified(), Dst: routers, Protocol: icmp6, ICMPType: 143, HopLimit: 1}
	s.passes("a multicast listener's report", true, s.k.ProbeNew(report))
	far := ask
	far.Src, far.Dst, far.ICMPType, far.HopLimit = localAddrs(0)[1], nodeAddrs()[1], 128, 64
	s.passes("an echo request to the node", !policy, s.k.ProbeNew(far))
	forwarded := far
	forwarded.Out, forwarded.Dst, forwarded.ICMPType, forwarded.HopLimit = Uplink, remoteAddrs()[1], 135, 255
	s.passes("forwarded neighbour discovery", false, s.k.ProbeNew(forwarded))
}
