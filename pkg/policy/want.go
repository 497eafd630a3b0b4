package policy

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/selector"
)

// want is what the index is to track for namespaces of this node: a selector or,
// if its key has a port, the answer to that query.
type want struct {
	key   index.PortQuery
	users map[*live]struct{}
	size  int // members in the last view
	sets  [2]*set
}

// set is a set of rules, and what fills it. It is immutable.
type set struct {
	spec desired.SetSpec
	from index.PortQuery // of kinds Addresses and AddressPorts
}

func plain(s selector.Selector) index.PortQuery { return index.PortQuery{Selector: s} }

// families are those that rules with addresses are about.
func families() [2]desired.Family { return [2]desired.Family{desired.IPv4, desired.IPv6} }

func familyText(f desired.Family) string {
	if f == desired.IPv4 {
		return "ip4"
	}
	return "ip6"
}

// The texts of sets. They decide their names in the kernel: another meaning, or
// another form, needs another version.
const (
	endpointsText = "endpoints v1 "
	portsText     = "ports v1 "
)

// set is that of one family.
func (w *want) set(f desired.Family) *set {
	i := f - desired.IPv4
	if w.sets[i] != nil {
		return w.sets[i]
	}
	spec := desired.SetSpec{Kind: desired.Addresses, Family: f}
	if w.key.Port == "" {
		spec.Text = endpointsText + familyText(f) + " " + w.key.Selector.String()
	} else {
		spec.Kind, spec.Protocol = desired.AddressPorts, w.key.Protocol
		spec.Text = portsText + familyText(f) + " " + w.key.Protocol.String() + " " + strconv.Quote(w.key.Port) + " " + w.key.Selector.String()
	}
	spec.ID = desired.SetIDOf(f, spec.Text)
	w.sets[i] = &set{spec, w.key}
	return w.sets[i]
}

// membersOf are the members of a set in a view.
func (x *set) membersOf(view index.View) desired.Members {
	if x.spec.Kind == desired.AddressPorts {
		m, _ := view.PortMembers(x.from)
		if x.spec.Family == desired.IPv4 {
			return desired.Members{Ports: m.V4}
		}
		return desired.Members{Ports: m.V6}
	}
	m, _ := view.Members(x.from.Selector)
	if x.spec.Family == desired.IPv4 {
		return desired.Members{Addrs: m.V4}
	}
	return desired.Members{Addrs: m.V6}
}

// sizeIn is how many members the sets of both families have.
func (w *want) sizeIn(view index.View) int {
	if w.key.Port != "" {
		m, _ := view.PortMembers(w.key)
		return m.V4.Len() + m.V6.Len()
	}
	m, _ := view.Members(w.key.Selector)
	return m.V4.Len() + m.V6.Len()
}

// intern is the want of a key, made if there is none. Who uses it says so by
// replaceWants.
func (s *Set) intern(key index.PortQuery) *want {
	w := s.wanted[key]
	if w == nil {
		s.note(key)
		w = &want{key: key, users: map[*live]struct{}{}}
		s.wanted[key] = w
		s.fresh = append(s.fresh, w)
	}
	return w
}

// note keeps whether a key was wanted at the last Update, before that changes.
func (s *Set) note(key index.PortQuery) {
	if _, noted := s.before[key]; !noted {
		s.before[key] = s.wanted[key] != nil
	}
}

// replaceWants says what a namespace wants now.
func (l *live) replaceWants(now []*want) {
	s := l.set
	s.unweighed[l] = struct{}{}
	if slices.Equal(l.wants, now) {
		return
	}
	keep := make(map[*want]struct{}, len(now))
	for _, w := range now {
		keep[w] = struct{}{}
		w.users[l] = struct{}{}
	}
	for _, w := range l.wants {
		if _, kept := keep[w]; kept {
			continue
		}
		if delete(w.users, l); len(w.users) == 0 {
			s.note(w.key)
			delete(s.wanted, w.key)
		}
	}
	l.wants = now
}

// Update is how what the index must track has changed since the last call: the
// selectors and the queries for named ports, each sorted by text. Nothing that
// matches nothing is ever wanted.
func (s *Set) Update() (track, untrack []selector.Selector, trackPorts, untrackPorts []index.PortQuery) {
	s.settle()
	for key, before := range s.before {
		now := s.wanted[key] != nil
		switch {
		case now == before:
		case key.Port == "" && now:
			track = append(track, key.Selector)
		case key.Port == "":
			untrack = append(untrack, key.Selector)
		case now:
			trackPorts = append(trackPorts, key)
		default:
			untrackPorts = append(untrackPorts, key)
		}
	}
	clear(s.before)
	byText := func(a, b selector.Selector) int { return strings.Compare(a.String(), b.String()) }
	slices.SortFunc(track, byText)
	slices.SortFunc(untrack, byText)
	slices.SortFunc(trackPorts, compareQueries)
	slices.SortFunc(untrackPorts, compareQueries)
	return track, untrack, trackPorts, untrackPorts
}

func compareQueries(a, b index.PortQuery) int {
	if c := strings.Compare(a.Selector.String(), b.Selector.String()); c != 0 {
		return c
	}
	if c := strings.Compare(a.Port, b.Port); c != 0 {
		return c
	}
	return int(a.Protocol) - int(b.Protocol)
}

// Wanted is the selectors that active policies need now, in no order; those that
// are needed for named ports only are not among them.
func (s *Set) Wanted() iter.Seq[selector.Selector] {
	s.settle()
	return func(yield func(selector.Selector) bool) {
		for key := range s.wanted {
			if key.Port == "" && !yield(key.Selector) {
				return
			}
		}
	}
}
