package model

import "net/netip"

// Interface is the node's end of a pod's link: what the kernel says, not an API
// server. A name that comes back with another index is another interface.
type Interface struct {
	Name  string
	Index int
	// Addrs are the addresses that the node routes to it as hosts, sorted.
	Addrs []netip.Addr
}

// Attachment is a pod of this node, connected by CNI: what the runtime said and
// the node's kernel was found to have. It is known before any API server hears of
// the pod's addresses.
type Attachment struct {
	// ContainerID and IfName name it: the pod's sandbox, and its interface there.
	ContainerID, IfName string
	Pod                 Key
	UID                 UID // of the pod; none: the runtime does not tell
	// Interface and Index are the node's end of the link.
	Interface string
	Index     int
	Addrs     []netip.Addr // routed to it, sorted
	// Order tells attachments of one pod apart: the one with the greatest counts.
	Order uint64
	// Ended: it was deleted, or its link is gone. Its addresses are the pod's no
	// more, even if an API server still says so.
	Ended bool
	// Fact is the pod as the API server has it, if it had to be asked: for as long
	// as no source tells of a pod with this UID.
	Fact *Endpoint
}
