package desired

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

func edit(change func(*State)) *State {
	s := world()
	change(s)
	return s
}

// withRule is a valid world but for one more ingress rule of cart.
func withRule(r Rule) *State {
	return edit(func(s *State) {
		c := &s.Rules.Endpoints[0]
		c.Ingress = side(append(slices.Clone(c.Ingress.List.Rules), r), "admit")
	})
}

func withSet(change func(*SetSpec)) *State {
	return edit(func(s *State) {
		spec, _ := s.Rules.set(offices().ID)
		change(spec)
	})
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	block := func(s string) Peer { return Peer{Block: netip.MustParsePrefix(s)} }
	for _, c := range []struct {
		name  string
		state *State
		want  string
	}{
		{"no rules", &State{}, "Rules: there are none"},
		{"floor", edit(func(s *State) { s.ReleasedFloor = 8 }), "ReleasedFloor: 8 is after Gen, 7"},
		{"released too late", edit(func(s *State) { s.Released = s.Released.With(addr(friend), 8) }), "Released: 10.9.0.1 at 8: want a generation after ReleasedFloor, 2, and not after Gen, 7"},
		{"released before the floor", edit(func(s *State) { s.Released = s.Released.With(addr(friend), 2) }), "Released: 10.9.0.1 at 2: want"},
		{"released nothing", edit(func(s *State) { s.Released = s.Released.With(netip.Addr{}, 7) }), "Released: invalid IP: want an address"},
		{"members of nothing", edit(func(s *State) { s.Sets = s.Sets.With("ovl4-x", Members{}) }), "Sets: ovl4-x: there is no set of this name that changes"},
		{"members of networks", edit(func(s *State) { s.Sets = s.Sets.With(offices().ID, Members{}) }), "there is no set of this name that changes"},
		{"no members", edit(func(s *State) { s.Sets = pset.Map[SetID, Members]{} }), ": no members, not even none"},
		{"ports among addresses", edit(func(s *State) { s.Sets = s.Sets.With(friends4().ID, portSet("10.0.0.1:1")) }), "has members that are not addresses"},
		{"addresses among ports", edit(func(s *State) { s.Sets = s.Sets.With(webs().ID, addrSet("10.0.0.1")) }), "has members that are not addresses with ports"},
		{"a member of the other family", edit(func(s *State) { s.Sets = s.Sets.With(friends4().ID, addrSet("fd00::1")) }), "fd00::1 is not IPv4"},
		{"a member with zone", edit(func(s *State) { s.Sets = s.Sets.With(friends6().ID, addrSet("fe80::1%eth0")) }), "fe80::1%eth0: want an address without zone"},
		{"a mapped member", edit(func(s *State) { s.Sets = s.Sets.With(friends6().ID, addrSet("::ffff:10.0.0.1")) }), "mapped into IPv6"},
		{"a member with port 0", edit(func(s *State) { s.Sets = s.Sets.With(webs().ID, portSet("10.0.0.1:0")) }), "10.0.0.1:0: want a port"},

		{"endpoints not sorted", edit(func(s *State) { slices.Reverse(s.Rules.Endpoints) }), "Endpoints[1] (azv2): not sorted by interface"},
		{"two of one interface", edit(func(s *State) { s.Rules.Unknown[0].Name = cart }), "Unknown[0] (azv1): the interface is there twice"},
		{"an interface without name", edit(func(s *State) { s.Rules.Endpoints[0].Interface.Name = "" }), "the interface has no name"},
		{"a pod twice", edit(func(s *State) { s.Rules.Endpoints[1].Pod = s.Rules.Endpoints[0].Pod }), "Endpoints[1] (azv2): Pod: Pod canada/default/cart has another interface"},
		{"no pod", edit(func(s *State) { s.Rules.Endpoints[0].Pod.Kind = model.KindNode }), "is no pod"},
		{"addresses not sorted", edit(func(s *State) { slices.Reverse(s.Rules.Endpoints[0].Addrs) }), "Endpoints[0] (azv1).Addrs: 10.0.0.1: not sorted, or there twice"},
		{"routed addresses not sorted", edit(func(s *State) { slices.Reverse(s.Rules.Endpoints[0].Interface.Addrs) }), ".Interface.Addrs: 10.0.0.1: not sorted"},
		{"unknown not sorted", edit(func(s *State) { slices.Reverse(s.Rules.Unknown) }), "Unknown[1] (azv8): not sorted by name"},
		{"an exception of nothing", edit(func(s *State) { s.Rules.Exceptions[0].Interface = "" }), "Exceptions[0] (): no interface"},
		{"an exception that is not canonical", edit(func(s *State) { s.Rules.Exceptions[0].Prefix = netip.MustParsePrefix("10.0.0.1/8") }), "10.0.0.1/8: want a canonical prefix"},
		{"an exception twice", edit(func(s *State) { s.Rules.Exceptions = append(s.Rules.Exceptions, s.Rules.Exceptions...) }), "Exceptions[1] (azv3): not sorted by interface and prefix, or there twice"},

		{"a side without list", edit(func(s *State) { s.Rules.Endpoints[0].Ingress.List = nil }), "Endpoints[0] (azv1).Ingress.List: there is none"},
		{"isolated by none", edit(func(s *State) { s.Rules.Endpoints[1].Egress.Policies = nil }), "Endpoints[1] (azv2).Egress.Policies: isolated by none"},
		{"policies not sorted", edit(func(s *State) { slices.Reverse(s.Rules.Endpoints[0].Ingress.Policies) }), "default/admit: not sorted, or there twice"},
		{"too few origins", edit(func(s *State) { s.Rules.Endpoints[0].Ingress.Origins = nil }), ".Origins: 0 of 4 rules"},
		{"no origin", edit(func(s *State) { s.Rules.Endpoints[0].Ingress.Origins[1] = nil }), ".Origins[1]: the rule comes from nowhere"},
		{"origins not sorted", edit(func(s *State) { slices.Reverse(s.Rules.Endpoints[0].Ingress.Origins[2]) }), ".Origins[2]: default/admit rule 0 port 0: not sorted, or there twice"},
		{"an origin of no rule", edit(func(s *State) { s.Rules.Endpoints[0].Egress.Origins[0][0].Rule = -1 }), "indexes are from 0, of peer and port from -1"},
		{"an origin elsewhere", edit(func(s *State) { s.Rules.Endpoints[0].Egress.Origins[0][0].Policy.Name = "other" }), "the policy is not one of those that isolate"},
		{"another text", edit(func(s *State) { s.Rules.Endpoints[0].Ingress.List.Text = "v0\n" }), `.List.Text: "v0\n", want that of the rules`},
		{"rules not in order", edit(func(s *State) { slices.Reverse(s.Rules.Endpoints[0].Ingress.List.Rules) }), "not in canonical order, or there twice"},

		{"ports of no protocol", withRule(Rule{First: 1, Last: 1}), "ports without TCP, UDP or SCTP"},
		{"ports of ICMP", withRule(Rule{Protocol: 1, First: 1, Last: 1}), "ports without TCP, UDP or SCTP"},
		{"ports backwards", withRule(Rule{Protocol: model.TCP, First: 2, Last: 1}), "ports 2 to 1: want none, or from 1 up"},
		{"port 0", withRule(Rule{Protocol: model.TCP, Last: 1}), "ports 0 to 1: want none, or from 1 up"},
		{"a family alone", withRule(Rule{Family: IPv4, Protocol: model.TCP}), "a family without a peer"},
		{"a peer without family", withRule(Rule{Peer: block("10.0.0.0/8")}), "a peer without a family"},
		{"a block not canonical", withRule(Rule{Family: IPv4, Peer: block("10.0.0.1/8")}), "10.0.0.1/8: want a canonical prefix"},
		{"a block of the other family", withRule(Rule{Family: IPv6, Peer: block("10.0.0.0/8")}), "the block is not of the rule's family"},
		{"a block and a set", withRule(Rule{Family: IPv4, Peer: Peer{Set: friends4().ID, Block: netip.MustParsePrefix("10.0.0.0/8")}}), "a block and a set"},
		{"not, of nothing", withRule(Rule{Family: IPv4, Peer: Peer{Not: true}}), "not, without a set"},
		{"not, of addresses", withRule(Rule{Family: IPv4, Peer: Peer{Set: friends4().ID, Not: true}}), "not, with a set of addresses"},
		{"no such set", withRule(Rule{Family: IPv4, Peer: Peer{Set: "ovl4-x"}}), "the set is not in Sets"},
		{"a set of the other family", withRule(Rule{Family: IPv6, Peer: Peer{Set: friends4().ID}}), "the set is of IPv4"},
		{"a port set without its protocol", withRule(Rule{Family: IPv4, Peer: Peer{Set: webs().ID}}), "want that protocol and no ports"},
		{"a port set with ports", withRule(Rule{Family: IPv4, Protocol: model.TCP, First: 1, Last: 1, Peer: Peer{Set: webs().ID}}), "want that protocol and no ports"},

		{"sets not sorted", edit(func(s *State) { slices.Reverse(s.Rules.Sets) }), "not sorted by id, or there twice"},
		{"a set for nobody", edit(func(s *State) { s.Rules.Endpoints[0].Egress = nil }), ": no rule names it"},
		{"a set of no family", withSet(func(s *SetSpec) { s.Family = AnyFamily }), "Family: any, want IPv4 or IPv6"},
		{"the id of another text", withSet(func(s *SetSpec) { s.Text += " " }), "want the id of its text"},
		{"a kind that is none", withSet(func(s *SetSpec) { s.Kind = 9 }), "Kind: there is no kind(9)"},
		{"a protocol for networks", withSet(func(s *SetSpec) { s.Protocol = model.TCP }), "Protocol: TCP, want"},
		{"networks among addresses", withSet(func(s *SetSpec) { s.Kind = Addresses }), "Networks: in a set of addresses"},
		{"ports without protocol", withSet(func(s *SetSpec) { s.Kind = AddressPorts }), "Protocol: protocol(0), want"},
		{"networks not sorted", withSet(func(s *SetSpec) { slices.Reverse(s.Networks) }), "192.0.2.0/24: not sorted, or there twice"},
		{"a network of length 0", withSet(func(s *SetSpec) { s.Networks[0].Prefix = netip.MustParsePrefix("0.0.0.0/0") }), "0.0.0.0/0: of prefix length 0"},
		{"a network not canonical", withSet(func(s *SetSpec) { s.Networks[0].Prefix = netip.MustParsePrefix("10.0.0.1/8") }), "10.0.0.1/8: want a canonical prefix"},
		{"a network of the other family", withSet(func(s *SetSpec) { s.Networks[0].Prefix = netip.MustParsePrefix("fd00::/8") }), "fd00::/8 is not IPv4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.state.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestValidateTellsAllViolationsInOneOrder(t *testing.T) {
	broken := func() *State {
		return edit(func(s *State) {
			s.Gen, s.Rules.Endpoints[0].Interface.Name = 1, ""
			for _, a := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"} {
				s.Released = s.Released.With(addr(a), 9)
			}
		})
	}
	text := broken().Validate().Error()
	if n := strings.Count(text, "\n") + 1; n != 7 {
		t.Errorf("%d violations:\n%s", n, text)
	}
	for range 20 {
		if again := broken().Validate().Error(); again != text {
			t.Fatalf("%s\nand\n%s", text, again)
		}
	}
	if err := broken().Rules.Validate(); err == nil || strings.Contains(err.Error(), "Released") {
		t.Errorf("of the rules alone: %v", err)
	}
}

// wild makes Rules of which hardly anything is as it must be.
func (g random) wild() *State {
	s := g.state()
	pick := func(n int) int { return g.IntN(n+1) - 1 } // -1 too
	for range 1 + g.IntN(4) {
		var e *Endpoint
		if i := pick(len(s.Rules.Endpoints)); i >= 0 {
			e = &s.Rules.Endpoints[i]
		}
		switch n := g.IntN(12); {
		case n == 0 && e != nil:
			e.Ingress = &Side{}
		case n == 1 && e != nil && e.Egress != nil:
			e.Egress.Origins = e.Egress.Origins[:g.IntN(len(e.Egress.Origins)+1)]
		case n == 2 && e != nil:
			e.Interface = model.Interface{Addrs: []netip.Addr{{}}}
		case n == 3 && e != nil:
			e.Ingress = &Side{List: &List{Rules: []Rule{g.wildRule(s.Rules), g.wildRule(s.Rules)}}}
		case n == 4 && e != nil:
			e.Egress = side([]Rule{g.wildRule(s.Rules)}, "a")
		case n == 5:
			s.Rules.Sets = s.Rules.Sets[:g.IntN(len(s.Rules.Sets)+1)]
		case n == 6:
			s.Rules.Sets = append(s.Rules.Sets, SetSpec{Kind: SetKind(g.IntN(5)), Networks: []Network{{}}})
		case n == 7:
			s.Sets = s.Sets.With(SetIDOf(IPv4, "wild"), Members{})
		case n == 8:
			slices.Reverse(s.Rules.Endpoints)
		case n == 9:
			s.Rules.Unknown = append(s.Rules.Unknown, Unknown{})
		case n == 10:
			s.Rules.Exceptions = append(s.Rules.Exceptions, Exception{})
		case n == 11:
			s.Gen--
		}
	}
	return s
}

func (g random) wildRule(r *Rules) Rule {
	rule := Rule{
		Family: Family(g.IntN(4)), Protocol: []model.Protocol{0, 1, 6, 17}[g.IntN(4)],
		First: uint16(g.IntN(3)), Last: uint16(g.IntN(3)),
	}
	if g.chance(30) {
		rule.Peer.Block = netip.PrefixFrom(g.addr(g.family()), g.IntN(130)-1)
	}
	if g.chance(50) && len(r.Sets) > 0 {
		rule.Peer.Set = r.Sets[g.IntN(len(r.Sets))].ID
	}
	rule.Peer.Not = g.chance(20)
	return rule
}

// FuzzValidate: Validate takes anything, and what it lets pass has a Verdict,
// which is that of the slow evaluation, and a text.
func FuzzValidate(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := random{rand.New(rand.NewPCG(seed, 1))}
		s := g.wild()
		if s.Validate() != nil {
			return
		}
		_ = s.Text()
		for range 20 {
			flow := g.flow(s.Rules)
			if v := s.Verdict(flow); v.Allowed != slowVerdict(s, flow) {
				t.Fatalf("%+v: %s, but the slow evaluation does not agree\n%s", flow, trail(v), s.Text())
			}
		}
	})
}
