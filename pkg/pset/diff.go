package pset

// diff calls emit for each key that is in one of two tries only (the other
// argument is nil then), or in both with different values, until it returns
// false, and then does itself. What they share costs nothing.
func diff[K, V comparable](old, now *node[K, V], shift uint, emit func(old, now *entry[K, V]) bool) bool {
	switch {
	case old == now:
		return true
	case old == nil:
		return now.all(func(e *entry[K, V]) bool { return emit(nil, e) })
	case now == nil:
		return old.all(func(e *entry[K, V]) bool { return emit(e, nil) })
	case shift >= hashBits:
		return diffLists(old, now, emit)
	}
	for used := old.leafs | old.nodes | now.leafs | now.nodes; used != 0; used &= used - 1 {
		bit := used & -used
		oldEntry, oldChild := old.at(bit)
		nowEntry, nowChild := now.at(bit)
		if oldChild == nowChild && oldEntry == nowEntry {
			continue
		}
		more := true
		switch {
		case oldEntry != nil && nowEntry != nil:
			more = diffEntries(oldEntry, nowEntry, emit)
		case oldEntry != nil && nowChild != nil:
			more = diffEntry(oldEntry, nowChild, emit)
		case oldChild != nil && nowEntry != nil:
			more = diffEntry(nowEntry, oldChild, func(e, o *entry[K, V]) bool { return emit(o, e) })
		case oldEntry != nil || nowEntry != nil:
			more = emit(oldEntry, nowEntry)
		default:
			more = diff(oldChild, nowChild, shift+slotBits, emit)
		}
		if !more {
			return false
		}
	}
	return true
}

// at is what a slot holds: an entry, a node or neither.
func (n *node[K, V]) at(bit uint32) (*entry[K, V], *node[K, V]) {
	switch {
	case n.leafs&bit != 0:
		return &n.entries[rank(n.leafs, bit)], nil
	case n.nodes&bit != 0:
		return nil, n.children[rank(n.nodes, bit)]
	}
	return nil, nil
}

func diffEntries[K, V comparable](old, now *entry[K, V], emit func(old, now *entry[K, V]) bool) bool {
	if old.key != now.key {
		return emit(old, nil) && emit(nil, now)
	}
	return old.value == now.value || emit(old, now)
}

// diffEntry compares an entry with a node in the same place. emit gets the entry
// first, and what is of the node second.
func diffEntry[K, V comparable](e *entry[K, V], n *node[K, V], emit func(e, o *entry[K, V]) bool) bool {
	found := false
	more := n.all(func(o *entry[K, V]) bool {
		if o.key != e.key {
			return emit(nil, o)
		}
		found = true
		return o.value == e.value || emit(e, o)
	})
	return more && (found || emit(e, nil))
}

// diffLists compares keys that collide: few, unless the hash is broken.
func diffLists[K, V comparable](old, now *node[K, V], emit func(old, now *entry[K, V]) bool) bool {
	for i := range old.entries {
		o := &old.entries[i]
		if j := now.listed(o.key); j < 0 {
			if !emit(o, nil) {
				return false
			}
		} else if now.entries[j].value != o.value && !emit(o, &now.entries[j]) {
			return false
		}
	}
	for i := range now.entries {
		if e := &now.entries[i]; old.listed(e.key) < 0 && !emit(nil, e) {
			return false
		}
	}
	return true
}
