package model

import "net/netip"

// The annotations that declare a Service federated (semantics 4.1): each has a
// federation expression. The last two are those of the seed system.
const (
	AnnotationServiceSelector          = "federation.overland.dev/serviceSelector"
	AnnotationServiceSelectorTigera    = "federation.tigera.io/serviceSelector"
	AnnotationServiceSelectorTigeraWWW = "federation.www.tigera.io/serviceSelector"
)

// The other annotations of a federated Service (semantics 4.6, 4.7).
const (
	AnnotationPreference = "federation.overland.dev/preference"
	AnnotationMinReady   = "federation.overland.dev/min-ready"
	AnnotationSettle     = "federation.overland.dev/settle"
	AnnotationAdopt      = "federation.overland.dev/adopt"
)

// The labels that a Service of a linked cluster also has while an expression is
// evaluated: its cluster's name (semantics 4.2).
const (
	LabelRemoteClusterName          = "federation.overland.dev/remoteClusterName"
	LabelRemoteClusterNameTigera    = "federation.tigera.io/remoteClusterName"
	LabelRemoteClusterNameTigeraWWW = "federation.www.tigera.io/remoteClusterName"
)

// Service is a Service object, as far as federation needs it. Of a remote
// cluster, there are only those that may back a federated Service: not External,
// not Federated.
type Service struct {
	Key Key // of KindService
	UID UID
	// ResourceVersion is of a local Service only.
	ResourceVersion string
	// Labels without reserved ones.
	Labels Labels
	// Created in Unix seconds, by the clock of its own cluster.
	Created int64
	// Annotations are those whose keys are declared above, of a local Service
	// only, nil if there are none; a value longer than selector.MaxLength is cut
	// behind it.
	Annotations map[string]string
	// Selecting: spec.selector is not empty. External: type ExternalName.
	// Headless: clusterIP None.
	Selecting, External, Headless bool
	PublishNotReady               bool
	// Families are the ipFamilies in their order, 4 and 6; TrafficDistribution
	// as written; both of a local Service only.
	Families            []uint8
	TrafficDistribution string
	// ClusterIPs are the addresses that it has as a Service, of a local Service
	// only (semantics 5.3).
	ClusterIPs []netip.Addr
	Ports      []ServicePort
	// Conditions are those of status.conditions whose type is one of ours, of a
	// local Service only.
	Conditions []ServiceCondition
}

// Federated tells whether the Service bears one of the annotations that declare
// it so, whatever the value.
func (s *Service) Federated() bool {
	for _, key := range [...]string{AnnotationServiceSelector, AnnotationServiceSelectorTigera, AnnotationServiceSelectorTigeraWWW} {
		if _, ok := s.Annotations[key]; ok {
			return true
		}
	}
	return false
}

// ServicePort is a port of a Service. Name is empty for the only port of many.
type ServicePort struct {
	Name        string
	Protocol    Protocol
	Port        uint16
	AppProtocol string
}

// ServiceCondition is a condition that a Service has.
type ServiceCondition struct {
	Type, Status, Reason, Message string
	ObservedGeneration            int64
	LastTransition                int64 // Unix seconds
}

// EndpointSlice is an EndpointSlice object of a Service as its author wrote it:
// nothing in it has been checked but that it can be read. A text that is longer
// than it may be is cut, and still longer than that. Of a remote cluster, those
// that are managed by a federation of Services are left out.
type EndpointSlice struct {
	Key Key // of KindEndpointSlice
	UID UID
	// Service is the label kubernetes.io/service-name, ManagedBy the label
	// endpointslice.kubernetes.io/managed-by.
	Service, ManagedBy string
	// AddressType is IPv4, IPv6 or FQDN, or what else stands there.
	AddressType string
	Ports       []EndpointPort
	Endpoints   []SliceEndpoint
}

// EndpointPort is a port of an EndpointSlice; Port is 0 if it has no number, as a
// port of a Service without endpoints may.
type EndpointPort struct {
	Name        string
	Protocol    string // empty: TCP
	Port        int32
	AppProtocol string
}

// SliceEndpoint is one endpoint of an EndpointSlice.
type SliceEndpoint struct {
	Addresses                   []string
	Ready, Serving, Terminating Tristate
	Hostname, Node, Zone        string
	// Target is what targetRef names; the zero value if there is none.
	Target TargetRef
}

// TargetRef names the object behind an endpoint.
type TargetRef struct {
	Kind, Namespace, Name, UID string
}

// Tristate is a boolean that may be absent.
type Tristate uint8

// The values of a Tristate.
const (
	Unset Tristate = iota
	False
	True
)

// Or is the value, or what an absent one means.
func (t Tristate) Or(absent bool) bool {
	if t == Unset {
		return absent
	}
	return t == True
}

// ServiceKey names a Service of a cluster.
func ServiceKey(cluster, namespace, name string) Key {
	return Key{Kind: KindService, Cluster: cluster, Namespace: namespace, Name: name}
}

// EndpointSliceKey names an EndpointSlice of a cluster.
func EndpointSliceKey(cluster, namespace, name string) Key {
	return Key{Kind: KindEndpointSlice, Cluster: cluster, Namespace: namespace, Name: name}
}

// FactKey is the Service's key.
func (s *Service) FactKey() Key { return s.Key }

// FactKey is the EndpointSlice's key.
func (s *EndpointSlice) FactKey() Key { return s.Key }

func (*Service) sealed()       {}
func (*EndpointSlice) sealed() {}
