package connect

import (
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func labelled(pairs ...string) *metav1.LabelSelector {
	s := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		s.MatchLabels[pairs[i]] = pairs[i+1]
	}
	return s
}

func expression(key string, op metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
}

func TestWidenedListsWhatTheLinkAddsPeersTo_2_3(t *testing.T) {
	type peer = networkingv1.NetworkPolicyPeer
	const cluster, region = "overland.dev/cluster", "cluster.overland.dev/region"
	for _, tt := range []struct {
		name   string
		peer   peer
		facts  Facts
		scope  string // annotation of the policy
		egress bool
		want   string // part of why; empty: not widened
	}{
		{name: "plain, in local scope", peer: peer{PodSelector: labelled("app", "cart")}},
		{name: "plain, in mesh scope by configuration", peer: peer{PodSelector: labelled("app", "cart")}, facts: Facts{Config: AgentConfig{PeerScope: "mesh"}}, want: "ingress[0].from[0] names no cluster, and the scope is mesh by the agents' configuration"},
		{name: "by the namespace", peer: peer{NamespaceSelector: &metav1.LabelSelector{}}, facts: Facts{Scopes: map[string]string{"redis": "mesh"}}, want: "the annotation of namespace redis"},
		{name: "by the policy", peer: peer{PodSelector: labelled()}, scope: "mesh", egress: true, want: "egress[0].to[0] names no cluster, and the scope is mesh by its annotation"},
		{name: "narrowed by the policy", peer: peer{PodSelector: labelled()}, facts: Facts{Config: AgentConfig{PeerScope: "mesh"}}, scope: "local"},
		{name: "an invalid value means local", peer: peer{PodSelector: labelled()}, facts: Facts{Config: AgentConfig{PeerScope: "mesh"}}, scope: "everywhere"},
		{name: "the policy may not", peer: peer{PodSelector: labelled()}, facts: Facts{Config: AgentConfig{PeerScopeOverride: "namespace"}}, scope: "mesh"},
		{name: "nor the namespace", peer: peer{PodSelector: labelled()}, facts: Facts{Config: AgentConfig{PeerScopeOverride: "none"}, Scopes: map[string]string{"redis": "mesh"}}},
		{name: "a block", peer: peer{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0"}}, facts: Facts{Config: AgentConfig{PeerScope: "mesh"}}},
		{name: "names the cluster", peer: peer{PodSelector: labelled(cluster, "canada", "app", "cart")}, want: "names clusters, canada among them"},
		{name: "names it on the namespace", peer: peer{NamespaceSelector: labelled(cluster, "canada")}, want: "names clusters"},
		{name: "names another", peer: peer{PodSelector: labelled(cluster, "fiji")}, facts: Facts{Config: AgentConfig{PeerScope: "mesh"}}},
		{name: "any", peer: peer{PodSelector: expression(cluster, metav1.LabelSelectorOpExists)}, want: "names clusters"},
		{name: "all but it", peer: peer{PodSelector: expression(cluster, metav1.LabelSelectorOpNotIn, "canada")}},
		{name: "all but another", peer: peer{PodSelector: expression(cluster, metav1.LabelSelectorOpNotIn, "fiji")}, want: "names clusters"},
		{name: "by its label", peer: peer{NamespaceSelector: labelled(region, "ca")}, want: "names clusters"},
		{name: "by another's label", peer: peer{NamespaceSelector: labelled(region, "us")}},
		{name: "both must hold", peer: peer{PodSelector: labelled(cluster, "canada"), NamespaceSelector: labelled(region, "us")}},
		{name: "malformed", peer: peer{PodSelector: expression(cluster, "Near", "canada")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "redis", Name: "p"}}
			if tt.scope != "" {
				p.Annotations = map[string]string{"overland.dev/peer-scope": tt.scope}
			}
			if tt.egress {
				p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: []peer{tt.peer}}}
			} else {
				p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []peer{tt.peer}}}
			}
			tt.facts.Policies = mentionsPeers([]networkingv1.NetworkPolicy{p})
			got := Widened(tt.facts, "canada", map[string]string{"region": "ca"})
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %v", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0].Why, tt.want)):
				t.Errorf("got %v", got)
			}
		})
	}
}
