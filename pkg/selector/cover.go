package selector

import (
	"cmp"
	"slices"
	"strings"
)

// Term is a simple condition that can be looked up: a key has a value.
type Term struct {
	Key, Value string
	AnyValue   bool // the key is there; Value is empty
}

// Covers is what is necessary for a match: what the selector matches fulfils at
// least one Term of each cover. The best comes first: terms with values before
// AnyValue, then the fewest terms. Nothing is known of a selector without
// covers, such as all() and a != "x"; one that is Impossible has none either.
func (m *Matcher) Covers() [][]Term { return m.root.covers() }

func (n *node) covers() [][]Term {
	var covers [][]Term
	switch {
	case n.op == opAnd:
		for i := range n.kids {
			covers = append(covers, n.kids[i].covers()...)
		}
		slices.SortStableFunc(covers, compareCovers)
	case n.op == opOr:
		if c := n.anyCover(); c != nil {
			covers = [][]Term{c}
		}
	case !n.leaf() || n.not:
	case n.op == opIn:
		cover := make([]Term, len(n.values))
		for i, v := range n.values {
			cover[i] = Term{Key: n.key, Value: v}
		}
		covers = [][]Term{cover}
	default:
		covers = [][]Term{{{Key: n.key, AnyValue: true}}}
	}
	return covers
}

// anyCover is the best cover of each branch of a disjunction, together.
func (n *node) anyCover() []Term {
	var cover []Term
	for i := range n.kids {
		of := n.kids[i].covers()
		if len(of) == 0 {
			return nil
		}
		cover = append(cover, of[0]...)
	}
	slices.SortFunc(cover, func(a, b Term) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), compareBools(b.AnyValue, a.AnyValue), strings.Compare(a.Value, b.Value))
	})
	// A key with any value makes its values superfluous; it comes before them.
	kept := cover[:0]
	for _, t := range cover {
		if len(kept) > 0 && kept[len(kept)-1].Key == t.Key && (kept[len(kept)-1].AnyValue || kept[len(kept)-1] == t) {
			continue
		}
		kept = append(kept, t)
	}
	return kept
}

func compareCovers(a, b []Term) int {
	return cmp.Or(compareBools(hasAny(a), hasAny(b)), cmp.Compare(len(a), len(b)))
}

func hasAny(cover []Term) bool {
	return slices.ContainsFunc(cover, func(t Term) bool { return t.AnyValue })
}

// compareBools puts false first.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
