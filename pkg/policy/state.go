package policy

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/pset"
)

// current is the last State and what it was made of.
type current struct {
	state *desired.State // nil: none yet
	view  index.View
	// stale: rules may have changed. contested: pods may own other addresses.
	stale, contested bool
	sets             map[desired.SetID]*set // of state.Rules
}

// mostReleased is how many released addresses a State has at most. It bounds
// memory (some 5 MB) and not meaning: a dataplane that falls further behind
// judges all connections again.
const mostReleased = 1 << 16

// State is what the node must enforce, by all that was applied and a view of an
// index that tracks what Update asked for. gen must grow from call to call;
// released are the addresses that lost their owner since the last one. It is the
// previous *State if nothing has changed, and its Rules are the previous ones if
// only members have.
func (s *Set) State(gen uint64, view index.View, released []netip.Addr) *desired.State {
	s.settle()
	old := s.current.state
	if old == nil {
		old = &desired.State{}
	}
	moved := s.measure(view)
	now := &desired.State{Gen: gen, Rules: s.rules(old.Rules, view)}
	now.Sets = s.members(old, now.Rules, moved, view)
	now.Released, now.ReleasedFloor = release(old, gen, released)
	s.current.view = view
	if now.Rules == old.Rules && now.Sets == old.Sets && now.Released == old.Released {
		return s.current.state
	}
	s.current.state = now
	return now
}

// measure learns the sizes of sets, and applies the limit to them where they
// have changed. It gives what has members that changed.
func (s *Set) measure(view index.View) []index.PortQuery {
	var moved []index.PortQuery
	for sel := range index.Changed(s.current.view, view) {
		moved = append(moved, plain(sel))
	}
	for q := range index.ChangedPorts(s.current.view, view) {
		moved = append(moved, q)
	}
	for _, key := range moved {
		w := s.wanted[key]
		if w == nil {
			continue
		}
		by := w.sizeIn(view) - w.size
		w.size += by
		for l := range w.users {
			if l.members += by; l.heavy || l.members > s.limits.Members {
				s.unweighed[l] = struct{}{}
			}
		}
	}
	for _, w := range s.fresh {
		w.size = w.sizeIn(view)
	}
	clear(s.fresh)
	s.fresh = s.fresh[:0]
	for l := range s.unweighed {
		l.weigh()
	}
	clear(s.unweighed)
	return moved
}

// rules is what is to be enforced but for members: old if that is the same.
func (s *Set) rules(old *desired.Rules, view index.View) *desired.Rules {
	stale := s.current.stale || old == nil || s.current.contested && s.ownersChanged(old, view)
	s.current.stale, s.current.contested = false, false
	if !stale {
		return old
	}
	for _, l := range s.live {
		if l.unassigned {
			l.assign()
		}
	}
	s.problemsKnown = false
	now := &desired.Rules{Protected: s.facts.Protected, OwnNodeEgress: s.facts.OwnNodeEgress}
	now.Endpoints, now.Unknown = s.join(view)
	now.Exceptions = s.exceptions(now.Endpoints)
	now.Sets = s.sets(now.Endpoints)
	if old != nil && sameRules(old, now) {
		return old
	}
	return now
}

// ownersChanged tells whether an endpoint owns other addresses than it did.
func (s *Set) ownersChanged(old *desired.Rules, view index.View) bool {
	for i := range old.Endpoints {
		e := &old.Endpoints[i]
		for _, p := range s.interfaces[e.Interface.Name] {
			if p.Key != e.Pod {
				continue
			}
			if now, _ := view.Endpoint(p.Key); now != p.entry && !slices.Equal(owned(view, p), e.Addrs) {
				return true
			}
		}
	}
	return false
}

// sets are those that the rules of endpoints name. Lists that no pod has any
// more are forgotten.
func (s *Set) sets(endpoints []desired.Endpoint) []desired.SetSpec {
	sets := map[desired.SetID]*set{}
	done := make(map[*desired.List]struct{}, len(s.lists))
	for i := range endpoints {
		for _, side := range []*desired.Side{endpoints[i].Ingress, endpoints[i].Egress} {
			if side == nil {
				continue
			}
			if _, known := done[side.List]; known {
				continue
			}
			done[side.List] = struct{}{}
			for _, set := range s.lists[side.List] {
				sets[set.spec.ID] = set
			}
		}
	}
	s.forgetLists(len(done))
	s.current.sets = sets
	specs := make([]desired.SetSpec, 0, len(sets))
	for _, id := range slices.Sorted(maps.Keys(sets)) {
		specs = append(specs, sets[id].spec)
	}
	return specs
}

// forgetLists keeps the lists of pods, if there are more than are in use.
func (s *Set) forgetLists(inUse int) {
	if inUse == len(s.lists) {
		return
	}
	keep := make(map[*desired.List][]*set, inUse)
	for _, l := range s.live {
		for _, sides := range l.sides {
			for _, side := range sides {
				keep[side.List] = s.lists[side.List]
			}
		}
	}
	for list := range s.lists {
		if _, kept := keep[list]; !kept {
			delete(s.texts, list.Text)
		}
	}
	s.lists = keep
}

// members is the members of the sets of rules: for those that were there before,
// only what moved is looked at.
func (s *Set) members(old *desired.State, rules *desired.Rules, moved []index.PortQuery, view index.View) pset.Map[desired.SetID, desired.Members] {
	edit := old.Sets.Edit()
	if rules != old.Rules {
		for id := range old.Sets.All() {
			if s.current.sets[id] == nil {
				edit.Delete(id)
			}
		}
		for id, set := range s.current.sets {
			if _, there := edit.Get(id); !there && set.spec.Dynamic() {
				edit.Set(id, set.membersOf(view))
			}
		}
	}
	for _, key := range moved {
		w := s.wanted[key]
		if w == nil {
			continue
		}
		for _, family := range families() {
			set := w.set(family)
			if was, there := edit.Get(set.spec.ID); there {
				if is := set.membersOf(view); !sameMembers(was, is) {
					edit.Set(set.spec.ID, is)
				}
			}
		}
	}
	return edit.Done()
}

func sameMembers(a, b desired.Members) bool {
	return a == b || samePset(a.Addrs, b.Addrs) && samePset(a.Ports, b.Ports)
}

func samePset[K comparable](a, b pset.Set[K]) bool {
	if a.Len() != b.Len() {
		return false
	}
	for range pset.Diff(a, b) {
		return false
	}
	return true
}

// sameRules compares all but the content of sides, which are the same if they
// are equal.
func sameRules(a, b *desired.Rules) bool {
	return a.Protected == b.Protected && a.OwnNodeEgress == b.OwnNodeEgress &&
		slices.EqualFunc(a.Endpoints, b.Endpoints, func(a, b desired.Endpoint) bool {
			return sameInterface(a.Interface, b.Interface) && a.Pod == b.Pod && a.UID == b.UID &&
				slices.Equal(a.Addrs, b.Addrs) && a.Ingress == b.Ingress && a.Egress == b.Egress
		}) &&
		slices.EqualFunc(a.Unknown, b.Unknown, func(a, b desired.Unknown) bool {
			return sameInterface(a.Interface, b.Interface) && a.Grandfathered == b.Grandfathered
		}) &&
		slices.Equal(a.Exceptions, b.Exceptions) &&
		slices.EqualFunc(a.Sets, b.Sets, func(a, b desired.SetSpec) bool { return a.ID == b.ID })
}

// release adds addresses that lost their owner. Past the bound the older half is
// forgotten, so that a dataplane which keeps up never notices.
func release(old *desired.State, gen uint64, released []netip.Addr) (pset.Map[netip.Addr, uint64], uint64) {
	if len(released) == 0 {
		return old.Released, old.ReleasedFloor
	}
	edit := old.Released.Edit()
	for _, a := range released {
		edit.Set(a, gen)
	}
	now, floor := edit.Done(), old.ReleasedFloor
	if now.Len() <= mostReleased {
		return now, floor
	}
	gens := make([]uint64, 0, now.Len())
	for _, g := range now.All() {
		gens = append(gens, g)
	}
	slices.Sort(gens)
	floor = gens[len(gens)/2]
	edit = now.Edit()
	for a, g := range now.All() {
		if g <= floor {
			edit.Delete(a)
		}
	}
	return edit.Done(), floor
}
