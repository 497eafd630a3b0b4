package policy

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// live is a namespace with pods of this node: its policies are compiled.
type live struct {
	set     *Set
	space   *space
	pods    map[string]*model.Endpoint
	groups  map[selector.Selector]*group
	members map[string]*member // by name of the policy
}

// group is the policies with one podSelector. A pod is compared with groups, so
// that many policies with few selectors cost few comparisons.
type group struct {
	matcher *selector.Matcher
	members map[*member]struct{}
	pods    map[string]struct{} // those that match
}

// member is a policy.
type member struct {
	policy   *model.Policy
	group    *group
	problems []model.Problem
	// What active policies have: the selectors that they want, one a peer.
	wants        []selector.Selector
	peerProblems []model.Problem
}

func (m *member) active() bool { return len(m.group.pods) > 0 }

func newLive(s *Set, sp *space) *live {
	l := &live{
		set:     s,
		space:   sp,
		pods:    map[string]*model.Endpoint{},
		groups:  map[selector.Selector]*group{},
		members: make(map[string]*member, len(sp.policies)),
	}
	for _, p := range sp.policies {
		l.addPolicy(p)
	}
	return l
}

func (l *live) addPolicy(p *model.Policy) {
	sel, problems := l.set.config.Subjects(p)
	for _, message := range p.Malformed {
		problems = append(problems, model.Problem{Kind: model.ProblemPolicy, Object: p.Key, Message: message})
	}
	g := l.groups[sel]
	if g == nil {
		g = &group{matcher: sel.Compile(), members: map[*member]struct{}{}, pods: map[string]struct{}{}}
		l.groups[sel] = g
		for name, pod := range l.pods {
			if l.matches(g, pod) {
				g.pods[name] = struct{}{}
			}
		}
	}
	m := &member{policy: p, group: g, problems: problems}
	g.members[m] = struct{}{}
	l.members[p.Key.Name] = m
	if m.active() {
		l.activate(m)
	}
}

func (l *live) removePolicy(p *model.Policy) {
	m := l.members[p.Key.Name]
	l.deactivate(m)
	delete(l.members, p.Key.Name)
	delete(m.group.members, m)
	if len(m.group.members) == 0 {
		delete(l.groups, m.group.matcher.Selector())
	}
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

func (l *live) setPod(pod *model.Endpoint) {
	old := l.pods[pod.Key.Name]
	l.pods[pod.Key.Name] = pod
	if old != nil && old.Labels == pod.Labels && old.ServiceAccount == pod.ServiceAccount {
		return
	}
	for _, g := range l.groups {
		l.mark(g, pod.Key.Name, l.matches(g, pod))
	}
}

func (l *live) removePod(name string) {
	if _, found := l.pods[name]; !found {
		return
	}
	delete(l.pods, name)
	for _, g := range l.groups {
		l.mark(g, name, false)
	}
}

// mark says whether a group's selector matches a pod.
func (l *live) mark(g *group, pod string, matches bool) {
	before := len(g.pods) > 0
	if matches {
		g.pods[pod] = struct{}{}
	} else {
		delete(g.pods, pod)
	}
	now := len(g.pods) > 0
	if before == now {
		return
	}
	for m := range g.members {
		if now {
			l.activate(m)
		} else {
			l.deactivate(m)
		}
	}
}

// activate translates the peers of the directions that a policy isolates.
func (l *live) activate(m *member) {
	c, p := l.set.config, m.policy
	mesh, problems := c.MeshScope(p, l.space.namespace)
	m.peerProblems = problems
	if p.Ingress {
		l.activateRules(m, mesh, p.IngressRules, "spec.ingress[%d].from[%d]")
	}
	if p.Egress {
		l.activateRules(m, mesh, p.EgressRules, "spec.egress[%d].to[%d]")
	}
}

func (l *live) activateRules(m *member, mesh bool, rules []model.PolicyRule, field string) {
	for i, rule := range rules {
		for j, peer := range rule.Peers {
			sel, ok, problems := l.set.config.peer(m.policy, mesh, peer)
			if len(problems) > 0 {
				m.peerProblems = append(m.peerProblems, within(problems, fmt.Sprintf(field, i, j))...)
			}
			if ok && sel != selector.Never() {
				l.set.want(sel, 1)
				m.wants = append(m.wants, sel)
			}
		}
	}
}

// deactivate undoes activate; more than once is fine.
func (l *live) deactivate(m *member) {
	for _, sel := range m.wants {
		l.set.want(sel, -1)
	}
	m.wants, m.peerProblems = nil, nil
}

func (l *live) translateAgain() {
	for _, m := range l.members {
		if m.active() {
			l.deactivate(m)
			l.activate(m)
		}
	}
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
