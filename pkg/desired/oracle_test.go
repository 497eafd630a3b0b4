package desired

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

// slowVerdict is the meaning once more, written from the specification: one
// question after the other, prefixes as strings of bits, no search but from
// beginning to end.
func slowVerdict(s *State, f Flow) bool {
	sends := sendsFrom(s.Rules, f)
	receives := receivesAt(s.Rules, f)
	switch {
	case sends && !slowSource(s.Rules, f):
		return false
	case !sends && !receives:
		return true
	case !sends && f.From.Node:
		return true
	case !receives && f.To.Node && !s.Rules.OwnNodeEgress:
		return true
	case !receives && f.To.Node && f.Src.Is6() && (f.Src.IsLinkLocalUnicast() || f.Src.IsUnspecified()) && f.Protocol == 58:
		return true
	}
	if f.From.Interface == f.To.Interface {
		for _, e := range s.Rules.Endpoints {
			if e.Interface.Name == f.From.Interface {
				return true
			}
		}
	}
	return (!sends || slowSide(s, f, f.From.Interface, true)) && (!receives || slowSide(s, f, f.To.Interface, false))
}

func sendsFrom(_ *Rules, f Flow) bool  { return f.From.Interface != "" }
func receivesAt(_ *Rules, f Flow) bool { return f.To.Interface != "" }

func slowSource(r *Rules, f Flow) bool {
	for _, e := range r.Endpoints {
		for _, a := range e.Interface.Addrs {
			if e.Interface.Name == f.From.Interface && a == f.Src {
				return true
			}
		}
	}
	for _, u := range r.Unknown {
		for _, a := range u.Addrs {
			if u.Name == f.From.Interface && a == f.Src {
				return true
			}
		}
	}
	for _, e := range r.Exceptions {
		if e.Interface == f.From.Interface && slowIn(e.Prefix, f.Src) {
			return true
		}
	}
	local := strings.HasPrefix(bits(f.Src), "1111111010") || f.Src == netip.IPv6Unspecified()
	return f.To == Place{Node: true} && f.Src.Is6() && local
}

func slowSide(s *State, f Flow, name string, egress bool) bool {
	for _, e := range s.Rules.Endpoints {
		if e.Interface.Name != name {
			continue
		}
		side, peer := e.Ingress, f.Src
		if egress {
			side, peer = e.Egress, f.Dst
		}
		if side == nil {
			return true
		}
		for _, r := range side.List.Rules {
			if slowMatch(s, r, f, peer) {
				return true
			}
		}
		return false
	}
	for _, u := range s.Rules.Unknown {
		if u.Name == name && u.Grandfathered {
			return true
		}
	}
	return !s.Rules.Protected
}

func slowMatch(s *State, r Rule, f Flow, peer netip.Addr) bool {
	ok := r.Protocol == 0 || r.Protocol == f.Protocol
	if r.First+r.Last > 0 {
		ok = ok && int(f.DstPort) >= int(r.First) && int(f.DstPort) <= int(r.Last)
	}
	if r.Family == IPv4 {
		ok = ok && peer.Is4()
	}
	if r.Family == IPv6 {
		ok = ok && !peer.Is4()
	}
	if r.Peer.Block.IsValid() {
		ok = ok && slowIn(r.Peer.Block, peer)
	}
	if r.Peer.Set != "" {
		ok = ok && slowMember(s, r.Peer.Set, peer, f.DstPort) == !r.Peer.Not
	}
	return ok
}

func slowMember(s *State, id SetID, a netip.Addr, port uint16) bool {
	for _, spec := range s.Rules.Sets {
		if spec.ID != id {
			continue
		}
		members, _ := s.Sets.Get(id)
		switch spec.Kind {
		case Addresses:
			return slices.Contains(slices.Collect(members.Addrs.All()), a)
		case AddressPorts:
			return slices.Contains(slices.Collect(members.Ports.All()), netip.AddrPortFrom(a, port))
		default:
			for length := a.BitLen(); length > 0; length-- {
				for _, n := range spec.Networks {
					if n.Prefix.Bits() == length && slowIn(n.Prefix, a) {
						return !n.Except
					}
				}
			}
		}
	}
	return false
}

func bits(a netip.Addr) string {
	var b strings.Builder
	for _, one := range a.AsSlice() {
		fmt.Fprintf(&b, "%08b", one)
	}
	return b.String()
}

func slowIn(p netip.Prefix, a netip.Addr) bool {
	return p.Addr().BitLen() == a.BitLen() && strings.HasPrefix(bits(a), bits(p.Addr())[:p.Bits()])
}

// random makes worlds of few addresses, ports and interfaces, so that things meet.
type random struct{ *rand.Rand }

func (g random) chance(percent int) bool { return g.IntN(100) < percent }

func (g random) addr(f Family) netip.Addr {
	if f == IPv4 {
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(g.IntN(8))})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(g.IntN(8))})
}

func (g random) family() Family { return []Family{IPv4, IPv6}[g.IntN(2)] }

func (g random) protocol() model.Protocol {
	return []model.Protocol{model.TCP, model.UDP, model.SCTP}[g.IntN(3)]
}

func (g random) prefix(f Family, shortest int) netip.Prefix {
	a := g.addr(f)
	if g.chance(20) {
		return netip.PrefixFrom(a, shortest+g.IntN(a.BitLen()-shortest+1)).Masked()
	}
	return netip.PrefixFrom(a, a.BitLen()-g.IntN(4)).Masked()
}

func (g random) set() SetSpec {
	f := g.family()
	switch g.IntN(3) {
	case 0:
		return dynamic(Addresses, f, 0, fmt.Sprintf("v1 addresses %d", g.IntN(3)))
	case 1:
		p := g.protocol()
		return dynamic(AddressPorts, f, p, fmt.Sprintf("v1 ports %s %d", p, g.IntN(2)))
	}
	var networks []Network
	for range 1 + g.IntN(4) {
		networks = append(networks, Network{g.prefix(f, 1), g.chance(40)})
	}
	return NewNetworks(f, networks)
}

func (g random) rule(sets map[SetID]SetSpec) Rule {
	var r Rule
	if g.chance(70) {
		r.Protocol = g.protocol()
		if g.chance(60) {
			r.First = uint16(1 + g.IntN(4))
			r.Last = r.First + uint16(g.IntN(3))
		}
	}
	switch n := g.IntN(10); {
	case n < 2:
	case n < 5:
		r.Family = g.family()
		r.Peer.Block = g.prefix(r.Family, 0)
	default:
		s := g.set()
		sets[s.ID] = s
		r.Family, r.Peer = s.Family, Peer{Set: s.ID, Not: s.Kind == Networks && g.chance(30)}
		if s.Kind == AddressPorts {
			r.Protocol, r.First, r.Last = s.Protocol, 0, 0
		}
	}
	return r
}

func (g random) side(sets map[SetID]SetSpec) *Side {
	if g.chance(30) {
		return nil
	}
	var rules []Rule
	for range g.IntN(5) {
		rules = append(rules, g.rule(sets))
	}
	return side(rules, "a", "b")
}

func (g random) routed() []netip.Addr {
	var all []netip.Addr
	for range 1 + g.IntN(3) {
		all = append(all, g.addr(g.family()))
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

func (g random) state() *State {
	s := &State{Gen: uint64(1 + g.IntN(9)), Rules: &Rules{Protected: g.chance(70), OwnNodeEgress: g.chance(40)}}
	sets := map[SetID]SetSpec{}
	for i := range 4 {
		iface := model.Interface{Name: fmt.Sprintf("azv%d", i), Index: 10 + i, Addrs: g.routed()}
		switch n := g.IntN(10); {
		case n < 6:
			s.Rules.Endpoints = append(s.Rules.Endpoints, Endpoint{
				Interface: iface, Pod: model.PodKey("canada", "default", iface.Name), UID: model.UID{byte(g.IntN(3))},
				Addrs: g.routed(), Ingress: g.side(sets), Egress: g.side(sets),
			})
		case n < 8:
			s.Rules.Unknown = append(s.Rules.Unknown, Unknown{iface, g.chance(50)})
		}
		if g.chance(20) {
			s.Rules.Exceptions = append(s.Rules.Exceptions, Exception{iface.Name, g.prefix(g.family(), 1)})
		}
	}
	for _, spec := range sets {
		s.Rules.Sets = append(s.Rules.Sets, spec)
		if spec.Dynamic() {
			s.Sets = s.Sets.With(spec.ID, g.members(spec))
		}
	}
	sortSets(s.Rules.Sets)
	s.Released = pset.Map[netip.Addr, uint64]{}.With(g.addr(IPv4), s.Gen)
	return s
}

func (g random) members(spec SetSpec) Members {
	var m Members
	for range g.IntN(8) {
		if spec.Kind == Addresses {
			m.Addrs = m.Addrs.With(g.addr(spec.Family))
		} else {
			m.Ports = m.Ports.With(netip.AddrPortFrom(g.addr(spec.Family), uint16(1+g.IntN(6))))
		}
	}
	return m
}

func (g random) place() Place {
	switch n := g.IntN(10); {
	case n < 7:
		return Place{Interface: fmt.Sprintf("azv%d", g.IntN(5)), Node: n == 0}
	case n < 9:
		return Place{Node: true}
	}
	return Place{}
}

func (g random) flow(r *Rules) Flow {
	f := Flow{From: g.place(), To: g.place(), Protocol: g.protocol(), SrcPort: uint16(g.IntN(7)), DstPort: uint16(g.IntN(7))}
	family := g.family()
	f.Src, f.Dst = g.addr(family), g.addr(family)
	if e := r.Endpoint(f.From.Interface); e != nil && g.chance(80) { // else the source check ends most
		f.Src = e.Interface.Addrs[g.IntN(len(e.Interface.Addrs))]
		f.Dst = g.addr(FamilyOf(f.Src))
	}
	switch n := g.IntN(40); {
	case n == 0:
		f.Src, f.Protocol = netip.IPv6Unspecified(), 58
	case n == 1:
		f.Src = netip.MustParseAddr("fe80::1")
	case n == 2:
		f.Protocol, f.SrcPort, f.DstPort = 1, 0, 0
	}
	return f
}

func TestVerdictIsThatOfTheSlowEvaluation(t *testing.T) {
	g := random{rand.New(rand.NewPCG(1, 2))}
	allowed, denied := 0, 0
	for range 3000 {
		s := g.state()
		if err := s.Validate(); err != nil {
			t.Fatalf("%v\n%s", err, s.Text())
		}
		for range 40 {
			f := g.flow(s.Rules)
			v := s.Verdict(f)
			if v.Allowed != slowVerdict(s, f) {
				t.Fatalf("%+v: %s, but the slow evaluation says %v\n%s", f, trail(v), !v.Allowed, s.Text())
			}
			trailIsSound(t, v)
			if v.Allowed {
				allowed++
			} else {
				denied++
			}
		}
	}
	if allowed < 20000 || denied < 20000 {
		t.Errorf("%d flows allowed, %d denied: the worlds say little", allowed, denied)
	}
}

// trailIsSound: every check but the last one passed, in the order of kinds.
func trailIsSound(t *testing.T, v Verdict) {
	t.Helper()
	for i, c := range v.Trail {
		last := i == len(v.Trail)-1
		if !last && !c.Allowed || last && c.Allowed != v.Allowed {
			t.Fatalf("%s: allowed is %v", trail(v), v.Allowed)
		}
		// An unknown interface stands where the egress or ingress would.
		if i > 0 && v.Trail[i-1].Kind > c.Kind && c.Kind != CheckUnknown {
			t.Fatalf("%s: out of order", trail(v))
		}
	}
	if len(v.Trail) == 0 {
		t.Fatal("no trail")
	}
}
