package desired

import (
	"fmt"
	"slices"
)

// ruleValidator looks at sides, lists and the sets that they name, each once
// however many pods share it.
type ruleValidator struct {
	*findings
	rules *Rules
	lists map[*List]bool
	sides map[*Side]bool
	used  map[SetID]bool
}

func (v *ruleValidator) side(s *Side, where string) {
	if s == nil || v.sides[s] {
		return
	}
	v.sides[s] = true
	if s.List == nil {
		v.add("%s.List: there is none", where)
		return
	}
	v.list(s.List, where+".List")
	if len(s.Policies) == 0 {
		v.add("%s.Policies: isolated by none", where)
	}
	for i, p := range s.Policies {
		if i > 0 && CompareKeys(s.Policies[i-1], p) >= 0 {
			v.add("%s.Policies: %s: not sorted, or there twice", where, p)
		}
	}
	if len(s.Origins) != len(s.List.Rules) {
		v.add("%s.Origins: %d of %d rules", where, len(s.Origins), len(s.List.Rules))
	}
	for i, origins := range s.Origins {
		v.origins(s, origins, fmt.Sprintf("%s.Origins[%d]", where, i))
	}
}

func (v *ruleValidator) origins(s *Side, origins []Origin, where string) {
	if len(origins) == 0 {
		v.add("%s: the rule comes from nowhere", where)
	}
	for i, o := range origins {
		if i > 0 && origins[i-1].Compare(o) >= 0 {
			v.add("%s: %s: not sorted, or there twice", where, o)
		}
		if o.Rule < 0 || o.Peer < -1 || o.Port < -1 {
			v.add("%s: %s: indexes are from 0, of peer and port from -1", where, o)
		}
		if !slices.Contains(s.Policies, o.Policy) {
			v.add("%s: %s: the policy is not one of those that isolate", where, o)
		}
	}
}

func (v *ruleValidator) list(l *List, where string) {
	if v.lists[l] {
		return
	}
	v.lists[l] = true
	if want := listText(l.Rules); l.Text != want {
		v.add("%s.Text: %q, want that of the rules, %q", where, l.Text, want)
	}
	for i, r := range l.Rules {
		here := fmt.Sprintf("%s.Rules[%d] (%s)", where, i, r)
		if i > 0 && l.Rules[i-1].Compare(r) >= 0 {
			v.add("%s: not in canonical order, or there twice", here)
		}
		v.rule(r, here)
	}
}

func (v *ruleValidator) rule(r Rule, where string) {
	if r.First > r.Last || r.First == 0 && r.Last != 0 {
		v.add("%s: ports %d to %d: want none, or from 1 up", where, r.First, r.Last)
	}
	if !r.AllPorts() && !HasPorts(r.Protocol) {
		v.add("%s: ports without TCP, UDP or SCTP", where)
	}
	p := r.Peer
	switch anyPeer := p == (Peer{}); {
	case anyPeer && r.Family != AnyFamily:
		v.add("%s: a family without a peer", where)
	case !anyPeer && r.Family != IPv4 && r.Family != IPv6:
		v.add("%s: a peer without a family", where)
	}
	switch {
	case p.Set != "":
		if p.Block.IsValid() {
			v.add("%s: a block and a set", where)
		}
		v.ruleSet(r, where)
	case p.Not:
		v.add("%s: not, without a set", where)
	case p != (Peer{}):
		v.prefix(p.Block, where)
		if p.Block.IsValid() && FamilyOf(p.Block.Addr()) != r.Family {
			v.add("%s: the block is not of the rule's family", where)
		}
	}
}

func (v *ruleValidator) ruleSet(r Rule, where string) {
	v.used[r.Peer.Set] = true
	spec, ok := v.rules.set(r.Peer.Set)
	if !ok {
		v.add("%s: the set is not in Sets", where)
		return
	}
	if spec.Family != r.Family {
		v.add("%s: the set is of %s", where, spec.Family)
	}
	if r.Peer.Not && spec.Kind != Networks {
		v.add("%s: not, with a set of %s", where, spec.Kind)
	}
	if spec.Kind == AddressPorts && (r.Protocol != spec.Protocol || !r.AllPorts()) {
		v.add("%s: the set is of ports of %s: want that protocol and no ports", where, protocolText(spec.Protocol))
	}
}

func (v *ruleValidator) sets() {
	for i := range v.rules.Sets {
		s := &v.rules.Sets[i]
		where := fmt.Sprintf("Sets[%d] (%s)", i, s.ID)
		if i > 0 && v.rules.Sets[i-1].ID >= s.ID {
			v.add("%s: not sorted by id, or there twice", where)
		}
		if !v.used[s.ID] {
			v.add("%s: no rule names it", where)
		}
		if s.Family != IPv4 && s.Family != IPv6 {
			v.add("%s: Family: %s, want IPv4 or IPv6", where, s.Family)
		}
		if want := SetIDOf(s.Family, s.Text); s.Text == "" || s.ID != want {
			v.add("%s: want the id of its text, %s", where, want)
		}
		if s.Kind > Networks {
			v.add("%s: Kind: there is no %s", where, s.Kind)
		}
		if (s.Kind == AddressPorts) != HasPorts(s.Protocol) || s.Kind != AddressPorts && s.Protocol != 0 {
			v.add("%s: Protocol: %s, want TCP, UDP or SCTP for ports and none else", where, protocolText(s.Protocol))
		}
		v.networks(s, where)
	}
}

func (v *ruleValidator) networks(s *SetSpec, where string) {
	if s.Kind != Networks && len(s.Networks) > 0 {
		v.add("%s: Networks: in a set of %s", where, s.Kind)
	}
	for i, n := range s.Networks {
		v.prefix(n.Prefix, where+".Networks")
		if n.Prefix.Bits() == 0 {
			v.add("%s.Networks: %s: of prefix length 0", where, n)
		}
		if n.Prefix.IsValid() && FamilyOf(n.Prefix.Addr()) != s.Family {
			v.add("%s.Networks: %s is not %s", where, n, s.Family)
		}
		if i > 0 && s.Networks[i-1].Prefix.Compare(n.Prefix) >= 0 {
			v.add("%s.Networks: %s: not sorted, or there twice", where, n)
		}
	}
}
