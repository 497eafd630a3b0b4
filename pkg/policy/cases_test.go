package policy

import (
	"fmt"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

// TestCornerCasesOfSelection is those of the list of corner cases that engines
// get wrong which are about selection by whole policies: which are active for a
// pod of shop with app=cart, and how many peer selectors they want.
func TestCornerCasesOfSelection(t *testing.T) {
	peers := func(p ...model.PolicyPeer) []model.PolicyRule { return []model.PolicyRule{{Peers: p, AnyPort: true}} }
	for _, c := range []struct {
		name    string
		policy  func(p *model.Policy)
		active  bool
		wanted  int
		problem bool
	}{
		{"(1) podSelector {}: all pods of the namespace", func(*model.Policy) {}, true, 0, false},
		{"(2) two items: OR, each its own", func(p *model.Policy) {
			p.IngressRules = peers(from("app=web"), model.PolicyPeer{Namespaces: sel("env=prod")})
		}, true, 2, false},
		{"(2) one item with both: AND, one", func(p *model.Policy) {
			p.IngressRules = peers(model.PolicyPeer{Pods: sel("app=web"), Namespaces: sel("env=prod")})
		}, true, 1, false},
		{"(3) several rules, one peer: one selector", func(p *model.Policy) {
			p.IngressRules = append(peers(from("app=web")), peers(from("app=web"))...)
		}, true, 1, false},
		{"(3) ingress and egress, one peer: one selector", func(p *model.Policy) {
			p.Egress, p.IngressRules, p.EgressRules = true, peers(from("app=web")), peers(from("app=web"))
		}, true, 1, false},
		{"(4) no from: all sources need no set", func(p *model.Policy) { p.IngressRules = []model.PolicyRule{{AnyPeer: true}} }, true, 0, false},
		{"(4) (2.12) a from whose peers are all left out: none, and no set", func(p *model.Policy) {
			p.IngressRules, p.Malformed = []model.PolicyRule{{}}, []string{"spec.ingress[0].from[0]: x"}
		}, true, 0, true},
		{"(6) no rules: active all the same, it denies", func(p *model.Policy) { p.IngressRules = nil }, true, 0, false},
		{"(7) only egress isolated: ingress rules want nothing", func(p *model.Policy) {
			p.Ingress, p.Egress, p.IngressRules, p.EgressRules = false, true, peers(from("app=web")), peers(from("app=db"))
		}, true, 1, false},
		{"(7) nothing isolated: nothing wanted", func(p *model.Policy) { p.Ingress, p.IngressRules = false, peers(from("app=web")) }, true, 0, false},
		{"(22) NotIn of several values", func(p *model.Policy) { p.Pods = *sel("app notin web,cart") }, false, 0, false},
		{"(22) NotIn selects what lacks the key", func(p *model.Policy) { p.Pods = *sel("tier notin web,db") }, true, 0, false},
		{"(45) an empty value is not a missing label", func(p *model.Policy) { p.Pods = *sel("tier=") }, false, 0, false},
		{"(46) matchLabels and matchExpressions: AND", func(p *model.Policy) { p.Pods = *sel("app=cart; app notin cart,web") }, false, 0, true},
		{"an ipBlock needs no set", func(p *model.Policy) { p.IngressRules = peers(model.PolicyPeer{Block: prefix("0.0.0.0/0")}) }, true, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := policyIn("shop", "")
			c.policy(p)
			s := NewSet(west(), "node-1")
			s.Apply(model.Set(p))
			s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "app=cart")))
			track, _, _, _ := s.Update()
			if s.Len() == 1 != c.active || len(track) != c.wanted || (len(s.Problems()) > 0) != c.problem {
				t.Errorf("active %v, wanted %v, problems %v", names(s), track, s.Problems())
			}
		})
	}
}

func TestPoliciesAreAUnionInAnyOrder_8(t *testing.T) {
	s := NewSet(west(), "node-1")
	for _, name := range []string{"c", "a", "b"} {
		s.Apply(model.Set(named(policyIn("shop", "app=cart", from("app=web")), name)))
	}
	s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "app=cart")))
	if got := names(s); !slices.Equal(got, []string{"shop/a", "shop/b", "shop/c"}) {
		t.Error(got)
	}
}

// A hostNetwork pod is no endpoint, so no fact ever tells of one: its node is
// not selected by being its node either.
func TestNodesAreNotSelectedAsPods_31(t *testing.T) {
	s := NewSet(west(), "node-1")
	s.Apply(model.Set(policyIn("", "")))
	s.Apply(model.Set(&model.Endpoint{Key: model.NodeKey("west", "node-1"), Node: "node-1"}))
	if s.Len() != 0 {
		t.Error(names(s))
	}
}

// isolation is a policy as each of many namespaces may have: only pods of its
// own namespace may connect.
func isolation(namespace string) *model.Policy {
	return named(policyIn(namespace, "", from("")), "isolate")
}

// BenchmarkManyNamespaces is 100,000 namespaces with a policy and a pod each,
// 100 of the pods on this node.
func BenchmarkManyNamespaces(b *testing.B) {
	const namespaces, here = 100_000, 100
	var facts []model.Change
	for i := range namespaces {
		ns := fmt.Sprintf("namespace-%d", i)
		node := "node-2"
		if i%(namespaces/here) == 0 {
			node = "node-1"
		}
		facts = append(facts, model.Set(&model.Namespace{Key: model.NamespaceKey("west", ns)}), model.Set(isolation(ns)), model.Set(podOn(node, ns, "p", "app=x")))
	}
	b.ReportAllocs()
	for b.Loop() {
		s := NewSet(west(), "node-1")
		for _, f := range facts {
			s.Apply(f)
		}
		if track, _, _, _ := s.Update(); len(track) != here || s.Len() != here {
			b.Fatal(len(track), s.Len())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*namespaces), "ns/namespace")
}

// BenchmarkManyPolicies is 10,000 policies of 5 peers, 30 distinct ones, in 100
// namespaces with two pods of this node each.
func BenchmarkManyPolicies(b *testing.B) {
	var facts []model.Change
	for i := range 10_000 {
		var peers []model.PolicyPeer
		for j := range 5 {
			peers = append(peers, model.PolicyPeer{Pods: sel(fmt.Sprintf("app=a%d", (i+j*7)%30)), Namespaces: sel("env=prod")})
		}
		facts = append(facts, model.Set(named(policyIn(fmt.Sprintf("ns-%d", i%100), "app=x", peers...), fmt.Sprintf("p-%d", i))))
	}
	for i := range 200 {
		facts = append(facts, model.Set(podOn("node-1", fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("pod-%d", i), "app=x")))
	}
	b.ReportAllocs()
	for b.Loop() {
		s := NewSet(west(), "node-1")
		for _, f := range facts {
			s.Apply(f)
		}
		if track, _, _, _ := s.Update(); len(track) != 30 || s.Len() != 10_000 {
			b.Fatal(len(track), s.Len())
		}
	}
}

// BenchmarkPodLabelChange is one pod's label, back and forth, in a namespace of
// 1,000 policies with 10 distinct podSelectors.
func BenchmarkPodLabelChange(b *testing.B) {
	s := NewSet(west(), "node-1")
	for i := range 1000 {
		s.Apply(model.Set(named(policyIn("shop", fmt.Sprintf("app=a%d", i%10), from("app=web")), fmt.Sprintf("p-%d", i))))
	}
	s.Apply(model.Set(podOn("node-1", "shop", "other", "app=a0")))
	changes := []model.Change{
		model.Set(podOn("node-1", "shop", "cart-0", "app=a0")), model.Set(podOn("node-1", "shop", "cart-0", "app=none")),
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		s.Apply(changes[i%2])
		s.Update()
		i++
	}
}
