package source

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/overland-net/overland/pkg/model"
)

// truthOf is the slow and obvious way from objects to facts: what a source must
// end up with.
func truthOf(cluster string, objects map[string]map[string]runtime.Object) map[model.Key]model.Fact {
	facts := map[model.Key]model.Fact{}
	for _, byKey := range objects {
		for _, o := range byKey {
			var f model.Fact
			switch o := o.(type) {
			case *corev1.Pod:
				if e := truePod(cluster, o); e != nil {
					f = e
				}
			case *corev1.Node:
				if e := trueNode(cluster, o); e != nil {
					f = e
				}
			case *corev1.Namespace:
				f = trueNamespace(cluster, o)
			}
			if f != nil {
				facts[f.FactKey()] = f
			}
		}
	}
	return facts
}

func trueLabels(all map[string]string) map[string]string {
	kept := map[string]string{}
	for k, v := range all {
		if !strings.Contains(k, "overland.dev/") && !strings.Contains(k, "tigera.io/remoteClusterName") {
			kept[k] = v
		}
	}
	return kept
}

func trueAddresses(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		a := netip.MustParseAddr(text).Unmap()
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

func truePod(cluster string, p *corev1.Pod) *model.Endpoint {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	var texts []string
	for _, ip := range p.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	if len(texts) == 0 && p.Status.PodIP != "" {
		texts = []string{p.Status.PodIP}
	}
	if len(texts) == 0 {
		return nil
	}
	e := &model.Endpoint{
		Key: model.PodKey(cluster, p.Namespace, p.Name), UID: model.ParseUID(string(p.UID)), Labels: model.NewLabels(trueLabels(p.Labels)),
		ServiceAccount: p.Spec.ServiceAccountName, Node: p.Spec.NodeName, Addresses: trueAddresses(texts...),
		Terminating: p.DeletionTimestamp != nil,
	}
	if !p.CreationTimestamp.IsZero() {
		e.Created = p.CreationTimestamp.Unix()
	}
	containers := slices.Clone(p.Spec.Containers)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, port := range c.Ports {
			if port.Name == "" {
				continue
			}
			protocol := map[corev1.Protocol]model.Protocol{"": model.TCP, "TCP": model.TCP, "UDP": model.UDP, "SCTP": model.SCTP}[port.Protocol]
			named := model.NamedPort{Name: port.Name, Protocol: protocol, Port: uint16(port.ContainerPort)}
			if !slices.Contains(e.Ports, named) {
				e.Ports = append(e.Ports, named)
			}
		}
	}
	slices.SortFunc(e.Ports, func(a, b model.NamedPort) int {
		if a.Name != b.Name {
			return strings.Compare(a.Name, b.Name)
		}
		if a.Protocol != b.Protocol {
			return int(a.Protocol) - int(b.Protocol)
		}
		return int(a.Port) - int(b.Port)
	})
	return e
}

func trueNode(cluster string, n *corev1.Node) *model.Endpoint {
	var texts []string
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			texts = append(texts, a.Address)
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return &model.Endpoint{
		Key: model.NodeKey(cluster, n.Name), UID: model.ParseUID(string(n.UID)), Labels: model.NewLabels(trueLabels(n.Labels)),
		Node: n.Name, Addresses: trueAddresses(texts...),
	}
}

func trueNamespace(cluster string, n *corev1.Namespace) *model.Namespace {
	labels := trueLabels(n.Labels)
	labels["kubernetes.io/metadata.name"] = n.Name
	return &model.Namespace{
		Key: model.NamespaceKey(cluster, n.Name), UID: model.ParseUID(string(n.UID)), Labels: model.NewLabels(labels),
		PeerScope: wantScope(n.Annotations), ClusterName: n.Annotations[model.AnnotationClusterName],
	}
}

// wantScope tells an empty annotation from none.
func wantScope(annotations map[string]string) string {
	if value, there := annotations[model.AnnotationPeerScope]; there && value == "" {
		return "(empty)"
	}
	return annotations[model.AnnotationPeerScope]
}
