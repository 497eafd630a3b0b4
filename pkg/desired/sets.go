package desired

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// SetIDOf is the id of a set with that text.
func SetIDOf(family Family, text string) SetID {
	prefix := "ovl6-"
	if family == IPv4 {
		prefix = "ovl4-"
	}
	const (
		alphabet = "abcdefghijklmnopqrstuvwxyz234567" // of RFC 4648, as small letters
		digits   = 25                                 // of 5 bits
		bytes    = (digits*5 + 7) / 8
	)
	sum := sha256.Sum256([]byte(text))
	encoded := base32.NewEncoding(alphabet).WithPadding(base32.NoPadding).EncodeToString(sum[:bytes])
	return SetID(prefix + encoded[:digits])
}

// networksVersion is that of the form of the text that NewNetworks makes.
const networksVersion = "networks v1"

// NewNetworks is the set of kind Networks with these members, in canonical
// order, each once; its text is all of them. A prefix that is both in the set
// and excepted is excepted. It does not keep networks.
func NewNetworks(family Family, networks []Network) SetSpec {
	sorted := slices.SortedFunc(slices.Values(networks), func(a, b Network) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), compareBool(b.Except, a.Except))
	})
	sorted = slices.CompactFunc(sorted, func(a, b Network) bool { return a.Prefix == b.Prefix })
	var b strings.Builder
	b.WriteString(networksVersion)
	for _, n := range sorted {
		b.WriteString(" " + n.String())
	}
	text := b.String()
	return SetSpec{ID: SetIDOf(family, text), Kind: Networks, Family: family, Text: text, Networks: sorted}
}

// String is the prefix, with "except " before it if it is one.
func (n Network) String() string {
	if n.Except {
		return "except " + n.Prefix.String()
	}
	return n.Prefix.String()
}

// Dynamic tells whether members of the set change, so that State.Sets has them.
func (s SetSpec) Dynamic() bool { return s.Kind != Networks }

// holds tells whether an address is in a set of kind Networks: the longest
// prefix that holds it says so. It looks at all of them: no set of them is large.
func (s *SetSpec) holds(a netip.Addr) bool {
	longest, in := -1, false
	for _, n := range s.Networks {
		if n.Prefix.Bits() > longest && n.Prefix.Contains(a) {
			longest, in = n.Prefix.Bits(), !n.Except
		}
	}
	return in
}

// Len is how many members there are.
func (m Members) Len() int { return m.Addrs.Len() + m.Ports.Len() }

// All gives the members; of kind Addresses with port 0.
func (m Members) All() iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		for a := range m.Addrs.All() {
			if !yield(netip.AddrPortFrom(a, 0)) {
				return
			}
		}
		for p := range m.Ports.All() {
			if !yield(p) {
				return
			}
		}
	}
}

// Has tells whether a is a member, or a with the port is.
func (m Members) Has(kind SetKind, a netip.Addr, port uint16) bool {
	if kind == AddressPorts {
		return m.Ports.Has(netip.AddrPortFrom(a, port))
	}
	return m.Addrs.Has(a)
}

// InSet tells whether an address is in a set, of kind AddressPorts with the
// port. What no set has that id has no members.
func (s *State) InSet(id SetID, a netip.Addr, port uint16) bool {
	spec, ok := s.Rules.set(id)
	return ok && s.inSet(spec, a, port)
}

func (s *State) inSet(spec *SetSpec, a netip.Addr, port uint16) bool {
	if spec.Kind == Networks {
		return spec.holds(a)
	}
	members, _ := s.Sets.Get(spec.ID)
	return members.Has(spec.Kind, a, port)
}

// Spec is the set with that id, and whether there is one.
func (r *Rules) Spec(id SetID) (SetSpec, bool) {
	spec, ok := r.set(id)
	if !ok {
		return SetSpec{}, false
	}
	return *spec, true
}

func (r *Rules) set(id SetID) (*SetSpec, bool) {
	i, found := slices.BinarySearchFunc(r.Sets, id, func(s SetSpec, id SetID) int {
		return strings.Compare(string(s.ID), string(id))
	})
	if !found {
		return nil, false
	}
	return &r.Sets[i], true
}

// Endpoint is the pod behind an interface; nil if none is known.
func (r *Rules) Endpoint(iface string) *Endpoint {
	i, found := slices.BinarySearchFunc(r.Endpoints, iface, func(e Endpoint, name string) int {
		return strings.Compare(e.Interface.Name, name)
	})
	if !found {
		return nil
	}
	return &r.Endpoints[i]
}

// UnknownAt is the pod interface of that name without a known pod; nil if there
// is none.
func (r *Rules) UnknownAt(iface string) *Unknown {
	i, found := slices.BinarySearchFunc(r.Unknown, iface, func(u Unknown, name string) int {
		return strings.Compare(u.Name, name)
	})
	if !found {
		return nil
	}
	return &r.Unknown[i]
}

// Excepted are the ranges that an interface may send from beside the addresses
// routed to it.
func (r *Rules) Excepted(iface string) []Exception {
	from, _ := slices.BinarySearchFunc(r.Exceptions, iface, func(e Exception, name string) int {
		return strings.Compare(e.Interface, name)
	})
	to := from
	for to < len(r.Exceptions) && r.Exceptions[to].Interface == iface {
		to++
	}
	return r.Exceptions[from:to]
}
