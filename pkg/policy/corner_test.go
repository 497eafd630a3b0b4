package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

// The corner cases that engines get wrong, by their numbers in the project's list,
// as far as they are about what a node must enforce. Verdicts are those of the
// State.

func TestCase1EmptyAndAbsentSelectors(t *testing.T) {
	newBed(t, in(np("shop/p", ""), on("", from("")))).expect(
		"shop/web > shop/cart TCP 80: yes", "shop/db > shop/cart TCP 80: yes", "shop/cart > shop/db TCP 80: yes",
		"ops/mon > shop/cart TCP 80: no", "canada/shop/cart > shop/cart TCP 80: no", "8.8.8.8 > shop/db TCP 80: no",
		"shop/web > ops/admin TCP 80: yes",
	)
	newBed(t, in(np("shop/p", ""), on("", spaces("")))).expect(
		"ops/mon > shop/cart TCP 80: yes", "canada/ops/mon > shop/cart TCP 80: no", "8.8.8.8 > shop/cart TCP 80: no",
	)
	newBed(t, in(np("shop/p", ""), on("", podsIn("", "")))).expect("ops/mon > shop/cart TCP 80: yes", "node west/node-2 > shop/cart TCP 80: no")
}

func TestCase2OneItemIsAndTwoAreOr(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("", podsIn("app=mon", "env=dev")))).expect(
		"ops/mon > shop/cart TCP 80: yes", "ops/admin > shop/cart TCP 80: no", "shop/web > shop/cart TCP 80: no",
	)
	newBed(t, in(np("shop/p", "app=cart"), on("", from("app=web"), spaces("env=dev")))).expect(
		"ops/mon > shop/cart TCP 80: yes", "ops/admin > shop/cart TCP 80: yes", "shop/web > shop/cart TCP 80: yes", "shop/db > shop/cart TCP 80: no",
	)
}

func TestCase3PeersAndPortsAreAndRulesAreOr(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("TCP 80", from("app=web")), on("TCP 81", from("app=db")))).expect(
		"shop/web > shop/cart TCP 80: yes", "shop/web > shop/cart TCP 81: no", "shop/db > shop/cart TCP 81: yes", "shop/db > shop/cart TCP 80: no",
	)
}

func TestCase4NoPeersAreAllSources(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart"), on("TCP 80")))
	b.expect("8.8.8.8 > shop/cart TCP 80: yes", "2001:db8::1 > shop/cart v6 TCP 80: yes", "canada/ops/mon > shop/cart TCP 80: yes", "8.8.8.8 > shop/cart TCP 81: no")
	if n := len(b.last.Rules.Sets); n != 0 {
		t.Errorf("%d sets", n)
	}
}

// A rule whose peers could all not be read is not one without peers (2.12).
func TestCase4PeersThatWereLeftOutAreNotAllSources_2_12(t *testing.T) {
	for name, rule := range map[string]model.PolicyRule{
		"no peer is left":              {AnyPort: true},
		"no port is left":              {AnyPeer: true},
		"an empty peer":                on("", model.PolicyPeer{}),
		"a selector of nothing":        on("", from("overland.dev/colour=red")),
		"a protocol that there is not": {AnyPeer: true, Ports: []model.PolicyPort{{First: 80, Last: 80}}},
		"ports from high to low":       {AnyPeer: true, Ports: []model.PolicyPort{{Protocol: model.TCP, First: 81, Last: 80}}},
		"a name and a number":          {AnyPeer: true, Ports: []model.PolicyPort{{Protocol: model.TCP, First: 80, Last: 80, Name: "http"}}},
		"peers beside any peer":        {AnyPort: true, AnyPeer: true, Peers: []model.PolicyPeer{from("app=none")}},
		"ports beside any port":        {AnyPort: true, AnyPeer: true, Ports: []model.PolicyPort{{Protocol: model.TCP, First: 1, Last: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			newBed(t, in(np("shop/p", "app=cart"), rule)).expect("8.8.8.8 > shop/cart TCP 80: no", "shop/web > shop/cart TCP 80,UDP 53: no")
		})
	}
}

func TestCase5NoPortsAreAllPortsOfAllProtocols(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("", from("app=web")))).expect(
		"shop/web > shop/cart TCP 80,UDP 53,SCTP 1,ICMP 0: yes", "shop/db > shop/cart ICMP 0: no",
	)
}

func TestCase6NoRulesDenyAllAndOneEmptyRuleAllowsAll(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"))).expect("shop/web > shop/cart TCP 80,ICMP 0: no", "shop/cart > shop/db TCP 80: yes")
	newBed(t, in(np("shop/p", "app=cart"), on(""))).expect("shop/web > shop/cart TCP 80,ICMP 0: yes", "8.8.8.8 > shop/cart UDP 1: yes")
}

func TestCase7EgressAloneDoesNotIsolateIngress(t *testing.T) {
	p := out(np("shop/p", "app=cart"), on("", from("app=db")))
	p.IngressRules = []model.PolicyRule{on("", from("app=web"))} // of a direction that it does not isolate
	b := newBed(t, p)
	b.expect("8.8.8.8 > shop/cart TCP 80: yes", "shop/cart > shop/db TCP 80: yes", "shop/cart > shop/web TCP 80: no", "shop/cart > 8.8.8.8 TCP 80: no")
	nothing := np("shop/p", "app=cart")
	nothing.EgressRules = p.EgressRules
	b.tell(nothing)
	b.expect("shop/cart > 8.8.8.8 TCP 80: yes")
}

func TestCase8PoliciesAreAUnion(t *testing.T) {
	policies := []*model.Policy{
		in(np("shop/a", "app=cart"), on("TCP 80", from("app=web"))), in(np("shop/b", ""), on("TCP 81", spaces("env=dev"))), in(np("shop/c", "app=cart")),
	}
	flows := []string{"shop/web > shop/cart TCP 80: yes", "ops/mon > shop/cart TCP 81: yes", "shop/web > shop/cart TCP 81: no", "shop/web > shop/db TCP 80: no", "ops/mon > shop/db TCP 81: yes"}
	b := newBed(t, policies...)
	b.expect(flows...)
	slices.Reverse(policies)
	c := newBed(t, policies...)
	c.expect(flows...)
	if b.last.Text() != c.last.Text() {
		t.Error("order has a meaning")
	}
}

func TestCase9BothSidesMustPermit(t *testing.T) {
	b := newBed(t, out(np("shop/out", "app=cart"), on("TCP 5432", from("app=db"))), in(np("shop/in", "app=db"), on("TCP 5432-5433", from("app=cart"))))
	b.expect("shop/cart > shop/db TCP 5432: yes", "shop/cart > shop/db TCP 5433: no", "shop/web > shop/db TCP 5432: no")
	b.gone(model.PolicyKey("west", "shop", "out"))
	b.expect("shop/cart > shop/db TCP 5433: yes")
}

func TestCase10NamedPortResolvesPerDestinationPod(t *testing.T) {
	// Ingress: on the pod itself.
	b := newBed(t, in(np("shop/p", ""), on("TCP http", from("app=web"))))
	b.expect(
		"shop/web > shop/cart TCP 8080: yes", "shop/web > shop/cart TCP 9090: no",
		"shop/web > shop/db TCP 9090: yes", "shop/web > shop/db TCP 8080: no", "shop/web > shop/db TCP 5432: no",
	)
	// Egress: on each destination.
	newBed(t, out(np("shop/p", "app=cart"), on("TCP http", spaces("")))).expect(
		"shop/cart > shop/db TCP 9090: yes", "shop/cart > shop/db TCP 8888: no", "shop/cart > shop/web TCP 8888: yes",
		"shop/cart > shop/web v6 TCP 8888: yes", "shop/cart > ops/mon TCP 7070: yes", "shop/cart > ops/admin TCP 80: no",
		"shop/cart > canada/shop/cart TCP 6060: no",
	)
	newBed(t, out(np("shop/p", "app=cart"), on("TCP http; TCP 80", from("overland.dev/cluster=canada")))).expect(
		"shop/cart > canada/shop/cart TCP 6060,80: yes", "shop/cart > shop/web TCP 8888: no",
	)
}

func TestCase11NamedPortOfEgressWithoutPeersAndWithBlocks_2_9(t *testing.T) {
	b := newBed(t, out(np("shop/p", "app=cart"), on("TCP http")))
	b.expect(
		"shop/cart > shop/db TCP 9090: yes", "shop/cart > ops/mon TCP 7070: yes", "shop/cart > ops/mon TCP 9090: no",
		"shop/cart > canada/shop/cart TCP 6060: no", "shop/cart > 8.8.8.8 TCP 9090: no",
	)
	mesh := out(np("shop/p", "app=cart"), on("TCP http"))
	mesh.PeerScope = "mesh"
	b.tell(mesh)
	b.expect("shop/cart > canada/shop/cart TCP 6060: yes", "shop/cart > ops/mon TCP 7070: yes")

	b = newBed(t, out(np("shop/p", "app=cart"), on("TCP http; TCP 22", block("10.0.0.0/8"), from("app=web"), from("overland.dev/kind=Node"))))
	b.expect(
		"shop/cart > shop/db TCP 9090: no", "shop/cart > shop/db TCP 22: yes", "shop/cart > shop/web TCP 8888,22: yes",
		"shop/cart > node west/node-2 TCP 22: yes", "shop/cart > node west/node-2 TCP 8888: no",
	)
	b.expectProblems(
		`spec.egress[0].ports[0].port: "http" has no number with to[0], an ipBlock: expected pods, or a number`,
		`spec.egress[0].ports[0].port: "http" has no number with to[2], nodes: expected pods, or a number`,
	)
	// With blocks on ingress the pod itself says the number.
	newBed(t, in(np("shop/p", "app=cart"), on("TCP http", block("8.0.0.0/8")))).expect("8.8.8.8 > shop/cart TCP 8080: yes", "8.8.8.8 > shop/cart TCP 80: no")
}

func TestCase12NamedPortOfAnotherProtocolIsNone(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart"), on("UDP http")), out(np("ops/p", ""), on("UDP http; UDP dns")))
	b.expect("shop/web > shop/cart UDP 8080: no", "shop/web > shop/cart TCP 8080: no", "ops/admin > shop/web UDP 8888: no", "ops/admin > shop/web UDP 53: yes")
	b.expectProblems(`spec.ingress[0].ports[0].port: "http" matches nothing: expected the name of a UDP port of a selected pod`)
}

// Whether all of a pod's containers count is the source's matter; here a name
// that several use matches every number (2.9).
func TestCase13NamedPortOfSeveralContainers_2_9(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart"), on("TCP http")), out(np("ops/p", ""), on("TCP http", spaces("env=prod"))))
	b.tell(podAt("west/node-1/shop/cart", "app=cart", "10.1.0.10", "http TCP 8080; http TCP 8081"))
	b.plug()
	b.expect("shop/web > shop/cart TCP 8080,8081: yes", "ops/admin > shop/cart TCP 8080,8081: yes", "ops/admin > shop/cart TCP 9090: no")
}

func TestCase14PortRanges(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("TCP 80-90; TCP 100-100; TCP 65000-65535"))).expect(
		"shop/web > shop/cart TCP 80,85,90,100,65000,65535: yes", "shop/web > shop/cart TCP 79,91,99,101,64999: no", "shop/web > shop/cart UDP 85: no",
	)
}

func TestCase15ProtocolWithoutPort(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("UDP"))).expect("shop/web > shop/cart UDP 1,65535: yes", "shop/web > shop/cart TCP 1: no", "shop/web > shop/cart ICMP 0: no")
}

func TestCase16SCTP(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("SCTP 7777", from("app=web"))), out(np("ops/p", ""), on("SCTP assoc"))).expect(
		"shop/web > shop/cart SCTP 7777: yes", "shop/web > shop/cart TCP 7777: no", "shop/web > shop/cart SCTP 7778: no",
	)
}

func TestCase17ExceptionsAreOverlappedByOtherRules(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("", block("10.0.0.0/8", "10.1.0.0/16")), on("TCP 80", block("10.1.1.0/24")))).expect(
		"10.2.0.1 > shop/cart TCP 81: yes", "10.1.2.1 > shop/cart TCP 80: no", "shop/web > shop/cart TCP 80: yes", "shop/web > shop/cart TCP 81: no",
	)
	// Within one rule too: each ipBlock stands for itself.
	newBed(t, in(np("shop/p", "app=cart"), on("", block("10.0.0.0/8", "10.1.0.0/16"), block("10.1.0.0/16", "10.1.1.0/24"), block("10.1.1.21/32")))).expect(
		"10.2.0.1 > shop/cart TCP 1: yes", "10.1.2.1 > shop/cart TCP 1: yes", "10.1.1.20 > shop/cart TCP 1: no", "10.1.1.21 > shop/cart TCP 1: yes",
	)
}

func TestCase18NestedBlocksWithOtherPorts(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("TCP 80", block("10.0.0.0/8")), on("TCP 81", block("10.1.0.0/16")))).expect(
		"10.2.0.1 > shop/cart TCP 80: yes", "10.2.0.1 > shop/cart TCP 81: no", "10.1.9.9 > shop/cart TCP 80,81: yes",
	)
}

func TestCase19EverythingAndRangesThatAreNotCanonical(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart"), on("TCP 80", block("0.0.0.0/0")), on("TCP 81", block("0.0.0.0/0", "8.8.0.0/16", "8.0.0.0/8", "10.1.1.21/32")),
		on("TCP 82", block("::/0")), on("TCP 83", block("::/0", "fd00::/8")), on("TCP 84", block("10.2.3.4/8", "10.1.1.20/24"))))
	b.expect(
		"8.8.8.8 > shop/cart TCP 80: yes", "8.8.8.8 > shop/cart TCP 81: no", "8.9.0.1 > shop/cart TCP 81: no", "9.9.9.9 > shop/cart TCP 81: yes", "ops/mon > shop/cart TCP 81: no",
		"2001:db8::1 > shop/cart v6 TCP 82,83: yes", "shop/web v6 > shop/cart v6 TCP 82: yes", "shop/web v6 > shop/cart v6 TCP 83: no", "8.8.8.8 > shop/cart TCP 82: no",
		"10.1.0.99 > shop/cart TCP 84: yes", "10.1.1.99 > shop/cart TCP 84: no",
	)
	if b.problems() != nil {
		t.Error(b.problems())
	}
	for _, s := range b.last.Rules.Sets {
		for _, n := range s.Networks {
			if n.Prefix.Bits() == 0 || n.Prefix != n.Prefix.Masked() {
				t.Errorf("%s has %s", s.ID, n)
			}
		}
	}
}

func TestCase20BlocksMatchPodsAndNodesOfAnyCluster_2_7(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("", block("10.0.0.0/8")))).expect(
		"shop/web > shop/cart TCP 1: yes", "canada/ops/mon > shop/cart TCP 1: yes", "node west/node-2 > shop/cart TCP 1: yes", "node canada/n > shop/cart TCP 1: yes",
		"8.8.8.8 > shop/cart TCP 1: no", "shop/web v6 > shop/cart v6 TCP 1: no",
	)
}

func TestCase21Families(t *testing.T) {
	b := newBed(t, in(np("shop/v4", "app=cart"), on("", block("0.0.0.0/0"))), in(np("shop/pods", "app=db"), on("", from("app=web"))))
	b.expect(
		"8.8.8.8 > shop/cart TCP 1: yes", "2001:db8::1 > shop/cart v6 TCP 1: no", "shop/web v6 > shop/cart v6 TCP 1: no",
		"shop/web > shop/db TCP 1: yes", "shop/web v6 > shop/db v6 TCP 1: yes",
	)
	b.tell(in(np("shop/v4", "app=cart"), on("", block("::/0"))))
	b.expect("8.8.8.8 > shop/cart TCP 1: no", "2001:db8::1 > shop/cart v6 TCP 1: yes")
	mapped := block("10.0.0.0/8")
	mapped.Block = netip.MustParsePrefix("::ffff:10.0.0.0/104")
	b.tell(in(np("shop/v4", "app=cart"), on("", mapped)))
	b.expect("10.1.1.1 > shop/cart TCP 1: no", "shop/web v6 > shop/cart v6 TCP 1: no")
	b.expectProblems("spec.ingress[0].from[0].ipBlock: ::ffff:10.0.0.0/104 matches nothing: expected an IPv4 range in its own form")
}

func TestCase22NotInAndDoesNotExist(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("TCP 1", from("app notin web,mon")), on("TCP 2", from("tier notin x")), on("TCP 3", from("!tier")))).expect(
		"shop/db > shop/cart TCP 1: yes", "shop/web > shop/cart TCP 1: no", "shop/web > shop/cart TCP 2,3: yes", "shop/db > shop/cart TCP 3: no", "shop/db > shop/cart TCP 2: yes",
	)
}

func TestCase23NegationsMatchPodsOnly(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart"), on("", spaces("env notin prod"))))
	b.expect(
		"ops/mon > shop/cart TCP 1: yes", "shop/web > shop/cart TCP 1: no", "8.8.8.8 > shop/cart TCP 1: no", "node west/node-2 > shop/cart TCP 1: no", "canada/ops/mon > shop/cart TCP 1: no",
	)
	b.tell(podAt("west/node-2/unseen/x", "app=x", "10.1.1.30", ""))
	b.expect("unseen/x > shop/cart TCP 1: no")
	b.tell(ns("west", "unseen", "a=b"))
	b.expect("unseen/x > shop/cart TCP 1: yes")
}

func TestCase24NamespaceLabelsAndLateNamespaces(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart"), on("TCP 1", spaces("env=dev")), on("TCP 2", spaces("kubernetes.io/metadata.name=late"))))
	b.tell(podAt("west/node-2/late/x", "app=x", "10.1.1.30", ""))
	b.expect("ops/mon > shop/cart TCP 1: yes", "late/x > shop/cart TCP 1: no", "late/x > shop/cart TCP 2: yes")
	rules := b.last.Rules
	b.tell(ns("west", "late", "env=dev"), ns("west", "ops", "env=prod"))
	b.expect("ops/mon > shop/cart TCP 1: no", "late/x > shop/cart TCP 1: yes")
	if b.last.Rules != rules {
		t.Error("a Namespace's labels have changed rules")
	}
}

func TestCase25PodLabelMovesSetsAndPoliciesInOneState(t *testing.T) {
	b := newBed(t, in(np("shop/cart", "app=cart"), on("TCP 1", from("app=web"))), in(np("shop/db", "app=db"), on("TCP 2", from("app=cart"))))
	b.expect("shop/web > shop/cart TCP 1: yes", "shop/web > shop/cart TCP 2: no", "shop/cart > shop/db TCP 2: yes")
	b.tell(podAt("west/node-1/shop/cart", "app=db", "10.1.0.10 fd00:1::10", "http TCP 8080"))
	b.expect("shop/web > shop/cart TCP 1,2: no", "shop/cart > shop/db TCP 2: no")
	b.tell(podAt("west/node-1/shop/cart", "app=none", "10.1.0.10 fd00:1::10", "http TCP 8080"))
	b.expect("shop/web > shop/cart TCP 1,2: yes")
}

func TestCase27TwoPodsOneAddress(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart"), on("", from("app=web"))))
	newer := podAt("west/node-2/shop/new", "app=db", "10.1.1.20", "")
	newer.Created = 5
	b.expect("10.1.1.20 > shop/cart TCP 1: yes")
	b.tell(newer)
	b.expect("10.1.1.20 > shop/cart TCP 1: no")
	b.gone(model.PodKey("west", "shop", "web"))
	b.expect("10.1.1.20 > shop/cart TCP 1: no")
	newer2 := *newer
	newer2.Labels = labelled("app=web")
	b.tell(&newer2)
	b.expect("10.1.1.20 > shop/cart TCP 1: yes")
}

func TestCase28TerminatingPodsAreEnforcedAndPeers(t *testing.T) {
	b := newBed(t, in(np("shop/p", ""), on("", from("app=web"))))
	for _, e := range []*model.Endpoint{podAt("west/node-1/shop/cart", "app=cart", "10.1.0.10 fd00:1::10", ""), podAt("west/node-2/shop/web", "app=web", "10.1.1.20 fd00:1::1:20", "")} {
		e.Terminating = true
		b.tell(e)
	}
	b.expect("shop/web > shop/cart TCP 1: yes", "shop/db > shop/cart TCP 1: no")
}

// An interface whose pod the API has not told of yet is dropped, whatever else
// is allowed; a grandfathered one is not.
func TestCase29And40InterfaceBeforeItsPodIsKnown(t *testing.T) {
	b := newBed(t)
	name := InterfaceName("shop", "early")
	b.node.Interfaces = append(slices.Clone(b.node.Interfaces), model.Interface{Name: name, Index: 77, Addrs: addresses("10.1.0.77")})
	slices.SortFunc(b.node.Interfaces, func(a, b model.Interface) int { return strings.Compare(a.Name, b.Name) })
	b.set.Node(b.node)
	s := b.state()
	if len(s.Rules.Unknown) != 1 || s.Rules.Unknown[0].Grandfathered || s.Rules.Unknown[0].Name != name {
		t.Fatalf("unknown: %+v", s.Rules.Unknown)
	}
	b.node.Grandfathered = []model.Interface{{Name: name, Index: 76}}
	b.set.Node(b.node)
	if s := b.state(); s.Rules.Unknown[0].Grandfathered {
		t.Error("an interface of another index is grandfathered")
	}
	b.node.Grandfathered = []model.Interface{{Name: name, Index: 77}}
	b.set.Node(b.node)
	if s := b.state(); !s.Rules.Unknown[0].Grandfathered {
		t.Error("not grandfathered")
	}
	b.tell(podAt("west/node-1/shop/early", "app=web", "10.1.0.77", ""))
	if s := b.state(); len(s.Rules.Unknown) != 0 || s.Rules.Endpoint(name) == nil {
		t.Errorf("%s", s.Text())
	}
}

// A StatefulSet's pod comes back with its name: what is routed to its interface
// is the new address, and the API tells of it later.
func TestCase30SameNameNewAddress(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart"), on("", from("app=web"))))
	name := InterfaceName("shop", "cart")
	b.expect("shop/web > shop/cart TCP 1: yes")
	for i := range b.node.Interfaces {
		if b.node.Interfaces[i].Name == name {
			b.node.Interfaces = slices.Clone(b.node.Interfaces)
			b.node.Interfaces[i] = model.Interface{Name: name, Index: 99, Addrs: addresses("10.1.0.99")}
		}
	}
	b.set.Node(b.node)
	if s := b.state(); s.Rules.Endpoint(name) != nil || s.Rules.UnknownAt(name) == nil {
		t.Errorf("the old pod has the new interface: %s", s.Text())
	}
	if w := b.set.Waiting(); !slices.Equal(w, []model.Key{model.PodKey("west", "shop", "cart")}) {
		t.Errorf("waiting: %v", w)
	}
	fresh := podAt("west/node-1/shop/cart", "app=cart", "10.1.0.99", "")
	fresh.UID = model.ParseUID("another")
	b.tell(fresh)
	b.expect("shop/web > shop/cart TCP 1: yes", "shop/db > shop/cart TCP 1: no")
	if e := b.last.Rules.Endpoint(name); e.Interface.Index != 99 || e.UID != fresh.UID || len(b.set.Waiting()) != 0 {
		t.Errorf("%+v, waiting %v", e, b.set.Waiting())
	}
}
