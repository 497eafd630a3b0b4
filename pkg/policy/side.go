package policy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// assign gives each pod of the namespace its sides.
func (l *live) assign() {
	l.unassigned = false
	for _, p := range l.pods {
		p.groups = p.groups[:0]
	}
	for _, g := range l.groups {
		g.prepare()
		for _, p := range g.pods {
			p.groups = append(p.groups, g)
		}
	}
	next := [2]map[string]*desired.Side{{}, {}}
	var key []byte
	for _, p := range l.pods {
		slices.SortFunc(p.groups, func(a, b *group) int { return cmp.Compare(a.version, b.version) })
		for _, d := range directions() {
			if key = p.sideKey(key[:0], d); len(key) == 0 {
				p.sides[d] = nil
				continue
			}
			side := next[d][string(key)]
			if side == nil {
				if side = l.sides[d][string(key)]; side == nil {
					side = l.side(p, d, next[d])
				}
				next[d][string(key)] = side
			}
			p.sides[d] = side
		}
	}
	l.sides = next
	l.keepCrowded()
	for _, m := range l.policies {
		l.resolve(m)
	}
}

// keepCrowded forgets the Problems of sides that no pod has any more.
func (l *live) keepCrowded() {
	if len(l.crowded) == 0 {
		return
	}
	kept := map[*desired.Side]model.Problem{}
	for _, side := range l.sides[ingress] {
		if problem, ok := l.crowded[side]; ok {
			kept[side] = problem
		}
	}
	l.crowded = kept
}

// prepare brings up to date what is made of a group's policies.
func (g *group) prepare() {
	if g.ready == g.version {
		return
	}
	g.ready = g.version
	g.sorted = slices.SortedFunc(maps.Keys(g.members), compareMembers)
	g.isolates, g.names = [2]bool{}, nil
	for _, m := range g.sorted {
		for _, d := range directions() {
			_, isolated := isolates(m.policy, d)
			g.isolates[d] = g.isolates[d] || isolated
		}
		if len(g.pods) == 0 {
			continue
		}
		for _, t := range m.of(ingress) {
			if t.name.name != "" {
				if g.names == nil {
					g.names = map[portName]struct{}{}
				}
				g.names[t.name] = struct{}{}
			}
		}
	}
}

func compareMembers(a, b *member) int {
	return strings.Compare(a.policy.Key.Name, b.policy.Key.Name)
}

// of is the terms of one direction.
func (m *member) of(d direction) []term {
	if !m.expanded {
		m.expanded, m.terms = true, [2][]term{}
		for _, u := range m.units {
			if u.excess() == fits {
				m.terms[u.direction] = u.terms(m.terms[u.direction])
			}
		}
	}
	return m.terms[d]
}

// sideKey appends what makes the side of a pod: the versions of the groups that
// isolate it and, of ingress, the named ports that their rules use. It appends
// nothing if no policy isolates the pod.
func (p *localPod) sideKey(key []byte, d direction) []byte {
	for _, g := range p.groups {
		if g.isolates[d] {
			key = binary.BigEndian.AppendUint64(key, g.version)
		}
	}
	if d == egress || len(key) == 0 {
		return key
	}
	for _, port := range p.Ports {
		name := portName{port.Name, port.Protocol}
		if slices.ContainsFunc(p.groups, func(g *group) bool { _, used := g.names[name]; return used }) {
			key = append(key, byte(port.Protocol), byte(port.Port>>8), byte(port.Port))
			key = append(binary.AppendUvarint(key, uint64(len(port.Name))), port.Name...)
		}
	}
	return key
}

// side merges the terms of all policies that isolate a pod in a direction. One
// of equal content, if there is one before or among those made now, is taken
// again.
func (l *live) side(p *localPod, d direction, now map[string]*desired.Side) *desired.Side {
	var members []*member
	for _, g := range p.groups {
		members = append(members, g.sorted...)
	}
	slices.SortFunc(members, compareMembers)
	merged := merger{origins: map[desired.Rule][]desired.Origin{}, sets: map[desired.SetID]*set{}, room: l.set.limits.Rules}
	side := &desired.Side{}
	for _, m := range members {
		if _, isolated := isolates(m.policy, d); !isolated {
			continue
		}
		side.Policies = append(side.Policies, m.policy.Key)
		terms := m.of(d)
		for i := range terms {
			merged.add(&terms[i], m.policy.Key, p)
		}
	}
	side.List = l.set.list(slices.Collect(maps.Keys(merged.origins)), merged.sets)
	side.Origins = make([][]desired.Origin, len(side.List.Rules))
	for i, rule := range side.List.Rules {
		origins := merged.origins[rule]
		slices.SortFunc(origins, desired.Origin.Compare)
		side.Origins[i] = slices.Compact(origins)
	}
	for _, sides := range []map[string]*desired.Side{l.sides[d], now} {
		for _, other := range sides {
			if sameSide(side, other) {
				return other
			}
		}
	}
	if merged.crowded != nil {
		l.crowded[side] = *merged.crowded
	}
	return side
}

// merger is rules, each with where it comes from.
type merger struct {
	origins map[desired.Rule][]desired.Origin
	sets    map[desired.SetID]*set
	// room is how many more rules there may be because containers give one name
	// to several numbers: the limit of rules counts one for each. crowded is what
	// to say if that was not enough.
	room    int
	crowded *model.Problem
}

func (m *merger) add(t *term, policy model.Key, p *localPod) {
	if t.name.name == "" {
		m.put(t, t.rule, policy)
		return
	}
	several := false
	for _, port := range p.Ports {
		if t.name != (portName{port.Name, port.Protocol}) || port.Port == 0 {
			continue
		}
		if several {
			m.room--
		}
		if several = true; m.room < 0 {
			m.crowd(t, policy, p)
			return
		}
		rule := t.rule
		rule.First, rule.Last = port.Port, port.Port
		m.put(t, rule, policy)
	}
}

// crowd says what is left out, once.
func (m *merger) crowd(t *term, policy model.Key, p *localPod) {
	m.room = 0 // each name still has its first number
	if m.crowded == nil {
		m.crowded = &model.Problem{Kind: model.ProblemLimit, Object: policy, Message: fmt.Sprintf(
			"%s.ports[%d].port: not all numbers of %s match in pod %s, nor of names after it: expected its containers to give fewer numbers one name",
			ingress.rulesField(t.unit.rule), t.port, printable(t.name.name), p.Key.Name)}
	}
}

func (m *merger) put(t *term, rule desired.Rule, policy model.Key) {
	m.origins[rule] = t.appendOrigins(m.origins[rule], policy)
	if t.set != nil {
		m.sets[t.set.spec.ID] = t.set
	}
}

func sameSide(a, b *desired.Side) bool {
	return a.List == b.List && slices.Equal(a.Policies, b.Policies) &&
		slices.EqualFunc(a.Origins, b.Origins, func(a, b []desired.Origin) bool { return slices.Equal(a, b) })
}

// list is the list of rules: the one that is in use already, if there is one.
func (s *Set) list(rules []desired.Rule, sets map[desired.SetID]*set) *desired.List {
	made := desired.NewList(rules)
	if known := s.texts[made.Text]; known != nil {
		return known
	}
	s.texts[made.Text] = made
	s.lists[made] = slices.Collect(maps.Values(sets))
	return made
}

// resolve finds the named ports of a policy's ingress rules that none of the
// pods of this node which it selects has. That some have it and others have not
// is as it should be: a policy may be for both.
func (l *live) resolve(m *member) {
	m.unresolved = nil
	if !m.active() || len(m.group.names) == 0 {
		return
	}
	type place struct{ rule, port int }
	seen := map[place]struct{}{}
	terms := m.of(ingress)
	for i := range terms {
		t := &terms[i]
		at := place{t.unit.rule, t.port}
		if _, known := seen[at]; known || t.name.name == "" {
			continue
		}
		seen[at] = struct{}{}
		if !m.group.has(t.name) {
			m.unresolved = append(m.unresolved, model.Problem{Kind: model.ProblemPolicy, Object: m.policy.Key, Message: fmt.Sprintf(
				"%s.ports[%d].port: %s matches nothing: expected the name of a %s port of a selected pod; none on this node has one",
				ingress.rulesField(t.unit.rule), t.port, printable(t.name.name), t.name.protocol)})
		}
	}
}

// has tells whether any of the pods has the named port.
func (g *group) has(name portName) bool {
	for _, p := range g.pods {
		for _, port := range p.Ports {
			if name == (portName{port.Name, port.Protocol}) {
				return true
			}
		}
	}
	return false
}
