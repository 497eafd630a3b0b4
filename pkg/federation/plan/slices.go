package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// maxEndpoints is how many endpoints an EndpointSlice of ours has.
const maxEndpoints = 100

// sliceChanges are the changes of EndpointSlices, by what they are.
type sliceChanges struct{ creates, updates, deletes []Change }

// writeSlices plans the EndpointSlices (semantics 4.6): an endpoint stays in the
// object that it is in, and what is new fills the room there is, in objects that
// are written anyway before others.
func (p *planner) writeSlices(out *output) {
	var changes sliceChanges
	names := p.names()
	for _, key := range slices.SortedFunc(maps.Keys(p.owned.groups), compareGroups) {
		if out.groups[key] == nil && !out.kept[key] {
			for _, s := range p.owned.groups[key] {
				changes.deletes = append(changes.deletes, Change{Op: Delete, Slice: s, Dependent: true})
			}
		}
	}
	stays := false
	for key, kept := range out.kept {
		stays = stays || kept && !key.parked
	}
	for _, key := range slices.SortedFunc(maps.Keys(out.groups), compareGroups) {
		stays = stays || !key.parked
		p.writeGroup(key, out.groups[key], names, &changes)
	}
	state, stateless := p.writeState(!stays || !p.pref.any, names)
	p.result.Changes = slices.Concat(changes.creates, changes.updates, state, changes.deletes, stateless)
}

func compareGroups(a, b groupKey) int {
	return cmp.Or(cmp.Compare(a.cluster, b.cluster), cmp.Compare(a.family, b.family), cmp.Compare(a.ports, b.ports), compareBool(a.parked, b.parked))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// placement is an EndpointSlice and what is to be in it.
type placement struct {
	had   *discoveryv1.EndpointSlice
	now   []*candidate
	dirty bool
}

// writeGroup plans the EndpointSlices of one group.
func (p *planner) writeGroup(key groupKey, g *group, names map[string]bool, changes *sliceChanges) {
	var placed []*placement
	for _, s := range p.owned.groups[key] {
		placed = append(placed, p.keepIn(s, key, g))
	}
	rest := slices.DeleteFunc(g.want, func(e *candidate) bool { return e.placed })
	slices.SortFunc(rest, func(a, b *candidate) int { return a.addr.Compare(b.addr) })
	rest = fill(placed, rest)
	for _, at := range placed {
		switch {
		case len(at.now) == 0:
			changes.deletes = append(changes.deletes, Change{Op: Delete, Slice: at.had, Dependent: true})
		case at.dirty:
			changes.updates = append(changes.updates, Change{Op: Update, Slice: p.written(at.had.DeepCopy(), key, g, at.now)})
		}
	}
	for chunk := range slices.Chunk(rest, maxEndpoints) {
		made := p.newSlice(key, names)
		made.AddressType, made.Ports = key.family, g.ports.write()
		changes.creates = append(changes.creates, Change{Op: Create, Slice: p.written(made, key, g, chunk)})
	}
}

// keepIn is an EndpointSlice with those endpoints that stay in it.
func (p *planner) keepIn(s *discoveryv1.EndpointSlice, key groupKey, g *group) *placement {
	at := &placement{had: s, dirty: !p.dressed(s, g.part.Name, key.parked), now: make([]*candidate, 0, len(s.Endpoints))}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		var want *candidate
		if len(e.Addresses) == 1 {
			if a, err := netip.ParseAddr(e.Addresses[0]); err == nil {
				want = g.part.taken[a]
			}
		}
		if want == nil || want.group != g || want.placed || len(at.now) == maxEndpoints {
			at.dirty = true
			continue
		}
		want.placed = true
		at.now = append(at.now, want)
		at.dirty = at.dirty || !p.sameEndpoint(e, want, g.part.Local)
	}
	return at
}

// fill puts what is left into the room there is, and gives what finds none. First
// come the objects that are written anyway, then those with most room. One that
// would be empty and deleted is as good as any: it is written once either way.
func fill(placed []*placement, rest []*candidate) []*candidate {
	order := slices.SortedStableFunc(slices.Values(placed), func(a, b *placement) int {
		return cmp.Or(-compareBool(a.dirty, b.dirty), cmp.Compare(len(a.now), len(b.now)))
	})
	for _, at := range order {
		n := min(maxEndpoints-len(at.now), len(rest))
		if n > 0 {
			at.now, rest = append(at.now, rest[:n]...), rest[n:]
			at.dirty = true
		}
	}
	return rest
}

// written is an object with endpoints.
func (p *planner) written(s *discoveryv1.EndpointSlice, key groupKey, g *group, endpoints []*candidate) *discoveryv1.EndpointSlice {
	p.dress(s, g.part.Name, key.parked)
	s.Endpoints = make([]discoveryv1.Endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		s.Endpoints = append(s.Endpoints, p.endpoint(e, g.part.Local))
	}
	return s
}

// writeState plans the object that only remembers: what to write, and what of it
// there is too much.
func (p *planner) writeState(wanted bool, names map[string]bool) (writes, deletes []Change) {
	var had *discoveryv1.EndpointSlice
	for i, s := range p.owned.states {
		if i == 0 && wanted {
			had = s
			continue
		}
		deletes = append(deletes, Change{Op: Delete, Slice: s, Dependent: true})
	}
	switch {
	case !wanted:
	case had == nil:
		made := p.newSlice(groupKey{}, names)
		made.AddressType = discoveryv1.AddressTypeIPv4
		if f := p.service.Families; len(f) > 0 && f[0] == 6 {
			made.AddressType = discoveryv1.AddressTypeIPv6
		}
		made.Endpoints = []discoveryv1.Endpoint{}
		p.dress(made, "", false)
		writes = append(writes, Change{Op: Create, Slice: made})
	case !p.dressed(had, "", false) || len(had.Endpoints) > 0:
		now := had.DeepCopy()
		now.Endpoints = []discoveryv1.Endpoint{}
		p.dress(now, "", false)
		writes = append(writes, Change{Op: Update, Slice: now})
	}
	return writes, deletes
}

// remove plans that nothing of ours is left of a Service that is not federated
// (semantics 4.10). Endpoints are the core controller's where there is a selector.
func (p *planner) remove() {
	p.readHave()
	for _, s := range p.owned.all {
		if !newer(s.Annotations) {
			p.change(Change{Op: Delete, Slice: s})
		}
	}
	e := p.have.Endpoints
	if p.have.EndpointsKnown && e != nil && marked(e) && !newer(e.Annotations) && !p.service.Selecting {
		p.change(Change{Op: Delete, Endpoints: e})
	}
}
