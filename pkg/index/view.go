package index

import (
	"iter"
	"maps"
	"net/netip"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
	"github.com/overland-net/overland/pkg/selector"
)

// View is what an Index knew at one time. It never changes and is safe for
// concurrent use. Views that are equal by == are the same. The zero value is
// empty.
type View struct{ s *state }

// Members are the addresses that match a selector, by family.
type Members struct{ V4, V6 pset.Set[netip.Addr] }

// PortMembers are the addresses that answer a PortQuery, each with the number of
// the port, by family.
type PortMembers struct{ V4, V6 pset.Set[netip.AddrPort] }

// Counts is what is known of a cluster, in numbers.
type Counts struct {
	Pods, Nodes, Namespaces int
	Refused                 map[model.RefusalReason]int // addresses
}

type state struct {
	clusters pset.Map[string, *clusterState]
	owners   pset.Map[netip.Addr, *Entry]
	members  pset.Map[selector.Selector, Members]
	ports    pset.Map[PortQuery, PortMembers]
	// localRanges are those of the local cluster.
	localRanges ranges
	size        int
}

type clusterState struct {
	territory
	pods, nodes pset.Map[id, *Entry]
	namespaces  pset.Map[string, *model.Namespace]
	refused     map[model.RefusalReason]int
}

// now is the state; an empty one for the zero View.
func (v View) now() *state {
	if v.s == nil {
		return &state{}
	}
	return v.s
}

// cluster is a cluster's state; an empty one if nothing is known of it.
func (v View) cluster(name string) *clusterState {
	c, ok := v.now().clusters.Get(name)
	if !ok {
		return &clusterState{}
	}
	return c
}

func (c *clusterState) entries(kind model.Kind) pset.Map[id, *Entry] {
	switch kind {
	case model.KindPod:
		return c.pods
	case model.KindNode:
		return c.nodes
	}
	return pset.Map[id, *Entry]{}
}

// Len is the number of endpoints.
func (v View) Len() int { return v.now().size }

// Endpoint is a pod or node, and whether it is known.
func (v View) Endpoint(k model.Key) (*Entry, bool) {
	return v.cluster(k.Cluster).entries(k.Kind).Get(idOf(k))
}

// Endpoints gives all endpoints, in no order.
func (v View) Endpoints() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, c := range v.now().clusters.All() {
			for _, m := range []pset.Map[id, *Entry]{c.pods, c.nodes} {
				for _, e := range m.All() {
					if !yield(e) {
						return
					}
				}
			}
		}
	}
}

// Owner is the endpoint that has an address (semantics 1.5), and whether there
// is one.
func (v View) Owner(a netip.Addr) (*Entry, bool) { return v.now().owners.Get(a) }

// Namespace is a Namespace object, and whether it is known.
func (v View) Namespace(k model.Key) (*model.Namespace, bool) {
	return v.cluster(k.Cluster).namespaces.Get(k.Name)
}

// Namespaces gives all Namespace objects, in no order.
func (v View) Namespaces() iter.Seq[*model.Namespace] {
	return func(yield func(*model.Namespace) bool) {
		for _, c := range v.now().clusters.All() {
			for _, n := range c.namespaces.All() {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// Cluster is the fact of a cluster, and whether it is known.
func (v View) Cluster(name string) (*model.Cluster, bool) {
	fact := v.cluster(name).fact
	return fact, fact != nil
}

// Clusters gives the facts of all clusters, in no order.
func (v View) Clusters() iter.Seq[*model.Cluster] {
	return func(yield func(*model.Cluster) bool) {
		for _, c := range v.now().clusters.All() {
			if c.fact != nil && !yield(c.fact) {
				return
			}
		}
	}
}

// Members is what matches a selector, and whether it was tracked.
func (v View) Members(s selector.Selector) (Members, bool) { return v.now().members.Get(s) }

// Tracked gives the tracked selectors, in no order.
func (v View) Tracked() iter.Seq[selector.Selector] {
	return func(yield func(selector.Selector) bool) {
		for s := range v.now().members.All() {
			if !yield(s) {
				return
			}
		}
	}
}

// PortMembers is what answers a query, and whether it was tracked.
func (v View) PortMembers(q PortQuery) (PortMembers, bool) { return v.now().ports.Get(q) }

// TrackedPorts gives the tracked queries, in no order.
func (v View) TrackedPorts() iter.Seq[PortQuery] {
	return func(yield func(PortQuery) bool) {
		for q := range v.now().ports.All() {
			if !yield(q) {
				return
			}
		}
	}
}

// Select gives the endpoints that a selector matches, whatever they own, in no
// order. It evaluates every endpoint: it is for people, not for sets.
func (v View) Select(m *selector.Matcher) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		subject := new(selector.Subject)
		for e := range v.Endpoints() {
			if *subject = v.Subject(e); m.Matches(subject) && !yield(e) {
				return
			}
		}
	}
}

// Subject is what selectors are evaluated on for an endpoint of this View.
func (v View) Subject(e *Entry) selector.Subject {
	c := v.cluster(e.Key.Cluster)
	var labels model.Labels
	if c.fact != nil {
		labels = c.fact.Labels
	}
	namespace, _ := c.namespaces.Get(e.Key.Namespace)
	return subject(e.Endpoint, labels, namespace)
}

// subject is what selectors are evaluated on; namespace is nil where it is not
// known.
func subject(e *model.Endpoint, cluster model.Labels, namespace *model.Namespace) selector.Subject {
	s := selector.Subject{
		Labels: e.Labels, Kind: e.Key.Kind, ServiceAccount: e.ServiceAccount,
		Cluster: cluster, ClusterName: e.Key.Cluster, NamespaceName: e.Key.Namespace,
		NamespaceUnknown: namespace == nil,
	}
	if namespace != nil {
		s.Namespace = namespace.Labels
	}
	return s
}

// Counts is a cluster in numbers, at no cost that grows with it. Pods and nodes
// count whatever they own.
func (v View) Counts(cluster string) Counts {
	c := v.cluster(cluster)
	return Counts{c.pods.Len(), c.nodes.Len(), c.namespaces.Len(), maps.Clone(c.refused)}
}

// Keys gives the keys of the facts of one kind in a cluster, in no order: of
// pods, nodes, namespaces or the cluster itself.
func (v View) Keys(cluster string, kind model.Kind) iter.Seq[model.Key] {
	return func(yield func(model.Key) bool) {
		c := v.cluster(cluster)
		switch kind {
		case model.KindPod, model.KindNode:
			for _, e := range c.entries(kind).All() {
				if !yield(e.Key) {
					return
				}
			}
		case model.KindNamespace:
			for _, n := range c.namespaces.All() {
				if !yield(n.Key) {
					return
				}
			}
		case model.KindCluster:
			if c.fact != nil {
				yield(c.fact.FactKey())
			}
		}
	}
}
