package policy

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// Set is the policies that concern the pods of one node, the peer selectors that
// they need, and the State that follows. What it says depends on the present
// facts, not on the order in which they came. A namespace without pods of this
// node costs nothing but its facts. It is not safe for concurrent use; what it
// gives is never changed.
//
// Facts come by Apply and Node. After that Update says what the index is to
// track, and State, given a view of the index that tracks it, what to enforce.
type Set struct {
	config Config
	limits Limits
	node   string
	spaces map[string]*space // by namespace
	live   map[string]*live  // the namespaces with pods of this node
	// wanted has what the units that are admitted need; before is whether what
	// has changed since Update was wanted then. fresh was not in the last view.
	wanted map[index.PortQuery]*want
	before map[index.PortQuery]bool
	fresh  []*want
	// unsettled namespaces have policies to be translated and admitted,
	// unweighed ones members to be counted.
	unsettled, unweighed map[*live]struct{}
	versions             uint64
	facts                NodeFacts
	// interfaces are the pods by the names that their interfaces should have.
	interfaces map[string][]*localPod
	// lists are those that pods have, with the sets that they name; texts finds
	// them by content.
	lists   map[*desired.List][]*set
	texts   map[string]*desired.List
	current current
	// Of the last State: pods without an interface, what was found wrong with
	// interfaces.
	waiting           []model.Key
	interfaceProblems []model.Problem
	problems          []model.Problem
	problemsKnown     bool
}

// space is the facts of a namespace.
type space struct {
	namespace *model.Namespace
	policies  []*model.Policy // by name
}

// NewSet is the empty Set of a node.
func NewSet(c Config, node string) *Set {
	return &Set{
		config:     c,
		limits:     c.Limits.withDefaults(),
		node:       node,
		spaces:     map[string]*space{},
		live:       map[string]*live{},
		wanted:     map[index.PortQuery]*want{},
		before:     map[index.PortQuery]bool{},
		unsettled:  map[*live]struct{}{},
		unweighed:  map[*live]struct{}{},
		interfaces: map[string][]*localPod{},
		lists:      map[*desired.List][]*set{},
		texts:      map[string]*desired.List{},
		current:    current{stale: true},
	}
}

// changed notes that Rules or Problems may not be what they were.
func (s *Set) changed() { s.current.stale, s.problemsKnown = true, false }

// version is another one each time.
func (s *Set) version() uint64 {
	s.versions++
	return s.versions
}

// Apply takes a fact: a policy or namespace of the local cluster, or a pod of
// it on this node. Of other pods and of nodes of the local cluster, which it must
// be told of too, it takes that they may own what a pod of this node did. All
// others change nothing.
func (s *Set) Apply(ch model.Change) {
	if ch.Key.Cluster != s.config.Cluster {
		return
	}
	switch ch.Key.Kind {
	case model.KindNode, model.KindCluster:
		s.current.contested = true
	case model.KindPolicy:
		p, _ := ch.Value.(*model.Policy)
		s.policy(ch.Key, p)
	case model.KindNamespace:
		ns, _ := ch.Value.(*model.Namespace)
		s.namespace(ch.Key.Name, ns)
	case model.KindPod:
		s.current.contested = true
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
	l := s.live[key.Namespace]
	if found && p != nil && sameMeaning(sp.policies[i], p) {
		sp.policies[i] = p
		if l != nil {
			l.policies[key.Name].policy = p
		}
		return
	}
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

// sameMeaning compares policies but for what only their objects have.
func sameMeaning(a, b *model.Policy) bool {
	if a == b {
		return true
	}
	x, y := *a, *b
	x.UID, x.Generation = y.UID, y.Generation
	return reflect.DeepEqual(x, y)
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
		l.removePod(key.Name)
		if len(l.pods) == 0 {
			l.replaceWants(nil)
			delete(s.unsettled, l)
			delete(s.unweighed, l)
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

// settle has all policies translated and admitted.
func (s *Set) settle() {
	for l := range s.unsettled {
		l.settle()
	}
	clear(s.unsettled)
}

// Active is the policies that apply to at least one pod of this node, by
// namespace and name.
func (s *Set) Active() iter.Seq[*model.Policy] {
	return func(yield func(*model.Policy) bool) {
		for _, namespace := range slices.Sorted(maps.Keys(s.live)) {
			for _, p := range s.spaces[namespace].policies {
				if s.live[namespace].policies[p.Key.Name].active() && !yield(p) {
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
			if _, selected := l.policies[p.Key.Name].group.pods[pod.Name]; selected && !yield(p) {
				return
			}
		}
	}
}

// Problems is what is wrong with the policies of namespaces that have pods of
// this node, each once, sorted: with their podSelector and what could not be
// read; of active ones also with their peers and ports, and what is past a
// limit. As of the last State it has also named ports that no selected pod of
// this node has, or to which pods give too many numbers, and addresses of pods
// that are routed elsewhere. It is the same
// slice as long as nothing changes, and must not be written to.
func (s *Set) Problems() []model.Problem {
	s.settle()
	if s.problemsKnown {
		return s.problems
	}
	problems := slices.Clone(s.interfaceProblems)
	for _, l := range s.live {
		problems = slices.AppendSeq(problems, maps.Values(l.crowded))
		for _, m := range l.policies {
			problems = append(problems, m.problems...)
			problems = append(problems, m.peerProblems...)
			problems = append(problems, l.limitProblems(m)...)
			problems = append(problems, m.unresolved...)
		}
	}
	slices.SortFunc(problems, compareProblems)
	s.problems, s.problemsKnown = slices.Compact(problems), true
	return s.problems
}
