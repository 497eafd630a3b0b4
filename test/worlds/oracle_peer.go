package worlds

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// found is what a key is for one endpoint. A key that is unknown, or in the wrong
// place, matches nothing under every operator (2.2).
type found struct {
	value        string
	has, unknown bool
}

// peerMatches tells whether an address is one of a peer's, as the policy's own
// cluster sees it.
func (w World) peerMatches(c *Cluster, p *networkingv1.NetworkPolicy, peer *networkingv1.NetworkPolicyPeer, a netip.Addr) bool {
	if peer.IPBlock != nil {
		return blockMatches(peer.IPBlock, a)
	}
	e := w.owner(c, a)
	if e.cluster == nil {
		return false // not an endpoint (2.7)
	}
	inScope := e.cluster.Name == c.Name || mentionsCluster(peer) || meshScope(c, p) // 2.3
	if !inScope {
		return false
	}
	if meansNodes(peer) {
		// Namespaces play no part, and a selector of them matches nothing (2.6).
		return e.node != nil && peer.NamespaceSelector == nil && selectsNode(peer.PodSelector, e.cluster, e.node)
	}
	if e.pod == nil {
		return false
	}
	if peer.NamespaceSelector == nil && e.pod.Namespace != p.Namespace {
		return false // the policy's own namespace, in every cluster in scope (2.4)
	}
	if peer.NamespaceSelector != nil && !selectsNamespace(peer.NamespaceSelector, e.cluster, e.pod.Namespace) {
		return false
	}
	return peer.PodSelector == nil || selectsPod(peer.PodSelector, e.cluster, e.pod)
}

// requirements are all that a selector requires.
func requirements(s *metav1.LabelSelector) []metav1.LabelSelectorRequirement {
	if s == nil {
		return nil
	}
	all := slices.Clone(s.MatchExpressions)
	for k, v := range s.MatchLabels {
		all = append(all, metav1.LabelSelectorRequirement{Key: k, Operator: metav1.LabelSelectorOpIn, Values: []string{v}})
	}
	return all
}

// mentionsCluster tells whether a cluster key (2.2) is in either selector.
func mentionsCluster(peer *networkingv1.NetworkPolicyPeer) bool {
	for _, r := range slices.Concat(requirements(peer.PodSelector), requirements(peer.NamespaceSelector)) {
		if r.Key == "overland.dev/cluster" || strings.HasPrefix(r.Key, "cluster.overland.dev/") {
			return true
		}
	}
	return false
}

// meansNodes: the podSelector requires the kind to be exactly Node (2.6).
func meansNodes(peer *networkingv1.NetworkPolicyPeer) bool {
	for _, r := range requirements(peer.PodSelector) {
		if r.Key != "overland.dev/kind" || r.Operator != metav1.LabelSelectorOpIn {
			continue
		}
		if !slices.ContainsFunc(r.Values, func(v string) bool { return v != "Node" }) {
			return true
		}
	}
	return false
}

// meshScope is the scope of peers that mention no cluster (2.3): that of the
// agent's configuration, overridden on the namespace, and then on the policy.
func meshScope(c *Cluster, p *networkingv1.NetworkPolicy) bool {
	mesh := c.Agent.Mesh
	if ns := c.Namespace(p.Namespace); ns != nil {
		mesh = annotated(ns.Annotations, mesh, c.Agent.ScopeOverride == "policy" || c.Agent.ScopeOverride == "namespace")
	}
	return annotated(p.Annotations, mesh, c.Agent.ScopeOverride == "policy")
}

func annotated(annotations map[string]string, mesh, mayWiden bool) bool {
	value, there := annotations["overland.dev/peer-scope"]
	switch {
	case !there:
		return mesh
	case value == "mesh":
		return mesh || mayWiden
	}
	return false // local, or invalid
}

// selectsPod evaluates a podSelector on a pod: of a peer, or of a policy that may
// apply to it (2.5).
func selectsPod(s *metav1.LabelSelector, c *Cluster, pod *corev1.Pod) bool {
	return selects(s, func(key string) found {
		switch {
		case key == "overland.dev/kind":
			return found{value: "Pod", has: true}
		case key == "overland.dev/service-account":
			return found{value: pod.Spec.ServiceAccountName, has: true}
		}
		return clusterOrOwn(c, pod.Labels, key)
	})
}

// selectsNode evaluates a podSelector that means nodes on a node. A service
// account is a pod's: there it is in the wrong place.
func selectsNode(s *metav1.LabelSelector, c *Cluster, node *corev1.Node) bool {
	return selects(s, func(key string) found {
		switch {
		case key == "overland.dev/kind":
			return found{value: "Node", has: true}
		case key == "overland.dev/service-account":
			return found{unknown: true}
		}
		return clusterOrOwn(c, node.Labels, key)
	})
}

// selectsNamespace evaluates a namespaceSelector on the Namespace object of the
// endpoint's own cluster (2.4). Its name is always its own (1.4).
func selectsNamespace(s *metav1.LabelSelector, c *Cluster, name string) bool {
	ns := c.Namespace(name)
	return ns != nil && selects(s, func(key string) found {
		if key == "kubernetes.io/metadata.name" {
			return found{value: name, has: true}
		}
		return clusterOrOwn(c, ns.Labels, key)
	})
}

// clusterOrOwn knows the keys that are good in every selector: the cluster's, and
// the labels of an object, whose reserved ones do not count (1.4).
func clusterOrOwn(c *Cluster, labels map[string]string, key string) found {
	if key == "overland.dev/cluster" {
		return found{value: c.Name, has: true}
	}
	if k, ok := strings.CutPrefix(key, "cluster.overland.dev/"); ok {
		v, has := c.Labels[k]
		return found{value: v, has: has}
	}
	domain, _, qualified := strings.Cut(key, "/")
	if qualified && (domain == "overland.dev" || strings.HasSuffix(domain, ".overland.dev")) {
		return found{unknown: true}
	}
	if key == "federation.tigera.io/remoteClusterName" || key == "federation.www.tigera.io/remoteClusterName" {
		return found{unknown: true} // reserved (1.4), and a key of no selector here
	}
	v, has := labels[key]
	return found{value: v, has: has}
}

// selects is what Kubernetes documents of label selectors: all requirements must
// hold; NotIn holds for what lacks the key.
func selects(s *metav1.LabelSelector, get func(key string) found) bool {
	for _, r := range requirements(s) {
		f := get(r.Key)
		if f.unknown {
			return false
		}
		in := f.has && slices.Contains(r.Values, f.value)
		holds := false
		switch r.Operator {
		case metav1.LabelSelectorOpIn:
			holds = in
		case metav1.LabelSelectorOpNotIn:
			holds = !in
		case metav1.LabelSelectorOpExists:
			holds = f.has
		case metav1.LabelSelectorOpDoesNotExist:
			holds = !f.has
		}
		if !holds {
			return false
		}
	}
	return true
}
