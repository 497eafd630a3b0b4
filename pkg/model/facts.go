package model

import (
	"net/netip"
	"time"
)

// Endpoint is a pod with an address, or a node (semantics 1.3); or a pod of the
// agent's own node that is starting, which has no address yet.
type Endpoint struct {
	Key Key // of KindPod or KindNode
	UID UID
	// Labels are its own, without reserved ones.
	Labels         Labels
	ServiceAccount string // of a pod
	Node           string // where a pod runs; the node itself
	// Addresses without zone, IPv4 never mapped into IPv6.
	Addresses []netip.Addr
	Ports     []NamedPort // of a pod, by name, protocol, number
	// Created in Unix seconds, by the clock of its own cluster.
	Created     int64
	Terminating bool
}

// NamedPort is a named port of a pod's containers.
type NamedPort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}

// Protocol is a transport protocol, by its IANA number.
type Protocol uint8

// The protocols of Kubernetes.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is the name that Kubernetes uses.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return "unknown"
}

// Namespace is a Namespace object.
type Namespace struct {
	Key Key
	UID UID
	// Labels without reserved ones; KeyNamespaceName is always its own name.
	Labels Labels
	// PeerScope is the value of AnnotationPeerScope; empty if there is none.
	PeerScope string
	// ClusterName is the value of AnnotationClusterName; empty if there is none.
	ClusterName string
}

// Cluster is what this cluster knows and trusts of a cluster: its RemoteCluster
// object or, for the local one, the agent's configuration.
type Cluster struct {
	Name  string
	Local bool
	UID   UID // of the RemoteCluster object
	// Created is the time of the RemoteCluster object in Unix seconds, by the
	// local API server's clock: of two clusters that claim an address, the
	// older object has it.
	Created int64
	Labels  Labels // clusterLabels
	// The ranges that its pods and nodes may claim; for the local cluster,
	// those that no remote may claim.
	PodCIDRs, NodeCIDRs []netip.Prefix
	Suspended           bool
	// StaleAfter is how long its identities count without contact; 0 = forever.
	StaleAfter time.Duration
	// EndpointLimit is how many endpoints are taken at most; 0 = no limit.
	EndpointLimit int
	// SpareAfter and ServicesStaleAfter are how long without contact its
	// endpoints of federated Services become spare, and are withdrawn; the
	// latter 0 = never (semantics 4.9).
	SpareAfter, ServicesStaleAfter time.Duration
	// ExternalAddresses: addresses of its EndpointSlices need not be of its pods
	// and nodes (semantics 4.5).
	ExternalAddresses bool
	// InContact: its API server answers. What is claimed by a cluster in
	// contact wins over what a stale one claims.
	InContact bool
}

// FactKey is the endpoint's key.
func (e *Endpoint) FactKey() Key { return e.Key }

// FactKey is the namespace's key.
func (n *Namespace) FactKey() Key { return n.Key }

// FactKey is the cluster's key.
func (c *Cluster) FactKey() Key { return ClusterKey(c.Name) }

func (*Endpoint) sealed()  {}
func (*Namespace) sealed() {}
func (*Cluster) sealed()   {}
func (*Policy) sealed()    {}
