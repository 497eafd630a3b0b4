package pset

import "iter"

// Map is a persistent map. It is comparable: maps that are == have equal content,
// while those that are not may have it too. Keys must be equal to themselves (a
// NaN is not); values that are == are taken to be the same.
type Map[K, V comparable] struct {
	root *node[K, V]
	size int
}

// Len is the number of keys.
func (m Map[K, V]) Len() int { return m.size }

// Get is the value of a key, and whether it is there.
func (m Map[K, V]) Get(k K) (V, bool) {
	if m.root == nil {
		var zero V
		return zero, false
	}
	return value(m.root.find(k, hash(k)))
}

func value[K, V comparable](e *entry[K, V]) (V, bool) {
	if e == nil {
		var zero V
		return zero, false
	}
	return e.value, true
}

// With is m with the value of k set: m itself if it is that already.
func (m Map[K, V]) With(k K, v V) Map[K, V] {
	var ed editor[K, V]
	root, added := ed.set(m.root, entry[K, V]{v, k}, hash(k), 0)
	if added {
		m.size++
	}
	m.root = root
	return m
}

// Without is m without k: m itself if it is not there.
func (m Map[K, V]) Without(k K) Map[K, V] {
	var ed editor[K, V]
	root, removed := ed.unset(m.root, k, hash(k), 0)
	if removed {
		m.size--
	}
	m.root = root
	return m
}

// All gives the pairs.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		m.root.all(func(e *entry[K, V]) bool { return yield(e.key, e.value) })
	}
}

// Same tells, at once, whether both are one version: surely equal. Equal maps
// that were made in different ways need not be.
func (m Map[K, V]) Same(o Map[K, V]) bool { return m.root == o.root }

// MapChange is a difference of two maps.
type MapChange[K, V comparable] struct {
	Key            K
	Old, New       V // zero where the key is not there
	HadOld, HasNew bool
}

// DiffMap gives the keys whose values differ, each once.
func DiffMap[K, V comparable](old, now Map[K, V]) iter.Seq[MapChange[K, V]] {
	return func(yield func(MapChange[K, V]) bool) {
		diff(old.root, now.root, 0, func(o, n *entry[K, V]) bool {
			c := MapChange[K, V]{HadOld: o != nil, HasNew: n != nil}
			if o != nil {
				c.Key, c.Old = o.key, o.value
			}
			if n != nil {
				c.Key, c.New = n.key, n.value
			}
			return yield(c)
		})
	}
}

// MapEditor makes many changes at less cost than With and Without. It is for one
// goroutine. The map it was made from stays as it was. After Done every method
// panics.
type MapEditor[K, V comparable] struct {
	m      Map[K, V]
	editor editor[K, V]
	ended  bool
}

// Edit begins a batch of changes of what m is now.
func (m Map[K, V]) Edit() *MapEditor[K, V] { return &MapEditor[K, V]{m: m} }

func (e *MapEditor[K, V]) use() {
	if e.ended {
		panic("pset: editor used after Done")
	}
}

// change is use before a change.
func (e *MapEditor[K, V]) change() {
	e.use()
	if e.editor.owner == nil {
		e.editor.owner = new(owner)
	}
}

// Set sets the value of a key.
func (e *MapEditor[K, V]) Set(k K, v V) {
	e.change()
	root, added := e.editor.set(e.m.root, entry[K, V]{v, k}, hash(k), 0)
	if added {
		e.m.size++
	}
	e.m.root = root
}

// Delete removes a key, if it is there.
func (e *MapEditor[K, V]) Delete(k K) {
	e.change()
	root, removed := e.editor.unset(e.m.root, k, hash(k), 0)
	if removed {
		e.m.size--
	}
	e.m.root = root
}

// Get is the value of a key now, and whether it is there.
func (e *MapEditor[K, V]) Get(k K) (V, bool) {
	e.use()
	return e.m.Get(k)
}

// Len is the number of keys now.
func (e *MapEditor[K, V]) Len() int {
	e.use()
	return e.m.size
}

// All gives the pairs. Nothing may be set or deleted while it does.
func (e *MapEditor[K, V]) All() iter.Seq2[K, V] {
	e.use()
	return e.m.All()
}

// Done ends the editor and gives the result: what Edit began with if nothing
// changed.
func (e *MapEditor[K, V]) Done() Map[K, V] {
	e.use()
	e.editor.done()
	m := e.m
	e.m, e.ended = Map[K, V]{}, true
	return m
}
