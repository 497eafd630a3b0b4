package worlds

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/overland-net/overland/pkg/model"
)

// World is linked clusters, each of which knows all others by the names and
// labels that they have here. Of two clusters, the RemoteCluster of the former is
// the older object everywhere.
type World struct {
	// Seed is what Random made it from; it means nothing.
	Seed     uint64
	Clusters []Cluster
}

// Cluster is one cluster.
type Cluster struct {
	Name   string
	Labels map[string]string
	// PodCIDRs and NodeCIDRs are what its pods and nodes may claim, to others;
	// to its own agents, what no other may claim.
	PodCIDRs, NodeCIDRs []netip.Prefix
	Agent               Agent

	Namespaces []*corev1.Namespace
	Nodes      []*corev1.Node
	Pods       []*corev1.Pod
	Policies   []*networkingv1.NetworkPolicy
}

// Agent is the configuration of a cluster's agents.
type Agent struct {
	// Mesh is the default of peers' scope; else it is local.
	Mesh bool
	// ScopeOverride is policy, namespace or none.
	ScopeOverride string
	// OwnNodeEgress: pods' egress rules are applied to their own node too.
	OwnNodeEgress bool
}

// Probe is a new connection.
type Probe struct {
	From, To End
	Protocol model.Protocol // by IANA number: not only those of Kubernetes
	Port     uint16         // of the destination, after translation
}

// End is one end of a Probe. Names are empty where they do not apply.
type End struct {
	Kind                     EndKind
	Cluster, Namespace, Name string
	// Addr is the one that is used: that of the pod or the node, of either family.
	Addr netip.Addr
}

// EndKind is what an End is.
type EndKind uint8

// The kinds of ends.
const (
	Outside EndKind = iota // whatever sends from, or has, that address, reached through the network
	Pod
	Node
)

// Answer is what becomes of a Probe.
type Answer struct {
	// Egress is whether it passes where its source is, as far as policies of
	// that pod decide, Ingress the same for its destination. True where no pod
	// of any cluster is concerned.
	Egress, Ingress bool
	Reason          string
}

// String is CLUSTER/NAMESPACE/NAME and the address.
func (e End) String() string {
	switch e.Kind {
	case Pod:
		return fmt.Sprintf("pod %s/%s/%s (%s)", e.Cluster, e.Namespace, e.Name, e.Addr)
	case Node:
		return fmt.Sprintf("node %s/%s (%s)", e.Cluster, e.Name, e.Addr)
	}
	return "outside " + e.Addr.String()
}

// String is FROM -> TO PROTOCOL/PORT.
func (p Probe) String() string {
	protocol := p.Protocol.String()
	switch p.Protocol {
	case model.TCP, model.UDP, model.SCTP:
	default:
		protocol = fmt.Sprintf("protocol %d", p.Protocol)
	}
	return fmt.Sprintf("%s -> %s %s/%d", p.From, p.To, protocol, p.Port)
}

// Cluster is the one with that name, or nil. It is not to be changed.
func (w World) Cluster(name string) *Cluster {
	for i := range w.Clusters {
		if w.Clusters[i].Name == name {
			return &w.Clusters[i]
		}
	}
	return nil
}

// Pod is the one with that name, or nil.
func (c *Cluster) Pod(namespace, name string) *corev1.Pod {
	for _, p := range c.Pods {
		if p.Namespace == namespace && p.Name == name {
			return p
		}
	}
	return nil
}

// Node is the one with that name, or nil.
func (c *Cluster) Node(name string) *corev1.Node {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Namespace is the one with that name, or nil.
func (c *Cluster) Namespace(name string) *corev1.Namespace {
	for _, n := range c.Namespaces {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Live tells whether a pod is an endpoint (1.3), and so has an interface of its
// own on its node.
func Live(p *corev1.Pod) bool {
	return !p.Spec.HostNetwork && len(p.Status.PodIPs) > 0 &&
		p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

// PodAddrs are a pod's addresses.
func PodAddrs(p *corev1.Pod) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(p.Status.PodIPs))
	for _, ip := range p.Status.PodIPs {
		addrs = append(addrs, parsed(ip.IP)...)
	}
	return addrs
}

// NodeAddrs are a node's addresses that count: those of type InternalIP (1.3).
func NodeAddrs(n *corev1.Node) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(n.Status.Addresses))
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			addrs = append(addrs, parsed(a.Address)...)
		}
	}
	return addrs
}

func parsed(text string) []netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return nil
	}
	return []netip.Addr{a}
}

// Routed are the addresses that a pod's node routes to it: those that it owns
// in its own cluster. A pod that is not live has none.
func (w World) Routed(cluster string, p *corev1.Pod) []netip.Addr {
	c := w.Cluster(cluster)
	if c == nil || !Live(p) {
		return nil
	}
	return slices.DeleteFunc(PodAddrs(p), func(a netip.Addr) bool { return w.owner(c, a).pod != p })
}

// Has tells whether both ends of a probe are still what they were: a pod that
// owns that address in its own cluster, a node that has it.
func (w World) Has(p Probe) bool { return w.hasEnd(p.From) && w.hasEnd(p.To) }

func (w World) hasEnd(e End) bool {
	c := w.Cluster(e.Cluster)
	switch e.Kind {
	case Pod:
		if c == nil {
			return false
		}
		pod := c.Pod(e.Namespace, e.Name)
		return pod != nil && w.owner(c, e.Addr).pod == pod
	case Node:
		if c == nil {
			return false
		}
		node := c.Node(e.Name)
		return node != nil && slices.Contains(NodeAddrs(node), e.Addr)
	}
	return true
}

// clone is a World whose lists can be changed. Objects are shared.
func (w World) clone() World {
	w.Clusters = slices.Clone(w.Clusters)
	for i := range w.Clusters {
		c := &w.Clusters[i]
		c.Namespaces = slices.Clone(c.Namespaces)
		c.Nodes = slices.Clone(c.Nodes)
		c.Pods = slices.Clone(c.Pods)
		c.Policies = slices.Clone(c.Policies)
	}
	return w
}
