package selector

import (
	"slices"
	"strings"
)

// mergeLimit bounds the comparisons of values with texts in merging, so that an
// expression cannot cost more than its length: past it both are left standing.
const mergeLimit = 1 << 16

// mergeLeaves sorts leaves that must all hold and merges those of one key. Not
// possible: they contradict each other. Those of a disjunction, of which one
// must hold, are merged as the conjunction of their opposites.
func mergeLeaves(leaves []node, disjunction bool) (merged []node, possible bool) {
	slices.SortFunc(leaves, compareNodes)
	flip(leaves, disjunction)
	merged = leaves[:0]
	for len(leaves) > 0 {
		size := 1
		for size < len(leaves) && leaves[size].key == leaves[0].key {
			size++
		}
		if size == 1 {
			merged = append(merged, leaves[0])
		} else {
			of, ok := mergeKey(leaves[:size])
			if !ok {
				return nil, false
			}
			merged = append(merged, of...) // never more than there were
		}
		leaves = leaves[size:]
	}
	flip(merged, disjunction)
	slices.SortFunc(merged, compareNodes)
	return merged, true
}

func flip(leaves []node, yes bool) {
	if !yes {
		return
	}
	for i := range leaves {
		leaves[i].not = !leaves[i].not
	}
}

// demands is what a conjunction says of one key.
type demands struct {
	present, absent bool
	limited         bool     // to oneOf
	oneOf, noneOf   []string // sorted, different
	texts           []node   // sorted, different
}

// mergeKey is the shortest form of leaves of one key that must all hold.
func mergeKey(leaves []node) (merged []node, possible bool) {
	key := leaves[0].key
	d := demand(leaves)
	if d.contradictory() {
		return nil, false
	}
	if d.absent {
		return []node{{op: opHas, not: true, key: key}}, true
	}
	if d.limited {
		d.oneOf = slices.DeleteFunc(d.oneOf, func(v string) bool { return contains(d.noneOf, v) })
		if len(d.oneOf)*len(d.texts) <= mergeLimit {
			d.oneOf = slices.DeleteFunc(d.oneOf, func(v string) bool { return !d.suits(v) })
			d.texts = nil
		}
		if len(d.oneOf) == 0 {
			return nil, false
		}
		return append(d.texts, node{op: opIn, key: key, values: d.oneOf}), true
	}
	if len(d.noneOf)*len(d.texts) <= mergeLimit {
		// What the texts exclude need not be excluded again.
		d.noneOf = slices.DeleteFunc(d.noneOf, func(v string) bool { return !d.suits(v) })
	}
	merged = d.texts
	if len(d.noneOf) > 0 {
		merged = append(merged, node{op: opIn, not: true, key: key, values: d.noneOf})
	}
	if d.present && !slices.ContainsFunc(d.texts, func(t node) bool { return !t.not }) {
		merged = append(merged, node{op: opHas, key: key})
	}
	return merged, true
}

func demand(leaves []node) demands {
	var d demands
	for _, l := range leaves {
		switch {
		case l.op == opHas && l.not:
			d.absent = true
		case l.op == opHas:
			d.present = true
		case l.op == opIn && l.not:
			d.noneOf = append(d.noneOf, l.values...)
		case l.op == opIn && !d.limited:
			d.limited, d.present = true, true
			d.oneOf = slices.Clone(l.values)
		case l.op == opIn:
			d.oneOf = slices.DeleteFunc(d.oneOf, func(v string) bool { return !contains(l.values, v) })
		default:
			d.texts = append(d.texts, l)
			d.present = d.present || !l.not
		}
	}
	slices.Sort(d.noneOf)
	d.noneOf = slices.Compact(d.noneOf)
	slices.SortFunc(d.texts, compareNodes)
	d.texts = slices.CompactFunc(d.texts, func(a, b node) bool { return compareNodes(a, b) == 0 })
	return d
}

func (d *demands) contradictory() bool {
	for i := 1; i < len(d.texts); i++ {
		a, b := d.texts[i-1], d.texts[i]
		if a.op == b.op && a.values[0] == b.values[0] { // one of them is negated
			return true
		}
	}
	return d.absent && d.present
}

// suits tells whether a value fulfils all texts.
func (d *demands) suits(value string) bool {
	return !slices.ContainsFunc(d.texts, func(t node) bool {
		return hasText(t.op, value, t.values[0]) == t.not
	})
}

func hasText(op operation, value, text string) bool {
	switch op {
	case opContains:
		return strings.Contains(value, text)
	case opStartsWith:
		return strings.HasPrefix(value, text)
	default:
		return strings.HasSuffix(value, text)
	}
}

func contains(sorted []string, v string) bool {
	_, found := slices.BinarySearch(sorted, v)
	return found
}
