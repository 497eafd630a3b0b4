package model

// Kind is the kind of a fact.
type Kind uint8

// The kinds of facts.
const (
	_ Kind = iota
	KindPod
	KindNode
	KindNamespace
	KindPolicy
	KindCluster
	KindService
	KindEndpointSlice
)

// String is the name that people know.
func (k Kind) String() string {
	switch k {
	case KindPod:
		return "Pod"
	case KindNode:
		return "Node"
	case KindNamespace:
		return "Namespace"
	case KindPolicy:
		return "NetworkPolicy"
	case KindCluster:
		return "Cluster"
	case KindService:
		return "Service"
	case KindEndpointSlice:
		return "EndpointSlice"
	}
	return "Unknown"
}

// Key names a fact. Namespace is empty for what has none; the Key of a cluster
// has its name in Cluster alone.
type Key struct {
	Kind                     Kind
	Cluster, Namespace, Name string
}

// String is KIND CLUSTER/NAMESPACE/NAME.
func (k Key) String() string {
	s := k.Kind.String() + " " + k.Cluster
	if k.Namespace != "" {
		s += "/" + k.Namespace
	}
	if k.Name != "" {
		s += "/" + k.Name
	}
	return s
}

// ClusterKey names the fact of a cluster.
func ClusterKey(name string) Key { return Key{Kind: KindCluster, Cluster: name} }

// NamespaceKey names a namespace of a cluster.
func NamespaceKey(cluster, name string) Key {
	return Key{Kind: KindNamespace, Cluster: cluster, Name: name}
}

// PodKey names a pod of a cluster.
func PodKey(cluster, namespace, name string) Key {
	return Key{Kind: KindPod, Cluster: cluster, Namespace: namespace, Name: name}
}

// NodeKey names a node of a cluster.
func NodeKey(cluster, name string) Key {
	return Key{Kind: KindNode, Cluster: cluster, Name: name}
}

// PolicyKey names a NetworkPolicy of a cluster.
func PolicyKey(cluster, namespace, name string) Key {
	return Key{Kind: KindPolicy, Cluster: cluster, Namespace: namespace, Name: name}
}

// Fact is one of *Endpoint, *Namespace, *Policy, *Cluster, *Service and
// *EndpointSlice. A fact that has been handed on is never changed.
type Fact interface {
	// FactKey is the key of the fact.
	FactKey() Key
	sealed()
}

// Change says what is true of Key now. A nil Value: it is gone. Changes of one
// key come in order, but may be repeated, left out when a later one follows,
// and go back to an earlier value.
type Change struct {
	Key   Key
	Value Fact
}

// Set is the change that makes a fact true.
func Set(f Fact) Change { return Change{f.FactKey(), f} }

// Gone is the change that makes a fact untrue.
func Gone(k Key) Change { return Change{Key: k} }

// Batch is what a source learnt of a cluster at once.
type Batch struct {
	Cluster string
	// Replace, unless zero, says that Changes are the whole truth of that kind
	// in that cluster, or in one namespace of it: what else is known is gone.
	Replace   Kind
	Namespace string
	Changes   []Change
}
