package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/node"
)

const (
	// reopenInterval is when a kernel that was refused is tried again, in the end:
	// somebody has to load a module or install a program. Before it comes what
	// doubles from reopenSoon on, for it may be a lock that is held at boot, when
	// pods start and nothing protects them yet.
	reopenInterval = 30 * time.Second
	reopenSoon     = time.Second
	// modesInterval is how often the node's ways of networking are looked at: they
	// change when programs of the node are started with other settings.
	modesInterval = 3 * time.Minute
)

// kernel is a dataplane with the kernel that it was opened on.
type kernel interface {
	dataplane.Dataplane
	dataplane.Inspector
	// Holds tells whether the kernel holds rules of an agent before this one.
	Holds(ctx context.Context) (bool, error)
	// Problems are what was found on the node, beside what an Apply finds, and
	// refused is why policies are not enforced whatever an Apply says; nil if
	// they are.
	Problems(ctx context.Context) (found []model.Problem, refused error)
	// Backend is the way in which it works, in a word.
	Backend() string
	Close() error
}

// enforcer keeps this node's dataplane at work, from its opening on. A kernel
// that is refused is tried again and again: the agent stays up, says why, and is
// not ready. Its methods but Run may be called from any goroutine.
type enforcer struct {
	name  string
	start node.Start
	open  func(context.Context) (kernel, error)
	src   dataplane.Source
	log   *logrus.Entry
	retry time.Duration

	now   atomic.Pointer[enforcement]
	tried chan struct{} // closed once the first State was applied, or could not be
}

// enforcement is what an enforcer says of itself. It is immutable.
type enforcement struct {
	// kernel and loop are nil until the kernel could be opened; refused says why
	// not, since since.
	kernel   kernel
	loop     *dataplane.Loop
	refused  error
	since    time.Time
	problems []model.Problem
}

func newEnforcer(name string, start node.Start, open func(context.Context) (kernel, error), src dataplane.Source, log *logrus.Entry) *enforcer {
	e := &enforcer{
		name: name, start: start, open: open, src: src, log: log.WithField("dataplane", name),
		retry: reopenInterval, tried: make(chan struct{}),
	}
	e.now.Store(&enforcement{refused: errors.New("it is starting"), since: time.Now()})
	return e
}

// Run works until ctx ends, and returns nil; what the kernel enforces stays.
func (e *enforcer) Run(ctx context.Context) error {
	for wait := min(reopenSoon, e.retry); ctx.Err() == nil; wait = min(2*wait, e.retry) {
		err := e.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if old := e.now.Load(); old.refused == nil || old.refused.Error() != err.Error() {
			e.log.WithError(err).Error("policies cannot be enforced on this node: trying again, every half a minute at least")
			e.now.Store(&enforcement{refused: err, since: time.Now()})
		}
		e.attempted()
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// attempted notes the end of the first attempt.
func (e *enforcer) attempted() {
	select {
	case <-e.tried:
	default:
		close(e.tried)
	}
}

// serve opens the kernel and enforces until ctx ends.
func (e *enforcer) serve(ctx context.Context) error {
	k, err := e.open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err := k.Close(); err != nil {
			e.log.WithError(err).Warn("the dataplane was not closed cleanly")
		}
	}()
	initial, err := e.initial(ctx, k)
	if err != nil {
		return err
	}
	loop := dataplane.NewLoop(dataplane.LoopConfig{Name: e.name, Initial: initial, RuleIntervalMin: ruleIntervalMin(k)}, k, e.src, e.log)
	e.now.Store(&enforcement{kernel: k, loop: loop, refused: errors.New("the node is being looked at")})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		e.watch(ctx, k, loop)
	}()
	err = loop.Run(ctx)
	stop()
	<-watched
	return err
}

// ruleIntervalMin is 0, the Loop's longer one, where a change of few rules costs as
// much as there are rules.
func ruleIntervalMin(k kernel) time.Duration {
	if k.Backend() == iptables.BackendLegacy {
		return 0
	}
	return 10 * time.Millisecond
}

// initial is what is to be enforced until the local cluster is known: nothing
// new, but after a reboot.
func (e *enforcer) initial(ctx context.Context, k kernel) (*desired.State, error) {
	start := e.start
	if start == node.Unknown {
		holds, err := k.Holds(ctx)
		if err != nil {
			return nil, err
		}
		if start = node.Reboot; holds {
			start = node.Restart
		}
	}
	if start == node.Reboot {
		return desired.Skeleton(), nil
	}
	return nil, nil
}

// watch looks at the node now and then, and notes the first attempt.
func (e *enforcer) watch(ctx context.Context, k kernel, loop *dataplane.Loop) {
	tick := time.NewTicker(modesInterval)
	defer tick.Stop()
	e.look(ctx, k, loop)
	for {
		changed := loop.Changed()
		if loop.Status().Totals.Applies > 0 {
			e.attempted()
			changed = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			e.look(ctx, k, loop)
		}
	}
}

// look finds what is on the node that interferes.
func (e *enforcer) look(ctx context.Context, k kernel, loop *dataplane.Loop) {
	found, refused := k.Problems(ctx)
	if ctx.Err() != nil {
		return
	}
	old := e.now.Load()
	if refused != nil && (old.refused == nil || old.refused.Error() != refused.Error()) {
		e.log.WithError(refused).Error("policies are not enforced on this node as it is set up")
	}
	e.now.Store(&enforcement{kernel: k, loop: loop, refused: refused, problems: found})
}

// Ready is why policies are not enforced yet; nil once they are.
func (e *enforcer) Ready() error {
	now := e.now.Load()
	if now.refused != nil {
		return fmt.Errorf("dataplane %s: %w", e.name, now.refused)
	}
	switch s := now.loop.Status(); {
	case s.Applied > 0:
		return nil
	case s.Error != "":
		return fmt.Errorf("dataplane %s: %s", e.name, s.Error)
	}
	return fmt.Errorf("dataplane %s: nothing has been applied yet", e.name)
}

// Status is how enforcement is doing.
func (e *enforcer) Status() dataplane.Status {
	now := e.now.Load()
	s := dataplane.Status{Name: e.name}
	if now.loop != nil {
		s = now.loop.Status()
		s.Backend = now.kernel.Backend()
	}
	if now.refused != nil {
		if s.Error == "" {
			s.Error, s.ErrorSince = now.refused.Error(), now.since
		}
		s.Problems = append(s.Problems[:len(s.Problems):len(s.Problems)], model.Problem{
			Kind: model.ProblemDataplane, Message: "policies are not enforced on this node: " + now.refused.Error(),
		})
	}
	s.Problems = append(s.Problems[:len(s.Problems):len(s.Problems)], now.problems...)
	return s
}

// Changed is closed when what is in force may have changed; nil: there is nothing
// yet that could tell.
func (e *enforcer) Changed() <-chan struct{} {
	if now := e.now.Load(); now.loop != nil {
		return now.loop.Changed()
	}
	return nil
}

// Inspect reads the kernel back; see dataplane.Inspector.
func (e *enforcer) Inspect(ctx context.Context, want *desired.State, f desired.Flow) (dataplane.Inspection, error) {
	now := e.now.Load()
	if now.kernel == nil {
		return dataplane.Inspection{}, fmt.Errorf("read the kernel back: dataplane %s: %w", e.name, now.refused)
	}
	return now.kernel.Inspect(ctx, want, f)
}

// observer is the dataplane that enforces nothing.
type observer struct{}

// Ready is nil: there is nothing to wait for.
func (observer) Ready() error { return nil }

// Status says that nothing is enforced.
func (observer) Status() dataplane.Status {
	return dataplane.Status{Name: dataplaneNone, Problems: []model.Problem{{
		Kind:    model.ProblemDataplane,
		Message: "--dataplane=none: NetworkPolicies are watched and not enforced on this node",
	}}}
}

// Inspect has nothing to read.
func (observer) Inspect(context.Context, *desired.State, desired.Flow) (dataplane.Inspection, error) {
	return dataplane.Inspection{}, errors.New("read the kernel back: --dataplane=none: nothing is enforced on this node")
}

// desiredSource gives a Loop what the agent's snapshots say.
type desiredSource struct {
	snapshots func() (*agent.Snapshot, <-chan struct{})
}

// State implements dataplane.Source.
func (s desiredSource) State() (*desired.State, <-chan struct{}) {
	snapshot, newer := s.snapshots()
	return snapshot.Desired, newer
}
