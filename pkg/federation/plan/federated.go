package plan

import (
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// federated is a local Service that is declared federated.
type federated struct {
	fact     *model.Service
	declared declaration
	// matcher is what finds backing: of the declared expression or, while that
	// is none, of the last good one; nil: nothing is evaluated.
	matcher *selector.Matcher
	backing map[model.Key]*service
}

// declaration is what the annotations of a federated Service say.
type declaration struct {
	selector selector.Selector
	// reason is the condition's if they say nothing good, and message why.
	reason, message string
}

// subject is a Service under evaluation (semantics 4.2).
type subject struct {
	labels model.Labels
	remote string // its cluster; empty for a local one
}

// Get is the value under a key, and whether there is one.
func (s subject) Get(key string) (string, bool) {
	switch key {
	case model.LabelRemoteClusterName, model.LabelRemoteClusterNameTigera, model.LabelRemoteClusterNameTigeraWWW:
		return s.remote, s.remote != ""
	}
	return s.labels.Get(key)
}

// declare keeps whether a local Service is federated, and by which expression.
func (f *Facts) declare(n *namespace, k model.Key, fact *model.Service, t touched) {
	fed := n.federated[k.Name]
	if fact == nil || !fact.Federated() {
		if fed != nil {
			f.evaluate(n, fed, nil)
			delete(n.federated, k.Name)
			t[k] = struct{}{}
		}
		return
	}
	if fed == nil {
		fed = &federated{backing: map[model.Key]*service{}}
		n.federated[k.Name] = fed
	}
	fed.fact, fed.declared = fact, declared(fact)
	t[k] = struct{}{}
	if fed.declared.reason == "" {
		f.evaluate(n, fed, &fed.declared.selector)
	} // else by what was good, until Plan has seen what is on the objects
}

// evaluate makes a selector the one by which a federated Service's backing is
// found; nil: none.
func (f *Facts) evaluate(n *namespace, fed *federated, by *selector.Selector) {
	if fed.matcher != nil {
		if by != nil && fed.matcher.Selector() == *by {
			return
		}
		n.terms.removeFederated(fed)
		fed.matcher = nil
	}
	if by != nil {
		fed.matcher = by.Compile()
		n.terms.addFederated(fed)
	}
	for _, s := range fed.backing {
		f.link(fed, s, nil)
	}
	if by == nil {
		return
	}
	terms := cover(fed.matcher)
	for _, term := range terms {
		for s := range n.terms.services[term] {
			f.link(fed, s, nil)
		}
	}
	if terms != nil || fed.matcher.Impossible() {
		return
	}
	for _, p := range n.places {
		for _, s := range p.services {
			f.link(fed, s, nil)
		}
	}
}

// link keeps whether a Service backs a federated one; t, unless nil, notes the
// latter if the former is one, or was.
func (f *Facts) link(fed *federated, s *service, t touched) {
	_, did := s.backs[fed]
	does := fed.matcher != nil && s.fact != nil && !s.fact.External && !s.fact.Federated() && fed.matcher.Matches(f.subject(s.fact))
	if (did || does) && t != nil {
		t[fed.fact.Key] = struct{}{}
	}
	switch {
	case does:
		s.backs[fed] = struct{}{}
		fed.backing[s.key] = s
		if !did && len(s.backs) == 1 {
			f.indexAll(s)
		}
	case did:
		delete(s.backs, fed)
		delete(fed.backing, s.key)
		if len(s.backs) == 0 {
			f.unindexAll(s)
		}
	}
}

func (f *Facts) subject(s *model.Service) subject {
	if s.Key.Cluster == f.local {
		return subject{labels: s.Labels}
	}
	return subject{labels: s.Labels, remote: s.Key.Cluster}
}

func (f *Facts) indexAll(s *service) {
	for _, sl := range s.place.of[s.key.Name] {
		f.index(sl)
	}
}

func (f *Facts) unindexAll(s *service) {
	for _, sl := range s.place.of[s.key.Name] {
		f.unindex(sl)
	}
}

// declared reads the annotations that declare a Service federated (semantics 4.1,
// 4.3).
func declared(s *model.Service) declaration {
	d := declaration{}
	first := ""
	for _, key := range selectorAnnotations() {
		text, ok := s.Annotations[key]
		if !ok {
			continue
		}
		by, err := selector.Parse(text)
		if err != nil {
			return declaration{reason: ReasonInvalidExpression, message: "annotation " + key + ": " + err.Error()}
		}
		if first != "" && by != d.selector {
			d.reason, d.message = ReasonAnnotationsDisagree, "annotations "+first+" and "+key+" mean different Services"
		}
		if first == "" {
			first, d.selector = key, by
		}
	}
	return d
}

// selectorAnnotations are the annotations of which one declares a Service
// federated.
func selectorAnnotations() [3]string {
	return [...]string{model.AnnotationServiceSelector, model.AnnotationServiceSelectorTigera, model.AnnotationServiceSelectorTigeraWWW}
}
