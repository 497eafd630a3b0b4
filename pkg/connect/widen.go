package connect

import (
	"fmt"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/overland-net/overland/pkg/model"
)

// Widening is a network policy that means more peers once a cluster is linked.
type Widening struct {
	Namespace, Name string
	Why             string
}

// Widened are the policies of a cluster that pods or nodes of the linked one can
// come under (semantics 2.3): a peer in mesh scope, or one with cluster keys that
// the linked cluster satisfies. Which pods they are is for the rest of the
// selectors to say, now and later; it plays no part here.
func Widened(f Facts, name string, clusterLabels map[string]string) []Widening {
	var found []Widening
	for _, p := range f.Policies {
		mesh, from := scope(f, p)
		for _, peer := range selectorPeers(p) {
			matches, keyed, malformed := clusterMatch(peer.peer, name, clusterLabels)
			why := ""
			switch {
			case malformed:
			case keyed && matches:
				why = fmt.Sprintf("%s names clusters, %s among them", peer.field, name)
			case !keyed && mesh:
				why = fmt.Sprintf("%s names no cluster, and the scope is mesh by %s", peer.field, from)
			}
			if why != "" {
				found = append(found, Widening{p.Namespace, p.Name, why})
				break
			}
		}
	}
	return found
}

type namedPeer struct {
	field string
	peer  networkingv1.NetworkPolicyPeer
}

// selectorPeers are the peers of a policy that are not blocks of addresses.
func selectorPeers(p networkingv1.NetworkPolicy) []namedPeer {
	var all []namedPeer
	add := func(format string, i int, peers []networkingv1.NetworkPolicyPeer) {
		for j, peer := range peers {
			if peer.IPBlock == nil {
				all = append(all, namedPeer{fmt.Sprintf(format, i, j), peer})
			}
		}
	}
	for i, rule := range p.Spec.Ingress {
		add("ingress[%d].from[%d]", i, rule.From)
	}
	for i, rule := range p.Spec.Egress {
		add("egress[%d].to[%d]", i, rule.To)
	}
	return all
}

// scope tells whether a peer without a cluster key means all clusters, and what
// says so: the configuration, the namespace, the policy, of which the last one
// that may counts (peerScopeOverride). An invalid value means local.
func scope(f Facts, p networkingv1.NetworkPolicy) (mesh bool, from string) {
	value, from := f.Config.PeerScope, "the agents' configuration"
	override := f.Config.PeerScopeOverride
	if s, ok := f.Scopes[p.Namespace]; ok && override != "none" {
		value, from = s, "the annotation of namespace "+p.Namespace
	}
	if s, ok := p.Annotations[model.AnnotationPeerScope]; ok && override != "none" && override != "namespace" {
		value, from = s, "its annotation"
	}
	return value == "mesh", from
}

// clusterMatch tells whether a peer has cluster keys, and whether a cluster
// satisfies them.
func clusterMatch(peer networkingv1.NetworkPolicyPeer, name string, clusterLabels map[string]string) (matches, keyed, malformed bool) {
	values := labels.Set{model.KeyCluster: name}
	for k, v := range clusterLabels {
		values[model.PrefixCluster+k] = v
	}
	matches = true
	for _, s := range []*metav1.LabelSelector{peer.PodSelector, peer.NamespaceSelector} {
		part := clusterPart(s)
		if len(part.MatchLabels)+len(part.MatchExpressions) == 0 {
			continue
		}
		keyed = true
		selector, err := metav1.LabelSelectorAsSelector(part)
		if err != nil {
			return false, true, true
		}
		matches = matches && selector.Matches(values)
	}
	return matches, keyed, false
}

// clusterPart is the requirements on cluster keys.
func clusterPart(s *metav1.LabelSelector) *metav1.LabelSelector {
	part := &metav1.LabelSelector{}
	if s == nil {
		return part
	}
	for k, v := range s.MatchLabels {
		if clusterKey(k) {
			if part.MatchLabels == nil {
				part.MatchLabels = map[string]string{}
			}
			part.MatchLabels[k] = v
		}
	}
	for _, r := range s.MatchExpressions {
		if clusterKey(r.Key) {
			part.MatchExpressions = append(part.MatchExpressions, r)
		}
	}
	return part
}

func clusterKey(k string) bool {
	return k == model.KeyCluster || strings.HasPrefix(k, model.PrefixCluster)
}
