package api

import "time"

// Version is the apiVersion of every answer.
const Version = "admin.overland.dev/v1"

// DefaultSocket is where the agent listens unless it is told otherwise.
const DefaultSocket = "/run/overland/admin.sock"

// LockSuffix is added to the path of a socket for its lock, which stays when the
// agent ends: as long as the node is up, it says that an agent has run.
const LockSuffix = ".lock"

// The paths. An endpoint's details are at PathEndpoints/NAMESPACE/POD, those of a
// policy at PathPolicies/NAMESPACE/NAME, a federated Service at
// PathServices/NAMESPACE/NAME.
const (
	PathStatus    = "/v1/status"
	PathClusters  = "/v1/clusters"
	PathEndpoints = "/v1/endpoints"
	PathEvaluate  = "/v1/eval"
	PathPolicies  = "/v1/policies"
	PathExplain   = "/v1/explain"
	PathServices  = "/v1/services"
)

// The query parameters of PathEndpoints; those of an endpoint's details are
// ParamCluster, that of PathEvaluate is ParamExpression. PathPolicies has
// ParamNamespace, ParamName and ParamAll, PathExplain the last three, PathServices ParamNamespace.
const (
	ParamCluster       = "cluster"
	ParamNamespace     = "namespace"
	ParamLabelSelector = "labelSelector"
	ParamKind          = "kind" // KindPod or KindNode
	ParamExpression    = "expression"
	ParamName          = "name"
	ParamAll           = "all" // "true": also those that select no pod of the node
	ParamSource        = "source"
	ParamDestination   = "destination"
	ParamPort          = "port"
)

// The kinds of answers.
const (
	KindStatus          = "Status"
	KindClusterList     = "ClusterList"
	KindEndpointList    = "EndpointList"
	KindEndpointDetails = "EndpointDetails"
	KindPolicyList      = "PolicyList"
	KindPolicyDetails   = "PolicyDetails"
	KindExplanation     = "Explanation"
	KindServiceList     = "ServiceList"
	KindServiceDetails  = "ServiceDetails"
	KindError           = "Error"
)

// The kinds of endpoints, and of objects that a Reference names.
const (
	KindPod  = "Pod"
	KindNode = "Node"
)

// Header begins every answer.
type Header struct {
	APIVersion string `json:"apiVersion"` // Version
	Kind       string `json:"kind"`
	// Time is when the answer was made; all ages in it count to then.
	Time time.Time `json:"time"`
	// SnapshotTime is when the answer's facts were last changed or looked at,
	// and Generation counts such states since the agent began.
	SnapshotTime *time.Time `json:"snapshotTime,omitempty"`
	Generation   uint64     `json:"generation"`
	// Partial tells that the answer may lack what is new in some cluster that
	// it is about: PartialClusters says which, and why.
	Partial         bool             `json:"partial"`
	PartialClusters []PartialCluster `json:"partialClusters,omitempty"`
}

// PartialCluster is a cluster of which what is known may be incomplete or old.
type PartialCluster struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Since is when it came into that state.
	Since        *time.Time `json:"since,omitempty"`
	SinceSeconds *int64     `json:"sinceSeconds,omitempty"`
	// LastContact is as in Cluster.
	LastContact           *time.Time `json:"lastContact,omitempty"`
	LastContactAgeSeconds *int64     `json:"lastContactAgeSeconds,omitempty"`
	Restored              bool       `json:"restored"`
}

// The states of a node's agent.
const (
	AgentStarting = "Starting" // nothing of the local cluster is known yet
	AgentRestored = "Restored" // the local cluster is known from this node's store only
	AgentInSync   = "InSync"   // the local cluster has been listed
)

// Status is this node at a glance.
type Status struct {
	Header
	Cluster string `json:"cluster"` // the local cluster's name
	Node    string `json:"node"`
	Version string `json:"version"` // the agent's
	// Started is when the agent began.
	Started       *time.Time `json:"started,omitempty"`
	UptimeSeconds int64      `json:"uptimeSeconds"`
	State         string     `json:"state"` // AgentStarting, AgentRestored or AgentInSync
	InSync        bool       `json:"inSync"`
	Restored      bool       `json:"restored"`
	Endpoints     int        `json:"endpoints"` // pods and nodes of all clusters
	// Ready is what /readyz says; NotReady is why not.
	Ready    bool   `json:"ready"`
	NotReady string `json:"notReady,omitempty"`
	// Dataplane is what enforces policies on this node; absent: nothing does.
	Dataplane *Dataplane `json:"dataplane,omitempty"`
	// Clusters are the local one first, then the others by name.
	Clusters []Cluster `json:"clusters"`
	// Problems by kind and object.
	Problems []Problem `json:"problems"`
}

// Problem is a finding for people.
type Problem struct {
	Kind    string    `json:"kind"`
	Object  Reference `json:"object"`
	Message string    `json:"message"`
}

// Reference names an object of a cluster.
type Reference struct {
	Kind      string `json:"kind"` // Pod, Node, Namespace, NetworkPolicy or Cluster
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"` // empty for a Cluster
}

// String is CLUSTER/NAMESPACE/NAME without what is empty, after the kind.
func (r Reference) String() string {
	s := r.Kind + " " + r.Cluster
	if r.Namespace != "" {
		s += "/" + r.Namespace
	}
	if r.Name != "" {
		s += "/" + r.Name
	}
	return s
}

// ClusterList lists the clusters: the local one first, then the others by name.
type ClusterList struct {
	Header
	Items []Cluster `json:"items"`
}

// Cluster is the link to a cluster, or the local cluster.
type Cluster struct {
	Name  string `json:"name"`
	Local bool   `json:"local"`
	// State is one of Connecting, Syncing, InSync, OutOfContact, Refused and
	// Suspended.
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"` // what is wrong, and what to do about it
	// Since is when it came into that state.
	Since        *time.Time `json:"since,omitempty"`
	SinceSeconds *int64     `json:"sinceSeconds,omitempty"`
	// LastContact is when its API server last said anything: the age of the
	// newest that can be known. Absent: never.
	LastContact           *time.Time `json:"lastContact,omitempty"`
	LastContactAgeSeconds *int64     `json:"lastContactAgeSeconds,omitempty"`
	// Restored tells that what is known comes from this node's store.
	Restored bool `json:"restored"`

	Pods       int `json:"pods"`
	Nodes      int `json:"nodes"`
	Namespaces int `json:"namespaces"`
	// Refused counts addresses and objects that are not taken, by reason;
	// RefusedTotal is their sum.
	Refused      map[string]int `json:"refused,omitempty"`
	RefusedTotal int            `json:"refusedTotal"`
	// ReservedLabels counts objects that bear labels which are not theirs to
	// bear; the labels are ignored.
	ReservedLabels int `json:"reservedLabels,omitempty"`
	// NotReadable are kinds that the credentials may not read, and that the
	// link can do without.
	NotReadable []string `json:"notReadable,omitempty"`

	// UID is that of the RemoteCluster object, ClusterUID that of the cluster
	// itself (of its kube-system namespace).
	UID          string `json:"uid,omitempty"`
	ClusterUID   string `json:"clusterUID,omitempty"`
	DeclaredName string `json:"declaredName,omitempty"` // the name that it gives itself
	// KubernetesVersion is its API server's.
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	// CredentialsExpire is absent for credentials that do not expire.
	CredentialsExpire          *time.Time `json:"credentialsExpire,omitempty"`
	CredentialsExpireInSeconds *int64     `json:"credentialsExpireInSeconds,omitempty"`

	Labels            map[string]string `json:"labels,omitempty"`   // spec.clusterLabels
	PodCIDRs          []string          `json:"podCIDRs,omitempty"` // what its pods may claim
	NodeCIDRs         []string          `json:"nodeCIDRs,omitempty"`
	StaleAfterSeconds int64             `json:"staleAfterSeconds,omitempty"` // absent: never
	EndpointLimit     int               `json:"endpointLimit,omitempty"`     // absent: none
}

// EndpointList lists endpoints: by cluster as in ClusterList, pods before nodes,
// by namespace, by name. Items come last, and a reader may stream them.
type EndpointList struct {
	Header
	// Expression is what was evaluated, in its canonical form.
	Expression string     `json:"expression,omitempty"`
	Items      []Endpoint `json:"items"`
}

// Endpoint is a pod with an address, or a node.
type Endpoint struct {
	Kind      string `json:"kind"` // KindPod or KindNode
	Cluster   string `json:"cluster"`
	Local     bool   `json:"local"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	Node      string `json:"node,omitempty"` // where a pod runs
	// Addresses are those that it is known by.
	Addresses []string `json:"addresses"`
	// Refused are addresses that it claims and does not get.
	Refused        []RefusedAddress  `json:"refused,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"` // its own
	ServiceAccount string            `json:"serviceAccount,omitempty"`
	Ports          []Port            `json:"ports,omitempty"` // named ports
	// Created is by the clock of the endpoint's cluster.
	Created     *time.Time `json:"created,omitempty"`
	AgeSeconds  *int64     `json:"ageSeconds,omitempty"`
	Terminating bool       `json:"terminating,omitempty"`
}

// RefusedAddress is an address that an endpoint claims and does not get.
type RefusedAddress struct {
	Address string `json:"address"`
	// Reason is one of ReservedAddress, LocalNodeAddress, LocalRange,
	// OutsideRanges, NodeAddress and Duplicate.
	Reason string     `json:"reason"`
	By     *Reference `json:"by,omitempty"` // who has it, if somebody has
}

// Port is a named port of a pod.
type Port struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
}

// EndpointDetails is everything that is known of one endpoint.
type EndpointDetails struct {
	Header
	Endpoint Endpoint `json:"endpoint"`
	// NamespaceLabels and ClusterLabels are what selectors see of its
	// namespace and its cluster.
	NamespaceLabels map[string]string `json:"namespaceLabels,omitempty"`
	ClusterLabels   map[string]string `json:"clusterLabels,omitempty"`
	// NamespaceKnown is false as long as its Namespace object is not known.
	NamespaceKnown bool `json:"namespaceKnown"`
	// Keys is the endpoint as an expression sees it: its labels and all
	// reserved keys.
	Keys map[string]string `json:"keys"`
	// Enforcement is what policies do to it: absent for a pod of another cluster,
	// whose policies that cluster has, and until this node knows what to enforce.
	Enforcement *Enforcement `json:"enforcement,omitempty"`
}

// The codes of errors.
const (
	CodeInvalid    = "Invalid"    // 400: the request is wrong, and cannot become right
	CodeForbidden  = "Forbidden"  // 403: the caller is not root
	CodeNotFound   = "NotFound"   // 404
	CodeNotAllowed = "NotAllowed" // 405: not the method of this path
	CodeConflict   = "Conflict"   // 409: the node is not as the request says
	CodeStarting   = "Starting"   // 503: nothing is known yet
	CodeBusy       = "Busy"       // 503: too many requests at once
	// CodeNotEnforced, 503: the kernel could not be made to enforce what was asked
	// for in time.
	CodeNotEnforced = "NotEnforced"
	CodeInternal    = "Internal" // 500
)

// Error is the answer to a request that is not served.
type Error struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // KindError
	Code       string `json:"code"`
	Message    string `json:"message"`
	// Offset, of a syntax error in an expression, is the place in it, in bytes
	// from 0; Expected is what should be there.
	Offset   *int   `json:"offset,omitempty"`
	Expected string `json:"expected,omitempty"`
}

// Error is the message.
func (e *Error) Error() string { return e.Message }
