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
