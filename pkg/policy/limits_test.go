package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

func limited(l Limits) Config {
	c := west()
	c.Limits = l
	return c
}

func TestDefaultLimits(t *testing.T) {
	if got, want := (Limits{Members: 5}).withDefaults(), (Limits{defaultSelectors, 5, defaultRules}); got != want {
		t.Errorf("got %+v", got)
	}
}

func TestPeersPastTheLimitOfSelectorsAreEmpty_2_13(t *testing.T) {
	b := newBedWith(t, limited(Limits{Selectors: 2}),
		in(np("shop/a", "app=cart"), on("TCP 1", from("app=web")), on("TCP 2", from("app=db"))),
		in(np("shop/b", "app=cart"), on("TCP 3", spaces("env=dev")), on("TCP 4", from("app=web")), on("TCP 5", block("8.0.0.0/8")), on("TCP 6", spaces("env=prod"))),
		in(np("ops/c", ""), on("TCP 7", spaces("env=prod")), on("TCP 8", spaces("env=dev"))),
	)
	b.expect(
		"shop/web > shop/cart TCP 1,4: yes", "shop/db > shop/cart TCP 2: yes", "ops/mon > shop/cart TCP 3: no", "8.8.8.8 > shop/cart TCP 5: yes",
		"shop/web > shop/cart TCP 6,7: no", "shop/web > ops/admin TCP 7: yes", "ops/mon > ops/admin TCP 8: yes",
	)
	b.expectProblems("Limit NetworkPolicy west/shop/b: spec.ingress[0].from[0]: matches nothing, and 1 more after it: expected the policies of this namespace that select pods of this node to have at most 2 distinct peer selectors")
	if _, tracked := b.index.View().Members(peerSelector(t, b, spaces("env=dev"), "shop")); !tracked {
		t.Error("what another namespace wants is not tracked")
	}
	// An earlier policy with less leaves room; what waited comes in.
	b.tell(in(np("shop/a", "app=cart"), on("TCP 1", from("app=web"))))
	b.expect("ops/mon > shop/cart TCP 3: yes", "shop/web > shop/cart TCP 6: no")
	// And is taken again.
	b.tell(in(np("shop/0", ""), on("TCP 9", from(""))))
	b.expect("ops/mon > shop/cart TCP 3: no", "shop/db > shop/cart TCP 9: yes", "shop/web > shop/cart TCP 1: yes")
}

func peerSelector(t *testing.T, b *bed, p model.PolicyPeer, namespace string) selector.Selector {
	t.Helper()
	s, _, _ := b.set.config.Peer(np(namespace+"/x", ""), nil, p, "")
	return s
}

func TestNamedPortsCountAsSelectors_2_13(t *testing.T) {
	b := newBedWith(t, limited(Limits{Selectors: 2}), out(np("shop/a", "app=cart"), on("TCP http; TCP http; TCP 1; TCP 2", from("app=web")), on("TCP http; TCP sql", from("app=db")), on("TCP http", from("app=web"))))
	b.expect("shop/cart > shop/web TCP 8888,1,2: yes", "shop/cart > shop/db TCP 5432,9090: no")
	b.expectProblems("spec.egress[1].to[0]: matches nothing: expected the policies")
}

func TestPeersPastTheLimitOfMembersAreEmpty_2_13(t *testing.T) {
	b := newBedWith(t, limited(Limits{Members: 4}), // web, db: two addresses each
		in(np("shop/a", "app=cart"), on("TCP 1", from("app=web"))),
		in(np("shop/b", "app=cart"), on("TCP 2", spaces("")), on("TCP 3", from("app=db"))),
		in(np("shop/c", "app=cart"), on("TCP 4", spaces("env=dev"))),
		in(np("ops/d", ""), on("TCP 5", spaces("env=dev"))),
	)
	b.expect("shop/web > shop/cart TCP 1: yes", "shop/web > shop/cart TCP 2: no", "shop/db > shop/cart TCP 3: yes", "ops/mon > shop/cart TCP 4: no", "ops/mon > ops/admin TCP 5: yes")
	b.expectProblems(
		"Limit NetworkPolicy west/shop/b: spec.ingress[0].from[0]: matches nothing: expected the policies of this namespace that select pods of this node to have peer selectors with at most 4 members together",
		"Limit NetworkPolicy west/shop/c: spec.ingress[0].from[0]: matches nothing",
	)
	// Membership alone makes room, and takes it.
	b.gone(model.PodKey("west", "shop", "db"))
	b.gone(model.PodKey("west", "ops", "mon"))
	b.expect("shop/web > shop/cart TCP 1: yes", "ops/admin > shop/cart TCP 4: yes", "shop/web > shop/cart TCP 2: no")
	b.expectProblems("west/shop/b")
	b.tell(podAt("west/node-2/shop/web2", "app=web", "10.1.1.40", ""))
	b.expect("shop/web2 > shop/cart TCP 1: yes", "ops/admin > shop/cart TCP 4: no")
	b.gone(model.PodKey("west", "shop", "web2"))
	b.gone(model.PodKey("west", "shop", "web"))
	b.expect("ops/admin > shop/cart TCP 2: yes", "ops/admin > shop/cart TCP 4: no") // all pods have 4 addresses now
}

func TestPeersPastTheLimitOfRulesAreEmpty_2_13(t *testing.T) {
	var ports, more []string
	for i := range 10 {
		ports = append(ports, fmt.Sprintf("TCP %d", 1+i))
		more = append(more, fmt.Sprintf("UDP n%d", i))
	}
	many := strings.Join(ports, "; ")
	b := newBedWith(t, limited(Limits{Rules: 25}),
		in(np("shop/a", "app=cart"), on(many, from("app=web"), block("8.0.0.0/8"), block("9.0.0.0/8"), from("app=db")), on("TCP 99", from("app=db"))),
		out(np("ops/a", ""), on(strings.Join(more, "; ")+"; "+many, block("0.0.0.0/0", "10.0.0.0/8"), block("fd00::/8", "fd00:1::/32"))),
	)
	b.expect(
		"shop/web > shop/cart TCP 1,10: no", "8.8.8.8 > shop/cart TCP 1,10: yes", "9.9.9.9 > shop/cart TCP 10: yes", "shop/db > shop/cart TCP 1: no", "shop/db > shop/cart TCP 99: yes",
		"ops/admin > 8.8.8.8 TCP 10: yes", "ops/admin > 10.2.0.1 TCP 10: no", "ops/admin > 8.8.8.8 UDP 1: no",
	)
	if got := strings.Join(b.problems(), "\n"); !strings.Contains(got, "from[0]: matches nothing, and 1 more after it: expected the policies of this namespace that select pods of this node to have at most 25 rules and address ranges") {
		t.Error(got)
	}
}

// One policy of many peers and many ports has their product of rules, which
// must not be made before it is known to be too many.
func TestAProductOfPeersAndPortsIsCheap_2_13(t *testing.T) {
	rule := model.PolicyRule{}
	for i := range 5000 {
		rule.Ports = append(rule.Ports, model.PolicyPort{Protocol: model.TCP, Name: fmt.Sprintf("n%d", i)})
		rule.Peers = append(rule.Peers, from(fmt.Sprintf("app=a%d", i)), block(fmt.Sprintf("10.%d.%d.0/24", i/250, i%250)))
	}
	b := newBed(t, in(np("shop/a", "app=cart"), rule), out(np("shop/b", "app=cart"), rule))
	b.expect("10.1.1.1 > shop/cart TCP 1: no", "shop/cart > 10.1.1.1 TCP 1: no")
	if n := len(b.last.Rules.Sets); n != 0 {
		t.Errorf("%d sets", n)
	}
	// Each named port is a Problem of its own: that no pod has it, that an ipBlock
	// has none. The peers are one Problem a policy.
	if n := len(b.problems()); n != 2*5000+2 {
		t.Errorf("%d problems", n)
	}
}

// TestContainersThatShareAPortNameAreBounded_2_13: who may write policies and pods
// must not multiply one with the other.
func TestContainersThatShareAPortNameAreBounded_2_13(t *testing.T) {
	const containers, blocks = 200, 40
	rule := on("TCP http; TCP sql")
	for i := range blocks {
		rule.Peers = append(rule.Peers, block(fmt.Sprintf("10.%d.0.0/16", 100+i), fmt.Sprintf("10.%d.1.0/24", 100+i)))
	}
	rule.AnyPeer = false
	var ports []string
	for i := range containers {
		ports = append(ports, fmt.Sprintf("http TCP %d", 1000+i))
	}
	b := newBedWith(t, limited(Limits{Rules: 400}), in(np("shop/a", "app=cart"), rule))
	b.tell(podAt("west/node-1/shop/cart", "app=cart", "10.1.0.10 fd00:1::10", strings.Join(append(ports, "sql TCP 5432"), "; ")))
	b.expect("10.100.0.1 > shop/cart TCP 1000: yes", "10.139.0.1 > shop/cart TCP 1000,5432: yes", "10.139.0.1 > shop/cart TCP 1199: no")
	b.expectProblems("Limit NetworkPolicy west/shop/a: spec.ingress[0].ports[0].port: not all numbers of \"http\" match in pod cart")
	for _, e := range b.last.Rules.Endpoints {
		if e.Ingress != nil && len(e.Ingress.List.Rules) > 2*400 {
			t.Errorf("%d rules", len(e.Ingress.List.Rules))
		}
	}
	b.tell(podAt("west/node-1/shop/cart", "app=cart", "10.1.0.10 fd00:1::10", "http TCP 8080; http TCP 8081; sql TCP 5432"))
	b.expect("10.139.0.1 > shop/cart TCP 8080,8081,5432: yes")
	b.expectProblems()
}

// What was wanted, then not, and is again, all before the next State, has the
// size that it has: the index may say of it that nothing has changed.
func TestMembersOfWhatIsWantedAgainAreCounted_2_13(t *testing.T) {
	for name, between := range map[string]func(b *bed){
		"with an Update between":    func(b *bed) { track(b.set, b.index) },
		"with the Problems between": func(b *bed) { b.set.Problems() },
		"with nothing between":      func(*bed) {},
	} {
		t.Run(name, func(t *testing.T) {
			p := in(np("shop/p", "app=cart"), on("", spaces("")))
			b := newBedWith(t, limited(Limits{Members: 9}), p) // 5 pods of two addresses
			b.expect("shop/web > shop/cart TCP 1: no")
			b.gone(p.Key)
			between(b)
			b.tell(p)
			b.expect("shop/web > shop/cart TCP 1: no")
		})
	}
}
