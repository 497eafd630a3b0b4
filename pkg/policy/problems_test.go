package policy

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

func TestNamedPortThatNoSelectedPodHasIsAProblem_2_12(t *testing.T) {
	b := newBed(t, in(np("shop/p", ""), on("TCP sql; TCP none", from("app=web"), from("app=db"))))
	b.expectProblems(`NetworkPolicy west/shop/p: spec.ingress[0].ports[1].port: "none" matches nothing: expected the name of a TCP port of a selected pod; none on this node has one`)
	// A pod of this node that has it ends that, though others have it not.
	b.tell(podAt("west/node-1/shop/db", "app=db", "10.1.0.11", "none TCP 7; sql TCP 5432"))
	b.expectProblems()
	b.expect("shop/web > shop/db TCP 7: yes", "shop/web > shop/cart TCP 7: no")
	b.gone(model.PodKey("west", "shop", "db"))
	b.expectProblems(`"sql" matches`, `"none" matches`)
	b.gone(model.PodKey("west", "shop", "cart"))
	b.expectProblems()
}

func TestAddressRoutedToAnotherInterfaceIsAProblem(t *testing.T) {
	b := newBed(t)
	name := InterfaceName("shop", "cart")
	b.node.Interfaces = slices.Clone(b.node.Interfaces)
	for i := range b.node.Interfaces {
		if b.node.Interfaces[i].Name == name {
			b.node.Interfaces[i].Name = "azvx"
		}
	}
	b.set.Node(b.node)
	b.expectProblems(
		"Interface Pod west/shop/cart: its address 10.1.0.10 is routed to the interface azvx: expected "+name+", so that no policy is applied to it there",
		"its address fd00:1::10 is routed to the interface azvx",
	)
	if b.last.Rules.Endpoint("azvx") != nil || b.last.Rules.UnknownAt("azvx") == nil {
		t.Errorf("%s", b.last.Text())
	}
	// An address taken over from a pod that is going is the new pod's.
	b.plug()
	b.tell(podAt("west/node-1/shop/old", "", "10.1.0.10", ""))
	b.expectProblems()
	if w := b.set.Waiting(); len(w) != 1 || w[0].Name != "old" {
		t.Errorf("waiting: %v", w)
	}
}

func TestInterfaceNames(t *testing.T) {
	// printf shop.cart | sha1sum
	if got := InterfaceName("shop", "cart"); got != "azve45f23531db" {
		t.Errorf("got %s", got)
	}
}

func TestExceptionsAreThoseOfThePodsNamespace_2_14(t *testing.T) {
	b := newBed(t)
	b.node.Exceptions = map[string][]netip.Prefix{
		"ops":  {prefix("192.168.9.9/16"), prefix("192.168.0.0/16"), {}, prefix("fd99::/64"), prefix("::ffff:1.0.0.0/104"), prefix("10.0.0.0/8")},
		"none": {prefix("0.0.0.0/0")},
	}
	b.set.Node(b.node)
	name := InterfaceName("ops", "admin")
	want := []desired.Exception{{Interface: name, Prefix: prefix("10.0.0.0/8")}, {Interface: name, Prefix: prefix("192.168.0.0/16")}, {Interface: name, Prefix: prefix("fd99::/64")}}
	if got := b.state().Rules.Exceptions; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	b.node.Exceptions = map[string][]netip.Prefix{"shop": nil}
	b.set.Node(b.node)
	if got := b.state().Rules.Exceptions; len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// What an endpoint owns may change by pods of other nodes.
func TestAddressesOfAnEndpointAreThoseThatItOwns_1_5(t *testing.T) {
	b := newBed(t)
	name := InterfaceName("shop", "cart")
	want := addresses("10.1.0.10 fd00:1::10")
	if got := b.state().Rules.Endpoint(name).Addrs; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	newer := podAt("west/node-2/ops/newer", "", "10.1.0.10", "")
	newer.Created = 9
	b.tell(newer)
	if got := b.state().Rules.Endpoint(name).Addrs; !slices.Equal(got, want[1:]) {
		t.Errorf("got %v", got)
	}
	b.gone(newer.Key)
	if got := b.state().Rules.Endpoint(name).Addrs; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestNodeFactsThatAreEqualChangeNothing(t *testing.T) {
	b := newBed(t)
	b.node.Exceptions = map[string][]netip.Prefix{"ops": {prefix("192.168.0.0/16")}}
	b.set.Node(b.node)
	first := b.state()
	same := b.node
	same.Interfaces = slices.Clone(b.node.Interfaces)
	same.Exceptions = map[string][]netip.Prefix{"ops": {prefix("192.168.0.0/16")}}
	b.set.Node(same)
	if b.state() != first {
		t.Error("another State")
	}
	for name, change := range map[string]func(n *NodeFacts){
		"an index":        func(n *NodeFacts) { n.Interfaces[0].Index++ },
		"an address":      func(n *NodeFacts) { n.Interfaces[0].Addrs = n.Interfaces[0].Addrs[:1] },
		"an interface":    func(n *NodeFacts) { n.Interfaces = n.Interfaces[1:] },
		"protected":       func(n *NodeFacts) { n.Protected = false },
		"own node egress": func(n *NodeFacts) { n.OwnNodeEgress = true },
		"an exception":    func(n *NodeFacts) { n.Exceptions = nil },
	} {
		other := same
		other.Interfaces = slices.Clone(same.Interfaces)
		change(&other)
		b.set.Node(other)
		now := b.state()
		if now == first || now.Rules == first.Rules {
			t.Errorf("%s: the same State", name)
		}
		b.set.Node(same)
		if b.state().Rules.Text() != first.Rules.Text() {
			t.Errorf("%s: and back is somewhere else", name)
		}
	}
}
