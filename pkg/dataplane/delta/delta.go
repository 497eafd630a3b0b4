package delta

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/pset"
)

// LeftLimit is how many addresses Delta.Left has at most: above, to look for
// each of them costs more than to judge every connection again.
const LeftLimit = 1 << 16

// Delta is what has to be done to come from one State to another one.
type Delta struct {
	// RulesChanged: the Rules differ in any part; else only members do.
	RulesChanged bool
	// Tightened: some flow that was allowed may not be any more because of the
	// Rules, whatever the members of sets are. It is false for what only adds
	// and where members alone differ, and true where it is not sure. The source
	// check is no part of it: no packet goes around that.
	Tightened bool
	// Create are the sets that are new, Remove those that are gone, by ID. The
	// members of the new ones are those of the new State.
	Create, Remove []desired.SetSpec
	// Changes are the sets in both States that have other members, by ID.
	Changes []SetDelta
	// Left are the addresses whose connections must be judged again because
	// they left a set that is in both States, or lost their owner (semantics
	// 1.5) while in one. Sorted.
	Left []netip.Addr
	// LeftAll: all connections must be, as it is not known which, or because
	// they are more than LeftLimit. Left is nil then.
	LeftAll bool
	// Taken are the addresses that appeared on an interface of this node, moved
	// from one to another or to another pod, or left: connections with them are
	// to be forgotten. Sorted; none if the old State is not known, or where a
	// pod only became known, or unknown.
	Taken []netip.Addr
}

// SetDelta is how the members of a set differ.
type SetDelta struct {
	Spec     desired.SetSpec
	Old, New desired.Members
}

// Deleted gives the members that are gone; of kind Addresses with port 0.
func (d SetDelta) Deleted() iter.Seq[netip.AddrPort] { return d.differing(false) }

// Added gives the members that are new; of kind Addresses with port 0.
func (d SetDelta) Added() iter.Seq[netip.AddrPort] { return d.differing(true) }

func (d SetDelta) differing(added bool) iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		for m, new := range d.all() {
			if new == added && !yield(m) {
				return
			}
		}
	}
}

// all gives the members that differ: true for those that are new.
func (d SetDelta) all() iter.Seq2[netip.AddrPort, bool] {
	return func(yield func(netip.AddrPort, bool) bool) {
		for a, added := range pset.Diff(d.Old.Addrs, d.New.Addrs) {
			if !yield(netip.AddrPortFrom(a, 0), added) {
				return
			}
		}
		for p, added := range pset.Diff(d.Old.Ports, d.New.Ports) {
			if !yield(p, added) {
				return
			}
		}
	}
}

// Between is the difference from old to now; old is nil if what is in force is
// not known. Its cost follows what differs: where Rules are the same pointer,
// nothing of them is looked at.
func Between(old, now *desired.State) Delta {
	if old == nil {
		return Delta{RulesChanged: true, Tightened: true, Create: now.Rules.Sets, LeftAll: true}
	}
	var d Delta
	if old.Rules != now.Rules && !equalRules(old.Rules, now.Rules) {
		d.RulesChanged = true
		d.Tightened = tightened(old.Rules, now.Rules)
		d.Create, d.Remove = sets(old.Rules.Sets, now.Rules.Sets)
		d.Taken = taken(old.Rules, now.Rules)
	}
	var gone departed
	d.Changes = changes(old, now, &gone)
	released(old, now, &gone)
	d.Left, d.LeftAll = gone.result()
	return d
}

// sets tells those that are in one of two lists only.
func sets(old, now []desired.SetSpec) (create, remove []desired.SetSpec) {
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(old) == 0 || len(now) > 0 && now[0].ID < old[0].ID:
			create, now = append(create, now[0]), now[1:]
		case len(now) == 0 || old[0].ID < now[0].ID:
			remove, old = append(remove, old[0]), old[1:]
		default:
			old, now = old[1:], now[1:]
		}
	}
	return create, remove
}

// changes tells the sets in both States that differ, and collects what left.
func changes(old, now *desired.State, gone *departed) []SetDelta {
	var all []SetDelta
	for c := range pset.DiffMap(old.Sets, now.Sets) {
		if !c.HadOld || !c.HasNew {
			continue
		}
		spec, ok := now.Rules.Spec(c.Key)
		if !ok {
			continue
		}
		d := SetDelta{Spec: spec, Old: c.Old, New: c.New}
		differs := false
		for m, added := range d.all() {
			differs = true
			if !added && !gone.add(m.Addr()) {
				break
			}
		}
		if differs { // two versions may have equal content
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b SetDelta) int { return strings.Compare(string(a.Spec.ID), string(b.Spec.ID)) })
	return all
}
