package policy

import (
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

// badPolicies have one mistake or several, each of its own kind.
func badPolicies() []*model.Policy {
	peers := func(p ...model.PolicyPeer) []model.PolicyRule {
		return []model.PolicyRule{{AnyPort: true, Peers: p}}
	}
	reserved := &model.LabelSelector{{Key: "overland.dev/nonsense", Operator: model.Exists}}
	return []*model.Policy{
		{Ingress: true, Malformed: []string{"spec.ingress[0]: cannot be read"}},
		{Ingress: true, PeerScope: "everything"},
		{Ingress: true, IngressRules: peers(model.PolicyPeer{Pods: reserved}, model.PolicyPeer{Namespaces: reserved})},
		{Egress: true, EgressRules: peers(model.PolicyPeer{})},
		{Egress: true, IngressRules: peers(model.PolicyPeer{}), EgressRules: []model.PolicyRule{{
			Peers: []model.PolicyPeer{{Block: prefix("10.0.0.0/8"), Except: nil}},
			Ports: []model.PolicyPort{{Protocol: model.TCP, Name: "http"}, {Protocol: 99}},
		}}},
		{Ingress: true, IngressRules: peers(model.PolicyPeer{Block: prefix("10.0.0.0/8")})},
	}
}

// TestEveryNodeFindsTheSameMistakes_2_12: those of a policy's own words are found
// without any pod, and are those that a node with its pods finds.
func TestEveryNodeFindsTheSameMistakes_2_12(t *testing.T) {
	total := 0
	for i, p := range badPolicies() {
		p.Key = model.PolicyKey("west", "shop", "p")
		for _, annotation := range []string{"", "mesh", "nonsense"} {
			b := newBed(t, p)
			ns := ns("west", "shop", "env=prod")
			ns.PeerScope = annotation
			b.tell(ns)
			b.state()
			alone := b.set.config.Problems(p, ns)
			if here := b.set.Problems(); !slices.Equal(alone, here) {
				t.Errorf("policy %d with %q on its namespace: alone %v,\non a node with its pods %v", i, annotation, alone, here)
			}
			total += len(alone)
		}
	}
	if total < 15 {
		t.Errorf("only %d Problems", total)
	}
}
