package policy

import (
	"fmt"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// Limits bound what the policies of one namespace may cost a node (semantics
// 2.13). Only policies that select a pod of the node count, in the order of
// their names, and within one in the order in which it is written. A peer that
// does not fit is empty: it allows nothing, its policy isolates all the same,
// and what comes after it is still tried. 0 is the default.
type Limits struct {
	// Selectors is how many distinct peer selectors there may be; with named
	// ports of egress, each pair of selector and port counts. 1,000 by default:
	// each is a test of a set on the path of a connection's first packet, at
	// about 100 ns, so that this bounds it by 0.1 ms.
	Selectors int
	// Members is how many members these may have together, each distinct one
	// counted once. 500,000 by default: the kernel takes that many in less than
	// a second, in 14 MB.
	Members int
	// Rules is how many rules, and how many address ranges with exceptions or in
	// common sets, there may be before equal ones are merged: a rule of many
	// peers and many ports has their product. 50,000 by default: with a table of
	// that many a change of rules takes 0.2 s where the kernel loads tables whole.
	// A named port of ingress counts once; as many more rules may come of pods
	// whose containers give a name several numbers, for each such pod.
	Rules int
}

const (
	defaultSelectors = 1_000
	defaultMembers   = 500_000
	defaultRules     = 50_000
)

func (l Limits) withDefaults() Limits {
	for _, field := range []struct {
		value        *int
		defaultValue int
	}{{&l.Selectors, defaultSelectors}, {&l.Members, defaultMembers}, {&l.Rules, defaultRules}} {
		if *field.value <= 0 {
			*field.value = field.defaultValue
		}
	}
	return l
}

// excess is the limit that a unit does not fit into.
type excess uint8

const (
	fits excess = iota
	pastSelectors
	pastMembers
	pastRules
)

// budget is what is left of a namespace's limits, but for members, while its
// policies are admitted.
type budget struct {
	set   *Set
	wants []*want // distinct, in the order of their coming
	has   map[index.PortQuery]*want
	rules int
}

// take admits a unit, if it fits.
func (b *budget) take(u *unit) excess {
	limits, cost := b.set.limits, u.cost()
	if b.rules+cost > limits.Rules {
		return pastRules
	}
	room := limits.Selectors - len(b.wants)
	for _, name := range u.names {
		if b.has[u.key(name)] == nil {
			if room--; room < 0 {
				return pastSelectors
			}
		}
	}
	b.rules += cost
	u.wants = u.wants[:0]
	for _, name := range u.names {
		key := u.key(name)
		w := b.has[key]
		if w == nil {
			w = b.set.intern(key)
			b.has[key] = w
			b.wants = append(b.wants, w)
		}
		u.wants = append(u.wants, w)
	}
	return fits
}

// admit takes the units of a policy, as far as they fit.
func (l *live) admit(m *member, b *budget) {
	for _, u := range m.units {
		past := b.take(u)
		if past != fits {
			u.wants = nil
		}
		if u.past != past {
			u.past = past
			l.touch(m)
		}
	}
}

// weigh applies the limit of members. It costs as much as there are selectors
// in the namespace.
func (l *live) weigh() {
	l.members = 0
	for _, w := range l.wants {
		l.members += w.size
	}
	limit := l.set.limits.Members
	if l.members <= limit && !l.heavy {
		return
	}
	refused, sum := map[*want]bool{}, 0
	for _, w := range l.wants {
		if sum+w.size > limit {
			refused[w] = true
			continue
		}
		sum += w.size
	}
	l.heavy = len(refused) > 0
	for _, m := range l.policies {
		for _, u := range m.units {
			heavy := false
			for _, w := range u.wants {
				heavy = heavy || refused[w]
			}
			if u.heavy != heavy {
				u.heavy = heavy
				l.touch(m)
			}
		}
	}
}

// excess is what keeps a unit out.
func (u *unit) excess() excess {
	if u.past == fits && u.heavy {
		return pastMembers
	}
	return u.past
}

// limitProblems are those of a policy that is past a limit: one a limit, however
// many peers it has.
func (l *live) limitProblems(m *member) []model.Problem {
	var count [pastRules + 1]int
	var first [pastRules + 1]*unit
	for _, u := range m.units {
		past := u.excess()
		if count[past]++; first[past] == nil {
			first[past] = u
		}
	}
	var problems []model.Problem
	for past := pastSelectors; past <= pastRules; past++ {
		if count[past] == 0 {
			continue
		}
		message := first[past].field() + ": matches nothing"
		if n := count[past] - 1; n > 0 {
			message += fmt.Sprintf(", and %d more after it", n)
		}
		problems = append(problems, model.Problem{
			Kind: model.ProblemLimit, Object: m.policy.Key,
			Message: message + ": expected the policies of this namespace that select pods of this node to have " +
				l.set.limits.text(past),
		})
	}
	return problems
}

// text is what a limit allows.
func (l Limits) text(past excess) string {
	switch past {
	case pastSelectors:
		return fmt.Sprintf("at most %d distinct peer selectors", l.Selectors)
	case pastMembers:
		return fmt.Sprintf("peer selectors with at most %d members together", l.Members)
	}
	return fmt.Sprintf("at most %d rules and address ranges", l.Rules)
}
