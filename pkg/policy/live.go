package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// live is a namespace with pods of this node: its policies are compiled.
type live struct {
	set      *Set
	space    *space
	pods     map[string]*localPod
	groups   map[selector.Selector]*group
	policies map[string]*member // by name
	// wants are what the units that fit need, distinct, in the order in which
	// they are written; members is how many members these have together, as of
	// the last view. heavy: some are past the limit.
	wants   []*want
	members int
	heavy   bool
	// sides are those that pods of the namespace have, by what makes them (see
	// sideKey).
	sides [2]map[string]*desired.Side
	// crowded are the sides of ingress from which numbers of named ports were
	// left out.
	crowded map[*desired.Side]model.Problem
	// unassigned: sides are to be made anew, where what makes them has changed.
	unassigned bool
}

// localPod is a pod of this node.
type localPod struct {
	*model.Endpoint
	live   *live
	iface  string   // InterfaceName
	groups []*group // that select it, in use while sides are made
	sides  [2]*desired.Side
	entry  *index.Entry // as of the last time its addresses were asked for
}

// group is the policies with one podSelector. A pod is compared with groups, so
// that many policies with few selectors cost few comparisons.
type group struct {
	matcher *selector.Matcher
	members map[*member]struct{}
	pods    map[string]*localPod // those that match
	// version is another one after each change of what its policies say; ready
	// is that for which the rest was made.
	version, ready uint64
	sorted         []*member // by name
	isolates       [2]bool
	names          map[portName]struct{} // that ingress rules use
}

// member is a policy.
type member struct {
	policy   *model.Policy
	group    *group
	problems []model.Problem
	// What active policies have.
	translated   bool
	units        []*unit
	peerProblems []model.Problem
	// terms are those of its units that are admitted, if expanded.
	expanded bool
	terms    [2][]term
	// unresolved are named ports of ingress that no pod of this node has.
	unresolved []model.Problem
}

func (m *member) active() bool { return len(m.group.pods) > 0 }

func newLive(s *Set, sp *space) *live {
	l := &live{
		set:      s,
		space:    sp,
		pods:     map[string]*localPod{},
		groups:   map[selector.Selector]*group{},
		policies: make(map[string]*member, len(sp.policies)),
		crowded:  map[*desired.Side]model.Problem{},
	}
	for _, p := range sp.policies {
		l.addPolicy(p)
	}
	return l
}

// unsettle has the policies admitted again.
func (l *live) unsettle() {
	l.unassigned = true
	l.set.unsettled[l] = struct{}{}
	l.set.changed()
}

// touch notes that what a policy says has changed.
func (l *live) touch(m *member) {
	m.expanded, m.terms = false, [2][]term{}
	m.group.version = l.set.version()
	l.unassigned = true
	l.set.changed()
}

func (l *live) addPolicy(p *model.Policy) {
	sel, problems := l.set.config.subjects(p)
	g := l.groups[sel]
	if g == nil {
		g = &group{matcher: sel.Compile(), members: map[*member]struct{}{}, pods: map[string]*localPod{}}
		l.groups[sel] = g
		for name, pod := range l.pods {
			if l.matches(g, pod.Endpoint) {
				g.pods[name] = pod
			}
		}
	}
	m := &member{policy: p, group: g, problems: problems}
	g.members[m] = struct{}{}
	l.policies[p.Key.Name] = m
	l.touch(m)
	l.unsettle()
}

func (l *live) removePolicy(p *model.Policy) {
	m := l.policies[p.Key.Name]
	delete(l.policies, p.Key.Name)
	delete(m.group.members, m)
	l.touch(m)
	if len(m.group.members) == 0 {
		delete(l.groups, m.group.matcher.Selector())
	}
	l.unsettle()
}

// matches evaluates a podSelector on a pod of its namespace: a cluster key is
// that of the local cluster (semantics 2.5).
func (l *live) matches(g *group, pod *model.Endpoint) bool {
	subject := selector.Subject{
		Labels:         pod.Labels,
		Cluster:        l.set.config.ClusterLabels,
		ClusterName:    l.set.config.Cluster,
		NamespaceName:  pod.Key.Namespace,
		ServiceAccount: pod.ServiceAccount,
		Kind:           model.KindPod,
	}
	return g.matcher.Matches(&subject)
}

func (l *live) setPod(fact *model.Endpoint) {
	name := fact.Key.Name
	p := l.pods[name]
	if p == nil {
		p = &localPod{live: l, iface: InterfaceName(fact.Key.Namespace, name)}
		l.pods[name] = p
		l.set.addInterface(p)
	}
	old := p.Endpoint
	p.Endpoint = fact
	l.set.changed()
	if old == nil || !slices.Equal(old.Ports, fact.Ports) {
		l.unassigned = true
	}
	if old != nil && old.Labels == fact.Labels && old.ServiceAccount == fact.ServiceAccount {
		return
	}
	for _, g := range l.groups {
		l.mark(g, p, l.matches(g, fact))
	}
}

func (l *live) removePod(name string) {
	p := l.pods[name]
	if p == nil {
		return
	}
	delete(l.pods, name)
	l.set.removeInterface(p)
	l.unassigned = true
	l.set.changed()
	for _, g := range l.groups {
		l.mark(g, p, false)
	}
}

// mark says whether a group's selector matches a pod.
func (l *live) mark(g *group, p *localPod, matches bool) {
	if _, before := g.pods[p.Key.Name]; before == matches {
		return
	}
	active := len(g.pods) > 0
	if matches {
		g.pods[p.Key.Name] = p
	} else {
		delete(g.pods, p.Key.Name)
	}
	l.unassigned = true
	if active != (len(g.pods) > 0) {
		l.unsettle()
	}
}

// settle translates the policies that are active, and admits what fits into the
// limits.
func (l *live) settle() {
	b := budget{set: l.set, has: map[index.PortQuery]*want{}}
	for _, p := range l.space.policies {
		m := l.policies[p.Key.Name]
		switch {
		case !m.active():
			m.translated, m.units, m.peerProblems, m.unresolved = false, nil, nil, nil
			m.expanded, m.terms = false, [2][]term{}
			continue
		case !m.translated:
			l.translate(m)
		}
		l.admit(m, &b)
	}
	l.replaceWants(b.wants)
}

// translate makes the units of a policy.
func (l *live) translate(m *member) {
	m.translated = true
	m.units, m.peerProblems = l.set.config.units(m.policy, l.space.namespace)
	l.touch(m)
}

func (l *live) translateAgain() {
	for _, m := range l.policies {
		m.translated = false
	}
	l.unsettle()
}

func compareProblems(a, b model.Problem) int {
	return cmp.Or(
		compareKeys(a.Object, b.Object),
		strings.Compare(string(a.Kind), string(b.Kind)),
		strings.Compare(a.Message, b.Message),
	)
}

func compareKeys(a, b model.Key) int {
	return cmp.Or(
		cmp.Compare(a.Kind, b.Kind),
		strings.Compare(a.Cluster, b.Cluster),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name),
	)
}
