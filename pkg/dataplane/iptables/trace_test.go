package iptables_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/overland-net/overland/pkg/dataplane/dataplanetest"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// place is where the node routes an address to.
func place(routes map[netip.Prefix]string, a netip.Addr) desired.Place {
	return desired.Place{Interface: routes[netip.PrefixFrom(a, a.BitLen())]}
}

// TestRulesDoWhatTheStateMeans compares the walk through the rules with the
// meaning of the State, for random States and random flows: of a new packet, of
// a stale one in both directions, and of what has been judged already.
func TestRulesDoWhatTheStateMeans(t *testing.T) {
	worlds := 3000
	if testing.Short() {
		worlds = 300
	}
	texts := map[desired.Family][]string{
		desired.IPv4: {"10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.2.0.1", "10.2.0.2", "10.2.0.3", "192.0.2.1"},
		desired.IPv6: {"fd00:1::1", "fd00:1::2", "fd00:1::3", "fd00:1::4", "fd00:2::1", "fd00:2::2", "2001:db8::1", "fe80::1", "::"},
	}
	rng := rand.New(rand.NewPCG(4, 4))
	cfg := iptables.Config{IPv6: true}
	denied := 0
	for range worlds {
		s := dataplanetest.RandomState(rng)
		routes := dataplanetest.Routes(s)
		p := iptables.Compile(s, cfg)
		for range 100 {
			all := addrs(texts[[]desired.Family{desired.IPv4, desired.IPv6}[rng.IntN(2)]]...)
			f := desired.Flow{
				Src: all[rng.IntN(len(all))], Dst: all[rng.IntN(len(all))],
				Protocol: []model.Protocol{model.TCP, model.UDP, 47, 58}[rng.IntN(4)],
			}
			if desired.HasPorts(f.Protocol) {
				f.SrcPort, f.DstPort = 40000, []uint16{53, 80, 443, 8080}[rng.IntN(4)]
			}
			f.From, f.To = place(routes, f.Src), place(routes, f.Dst)
			switch rng.IntN(8) {
			case 0:
				f.From, f.To = desired.Place{Node: true}, place(routes, f.Dst)
			case 1:
				f.To = desired.Place{Node: true}
			case 2:
				f.From.Interface = "azv7777777777a" // not where the source is routed
			}
			if !agrees(t, s, p, f) {
				denied++
			}
		}
	}
	if denied < worlds {
		t.Errorf("only %d flows of %d worlds were denied", denied, worlds)
	}
}

// agrees checks one flow, and tells whether it is allowed.
func agrees(t *testing.T, s *desired.State, p *iptables.Program, f desired.Flow) bool {
	t.Helper()
	want := s.Verdict(f)
	if got := p.Trace(iptables.Packet{Flow: f}); got.Allowed != want.Allowed {
		t.Fatalf("%+v: the State says %t, the rules %+v\n%s", f, want.Allowed, got, s.Text())
	}
	source := want.Trail[0]
	if f.To.Node || f.From.Node || source.Kind == desired.CheckSource && !source.Allowed {
		return want.Allowed // the other way is not in FORWARD, or there is nothing to reply to
	}
	back := iptables.Packet{Flow: f, Reply: true}
	if got := p.Trace(back); got.Allowed != want.Allowed && !spoofed(s, f) {
		t.Fatalf("a stale reply to %+v: the State says %t, the rules %+v\n%s", f, want.Allowed, got, s.Text())
	}
	for _, pk := range []iptables.Packet{{Flow: f, Current: true}, {Flow: f, Current: true, Reply: true}} {
		if got := p.Trace(pk); !got.Allowed && !spoofed(s, f) {
			t.Fatalf("%+v was judged already, and yet: %+v\n%s", pk, got, s.Text())
		}
	}
	return want.Allowed
}

// spoofed tells whether replies would come from where their source is not.
func spoofed(s *desired.State, f desired.Flow) bool {
	routes := dataplanetest.Routes(s)
	return f.To.Interface != "" && place(routes, f.Dst) != f.To || f.Dst.IsLinkLocalUnicast() || f.Dst.IsUnspecified()
}

func TestErrorsAboutAConnectionPass_2_8(t *testing.T) {
	w := &world{rules: desired.Rules{Protected: true}}
	w.pod("aaaaaaaaaa1", side(), side(), "10.1.0.1")
	p := iptables.Compile(w.state(), iptables.Config{})
	f := desired.Flow{Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("10.1.0.1"), To: desired.Place{Interface: "azvaaaaaaaaaa1"}, Protocol: 1}
	if got := p.Trace(iptables.Packet{Flow: f, Related: true}); !got.Allowed {
		t.Errorf("%+v", got)
	}
	if got := p.Trace(iptables.Packet{Flow: f}); got.Allowed || got.Table != "mangle" || got.Rule != "-j DROP" {
		t.Errorf("%+v", got)
	}
}

func TestWithoutIPv6NothingIsSaidOfIt(t *testing.T) {
	p := iptables.Compile(everything(), iptables.Config{})
	f := desired.Flow{Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("fd00:1::6"), To: desired.Place{Interface: "azvf1111111111"}}
	if got := p.Trace(iptables.Packet{Flow: f}); p.IPv6 != nil || !got.Allowed {
		t.Errorf("%+v", got)
	}
}

func TestWhatRulesCannotSayIsAProblemAndNotAllowed_2_12(t *testing.T) {
	w := &world{rules: desired.Rules{Protected: true}}
	w.pod("+", nil, nil, "10.1.0.1") // would be any pod
	w.pod("aaaaaaaaaa1", side(desired.Rule{Protocol: 47}, on(0, 80, 80, desired.Rule{})), nil, "10.1.0.2")
	w.rules.Exceptions = []desired.Exception{{Interface: "eth0", Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
	p := iptables.Compile(w.state(), iptables.Config{})
	if len(p.Problems) != 4 {
		t.Errorf("%d problems: %+v", len(p.Problems), p.Problems)
	}
	for _, to := range []string{"azv+", "azvaaaaaaaaaa1"} {
		f := desired.Flow{Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("10.1.0.1"), To: desired.Place{Interface: to}, Protocol: 47}
		if got := p.Trace(iptables.Packet{Flow: f}); got.Allowed {
			t.Errorf("%s: %+v", to, got)
		}
	}
}
