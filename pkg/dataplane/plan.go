package dataplane

import (
	"time"

	"github.com/overland-net/overland/pkg/desired"
)

// plan decides what a Loop does and when: a value in, a value out, no clock. It
// is of one goroutine.
type plan struct {
	cfg LoopConfig

	wanted  *desired.State // the newest
	tried   *desired.State // the one last handed to Apply
	applied *desired.State // the last one that came into force, whole
	// since is when wanted was first not in force; zero if it is.
	since time.Time

	failures int
	// ended is the end of the last Apply, rules that of the last one that
	// changed rules.
	ended, rules time.Time
	// took is how long that one took.
	took time.Duration
	// retry is when to come back though nothing changes: after a failure, or
	// because the dataplane has asked for it. Zero: no need.
	retry  time.Time
	reread time.Time // when to read all back
}

// step is what to do now: to apply a State or, if that is nil, to wait until a
// moment (the zero time: for nothing but a newer State).
type step struct {
	state  *desired.State
	forget bool
	until  time.Time
}

// want is told the newest State; nil is none.
func (p *plan) want(s *desired.State, now time.Time) {
	if s == nil || s == p.wanted {
		return
	}
	p.wanted = s
	if p.since.IsZero() {
		p.since = now
	}
}

// next is what to do at a moment.
func (p *plan) next(now time.Time) step {
	if p.wanted == nil {
		return step{}
	}
	due, reread := p.due(), !p.reread.IsZero() && !now.Before(p.reread)
	if now.Before(due) {
		return step{until: due}
	}
	return step{state: p.wanted, forget: reread}
}

// due is when wanted is to be applied next.
func (p *plan) due() time.Time {
	switch {
	case p.tried == nil:
		return time.Time{}
	case p.failures > 0 && p.wanted != p.tried:
		// A newer one is tried soon: it may be what helps. Not at any rate: if it
		// does not, each try costs as much as the one before.
		due := p.ended.Add(p.cfg.RetryMin)
		if p.retry.Before(due) {
			due = p.retry
		}
		return p.notBefore(due)
	case p.failures > 0:
		return p.notBefore(p.retry)
	case p.wanted != p.tried && p.wanted.Rules == p.tried.Rules:
		return time.Time{}
	case p.wanted != p.tried:
		return p.notBefore(time.Time{})
	}
	due := p.ended.Add(p.cfg.CheckInterval)
	if !p.retry.IsZero() && p.retry.Before(due) {
		due = p.retry
	}
	if p.reread.Before(due) {
		due = p.reread
	}
	return due
}

// notBefore is t, or when rules may be changed again if that is later.
func (p *plan) notBefore(t time.Time) time.Time {
	if p.rules.IsZero() {
		return t
	}
	if r := p.rules.Add(min(max(p.took, p.cfg.RuleIntervalMin), p.cfg.RuleInterval)); r.After(t) {
		return r
	}
	return t
}

// outcome is what came of an Apply.
type outcome struct {
	state      *desired.State
	forgot     bool
	start, end time.Time
	report     Report
	failed     bool
	jitter     float64 // in [0,1), for the wait after a failure
}

func (p *plan) done(o outcome) {
	if p.tried == nil || o.forgot {
		p.reread = o.end.Add(p.cfg.RereadInterval)
	}
	if o.report.Transactions > 0 || p.tried == nil || p.tried.Rules != o.state.Rules {
		p.rules, p.took = o.end, o.end.Sub(o.start)
	}
	p.tried, p.ended, p.retry = o.state, o.end, time.Time{}
	if o.report.Retry > 0 {
		p.retry = o.end.Add(o.report.Retry)
	}
	if o.failed {
		p.failures++
		backoff := o.end.Add(p.backoff(o.jitter))
		if p.retry.IsZero() || backoff.Before(p.retry) {
			p.retry = backoff
		}
		if p.since.IsZero() {
			p.since = o.start
		}
		return
	}
	p.failures, p.applied = 0, o.state
	if p.wanted == o.state {
		p.since = time.Time{}
	}
}

// backoff doubles with each failure in a row, and is spread over its upper half
// so that the nodes of a cluster do not retry together.
func (p *plan) backoff(jitter float64) time.Duration {
	d := p.cfg.RetryMin
	for range p.failures - 1 {
		if d >= p.cfg.RetryMax/2 {
			d = p.cfg.RetryMax
			break
		}
		d *= 2
	}
	return d/2 + time.Duration(jitter*float64(d/2))
}
