package equivalence

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/overland-net/overland/test/worlds"
)

// Shorter names of what mistakes are made in.
type (
	netpol = networkingv1.NetworkPolicy
	peer   = networkingv1.NetworkPolicyPeer
	port   = networkingv1.NetworkPolicyPort
)

// mistake makes of a world another one, in which a right reading gives what a
// wrong reading of the first would give.
type mistake struct {
	name  string
	apply func(*worlds.Cluster)
}

// inPolicies changes a copy of each policy.
func inPolicies(change func(*netpol)) func(*worlds.Cluster) {
	return func(c *worlds.Cluster) {
		for i, p := range c.Policies {
			c.Policies[i] = p.DeepCopy()
			change(c.Policies[i])
		}
	}
}

// inPeers changes all peers of all rules, and may make more or less of them.
func inPeers(change func(peer) []peer) func(*worlds.Cluster) {
	all := func(list []peer) []peer {
		var changed []peer
		for _, p := range list {
			changed = append(changed, change(p)...)
		}
		if len(list) > 0 && len(changed) == 0 {
			return []peer{{PodSelector: nobody()}}
		}
		return changed
	}
	return inPolicies(func(p *netpol) {
		for i := range p.Spec.Ingress {
			p.Spec.Ingress[i].From = all(p.Spec.Ingress[i].From)
		}
		for i := range p.Spec.Egress {
			p.Spec.Egress[i].To = all(p.Spec.Egress[i].To)
		}
	})
}

// inPorts changes each port of each rule.
func inPorts(change func(*port)) func(*worlds.Cluster) {
	return inPolicies(func(p *netpol) {
		for _, r := range p.Spec.Ingress {
			for i := range r.Ports {
				change(&r.Ports[i])
			}
		}
		for _, r := range p.Spec.Egress {
			for i := range r.Ports {
				change(&r.Ports[i])
			}
		}
	})
}

func inPods(change func(*corev1.Pod)) func(*worlds.Cluster) {
	return func(c *worlds.Cluster) {
		for i, p := range c.Pods {
			c.Pods[i] = p.DeepCopy()
			change(c.Pods[i])
		}
	}
}

// inSelectors changes all requirements that are written as expressions.
func inSelectors(change func(metav1.LabelSelectorRequirement) []metav1.LabelSelectorRequirement) func(*worlds.Cluster) {
	selector := func(s *metav1.LabelSelector) {
		if s == nil {
			return
		}
		var all []metav1.LabelSelectorRequirement
		for _, r := range s.MatchExpressions {
			all = append(all, change(r)...)
		}
		s.MatchExpressions = all
	}
	return inPeers(func(p peer) []peer {
		selector(p.PodSelector)
		selector(p.NamespaceSelector)
		return []peer{p}
	})
}

// nobody selects nothing.
func nobody() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "nobody-has-this"}}
}

func mistakes() []mistake {
	return slices.Concat(mistakesInPolicies(), mistakesInPeers(), mistakesInScope(), mistakesInPorts(), mistakesInPods())
}

func mistakesInPolicies() []mistake {
	return []mistake{
		{"an empty list of peers is nobody", inPolicies(func(p *netpol) {
			p.Spec.Ingress = slices.DeleteFunc(p.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool { return len(r.From) == 0 })
			if len(p.Spec.PolicyTypes) > 0 {
				p.Spec.Egress = slices.DeleteFunc(p.Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool { return len(r.To) == 0 })
			}
		})},
		{"egress rules do not isolate by themselves", inPolicies(func(p *netpol) {
			if len(p.Spec.PolicyTypes) == 0 {
				p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
			}
		})},
		{"a policy always isolates both directions", inPolicies(func(p *netpol) {
			p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
		})},
		{"a policy without rules isolates nothing", func(c *worlds.Cluster) {
			c.Policies = slices.DeleteFunc(c.Policies, func(p *netpol) bool { return len(p.Spec.Ingress)+len(p.Spec.Egress) == 0 })
		}},
		{"only one policy applies", func(c *worlds.Cluster) {
			seen := map[string]bool{}
			c.Policies = slices.DeleteFunc(c.Policies, func(p *netpol) bool {
				twice := seen[p.Namespace]
				seen[p.Namespace] = true
				return twice
			})
		}},
		{"only the first rule counts", inPolicies(func(p *netpol) {
			p.Spec.Ingress = p.Spec.Ingress[:min(1, len(p.Spec.Ingress))]
			p.Spec.Egress = p.Spec.Egress[:min(1, len(p.Spec.Egress))]
		})},
	}
}

func mistakesInPeers() []mistake {
	return []mistake{
		{"selectors of pods and of namespaces are two peers", inPeers(func(p peer) []peer {
			if p.PodSelector == nil || p.NamespaceSelector == nil {
				return []peer{p}
			}
			return []peer{{PodSelector: p.PodSelector}, {NamespaceSelector: p.NamespaceSelector}}
		})},
		{"a podSelector means pods of all namespaces", inPeers(func(p peer) []peer {
			if p.PodSelector != nil && p.NamespaceSelector == nil && !strings.Contains(p.PodSelector.String(), "overland.dev/kind") {
				p.NamespaceSelector = &metav1.LabelSelector{}
			}
			return []peer{p}
		})},
		{"an empty namespaceSelector is the own namespace", inPeers(func(p peer) []peer {
			if s := p.NamespaceSelector; s != nil && len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
				p.NamespaceSelector = nil
				if p.PodSelector == nil {
					p.PodSelector = &metav1.LabelSelector{}
				}
			}
			return []peer{p}
		})},
		{"exceptions are ignored", inPeers(func(p peer) []peer {
			if p.IPBlock != nil {
				p.IPBlock.Except = nil
			}
			return []peer{p}
		})},
		{"ranges do not hold what policies could select", inPeers(func(p peer) []peer {
			if p.IPBlock != nil && strings.HasPrefix(p.IPBlock.CIDR, "10.") {
				return nil
			}
			return []peer{p}
		})},
		{"NotIn is false for what lacks the key", inSelectors(func(r metav1.LabelSelectorRequirement) []metav1.LabelSelectorRequirement {
			if r.Operator == metav1.LabelSelectorOpNotIn {
				return []metav1.LabelSelectorRequirement{r, {Key: r.Key, Operator: metav1.LabelSelectorOpExists}}
			}
			return []metav1.LabelSelectorRequirement{r}
		})},
		{"expressions beside matchLabels are ignored", inPeers(func(p peer) []peer {
			for _, s := range []*metav1.LabelSelector{p.PodSelector, p.NamespaceSelector} {
				if s != nil && len(s.MatchLabels) > 0 {
					s.MatchExpressions = nil
				}
			}
			return []peer{p}
		})},
		{"an empty value is a missing label", inSelectors(func(r metav1.LabelSelectorRequirement) []metav1.LabelSelectorRequirement {
			if r.Operator == metav1.LabelSelectorOpExists {
				return []metav1.LabelSelectorRequirement{r, {Key: r.Key, Operator: metav1.LabelSelectorOpNotIn, Values: []string{""}}}
			}
			return []metav1.LabelSelectorRequirement{r}
		})},
	}
}

func mistakesInScope() []mistake {
	cluster := func(key string) bool {
		return strings.Contains(key, "overland.dev/cluster") || strings.HasPrefix(key, "cluster.")
	}
	return []mistake{
		{"requirements on the cluster are ignored", inSelectors(func(r metav1.LabelSelectorRequirement) []metav1.LabelSelectorRequirement {
			if cluster(r.Key) {
				return nil
			}
			return []metav1.LabelSelectorRequirement{r}
		})},
		{"peers mean all clusters", func(c *worlds.Cluster) {
			c.Agent.Mesh = true
			inPolicies(func(p *netpol) { p.Annotations = nil })(c)
			for i, n := range c.Namespaces {
				c.Namespaces[i] = n.DeepCopy()
				c.Namespaces[i].Annotations = nil
			}
		}},
		{"a policy may always widen", func(c *worlds.Cluster) { c.Agent.ScopeOverride = "policy" }},
		{"an invalid scope is no scope", func(c *worlds.Cluster) {
			inPolicies(func(p *netpol) {
				if v := p.Annotations["overland.dev/peer-scope"]; v != "local" && v != "mesh" {
					p.Annotations = nil
				}
			})(c)
		}},
		{"nodes are selected beside a selector of namespaces", inPeers(func(p peer) []peer {
			if p.PodSelector != nil && p.PodSelector.MatchLabels["overland.dev/kind"] == "Node" {
				p.NamespaceSelector = nil
			}
			return []peer{p}
		})},
		{"a cluster's ranges are not looked at", func(c *worlds.Cluster) { c.PodCIDRs, c.NodeCIDRs = nil, nil }},
	}
}

func mistakesInPorts() []mistake {
	return []mistake{
		{"endPort is ignored", inPorts(func(p *port) { p.EndPort = nil })},
		{"protocols are ignored", inPorts(func(p *port) { p.Protocol = nil })},
		{"a protocol without a port is port 80", inPorts(func(p *port) {
			if p.Port == nil {
				eighty := intstr.FromInt32(80)
				p.Port = &eighty
			}
		})},
		{"ports of init containers count", inPods(func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, p.Spec.InitContainers...)
			p.Spec.InitContainers = nil
		})},
		{"a name means the port of the first container", inPods(func(p *corev1.Pod) {
			p.Spec.Containers = p.Spec.Containers[:1]
		})},
	}
}

func mistakesInPods() []mistake {
	return []mistake{
		{"finished pods count", inPods(func(p *corev1.Pod) {
			if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				p.Status.Phase = corev1.PodRunning
			}
		})},
		{"terminating pods do not count", func(c *worlds.Cluster) {
			c.Pods = slices.DeleteFunc(c.Pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
		}},
		{"service accounts are not looked at", inPods(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "default" })},
		{"pods have one address", inPods(func(p *corev1.Pod) { p.Status.PodIPs = p.Status.PodIPs[:1] })},
	}
}

// mistaken is the world as the mistake makes it; the given one stays as it is.
func (m mistake) mistaken(w worlds.World) worlds.World {
	w.Clusters = slices.Clone(w.Clusters)
	for i := range w.Clusters {
		c := &w.Clusters[i]
		c.Namespaces, c.Nodes = slices.Clone(c.Namespaces), slices.Clone(c.Nodes)
		c.Pods, c.Policies = slices.Clone(c.Pods), slices.Clone(c.Policies)
		m.apply(c)
	}
	return w
}

// TestMistakesAreFound: the comparison is worth something only if it fails where
// something is wrong. Each mistake must be seen in a fifth of the worlds that an
// ordinary run looks at.
func TestMistakesAreFound(t *testing.T) {
	const most = defaultWorlds / 5
	first := firstSeed(t)
	for _, m := range mistakes() {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			for i := range uint64(most) {
				seed := first + i
				w := worlds.Random(seed, worlds.Small())
				at := placeOf(w, rand.New(rand.NewPCG(seed, 1)))
				if _, found := look(w, m.mistaken(w), at, seed, probesAWorld); found != nil {
					t.Logf("found in world %d of %d", i+1, most)
					return
				}
			}
			t.Errorf("not found in %d worlds", most)
		})
	}
}
