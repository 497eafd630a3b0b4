package pset

import "slices"

// editor makes changes. Without an owner it copies what it changes; with one it
// changes nodes of this owner in place.
type editor[K, V comparable] struct {
	owner *owner
	// loose are nodes that were given room to grow: done trims them.
	loose []*node[K, V]
}

// set puts an entry below n, which may be nil. It returns what takes n's place,
// n itself if nothing changed, and whether the key is new.
func (ed *editor[K, V]) set(n *node[K, V], e entry[K, V], h uint64, shift uint) (*node[K, V], bool) {
	if n == nil {
		return &node[K, V]{owner: ed.owner, leafs: slot(h, shift), entries: []entry[K, V]{e}}, true
	}
	if shift >= hashBits {
		return ed.setListed(n, e)
	}
	bit := slot(h, shift)
	switch {
	case n.nodes&bit != 0:
		i := rank(n.nodes, bit)
		child, added := ed.set(n.children[i], e, h, shift+slotBits)
		return ed.setChild(n, i, child), added
	case n.leafs&bit == 0:
		m := ed.insertEntry(n, rank(n.leafs, bit), e)
		m.leafs |= bit
		return m, true
	}
	i := rank(n.leafs, bit)
	old := n.entries[i]
	if old.key == e.key {
		return ed.setEntry(n, i, e), false
	}
	child := ed.pair(old, hash(old.key), e, h, shift+slotBits)
	return ed.entryToChild(n, bit, child), true
}

func (ed *editor[K, V]) setListed(n *node[K, V], e entry[K, V]) (*node[K, V], bool) {
	if i := n.listed(e.key); i >= 0 {
		return ed.setEntry(n, i, e), false
	}
	return ed.insertEntry(n, len(n.entries), e), true
}

// pair is a node of two entries.
func (ed *editor[K, V]) pair(a entry[K, V], ha uint64, b entry[K, V], hb uint64, shift uint) *node[K, V] {
	if shift >= hashBits {
		return &node[K, V]{owner: ed.owner, entries: []entry[K, V]{a, b}}
	}
	sa, sb := slot(ha, shift), slot(hb, shift)
	switch {
	case sa == sb:
		child := ed.pair(a, ha, b, hb, shift+slotBits)
		return &node[K, V]{owner: ed.owner, nodes: sa, children: []*node[K, V]{child}}
	case sa > sb:
		a, b = b, a
	}
	return &node[K, V]{owner: ed.owner, leafs: sa | sb, entries: []entry[K, V]{a, b}}
}

// unset removes a key below n, which may be nil. It returns what takes n's place,
// nil if nothing is left, and whether the key was there.
func (ed *editor[K, V]) unset(n *node[K, V], k K, h uint64, shift uint) (*node[K, V], bool) {
	if n == nil {
		return nil, false
	}
	if shift >= hashBits {
		if i := n.listed(k); i >= 0 {
			return ed.removeEntry(n, i, 0), true
		}
		return n, false
	}
	bit := slot(h, shift)
	switch {
	case n.leafs&bit != 0:
		if i := rank(n.leafs, bit); n.entries[i].key == k {
			return ed.removeEntry(n, i, bit), true
		}
		return n, false
	case n.nodes&bit == 0:
		return n, false
	}
	i := rank(n.nodes, bit)
	child, removed := ed.unset(n.children[i], k, h, shift+slotBits)
	if removed && child.single() {
		return ed.childToEntry(n, bit, child.entries[0]), true
	}
	return ed.setChild(n, i, child), removed
}

// own gives the node to change in n's place: n itself, in place, or a copy that
// still shares both slices with it.
func (ed *editor[K, V]) own(n *node[K, V]) (m *node[K, V], inPlace bool) {
	if ed.owner != nil && n.owner == ed.owner {
		return n, true
	}
	m = new(node[K, V])
	*m = *n
	m.owner = ed.owner
	return m, false
}

// ownEntries is for a change of the entries alone: what else a later change in
// place would touch must not be shared.
func (ed *editor[K, V]) ownEntries(n *node[K, V]) (m *node[K, V], inPlace bool) {
	m, inPlace = ed.own(n)
	if !inPlace && ed.owner != nil {
		m.children = slices.Clone(m.children)
	}
	return m, inPlace
}

// ownChildren is for a change of the children alone.
func (ed *editor[K, V]) ownChildren(n *node[K, V]) (m *node[K, V], inPlace bool) {
	m, inPlace = ed.own(n)
	if !inPlace && ed.owner != nil {
		m.entries = slices.Clone(m.entries)
	}
	return m, inPlace
}

func (ed *editor[K, V]) setEntry(n *node[K, V], i int, e entry[K, V]) *node[K, V] {
	if n.entries[i].value == e.value {
		return n
	}
	m, inPlace := ed.ownEntries(n)
	if !inPlace {
		m.entries = slices.Clone(m.entries)
	}
	m.entries[i].value = e.value
	return m
}

func (ed *editor[K, V]) insertEntry(n *node[K, V], i int, e entry[K, V]) *node[K, V] {
	m, inPlace := ed.ownEntries(n)
	m.entries = insert(m.entries, i, e, inPlace)
	ed.grown(m)
	return m
}

// removeEntry gives nil for the last one.
func (ed *editor[K, V]) removeEntry(n *node[K, V], i int, bit uint32) *node[K, V] {
	if n.single() {
		return nil
	}
	m, inPlace := ed.ownEntries(n)
	m.entries = remove(m.entries, i, inPlace)
	m.leafs &^= bit
	ed.grown(m)
	return m
}

func (ed *editor[K, V]) setChild(n *node[K, V], i int, child *node[K, V]) *node[K, V] {
	if n.children[i] == child {
		return n
	}
	m, inPlace := ed.ownChildren(n)
	if !inPlace {
		m.children = slices.Clone(m.children)
	}
	m.children[i] = child
	return m
}

func (ed *editor[K, V]) entryToChild(n *node[K, V], bit uint32, child *node[K, V]) *node[K, V] {
	m, inPlace := ed.own(n)
	m.entries = remove(m.entries, rank(n.leafs, bit), inPlace)
	m.children = insert(m.children, rank(n.nodes, bit), child, inPlace)
	m.leafs &^= bit
	m.nodes |= bit
	ed.grown(m)
	return m
}

func (ed *editor[K, V]) childToEntry(n *node[K, V], bit uint32, e entry[K, V]) *node[K, V] {
	m, inPlace := ed.own(n)
	m.children = remove(m.children, rank(n.nodes, bit), inPlace)
	m.entries = insert(m.entries, rank(n.leafs, bit), e, inPlace)
	m.nodes &^= bit
	m.leafs |= bit
	ed.grown(m)
	return m
}

// grown notes a node whose slices have more room than they need.
func (ed *editor[K, V]) grown(m *node[K, V]) {
	if ed.owner != nil && (tooRoomy(m.entries) || tooRoomy(m.children)) {
		ed.loose = append(ed.loose, m)
	}
}

// done ends the edit: what it made is from now on never changed.
func (ed *editor[K, V]) done() {
	for _, n := range ed.loose {
		n.entries, n.children = trim(n.entries), trim(n.children)
	}
	ed.owner, ed.loose = nil, nil
}

// insert gives s with x at i, in s itself if that is allowed and it has room.
func insert[T any](s []T, i int, x T, inPlace bool) []T {
	if inPlace && len(s) < cap(s) {
		return slices.Insert(s, i, x)
	}
	room := len(s) + 1
	if inPlace { // it is being built: more will come
		room += room / 2
	}
	grown := make([]T, len(s)+1, room)
	copy(grown, s[:i])
	grown[i] = x
	copy(grown[i+1:], s[i:])
	return grown
}

func remove[T any](s []T, i int, inPlace bool) []T {
	switch {
	case len(s) == 1:
		return nil
	case inPlace:
		return slices.Delete(s, i, i+1)
	}
	shrunk := make([]T, len(s)-1)
	copy(shrunk, s[:i])
	copy(shrunk[i:], s[i+1:])
	return shrunk
}

// tooRoomy: less than an eighth is not worth a copy.
func tooRoomy[T any](s []T) bool { return cap(s)-len(s) > cap(s)/8 }

func trim[T any](s []T) []T {
	if !tooRoomy(s) {
		return s
	}
	exact := make([]T, len(s))
	copy(exact, s)
	return exact
}
