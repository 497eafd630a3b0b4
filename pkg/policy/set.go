package policy

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// Set is the policies that concern the pods of one node, and the peer selectors
// that they need. What it says depends on the present facts, not on the order
// in which they came. A namespace without pods of this node costs nothing but
// its facts. It is not safe for concurrent use.
type Set struct {
	config Config
	node   string
	spaces map[string]*space // by namespace
	live   map[string]*live  // the namespaces with pods of this node
	// wanted counts the peers of active policies by their selector; before is
	// whether a selector whose count has changed since Update was wanted then.
	wanted map[selector.Selector]int
	before map[selector.Selector]bool
}

// space is the facts of a namespace.
type space struct {
	namespace *model.Namespace
	policies  []*model.Policy // by name
}

// NewSet is the empty Set of a node.
func NewSet(c Config, node string) *Set {
	return &Set{
		config: c,
		node:   node,
		spaces: map[string]*space{},
		live:   map[string]*live{},
		wanted: map[selector.Selector]int{},
		before: map[selector.Selector]bool{},
	}
}

// Apply takes a fact: a policy or namespace of the local cluster, or a pod of
// it on this node. All others change nothing.
func (s *Set) Apply(ch model.Change) {
	if ch.Key.Cluster != s.config.Cluster {
		return
	}
	switch ch.Key.Kind {
	case model.KindPolicy:
		p, _ := ch.Value.(*model.Policy)
		s.policy(ch.Key, p)
	case model.KindNamespace:
		ns, _ := ch.Value.(*model.Namespace)
		s.namespace(ch.Key.Name, ns)
	case model.KindPod:
		pod, _ := ch.Value.(*model.Endpoint)
		if pod != nil && pod.Node != s.node {
			pod = nil
		}
		s.pod(ch.Key, pod)
	}
}

func (s *Set) policy(key model.Key, p *model.Policy) {
	sp := s.space(key.Namespace)
	i, found := slices.BinarySearchFunc(sp.policies, key.Name, func(p *model.Policy, name string) int {
		return strings.Compare(p.Key.Name, name)
	})
	if found && sp.policies[i] == p {
		return
	}
	l := s.live[key.Namespace]
	if found && l != nil {
		l.removePolicy(sp.policies[i])
	}
	switch {
	case p == nil && found:
		sp.policies = slices.Delete(sp.policies, i, i+1)
	case p != nil && found:
		sp.policies[i] = p
	case p != nil:
		sp.policies = slices.Insert(sp.policies, i, p)
	}
	if p != nil && l != nil {
		l.addPolicy(p)
	}
	s.trim(key.Namespace)
}

func (s *Set) namespace(name string, ns *model.Namespace) {
	sp := s.space(name)
	old := sp.namespace
	sp.namespace = ns
	// Its labels are the index's matter; only the annotation matters here.
	same := (old == nil) == (ns == nil) && (ns == nil || old.PeerScope == ns.PeerScope)
	if l := s.live[name]; l != nil && !same {
		l.translateAgain()
	}
	s.trim(name)
}

func (s *Set) pod(key model.Key, pod *model.Endpoint) {
	l := s.live[key.Namespace]
	switch {
	case pod == nil && l == nil:
		return
	case pod == nil:
		l.removePod(key.Name) // without pods no policy is active
		if len(l.pods) == 0 {
			delete(s.live, key.Namespace)
		}
		s.trim(key.Namespace)
		return
	case l == nil:
		l = newLive(s, s.space(key.Namespace))
		s.live[key.Namespace] = l
	}
	l.setPod(pod)
}

// space is that of a namespace, made if there is none.
func (s *Set) space(namespace string) *space {
	sp := s.spaces[namespace]
	if sp == nil {
		sp = &space{}
		s.spaces[namespace] = sp
	}
	return sp
}

// trim forgets a namespace of which nothing is known.
func (s *Set) trim(namespace string) {
	if sp := s.spaces[namespace]; sp != nil && sp.namespace == nil && len(sp.policies) == 0 && s.live[namespace] == nil {
		delete(s.spaces, namespace)
	}
}

// want changes the count of a selector.
func (s *Set) want(sel selector.Selector, by int) {
	count := s.wanted[sel]
	if _, noted := s.before[sel]; !noted {
		s.before[sel] = count > 0
	}
	if count += by; count > 0 {
		s.wanted[sel] = count
	} else {
		delete(s.wanted, sel)
	}
}

// Update is how the wanted selectors have changed since the last call, both
// sorted by text. Nothing that matches nothing is ever wanted.
func (s *Set) Update() (track, untrack []selector.Selector) {
	for sel, before := range s.before {
		switch now := s.wanted[sel] > 0; {
		case now && !before:
			track = append(track, sel)
		case before && !now:
			untrack = append(untrack, sel)
		}
	}
	clear(s.before)
	byText := func(a, b selector.Selector) int { return strings.Compare(a.String(), b.String()) }
	slices.SortFunc(track, byText)
	slices.SortFunc(untrack, byText)
	return track, untrack
}

// Wanted is the selectors that active policies need now, in no order.
func (s *Set) Wanted() iter.Seq[selector.Selector] { return maps.Keys(s.wanted) }

// Active is the policies that apply to at least one pod of this node, by
// namespace and name.
func (s *Set) Active() iter.Seq[*model.Policy] {
	return func(yield func(*model.Policy) bool) {
		for _, namespace := range slices.Sorted(maps.Keys(s.live)) {
			for _, p := range s.spaces[namespace].policies {
				if s.live[namespace].members[p.Key.Name].active() && !yield(p) {
					return
				}
			}
		}
	}
}

// Len is the number of active policies.
func (s *Set) Len() int {
	n := 0
	for range s.Active() {
		n++
	}
	return n
}

// Selecting is the policies that apply to a pod of this node, by name.
func (s *Set) Selecting(pod model.Key) iter.Seq[*model.Policy] {
	return func(yield func(*model.Policy) bool) {
		l := s.live[pod.Namespace]
		if l == nil || pod.Kind != model.KindPod || pod.Cluster != s.config.Cluster {
			return
		}
		for _, p := range l.space.policies {
			if _, selected := l.members[p.Key.Name].group.pods[pod.Name]; selected && !yield(p) {
				return
			}
		}
	}
}

// Problems is what is wrong with the policies of namespaces that have pods of
// this node, each once, sorted: with their podSelector and what could not be
// read; of active ones also with their peers.
func (s *Set) Problems() []model.Problem {
	var problems []model.Problem
	for _, l := range s.live {
		for _, m := range l.members {
			problems = append(problems, m.problems...)
			problems = append(problems, m.peerProblems...)
		}
	}
	slices.SortFunc(problems, compareProblems)
	return slices.Compact(problems)
}
