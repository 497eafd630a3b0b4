package index

import (
	"hash/maphash"
	"iter"
	"slices"
	"strings"
)

// table is what is known of label keys and values: the selectors registered
// under them, and the ids of what has them (endpoints, or namespaces).
type table struct {
	keys map[string]*keyNode
	// lists are those of values that several ids have.
	lists []idList
	free  []uint32 // of lists
	seed  maphash.Seed
	// recent are the keys looked up last, by their place in a set of labels: the
	// next set mostly has the same ones, and to compare is faster than to look up.
	recent [recentKeys]*keyNode
	// valueOf is the value that an id has now under a key.
	valueOf func(id uint32, key string) (string, bool)
}

const recentKeys = 16

// keyNode is one key of a table.
type keyNode struct {
	key   string
	any   []*tracked            // registered under: it has the key
	exact map[string][]*tracked // registered under: the key has that value
	// ids by hash of value: an id, or severalIDs and the index of a list. Values
	// that collide share a list: who looks there evaluates what it finds. A
	// value that nothing else has costs 10 to 15 bytes.
	ids  refs
	live int // of all ids here
}

const severalIDs = 1 << 31

// idList is appended to. What leaves a long one is counted, and removed when
// half of the list is of the past; ids of the past may be in use again.
type idList struct {
	ids  []uint32
	live int
}

// shortList is a length up to which to search a list for what leaves it costs
// less than to count it.
const shortList = 32

func newTable(valueOf func(uint32, string) (string, bool)) *table {
	return &table{keys: map[string]*keyNode{}, seed: maphash.MakeSeed(), valueOf: valueOf}
}

func (t *table) hash(value string) uint32 { return uint32(maphash.String(t.seed, value)) }

// find gives the node of a key, nil if there is none. place is about where it is
// in the set of labels that is gone through.
func (t *table) find(place int, key string) *keyNode {
	n := t.recent[place%recentKeys]
	if n == nil || n.key != key {
		if n = t.keys[key]; n != nil {
			t.recent[place%recentKeys] = n
		}
	}
	return n
}

// node gives the node of a key, made if need be.
func (t *table) node(place int, key string) *keyNode {
	n := t.find(place, key)
	if n == nil {
		n = &keyNode{key: strings.Clone(key)} // the key may be a part of a long text
		t.keys[n.key] = n
	}
	return n
}

// sweep forgets a key of which nothing is known any more.
func (t *table) sweep(n *keyNode) {
	if n.live == 0 && len(n.any) == 0 && len(n.exact) == 0 {
		delete(t.keys, n.key)
		t.recent = [recentKeys]*keyNode{}
	}
}

// add notes that an id, which had no value under the key, has this one.
func (t *table) add(id uint32, place int, key, value string) {
	n := t.node(place, key)
	n.live++
	h := t.hash(value)
	ref, found := n.ids.get(h)
	switch {
	case !found:
		n.ids.set(h, id)
	case ref&severalIDs == 0:
		n.ids.set(h, severalIDs|t.newList(ref, id))
	default:
		l := &t.lists[ref&^severalIDs]
		l.ids = append(l.ids, id)
		l.live++
	}
}

func (t *table) newList(ids ...uint32) uint32 {
	l := idList{ids, len(ids)}
	if last := len(t.free) - 1; last >= 0 {
		i := t.free[last]
		t.free = t.free[:last]
		t.lists[i] = l
		return i
	}
	t.lists = append(t.lists, l)
	return uint32(len(t.lists) - 1)
}

// remove notes that an id no longer has the value that it had under the key.
func (t *table) remove(id uint32, key, value string) {
	n := t.keys[key]
	n.live--
	h := t.hash(value)
	ref, _ := n.ids.get(h)
	if ref&severalIDs == 0 {
		n.ids.delete(h)
		t.sweep(n)
		return
	}
	i := ref &^ severalIDs
	l := &t.lists[i]
	l.live--
	switch {
	case len(l.ids) <= shortList:
		at := slices.Index(l.ids, id)
		last := len(l.ids) - 1
		l.ids[at] = l.ids[last]
		l.ids = l.ids[:last]
	case len(l.ids) > 2*l.live+shortList:
		t.compact(l, key, h, id)
	}
	switch len(l.ids) {
	default:
		return
	case 0:
		n.ids.delete(h)
	case 1:
		n.ids.set(h, l.ids[0])
	}
	t.lists[i] = idList{}
	t.free = append(t.free, i)
	t.sweep(n)
}

// compact leaves the ids that have a value of that hash now, each once, and not
// the one that is about to lose it.
func (t *table) compact(l *idList, key string, h, leaving uint32) {
	slices.Sort(l.ids)
	kept := make([]uint32, 0, l.live)
	for i, id := range l.ids {
		if id == leaving || i > 0 && id == l.ids[i-1] {
			continue
		}
		if v, ok := t.valueOf(id, key); ok && t.hash(v) == h {
			kept = append(kept, id)
		}
	}
	l.ids, l.live = kept, len(kept)
}

// count is about how many ids have the key and value.
func (t *table) count(p place) int {
	n := t.keys[p.key]
	if n == nil {
		return 0
	}
	if p.any {
		return n.live
	}
	ref, found := n.ids.get(t.hash(p.value))
	switch {
	case !found:
		return 0
	case ref&severalIDs == 0:
		return 1
	}
	return t.lists[ref&^severalIDs].live
}

// having gives ids among which are all that have the key and value; some may
// not have it, some may come twice, and some may not be in use.
func (t *table) having(p place) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		n := t.keys[p.key]
		if n == nil {
			return
		}
		if !p.any {
			if ref, found := n.ids.get(t.hash(p.value)); found {
				t.each(ref, yield)
			}
			return
		}
		for ref := range n.ids.all {
			if !t.each(ref, yield) {
				return
			}
		}
	}
}

func (t *table) each(ref uint32, yield func(uint32) bool) bool {
	if ref&severalIDs == 0 {
		return yield(ref)
	}
	for _, id := range t.lists[ref&^severalIDs].ids {
		if !yield(id) {
			return false
		}
	}
	return true
}
