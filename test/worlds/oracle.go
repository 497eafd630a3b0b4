package worlds

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Allowed says what becomes of a new connection.
func Allowed(w World, f Probe) Answer {
	egress, why := w.egress(f)
	ingress, whyIn := w.ingress(f)
	return Answer{Egress: egress, Ingress: ingress, Reason: "egress: " + why + "; ingress: " + whyIn}
}

// egress judges where the connection begins.
func (w World) egress(f Probe) (bool, string) {
	c, pod := w.podAt(f.From)
	if pod == nil {
		return true, "the source is not a pod"
	}
	if f.From.Addr == f.To.Addr {
		return true, "a pod reaches itself (2.8)"
	}
	node := c.Node(pod.Spec.NodeName)
	if node != nil && slices.Contains(NodeAddrs(node), f.To.Addr) && !c.Agent.OwnNodeEgress {
		return true, "a pod reaches its own node (2.8)"
	}
	return w.permitted(c, pod, networkingv1.PolicyTypeEgress, f)
}

// ingress judges where the connection ends.
func (w World) ingress(f Probe) (bool, string) {
	c, pod := w.podAt(f.To)
	if pod == nil {
		return true, "the destination is not a pod"
	}
	if f.From.Addr == f.To.Addr && f.From.Kind == Pod {
		return true, "a pod reaches itself (2.8)"
	}
	// By where it comes from, not by its address.
	if f.From.Kind == Node && f.From.Cluster == c.Name && f.From.Name == pod.Spec.NodeName {
		return true, "the pod's own node reaches it (2.8)"
	}
	return w.permitted(c, pod, networkingv1.PolicyTypeIngress, f)
}

// podAt is the pod that is at an end, with its cluster. Pods on their node's own
// network are not meant: theirs is the node's traffic (1.3).
func (w World) podAt(e End) (*Cluster, *corev1.Pod) {
	if e.Kind != Pod {
		return nil, nil
	}
	c := w.Cluster(e.Cluster)
	pod := c.Pod(e.Namespace, e.Name)
	if pod == nil || !Live(pod) {
		return nil, nil
	}
	return c, pod
}

// permitted applies the policies of a pod's own cluster to it: no policy that
// isolates it in that direction allows all; else what any rule of any of them
// allows is allowed (2.1).
func (w World) permitted(c *Cluster, pod *corev1.Pod, direction networkingv1.PolicyType, f Probe) (bool, string) {
	isolated := false
	for _, p := range c.Policies {
		if p.Namespace != pod.Namespace || !isolates(p, direction) || !selectsPod(&p.Spec.PodSelector, c, pod) {
			continue
		}
		isolated = true
		if direction == networkingv1.PolicyTypeIngress {
			for i, rule := range p.Spec.Ingress {
				if w.ruleAllows(c, p, direction, rule.From, rule.Ports, f) {
					return true, fmt.Sprintf("policy %s/%s, spec.ingress[%d]", p.Namespace, p.Name, i)
				}
			}
			continue
		}
		for i, rule := range p.Spec.Egress {
			if w.ruleAllows(c, p, direction, rule.To, rule.Ports, f) {
				return true, fmt.Sprintf("policy %s/%s, spec.egress[%d]", p.Namespace, p.Name, i)
			}
		}
	}
	if isolated {
		return false, "no rule of the policies that isolate the pod"
	}
	return true, "no policy isolates the pod"
}

// isolates is the API's policyTypes: "If this field is not specified, it will
// default based on the existence of ingress or egress rules; policies that
// contain an egress section are assumed to affect egress, and all policies
// (whether or not they contain an ingress section) are assumed to affect ingress."
func isolates(p *networkingv1.NetworkPolicy, direction networkingv1.PolicyType) bool {
	if len(p.Spec.PolicyTypes) > 0 {
		return slices.Contains(p.Spec.PolicyTypes, direction)
	}
	return direction == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0
}

// ruleAllows is one peer and one port: no peers mean all addresses, no ports all
// ports of all protocols.
func (w World) ruleAllows(c *Cluster, p *networkingv1.NetworkPolicy, direction networkingv1.PolicyType,
	peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, f Probe,
) bool {
	other := f.From.Addr
	if direction == networkingv1.PolicyTypeEgress {
		other = f.To.Addr
	}
	if len(peers) == 0 {
		return w.anyPortMatches(c, p, direction, nil, ports, f)
	}
	for i := range peers {
		if w.peerMatches(c, p, &peers[i], other) && w.anyPortMatches(c, p, direction, &peers[i], ports, f) {
			return true
		}
	}
	return false
}

// anyPortMatches takes the peer that has matched, or nil for a rule without.
func (w World) anyPortMatches(c *Cluster, p *networkingv1.NetworkPolicy, direction networkingv1.PolicyType,
	peer *networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, f Probe,
) bool {
	if len(ports) == 0 {
		return true
	}
	for i := range ports {
		protocol := corev1.ProtocolTCP
		if ports[i].Protocol != nil {
			protocol = *ports[i].Protocol
		}
		if protocolName(f) != protocol {
			continue
		}
		port := ports[i].Port
		switch {
		case port == nil:
			return true
		case port.Type == intstr.String:
			if w.namedPortMatches(c, p, direction, peer, port.StrVal, protocol, f) {
				return true
			}
		case ports[i].EndPort != nil:
			if int32(f.Port) >= port.IntVal && int32(f.Port) <= *ports[i].EndPort {
				return true
			}
		case int32(f.Port) == port.IntVal:
			return true
		}
	}
	return false
}

func protocolName(f Probe) corev1.Protocol {
	switch f.Protocol {
	case 6:
		return corev1.ProtocolTCP
	case 17:
		return corev1.ProtocolUDP
	case 132:
		return corev1.ProtocolSCTP
	}
	return ""
}

// namedPortMatches resolves a named port on the pod that is the destination (2.9).
func (w World) namedPortMatches(c *Cluster, p *networkingv1.NetworkPolicy, direction networkingv1.PolicyType,
	peer *networkingv1.NetworkPolicyPeer, name string, protocol corev1.Protocol, f Probe,
) bool {
	if direction == networkingv1.PolicyTypeIngress {
		_, pod := w.podAt(f.To)
		return hasNamedPort(pod, name, protocol, f.Port)
	}
	if peer != nil && peer.IPBlock != nil {
		return false
	}
	to := w.owner(c, f.To.Addr)
	if to.pod == nil {
		return false
	}
	if peer == nil && to.cluster.Name != c.Name && !meshScope(c, p) {
		return false
	}
	return hasNamedPort(to.pod, name, protocol, f.Port)
}

// hasNamedPort looks at the containers that run for as long as the pod does:
// init containers do if they are restartable.
func hasNamedPort(pod *corev1.Pod, name string, protocol corev1.Protocol, number uint16) bool {
	containers := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, p := range c.Ports {
			its := p.Protocol
			if its == "" {
				its = corev1.ProtocolTCP
			}
			if p.Name == name && its == protocol && p.ContainerPort == int32(number) {
				return true
			}
		}
	}
	return false
}

// blockMatches: the address is in the range and in none of the exceptions (2.7).
// Bits beyond a prefix's length mean nothing, as the API server takes them.
func blockMatches(b *networkingv1.IPBlock, a netip.Addr) bool {
	if !contains(b.CIDR, a) {
		return false
	}
	for _, except := range b.Except {
		if contains(except, a) {
			return false
		}
	}
	return true
}

func contains(cidr string, a netip.Addr) bool {
	p, err := netip.ParsePrefix(cidr)
	return err == nil && p.Contains(a)
}
