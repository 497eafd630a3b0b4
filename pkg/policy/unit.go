package policy

import (
	"fmt"
	"slices"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// direction is that of rules.
type direction uint8

const (
	ingress direction = iota
	egress
)

func directions() [2]direction { return [2]direction{ingress, egress} }

// rulesField and peersField are what the API calls them.
func (d direction) rulesField(rule int) string {
	if d == ingress {
		return fmt.Sprintf("spec.ingress[%d]", rule)
	}
	return fmt.Sprintf("spec.egress[%d]", rule)
}

func (d direction) peersField() string {
	if d == ingress {
		return "from"
	}
	return "to"
}

// isolates tells whether a policy isolates its pods in a direction, and what it
// allows then.
func isolates(p *model.Policy, d direction) ([]model.PolicyRule, bool) {
	if d == ingress {
		return p.IngressRules, p.Ingress
	}
	return p.EgressRules, p.Egress
}

// unit is what one rule of a policy allows to one of its peers, or to several
// blocks that have one set: the product of its ports and its forms or, for
// selectors, of its ports and both families.
type unit struct {
	direction direction
	rule      int
	peers     []int // which of the rule's; -1 if it has none
	ports     []port
	forms     []form
	selector  selector.Selector // if there are no forms
	names     []portName        // distinct: each a set of endpoints that the selector needs
	// What came of the limits: wants are in the places of names, while it fits.
	// heavy: one of them is past the limit of members.
	past  excess
	heavy bool
	wants []*want
}

// form is one way to say a peer that has no selector.
type form struct {
	family desired.Family
	peer   desired.Peer
	set    *set // of peer.Set
}

// port is what a unit says of ports.
type port struct {
	protocol    model.Protocol // 0: any
	first, last uint16
	name        string
	at          int // index in the rule's ports; -1 if it has none
}

// portName is a named port without its number.
type portName struct {
	name     string
	protocol model.Protocol
}

// cost is how many rules, or origins of rules, it makes at most, and how many
// ranges are in its sets.
func (u *unit) cost() int {
	each := max(len(u.peers), len(u.forms))
	if u.forms == nil {
		each = 2 // one a family
	}
	cost := len(u.ports) * each
	for _, f := range u.forms {
		if f.set != nil {
			cost += len(f.set.spec.Networks)
		}
	}
	return cost
}

// field is where its first peer stands.
func (u *unit) field() string {
	if u.peers[0] < 0 {
		return u.direction.rulesField(u.rule)
	}
	return fmt.Sprintf("%s.%s[%d]", u.direction.rulesField(u.rule), u.direction.peersField(), u.peers[0])
}

// translation of the rules of one direction of a policy into units.
type reader struct {
	config    Config
	policy    *model.Policy
	mesh      bool
	direction direction
	rule      int // that is being read
	units     []*unit
	problems  []model.Problem
}

func (r *reader) problem(field, format string, args ...any) {
	r.problems = append(r.problems, model.Problem{
		Kind: model.ProblemPolicy, Object: r.policy.Key,
		Message: r.direction.rulesField(r.rule) + field + ": " + fmt.Sprintf(format, args...),
	})
}

// add keeps a unit, unless it has no ports and so allows nothing.
func (r *reader) add(u unit) {
	if len(u.ports) == 0 {
		return
	}
	u.direction, u.rule = r.direction, r.rule
	r.units = append(r.units, &u)
}

// queried tells a port whose number each peer decides by itself: a named one of
// egress (semantics 2.9).
func (d direction) queried(p port) bool { return d == egress && p.name != "" }

// namesOf are those of the sets that a selector needs with ports, distinct: one
// without a name for all ports that are numbers, one for each named one whose
// number the peers decide.
func (d direction) namesOf(ports []port) []portName {
	var names []portName
	known := map[portName]struct{}{}
	for _, p := range ports {
		name := portName{}
		if d.queried(p) {
			name = portName{p.name, p.protocol}
		}
		if _, ok := known[name]; !ok {
			known[name] = struct{}{}
			names = append(names, name)
		}
	}
	return names
}

// key is that of one of a selector's sets.
func (u *unit) key(name portName) index.PortQuery {
	return index.PortQuery{Selector: u.selector, Port: name.name, Protocol: name.protocol}
}

// read reads one rule.
func (r *reader) read(rule model.PolicyRule) {
	ports := r.ports(rule)
	numbers, names := ports, []port(nil)
	if r.direction == egress {
		numbers, names = split(ports)
	}
	if rule.AnyPeer && len(rule.Peers) == 0 {
		none := []int{-1}
		r.add(unit{peers: none, ports: numbers, forms: []form{{}}})
		if len(names) > 0 {
			// The pods in scope, of all namespaces (semantics 2.9).
			all, _, _ := r.config.peer(r.policy, r.mesh, model.PolicyPeer{Namespaces: &model.LabelSelector{}})
			r.add(unit{peers: none, ports: names, selector: all, names: r.direction.namesOf(names)})
		}
		return
	}
	r.blocks(rule.Peers, numbers)
	all, plain := r.direction.namesOf(ports), r.direction.namesOf(numbers)
	block, node := -1, -1 // the first ones
	for i, peer := range rule.Peers {
		if peer.Block.IsValid() {
			block = first(block, i)
			continue
		}
		s, ok, problems := r.config.peer(r.policy, r.mesh, peer)
		if len(problems) > 0 {
			field := fmt.Sprintf("%s.%s[%d]", r.direction.rulesField(r.rule), r.direction.peersField(), i)
			r.problems = append(r.problems, within(problems, field)...)
		}
		switch {
		case !ok || s == selector.Never():
		case peer.Pods != nil && requiresNode(*peer.Pods):
			node = first(node, i)
			r.add(unit{peers: []int{i}, ports: numbers, selector: s, names: plain})
		default:
			r.add(unit{peers: []int{i}, ports: ports, selector: s, names: all})
		}
	}
	r.unresolvable(names, block, "an ipBlock")
	r.unresolvable(names, node, "nodes")
}

func first(known, i int) int {
	if known < 0 {
		return i
	}
	return known
}

// split takes named ports from the others.
func split(ports []port) (numbers, names []port) {
	for _, p := range ports {
		if p.name == "" {
			numbers = append(numbers, p)
		} else {
			names = append(names, p)
		}
	}
	return numbers, names
}

// unresolvable reports named ports of egress to a peer that has none, if there
// is one: each port once, however many such peers there are.
func (r *reader) unresolvable(names []port, peer int, what string) {
	if peer < 0 {
		return
	}
	for _, p := range names {
		r.problem(fmt.Sprintf(".ports[%d].port", p.at), "%s has no number with %s[%d], %s: expected pods, or a number",
			printable(p.name), r.direction.peersField(), peer, what)
	}
}

// ports are those of a rule that can be understood. A rule of which none can has
// none, which is not the same as one that names none.
func (r *reader) ports(rule model.PolicyRule) []port {
	if rule.AnyPort && len(rule.Ports) == 0 {
		return []port{{at: -1}}
	}
	ports := make([]port, 0, len(rule.Ports))
	for i, p := range rule.Ports {
		field := fmt.Sprintf(".ports[%d]", i)
		switch {
		case p.Protocol != model.TCP && p.Protocol != model.UDP && p.Protocol != model.SCTP:
			r.problem(field, "protocol %d matches nothing: expected TCP, UDP or SCTP", p.Protocol)
		case p.Name != "" && (p.First != 0 || p.Last != 0):
			r.problem(field, "the named port %s with numbers matches nothing: expected one or the other", printable(p.Name))
		case p.Last < p.First || p.First == 0 && p.Last != 0:
			r.problem(field, "ports %d to %d match nothing: expected numbers from 1 to 65535, endPort not below port", p.First, p.Last)
		default:
			ports = append(ports, port{p.Protocol, p.First, p.Last, p.Name, i})
		}
	}
	return ports
}

// term is a rule and where it comes from. That of a named port of ingress is a
// rule for each number that the pod gives the name.
type term struct {
	rule desired.Rule
	name portName
	unit *unit
	port int
	set  *set // of rule.Peer.Set
}

// terms appends those of a unit that is admitted.
func (u *unit) terms(to []term) []term {
	for _, p := range u.ports {
		t := term{unit: u, port: p.at, rule: desired.Rule{Protocol: p.protocol, First: p.first, Last: p.last}}
		if u.direction == ingress && p.name != "" {
			t.name = portName{p.name, p.protocol}
		}
		for _, f := range u.forms {
			t.rule.Family, t.rule.Peer, t.set = f.family, f.peer, f.set
			to = append(to, t)
		}
		if u.forms != nil {
			continue
		}
		name := portName{}
		if u.direction.queried(p) {
			name = portName{p.name, p.protocol}
		}
		w := u.wants[slices.Index(u.names, name)]
		for _, family := range families() {
			t.set = w.set(family)
			t.rule.Family, t.rule.Peer = family, desired.Peer{Set: t.set.spec.ID}
			to = append(to, t)
		}
	}
	return to
}

// appendOrigins gives the parts of a policy that a term comes from.
func (t *term) appendOrigins(to []desired.Origin, policy model.Key) []desired.Origin {
	for _, peer := range t.unit.peers {
		to = append(to, desired.Origin{Policy: policy, Rule: t.unit.rule, Peer: peer, Port: t.port})
	}
	return to
}
