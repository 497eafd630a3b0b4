package ipset

import (
	"fmt"
	"math/bits"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// MaxName is the longest name of a set.
const MaxName = 31

// Type is the kernel's type of a set.
type Type string

// The types in use.
const (
	HashIP     Type = "hash:ip"
	HashIPPort Type = "hash:ip,port"
	HashNet    Type = "hash:net"
)

// revision is the one with which sets of the type are made. Each is as old as
// Linux 3.18; younger ones only add options that are not used here, and
// unknown ones keep the ipset program of the node from listing the set.
func (t Type) revision() uint8 {
	switch t {
	case HashNet:
		return 6
	case HashIPPort:
		return 5
	case HashIP:
		return 4
	}
	return 0
}

// Set is what a set is made with.
type Set struct {
	Name   string
	Type   Type
	Family desired.Family // IPv4 or IPv6
	// Size is how many elements are expected: it may hold any number, but grows
	// with pauses.
	Size int
}

func (s Set) check() error {
	switch {
	case s.Name == "" || len(s.Name) > MaxName:
		return fmt.Errorf("the name %q of a set has %d characters: 1 to %d are expected", s.Name, len(s.Name), MaxName)
	case s.Type.revision() == 0:
		return fmt.Errorf("set %s: unknown type %q", s.Name, s.Type)
	case s.Family != desired.IPv4 && s.Family != desired.IPv6:
		return fmt.Errorf("set %s: the family is neither IPv4 nor IPv6", s.Name)
	}
	return nil
}

// hashSize is the number of buckets for n elements: a power of two, one element
// a bucket or fewer. The largest one costs 8 MiB of pointers; larger sets grow.
func hashSize(n int) uint32 {
	const least, most = 64, 1 << 20
	if n >= most {
		return most
	}
	return uint32(max(least, 1<<bits.Len(uint(max(n, 1)-1))))
}

// Header is a set without its elements.
type Header struct {
	Name   string
	Type   Type
	Family desired.Family
	// Size is the number of elements, References that of rules which use it.
	Size, References    int
	MaxElements, Memory uint32
}

// Element is a member of a set.
type Element struct {
	Addr netip.Addr
	// Bits is the prefix length, of HashNet: 1 to 32 or 128. The kernel has no
	// prefix of length 0.
	Bits uint8
	// Protocol and Port are of HashIPPort.
	Protocol model.Protocol
	Port     uint16
	// NoMatch, of HashNet: what this prefix holds is not in the set.
	NoMatch bool
}

// String is the element in the form that the ipset program prints it.
func (e Element) String() string {
	switch {
	case e.Protocol != 0:
		return fmt.Sprintf("%s,%s:%d", e.Addr, protocolName(e.Protocol), e.Port)
	case e.NoMatch:
		return fmt.Sprintf("%s/%d nomatch", e.Addr, e.Bits)
	case e.Bits != 0:
		return fmt.Sprintf("%s/%d", e.Addr, e.Bits)
	}
	return e.Addr.String()
}

func protocolName(p model.Protocol) string {
	switch p {
	case model.TCP:
		return "tcp"
	case model.UDP:
		return "udp"
	case model.SCTP:
		return "sctp"
	}
	return fmt.Sprint(uint8(p))
}

// check tells what the kernel would refuse or, worse, take for something else.
func (e Element) check(s Set) error {
	family := desired.IPv6
	if e.Addr.Is4() {
		family = desired.IPv4
	}
	switch {
	case !e.Addr.IsValid() || e.Addr.Is4In6() || e.Addr.Zone() != "":
		return fmt.Errorf("%q is not a plain address", e.Addr)
	case family != s.Family:
		return fmt.Errorf("the address is not of the set's family")
	case s.Type == HashNet && (e.Bits == 0 || int(e.Bits) > e.Addr.BitLen()):
		// Without the attribute the kernel stores 0.0.0.0/32, and says nothing.
		return fmt.Errorf("the prefix length is %d: 1 to %d are expected", e.Bits, e.Addr.BitLen())
	case s.Type == HashNet && netip.PrefixFrom(e.Addr, int(e.Bits)).Masked().Addr() != e.Addr:
		return fmt.Errorf("the address has bits beyond its prefix length")
	case s.Type == HashIPPort && e.Protocol == 0:
		return fmt.Errorf("an element of %s needs a protocol", s.Type)
	case s.Type != HashNet && e.Addr.IsUnspecified():
		return fmt.Errorf("the unspecified address cannot be in a set of type %s", s.Type)
	}
	return nil
}

func familyNumber(f desired.Family) uint8 {
	if f == desired.IPv4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func familyOf(n uint8) desired.Family {
	switch n {
	case unix.AF_INET:
		return desired.IPv4
	case unix.AF_INET6:
		return desired.IPv6
	}
	return desired.AnyFamily
}
