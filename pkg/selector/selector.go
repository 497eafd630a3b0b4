package selector

import (
	"unique"

	"github.com/overland-net/overland/pkg/model"
)

const (
	allText   = "all()"
	neverText = "!all()"
)

// Selector is a canonical expression. Selectors are equal by == if and only if
// their canonical texts are. The zero value matches everything.
type Selector struct {
	// The canonical text; the zero handle stands for all().
	text unique.Handle[string]
}

// String is the canonical text. Parse reads it back, unless it was put together
// from more than Parse would read at once.
func (s Selector) String() string {
	if s == (Selector{}) {
		return allText
	}
	return s.text.Value()
}

// Parse reads an expression; an empty one matches everything. The error is a
// *SyntaxError.
func Parse(expr string) (Selector, error) {
	if len(expr) > MaxLength {
		return Selector{}, tooLong()
	}
	n, err := parse(expr, false)
	if err != nil {
		return Selector{}, err
	}
	s := n.selector()
	if len(s.String()) > MaxLength {
		return Selector{}, tooLong()
	}
	return s, nil
}

// FromLabelSelector is the meaning of a Kubernetes label selector. key, unless
// nil, maps its keys into the key space of the Selector.
//
// A requirement that API servers do not let pass matches nothing, whatever its
// operator is, so that no damage opens anything: an unknown operator, In and
// NotIn without values, a key or a value of NotIn that the grammar cannot write.
func FromLabelSelector(s model.LabelSelector, key func(string) string) Selector {
	if len(s) == 0 {
		return All()
	}
	kids := make([]node, 0, len(s))
	for _, r := range s {
		k := r.Key
		if key != nil {
			k = key(k)
		}
		kids = append(kids, requirement(k, r.Operator, r.Values))
	}
	return combine(opAnd, kids).selector()
}

func requirement(key string, operator model.Operator, values []string) node {
	switch operator {
	case model.Exists:
		return hasNode(key)
	case model.DoesNotExist:
		if writableKey(key) {
			return hasNode(key).negated()
		}
	case model.In:
		return inNode(key, values)
	case model.NotIn:
		if len(values) > 0 {
			return notInNode(key, values)
		}
	}
	return node{op: opNever}
}

// All matches everything.
func All() Selector { return Selector{} }

// Never matches nothing.
func Never() Selector { return node{op: opNever}.selector() }

// Eq matches what has the value under the key. A value or key that the grammar
// cannot write matches nothing: a value with both kinds of quote is no valid
// label value.
func Eq(key, value string) Selector { return In(key, value) }

// Has matches what has the key.
func Has(key string) Selector { return hasNode(key).selector() }

// In matches what has one of the values under the key; without values, nothing.
func In(key string, values ...string) Selector { return inNode(key, values).selector() }

// NotIn matches what lacks the key or has none of the values under it; without
// values, everything. A key or a value that the grammar cannot write: nothing.
func NotIn(key string, values ...string) Selector { return notInNode(key, values).selector() }

// And matches what all match; without any, everything.
func And(selectors ...Selector) Selector {
	return combine(opAnd, nodes(selectors)).selector()
}

// Or matches what one of them matches; without any, nothing.
func Or(selectors ...Selector) Selector {
	return combine(opOr, nodes(selectors)).selector()
}

// Not matches what s does not match.
func Not(s Selector) Selector {
	n := s.node()
	return n.negated().selector()
}

func nodes(selectors []Selector) []node {
	kids := make([]node, len(selectors))
	for i, s := range selectors {
		kids[i] = s.node()
	}
	return kids
}

// node is the tree of a canonical text, which always parses.
func (s Selector) node() node {
	n, _ := parse(s.String(), true)
	return n
}

// selector is for a canonical tree.
func (n node) selector() Selector {
	var buffer [256]byte
	text := appendNode(buffer[:0], &n)
	if string(text) == allText {
		return Selector{}
	}
	return Selector{unique.Make(string(text))}
}
