package source

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/overland-net/overland/pkg/model"
)

// convertPolicy makes the fact of a NetworkPolicy, with the defaults that the API
// documents. A part that cannot be read is left out and named in Malformed; what
// is left is never more open than what was written (semantics 2.12).
func convertPolicy(cluster string, p *networkingv1.NetworkPolicy) *model.Policy {
	r := policyReader{}
	out := &model.Policy{
		Key:        model.PolicyKey(cluster, p.Namespace, p.Name),
		UID:        model.ParseUID(string(p.UID)),
		Generation: p.Generation,
		PeerScope:  peerScope(p.Annotations),
		Pods:       r.selector("spec.podSelector", &p.Spec.PodSelector),
	}
	out.Ingress, out.Egress = r.types(p)
	for i, rule := range p.Spec.Ingress {
		path := fmt.Sprintf("spec.ingress[%d]", i)
		out.IngressRules = append(out.IngressRules, r.rule(path, path+".from", rule.From, rule.Ports))
	}
	for i, rule := range p.Spec.Egress {
		path := fmt.Sprintf("spec.egress[%d]", i)
		out.EgressRules = append(out.EgressRules, r.rule(path, path+".to", rule.To, rule.Ports))
	}
	out.Malformed = r.malformed
	return out
}

func peerScope(annotations map[string]string) string {
	value, there := annotations[model.AnnotationPeerScope]
	if !there {
		return ""
	}
	return scopeText(value)
}

// scopeText is the value of the annotation of the peers' scope as facts have it.
// An empty one is as invalid as any other, and not the same as none (semantics
// 2.3), which is what an empty text says there.
func scopeText(value string) string {
	if value == "" {
		return "(empty)"
	}
	return value
}

// policyReader collects what is wrong with a policy.
type policyReader struct{ malformed []string }

func (r *policyReader) wrong(format string, args ...any) {
	r.malformed = append(r.malformed, fmt.Sprintf(format, args...))
}

// types are what the policy isolates: what policyTypes says; without it ingress,
// and egress if there are egress rules.
func (r *policyReader) types(p *networkingv1.NetworkPolicy) (ingress, egress bool) {
	if len(p.Spec.PolicyTypes) == 0 {
		return true, len(p.Spec.Egress) > 0
	}
	for i, t := range p.Spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			ingress = true
		case networkingv1.PolicyTypeEgress:
			egress = true
		default:
			// Isolating too much is safe, too little is not.
			r.wrong("spec.policyTypes[%d]: %q, expected Ingress or Egress: taken as both", i, t)
			ingress, egress = true, true
		}
	}
	return ingress, egress
}

func (r *policyReader) rule(path, peersPath string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) model.PolicyRule {
	rule := model.PolicyRule{AnyPeer: len(peers) == 0, AnyPort: len(ports) == 0}
	for i := range peers {
		if peer, ok := r.peer(fmt.Sprintf("%s[%d]", peersPath, i), &peers[i]); ok {
			rule.Peers = append(rule.Peers, peer)
		}
	}
	for i := range ports {
		if port, ok := r.port(fmt.Sprintf("%s.ports[%d]", path, i), &ports[i]); ok {
			rule.Ports = append(rule.Ports, port)
		}
	}
	return rule
}

func (r *policyReader) peer(path string, p *networkingv1.NetworkPolicyPeer) (peer model.PolicyPeer, ok bool) {
	switch {
	case p.IPBlock != nil && (p.PodSelector != nil || p.NamespaceSelector != nil):
		r.wrong("%s: has an ipBlock beside a selector, expected one of them", path)
		return peer, false
	case p.IPBlock != nil:
		return r.block(path+".ipBlock", p.IPBlock)
	case p.PodSelector == nil && p.NamespaceSelector == nil:
		r.wrong("%s: is empty, expected podSelector, namespaceSelector or ipBlock", path)
		return peer, false
	}
	if p.PodSelector != nil {
		s := r.selector(path+".podSelector", p.PodSelector)
		peer.Pods = &s
	}
	if p.NamespaceSelector != nil {
		s := r.selector(path+".namespaceSelector", p.NamespaceSelector)
		peer.Namespaces = &s
	}
	return peer, true
}

// block reads an ipBlock. Without an exception it would allow more than written:
// hence one that cannot be read takes the whole block with it.
func (r *policyReader) block(path string, b *networkingv1.IPBlock) (peer model.PolicyPeer, ok bool) {
	if peer.Block, ok = r.prefix(path+".cidr", b.CIDR); !ok {
		return peer, false
	}
	for i, text := range b.Except {
		except, ok := r.prefix(fmt.Sprintf("%s.except[%d]", path, i), text)
		if !ok {
			return peer, false
		}
		peer.Except = append(peer.Except, except)
	}
	return peer, true
}

// prefix reads an address range; bits beyond its length are cleared, as API
// servers accept them.
func (r *policyReader) prefix(path, text string) (netip.Prefix, bool) {
	address, length, ok := strings.Cut(text, "/")
	// API servers once let pass leading zeros in IPv4 addresses, and people mean
	// decimal numbers by them.
	p, err := netip.ParsePrefix(withoutLeadingZeros(address) + "/" + length)
	if !ok || err != nil {
		r.wrong("%s: %q, expected an address range such as 10.1.0.0/16", path, text)
		return netip.Prefix{}, false
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			r.wrong("%s: %q, expected an IPv4 range in its own form", path, text)
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

func withoutLeadingZeros(address string) string {
	if strings.Contains(address, ":") {
		return address
	}
	parts := strings.Split(address, ".")
	for i, part := range parts {
		if trimmed := strings.TrimLeft(part, "0"); trimmed != part {
			parts[i] = max(trimmed, "0")
		}
	}
	return strings.Join(parts, ".")
}

func (r *policyReader) port(path string, p *networkingv1.NetworkPolicyPort) (port model.PolicyPort, ok bool) {
	protocol := string(corev1.ProtocolTCP)
	if p.Protocol != nil {
		protocol = string(*p.Protocol)
	}
	if port.Protocol, ok = protocolOf(protocol); !ok || protocol == "" {
		r.wrong("%s.protocol: %q, expected TCP, UDP or SCTP", path, protocol)
		return port, false
	}
	switch {
	case p.Port == nil && p.EndPort != nil:
		r.wrong("%s.endPort: without port, expected both", path)
		return port, false
	case p.Port == nil:
		return port, true
	case p.Port.Type == intstr.String && p.EndPort != nil:
		r.wrong("%s.endPort: with the named port %q, expected a number in port", path, p.Port.StrVal)
		return port, false
	case p.Port.Type == intstr.String && p.Port.StrVal == "":
		r.wrong("%s.port: is empty, expected a number or a name", path)
		return port, false
	case p.Port.Type == intstr.String:
		port.Name = p.Port.StrVal
		return port, true
	}
	first, last := p.Port.IntVal, p.Port.IntVal
	if p.EndPort != nil {
		last = *p.EndPort
	}
	if first < 1 || last < first || last > math.MaxUint16 {
		r.wrong("%s: ports %d to %d, expected numbers from 1 to 65535, endPort not below port", path, first, last)
		return port, false
	}
	port.First, port.Last = uint16(first), uint16(last)
	return port, true
}

// selector reads a label selector. A requirement that cannot be read matches
// nothing.
func (r *policyReader) selector(path string, s *metav1.LabelSelector) model.LabelSelector {
	selector := model.LabelSelector{}
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		selector = append(selector, model.Requirement{Key: key, Operator: model.In, Values: []string{s.MatchLabels[key]}})
	}
	for i, e := range s.MatchExpressions {
		requirement := model.Requirement{Key: e.Key, Operator: operatorOf(e.Operator)}
		takesValues := requirement.Operator == model.In || requirement.Operator == model.NotIn
		switch {
		case requirement.Operator == model.Impossible:
			r.wrong("%s.matchExpressions[%d].operator: %q, expected In, NotIn, Exists or DoesNotExist: matches nothing", path, i, e.Operator)
		case takesValues && len(e.Values) == 0:
			r.wrong("%s.matchExpressions[%d].values: is empty, expected values for %s: matches nothing", path, i, e.Operator)
			requirement.Operator = model.Impossible
		case !takesValues && len(e.Values) > 0:
			r.wrong("%s.matchExpressions[%d].values: expected none for %s: matches nothing", path, i, e.Operator)
			requirement.Operator = model.Impossible
		case takesValues:
			requirement.Values = slices.Clone(e.Values)
		}
		selector = append(selector, requirement)
	}
	return selector
}

func operatorOf(o metav1.LabelSelectorOperator) model.Operator {
	switch o {
	case metav1.LabelSelectorOpIn:
		return model.In
	case metav1.LabelSelectorOpNotIn:
		return model.NotIn
	case metav1.LabelSelectorOpExists:
		return model.Exists
	case metav1.LabelSelectorOpDoesNotExist:
		return model.DoesNotExist
	}
	return model.Impossible
}
