package selector

import (
	"cmp"
	"slices"
	"strings"
)

// operation is what a node does.
type operation uint8

const (
	opAll operation = iota
	opNever
	// The leaves: has a key, one of some values, or a text in its value.
	opHas
	opIn
	opContains
	opStartsWith
	opEndsWith
	// The composites.
	opAnd
	opOr
)

// node is a tree of operations. Trees are made by the functions here, and are
// canonical: no constant but alone, no composite in one of its own kind, kids
// and values sorted and different.
type node struct {
	op     operation
	not    bool     // of a leaf
	key    string   // of a leaf
	values []string // of opIn, at least one; of the texts, one that is not empty
	kids   []node   // of a composite, at least two
}

func (n *node) leaf() bool { return n.op >= opHas && n.op <= opEndsWith }

// writableKey tells whether the grammar has the key.
func writableKey(key string) bool {
	if key == "" || len(key) > MaxKey {
		return false
	}
	for i := range len(key) {
		if !keyByte(key[i]) {
			return false
		}
	}
	return true
}

// writableValue: there are no escapes, so one of the quotes must be free.
func writableValue(value string) bool {
	return !strings.Contains(value, `"`) || !strings.Contains(value, `'`)
}

func hasNode(key string) node {
	if !writableKey(key) {
		return node{op: opNever}
	}
	return node{op: opHas, key: key}
}

// inNode leaves values out that cannot be written: no label has them.
func inNode(key string, values []string) node {
	sorted := make([]string, 0, len(values))
	for _, v := range values {
		if writableValue(v) {
			sorted = append(sorted, v)
		}
	}
	if len(sorted) == 0 || !writableKey(key) {
		return node{op: opNever}
	}
	slices.Sort(sorted)
	return node{op: opIn, key: key, values: slices.Compact(sorted)}
}

// notInNode never matches if something of it cannot be written: what is closed
// by mistake is safe, what is open by mistake is not.
func notInNode(key string, values []string) node {
	if !writableKey(key) || !all(values, writableValue) {
		return node{op: opNever}
	}
	n := inNode(key, values)
	return n.negated()
}

func all(values []string, f func(string) bool) bool {
	return !slices.ContainsFunc(values, func(v string) bool { return !f(v) })
}

// textNode is contains, starts with or ends with. Every value has the empty text.
func textNode(op operation, key, text string) node {
	if text == "" {
		return hasNode(key)
	}
	return node{op: op, key: key, values: []string{text}}
}

// negated pushes a negation down to the leaves.
func (n node) negated() node {
	switch n.op {
	case opAll:
		n.op = opNever
	case opNever:
		n.op = opAll
	case opAnd, opOr:
		kids := make([]node, len(n.kids))
		for i := range n.kids {
			kids[i] = n.kids[i].negated()
		}
		return combine(opAnd+opOr-n.op, kids)
	default:
		n.not = !n.not
	}
	return n
}

// combine is the canonical conjunction or disjunction of canonical trees. It
// may reorder kids.
func combine(op operation, kids []node) node {
	neutral, absorbing := opAll, opNever
	if op == opOr {
		neutral, absorbing = opNever, opAll
	}
	leaves, composites := make([]node, 0, len(kids)), []node(nil)
	for i := range kids {
		flat := kids[i : i+1]
		if kids[i].op == op {
			flat = kids[i].kids
		}
		for j := range flat {
			switch {
			case flat[j].op == neutral:
			case flat[j].op == absorbing:
				return node{op: absorbing}
			case flat[j].leaf():
				leaves = append(leaves, flat[j])
			default:
				composites = append(composites, flat[j])
			}
		}
	}
	leaves, possible := mergeLeaves(leaves, op == opOr)
	if !possible {
		return node{op: absorbing}
	}
	slices.SortFunc(composites, compareNodes)
	composites = slices.CompactFunc(composites, func(a, b node) bool { return compareNodes(a, b) == 0 })
	// x && (x || y) is x, and so is x || (x && y).
	composites = slices.DeleteFunc(composites, func(c node) bool {
		return slices.ContainsFunc(c.kids, func(kid node) bool {
			_, found := slices.BinarySearchFunc(leaves, kid, compareNodes)
			return found
		})
	})
	switch found := append(leaves, composites...); len(found) {
	case 0:
		return node{op: neutral}
	case 1:
		return found[0]
	default:
		return node{op: op, kids: found}
	}
}

// compareNodes orders leaves by key and before composites.
func compareNodes(a, b node) int {
	if a.leaf() != b.leaf() {
		if a.leaf() {
			return -1
		}
		return 1
	}
	if c := strings.Compare(a.key, b.key); c != 0 {
		return c
	}
	if c := cmp.Compare(a.op, b.op); c != 0 {
		return c
	}
	if c := slices.Compare(a.values, b.values); c != 0 {
		return c
	}
	if a.not != b.not {
		if b.not {
			return -1
		}
		return 1
	}
	return slices.CompareFunc(a.kids, b.kids, compareNodes)
}
