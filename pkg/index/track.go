package index

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
	"github.com/overland-net/overland/pkg/selector"
)

// tracked is a selector whose members are kept, or answers to queries with it.
type tracked struct {
	matcher *selector.Matcher
	// plain: v4 and v6 are kept, since the selector itself is tracked.
	plain  bool
	v4, v6 growingSet[netip.Addr]
	ports  map[portName]*portSet // nil for none
	// cover is where it is registered.
	cover []place
	// spaceKeys and clusterKeys are the labels of namespaces and of clusters
	// that it says something of.
	spaceKeys, clusterKeys []string
	seen                   uint64 // work.round
	dirty                  bool
}

func (t *tracked) has(a netip.Addr) bool {
	if a.Is4() {
		return t.v4.has(a)
	}
	return t.v6.has(a)
}

func (t *tracked) editor(a netip.Addr) *pset.SetEditor[netip.Addr] {
	if a.Is4() {
		return t.v4.editor()
	}
	return t.v6.editor()
}

func (x *Index) touchSet(t *tracked) {
	x.changed = true
	if !t.dirty {
		t.dirty = true
		x.dirty.sets = append(x.dirty.sets, t)
	}
}

// matches evaluates a selector on work.subject.
func (x *Index) matches(t *tracked) bool {
	x.work.evaluated++
	return t.matcher.Matches(&x.work.subject)
}

// Track keeps the members of a selector from now on. To track what is tracked
// changes nothing.
func (x *Index) Track(s selector.Selector) {
	t := x.tracked[s]
	known := t != nil
	if known && t.plain {
		return
	}
	if !known {
		t = x.newTracked(s)
	}
	t.plain = true
	x.touchSet(t)
	x.fillAll(t, !known, func(n uint32) { x.fill(t, n) })
}

// newTracked is a selector that is not tracked yet. fillAll registers it.
func (x *Index) newTracked(s selector.Selector) *tracked {
	t := &tracked{matcher: s.Compile()}
	x.tracked[s] = t
	for _, key := range t.matcher.Keys() {
		if rest, ok := strings.CutPrefix(key, model.PrefixNamespace); ok {
			t.spaceKeys = append(t.spaceKeys, rest)
			x.mentioned.space[rest]++
		} else if rest, ok := strings.CutPrefix(key, model.PrefixCluster); ok {
			t.clusterKeys = append(t.clusterKeys, rest)
			x.mentioned.cluster[rest]++
		}
	}
	return t
}

// fillAll calls fill with all slots that may match, and registers the selector
// if it is new.
func (x *Index) fillAll(t *tracked, isNew bool, fill func(n uint32)) {
	if t.matcher.Impossible() {
		return
	}
	covers := x.covers(t.matcher)
	if isNew {
		x.register(t, covers)
	}
	for n := range x.reached(covers) {
		if x.slots[n].entry != nil { // else a list was out of date
			fill(n)
		}
	}
}

// fill adds what an endpoint owns to a set, if it is a member.
func (x *Index) fill(t *tracked, n uint32) {
	s, e := x.spaceAt(n), x.slots[n].entry
	owned := e.owned(&x.work.afterBuffer)
	if len(owned) == 0 {
		return
	}
	x.work.subject = subject(e.Endpoint, s.cluster.labels, s.fact)
	if !x.matches(t) {
		return
	}
	for _, a := range owned {
		t.editor(a).Add(a)
	}
}

// Untrack forgets the members of a selector.
func (x *Index) Untrack(s selector.Selector) {
	t := x.tracked[s]
	if t == nil || !t.plain {
		return
	}
	x.changed = true
	x.members.delete(s)
	t.plain, t.v4, t.v6 = false, growingSet[netip.Addr]{}, growingSet[netip.Addr]{}
	x.sweepTracked(t)
}

// sweepTracked forgets a selector of which nothing is kept any more.
func (x *Index) sweepTracked(t *tracked) {
	if t.plain || len(t.ports) > 0 {
		return
	}
	delete(x.tracked, t.matcher.Selector())
	for _, k := range t.spaceKeys {
		forget(x.mentioned.space, k)
	}
	for _, k := range t.clusterKeys {
		forget(x.mentioned.cluster, k)
	}
	x.unregister(t)
}

// forget takes one from a count.
func forget[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

// mentionedOnly appends a key to keys if it is counted.
func mentionedOnly(counts map[string]int, keys []string, key string) []string {
	if counts[key] == 0 {
		return keys
	}
	return append(keys, key)
}

func containsAny(keys, some []string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return slices.Contains(some, k) })
}

// register puts a selector under the best of its covers.
func (x *Index) register(t *tracked, covers [][]place) {
	if len(covers) == 0 {
		x.unindexed = append(x.unindexed, t)
		return
	}
	t.cover = slices.MinFunc(covers, x.compareCovers)
	for _, p := range t.cover {
		n := x.table(p).node(0, p.key)
		switch {
		case p.any:
			n.any = append(n.any, t)
		case n.exact == nil:
			n.exact = map[string][]*tracked{p.value: {t}}
		default:
			n.exact[p.value] = append(n.exact[p.value], t)
		}
	}
}

// compareCovers is the order of covers to be registered under, the best one
// first: what few endpoints have in common before what all of a cluster do, then
// what the fewest selectors are registered under.
func (x *Index) compareCovers(a, b []place) int {
	worst := func(cover []place, of func(place) int) int {
		most := 0
		for _, p := range cover {
			most = max(most, of(p))
		}
		return most
	}
	return cmp.Or(
		cmp.Compare(worst(a, place.breadth), worst(b, place.breadth)),
		cmp.Compare(worst(a, x.registered), worst(b, x.registered)),
		cmp.Compare(len(a), len(b)),
	)
}

// registered is how many selectors are found in a place.
func (x *Index) registered(p place) int {
	n := x.table(p).keys[p.key]
	switch {
	case n == nil:
		return 0
	case p.any:
		return len(n.any)
	}
	return len(n.exact[p.value])
}

func (x *Index) unregister(t *tracked) {
	x.unindexed = without(x.unindexed, t)
	for _, p := range t.cover {
		table := x.table(p)
		n := table.keys[p.key]
		if p.any {
			n.any = without(n.any, t)
		} else if n.exact[p.value] = without(n.exact[p.value], t); len(n.exact[p.value]) == 0 {
			delete(n.exact, p.value)
		}
		table.sweep(n)
	}
}

// without removes t from list, if it is there; the order changes.
func without(list []*tracked, t *tracked) []*tracked {
	i := slices.Index(list, t)
	if i < 0 {
		return list
	}
	last := len(list) - 1
	list[i], list[last] = list[last], nil
	if last == 0 {
		return nil
	}
	return list[:last]
}

// startFinding begins with the selectors that are always found. What is found
// is in work.found, each once.
func (x *Index) startFinding() {
	x.work.round++
	x.work.found = append(x.work.found[:0], x.unindexed...)
}

func (x *Index) found(list []*tracked) {
	for _, t := range list {
		if t.seen != x.work.round {
			t.seen = x.work.round
			x.work.found = append(x.work.found, t)
		}
	}
}

// findByValue finds the selectors registered under a key and value. place is as
// in table.find.
func (x *Index) findByValue(in *table, place int, key, value string) {
	n := in.find(place, key)
	if n == nil {
		return
	}
	x.found(n.any)
	if len(n.exact) > 0 {
		x.found(n.exact[value])
	}
}

func (x *Index) findByLabels(in *table, labels model.Labels) {
	if len(in.keys) == 0 {
		return
	}
	place := 0
	for k, v := range labels.All() {
		place++
		x.findByValue(in, place, k, v)
	}
}

// findForEndpoint finds by what is the endpoint's own.
func (x *Index) findForEndpoint(e *model.Endpoint) {
	x.findByLabels(x.labels, e.Labels)
	x.findByValue(x.labels, 0, model.KeyServiceAccount, e.ServiceAccount)
	x.findByValue(x.labels, 0, model.KeyKind, e.Key.Kind.String())
}

// findForSpace finds by what all in a namespace have in common.
func (x *Index) findForSpace(s *space) {
	if s != s.cluster.hosts {
		x.findByLabels(x.spaceLabels, s.labels())
		x.findByValue(x.spaceLabels, 0, model.KeyNamespace, s.name)
	}
	x.findByLabels(x.clusterLabels, s.cluster.labels)
	x.findByValue(x.clusterLabels, 0, model.KeyCluster, s.cluster.name)
}

// reached gives the slots among which are all that satisfy the covers: those of
// the cover with the fewest. Some may not be in use, some may come twice.
func (x *Index) reached(covers [][]place) iter.Seq[uint32] {
	var best []place
	fewest := x.size + 1
	for _, cover := range covers {
		count := 0
		for _, p := range cover {
			if count += x.count(p, fewest-count); count >= fewest {
				break
			}
		}
		if count < fewest {
			best, fewest = cover, count
		}
	}
	return func(yield func(uint32) bool) {
		if len(covers) == 0 || fewest > x.size {
			x.eachSlot(yield)
			return
		}
		for _, p := range best {
			if !x.each(p, yield) {
				return
			}
		}
	}
}
