package model

import "time"

// State is how a cluster's source of facts is doing.
type State uint8

// The states of a cluster.
const (
	StateConnecting   State = iota // no answer yet since the start, and no lasting failure either
	StateSyncing                   // answers; not everything has been listed yet
	StateInSync                    // everything has been listed, and watches are up
	StateOutOfContact              // was, or is to be, in contact, and something prevents it: see Reason
	StateRefused                   // its configuration or what it says of itself is not accepted: nothing is taken from it
	StateSuspended                 // spec.suspend
)

// String is the word that people read.
func (s State) String() string {
	switch s {
	case StateConnecting:
		return "Connecting"
	case StateSyncing:
		return "Syncing"
	case StateInSync:
		return "InSync"
	case StateOutOfContact:
		return "OutOfContact"
	case StateRefused:
		return "Refused"
	case StateSuspended:
		return "Suspended"
	}
	return "Unknown"
}

// The reasons of a cluster's state, which are those of condition Ready too.
const (
	ReasonConnecting        = "Connecting"
	ReasonSyncing           = "Syncing"
	ReasonInSync            = "InSync"
	ReasonSuspended         = "Suspended"
	ReasonUnreachable       = "Unreachable"       // no connection, or no answer in time
	ReasonNameNotResolved   = "NameNotResolved"   // the server's name has no address
	ReasonUntrustedServer   = "UntrustedServer"   // its certificate is not of the given CA, or not for that name
	ReasonUnauthorized      = "Unauthorized"      // the credentials are not accepted
	ReasonTokenExpired      = "TokenExpired"      // the token's own expiry has passed
	ReasonForbidden         = "Forbidden"         // accepted, but may not list or watch what is needed
	ReasonServerError       = "ServerError"       // it answers, with errors
	ReasonVersionTooOld     = "VersionTooOld"     // Kubernetes before 1.25
	ReasonSecretNotFound    = "SecretNotFound"    // no such Secret, or no such key in it
	ReasonInvalidKubeconfig = "InvalidKubeconfig" // not a kubeconfig, or incomplete
	ReasonUnsafeKubeconfig  = "UnsafeKubeconfig"  // semantics 1.2
	ReasonInvalidName       = "InvalidName"
	ReasonInvalidSpec       = "InvalidSpec"
	ReasonNameConflict      = "NameConflict"
	ReasonSelfLink          = "SelfLink"
	ReasonDuplicateCluster  = "DuplicateCluster"
	ReasonClusterChanged    = "ClusterChanged"
	ReasonTooLarge          = "TooLarge"
)

// ClusterStatus is what a source reports of a cluster. It is a value: a source
// reports a new one at every change.
type ClusterStatus struct {
	// Generation is that of the RemoteCluster object that the source acts on; 0
	// if it does not say. A status is about that spec and no newer one.
	Generation int64
	State      State
	Reason     string // one of the above
	Message    string // what is wrong and the one thing to do about it; empty when all is well
	Since      time.Time
	// LastContact is when the API server last said anything: an answer, a watch
	// event, a bookmark. Zero: never since the RemoteCluster exists.
	LastContact time.Time
	// ClusterUID is the uid of its kube-system namespace; empty until known.
	ClusterUID string
	// DeclaredName is the name that it gives itself; empty if it gives none.
	DeclaredName      string
	KubernetesVersion string
	// CredentialsExpire is when the token or client certificate does; zero if
	// it does not, or does not say.
	CredentialsExpire time.Time
	// CredentialsIssued is since when they are good, if they say so.
	CredentialsIssued time.Time
	// NotReadable are kinds that the credentials may not read and that the
	// cluster can do without.
	NotReadable []Kind
	// Refused counts objects refused before they became facts, by reason.
	Refused map[RefusalReason]int
	// ReservedLabels counts objects that bear reserved labels (semantics 1.4).
	ReservedLabels int
}

// InContact tells whether the API server answers now.
func (s ClusterStatus) InContact() bool { return s.State == StateInSync || s.State == StateSyncing }

// RefusalReason is why an address or an object of a cluster is not taken.
type RefusalReason string

// The reasons. The first ones are of addresses (semantics 1.5).
const (
	RefusedReservedAddress RefusalReason = "ReservedAddress" // unspecified, loopback, link-local, multicast, 168.63.129.16
	RefusedLocalNode       RefusalReason = "LocalNodeAddress"
	RefusedLocalRange      RefusalReason = "LocalRange"
	RefusedOutsideRanges   RefusalReason = "OutsideRanges"
	RefusedNodeAddress     RefusalReason = "NodeAddress" // a pod claims the address of a node
	RefusedDuplicate       RefusalReason = "Duplicate"   // another endpoint has it
	RefusedMalformed       RefusalReason = "Malformed"   // the object cannot be read
	RefusedLabelsTooLarge  RefusalReason = "LabelsTooLarge"
	RefusedLimit           RefusalReason = "Limit" // past spec.limits.endpoints
)

// Problem is a finding for people: status, a metric by kind, an Event.
type Problem struct {
	Kind    ProblemKind
	Object  Key // what it is about; the cluster if nothing narrower
	Message string
}

// ProblemKind is the kind of a Problem; a label value of metrics.
type ProblemKind string

// The kinds of Problems.
const (
	ProblemCluster           ProblemKind = "Cluster"           // a link is not Ready
	ProblemRestored          ProblemKind = "Restored"          // known from this node's store only
	ProblemReservedLabels    ProblemKind = "ReservedLabels"    // 1.4
	ProblemAddressRefused    ProblemKind = "AddressRefused"    // 1.5
	ProblemAddressesTrusted  ProblemKind = "AddressesTrusted"  // 1.2: no ranges declared
	ProblemLocalRangeUnknown ProblemKind = "LocalRangeUnknown" // 1.5
	ProblemNotReadable       ProblemKind = "NotReadable"       // 1.2
	ProblemPolicy            ProblemKind = "Policy"            // 2.12
	ProblemPeerScope         ProblemKind = "PeerScope"         // 2.3
	ProblemLimit             ProblemKind = "Limit"             // 2.13: a policy is past a limit of its namespace
	ProblemInterface         ProblemKind = "Interface"         // a pod's address is routed to an interface that is not the pod's
	ProblemNameMismatch      ProblemKind = "NameMismatch"      // 1.1
	ProblemStore             ProblemKind = "Store"             // the node's disk
	ProblemDataplane         ProblemKind = "Dataplane"         // this node's kernel does not hold all that is wanted, or another program interferes
	ProblemCNI               ProblemKind = "CNI"               // pods of this node start without the CNI plugin
)
