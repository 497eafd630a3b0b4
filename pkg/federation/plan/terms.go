package plan

import (
	"maps"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// terms are the Services and the federated Services of a namespace by what they
// have, and by what is necessary to match: so that a namespace with many of both
// is not their product.
type terms struct {
	services map[selector.Term]map[*service]struct{}
	// federated are by the terms of one cover of their expression; open those
	// that have none, and can match anything.
	federated map[selector.Term]map[*federated]struct{}
	open      map[*federated]struct{}
}

func newTerms() terms {
	return terms{
		services:  map[selector.Term]map[*service]struct{}{},
		federated: map[selector.Term]map[*federated]struct{}{},
		open:      map[*federated]struct{}{},
	}
}

// each calls f with each term that a subject has.
func (s subject) each(f func(selector.Term)) {
	one := func(key, value string) {
		f(selector.Term{Key: key, Value: value})
		f(selector.Term{Key: key, AnyValue: true})
	}
	for k, v := range s.labels.All() {
		one(k, v)
	}
	if s.remote != "" {
		one(model.LabelRemoteClusterName, s.remote)
		one(model.LabelRemoteClusterNameTigera, s.remote)
		one(model.LabelRemoteClusterNameTigeraWWW, s.remote)
	}
}

func (t *terms) addService(s *service, of subject) {
	of.each(func(term selector.Term) { put(t.services, term, s) })
}

func (t *terms) removeService(s *service, of subject) {
	of.each(func(term selector.Term) { take(t.services, term, s) })
}

// cover is the terms under which a matcher is to be found; nil: none.
func cover(m *selector.Matcher) []selector.Term {
	if covers := m.Covers(); len(covers) > 0 {
		return covers[0]
	}
	return nil
}

func (t *terms) addFederated(fed *federated) {
	if fed.matcher.Impossible() {
		return
	}
	by := cover(fed.matcher)
	if by == nil {
		t.open[fed] = struct{}{}
	}
	for _, term := range by {
		put(t.federated, term, fed)
	}
}

func (t *terms) removeFederated(fed *federated) {
	delete(t.open, fed)
	for _, term := range cover(fed.matcher) {
		take(t.federated, term, fed)
	}
}

// matching are the federated Services that a Service may back.
func (t *terms) matching(of subject, into map[*federated]struct{}) {
	maps.Copy(into, t.open)
	of.each(func(term selector.Term) { maps.Copy(into, t.federated[term]) })
}

func put[K comparable, V comparable](m map[K]map[V]struct{}, k K, v V) {
	if m[k] == nil {
		m[k] = map[V]struct{}{}
	}
	m[k][v] = struct{}{}
}

func take[K comparable, V comparable](m map[K]map[V]struct{}, k K, v V) {
	if delete(m[k], v); len(m[k]) == 0 {
		delete(m, k)
	}
}
