package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/dataplane/delta"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

// retrySoon is when to come back for what is only left over: chains and sets
// that are not in use any more.
const retrySoon = 100 * time.Millisecond

// maxRepaired bounds Report.Repaired: where everything is gone, that is enough.
const maxRepaired = 20

// applying is one Apply.
type applying struct {
	*Dataplane
	ctx    context.Context
	want   *desired.State
	check  bool // read the rules
	report dataplane.Report
	errs   []error
	// unready are the families in which something that the rules need failed:
	// their rules stay as they are.
	unready map[desired.Family]bool
	// locked is that another program holds the lock.
	locked error
	// stuck are addresses that may still be in sets that they left; stuckAll:
	// any address may be.
	stuck    map[netip.Addr]struct{}
	stuckAll map[desired.Family]bool
	repaired int
}

// Apply makes the kernel enforce want, in the order that lets nothing pass in
// between that neither the old nor the new State allows: members, then what
// has been judged by members that left, then rules, then what was left behind.
func (d *Dataplane) Apply(ctx context.Context, want *desired.State) (dataplane.Report, error) {
	if d.bad != nil {
		return dataplane.Report{}, d.bad
	}
	a := &applying{
		Dataplane: d, ctx: ctx, want: want, unready: map[desired.Family]bool{},
		stuck: map[netip.Addr]struct{}{}, stuckAll: map[desired.Family]bool{},
	}
	a.owe()
	a.read()
	a.updateSets()
	for _, f := range d.families {
		a.forgetFlows(f)
	}
	// Also if the generation is to be raised: how long a lock has to be waited
	// for is not known.
	a.sweep(func(*family) bool { return true })
	for _, f := range d.families {
		a.updateRules(f)
	}
	a.sweep(func(f *family) bool { return f.raise }) // the generation could not be raised
	for _, f := range d.families {
		a.forgetAgain(f)
	}
	a.report.Applied = a.inForce()
	if d.untidy {
		a.cleanUp()
	}
	return a.result()
}

// owe notes what want asks for beyond what the last State asked for, before
// anything is tried, so that no failure can lose it.
func (a *applying) owe() {
	d := a.Dataplane
	old, want := d.seen, a.want
	a.check = old == want || d.now().Sub(d.checked) >= d.cfg.CheckInterval
	if d.verify {
		a.check = true
		for _, h := range d.sets {
			h.verify = true
		}
	}
	if old == nil || d.verify {
		for _, spec := range want.Rules.Sets {
			d.behind[spec.ID] = struct{}{}
		}
	}
	switch {
	case old == nil:
		a.compile()
	case old != want:
		change := delta.Between(old, want)
		if change.RulesChanged {
			a.compile()
		}
		a.oweDelta(change)
		for c := range pset.DiffMap(old.Sets, want.Sets) {
			d.behind[c.Key] = struct{}{}
		}
		for c := range pset.DiffMap(old.Released, want.Released) {
			d.lost[c.Key] = struct{}{}
		}
		d.lostAll = d.lostAll || want.ReleasedFloor > old.Gen
	}
	d.seen = want
}

func (a *applying) compile() {
	a.Dataplane.program = compileAfter(a.program, a.want, a.cfg)
	a.untidy = true
	for _, f := range a.families {
		f.upToDate = false
	}
}

func (a *applying) oweDelta(d delta.Delta) {
	for _, spec := range d.Create {
		a.behind[spec.ID] = struct{}{}
	}
	now := a.now()
	for _, f := range a.families {
		if d.Tightened || d.LeftAll {
			f.raise = true
		}
		for _, addr := range d.Left {
			if desired.FamilyOf(addr) == f.family {
				f.leave(addr, now)
			}
		}
		for _, addr := range d.Taken {
			if desired.FamilyOf(addr) == f.family {
				f.taken[addr] = false
			}
		}
	}
}

// ready tells whether the family's rules may be touched.
func (a *applying) ready(f *family) bool { return f.known && !a.unready[f.family] }

func (a *applying) fail(f desired.Family, err error) {
	a.errs = append(a.errs, err)
	a.unready[f] = true
}

func (a *applying) problem(format string, args ...any) {
	a.report.Problems = append(a.report.Problems,
		model.Problem{Kind: model.ProblemDataplane, Message: fmt.Sprintf(format, args...)})
}

func (a *applying) mended(format string, args ...any) {
	if a.repaired++; a.repaired <= maxRepaired {
		a.report.Repaired = append(a.report.Repaired, fmt.Sprintf(format, args...))
	}
}

func (a *applying) retry(after time.Duration) {
	if a.report.Retry == 0 || after < a.report.Retry {
		a.report.Retry = after
	}
}

// inForce tells whether all of want is. A sweep that waits for its time is no
// reason to say that it is not: it comes within a second.
func (a *applying) inForce() bool {
	for _, f := range a.families {
		if !a.ready(f) || f.raise || f.reset || len(f.taken) > 0 {
			return false
		}
	}
	return len(a.errs) == 0 && len(a.behind) == 0
}

func (a *applying) result() (dataplane.Report, error) {
	a.verify = false
	if more := a.repaired - maxRepaired; more > 0 {
		a.report.Repaired = append(a.report.Repaired, fmt.Sprintf("and %d more", more))
	}
	a.report.Problems = append(a.report.Problems, a.program.Problems...)
	for _, f := range a.families {
		for _, line := range f.have.Foreign {
			a.problem("%s: a rule of another program interferes: %s", f.family, line)
		}
	}
	return a.report, errors.Join(a.errs...)
}
