package desired

import (
	"net/netip"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

// State is what a node must enforce at one moment. It is immutable and shares
// with other States whatever is equal: the same Rules pointer means that only
// members of sets have changed.
type State struct {
	// Gen grows with each State of one agent's life; 0 is before all.
	Gen   uint64
	Rules *Rules
	// Sets has the members of those sets of Rules.Sets that have some which
	// change: kinds Addresses and AddressPorts, and no others.
	Sets pset.Map[SetID, Members]
	// Released are the addresses that lost their owner (semantics 1.5), with the
	// Gen of the State that was the first without it. An address that has a new
	// owner since may be in the same sets as before, and yet what was judged
	// with the old owner counts no more. Of losses at ReleasedFloor or before,
	// nothing is said here.
	Released      pset.Map[netip.Addr, uint64]
	ReleasedFloor uint64
}

// SetID names a set by its content: equal texts have equal ids, and a set never
// changes its meaning. It is ovl4- or ovl6- and 25 characters of base32, 125 bits
// of the SHA-256 of SetSpec.Text: 30 characters, of the 31 that the kernel takes.
type SetID string

// Members are those of a set: of kind Addresses or of kind AddressPorts.
type Members struct {
	Addrs pset.Set[netip.Addr]
	Ports pset.Set[netip.AddrPort]
}

// SetKind is what the members of a set are.
type SetKind uint8

// The kinds of sets.
const (
	Addresses    SetKind = iota // addresses of endpoints
	AddressPorts                // addresses of endpoints, each with a port of one protocol
	Networks                    // address ranges, the longest one that holds an address decides; they never change
)

// Family is that of addresses.
type Family uint8

// The families. AnyFamily is for rules that name no addresses.
const (
	AnyFamily Family = iota
	IPv4
	IPv6
)

// FamilyOf is the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// SetSpec is a set without the members that change.
type SetSpec struct {
	ID     SetID
	Kind   SetKind
	Family Family // IPv4 or IPv6
	// Protocol is that of the ports, of kind AddressPorts.
	Protocol model.Protocol
	// Text is what the set means, in canonical form, with the version of that
	// form: what ID is made of.
	Text string
	// Networks are the members of kind Networks, sorted, without duplicates. Of
	// prefix length 0 there is none.
	Networks []Network
}

// Network is a member of a set of kind Networks.
type Network struct {
	Prefix netip.Prefix // canonical
	Except bool         // what it holds is not in the set, unless a longer prefix says so
}
