package federation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

// badPolicy has a part that could not be read.
func badPolicy(namespace, name string, generation int64, messages ...string) *model.Policy {
	if len(messages) == 0 {
		messages = []string{"spec.ingress[0]: cannot be read"}
	}
	return &model.Policy{
		Key: model.PolicyKey("west", namespace, name), UID: model.ParseUID(namespace + "/" + name), Generation: generation,
		Ingress: true, Malformed: messages,
	}
}

// knowing is a snapshot of west with these policies.
func knowing(policies ...*model.Policy) *agent.Snapshot {
	s := &agent.Snapshot{
		Gen: 1, InSync: true, Self: agent.Self{Cluster: "west", Node: "node-1"}, Meaning: policy.Config{Cluster: "west"},
		Clusters: []agent.Cluster{{Name: "west", Local: true, Status: model.ClusterStatus{State: model.StateInSync}}},
	}
	for _, p := range policies {
		s.Policies = append(s.Policies, agent.PolicyView{Policy: p})
	}
	return s
}

// drain is what is written, as NAMESPACE/NAME REASON, without any time going by.
func drain(a *announcer, now time.Time) []string {
	var all []string
	for {
		n, _, ok := a.next(now)
		if !ok {
			return all
		}
		a.written(n)
		all = append(all, n.key.Namespace+"/"+n.key.Name+" "+n.reason)
	}
}

func someTime() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func TestOneEventForEachReasonAndGeneration_2_13(t *testing.T) {
	a, now := newAnnouncer(), someTime()
	p := badPolicy("shop", "front", 1, "one", "two")
	p.PeerScope = "everything"
	expect := func(what string, s *agent.Snapshot, want ...string) {
		t.Helper()
		a.update(now, s, nil)
		if got := drain(a, now); !slices.Equal(got, want) {
			t.Errorf("%s: wrote %q, want %q", what, got, want)
		}
	}
	expect("at first", knowing(p, badPolicy("shop", "good", 1)), "shop/front PeerScopeIgnored", "shop/front PolicyNotUnderstood", "shop/good PolicyNotUnderstood")
	expect("again", knowing(p, badPolicy("shop", "good", 1)))
	other := *p
	other.Malformed = []string{"another message"}
	expect("another message of the same generation", knowing(&other))
	next := *p
	next.Generation = 2
	expect("another generation", knowing(&next), "shop/front PeerScopeIgnored", "shop/front PolicyNotUnderstood")
	again := next
	again.UID = model.ParseUID("another")
	expect("another object of that name", knowing(&again), "shop/front PeerScopeIgnored", "shop/front PolicyNotUnderstood")
	mended := again
	mended.Generation, mended.Malformed, mended.PeerScope = 3, nil, ""
	expect("mended", knowing(&mended))
}

func TestOnlyWhatTheAPIServerConfirmsIsSpokenOf_3_3(t *testing.T) {
	for name, change := range map[string]func(*agent.Snapshot){
		"restored":    func(s *agent.Snapshot) { s.Clusters[0].Restored = true },
		"not in sync": func(s *agent.Snapshot) { s.InSync = false },
		"no cluster":  func(s *agent.Snapshot) { s.Clusters = nil },
	} {
		a, s := newAnnouncer(), knowing(badPolicy("shop", "front", 1))
		change(s)
		a.update(someTime(), s, nil)
		if got := drain(a, someTime()); got != nil {
			t.Errorf("%s: wrote %q", name, got)
		}
	}
}

func TestANamespacesProblemIsNoPolicys(t *testing.T) {
	p := badPolicy("shop", "front", 1)
	of := []model.Problem{{Kind: model.ProblemPeerScope, Object: model.NamespaceKey("west", "shop"), Message: "no"}}
	if got := findings(p, of); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestEventsAreOfBoundedRate_2_13(t *testing.T) {
	a, now := newAnnouncer(), someTime()
	var all []*model.Policy
	for n := range 10 {
		for i := range 50 {
			all = append(all, badPolicy(fmt.Sprintf("n%d", n), fmt.Sprintf("p%02d", i), 1))
		}
	}
	a.update(now, knowing(all...), nil)
	if got := drain(a, now); len(got) != eventBurst || !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "n1/") }) {
		t.Errorf("at once: %d: %q", len(got), got)
	}
	if _, wait, ok := a.next(now); ok || wait <= 0 || wait > eventPeriod {
		t.Errorf("then ok %v, wait %v", ok, wait)
	}
	written := eventBurst
	for range 600 { // ten minutes, a second each
		now = now.Add(time.Second)
		a.update(now, knowing(all...), nil)
		n := len(drain(a, now))
		if n > int(time.Second/eventPeriod) {
			t.Fatalf("%d in a second", n)
		}
		written += n
	}
	if written != len(all) {
		t.Errorf("%d of %d written after ten minutes", written, len(all))
	}
	if _, wait, ok := a.next(now); ok || wait != 0 {
		t.Errorf("nothing is left, and ok %v, wait %v", ok, wait)
	}
}

func TestANamespaceWithManyProblemsDoesNotKeepOthersWaiting_2_13(t *testing.T) {
	a, now := newAnnouncer(), someTime()
	var all []*model.Policy
	for i := range 1000 {
		all = append(all, badPolicy("a-noisy", fmt.Sprintf("p%03d", i), 1))
	}
	all = append(all, badPolicy("z-quiet", "p", 1))
	a.update(now, knowing(all...), nil)
	got := drain(a, now)
	if len(got) != spaceBurst+1 || got[spaceBurst] != "z-quiet/p PolicyNotUnderstood" {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsGoneIsForgotten(t *testing.T) {
	a, now := newAnnouncer(), someTime()
	for round := range 50 {
		var all []*model.Policy
		for i := range 10 {
			all = append(all, badPolicy(fmt.Sprintf("n%d", round), fmt.Sprintf("p%d", i), 1))
		}
		a.update(now, knowing(all...), nil)
		drain(a, now)
		now = now.Add(time.Hour)
	}
	a.update(now, knowing(), nil)
	if len(a.policies) != 0 || len(a.pending) != 0 || len(a.spaces) != 0 {
		t.Errorf("%d policies, %d findings, %d namespaces are kept", len(a.policies), len(a.pending), len(a.spaces))
	}
}

func TestEventsAreAsTheAPIServerTakesThem(t *testing.T) {
	long := strings.Repeat("é", 4000)
	for _, tt := range []struct {
		name     string
		messages []string
		want     string // part of the note
	}{
		{"front", []string{"a", "b"}, "a; b"},
		{strings.Repeat("a", 199) + "." + strings.Repeat("b", 53), []string{long}, "é"},
		{"many", slices.Repeat([]string{strings.Repeat("x", 100)}, 50), "; and 41 more"},
		{"first too long", []string{long, "b", "c"}, "; and 2 more"},
		{"odd", []string{"\xff"}, "?"},
	} {
		p := badPolicy("shop", tt.name, 7, tt.messages...)
		all := findings(p, policy.Config{Cluster: "west"}.Problems(p, nil))
		if tt.name != "odd" && len(tt.messages) > 1 { // equal messages are one Problem
			var problems []model.Problem
			for _, m := range tt.messages {
				problems = append(problems, model.Problem{Kind: model.ProblemPolicy, Object: p.Key, Message: m})
			}
			all = findings(p, problems)
		}
		if len(all) != 1 {
			t.Fatalf("%d Events", len(all))
		}
		e := all[0].event(someTime(), strings.Repeat("i", 300))
		if why := validation.IsDNS1123Subdomain(e.Name); why != nil && tt.name != "first too long" {
			t.Errorf("%s: name %q: %v", tt.name, e.Name, why)
		}
		if len(e.Note) > 1024 || len(e.ReportingInstance) > 128 || !strings.Contains(e.Note, tt.want) || e.EventTime.IsZero() ||
			e.Action == "" || e.Type != "Warning" || e.Regarding.Name != tt.name || e.Regarding.Namespace != e.Namespace || e.Regarding.UID == "" {
			t.Errorf("%s: got %+v", tt.name, e)
		}
		if again := all[0].event(someTime().Add(time.Hour), "another"); again.Name != e.Name {
			t.Errorf("another leader calls it %q, not %q", again.Name, e.Name)
		}
		next := all[0]
		edited := *p
		edited.Generation++
		if next.subject = policySubject(&edited); next.event(someTime(), "").Name == e.Name {
			t.Error("another generation has the same Event")
		}
	}
}

// announcing runs a writer against a fake API server.
func announcing(t *testing.T, kube *fake.Clientset, s *agent.Snapshot, body func(*snapshots)) {
	t.Helper()
	source := newSnapshots(s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewEventWriter("agent-1", kube.EventsV1(), source, newSources(), quiet()).Run(ctx)
	}()
	body(source)
	cancel()
	<-done
}

func eventsOf(t *testing.T, kube *fake.Clientset) []string {
	t.Helper()
	list, err := kube.EventsV1().Events("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list.Items {
		all = append(all, fmt.Sprintf("%s/%s %s: %s", e.Regarding.Namespace, e.Regarding.Name, e.Reason, e.Note))
	}
	slices.Sort(all)
	return all
}

func TestEventsAreWrittenOnceByOneLeaderAfterAnother_2_13(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kube := fake.NewClientset()
		creates := 0
		kube.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
			creates++
			return false, nil, nil
		})
		want := []string{"shop/front PolicyNotUnderstood: spec.ingress[0]: cannot be read"}
		announcing(t, kube, knowing(badPolicy("shop", "front", 1)), func(source *snapshots) {
			time.Sleep(time.Minute)
			source.publish(knowing(badPolicy("shop", "front", 1)))
			time.Sleep(time.Minute)
			if got := eventsOf(t, kube); !slices.Equal(got, want) || creates != 1 {
				t.Errorf("%d creates, %q", creates, got)
			}
		})
		announcing(t, kube, knowing(badPolicy("shop", "front", 1)), func(source *snapshots) {
			time.Sleep(time.Minute)
			if got := eventsOf(t, kube); !slices.Equal(got, want) || creates != 2 {
				t.Errorf("the next leader: %d creates, %q", creates, got)
			}
			source.publish(knowing(badPolicy("shop", "front", 2)))
			time.Sleep(time.Minute)
			if got := eventsOf(t, kube); len(got) != 2 {
				t.Errorf("the next generation: %q", got)
			}
		})
	})
}

func TestFailedEventsAreTriedAgainAndKeepNobodyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kube := fake.NewClientset()
		resource := schema.GroupResource{Group: eventsv1.GroupName, Resource: "events"}
		var tries, gone atomic.Int32
		kube.PrependReactor("create", "events", func(a clienttesting.Action) (bool, runtime.Object, error) {
			switch a.GetNamespace() {
			case "full":
				if tries.Add(1) <= 5 {
					return true, nil, apierrors.NewForbidden(resource, "", fmt.Errorf("exceeded quota"))
				}
			case "gone":
				gone.Add(1)
				err := apierrors.NewForbidden(resource, "", fmt.Errorf("it is being terminated"))
				err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})
				return true, nil, err
			}
			return false, nil, nil
		})
		s := knowing(badPolicy("full", "p", 1), badPolicy("gone", "p", 1), badPolicy("shop", "p", 1))
		announcing(t, kube, s, func(*snapshots) {
			time.Sleep(2 * time.Second)
			if got := eventsOf(t, kube); len(got) != 1 || !strings.HasPrefix(got[0], "shop/p ") {
				t.Errorf("at first: %q", got)
			}
			time.Sleep(5 * time.Minute)
			if got := eventsOf(t, kube); len(got) != 2 || tries.Load() != 6 || gone.Load() != 1 {
				t.Errorf("%d tries, %d for a namespace that is going: %q", tries.Load(), gone.Load(), got)
			}
		})
	})
}

// sources publishes snapshots of federated Services.
type sources struct {
	mu    sync.Mutex
	now   *ServicesSnapshot
	newer chan struct{}
}

func newSources() *sources { return &sources{now: &ServicesSnapshot{}, newer: make(chan struct{})} }

func (s *sources) Snapshot() (*ServicesSnapshot, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.newer
}
