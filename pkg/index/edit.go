package index

import (
	"iter"

	"github.com/overland-net/overland/pkg/pset"
)

// growingMap is a persistent map that is edited in place between two freezes.
type growingMap[K, V comparable] struct {
	frozen pset.Map[K, V]
	edit   *pset.MapEditor[K, V] // nil: as frozen
}

func (m *growingMap[K, V]) editor() *pset.MapEditor[K, V] {
	if m.edit == nil {
		m.edit = m.frozen.Edit()
	}
	return m.edit
}

func (m *growingMap[K, V]) set(k K, v V) { m.editor().Set(k, v) }
func (m *growingMap[K, V]) delete(k K)   { m.editor().Delete(k) }

func (m *growingMap[K, V]) get(k K) (V, bool) {
	if m.edit != nil {
		return m.edit.Get(k)
	}
	return m.frozen.Get(k)
}

func (m *growingMap[K, V]) len() int {
	if m.edit != nil {
		return m.edit.Len()
	}
	return m.frozen.Len()
}

// all gives the pairs; nothing may be changed while it does.
func (m *growingMap[K, V]) all() iter.Seq2[K, V] {
	if m.edit != nil {
		return m.edit.All()
	}
	return m.frozen.All()
}

// freeze is the map as it is now, for ever.
func (m *growingMap[K, V]) freeze() pset.Map[K, V] {
	if m.edit != nil {
		m.frozen, m.edit = m.edit.Done(), nil
	}
	return m.frozen
}

// growingSet is a persistent set, likewise.
type growingSet[K comparable] struct {
	frozen pset.Set[K]
	edit   *pset.SetEditor[K]
}

func (s *growingSet[K]) editor() *pset.SetEditor[K] {
	if s.edit == nil {
		s.edit = s.frozen.Edit()
	}
	return s.edit
}

func (s *growingSet[K]) has(k K) bool {
	if s.edit != nil {
		return s.edit.Has(k)
	}
	return s.frozen.Has(k)
}

func (s *growingSet[K]) freeze() pset.Set[K] {
	if s.edit != nil {
		s.frozen, s.edit = s.edit.Done(), nil
	}
	return s.frozen
}
