package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
)

const (
	maxExamples = 5
	maxExample  = 64 // bytes
	maxNamed    = 20
	maxForeign  = 10
)

// tally counts what is refused, by reason.
type tally []Refused

// add counts one, which a cluster wrote.
func (t *tally) add(r Reason, text string) {
	at := t.at(r)
	at.Count++
	if len(at.Examples) < maxExamples {
		at.Examples = append(at.Examples, shown(text))
	}
}

// address counts one that is an address.
func (t *tally) address(r Reason, a netip.Addr) {
	at := t.at(r)
	at.Count++
	if len(at.Examples) < maxExamples {
		at.Examples = append(at.Examples, a.String())
	}
}

// addresses counts several, which come in no order.
func (t *tally) addresses(r Reason, list []netip.Addr) {
	slices.SortFunc(list, netip.Addr.Compare)
	for _, a := range list {
		t.address(r, a)
	}
}

// all counts what another tally has.
func (t *tally) all(other tally) {
	for _, o := range other {
		at := t.at(o.Reason)
		at.Count += o.Count
		at.Examples = append(at.Examples, o.Examples[:min(len(o.Examples), maxExamples-len(at.Examples))]...)
	}
}

func (t *tally) at(r Reason) *Refused {
	for i := range *t {
		if (*t)[i].Reason == r {
			return &(*t)[i]
		}
	}
	*t = append(*t, Refused{Reason: r})
	return &(*t)[len(*t)-1]
}

// sorted is what was counted, by reason.
func (t tally) sorted() []Refused {
	slices.SortFunc(t, func(a, b Refused) int { return cmp.Compare(a.Reason, b.Reason) })
	return t
}

// shown is a text that a cluster wrote, short and harmless.
func shown(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return a.String()
	}
	return strconv.QuoteToASCII(s[:min(len(s), maxExample)])
}
