package index

import (
	"net/netip"
	"slices"
)

// ranges is a set of prefixes made ready for looking up: in order, none within
// another one. There may be as many as a cluster has nodes.
type ranges []netip.Prefix

func newRanges(lists ...[]netip.Prefix) ranges {
	var all []netip.Prefix
	for _, p := range slices.Concat(lists...) {
		if p.IsValid() {
			all = append(all, p.Masked())
		}
	}
	// Of equal addresses the widest comes first, so that those within a prefix
	// follow it.
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	kept := all[:0]
	for _, p := range all {
		if last := len(kept) - 1; last < 0 || !kept[last].Contains(p.Addr()) {
			kept = append(kept, p)
		}
	}
	return kept
}

func (r ranges) contains(a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(r, a, func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	return found || i > 0 && r[i-1].Contains(a)
}
