package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/store"
)

// running is an agent in its loop, on a store on disk.
type running struct {
	*Agent
	t     *testing.T
	store *store.Store
	stop  context.CancelFunc
	done  chan error
}

func run(t *testing.T, dir string) *running {
	t.Helper()
	st, err := store.Open(dir, store.DefaultLimit, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{Agent: New(testConfig(), st, quiet()), t: t, store: st, stop: stop, done: make(chan error, 1)}
	go func() { r.done <- r.Run(ctx) }()
	t.Cleanup(stop)
	return r
}

// kill ends the loop where it is. What the disk has is the same as after a
// kill -9: the store does nothing more when it is closed but give up its lock.
func (r *running) kill() {
	r.t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Fatal(err)
	}
	if err := r.store.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// until waits for a snapshot of which ok is true.
func (r *running) until(what string, ok func(*Snapshot) bool) *Snapshot {
	r.t.Helper()
	for {
		s, newer := r.Snapshot()
		if ok(s) {
			return s
		}
		select {
		case <-newer:
		case <-r.t.Context().Done():
			r.t.Fatalf("never: %s", what)
		case <-time.After(time.Minute):
			r.t.Fatalf("no snapshot in which %s: %+v", what, s)
		}
	}
}

// world hands over what a node of west with two linked clusters knows, and waits
// until it does.
func (r *running) world(contact time.Time) *Snapshot {
	r.t.Helper()
	r.Facts(remotes(remote("canada", 1), remote("texas", 2)))
	for _, name := range []string{"west", "canada", "texas"} {
		r.Facts(list(name, model.KindPod, pod(name, "demo", "a"), pod(name, "demo", "b")))
		r.Facts(list(name, model.KindNode, node(name, "n")))
		r.Facts(list(name, model.KindNamespace, namespace(name, "demo", "team", name)))
		r.Status(name, inState(model.StateInSync, contact))
	}
	r.Facts(list("west", model.KindPolicy, networkPolicy("demo", "p", nil)))
	// A change that follows the list, and a cluster that no longer answers.
	r.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{
		model.Gone(model.PodKey("canada", "demo", "a")), model.Set(pod("canada", "demo", "c", "app", "redis")),
	}})
	r.Status("canada", inState(model.StateOutOfContact, contact))
	return r.until("all is known", func(s *Snapshot) bool {
		return s.InSync && s.View.Len() == 9 && known(s, "canada") && known(s, "texas") && len(s.Clusters) == 3 &&
			s.Clusters[1].Status.State == model.StateOutOfContact
	})
}

func known(s *Snapshot, cluster string) bool {
	_, ok := s.View.Namespace(model.NamespaceKey(cluster, "demo"))
	return ok
}

// all is everything that a snapshot knows, as text.
func all(s *Snapshot) string {
	var lines []string
	for e := range s.View.Endpoints() {
		lines = append(lines, factText(e.Key, e.Endpoint))
	}
	for n := range s.View.Namespaces() {
		lines = append(lines, factText(n.Key, n))
	}
	for c := range s.View.Clusters() {
		lines = append(lines, factText(c.FactKey(), c))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func restored(names ...string) func(*Snapshot) bool {
	return func(s *Snapshot) bool {
		for _, name := range names {
			if c, ok := s.Cluster(name); !ok || !c.Restored || c.Counts.Pods == 0 {
				return false
			}
		}
		return true
	}
}

func TestARestartInAnOutageKnowsWhatWasKnownTheMomentBefore_3_3(t *testing.T) {
	dir := t.TempDir()
	contact := time.Now().Add(-time.Hour).Truncate(time.Second)
	first := run(t, dir)
	want := first.world(contact)
	first.kill()

	second := run(t, dir)
	got := second.until("all is restored", restored("west", "canada", "texas"))
	if all(got) != all(want) {
		t.Errorf("got:\n%s\n\nwant:\n%s", all(got), all(want))
	}
	if !got.InSync || second.core.policies.Len() != 1 {
		t.Error("the local cluster is not whole")
	}
	for _, c := range got.Clusters {
		if !c.Status.LastContact.Equal(contact) || c.Status.State != model.StateConnecting {
			t.Errorf("status of %s: %+v, want contact %v", c.Name, c.Status, contact)
		}
		found := slices.ContainsFunc(got.Problems, func(p model.Problem) bool {
			return p.Kind == model.ProblemRestored && p.Object.Cluster == c.Name
		})
		if !found {
			t.Errorf("no Problem says that %s is restored", c.Name)
		}
	}
	second.kill()
	third := run(t, dir)
	if again := third.until("all is restored again", restored("west", "canada", "texas")); all(again) != all(want) {
		t.Errorf("after another restart:\n%s\n\nwant:\n%s", all(again), all(want))
	}
}

func TestNothingFlapsWhenARestoredClusterAnswers_3_2(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	first.world(time.Now())
	first.kill()
	second := run(t, dir)
	second.until("all is restored", restored("west", "canada", "texas"))
	stays := model.PodKey("canada", "demo", "b")
	flapped := make(chan bool)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		gone := false
		for ctx.Err() == nil {
			s, newer := second.Snapshot()
			if _, ok := s.View.Endpoint(stays); !ok {
				gone = true
			}
			select {
			case <-newer:
			case <-ctx.Done():
			}
		}
		flapped <- gone
	}()
	second.Status("canada", inState(model.StateSyncing, time.Now()))
	second.Facts(list("canada", model.KindNode, node("canada", "n")))
	second.Facts(list("canada", model.KindPod, pod("canada", "demo", "b")))
	s := second.until("the pod that went is gone", func(s *Snapshot) bool { return s.View.Len() == 8 })
	if c, _ := s.Cluster("canada"); !c.Restored || !known(s, "canada") {
		t.Error("namespaces are not kept until they are listed")
	}
	second.Facts(list("canada", model.KindNamespace))
	s = second.until("all is confirmed", func(s *Snapshot) bool { c, _ := s.Cluster("canada"); return !c.Restored })
	if known(s, "canada") {
		t.Error("a namespace that is gone is still known")
	}
	stop()
	if <-flapped {
		t.Error("a pod that was there all the time was gone for a moment")
	}
}

func TestWhatARemoteNoLongerListsAtAllIsDroppedWhenItIsInSync_3_2(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	first.world(time.Now())
	first.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(pod("canada", "other", "x"))}})
	first.until("there are ten", func(s *Snapshot) bool { return s.View.Len() == 10 })
	first.kill()
	second := run(t, dir)
	second.until("all is restored", restored("canada"))
	// Only namespace demo is imported now, and nodes may not be read.
	second.Facts(model.Batch{Cluster: "canada", Replace: model.KindPod, Namespace: "demo", Changes: sets([]model.Fact{pod("canada", "demo", "b")})})
	second.Facts(model.Batch{Cluster: "canada", Changes: sets([]model.Fact{namespace("canada", "demo", "team", "new")})})
	second.Status("canada", inState(model.StateInSync, time.Now()))
	s := second.until("canada is confirmed", func(s *Snapshot) bool { c, _ := s.Cluster("canada"); return !c.Restored && c.Fact.InContact })
	wantPods(t, s, "canada", "demo/b")
	if c, _ := s.Cluster("canada"); c.Counts.Nodes != 0 || c.Counts.Namespaces != 1 {
		t.Errorf("counts: %+v", c.Counts)
	}
}

func TestARemoteThatWasRemovedWhileDownIsDrained_3_3(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	first.world(time.Now())
	first.kill()
	second := run(t, dir)
	second.until("all is restored", restored("west", "canada", "texas"))
	second.Facts(remotes(remote("texas", 2)))
	s := second.until("canada is gone", func(s *Snapshot) bool { _, ok := s.Cluster("canada"); return !ok })
	wantPods(t, s, "canada")
	wantPods(t, s, "texas", "demo/a", "demo/b")
	second.kill()
	third := run(t, dir)
	s = third.until("texas is restored", restored("west", "texas"))
	if _, ok := s.Cluster("canada"); ok || slices.Contains(third.store.Clusters(), "canada") {
		t.Error("canada is back from the store")
	}
}

func TestAStoreOfAnotherRemoteClusterIsNotUsed_3_3(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	first.world(time.Now())
	first.kill()
	second := run(t, dir)
	second.Facts(remotes(remote("canada", 7), remote("texas", 2)))
	s := second.until("the new canada is known", func(s *Snapshot) bool {
		c, ok := s.Cluster("canada")
		return ok && c.Fact != nil && c.Fact.UID == uid(7) && restored("texas")(s)
	})
	wantPods(t, s, "canada")
}

func TestWithoutTheLocalStoreARemoteIsRestoredWhenItsFactComes_3_3(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	want := first.world(time.Now())
	first.kill()
	st, err := store.Open(dir, store.DefaultLimit, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Remove("west"); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	second := run(t, dir)
	if s, _ := second.Snapshot(); s.InSync || s.View.Len() != 0 {
		t.Error("something is known without the list of remote clusters")
	}
	second.Facts(remotes(remote("canada", 1), remote("texas", 3)))
	s := second.until("canada is restored", restored("canada"))
	wantPods(t, s, "canada", "demo/b", "demo/c")
	wantPods(t, s, "texas")
	if s.InSync || want.Clusters[1].Name != "canada" {
		t.Error("in sync without the local lists")
	}
}

func TestASuspendedClusterKeepsItsFactsOverARestartWithAProblem_3_3(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	first.world(time.Now().Add(-48 * time.Hour))
	suspended := remote("canada", 1)
	suspended.Suspended, suspended.StaleAfter = true, time.Hour
	first.Facts(model.Batch{Changes: []model.Change{model.Set(suspended)}})
	first.until("canada is suspended", func(s *Snapshot) bool { c, _ := s.Cluster("canada"); return c.Fact.Suspended })
	first.kill()
	second := run(t, dir)
	second.Facts(remotes(suspended))
	second.Status("canada", model.ClusterStatus{State: model.StateSuspended, Reason: model.ReasonSuspended})
	s := second.until("canada is suspended again", func(s *Snapshot) bool {
		c, _ := s.Cluster("canada")
		return restored("canada")(s) && c.Status.State == model.StateSuspended
	})
	wantPods(t, s, "canada", "demo/b", "demo/c")
	if !slices.ContainsFunc(s.Problems, func(p model.Problem) bool {
		return p.Kind == model.ProblemRestored && p.Object.Cluster == "canada"
	}) {
		t.Errorf("no Problem says so: %v", s.Problems)
	}
}

func TestStaleFactsAreNotUsedAfterARestart_3_3(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	first.world(time.Now().Add(-2 * time.Hour))
	first.kill()
	second := run(t, dir)
	old := remote("canada", 1)
	old.StaleAfter = time.Hour
	second.Facts(remotes(old, remote("texas", 2)))
	s := second.until("canada is dropped", func(s *Snapshot) bool {
		c, _ := s.Cluster("canada")
		return restored("texas")(s) && c.Fact != nil && c.Fact.StaleAfter > 0 && c.Counts.Pods == 0 && !c.Restored
	})
	wantPods(t, s, "texas", "demo/a", "demo/b")
}

func TestAHalfListedLocalClusterIsNotTakenForTheWholeAtTheNextStart_3_3(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	first.Facts(list("west", model.KindPod, pod("west", "demo", "a")))
	first.until("the pod is known", func(s *Snapshot) bool { return s.View.Len() == 1 })
	first.kill()
	second := run(t, dir)
	second.Facts(list("west", model.KindNamespace, namespace("west", "demo")))
	s := second.until("the namespace is known", func(s *Snapshot) bool { return known(s, "west") })
	if s.InSync || s.View.Len() != 0 {
		t.Error("half of the local cluster was stored as the whole")
	}
}

// TestAStoreThatFailsNeverHoldsHalfOfTheTruth_3_3: whatever fails, a file that is
// there without a Problem says what is known.
func TestAStoreThatFailsNeverHoldsHalfOfTheTruth_3_3(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 8))
			files := newFakeStore()
			files.long, files.faults = 3, rand.New(rand.NewPCG(seed, 9))
			s := newSteps(t, files)
			for _, c := range script(r, 60) {
				c(s)
				s.step()
				checkBroken(t, s)
				s.now = s.now.Add(time.Duration(r.IntN(20)) * time.Second)
			}
			files.mu.Lock()
			files.faults = nil
			files.mu.Unlock()
			s.settle()
			s.now = s.now.Add(retryInterval)
			s.settle()
			for _, p := range s.last.Problems {
				if p.Kind == model.ProblemStore {
					t.Errorf("the disk is well, but: %v", p)
				}
			}
			checkFiles(t, s)
		})
	}
}

// checkBroken: a file that could not be written is not there, unless it could not
// be removed either.
func checkBroken(t *testing.T, s *steps) {
	t.Helper()
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	for cluster := range s.disk.broken {
		if s.files.files[cluster] != nil && !s.files.stuck[cluster] {
			t.Errorf("a broken file of %s is still there", cluster)
		}
	}
}

func TestARemoteClusterThatWasMadeAnewAfterItWasRestoredIsDrained_1_1(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	first.world(time.Now())
	first.kill()
	second := run(t, dir)
	second.until("all is restored", restored("west", "canada", "texas"))
	second.Facts(remotes(remote("canada", 7), remote("texas", 2)))
	s := second.until("the new canada is known", func(s *Snapshot) bool { return s.Clusters[1].Fact.UID == uid(7) })
	wantPods(t, s, "canada")
	if s.Clusters[1].Restored {
		t.Error("it is said to be restored")
	}
}

func TestAListOfRemoteClustersWinsOverTheStore_3_3(t *testing.T) {
	c := NewCore(testConfig(), testStart())
	out := c.Step(Input{
		Now: testStart(), Listed: map[string]bool{},
		Images: map[string]Image{"west": {Facts: []model.Change{model.Set(remote("canada", 1)), model.Set(pod("west", "demo", "a"))}}},
	})
	if _, ok := out.Snapshot.Cluster("canada"); ok {
		t.Error("canada is back although it is not listed")
	}
	wantPods(t, out.Snapshot, "west", "demo/a")
}

func TestWhatASourceSaidWinsOverTheStore_3_3(t *testing.T) {
	files := newFakeStore()
	files.files["canada"] = &fakeFile{uid: uid(1), contact: testStart(), facts: map[model.Key]model.Fact{}}
	for _, old := range []model.Fact{pod("canada", "demo", "a", "age", "old"), pod("canada", "demo", "b"), node("canada", "n")} {
		files.files["canada"].facts[old.FactKey()] = old
	}
	s := newSteps(t, files)
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(pod("canada", "demo", "a", "age", "new"))}})
	s.Facts(list("canada", model.KindNode))
	s.settle()
	s.Facts(remotes(remote("canada", 1)))
	s.settle()
	s.want("canada", "demo/a", "demo/b")
	if e, _ := s.last.View.Endpoint(model.PodKey("canada", "demo", "a")); e.Labels.String() != "age=new" {
		t.Errorf("labels %s are from the store", e.Labels)
	}
	if n := s.cluster("canada").Counts.Nodes; n != 0 {
		t.Errorf("%d nodes from the store, although the list had none", n)
	}
	checkFiles(t, s)
}

func TestAFailedStoreIsAProblemAndStopsNothing(t *testing.T) {
	s := linked(t, remote("canada", 1), pod("canada", "demo", "a"))
	broken := rand.New(rand.NewPCG(1, 1))
	for s.files.faults = broken; ; {
		s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(pod("canada", "demo", fmt.Sprint(s.last.Gen)))}})
		if s.settle(); len(s.disk.broken) > 0 {
			break
		}
	}
	s.wantProblem(model.ProblemStore, "canada", errDisk.Error())
	s.files.faults = nil
	s.Facts(list("canada", model.KindPod, pod("canada", "demo", "z")))
	s.settle()
	s.want("canada", "demo/z")
	s.now = s.now.Add(retryInterval)
	s.settle()
	s.wantNoProblem(model.ProblemStore, "canada")
	checkFiles(t, s)
}

// TestAContactInTheFutureDoesNotStopTheClock_3_3: the node's clock was wrong when
// it was stored.
func TestAContactInTheFutureDoesNotStopTheClock_3_3(t *testing.T) {
	canada := remote("canada", 1)
	canada.StaleAfter = time.Hour
	first := linked(t, canada, pod("canada", "demo", "a"))
	first.files.files["canada"].contact = first.now.AddDate(70, 0, 0)

	s := newSteps(t, first.files)
	s.disk.restoreLocal()
	s.settle()
	s.want("canada", "demo/a")
	if contact := s.cluster("canada").Status.LastContact; contact.After(s.now) {
		t.Errorf("the last contact is at %s, which is still to come", contact)
	}
	s.pass(59 * time.Minute)
	s.want("canada", "demo/a")
	s.pass(2 * time.Minute)
	s.want("canada")
}

// TestARemoteThatNeverListsAllCannotFillMemory_3_3: of an import list one
// namespace may be listed, and be of changing names, while another never is.
func TestARemoteThatNeverListsAllCannotFillMemory_3_3(t *testing.T) {
	first := linked(t, remote("canada", 1), pod("canada", "one", "a"), pod("canada", "two", "b"))
	s := newSteps(t, first.files)
	s.disk.restoreLocal()
	s.settle()
	s.Facts(model.Batch{Cluster: "canada", Replace: model.KindPod, Namespace: "one"})
	s.settle()
	for i := range 100 {
		p := pod("canada", "one", fmt.Sprint(i))
		s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(p)}})
		s.settle()
		s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Gone(p.Key)}})
		s.settle()
	}
	if n := len(s.core.clusters["canada"].confirmed.keys); n > 0 {
		t.Errorf("%d names of pods that are gone are remembered", n)
	}
	s.want("canada", "two/b")
}
