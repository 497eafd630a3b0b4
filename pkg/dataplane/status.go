package dataplane

import (
	"slices"
	"time"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// Status is how a Loop is doing at one moment. It is immutable.
type Status struct {
	// Name is that of the dataplane, Backend the way in which it works; empty if
	// there is one way only or it is not open.
	Name, Backend string
	// Wanted and Applied are the Gens of the newest State and of the last one
	// that came into force, whole; 0 is none, or the one before all.
	Wanted, Applied uint64
	// State is the one that is applied; nil is none.
	State *desired.State
	// InForce: there is a wanted State, it is applied, and the kernel was found
	// to hold it since.
	InForce bool
	// WantedSince is since when the wanted State, or the ones before it, are not
	// in force; zero if it is.
	WantedSince time.Time
	// AppliedAt is the end of the last Apply that did not fail.
	AppliedAt time.Time
	// Error is that of the last Apply, empty if it did not fail; ErrorSince is
	// the end of the first of the Failures in a row.
	Error      string
	ErrorSince time.Time
	Failures   int
	// Repaired is what the last readback that found differences has mended.
	Repaired   []string
	RepairedAt time.Time
	// Problems are those of the last Report, and one more while it fails.
	Problems []model.Problem
	Totals   Totals
}

// Totals are sums over a Loop's life, but for what is said to be the last or
// the longest.
type Totals struct {
	Applies      uint64 // all calls
	Failures     uint64 // those that failed
	Transactions uint64
	SetsCreated  uint64
	SetsRemoved  uint64
	Added        uint64 // members
	Deleted      uint64
	Sweeps       uint64
	FlowsReset   uint64
	FlowsDeleted uint64
	Raises       uint64        // generations
	Repairs      uint64        // differences that readbacks have mended
	SweepTime    time.Duration // of all sweeps together
	LastSweep    time.Duration
	LongestSweep time.Duration
	LastApply    time.Duration
	LongestApply time.Duration
}

func (t *Totals) add(o outcome) {
	r := &o.report
	t.Applies++
	if o.failed {
		t.Failures++
	}
	t.Transactions += uint64(r.Transactions)
	t.SetsCreated += uint64(r.SetsCreated)
	t.SetsRemoved += uint64(r.SetsRemoved)
	t.Added += uint64(r.Added)
	t.Deleted += uint64(r.Deleted)
	t.FlowsReset += uint64(r.Swept)
	t.FlowsDeleted += uint64(r.Released)
	t.Repairs += uint64(len(r.Repaired))
	if r.Raised {
		t.Raises++
	}
	if r.Sweep > 0 {
		t.Sweeps++
		t.SweepTime += r.Sweep
		t.LastSweep = r.Sweep
		t.LongestSweep = max(t.LongestSweep, r.Sweep)
	}
	t.LastApply = o.end.Sub(o.start)
	t.LongestApply = max(t.LongestApply, t.LastApply)
}

// after is the status after an Apply; the plan knows the outcome.
func (s Status) after(o outcome, message string, p *plan) Status {
	s.Totals.add(o)
	s.Problems = slices.Clone(o.report.Problems)
	s.Failures = p.failures
	if len(o.report.Repaired) > 0 {
		s.Repaired, s.RepairedAt = slices.Clone(o.report.Repaired), o.end
	}
	if o.failed {
		if s.Error == "" {
			s.ErrorSince = o.end
		}
		s.Error = message
		s.Problems = append(s.Problems, model.Problem{
			Kind:    model.ProblemDataplane,
			Message: s.Name + ": what is wanted is not enforced: " + message,
		})
	} else {
		s.Error, s.ErrorSince = "", time.Time{}
		s.AppliedAt = o.end
	}
	return s.planned(p)
}

// planned is the status with what the plan says of the wanted State.
func (s Status) planned(p *plan) Status {
	if p.wanted != nil {
		s.Wanted = p.wanted.Gen
	}
	if p.applied != nil {
		s.Applied, s.State = p.applied.Gen, p.applied
	}
	s.WantedSince = p.since
	s.InForce = p.wanted != nil && p.since.IsZero()
	return s
}
