package dataplane

import (
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/desired"
)

// at is a moment of the tables below.
func at(d time.Duration) time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(d) }

const ms = time.Millisecond

func testConfig() LoopConfig {
	return LoopConfig{
		RuleInterval: 100 * ms, RuleIntervalMin: 100 * ms, CheckInterval: 5 * time.Second, RereadInterval: 3 * time.Minute,
		RetryMin: 100 * ms, RetryMax: time.Second,
	}
}

// event is what a plan is told: a State that is wanted, or the outcome of an
// Apply of the wanted one that took no time.
type event struct {
	at     time.Duration
	want   *desired.State
	done   bool
	failed bool
	forgot bool
	report Report
}

func TestPlan(t *testing.T) {
	rules, others := &desired.Rules{}, &desired.Rules{Protected: true}
	first := &desired.State{Gen: 1, Rules: rules}
	members := &desired.State{Gen: 2, Rules: rules}
	changed := &desired.State{Gen: 3, Rules: others}
	applied := event{done: true, report: Report{Applied: true, Transactions: 1}}
	quiet := event{done: true, report: Report{Applied: true}}
	failed := event{done: true, failed: true}
	want := func(s *desired.State) event { return event{want: s} }
	later := func(d time.Duration, e event) event { e.at = d; return e }
	forgot := event{done: true, forgot: true, report: Report{Applied: true}}

	cases := []struct {
		name   string
		events []event
		now    time.Duration
		apply  *desired.State
		forget bool
		until  time.Duration // 0: for ever
	}{
		{"nothing is wanted: nothing is done", nil, 0, nil, false, 0},
		{"the first State goes at once", []event{want(first)}, 0, first, false, 0},
		{"what is in force is checked later", []event{want(first), applied}, ms, nil, false, 5 * time.Second},
		{"what is in force is checked", []event{want(first), applied}, 5 * time.Second, first, false, 0},
		{"members go at once after rules", []event{want(first), applied, want(members)}, ms, members, false, 0},
		{"rules wait for the interval after rules", []event{want(first), applied, want(changed)}, ms, nil, false, 100 * ms},
		{"rules go when the interval is over", []event{want(first), applied, want(changed)}, 100 * ms, changed, false, 0},
		{"members in between do not put off rules", []event{want(first), applied, want(members), later(60*ms, quiet), want(changed)}, 100 * ms, changed, false, 0},
		{"newest wins", []event{want(first), applied, want(members), want(changed)}, 200 * ms, changed, false, 0},
		{"a nil State takes nothing back", []event{want(first), applied, want(nil)}, 5 * time.Second, first, false, 0},
		{"a failure is retried after a wait", []event{want(first), failed}, ms, nil, false, 100 * ms},
		{"a failure is retried", []event{want(first), failed}, 100 * ms, first, false, 0},
		{"the wait doubles", []event{want(first), failed, later(200*ms, failed)}, 201 * ms, nil, false, 300 * ms},
		{"the wait has an upper bound", []event{want(first), failed, failed, failed, failed, failed, failed, failed, failed}, ms, nil, false, 500 * ms},
		{"a newer State is tried before the wait is over", []event{want(first), failed, failed, failed, failed, want(changed)}, 100 * ms, changed, false, 0},
		{"but not at any rate", []event{want(first), failed, failed, failed, failed, want(changed)}, 99 * ms, nil, false, 100 * ms},
		{"after a success the wait is short again", []event{want(first), failed, failed, failed, applied, later(time.Second, failed)}, 1001 * ms, nil, false, 1050 * ms},
		{"what the dataplane asks for is done", []event{want(first), {done: true, report: Report{Applied: true, Retry: 20 * ms}}}, 20 * ms, first, false, 0},
		{"and not before", []event{want(first), {done: true, report: Report{Applied: true, Retry: 20 * ms}}}, 19 * ms, nil, false, 20 * ms},
		{"it does not put off the check", []event{want(first), {done: true, report: Report{Applied: true, Retry: time.Minute}}}, ms, nil, false, 5 * time.Second},
		{"a failure that asks to come back later is retried as others are", []event{want(first), {done: true, failed: true, report: Report{Retry: time.Minute}}}, 100 * ms, first, false, 0},
		{"in the end all is read back", []event{want(first), applied, later(179*time.Second, quiet)}, 180 * time.Second, first, true, 0},
		{"with a newer State if there is one", []event{want(first), applied, later(179*time.Second, quiet), want(members)}, 180 * time.Second, members, true, 0},
		{"and then not soon again", []event{want(first), applied, later(180*time.Second, forgot)}, 185 * time.Second, first, false, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := plan{cfg: testConfig()}
			for _, e := range c.events {
				if !e.done {
					p.want(e.want, at(e.at))
					continue
				}
				// Without jitter a wait is half of what it may be.
				p.done(outcome{
					state: p.wanted, forgot: e.forgot, start: at(e.at), end: at(e.at), report: e.report, failed: e.failed,
				})
			}
			got := p.next(at(c.now))
			expected := step{state: c.apply, forget: c.forget}
			if c.until != 0 {
				expected.until = at(c.until)
			}
			if got != expected {
				t.Errorf("got %+v, want %+v", got, expected)
			}
		})
	}
}

func TestPlanKnowsSinceWhenTheWantedStateIsNotInForce(t *testing.T) {
	p := plan{cfg: testConfig()}
	first, second := &desired.State{Gen: 1, Rules: &desired.Rules{}}, &desired.State{Gen: 2, Rules: &desired.Rules{}}
	expect := func(when string, since time.Time) {
		t.Helper()
		if !p.since.Equal(since) {
			t.Errorf("%s: since %v, want %v", when, p.since, since)
		}
	}
	p.want(first, at(1*ms))
	expect("wanted", at(1*ms))
	p.want(second, at(2*ms))
	expect("a newer one", at(1*ms))
	p.done(outcome{state: first, start: at(2 * ms), end: at(3 * ms)})
	expect("an older one is in force", at(1*ms))
	p.done(outcome{state: second, start: at(4 * ms), end: at(5 * ms)})
	expect("in force", time.Time{})
	p.done(outcome{state: second, start: at(6 * ms), end: at(7 * ms), failed: true})
	expect("a check fails", at(6*ms))
	p.done(outcome{state: second, start: at(8 * ms), end: at(9 * ms)})
	expect("and succeeds", time.Time{})
}

func TestBackoffIsSpreadAndBounded(t *testing.T) {
	p := plan{cfg: testConfig()}
	for p.failures = 1; p.failures < 200; p.failures++ {
		low, high := p.backoff(0), p.backoff(0.999999)
		full := min(100*ms<<min(p.failures-1, 10), time.Second)
		if low != full/2 || high > full || high < full*9/10 {
			t.Fatalf("failure %d: %v to %v, want %v to %v", p.failures, low, high, full/2, full)
		}
	}
}

func TestRulesRestAsLongAsTheLastOnesTook(t *testing.T) {
	first := &desired.State{Gen: 1, Rules: &desired.Rules{}}
	next := &desired.State{Gen: 2, Rules: &desired.Rules{Protected: true}}
	for took, want := range map[time.Duration]time.Duration{ms: 10 * ms, 30 * ms: 30 * ms, 400 * ms: 100 * ms} {
		cfg := testConfig()
		cfg.RuleIntervalMin = 10 * ms
		p := plan{cfg: cfg}
		p.want(first, at(0))
		p.done(outcome{state: first, start: at(0), end: at(took), report: Report{Applied: true, Transactions: 1}})
		p.want(next, at(took))
		if s := p.next(at(took)); s.state != nil || !s.until.Equal(at(took+want)) {
			t.Errorf("after rules that took %s: %+v, want a rest of %s", took, s, want)
		}
	}
}
