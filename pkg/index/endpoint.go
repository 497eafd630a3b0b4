package index

import (
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// work is what a change needs while it is made: kept so that none allocates it.
type work struct {
	// touched are slots to be judged again.
	touched  []uint32
	refusals []Refusal
	// additions to sets wait until everything is removed: an address may go
	// from one member of a set to another one.
	additions     []addition
	portAdditions []portAddition
	// before and after are the addresses that an endpoint owned, and owns: read
	// only, in the buffers if they are not the fact's own.
	before, after             []netip.Addr
	beforeBuffer, afterBuffer []netip.Addr
	subject                   selector.Subject
	found                     []*tracked
	round                     uint64
	// For tests: how many selectors were evaluated, and claims judged.
	evaluated, judged int
}

type addition struct {
	to      *tracked
	address netip.Addr
}

type portAddition struct {
	to   *portSet
	pair netip.AddrPort
}

func (x *Index) setEndpoint(k model.Key, fact *model.Endpoint) {
	c := x.clusters[k.Cluster]
	var old *Entry
	if c != nil && (k.Kind == model.KindNode || c.spaces[k.Namespace] != nil) {
		old, _ = c.entries(k.Kind).get(idOf(k))
	}
	if old == nil && fact == nil || old != nil && fact != nil && sameEndpoint(old.Endpoint, fact) {
		return
	}
	c = x.touchCluster(k.Cluster)
	var n uint32
	var before *model.Endpoint
	if old == nil {
		n = x.newSlot(x.spaceOf(c, k))
	} else {
		n, before = old.slot, old.Endpoint
	}
	x.moveClaims(n, before, fact)
	x.moveLabels(n, before, fact)
	x.rebuild(n, fact)
	x.settle()
	if fact == nil {
		x.freeSlot(n)
	}
}

func (x *Index) newSlot(s *space) uint32 {
	x.size++
	made := slot{space: s.number, at: uint32(len(s.members))}
	var n uint32
	if last := len(x.freeSlots) - 1; last >= 0 {
		n = x.freeSlots[last]
		x.freeSlots = x.freeSlots[:last]
		x.slots[n] = made
	} else {
		n = uint32(len(x.slots))
		x.slots = append(x.slots, made)
	}
	s.members = append(s.members, n)
	return n
}

func (x *Index) freeSlot(n uint32) {
	x.size--
	freed := x.slots[n]
	s := x.spaces[freed.space]
	last := len(s.members) - 1
	moved := s.members[last]
	s.members[freed.at] = moved
	x.slots[moved].at = freed.at
	s.members = s.members[:last]
	x.slots[n] = slot{}
	x.freeSlots = append(x.freeSlots, n)
	x.sweepSpace(s)
}

// moveLabels keeps the list of endpoints by label. Both sides may be nil.
func (x *Index) moveLabels(n uint32, old, now *model.Endpoint) {
	var before, after model.Labels
	var accountBefore, accountAfter string
	if old != nil {
		before, accountBefore = old.Labels, old.ServiceAccount
	}
	if now != nil {
		after, accountAfter = now.Labels, now.ServiceAccount
	}
	place := 0
	for l := range model.DiffLabels(before, after) {
		if place++; l.HadOld {
			x.labels.remove(n, l.Key, l.Old)
		}
		if l.HasNew {
			x.labels.add(n, place, l.Key, l.New)
		}
	}
	if accountBefore == accountAfter {
		return
	}
	if accountBefore != "" {
		x.labels.remove(n, model.KeyServiceAccount, accountBefore)
	}
	if accountAfter != "" {
		x.labels.add(n, 0, model.KeyServiceAccount, accountAfter)
	}
}

// settle judges again what was touched, and does the additions.
func (x *Index) settle() {
	for _, n := range x.work.touched {
		if e := x.slots[n].entry; e != nil {
			x.rebuild(n, e.Endpoint)
		}
	}
	x.work.touched = x.work.touched[:0]
	for _, a := range x.work.additions {
		a.to.editor(a.address).Add(a.address)
	}
	for _, a := range x.work.portAdditions {
		a.to.editor(a.pair).Add(a.pair)
	}
	clear(x.work.additions)
	clear(x.work.portAdditions)
	x.work.additions, x.work.portAdditions = x.work.additions[:0], x.work.portAdditions[:0]
}

// rebuild makes the entry of a slot from a fact, nil if that is gone, and what
// became of its claims.
func (x *Index) rebuild(n uint32, fact *model.Endpoint) {
	s := x.spaceAt(n)
	c := s.cluster
	old := x.slots[n].entry
	var now *Entry
	if fact != nil {
		x.judge(n, fact, c)
		pending := c.fact == nil
		if old != nil && old.Endpoint == fact && old.pending == pending && slices.Equal(old.Refused, x.work.refusals) {
			return
		}
		now = &Entry{Endpoint: fact, Refused: slices.Clone(x.work.refusals), slot: n, pending: pending}
		if len(now.Refused) == 0 {
			now.Refused = nil
		}
	}
	x.touch(c)
	x.slots[n].entry = now
	c.countRefused(old, -1)
	c.countRefused(now, +1)
	if now != nil {
		c.entries(fact.Key.Kind).set(idOf(fact.Key), now)
	} else {
		c.entries(old.Key.Kind).delete(idOf(old.Key))
	}
	x.moveMembers(s, old, now)
}

// moveMembers brings the owners of addresses, and the sets, up to date with an
// entry. Both sides may be nil.
func (x *Index) moveMembers(s *space, old, now *Entry) {
	w := &x.work
	w.before, w.after = old.owned(&w.beforeBuffer), now.owned(&w.afterBuffer)
	for _, a := range w.before {
		if !slices.Contains(w.after, a) {
			// It may have gone to another one already.
			if e, _ := x.owners.get(a); e != nil && e.slot == old.slot {
				x.owners.delete(a)
			}
		}
	}
	for _, a := range w.after {
		x.owners.set(a, now)
	}
	sameSubject := old != nil && now != nil && old.Labels == now.Labels && old.ServiceAccount == now.ServiceAccount
	sameAddresses := slices.Equal(w.before, w.after)
	portsBefore, portsAfter := ports(old), ports(now)
	switch {
	case len(w.before)+len(w.after) == 0:
		return
	case !x.asked(portsBefore) && !x.asked(portsAfter):
		portsBefore, portsAfter = nil, nil
	}
	if sameSubject && sameAddresses && slices.Equal(portsBefore, portsAfter) {
		return
	}
	x.startFinding()
	x.findForSpace(s)
	if old != nil {
		x.findForEndpoint(old.Endpoint)
	}
	if now != nil {
		x.findForEndpoint(now.Endpoint)
		w.subject = subject(now.Endpoint, s.cluster.labels, s.fact)
	}
	for _, t := range w.found {
		withPorts := t.answers(portsBefore) || t.answers(portsAfter)
		if !withPorts && (!t.plain || sameSubject && sameAddresses) {
			continue
		}
		was := len(w.before) > 0 && t.has(w.before[0])
		is := was && sameSubject
		if !is && len(w.after) > 0 && !(t.plain && sameSubject && len(w.before) > 0) {
			is = x.matches(t)
		}
		if t.plain {
			x.moveMember(t, was, is)
		}
		if withPorts {
			x.movePorts(t, portsBefore, portsAfter, is)
		}
	}
}

// moveMember changes a set by the addresses in work: those before, if it had
// them, and those after, if it is to have them.
func (x *Index) moveMember(t *tracked, was, is bool) {
	if was {
		for _, a := range x.work.before {
			if !is || !slices.Contains(x.work.after, a) {
				x.touchSet(t)
				t.editor(a).Remove(a)
			}
		}
	}
	if is {
		for _, a := range x.work.after {
			if !was || !slices.Contains(x.work.before, a) {
				x.touchSet(t)
				x.work.additions = append(x.work.additions, addition{t, a})
			}
		}
	}
}

// reevaluate brings an endpoint into the sets that it belongs to since labels
// of its namespace or cluster changed: those of the selectors that are affected,
// and found by what it has now or by the labels before.
func (x *Index) reevaluate(n uint32, in *table, before model.Labels, affected func(*tracked) bool) {
	s, e := x.spaceAt(n), x.slots[n].entry
	w := &x.work
	w.after = e.owned(&w.afterBuffer)
	if len(w.after) == 0 {
		return
	}
	w.before = w.after
	x.startFinding()
	x.findForSpace(s)
	x.findForEndpoint(e.Endpoint)
	x.findByLabels(in, before)
	w.subject = subject(e.Endpoint, s.cluster.labels, s.fact)
	named := ports(e)
	for _, t := range w.found {
		withPorts := t.answers(named)
		if !affected(t) || !t.plain && !withPorts {
			continue
		}
		is := x.matches(t)
		if t.plain {
			x.moveMember(t, t.has(w.after[0]), is)
		}
		if withPorts {
			x.movePorts(t, named, named, is)
		}
	}
}
