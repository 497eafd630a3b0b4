package api

import "time"

// The results of an Explanation, and of a flow in it.
const (
	ResultAllowed = "Allowed" // by all that this node enforces
	ResultDenied  = "Denied"
	ResultNotHere = "NotHere" // neither side is enforced on this node
)

// Explanation is whether a connection passes this node, and why.
type Explanation struct {
	Header
	Source      Party  `json:"source"`
	Destination Party  `json:"destination"`
	Port        string `json:"port"` // as asked
	// Result is Denied if one of the flows is.
	Result string `json:"result"`
	// Flows are the connections that this can be: one of each family that both
	// sides have and of each number of a named port.
	Flows []Flow `json:"flows"`
	// Notes say what else there is to know, and whom to ask.
	Notes []string `json:"notes,omitempty"`
}

// The kinds of parties, beside KindPod and KindNode.
const (
	PartyInterface = "Interface" // a pod interface of this node whose pod is not known
	PartyOutside   = "Outside"   // an address that no endpoint has
)

// Party is one side of a connection.
type Party struct {
	Asked     string     `json:"asked"`
	Kind      string     `json:"kind"`               // KindPod, KindNode, PartyInterface or PartyOutside
	Endpoint  *Reference `json:"endpoint,omitempty"` // the pod or node
	Addresses []string   `json:"addresses"`
	Node      string     `json:"node,omitempty"` // where a pod runs; the node
	// Here: its side is decided on this node.
	Here      bool   `json:"here"`
	Interface string `json:"interface,omitempty"` // of this node
}

// Flow is a connection in its original direction.
type Flow struct {
	Family      string  `json:"family"` // IPv4 or IPv6
	Source      string  `json:"source"`
	Destination string  `json:"destination"`
	Protocol    string  `json:"protocol"`
	Port        uint16  `json:"port,omitempty"`
	Result      string  `json:"result"`
	Checks      []Check `json:"checks"`
	// Kernel is whether the kernel holds what decides; absent if nothing is
	// decided here.
	Kernel *Kernel `json:"kernel,omitempty"`
}

// Check is one thing that is looked at.
type Check struct {
	// Kind is one of "source address", "same pod", "own node", "unknown pod
	// interface", "egress", "ingress".
	Kind      string     `json:"kind"`
	Pod       *Reference `json:"pod,omitempty"`
	Interface string     `json:"interface,omitempty"`
	Allowed   bool       `json:"allowed"`
	// Skipped: packets do not come so far, because a check before it denies.
	Skipped bool   `json:"skipped,omitempty"`
	Reason  string `json:"reason"` // in words
	// Isolated, of egress and ingress: policies isolate the pod: Policies, as
	// NAMESPACE/NAME.
	Isolated bool     `json:"isolated,omitempty"`
	Policies []string `json:"policies,omitempty"`
	// Rule is the one that matches; absent if none does.
	Rule *Rule `json:"rule,omitempty"`
	// Near are rules that would match another port or protocol; a few of them.
	Near []Rule `json:"near,omitempty"`
}

// Kernel is what the kernel holds of what decides.
type Kernel struct {
	// Agrees: all of it. If Error is there, it could not be read.
	Agrees bool   `json:"agrees"`
	Error  string `json:"error,omitempty"`
	// Pending: what is wanted is not in force yet, since PendingSince.
	Pending      bool         `json:"pending,omitempty"`
	PendingSince *time.Time   `json:"pendingSince,omitempty"`
	Sets         []SetCheck   `json:"sets,omitempty"`
	Chains       []ChainCheck `json:"chains,omitempty"`
}

// SetCheck is whether an address is a member of a set.
type SetCheck struct {
	Set     string `json:"set"`
	Text    string `json:"text"`
	Element string `json:"element"`
	Want    bool   `json:"want"`   // by what is to be enforced
	Kernel  bool   `json:"kernel"` // in the kernel
}

// ChainCheck is whether the kernel has a chain as it is to be.
type ChainCheck struct {
	Family     string `json:"family"`
	Table      string `json:"table"`
	Chain      string `json:"chain"`
	Agrees     bool   `json:"agrees"`
	Difference string `json:"difference,omitempty"`
}
