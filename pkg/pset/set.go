package pset

import "iter"

// Set is a persistent set. It is comparable: sets that are == have equal content,
// while those that are not may have it too. Keys must be equal to themselves.
type Set[K comparable] struct{ m Map[K, struct{}] }

// Len is the number of members.
func (s Set[K]) Len() int { return s.m.size }

// Has tells whether k is a member.
func (s Set[K]) Has(k K) bool {
	_, ok := s.m.Get(k)
	return ok
}

// With is s and k: s itself if k is a member already.
func (s Set[K]) With(k K) Set[K] { return Set[K]{s.m.With(k, struct{}{})} }

// Without is s less k: s itself if k is no member.
func (s Set[K]) Without(k K) Set[K] { return Set[K]{s.m.Without(k)} }

// All gives the members.
func (s Set[K]) All() iter.Seq[K] {
	return func(yield func(K) bool) {
		s.m.root.all(func(e *entry[K, struct{}]) bool { return yield(e.key) })
	}
}

// Same tells, at once, whether both are one version: surely equal. Equal sets
// that were made in different ways need not be.
func (s Set[K]) Same(o Set[K]) bool { return s.m.Same(o.m) }

// Diff gives the keys that are in one of the sets only: true for those of now.
func Diff[K comparable](old, now Set[K]) iter.Seq2[K, bool] {
	return func(yield func(K, bool) bool) {
		diff(old.m.root, now.m.root, 0, func(o, n *entry[K, struct{}]) bool {
			if n != nil {
				return yield(n.key, true)
			}
			return yield(o.key, false)
		})
	}
}

// SetEditor makes many changes at less cost than With and Without. It is for one
// goroutine. The set it was made from stays as it was. After Done every method
// panics.
type SetEditor[K comparable] struct{ m MapEditor[K, struct{}] }

// Edit begins a batch of changes of what s is now.
func (s Set[K]) Edit() *SetEditor[K] { return &SetEditor[K]{MapEditor[K, struct{}]{m: s.m}} }

// Add makes k a member.
func (e *SetEditor[K]) Add(k K) { e.m.Set(k, struct{}{}) }

// Remove makes k no member.
func (e *SetEditor[K]) Remove(k K) { e.m.Delete(k) }

// Has tells whether k is a member now.
func (e *SetEditor[K]) Has(k K) bool {
	_, ok := e.m.Get(k)
	return ok
}

// Len is the number of members now.
func (e *SetEditor[K]) Len() int { return e.m.Len() }

// Done ends the editor and gives the result: what Edit began with if nothing
// changed.
func (e *SetEditor[K]) Done() Set[K] { return Set[K]{e.m.Done()} }
