package federation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
)

// These tests run on a clock of their own (testing/synctest): times in them are
// exact and independent of the machine.

// world is a few agents around one Lease, and finds out if two write at once.
type world struct {
	t       *testing.T
	leases  leases
	mu      sync.Mutex
	writing []string
	terms   []string
	stops   []func()
}

// agent is one of them.
type electing struct {
	*Leader
	cut  atomic.Bool
	stop func() // and wait until it has stopped
}

func (w *world) agent(cfg LeaderConfig, objects ...runtime.Object) *electing {
	e := &electing{}
	cfg.Namespace = "overland-system"
	var client kubernetes.Interface = w.leases.client(e.cut.Load, objects...)
	leader, err := NewLeader(cfg, client, quiet())
	if err != nil {
		w.t.Fatal(err)
	}
	e.Leader = leader
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := leader.Run(ctx, func(ctx context.Context) { w.body(ctx, cfg.Identity) }); err != nil {
			w.t.Errorf("%s: %v", cfg.Identity, err)
		}
	}()
	e.stop = func() { cancel(); <-done }
	w.stops = append(w.stops, e.stop)
	return e
}

func (w *world) body(ctx context.Context, name string) {
	w.mu.Lock()
	w.writing = append(w.writing, name)
	w.terms = append(w.terms, name)
	if len(w.writing) > 1 {
		w.t.Errorf("%v write at once", w.writing)
	}
	w.mu.Unlock()
	<-ctx.Done()
	w.mu.Lock()
	w.writing = slices.DeleteFunc(w.writing, func(n string) bool { return n == name })
	w.mu.Unlock()
}

func (w *world) who() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.writing) == 0 {
		return ""
	}
	return w.writing[0]
}

// until waits for a leader other than old, and gives it and how long it took.
func (w *world) until(old string, limit time.Duration) (string, time.Duration) {
	w.t.Helper()
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if now := w.who(); now != "" && now != old {
			return now, time.Since(begin)
		}
		if time.Since(begin) > limit {
			w.t.Fatalf("nobody but %q leads after %s", old, limit)
		}
	}
}

func election(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t}
		test(t, w)
		for _, stop := range w.stops {
			stop()
		}
	})
}

func TestACleanStopHandsOverWithinFiveSeconds_4_11(t *testing.T) {
	election(t, func(t *testing.T, w *world) {
		agents := map[string]*electing{}
		for _, name := range []string{"a", "b", "c"} {
			agents[name] = w.agent(LeaderConfig{Identity: name, Candidate: CandidateAlways})
		}
		first, _ := w.until("", 5*time.Second)
		if !agents[first].Leading() || agents[first].Current() != first {
			t.Errorf("%s leads, and says leading %v, leader %q", first, agents[first].Leading(), agents[first].Current())
		}
		time.Sleep(time.Minute) // many renewals
		if now := w.who(); now != first {
			t.Fatalf("%s led, now %q does", first, now)
		}
		agents[first].stop()
		if agents[first].Leading() || w.leases.holder() == first {
			t.Errorf("stopped, %s leads: %v; the Lease is of %q", first, agents[first].Leading(), w.leases.holder())
		}
		second, took := w.until(first, 10*time.Second)
		if took > 5*time.Second {
			t.Errorf("%s leads after %s, want at most 5s", second, took)
		}
		time.Sleep(10 * time.Second)
		for name, e := range agents {
			if name != first && e.Current() != second {
				t.Errorf("%s says that %q leads; %s does", name, e.Current(), second)
			}
		}
	})
}

func TestALeaderThatIsCutOffStopsWritingBeforeAnotherLeads_4_11(t *testing.T) {
	election(t, func(t *testing.T, w *world) {
		agents := map[string]*electing{}
		for _, name := range []string{"a", "b"} {
			agents[name] = w.agent(LeaderConfig{Identity: name, Candidate: CandidateAlways})
		}
		for round := range 6 {
			first, _ := w.until("", time.Minute)
			time.Sleep(time.Duration(round) * 700 * time.Millisecond) // at different points between renewals
			agents[first].cut.Store(true)
			begin := time.Now()
			for w.who() == first {
				time.Sleep(50 * time.Millisecond)
			}
			if took := time.Since(begin); took > renewDeadline+100*time.Millisecond {
				t.Errorf("round %d: writes for %s after it was cut off, want at most %s", round, took, renewDeadline)
			}
			second, _ := w.until(first, time.Minute)
			if took := time.Since(begin); took > 15*time.Second {
				t.Errorf("round %d: %s leads %s after the cut, want at most 15s", round, second, took)
			}
			agents[first].cut.Store(false)
			time.Sleep(20 * time.Second)
			if now := w.who(); now != second {
				t.Errorf("round %d: %s takes over from %s when it is back", round, now, second)
			}
			agents[second].stop() // and again, with a new agent
			delete(agents, second)
			name := fmt.Sprintf("r%d", round)
			agents[name] = w.agent(LeaderConfig{Identity: name, Candidate: CandidateAlways})
		}
	})
}

func TestAnAgentThatNeverStandsStillKnowsWhoLeads(t *testing.T) {
	election(t, func(t *testing.T, w *world) {
		w.agent(LeaderConfig{Identity: "a", Candidate: CandidateAlways})
		e := w.agent(LeaderConfig{Identity: "b", Candidate: CandidateNever})
		time.Sleep(time.Minute)
		if w.who() != "a" || e.Current() != "a" || e.Leading() {
			t.Errorf("%q leads; b says %q, leading %v", w.who(), e.Current(), e.Leading())
		}
	})
}

// nodeObjects are Node objects that are all Ready.
func nodeObjects(nodes []NodeInfo) []runtime.Object {
	var all []runtime.Object
	for _, n := range nodes {
		all = append(all, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: n.Name},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
		})
	}
	return all
}

func TestAutoLeavesTheElectionToFiveNodes_4_11(t *testing.T) {
	election(t, func(t *testing.T, w *world) {
		nodes := ranked(someNodes(9))
		for _, n := range nodes {
			w.agent(LeaderConfig{Identity: n.Name, Node: n.Name, Candidate: CandidateAuto, Nodes: func() []NodeInfo { return nodes }}, nodeObjects(nodes)...)
		}
		for range 4 {
			leader, _ := w.until("", 30*time.Second)
			i := slices.IndexFunc(nodes, func(n NodeInfo) bool { return n.Name == leader })
			if i >= maxCandidates {
				t.Errorf("%s leads, which is number %d", leader, i)
			}
			w.stops[i]()
		}
	})
}

func TestACandidateThatHasJustStartedFollowsALeaderThatDies_4_11(t *testing.T) {
	election(t, func(t *testing.T, w *world) {
		nodes := ranked(someNodes(2))
		first := w.agent(LeaderConfig{Identity: "first", Node: nodes[0].Name, Candidate: CandidateAuto, Nodes: func() []NodeInfo { return nodes }}, nodeObjects(nodes)...)
		w.until("", 5*time.Second)
		// The other one does not know the nodes yet when it looks for the first time.
		started := time.Now()
		w.agent(LeaderConfig{Identity: "second", Node: nodes[1].Name, Candidate: CandidateAuto, Nodes: func() []NodeInfo {
			if time.Since(started) < time.Second {
				return nil
			}
			return nodes
		}}, nodeObjects(nodes)...)
		time.Sleep(3 * time.Second)
		first.cut.Store(true) // and is never heard of again
		if now, took := w.until("first", time.Minute); took > 15*time.Second {
			t.Errorf("%s leads after %s, want at most 15s", now, took)
		}
	})
}

func TestALeaderYieldsWhenLowerNodesJoin_4_11(t *testing.T) {
	election(t, func(t *testing.T, w *world) {
		all := ranked(someNodes(9))
		var known atomic.Pointer[[]NodeInfo]
		last := all[len(all)-1:]
		known.Store(&last)
		list := func() []NodeInfo { return *known.Load() }
		for _, n := range slices.Backward(all) {
			w.agent(LeaderConfig{Identity: n.Name, Node: n.Name, Candidate: CandidateAuto, Nodes: list}, nodeObjects(all)...)
		}
		if leader, _ := w.until("", 10*time.Second); leader != last[0].Name {
			t.Fatalf("%s leads, and is not a candidate", leader)
		}
		known.Store(&all)
		leader, _ := w.until(last[0].Name, 2*time.Minute)
		if i := slices.IndexFunc(all, func(n NodeInfo) bool { return n.Name == leader }); i >= maxCandidates {
			t.Errorf("%s leads, which is number %d", leader, i)
		}
	})
}

func TestSomebodyLeadsThoughTheCandidatesHaveNoAgents(t *testing.T) {
	election(t, func(t *testing.T, w *world) {
		nodes := ranked(someNodes(9))
		last := nodes[len(nodes)-1]
		w.agent(LeaderConfig{Identity: last.Name, Node: last.Name, Candidate: CandidateAuto, Nodes: func() []NodeInfo { return nodes }}, nodeObjects(nodes)...)
		w.until("", 2*time.Minute)
		time.Sleep(10 * time.Minute)
		now := w.who()
		w.mu.Lock()
		defer w.mu.Unlock()
		if now != last.Name || len(w.terms) != 1 {
			t.Errorf("%q leads after terms of %v, want one that goes on", now, w.terms)
		}
	})
}

func TestALeaderNeedsToKnowWhatItIs(t *testing.T) {
	for name, cfg := range map[string]LeaderConfig{
		"no identity":  {Namespace: "n", Candidate: CandidateAlways},
		"no namespace": {Identity: "a", Candidate: CandidateAlways},
		"no candidacy": {Namespace: "n", Identity: "a"},
		"no nodes":     {Namespace: "n", Identity: "a", Candidate: CandidateAuto},
	} {
		if _, err := NewLeader(cfg, nil, quiet()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
