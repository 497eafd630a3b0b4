package iptables

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
)

// tree is the way from a packet to the rules of a pod by the pod's interface:
// two levels, of 16 wildcard rules and of exact names, because a rule that does
// not match costs 5 ns.
type tree struct {
	first, second string // names of chains; second without its character
	suffix        string
	own           side // where the pod is: source is the interface that a packet comes in by
	egress        bool
}

// trees are all four of them: from and to pods, and their mirrors.
func trees() []tree {
	return []tree{
		{chainFrom, prefixFrom, "", source, true},
		{chainTo, prefixTo, "", destination, false},
		{chainFrom, prefixFrom, mirrorSuffix, destination, true},
		{chainTo, prefixTo, mirrorSuffix, source, false},
	}
}

// knownInterface is one that is let through where no rules are: a pod's, or a
// grandfathered one.
type knownInterface struct {
	name string
	pod  *desired.Endpoint // nil if unknown
}

// known is sorted by name.
func (p *Program) known() []knownInterface {
	var all []knownInterface
	rules := p.State.Rules
	for i := range rules.Endpoints {
		e := &rules.Endpoints[i]
		if !p.isPod(e.Interface.Name) {
			p.problem(e.Pod, "interface %q of pod %s/%s: expected a name of a pod interface, %s and letters and digits",
				e.Interface.Name, e.Pod.Namespace, e.Pod.Name, p.cfg.Prefix)
			continue
		}
		all = append(all, knownInterface{e.Interface.Name, e})
	}
	for _, u := range rules.Unknown {
		if u.Grandfathered && p.isPod(u.Name) {
			all = append(all, knownInterface{u.Name, nil})
		}
	}
	slices.SortFunc(all, func(a, b knownInterface) int { return cmp.Compare(a.name, b.name) })
	return all
}

// bucket is the rules of the second level: first those that lead to rules of
// pods, then those of the rest. A packet of a pod to itself, through a Service,
// is the only one of a pod with rules that the first do not take; so there is
// no rule for it before them, which all others would have to pass.
type bucket struct {
	judged, passed []rule
}

func (c *compiler) dispatch(t tree) {
	buckets := map[string]*bucket{}
	for _, k := range c.known {
		key := bucketOf(k.name[len(c.Program.cfg.Prefix):])
		b := buckets[key]
		if b == nil {
			b = &bucket{}
			buckets[key] = b
		}
		if chain := c.chainOf(k.pod, t); chain != "" {
			b.judged = append(b.judged, t.between(k.name, rule{does: goesTo, chain: chain}))
		}
		if c.State.Rules.Protected {
			b.passed = append(b.passed, t.at(ifMatch{name: k.name}, rule{}))
		}
	}
	var first []rule
	for _, key := range slices.Sorted(maps.Keys(buckets)) {
		rules := append(buckets[key].judged, buckets[key].passed...)
		if key == "" || len(rules) == 0 {
			continue
		}
		name := t.second + key + t.suffix
		c.mangle.put(name, c.closed(rules))
		first = append(first, t.at(ifMatch{name: c.Program.cfg.Prefix + key, wild: true}, rule{does: goesTo, chain: name}))
	}
	if b := buckets[""]; b != nil {
		first = append(append(first, b.judged...), b.passed...)
	}
	c.mangle.put(t.first+t.suffix, c.closed(first))
}

// closed ends a chain of the dispatch: what is of no known interface is dropped
// in protected mode.
func (c *compiler) closed(rules []rule) []rule {
	if c.State.Rules.Protected {
		return append(rules, rule{does: drops})
	}
	return rules
}

// bucketOf is the character that an interface is found by, from what is after
// the prefix; empty: by its whole name at the first level.
func bucketOf(rest string) string {
	if rest == "" || strings.ContainsAny(rest[:1], "._-") {
		return ""
	}
	return rest[:1]
}

// at makes the rule ask for the pod's interface.
func (t tree) at(i ifMatch, r rule) rule {
	if t.own == source {
		r.in = i
	} else {
		r.out = i
	}
	return r
}

// between makes the rule ask for the pod's interface on one side only.
func (t tree) between(name string, r rule) rule {
	r.in, r.out = ifMatch{name: name, not: t.own != source}, ifMatch{name: name, not: t.own == source}
	return r
}

// chainOf is the chain that judges a pod's packets of that tree; empty if none
// has to: no policy isolates it, or its rules allow everything.
func (c *compiler) chainOf(e *desired.Endpoint, t tree) string {
	if e == nil {
		return ""
	}
	s := e.Ingress
	if t.egress {
		s = e.Egress
	}
	if s == nil {
		return ""
	}
	chain := c.policyChain(s.List, t.egress)
	if chain == "" {
		return ""
	}
	return chain + t.suffix
}
