package model

import "net/netip"

// Policy is a NetworkPolicy as its author wrote it, defaults filled in.
type Policy struct {
	Key        Key
	UID        UID
	Generation int64
	// PeerScope is the value of AnnotationPeerScope; empty if there is none.
	PeerScope string
	// Pods says which pods of its namespace it applies to.
	Pods LabelSelector
	// Ingress and Egress are what it isolates (policyTypes, defaulted).
	Ingress, Egress bool
	// IngressRules and EgressRules are what it allows; those of a direction
	// that it does not isolate have no effect.
	IngressRules, EgressRules []PolicyRule
	// Malformed are parts that could not be read, in words that name the field.
	// They are left out: the policy is never more open than written.
	Malformed []string
}

// PolicyRule allows what matches one of its peers and one of its ports.
type PolicyRule struct {
	AnyPeer bool // no from or to: all addresses
	Peers   []PolicyPeer
	AnyPort bool // no ports: all ports of all protocols
	Ports   []PolicyPort
}

// PolicyPeer is one of a block of addresses, or of selectors.
type PolicyPeer struct {
	// Block is valid for an ipBlock; it is then all there is but Except.
	Block  netip.Prefix
	Except []netip.Prefix
	// Pods and Namespaces are nil if they are absent: an absent one and an
	// empty one mean different things.
	Pods, Namespaces *LabelSelector
}

// PolicyPort is a port of a rule.
type PolicyPort struct {
	Protocol Protocol
	// Name is the named port, else the ports are First to Last; both 0: all
	// ports of the protocol.
	Name        string
	First, Last uint16
}

// LabelSelector is a Kubernetes label selector: all requirements must hold. None
// means everything. matchLabels are requirements too.
type LabelSelector []Requirement

// Requirement is one requirement of a LabelSelector.
type Requirement struct {
	Key      string
	Operator Operator
	Values   []string // of In and NotIn
}

// Operator is that of a Requirement.
type Operator uint8

// The operators of Kubernetes. An unknown one, which no API server lets pass,
// is Impossible: it matches nothing.
const (
	Impossible Operator = iota
	In
	NotIn // true for what lacks the key
	Exists
	DoesNotExist
)

// FactKey is the policy's key.
func (p *Policy) FactKey() Key { return p.Key }
