package worlds

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func ptr[T any](v T) *T { return &v }

// policy makes one of the cluster, about what is in the World.
func (m maker) policy(w World, c *Cluster) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{}
	p.Namespace, p.Name, p.UID = pick(m, c.Pods).Namespace, m.policyName(c), m.uid()
	p.Generation = 1
	p.Annotations = m.scope(6)
	p.Spec.PodSelector = *m.podSelector(w, p.Namespace, true)
	switch m.IntN(8) {
	case 0:
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	case 1:
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
	case 2, 3, 4:
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress, networkingv1.PolicyTypeIngress}
	}
	for range m.IntN(3) {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: m.peers(w, p.Namespace), Ports: m.ports()})
	}
	for range m.IntN(3) {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: m.peers(w, p.Namespace), Ports: m.ports()})
	}
	if m.oneIn(20) {
		p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{} // present and empty
	}
	return p
}

// policyName is the first that is free: a cluster's policies have different
// names, whatever their namespaces, some of them long and with dots.
func (m maker) policyName(c *Cluster) string {
	for i := len(c.Policies) + 1; ; i++ {
		name := "n" + strconv.Itoa(i)
		if i%4 == 0 {
			name += ".a-name.that-does-not-fit.into-the-name-of-anything-in.a-kernel"
		}
		taken := false
		for _, p := range c.Policies {
			taken = taken || p.Name == name
		}
		if !taken {
			return name
		}
	}
}

// somePod is any pod of the World.
func (m maker) somePod(w World) (*Cluster, *corev1.Pod) {
	c := &w.Clusters[m.IntN(len(w.Clusters))]
	if len(c.Pods) == 0 {
		return c, nil
	}
	return c, pick(m, c.Pods)
}

// requirement is any that the API server lets pass.
func (m maker) requirement(key string, values []string) metav1.LabelSelectorRequirement {
	r := metav1.LabelSelectorRequirement{Key: key, Operator: pick(m, []metav1.LabelSelectorOperator{
		metav1.LabelSelectorOpIn, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn,
		metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist,
	})}
	if r.Operator == metav1.LabelSelectorOpIn || r.Operator == metav1.LabelSelectorOpNotIn {
		for range 1 + m.IntN(2) {
			r.Values = append(r.Values, pick(m, values))
		}
	}
	return r
}

// labelSelector is empty, or matches what somebody has, or requires anything.
func (m maker) labelSelector(hit map[string]string, keys, values []string) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	if m.oneIn(4) {
		return s
	}
	if m.oneIn(2) {
		for _, k := range keys {
			if v, ok := hit[k]; ok {
				s.MatchLabels = map[string]string{k: v}
				break
			}
		}
	}
	if m.oneIn(2) {
		s.MatchExpressions = append(s.MatchExpressions, m.requirement(pick(m, keys), values))
	}
	return s
}

// podSelector is one of a peer, or that of a policy.
func (m maker) podSelector(w World, namespace string, own bool) *metav1.LabelSelector {
	_, pod := m.somePod(w)
	var hit map[string]string
	if pod != nil {
		hit = pod.Labels
	}
	s := m.labelSelector(hit, labelKeys(), labelValues())
	if own && !m.oneIn(3) {
		*s = metav1.LabelSelector{}
	}
	switch m.IntN(10) {
	case 0:
		m.require(s, m.requirement("overland.dev/service-account", []string{"default", "robot"}))
	case 1:
		m.require(s, m.requirement("overland.dev/kind", []string{"Pod", "Node"}))
	case 2, 3:
		if !own || m.oneIn(2) {
			m.require(s, m.clusterRequirement(w))
		}
	case 4:
		if m.oneIn(4) {
			m.require(s, m.requirement(pick(m, reservedKeys()), []string{"west", namespace, "a"}))
		}
	}
	return s
}

// require adds a requirement, as a label where that says the same and a coin
// wants it.
func (m maker) require(s *metav1.LabelSelector, r metav1.LabelSelectorRequirement) {
	if _, there := s.MatchLabels[r.Key]; !there && r.Operator == metav1.LabelSelectorOpIn && len(r.Values) == 1 && m.oneIn(2) {
		labels := map[string]string{r.Key: r.Values[0]}
		for k, v := range s.MatchLabels {
			labels[k] = v
		}
		s.MatchLabels = labels
		return
	}
	s.MatchExpressions = append(s.MatchExpressions, r)
}

// clusterRequirement is on a cluster key (2.3).
func (m maker) clusterRequirement(w World) metav1.LabelSelectorRequirement {
	if m.oneIn(3) {
		return m.requirement("cluster.overland.dev/"+pick(m, clusterKeys()), labelValues())
	}
	names := []string{"elsewhere"}
	for _, c := range w.Clusters {
		names = append(names, c.Name, c.Name)
	}
	return m.requirement("overland.dev/cluster", names)
}

func (m maker) namespaceSelector(w World, namespace string) *metav1.LabelSelector {
	c, pod := m.somePod(w)
	var hit map[string]string
	if pod != nil {
		if ns := c.Namespace(pod.Namespace); ns != nil {
			hit = ns.Labels
		}
	}
	s := m.labelSelector(hit, namespaceKeys(), labelValues())
	switch m.IntN(8) {
	case 0:
		m.require(s, m.requirement(corev1.LabelMetadataName, []string{namespace, m.size.Prefix + pick(m, namespaceNames())}))
	case 1, 2:
		m.require(s, m.clusterRequirement(w))
	case 3:
		if m.oneIn(4) {
			m.require(s, m.requirement(pick(m, reservedKeys()), []string{"west", namespace, "a", "Node"}))
		}
	}
	return s
}

// nodePeer means nodes: mostly rightly, now and then beside a selector of
// namespaces.
func (m maker) nodePeer(w World) networkingv1.NetworkPolicyPeer {
	s := m.labelSelector(nil, nodeKeys(), labelValues())
	m.require(s, metav1.LabelSelectorRequirement{Key: "overland.dev/kind", Operator: metav1.LabelSelectorOpIn, Values: []string{"Node"}})
	if m.oneIn(3) {
		m.require(s, m.clusterRequirement(w))
	}
	if m.oneIn(8) {
		m.require(s, m.requirement(pick(m, []string{"overland.dev/service-account", "overland.dev/kind"}), []string{"default", "Node", "Pod"}))
	}
	peer := networkingv1.NetworkPolicyPeer{PodSelector: s}
	if m.oneIn(6) {
		peer.NamespaceSelector = &metav1.LabelSelector{}
	}
	return peer
}

func (m maker) peers(w World, namespace string) []networkingv1.NetworkPolicyPeer {
	if m.oneIn(10) {
		return nil
	}
	peers := []networkingv1.NetworkPolicyPeer{}
	for range 1 + m.IntN(2) {
		peers = append(peers, m.peer(w, namespace))
	}
	return peers
}

func (m maker) peer(w World, namespace string) networkingv1.NetworkPolicyPeer {
	switch m.IntN(8) {
	case 0, 1:
		return networkingv1.NetworkPolicyPeer{PodSelector: m.podSelector(w, namespace, false)}
	case 2, 3:
		return networkingv1.NetworkPolicyPeer{NamespaceSelector: m.namespaceSelector(w, namespace)}
	case 4, 5:
		return networkingv1.NetworkPolicyPeer{
			PodSelector: m.podSelector(w, namespace, false), NamespaceSelector: m.namespaceSelector(w, namespace),
		}
	case 6:
		return m.nodePeer(w)
	}
	return networkingv1.NetworkPolicyPeer{IPBlock: m.block(w)}
}

// block is a range about what has an address: everything, a network, a few
// neighbours, one address. API servers want exceptions to lie within the range
// and to be longer; they may overlap.
func (m maker) block(w World) *networkingv1.IPBlock {
	if m.oneIn(5) {
		return &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: m.exceptsOfAll(w, 4)}
	}
	if m.oneIn(8) {
		return &networkingv1.IPBlock{CIDR: "::/0", Except: m.exceptsOfAll(w, 6)}
	}
	a := m.someAddr(w, 0)
	bits := pick(m, []int{8, 16, 24, 29, 30, 31, 32})
	if a.Is6() {
		bits = pick(m, []int{16, 48, 64, 126, 127, 128})
	}
	return &networkingv1.IPBlock{CIDR: m.prefix(a, bits), Except: m.exceptsOf(a, bits)}
}

func (m maker) ports() []networkingv1.NetworkPolicyPort {
	if m.oneIn(4) {
		return nil
	}
	ports := []networkingv1.NetworkPolicyPort{}
	for range 1 + m.IntN(2) {
		ports = append(ports, m.port())
	}
	return ports
}

func (m maker) port() networkingv1.NetworkPolicyPort {
	var p networkingv1.NetworkPolicyPort
	if !m.oneIn(3) {
		p.Protocol = ptr(m.protocol())
	}
	number := int32(pick(m, Ports()))
	switch m.IntN(8) {
	case 0:
	case 1, 2, 3:
		p.Port = ptr(intstr.FromString(pick(m, portNames())))
	case 4, 5:
		p.Port = ptr(intstr.FromInt32(number))
	default:
		p.Port = ptr(intstr.FromInt32(number))
		last := pick(m, []int32{number, 81, 82, 8079, 8080, 65535})
		if m.oneIn(8) {
			p.Port = ptr(intstr.FromInt32(1))
		}
		p.EndPort = ptr(max(last, number))
	}
	return p
}
