package iptables

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// generationOf reads back the generation of the rules that are there: from the
// first rule of the walk, if all the others say the same. 0: it is not known
// which marks count as current, or were given.
func (c Config) generationOf(have Table) uint8 {
	forward := have[chainForward]
	if len(forward) == 0 {
		return 0
	}
	for g := uint8(1); ; g++ {
		m := c.mark(g)
		if forward[0] == (rule{current: true}).text(m) {
			if c.consistent(have, m) {
				return g
			}
			return 0
		}
		if g == c.generations() {
			return 0
		}
	}
}

// consistent tells whether every rule of ours that asks for marks, or sets
// them, means m.
func (c Config) consistent(have Table, m mark) bool {
	asks := " " + (rule{current: true}).text(m)
	sets := " " + (rule{does: marks}).text(m)
	for name, lines := range have {
		if !isOurs(name) {
			continue
		}
		for _, line := range lines {
			line = " " + line
			if strings.Contains(line, " --mark ") && !strings.HasSuffix(line, asks) ||
				strings.Contains(line, "-xmark ") && !strings.HasSuffix(line, sets) {
				return false
			}
		}
	}
	return true
}

// given are the generations that rules of ours set, whatever they look like: a
// packet that is in them now may still give its connection this mark.
func (c Config) given(have Table) []uint8 {
	var all []uint8
	for name, lines := range have {
		if !isOurs(name) {
			continue
		}
		for _, line := range lines {
			_, value, ok := strings.Cut(line, "-xmark ")
			value, _, _ = strings.Cut(value, "/")
			n, err := strconv.ParseUint(value, 0, 32)
			if ok && err == nil {
				all = append(all, uint8((uint32(n)&c.Mask)>>bits.TrailingZeros32(c.Mask)))
			}
		}
	}
	return all
}

// unusedGeneration is the first one, but for those that are still given.
func (c Config) unusedGeneration(have Table) uint8 {
	given := c.given(have)
	for g := uint8(1); g < c.generations(); g++ {
		if !slices.Contains(given, g) {
			return g
		}
	}
	return 1
}
