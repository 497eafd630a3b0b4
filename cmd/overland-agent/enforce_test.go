package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/node"
)

func silent() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// fakeKernel notes what is applied.
type fakeKernel struct {
	mu      sync.Mutex
	applied []*desired.State
	broken  error
	refused error
	holds   bool
	removed int
	closed  bool
}

func (k *fakeKernel) Apply(_ context.Context, want *desired.State) (dataplane.Report, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken != nil {
		return dataplane.Report{}, k.broken
	}
	k.applied = append(k.applied, want)
	return dataplane.Report{Applied: true}, nil
}

func (k *fakeKernel) Forget() {}

func (k *fakeKernel) Backend() string { return "fake" }

func (k *fakeKernel) Remove(context.Context) error {
	k.removed++
	return k.broken
}

func (k *fakeKernel) Inspect(context.Context, *desired.State, desired.Flow) (dataplane.Inspection, error) {
	return dataplane.Inspection{Agrees: true}, nil
}

func (k *fakeKernel) Holds(context.Context) (bool, error) { return k.holds, nil }

func (k *fakeKernel) Problems(context.Context) ([]model.Problem, error) {
	return []model.Problem{{Kind: model.ProblemDataplane, Message: "odd"}}, k.refused
}

func (k *fakeKernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	return nil
}

// fakeSource gives one State after the other.
type fakeSource struct {
	mu    sync.Mutex
	state *desired.State
	newer chan struct{}
}

func newSource() *fakeSource { return &fakeSource{newer: make(chan struct{})} }

func (s *fakeSource) State() (*desired.State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.newer
}

func (s *fakeSource) set(state *desired.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
	close(s.newer)
	s.newer = make(chan struct{})
}

func opens(k *fakeKernel) func(context.Context) (kernel, error) {
	return func(context.Context) (kernel, error) { return k, nil }
}

// runEnforcer runs an enforcer until the test ends.
func runEnforcer(t *testing.T, e *enforcer) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for late := time.After(time.Minute); !ok(); {
		select {
		case <-late:
			t.Fatalf("never: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// untilLookedAt waits until the kernel is open and nothing but a State is missing.
func untilLookedAt(t *testing.T, e *enforcer) {
	t.Helper()
	until(t, "a State is all that is missing", func() bool {
		err := e.Ready()
		return err != nil && strings.Contains(err.Error(), "nothing has been applied yet")
	})
}

func state(gen uint64) *desired.State { return &desired.State{Gen: gen, Rules: &desired.Rules{}} }

func TestReadyOnceAStateIsInForce(t *testing.T) {
	k, src := &fakeKernel{}, newSource()
	e := newEnforcer("iptables", node.Restart, opens(k), src, silent())
	if err := e.Ready(); err == nil || !strings.Contains(err.Error(), "it is starting") {
		t.Errorf("before it runs: %v", err)
	}
	runEnforcer(t, e)
	untilLookedAt(t, e)
	src.set(state(3))
	until(t, "ready", func() bool { return e.Ready() == nil })
	if s := e.Status(); s.Applied != 3 || !s.InForce {
		t.Errorf("status %+v", s)
	}
	if i, err := e.Inspect(t.Context(), nil, desired.Flow{}); err != nil || !i.Agrees {
		t.Errorf("inspected: %+v, %v", i, err)
	}
}

func TestWhatHoldsUntilTheClusterIsKnownFollowsTheStart(t *testing.T) {
	for name, tt := range map[string]struct {
		start    node.Start
		holds    bool
		skeleton bool
	}{
		"first installation":     {node.FirstInstall, false, false},
		"restart":                {node.Restart, true, false},
		"reboot":                 {node.Reboot, false, true},
		"unknown, rules there":   {node.Unknown, true, false},
		"unknown, none are left": {node.Unknown, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			k, src := &fakeKernel{holds: tt.holds}, newSource()
			e := newEnforcer("iptables", tt.start, opens(k), src, silent())
			runEnforcer(t, e)
			if tt.skeleton {
				<-e.tried
				if e.Ready() == nil {
					t.Error("ready with the skeleton")
				}
			}
			untilLookedAt(t, e)
			src.set(state(2))
			until(t, "ready", func() bool { return e.Ready() == nil })
			k.mu.Lock()
			defer k.mu.Unlock()
			if first := k.applied[0]; (first.Gen == 0 && first.Rules.Protected) != tt.skeleton {
				t.Errorf("first applied: %+v", first)
			}
		})
	}
}

func TestAKernelThatIsRefusedIsTriedAgainAndSaidWhy(t *testing.T) {
	k, src := &fakeKernel{}, newSource()
	src.set(state(2))
	var mu sync.Mutex
	missing := errors.New("the kernel has no connmark")
	e := newEnforcer("iptables", node.Reboot, func(context.Context) (kernel, error) {
		mu.Lock()
		defer mu.Unlock()
		return k, missing
	}, src, silent())
	e.retry = time.Millisecond
	runEnforcer(t, e)
	<-e.tried // the agent goes on without
	if err := e.Ready(); err == nil || !strings.Contains(err.Error(), "no connmark") {
		t.Errorf("ready: %v", err)
	}
	s := e.Status()
	if s.Name != "iptables" || s.Error != missing.Error() || s.ErrorSince.IsZero() || len(s.Problems) != 1 {
		t.Errorf("status %+v", s)
	}
	if _, err := e.Inspect(t.Context(), nil, desired.Flow{}); !errors.Is(err, missing) {
		t.Errorf("inspected: %v", err)
	}
	mu.Lock()
	missing = nil
	mu.Unlock()
	until(t, "ready", func() bool { return e.Ready() == nil })
}

// TestAKernelThatIsRefusedForAMomentIsTriedAgainSoon: after a reboot the node has
// no rules until it can be opened (dataplane 4).
func TestAKernelThatIsRefusedForAMomentIsTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, tries := time.Now(), []time.Duration(nil)
		e := newEnforcer("iptables", node.Reboot, func(context.Context) (kernel, error) {
			tries = append(tries, time.Since(began))
			return nil, errors.New("the lock is held")
		}, newSource(), silent())
		ctx, stop := context.WithTimeout(t.Context(), 100*time.Second)
		defer stop()
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		want := []time.Duration{0, 1, 3, 7, 15, 31, 61, 91}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(tries, want) {
			t.Errorf("tried after %s, expected %s", tries, want)
		}
	})
}

func TestAFailingApplyIsNotReadyAndSaysWhy(t *testing.T) {
	k, src := &fakeKernel{broken: errors.New("locked")}, newSource()
	src.set(state(2))
	e := newEnforcer("iptables", node.Restart, opens(k), src, silent())
	runEnforcer(t, e)
	until(t, "the failure shows", func() bool { return e.Ready() != nil && strings.Contains(e.Ready().Error(), "locked") })
}

func TestANodeWhoseTrafficGoesPastTheRulesIsNeverReady(t *testing.T) {
	k, src := &fakeKernel{refused: errors.New("ipvs: not supported")}, newSource()
	src.set(state(2))
	e := newEnforcer("iptables", node.Restart, opens(k), src, silent())
	runEnforcer(t, e)
	until(t, "applied all the same", func() bool { return e.Status().Applied == 2 })
	until(t, "refused by name", func() bool { return e.Ready() != nil && strings.Contains(e.Ready().Error(), "ipvs") })
	if problems := e.Status().Problems; len(problems) != 2 {
		t.Errorf("problems %v", problems)
	}
}

func TestAnObserverIsReadyAndSaysThatItEnforcesNothing(t *testing.T) {
	var o observer
	if o.Ready() != nil || len(o.Status().Problems) != 1 || !strings.Contains(o.Status().Problems[0].Message, "not enforced") {
		t.Errorf("got %v, %+v", o.Ready(), o.Status())
	}
	if _, err := o.Inspect(t.Context(), nil, desired.Flow{}); err == nil {
		t.Error("there is something to inspect")
	}
}
