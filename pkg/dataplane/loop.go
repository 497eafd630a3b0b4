package dataplane

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/desired"
)

// The defaults of a LoopConfig.
const (
	// A transaction of iptables-legacy costs as much as its table is long, 41 ms
	// at 10,000 rules: ten a second keep the node's other work going.
	defaultRuleInterval = 100 * time.Millisecond
	// How long another program's change of the hooks may go unseen.
	defaultCheckInterval = 5 * time.Second
	// A readback costs 0.7 s at a million members.
	defaultRereadInterval = 3 * time.Minute
	defaultRetryMin       = 100 * time.Millisecond
	defaultRetryMax       = 10 * time.Second
)

// Source is where a Loop gets its States from.
type Source interface {
	// State is the newest State, nil as long as there is nothing to enforce, and
	// a channel that is closed when there is a newer one.
	State() (*desired.State, <-chan struct{})
}

// LoopConfig is the configuration of a Loop. Zero durations mean defaults.
type LoopConfig struct {
	// Name is that of the dataplane, for people.
	Name string
	// Initial, if not nil, is what is enforced as long as the Source has nothing:
	// the Skeleton, after a reboot.
	Initial *desired.State
	// RuleInterval is from the end of one Apply that changes rules to the
	// beginning of the next one, at most: as long as the last one took, if that is
	// less, but RuleIntervalMin at least. So it keeps a core half free where rules
	// are cheap, and does not make a pod wait that is being connected. A change of
	// members waits for nothing. RuleIntervalMin 0: RuleInterval, always.
	RuleInterval, RuleIntervalMin time.Duration
	// CheckInterval is how often the State in force is applied again.
	CheckInterval time.Duration
	// RereadInterval is how often the kernel is read back whole.
	RereadInterval time.Duration
	// RetryMin and RetryMax bound the wait after a failure, which doubles.
	RetryMin, RetryMax time.Duration
}

func (c LoopConfig) withDefaults() LoopConfig {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&c.RuleInterval, defaultRuleInterval},
		{&c.CheckInterval, defaultCheckInterval},
		{&c.RereadInterval, defaultRereadInterval},
		{&c.RetryMin, defaultRetryMin},
		{&c.RetryMax, defaultRetryMax},
	} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	c.RetryMax = max(c.RetryMax, c.RetryMin)
	if c.RuleIntervalMin <= 0 || c.RuleIntervalMin > c.RuleInterval {
		c.RuleIntervalMin = c.RuleInterval
	}
	return c
}

// Loop keeps what a Dataplane enforces equal to a Source's newest State: at once
// if it can, again and again if it fails, skipping what is newer than newer.
type Loop struct {
	dp      Dataplane
	src     Source
	log     *logrus.Entry
	current atomic.Pointer[published]

	// Of Run alone.
	plan plan
}

// published is a status and the channel that is closed when there is a newer
// one.
type published struct {
	status Status
	newer  chan struct{}
}

// NewLoop is a Loop that does nothing until Run. The Dataplane is its own from
// then on, but for what implements Inspector.
func NewLoop(cfg LoopConfig, dp Dataplane, src Source, log *logrus.Entry) *Loop {
	l := &Loop{dp: dp, src: src, log: log, plan: plan{cfg: cfg.withDefaults()}}
	l.current.Store(&published{Status{Name: cfg.Name}, make(chan struct{})})
	return l
}

// Status may be called from any goroutine.
func (l *Loop) Status() Status { return l.current.Load().status }

// Changed is closed when Status may say something new, compared to what it says
// after this call. It may be called from any goroutine.
func (l *Loop) Changed() <-chan struct{} { return l.current.Load().newer }

func (l *Loop) publish(s Status) {
	old := l.current.Swap(&published{s, make(chan struct{})})
	close(old.newer)
}

// Run works until ctx ends, and returns nil; what the kernel enforces then stays
// in force. It is called once. A panic of the Dataplane is not caught: what is
// in the kernel is not known then, and a new process reads it back.
func (l *Loop) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.plan.want(l.plan.cfg.Initial, time.Now())
	for ctx.Err() == nil {
		state, newer := l.src.State()
		now := time.Now()
		before := l.plan.wanted
		l.plan.want(state, now)
		if l.plan.wanted != before {
			l.publish(l.Status().planned(&l.plan))
		}
		s := l.plan.next(now)
		if s.state != nil {
			l.apply(ctx, s)
			continue
		}
		var due <-chan time.Time
		if !s.until.IsZero() {
			timer.Reset(s.until.Sub(now))
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-newer:
		case <-due:
		}
	}
	return nil
}

func (l *Loop) apply(ctx context.Context, s step) {
	if s.forget {
		l.dp.Forget()
	}
	start := time.Now()
	report, err := l.dp.Apply(ctx, s.state)
	if err != nil && ctx.Err() != nil {
		return // the end of the loop is no failure
	}
	o := outcome{
		state: s.state, forgot: s.forget,
		start: start, end: time.Now(),
		report: report, jitter: rand.Float64(),
	}
	message := ""
	switch {
	case err != nil:
		message = err.Error()
	case !report.Applied:
		message = notWhole(report)
	}
	o.failed = err != nil || !report.Applied
	l.plan.done(o)
	old := l.Status()
	now := old.after(o, message, &l.plan)
	l.tell(old, now, o)
	l.publish(now)
}

// notWhole is why a State is not in force though there is no error.
func notWhole(r Report) string {
	var parts []string
	for _, p := range r.Problems {
		parts = append(parts, p.Message)
	}
	if len(parts) == 0 {
		return "a part of it is not in force"
	}
	return strings.Join(parts, "; ")
}

// tell logs a change of what is so, not each Apply.
func (l *Loop) tell(old, now Status, o outcome) {
	log := l.log.WithField("dataplane", now.Name)
	if len(o.report.Repaired) > 0 {
		log.WithField("differences", o.report.Repaired).Warn("The kernel did not hold what was put there; it does again")
	}
	switch {
	case o.failed && now.Error != old.Error:
		log.WithField("generation", o.state.Gen).WithField("failures", now.Failures).
			Warnf("What is wanted cannot be enforced: %s", now.Error)
	case !o.failed && old.Failures > 0:
		log.WithField("generation", o.state.Gen).WithField("failures", old.Failures).
			Info("What is wanted is enforced again")
	case !o.failed && old.AppliedAt.IsZero():
		log.WithField("generation", o.state.Gen).Info("What is wanted is enforced for the first time")
	}
}
