package source

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/overland-net/overland/pkg/model"
)

// servicesTruth is truthOf for sources of Services and EndpointSlices.
func servicesTruth(cluster string, local bool, objects map[string]map[string]runtime.Object) map[model.Key]model.Fact {
	facts := map[model.Key]model.Fact{}
	for _, byKey := range objects {
		for _, o := range byKey {
			switch o := o.(type) {
			case *corev1.Service:
				if s := trueService(cluster, local, o); s != nil {
					facts[s.Key] = s
				}
			case *discoveryv1.EndpointSlice:
				if s := trueSlice(cluster, local, o); s != nil {
					facts[s.Key] = s
				}
			}
		}
	}
	return facts
}

// federationKeys are written out: they are a promise to people.
func federationKeys() []string {
	return []string{
		"federation.overland.dev/serviceSelector", "federation.tigera.io/serviceSelector", "federation.www.tigera.io/serviceSelector",
		"federation.overland.dev/preference", "federation.overland.dev/min-ready", "federation.overland.dev/settle", "federation.overland.dev/adopt",
	}
}

func trueService(cluster string, local bool, s *corev1.Service) *model.Service {
	f := &model.Service{
		Key: model.ServiceKey(cluster, s.Namespace, s.Name), UID: model.ParseUID(string(s.UID)), Labels: model.NewLabels(trueLabels(s.Labels)),
		Selecting: len(s.Spec.Selector) > 0, External: s.Spec.Type == corev1.ServiceTypeExternalName,
		Headless: s.Spec.ClusterIP == corev1.ClusterIPNone, PublishNotReady: s.Spec.PublishNotReadyAddresses,
	}
	if !s.CreationTimestamp.IsZero() {
		f.Created = s.CreationTimestamp.Unix()
	}
	for i, key := range federationKeys() {
		value, there := s.Annotations[key]
		if there && !local && i < 3 {
			return nil
		}
		if there && local {
			if f.Annotations == nil {
				f.Annotations = map[string]string{}
			}
			f.Annotations[key] = value
		}
	}
	for _, p := range s.Spec.Ports {
		port := model.ServicePort{
			Name: p.Name, Port: uint16(p.Port),
			Protocol: map[corev1.Protocol]model.Protocol{"": model.TCP, "TCP": model.TCP, "UDP": model.UDP, "SCTP": model.SCTP}[p.Protocol],
		}
		if p.AppProtocol != nil {
			port.AppProtocol = *p.AppProtocol
		}
		f.Ports = append(f.Ports, port)
	}
	if !local {
		if f.External {
			return nil
		}
		return f
	}
	f.ResourceVersion = s.ResourceVersion
	for _, text := range s.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(text); err == nil {
			f.ClusterIPs = append(f.ClusterIPs, a.Unmap())
		}
	}
	for _, family := range s.Spec.IPFamilies {
		f.Families = append(f.Families, map[corev1.IPFamily]uint8{corev1.IPv4Protocol: 4, corev1.IPv6Protocol: 6}[family])
	}
	if s.Spec.TrafficDistribution != nil {
		f.TrafficDistribution = *s.Spec.TrafficDistribution
	}
	for _, c := range s.Status.Conditions {
		if !strings.HasPrefix(c.Type, "overland.dev/") {
			continue
		}
		own := model.ServiceCondition{Type: c.Type, Status: string(c.Status), Reason: c.Reason, Message: c.Message, ObservedGeneration: c.ObservedGeneration}
		if !c.LastTransitionTime.IsZero() {
			own.LastTransition = c.LastTransitionTime.Unix()
		}
		f.Conditions = append(f.Conditions, own)
	}
	return f
}

func or[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func tristate(b *bool) model.Tristate {
	switch {
	case b == nil:
		return model.Unset
	case *b:
		return model.True
	}
	return model.False
}

func trueSlice(cluster string, local bool, s *discoveryv1.EndpointSlice) *model.EndpointSlice {
	f := &model.EndpointSlice{
		Key: model.EndpointSliceKey(cluster, s.Namespace, s.Name), UID: model.ParseUID(string(s.UID)),
		Service: s.Labels["kubernetes.io/service-name"], ManagedBy: s.Labels["endpointslice.kubernetes.io/managed-by"],
		AddressType: string(s.AddressType),
	}
	if f.Service == "" || !local && f.ManagedBy == "federation.overland.dev" {
		return nil
	}
	for _, p := range s.Ports {
		f.Ports = append(f.Ports, model.EndpointPort{
			Name: or(p.Name), Protocol: string(or(p.Protocol)), Port: or(p.Port), AppProtocol: or(p.AppProtocol),
		})
	}
	for _, e := range s.Endpoints {
		to := model.SliceEndpoint{
			Addresses: e.Addresses, Hostname: or(e.Hostname), Node: or(e.NodeName), Zone: or(e.Zone),
			Ready: tristate(e.Conditions.Ready), Serving: tristate(e.Conditions.Serving), Terminating: tristate(e.Conditions.Terminating),
		}
		if e.TargetRef != nil {
			to.Target = model.TargetRef{Kind: e.TargetRef.Kind, Namespace: e.TargetRef.Namespace, Name: e.TargetRef.Name, UID: string(e.TargetRef.UID)}
		}
		f.Endpoints = append(f.Endpoints, to)
	}
	return f
}
