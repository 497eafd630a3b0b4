package dataplane

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// fakeSource is a Source of which the newest State is set.
type fakeSource struct {
	mu    sync.Mutex
	state *desired.State
	newer chan struct{}
}

func newFakeSource() *fakeSource { return &fakeSource{newer: make(chan struct{})} }

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

// fakeDataplane notes what it is asked, and does what it is told.
type fakeDataplane struct {
	mu      sync.Mutex
	applied []uint64
	times   []time.Time
	forgets int
	answer  func(want *desired.State) (Report, error)
	blocked chan struct{} // Apply waits for it, if it is not nil
}

func (f *fakeDataplane) Apply(ctx context.Context, want *desired.State) (Report, error) {
	f.mu.Lock()
	f.applied = append(f.applied, want.Gen)
	f.times = append(f.times, time.Now())
	answer, blocked := f.answer, f.blocked
	f.mu.Unlock()
	if blocked != nil {
		select {
		case <-blocked:
		case <-ctx.Done():
			return Report{}, ctx.Err()
		}
	}
	if answer != nil {
		return answer(want)
	}
	return Report{Applied: true, Transactions: 1}, nil
}

func (f *fakeDataplane) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgets++
}

func (f *fakeDataplane) Remove(context.Context) error { return nil }

func (f *fakeDataplane) say(answer func(want *desired.State) (Report, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fakeDataplane) seen() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]uint64(nil), f.applied...)
}

// world is a Loop that runs, with its surroundings.
type world struct {
	t    *testing.T
	src  *fakeSource
	dp   *fakeDataplane
	loop *Loop
	logs *bytes.Buffer
	stop func()
}

func run(t *testing.T, cfg LoopConfig, dp *fakeDataplane) *world {
	w := &world{t: t, src: newFakeSource(), dp: dp, logs: &bytes.Buffer{}}
	log := logrus.New()
	log.SetOutput(w.logs)
	cfg.Name = "fake"
	w.loop = NewLoop(cfg, dp, w.src, logrus.NewEntry(log))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.loop.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return w
}

func (w *world) lines() int {
	synctest.Wait()
	return strings.Count(w.logs.String(), "\n")
}

func (w *world) expect(gens ...uint64) {
	w.t.Helper()
	synctest.Wait()
	got := w.dp.seen()
	if len(got) != len(gens) {
		w.t.Fatalf("applied %v, want %v", got, gens)
	}
	for i := range gens {
		if got[i] != gens[i] {
			w.t.Fatalf("applied %v, want %v", got, gens)
		}
	}
}

func state(gen uint64, rules *desired.Rules) *desired.State {
	return &desired.State{Gen: gen, Rules: rules}
}

func TestLoopFollowsTheNewestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, LoopConfig{}, &fakeDataplane{})
		defer w.stop()
		w.expect()
		if s := w.loop.Status(); s.InForce || s.Wanted != 0 || !s.WantedSince.IsZero() {
			t.Errorf("before anything is wanted: %+v", s)
		}
		rules := &desired.Rules{}
		w.src.set(state(1, rules))
		w.expect(1)
		w.src.set(state(2, rules))
		w.expect(1, 2)
		// Rules wait; what comes meanwhile is skipped.
		w.src.set(state(3, &desired.Rules{}))
		w.expect(1, 2)
		w.src.set(state(4, &desired.Rules{}))
		w.expect(1, 2)
		if s := w.loop.Status(); s.InForce || s.Wanted != 4 || s.Applied != 2 || s.WantedSince.IsZero() {
			t.Errorf("while rules wait: %+v", s)
		}
		time.Sleep(100 * time.Millisecond)
		w.expect(1, 2, 4)
		s := w.loop.Status()
		if !s.InForce || s.Applied != 4 || s.State.Gen != 4 || s.Error != "" || !s.WantedSince.IsZero() || len(s.Problems) > 0 {
			t.Errorf("in force: %+v", s)
		}
		if n := w.lines(); n != 1 {
			t.Errorf("%d log lines, want 1:\n%s", n, w.logs)
		}
	})
}

func TestLoopAppliesTheInitialStateUntilThereIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, LoopConfig{Initial: desired.Skeleton()}, &fakeDataplane{})
		defer w.stop()
		w.expect(0)
		if s := w.loop.Status(); !s.InForce || s.State == nil {
			t.Errorf("with the initial State: %+v", s)
		}
		w.src.set(state(1, &desired.Rules{}))
		time.Sleep(time.Second)
		w.expect(0, 1)
	})
}

func TestLoopRetriesAndSaysSoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dp := &fakeDataplane{}
		dp.say(func(*desired.State) (Report, error) {
			return Report{Problems: []model.Problem{{Message: "also this"}}}, errors.New("the lock is held")
		})
		w := run(t, LoopConfig{}, dp)
		defer w.stop()
		w.src.set(state(1, &desired.Rules{}))
		time.Sleep(time.Minute)
		synctest.Wait()
		tries := len(dp.seen())
		s := w.loop.Status()
		if tries < 5 || s.Failures != tries || s.Totals.Failures != uint64(tries) || s.InForce || s.Error != "the lock is held" {
			t.Errorf("after %d tries: %+v", tries, s)
		}
		if len(s.Problems) != 2 || s.Problems[1].Kind != model.ProblemDataplane || !strings.Contains(s.Problems[1].Message, "the lock is held") {
			t.Errorf("problems: %+v", s.Problems)
		}
		if s.ErrorSince.IsZero() || s.WantedSince.IsZero() {
			t.Errorf("no beginning: %+v", s)
		}
		dp.say(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := w.loop.Status(); !s.InForce || s.Failures != 0 || s.Error != "" || !s.ErrorSince.IsZero() || len(s.Problems) > 0 {
			t.Errorf("recovered: %+v", s)
		}
		if n := w.lines(); n != 2 {
			t.Errorf("%d log lines, want one that it fails and one that it does not any more:\n%s", n, w.logs)
		}
	})
}

func TestLoopTakesAPartForAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dp := &fakeDataplane{}
		dp.say(func(*desired.State) (Report, error) {
			return Report{Problems: []model.Problem{{Message: "a set is refused"}}}, nil
		})
		w := run(t, LoopConfig{}, dp)
		defer w.stop()
		w.src.set(state(1, &desired.Rules{}))
		synctest.Wait()
		if s := w.loop.Status(); s.InForce || s.Failures != 1 || s.Error != "a set is refused" {
			t.Errorf("a part is not in force: %+v", s)
		}
	})
}

func TestLoopTriesANewerStateSoonWhileItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dp := &fakeDataplane{}
		dp.say(func(want *desired.State) (Report, error) {
			if want.Gen == 1 {
				return Report{}, errors.New("no")
			}
			return Report{Applied: true}, nil
		})
		w := run(t, LoopConfig{RetryMax: time.Hour}, dp)
		defer w.stop()
		rules := &desired.Rules{}
		w.src.set(state(1, rules))
		time.Sleep(time.Hour)
		synctest.Wait()
		tries := len(dp.seen())
		w.src.set(state(2, rules))
		synctest.Wait()
		if got := dp.seen(); len(got) != tries+1 || got[tries] != 2 {
			t.Errorf("after %d failures a newer State was not tried at once: %v", tries, got)
		}
	})
}

func TestLoopChecksAndReadsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dp := &fakeDataplane{}
		w := run(t, LoopConfig{CheckInterval: 5 * time.Second, RereadInterval: time.Minute}, dp)
		defer w.stop()
		w.src.set(state(1, &desired.Rules{}))
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if n := len(dp.seen()); n != 12 || dp.forgets != 0 {
			t.Errorf("in 59 s: %d Applies, %d readbacks, want 12 and 0", n, dp.forgets)
		}
		dp.say(func(*desired.State) (Report, error) {
			return Report{Applied: true, Repaired: []string{"a chain"}}, nil
		})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s := w.loop.Status()
		if dp.forgets != 1 || s.Totals.Repairs != 1 || len(s.Repaired) != 1 || s.RepairedAt.IsZero() {
			t.Errorf("after 61 s: %d readbacks, %+v", dp.forgets, s)
		}
		if !strings.Contains(w.logs.String(), "a chain") {
			t.Errorf("the log does not tell of the repair:\n%s", w.logs)
		}
	})
}

func TestLoopSumsReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dp := &fakeDataplane{}
		r := Report{
			Applied: true, Transactions: 1, SetsCreated: 2, SetsRemoved: 3, Added: 4, Deleted: 5, Swept: 6, Released: 7,
			Sweep: time.Second, Raised: true,
		}
		dp.say(func(want *desired.State) (Report, error) {
			time.Sleep(time.Millisecond)
			if want.Gen == 2 {
				return Report{Applied: true, Sweep: 2 * time.Second}, nil
			}
			return r, nil
		})
		w := run(t, LoopConfig{}, dp)
		defer w.stop()
		rules := &desired.Rules{}
		for gen := range uint64(3) {
			w.src.set(state(gen+1, rules))
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		want := Totals{
			Applies: 3, Transactions: 2, SetsCreated: 4, SetsRemoved: 6, Added: 8, Deleted: 10, FlowsReset: 12, FlowsDeleted: 14,
			Raises: 2, Sweeps: 3, SweepTime: 4 * time.Second, LastSweep: time.Second, LongestSweep: 2 * time.Second,
			LastApply: time.Millisecond, LongestApply: time.Millisecond,
		}
		if got := w.loop.Status().Totals; got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	})
}

func TestChangedTellsOfANewStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, LoopConfig{}, &fakeDataplane{})
		defer w.stop()
		synctest.Wait()
		changed := w.loop.Changed()
		select {
		case <-changed:
			t.Error("changed before anything has")
		default:
		}
		w.src.set(state(1, &desired.Rules{}))
		<-changed
		for changed = w.loop.Changed(); !w.loop.Status().InForce; changed = w.loop.Changed() {
			<-changed
		}
	})
}

func TestEndOfTheContextIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dp := &fakeDataplane{blocked: make(chan struct{})}
		w := run(t, LoopConfig{}, dp)
		w.src.set(state(1, &desired.Rules{}))
		synctest.Wait()
		w.stop()
		if s := w.loop.Status(); s.Failures != 0 || s.Error != "" {
			t.Errorf("stopped in the midst of an Apply: %+v", s)
		}
	})
}

func TestStatesComeInWhileOneIsBeingApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dp := &fakeDataplane{blocked: make(chan struct{})}
		w := run(t, LoopConfig{}, dp)
		defer w.stop()
		rules := &desired.Rules{}
		w.src.set(state(1, rules))
		synctest.Wait()
		w.src.set(state(2, rules))
		w.src.set(state(3, rules))
		synctest.Wait()
		close(dp.blocked)
		w.expect(1, 3)
	})
}

func TestPanicsAreNotCaught(t *testing.T) {
	dp := &fakeDataplane{}
	dp.say(func(*desired.State) (Report, error) { panic("a fault of ours") })
	src := newFakeSource()
	src.set(state(1, &desired.Rules{}))
	defer func() {
		if recover() == nil {
			t.Error("the panic was swallowed")
		}
	}()
	log := logrus.New()
	log.SetOutput(&bytes.Buffer{})
	_ = NewLoop(LoopConfig{}, dp, src, logrus.NewEntry(log)).Run(t.Context())
}
