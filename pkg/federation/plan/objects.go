package plan

import discoveryv1 "k8s.io/api/discovery/v1"

// What an object of ours bears.
const (
	// ManagedBy is the value of the label endpointslice.kubernetes.io/managed-by
	// of each EndpointSlice of ours.
	ManagedBy = "federation.overland.dev"
	// LabelSourceCluster names the cluster whose endpoints are in an
	// EndpointSlice; the state has none.
	LabelSourceCluster = "federation.overland.dev/source-cluster"
	// LabelParked has the name of the Service in an EndpointSlice whose endpoints
	// are not published.
	LabelParked = "federation.overland.dev/parked"
	// AnnotationFormat is the version of the object's form (semantics 5.1). It is
	// what marks an Endpoints object as ours.
	AnnotationFormat = "federation.overland.dev/format"
	// AnnotationApplied is the expression that an object was made by.
	AnnotationApplied = "federation.overland.dev/applied"
	// AnnotationAppliedPreference, of the state, is the preference that it was
	// made by.
	AnnotationAppliedPreference = "federation.overland.dev/applied-preference"
	// AnnotationSufficient, of the state, is since when clusters that are
	// preferred to what serves have been sufficient: CLUSTER=TIME, the time as
	// RFC 3339 with milliseconds, separated by commas, sorted by name.
	AnnotationSufficient = "federation.overland.dev/sufficient-since"
	// AnnotationWritten, of an Endpoints object of many addresses, is when it was
	// written.
	AnnotationWritten = "federation.overland.dev/written"

	// Format is the form that this package writes.
	Format = 1
)

// ServiceOf is the name of the federated Service that an EndpointSlice of ours is
// for, and whether it is one of ours.
func ServiceOf(s *discoveryv1.EndpointSlice) (string, bool) {
	if s.Labels[discoveryv1.LabelManagedBy] != ManagedBy {
		return "", false
	}
	name := s.Labels[discoveryv1.LabelServiceName]
	if name == "" {
		name = s.Labels[LabelParked]
	}
	return name, name != ""
}
