package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

func TestCase31And33NodesAreNoPeersUnlessAsked_2_6(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("TCP 1", podsIn("", "")), on("TCP 2", from("overland.dev/kind=Node; zone=b")))).expect(
		"node west/node-2 > shop/cart TCP 1: no", "node west/node-2 > shop/cart TCP 2: yes", "ops/mon > shop/cart TCP 2: no", "node canada/n > shop/cart TCP 2: no",
	)
}

func TestCase32TheOwnNodeReachesItsPods_2_8(t *testing.T) {
	newBed(t, in(np("shop/p", ""))).expect("node > shop/cart TCP 80,UDP 53: yes", "node west/node-2 > shop/cart TCP 80: no", "10.0.0.1 > shop/cart TCP 80: no")
}

func TestCase34PodToItsOwnNode_2_8(t *testing.T) {
	b := newBed(t, out(np("shop/p", "app=cart"), on("TCP 53", block("10.0.0.0/24"))))
	b.expect("shop/cart > node TCP 80: yes", "shop/cart > node west/node-2 TCP 80: no", "shop/cart > node west/node-2 TCP 53: yes")
	b.node.OwnNodeEgress = true
	b.set.Node(b.node)
	b.expect("shop/cart > node TCP 80: no", "shop/cart > node TCP 53: yes")
}

func TestCase37AHairpinPasses_2_8(t *testing.T) {
	newBed(t, in(out(np("shop/p", "")))).expect("shop/cart > shop/cart TCP 80: yes", "shop/cart > shop/db TCP 80: no")
}

func TestCase38TheLastPolicyGoes(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart")))
	b.expect("shop/web > shop/cart TCP 1: no")
	b.gone(model.PolicyKey("west", "shop", "p"))
	b.expect("shop/web > shop/cart TCP 1: yes")
	b.tell(in(np("shop/p", "")))
	b.gone(model.NamespaceKey("west", "shop")) // its policies are still there
	b.expect("shop/web > shop/cart TCP 1: no")
}

func TestCase39APolicyIsReplacedInOneState_2_10(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart"), on("TCP 1", from("app=web"))))
	b.expect("shop/web > shop/cart TCP 1: yes", "shop/web > shop/cart TCP 2: no")
	b.gone(model.PolicyKey("west", "shop", "p"))
	b.tell(in(np("shop/p", "app=cart"), on("TCP 2", from("app=web")), on("TCP 3", from("app=db"))))
	b.expect("shop/web > shop/cart TCP 1: no", "shop/web > shop/cart TCP 2: yes", "shop/db > shop/cart TCP 3: yes")
}

func TestCase42ICMPIsOfNoRuleWithProtocols(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("TCP; UDP; SCTP")), in(np("shop/q", "app=db"), on("", block("0.0.0.0/0")))).expect(
		"shop/web > shop/cart ICMP 0: no", "shop/web > shop/cart TCP 1,UDP 1,SCTP 1: yes", "shop/web > shop/db ICMP 0: yes",
	)
}

// Names of sets are made of their whole meaning: what differs anywhere has
// another one.
func TestCase44SetsOfOtherMeaningHaveOtherNames(t *testing.T) {
	b := newBed(t, out(np("shop/p", ""), on("TCP a; UDP a; TCP b; TCP 1", from("app=web"), spaces("env=dev")), on("TCP 2", block("10.0.0.0/8", "10.1.0.0/16"), block("10.0.0.0/8", "10.2.0.0/16"))))
	ids := map[string]string{}
	for _, s := range b.state().Rules.Sets {
		if other, known := ids[string(s.ID)]; known {
			t.Errorf("%q and %q are both %s", s.Text, other, s.ID)
		}
		ids[string(s.ID)] = s.Text
	}
	if len(ids) != 2*2*4+2 {
		t.Errorf("%d sets: %v", len(ids), ids)
	}
}

func TestCase44TwoPodsWithOneInterfaceName(t *testing.T) {
	b := newBed(t)
	cart := b.set.live["shop"].pods["cart"]
	other := &localPod{Endpoint: podAt("west/node-1/a/b", "", "10.1.0.200", ""), live: cart.live, iface: cart.iface}
	b.set.addInterface(other)
	if p := b.set.podBehind(model.Interface{Name: cart.iface, Addrs: addresses("10.1.0.10")}); p != cart {
		t.Errorf("got %v", p)
	}
	if p := b.set.podBehind(model.Interface{Name: cart.iface, Addrs: addresses("10.1.0.200")}); p != other {
		t.Errorf("got %v", p)
	}
	b.set.removeInterface(other)
	if got := b.set.interfaces[cart.iface]; !slices.Equal(got, []*localPod{cart}) {
		t.Errorf("left: %v", got)
	}
}

func TestCase45LongNamesAndEmptyValues(t *testing.T) {
	name := "shop/" + strings.Repeat("long.name-", 25)
	newBed(t, in(np(name, "app=cart"), on("TCP 1", from("tier=")), on("TCP 2", from("!tier")), on("TCP 3", from("tier")))).expect(
		"shop/db > shop/cart TCP 1,3: yes", "shop/db > shop/cart TCP 2: no", "shop/web > shop/cart TCP 1,3: no", "shop/web > shop/cart TCP 2: yes",
	)
}

func TestCase46LabelsAndExpressionsAreAnd(t *testing.T) {
	newBed(t, in(np("shop/p", "app=cart"), on("", from("app=db; tier; app notin web")))).expect("shop/db > shop/cart TCP 1: yes", "shop/web > shop/cart TCP 1: no")
}

func TestCase51ClusterIsAnImplicitLabel_2_3(t *testing.T) {
	b := newBed(t, in(np("shop/p", "app=cart"),
		on("TCP 1", from("app=cart")), on("TCP 2", from("overland.dev/cluster=canada")), on("TCP 3", podsIn("overland.dev/cluster notin canada", "")),
		on("TCP 4", from("overland.dev/cluster")), on("TCP 5", spaces("cluster.overland.dev/region=ca")), on("TCP 6", from("overland.dev/kind=Node; overland.dev/cluster=canada"))))
	b.expect(
		"canada/shop/cart > shop/cart TCP 1: no", "canada/shop/cart > shop/cart TCP 2,4,5: yes", "canada/ops/mon > shop/cart TCP 2,3,4: no", "canada/ops/mon > shop/cart TCP 5: yes",
		"ops/mon > shop/cart TCP 3: yes", "ops/mon > shop/cart TCP 2,5: no", "node canada/n > shop/cart TCP 6: yes", "node west/node-2 > shop/cart TCP 6: no",
	)
	rules := b.last.Rules
	b.gone(model.ClusterKey("canada")) // drained (3.3)
	b.tell(ns("canada", "shop", "env=prod"))
	s := b.state()
	if s.Rules != rules {
		t.Error("a drained cluster has changed rules")
	}
	for id, members := range s.Sets.All() {
		for a := range members.Addrs.All() {
			if prefix("10.9.0.0/16").Contains(a) {
				t.Errorf("%s still has %s", id, a)
			}
		}
	}
	if s.Released.Len() != 5 {
		t.Errorf("released: %d", s.Released.Len())
	}
}

// A remote's Namespace of the same name has labels of its own (2.4), and its
// pods cannot claim what is local (1.5).
func TestCase51SameNamespaceNameOtherLabels_2_4(t *testing.T) {
	p := in(np("shop/p", "app=cart"), on("", spaces("env=dev")))
	p.PeerScope = "mesh"
	b := newBed(t, p)
	b.expect("canada/ops/mon > shop/cart TCP 1: yes", "canada/shop/cart > shop/cart TCP 1: no", "shop/web > shop/cart TCP 1: no")
	b.tell(ns("canada", "shop", "env=dev"), podAt("canada/n/ops/thief", "", "10.1.1.20", ""))
	b.expect("canada/shop/cart > shop/cart TCP 1: yes", "10.1.1.20 > shop/cart TCP 1: no")
}

func TestManyBlocksHaveOneSetAFamily(t *testing.T) {
	rule := on("TCP 1; TCP 2", block("::/0"), block("fd00::/8"))
	for i := range 17 {
		rule.Peers = append(rule.Peers, block(fmt.Sprintf("%d.1.2.3/16", 20+i)))
	}
	b := newBed(t, in(np("shop/p", "app=cart"), rule))
	b.expect("20.1.9.9 > shop/cart TCP 1,2: yes", "36.1.0.1 > shop/cart TCP 2: yes", "20.2.1.1 > shop/cart TCP 1: no", "fe00::1 > shop/cart v6 TCP 2: yes")
	list, origins := b.last.Rules.Endpoint(InterfaceName("shop", "cart")).Ingress.List, b.last.Rules.Endpoint(InterfaceName("shop", "cart")).Ingress.Origins
	if len(list.Rules) != 2*3 || len(b.last.Rules.Sets) != 1 {
		t.Errorf("%s", b.last.Text())
	}
	common := 0
	for _, o := range origins {
		if len(o) == 17 {
			common++
		}
	}
	if common != 2 {
		t.Errorf("origins: %v", origins)
	}
	rule.Peers = rule.Peers[:len(rule.Peers)-1]
	b.tell(in(np("shop/p", "app=cart"), rule))
	b.expect("20.1.9.9 > shop/cart TCP 1,2: yes", "36.1.0.1 > shop/cart TCP 2: no")
	if list := b.last.Rules.Endpoint(InterfaceName("shop", "cart")).Ingress.List; len(list.Rules) != 2*(2+16) {
		t.Errorf("%d rules", len(list.Rules))
	}
}

func TestExceptionsOfABlock(t *testing.T) {
	for _, c := range []struct {
		name    string
		peer    model.PolicyPeer
		flows   []string
		problem string
	}{
		{"outside", block("10.1.0.0/16", "10.2.0.0/16"), []string{"10.1.1.1 > shop/cart TCP 1: yes", "10.2.1.1 > shop/cart TCP 1: no"}, "except[0]: 10.2.0.0/16 has no effect: expected an address range inside 10.1.0.0/16"},
		{"of the other family", block("0.0.0.0/0", "::/1"), []string{"10.1.1.1 > shop/cart TCP 1: yes"}, "has no effect"},
		{"equal", block("10.1.0.0/16", "10.1.0.0/16"), []string{"10.1.1.1 > shop/cart TCP 1: no"}, "10.1.0.0/16 leaves nothing of the ipBlock"},
		{"wider", block("10.1.0.0/16", "10.1.5.0/24", "10.0.0.0/8"), []string{"10.1.1.1 > shop/cart TCP 1: no"}, "10.0.0.0/8 leaves nothing of the ipBlock"},
		{"all of it all", block("0.0.0.0/0", "0.0.0.0/0"), []string{"10.1.1.1 > shop/cart TCP 1: no"}, "leaves nothing"},
		{"not canonical", block("10.1.2.3/16", "10.1.5.9/24"), []string{"10.1.1.1 > shop/cart TCP 1: yes", "10.1.5.1 > shop/cart TCP 1: no"}, ""},
		{"unreadable", model.PolicyPeer{Block: prefix("10.0.0.0/8"), Except: make([]netip.Prefix, 1)}, []string{"10.1.1.1 > shop/cart TCP 1: no"}, "cannot be read, so that the ipBlock matches nothing"},
		{"mapped", block("0.0.0.0/0", "::ffff:10.0.0.0/104"), []string{"10.1.1.1 > shop/cart TCP 1: no", "8.8.8.8 > shop/cart TCP 1: no"}, "cannot be read"},
		{"one address", block("10.1.0.0/16", "10.1.1.1/32"), []string{"10.1.1.1 > shop/cart TCP 1: no", "10.1.1.2 > shop/cart TCP 1: yes"}, ""},
		{"nested", block("10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32"), []string{"10.1.1.1 > shop/cart TCP 1: no", "10.1.1.2 > shop/cart TCP 1: no", "10.1.2.1 > shop/cart TCP 1: yes"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, in(np("shop/p", "app=cart"), on("", c.peer)))
			b.expect(c.flows...)
			if c.problem == "" {
				b.expectProblems()
			} else {
				b.expectProblems(c.problem)
			}
		})
	}
}

func TestCase35EgressIsJudgedOnTheRealDestination_2_9(t *testing.T) {
	// A range of Services' addresses allows none of the pods behind them, and a
	// Service's port is not asked for.
	newBed(t, out(np("shop/p", "app=cart"), on("", block("10.96.0.0/12")), on("TCP 5432", from("app=db")))).expect(
		"shop/cart > shop/web TCP 8888: no", "shop/cart > shop/db TCP 5432: yes", "shop/cart > shop/db TCP 80: no",
	)
}
