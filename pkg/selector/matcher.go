package selector

import (
	"slices"
)

// Lookup is what a selector is evaluated on.
type Lookup interface {
	// Get is the value under a key, and whether there is one.
	Get(key string) (string, bool)
}

// Matcher is a Selector made ready for evaluation. It is immutable, and safe
// for concurrent use.
type Matcher struct {
	selector Selector
	root     node
}

// Compile makes a Matcher.
func (s Selector) Compile() *Matcher { return &Matcher{s, s.node()} }

// Selector is what it was compiled from.
func (m *Matcher) Selector() Selector { return m.selector }

// Impossible tells a selector that is known to match nothing.
func (m *Matcher) Impossible() bool { return m.root.op == opNever }

// Matches evaluates the selector. It does not allocate.
func (m *Matcher) Matches(l Lookup) bool { return m.root.matches(l) }

func (n *node) matches(l Lookup) bool {
	switch n.op {
	case opAll:
		return true
	case opNever:
		return false
	case opAnd:
		for i := range n.kids {
			if !n.kids[i].matches(l) {
				return false
			}
		}
		return true
	case opOr:
		for i := range n.kids {
			if n.kids[i].matches(l) {
				return true
			}
		}
		return false
	}
	value, found := l.Get(n.key)
	return found && n.holds(value) != n.not || !found && n.not
}

// holds evaluates a leaf, but for its negation, on the value of its key.
func (n *node) holds(value string) bool {
	switch {
	case n.op == opHas:
		return true
	case n.op != opIn:
		return hasText(n.op, value, n.values[0])
	case len(n.values) == 1:
		return value == n.values[0]
	}
	return contains(n.values, value)
}

// Mentions tells whether the canonical text has the key.
func (m *Matcher) Mentions(key string) bool { return m.root.mentions(key) }

func (n *node) mentions(key string) bool {
	return n.leaf() && n.key == key ||
		slices.ContainsFunc(n.kids, func(kid node) bool { return kid.mentions(key) })
}

// Keys is the keys of the canonical text, sorted.
func (m *Matcher) Keys() []string {
	keys := m.root.keys(nil)
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (n *node) keys(keys []string) []string {
	if n.leaf() {
		return append(keys, n.key)
	}
	for i := range n.kids {
		keys = n.kids[i].keys(keys)
	}
	return keys
}
