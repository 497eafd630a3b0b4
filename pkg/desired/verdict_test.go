package desired

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

func at(iface string) Place { return Place{Interface: iface} }
func node() Place           { return Place{Node: true} }
func beyond() Place         { return Place{} }

func flow(from Place, src string, to Place, dst string, protocol model.Protocol, port uint16) Flow {
	return Flow{From: from, To: to, Src: addr(src), Dst: addr(dst), Protocol: protocol, SrcPort: 40000, DstPort: port}
}

// trail is the checks in one line: "egress azv1 rule 0, ingress azv2 denied".
func trail(v Verdict) string {
	var parts []string
	for _, c := range v.Trail {
		s := strings.TrimSpace(c.Kind.String() + " " + c.Interface)
		switch {
		case c.Rule >= 0:
			s += fmt.Sprintf(" by %s", c.Side.List.Rules[c.Rule])
		case c.Side == nil && (c.Kind == CheckEgress || c.Kind == CheckIngress):
			s += " open"
		}
		if !c.Allowed {
			s += " denied"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

type verdictCase struct {
	name  string
	flow  Flow
	trail string // the last check decides
}

func check(t *testing.T, s *State, cases []verdictCase) {
	t.Helper()
	if err := s.Validate(); err != nil {
		t.Fatalf("the world is not valid: %v", err)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := s.Verdict(c.flow)
			if got := trail(v); got != c.trail {
				t.Errorf("%s\n got %s\nwant %s", c.name, got, c.trail)
			}
			if want := !strings.HasSuffix(c.trail, "denied"); v.Allowed != want {
				t.Errorf("Allowed is %v, want %v", v.Allowed, want)
			}
			if slow := slowVerdict(s, c.flow); slow != v.Allowed {
				t.Errorf("the slow evaluation says %v", slow)
			}
		})
	}
}

func TestSourceCheckIsFirstOnEveryPodInterface_2_14(t *testing.T) {
	check(t, world(), []verdictCase{
		{
			"a pod without policy may not spoof", flow(at(open), shopIP, beyond(), outside, model.TCP, 80),
			"source address azv3 denied",
		},
		{
			"nor towards its node", flow(at(open), shopIP, node(), "10.0.0.254", model.TCP, 80),
			"source address azv3 denied",
		},
		{
			"nor towards itself", flow(at(open), shopIP, at(open), openIP, model.TCP, 80),
			"source address azv3 denied",
		},
		{
			"an interface of which nothing is known has no address", flow(at("azv7"), openIP, beyond(), outside, model.TCP, 80),
			"source address azv7 denied",
		},
		{
			"an unknown pod may not spoof, grandfathered or not", flow(at(veteran), openIP, beyond(), outside, model.TCP, 80),
			"source address azv8 denied",
		},
		{
			"a configured range passes", flow(at(open), "172.16.9.9", beyond(), outside, model.TCP, 80),
			"source address azv3, egress azv3 open",
		},
		{
			"but from that pod only", flow(at(veteran), "172.16.9.9", beyond(), outside, model.TCP, 80),
			"source address azv8 denied",
		},
		{
			"a link-local source is for the own node", flow(at(cart), "fe80::1", node(), "ff02::1", icmp6, 0),
			"source address azv1, own node azv1",
		},
		{
			"and is never forwarded", flow(at(cart), "fe80::1", beyond(), "fd00::99", icmp6, 0),
			"source address azv1 denied",
		},
		{
			"nor to a pod", flow(at(cart), "fe80::1", at(open), "fd00::99", icmp6, 0),
			"source address azv1 denied",
		},
		{
			"duplicate address detection reaches the node", flow(at(cart), "::", node(), "ff02::1:ff00:1", icmp6, 0),
			"source address azv1, own node azv1",
		},
		{
			"no such thing in IPv4", flow(at(cart), "169.254.0.1", node(), "10.0.0.254", model.UDP, 67),
			"source address azv1 denied",
		},
		{
			"nor the IPv4 unspecified address", flow(at(cart), "0.0.0.0", node(), "10.0.0.254", model.UDP, 67),
			"source address azv1 denied",
		},
	})
}

func TestTheNodeAndThePodItself_2_8(t *testing.T) {
	check(t, world(), []verdictCase{
		{"a probe reaches a pod that admits nothing", flow(node(), "10.0.0.254", at(shop), shopIP, model.TCP, 80), "own node azv2"},
		{"and a pod that is not known", flow(node(), "10.0.0.254", at(newcomer), newIP, model.TCP, 80), "own node azv9"},
		{
			"by where it comes from, not by the node's address",
			flow(beyond(), "10.0.0.254", at(shop), shopIP, model.TCP, 80),
			"ingress azv2 denied",
		},
		{
			"a pod reaches its node whatever its egress", flow(at(shop), shopIP, node(), "10.0.0.254", model.TCP, 10250),
			"source address azv2, own node azv2",
		},
		{
			"a pod reaches itself through a Service", flow(at(shop), shopIP, at(shop), shopIP, model.TCP, 80),
			"source address azv2, same pod azv2",
		},
		{
			"by its other address too", flow(at(cart), cartIP6, at(cart), cartIP6, model.TCP, 80),
			"source address azv1, same pod azv1",
		},
		{"the node's own traffic is not ours", flow(node(), "10.0.0.254", beyond(), outside, model.TCP, 443), "foreign"},
		{"nor what comes to the node", flow(beyond(), outside, node(), "10.0.0.254", model.TCP, 22), "foreign"},
		{"nor what it forwards for others", flow(beyond(), outside, beyond(), friend, model.TCP, 80), "foreign"},
	})
}

func TestOwnNodeEgressPolicy_2_8(t *testing.T) {
	s := world()
	rules := *s.Rules
	rules.OwnNodeEgress = true
	s.Rules = &rules
	check(t, s, []verdictCase{
		{
			"isolated pods do not reach the node", flow(at(shop), shopIP, node(), "10.0.0.254", model.TCP, 10250),
			"source address azv2, egress azv2 denied",
		},
		{
			"what the egress rules allow does", flow(at(cart), cartIP, node(), "10.0.0.254", model.UDP, 53),
			"source address azv1, egress azv1 by IPv4 UDP not in " + string(forbidden().ID),
		},
		{
			"pods without policy do", flow(at(open), openIP, node(), "10.0.0.254", model.TCP, 10250),
			"source address azv3, egress azv3 open",
		},
		{
			"discovery on the link passes", flow(at(shop), "fe80::2", node(), "ff02::2", icmp6, 0),
			"source address azv2, own node azv2",
		},
		{
			"from the unspecified address too", flow(at(shop), "::", node(), "ff02::1:ff00:2", icmp6, 0),
			"source address azv2, own node azv2",
		},
		{
			"a daemon on the link is no discovery", flow(at(shop), "fe80::2", node(), "fe80::1", model.TCP, 10250),
			"source address azv2, egress azv2 denied",
		},
		{
			"but nothing else from there", flow(at(shop), "::", node(), "ff02::1", model.UDP, 547),
			"source address azv2, egress azv2 denied",
		},
		{
			"an unknown pod is dropped", flow(at(newcomer), newIP, node(), "10.0.0.254", model.TCP, 80),
			"source address azv9, unknown pod interface azv9 denied",
		},
		{
			"a grandfathered one is not", flow(at(veteran), veteranIP, node(), "10.0.0.254", model.TCP, 80),
			"source address azv8, unknown pod interface azv8",
		},
		{"the node still reaches all", flow(node(), "10.0.0.254", at(shop), shopIP, model.TCP, 80), "own node azv2"},
	})
}

func TestUnknownPodInterfaces(t *testing.T) {
	t.Run("protected", func(t *testing.T) {
		check(t, world(), []verdictCase{
			{
				"from", flow(at(newcomer), newIP, beyond(), outside, model.TCP, 80),
				"source address azv9, unknown pod interface azv9 denied",
			},
			{"to", flow(beyond(), outside, at(newcomer), newIP, model.TCP, 80), "unknown pod interface azv9 denied"},
			{"to one of which nothing is known", flow(beyond(), outside, at("azv7"), newIP, model.TCP, 80), "unknown pod interface azv7 denied"},
			{
				"from and to the same", flow(at(newcomer), newIP, at(newcomer), newIP, model.TCP, 80),
				"source address azv9, unknown pod interface azv9 denied",
			},
			{
				"grandfathered, to a pod that admits nothing", flow(at(veteran), veteranIP, at(shop), shopIP, model.TCP, 80),
				"source address azv8, unknown pod interface azv8, ingress azv2 denied",
			},
			{
				"grandfathered, from and to the same", flow(at(veteran), veteranIP, at(veteran), veteranIP, model.TCP, 80),
				"source address azv8, unknown pod interface azv8, unknown pod interface azv8",
			},
			{
				"a pod without policy to an unknown one", flow(at(open), openIP, at(newcomer), newIP, model.TCP, 80),
				"source address azv3, egress azv3 open, unknown pod interface azv9 denied",
			},
		})
	})
	t.Run("not protected", func(t *testing.T) {
		s := world()
		rules := *s.Rules
		rules.Protected = false
		s.Rules = &rules
		check(t, s, []verdictCase{
			{
				"from", flow(at(newcomer), newIP, beyond(), outside, model.TCP, 80),
				"source address azv9, unknown pod interface azv9",
			},
			{"to", flow(beyond(), outside, at("azv7"), newIP, model.TCP, 80), "unknown pod interface azv7"},
		})
	})
	t.Run("the skeleton drops all from and to pods", func(t *testing.T) {
		check(t, Skeleton(), []verdictCase{
			{"to", flow(beyond(), outside, at(cart), cartIP, model.TCP, 80), "unknown pod interface azv1 denied"},
			{"from", flow(at(cart), cartIP, beyond(), outside, model.TCP, 80), "source address azv1 denied"},
			{"but not from the node", flow(node(), "10.0.0.254", at(cart), cartIP, model.TCP, 80), "own node azv1"},
		})
	})
}

func TestRulesOfPeersAndPorts_2_7_2_9(t *testing.T) {
	in4 := "ingress azv1 by IPv4 TCP 8080-8090 in " + string(friends4().ID)
	in6 := "ingress azv1 by IPv6 TCP 8080-8090 in " + string(friends6().ID)
	web := "source address azv1, egress azv1 by IPv4 TCP in " + string(webs().ID)
	udp := "source address azv1, egress azv1 by IPv4 UDP not in " + string(forbidden().ID)
	office := "ingress azv1 by IPv4 in " + string(offices().ID)
	const noIn, noOut = "ingress azv1 denied", "source address azv1, egress azv1 denied"
	to := func(src string, p model.Protocol, port uint16) Flow {
		dst := cartIP
		if strings.Contains(src, ":") {
			dst = cartIP6
		}
		return flow(beyond(), src, at(cart), dst, p, port)
	}
	from := func(dst string, p model.Protocol, port uint16) Flow {
		src := cartIP
		if strings.Contains(dst, ":") {
			src = cartIP6
		}
		return flow(at(cart), src, beyond(), dst, p, port)
	}
	check(t, world(), []verdictCase{
		{"a member", to(friend, model.TCP, 8080), in4},
		{"the last port of the range", to(friend, model.TCP, 8090), in4},
		{"one port past it", to(friend, model.TCP, 8091), noIn},
		{"one port before it", to(friend, model.TCP, 8079), noIn},
		{"another protocol", to(friend, model.UDP, 8080), noIn},
		{"a stranger", to(stranger, model.TCP, 8080), noIn},
		{"a member of the other family", to(friend6, model.TCP, 8080), in6},
		{"families do not mix", to("fd09::2", model.TCP, 8080), noIn},
		{"any peer, a protocol without ports, IPv4", to(outside, model.SCTP, 1), "ingress azv1 by SCTP"},
		{"any peer, a protocol without ports, IPv6", to("fd99::1", model.SCTP, 1), "ingress azv1 by SCTP"},
		{"in a block, all protocols", to("192.0.2.5", 47, 0), office},
		{"in the except", to("192.0.2.130", model.TCP, 8080), noIn},
		{"in the longer block inside the except", to("192.0.2.193", model.TCP, 1), office},
		{"past it, in the except", to("192.0.2.208", model.TCP, 1), noIn},
		{"a pod with the named port there", from(friend, model.TCP, 8080), web},
		{"its number on another pod", from(stranger, model.TCP, 8080), noOut},
		{"the other pod's number", from(stranger, model.TCP, 9090), web},
		{"not the source port", Flow{From: at(cart), Src: addr(cartIP), Dst: addr(stranger), Protocol: model.TCP, SrcPort: 9090, DstPort: 1}, noOut},
		{"the named port of another protocol", from(friend, model.SCTP, 8080), noOut},
		{"not in the forbidden network", from("203.0.113.1", model.UDP, 1), udp},
		{"in it", from("198.51.100.7", model.UDP, 1), noOut},
		{"negation does not open the other family", from("fd99::1", model.UDP, 54), noOut},
		{"any address of a family", from("fd99::1", model.UDP, 53), "source address azv1, egress azv1 by IPv6 UDP 53 ::/0"},
	})
}

func TestBothSidesMustAllow_Case9(t *testing.T) {
	check(t, world(), []verdictCase{
		{
			"egress denies first", flow(at(cart), cartIP, at(shop), shopIP, model.TCP, 80),
			"source address azv1, egress azv1 denied",
		},
		{
			"then ingress", flow(at(open), openIP, at(shop), shopIP, model.TCP, 80),
			"source address azv3, egress azv3 open, ingress azv2 denied",
		},
		{
			"both allow", flow(at(open), openIP, at(cart), cartIP, model.TCP, 8080),
			"source address azv3, egress azv3 open, ingress azv1 by IPv4 TCP 8080-8090 in " + string(friends4().ID),
		},
		{
			"a local pod by its named port", flow(at(cart), cartIP, at(open), openIP, model.TCP, 80),
			"source address azv1, egress azv1 by IPv4 TCP in " + string(webs().ID) + ", ingress azv3 open",
		},
	})
}

func TestAnotherRuleAllowsWhatIsExcepted_Case17(t *testing.T) {
	s := world()
	rules := *s.Rules
	rules.Endpoints = append([]Endpoint(nil), rules.Endpoints...)
	// The same block as the except of another rule: union, so it is allowed.
	rules.Endpoints[0].Ingress = side([]Rule{
		{Family: IPv4, Peer: Peer{Set: offices().ID}},
		{Family: IPv4, Protocol: model.TCP, First: 80, Last: 80, Peer: Peer{Block: netip.MustParsePrefix("192.0.2.128/25")}},
	}, "offices")
	s.Rules = &rules
	flow := flow(beyond(), "192.0.2.130", at(cart), cartIP, model.TCP, 80)
	if v := s.Verdict(flow); !v.Allowed || trail(v) != "ingress azv1 by IPv4 TCP 80 192.0.2.128/25" {
		t.Errorf("got %s", trail(v))
	}
}

func TestASetThatDoesNotExistOpensNothing(t *testing.T) {
	s := &State{Rules: &Rules{Endpoints: []Endpoint{pod(cart, "cart", 1, cartIP)}}}
	for _, peer := range []Peer{{Set: "ovl4-x"}, {Set: "ovl4-x", Not: true}, {Not: true}} {
		s.Rules.Endpoints[0].Ingress = side([]Rule{{Family: IPv4, Peer: peer}}, "p")
		if s.Verdict(flow(beyond(), friend, at(cart), cartIP, model.TCP, 80)).Allowed {
			t.Errorf("%s: allowed", peer)
		}
	}
}

func TestAPlaceWithAnInterfaceIsThatInterface(t *testing.T) {
	f := flow(Place{Interface: shop, Node: true}, shopIP, Place{Interface: cart, Node: true}, cartIP, model.TCP, 80)
	if v := world().Verdict(f); trail(v) != "source address azv2, egress azv2 denied" {
		t.Errorf("got %s", trail(v))
	}
}
