package index

import (
	"iter"
	"net/netip"

	"github.com/overland-net/overland/pkg/pset"
	"github.com/overland-net/overland/pkg/selector"
)

// Changed gives the tracked selectors whose Members differ in two Views of one
// Index, each once, in no order: also those that only one of them has. It costs
// what differs, nothing for what the Views share.
func Changed(old, now View) iter.Seq[selector.Selector] {
	return changed(old.now().members, now.now().members, func(a, b Members) bool {
		return sameSet(a.V4, b.V4) && sameSet(a.V6, b.V6)
	})
}

// ChangedPorts gives the tracked queries whose PortMembers differ, likewise.
func ChangedPorts(old, now View) iter.Seq[PortQuery] {
	return changed(old.now().ports, now.now().ports, func(a, b PortMembers) bool {
		return sameSet(a.V4, b.V4) && sameSet(a.V6, b.V6)
	})
}

func changed[K, V comparable](old, now pset.Map[K, V], same func(a, b V) bool) iter.Seq[K] {
	return func(yield func(K) bool) {
		for c := range pset.DiffMap(old, now) {
			// What changed and changed back is another version of equal content.
			if c.HadOld && c.HasNew && same(c.Old, c.New) {
				continue
			}
			if !yield(c.Key) {
				return
			}
		}
	}
}

// ChangedOwners gives the addresses whose owner (semantics 1.5) is not the same one
// in two Views of one Index, by key and UID, each once, in no order. It costs what
// differs.
func ChangedOwners(old, now View) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for c := range pset.DiffMap(old.now().owners, now.now().owners) {
			if c.HadOld && c.HasNew && c.New.Key == c.Old.Key && c.New.UID == c.Old.UID {
				continue
			}
			if !yield(c.Key) {
				return
			}
		}
	}
}

func sameSet[K comparable](a, b pset.Set[K]) bool {
	if a.Len() != b.Len() {
		return false
	}
	for range pset.Diff(a, b) {
		return false
	}
	return true
}

// TakeReleased gives the addresses that had an owner (semantics 1.5) at the last
// call and have not the same one now, by key and UID: it is gone, refused,
// drained with its cluster, or another endpoint has the address. Each comes once,
// in no order. What had no owner at the last call is not there, nor is what has
// its owner back. The first call gives nothing.
//
// It costs what changed since the last call, and keeps the owners of then: who
// calls it after each View keeps nothing that the View does not.
func (x *Index) TakeReleased() []netip.Addr {
	old, now := x.taken, x.owners.freeze()
	x.taken = now
	if old.Len() == 0 {
		return nil // and nothing to compare with, however much came
	}
	var released []netip.Addr
	for c := range pset.DiffMap(old, now) {
		if c.HadOld && (!c.HasNew || c.New.Key != c.Old.Key || c.New.UID != c.Old.UID) {
			released = append(released, c.Key)
		}
	}
	return released
}
