package desired

import (
	"net/netip"

	"github.com/overland-net/overland/pkg/model"
)

// Flow is a connection, or a packet that belongs to none, in its original
// direction, as seen where this node forwards it: translation of the destination
// is done, that of the source is not (semantics 2.9).
type Flow struct {
	// From is where it comes from, To where it goes to.
	From, To Place
	Src, Dst netip.Addr
	// Protocol by IANA number. The ports are 0 for protocols without.
	Protocol         model.Protocol
	SrcPort, DstPort uint16
}

// Place is one end of a Flow, as this node sees it. The zero Place is anything
// beyond the node's own network interfaces.
type Place struct {
	// Interface is the pod interface, by name.
	Interface string
	// Node: it is this node itself.
	Node bool
}

// Verdict is whether a flow passes this node, and why.
type Verdict struct {
	Allowed bool
	// Trail is the checks that were made, in order; the last one has decided if
	// the flow is not allowed.
	Trail []Check
}

// Check is one step of a Verdict.
type Check struct {
	Kind CheckKind
	// Endpoint is the pod of this node that it is about; nil if none is known.
	Endpoint  *Endpoint
	Interface string
	Allowed   bool
	// Side and Rule: of CheckEgress and CheckIngress, what was applied and the
	// index of the first rule in Side.List that matches; -1 if none does. Side
	// is nil if the pod is not isolated.
	Side *Side
	Rule int
}

// CheckKind is what a Check is about.
type CheckKind uint8

// The kinds of checks, in the order in which they are made.
const (
	CheckSource  CheckKind = iota // 2.14: the source address is routed to the interface
	CheckSelf                     // 2.8: source and destination are the same pod
	CheckOwnNode                  // 2.8: the pod's own node, exempt
	CheckUnknown                  // a pod interface without a known pod
	CheckEgress                   // the source pod's egress rules
	CheckIngress                  // the destination pod's ingress rules
	CheckForeign                  // no pod of this node has a part in it: not ours to decide
)

// String is the kind in words.
func (k CheckKind) String() string {
	switch k {
	case CheckSource:
		return "source address"
	case CheckSelf:
		return "same pod"
	case CheckOwnNode:
		return "own node"
	case CheckUnknown:
		return "unknown pod interface"
	case CheckEgress:
		return "egress"
	case CheckIngress:
		return "ingress"
	case CheckForeign:
		return "foreign"
	}
	return "unknown"
}
