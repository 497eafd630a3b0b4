package agent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// call is one call of the Sink.
type call func(s sink)

// sink is what a source calls.
type sink interface {
	Facts(b model.Batch)
	Status(cluster string, s model.ClusterStatus)
	Drain(cluster string)
}

// naive does what each call says, at once: the meaning of the calls.
type naive struct {
	facts  map[model.Key]model.Fact
	status map[string]model.ClusterStatus
	// unconfirmed are facts of an earlier life that nobody has spoken of.
	unconfirmed map[model.Key]bool
}

func newNaive() *naive {
	return &naive{facts: map[model.Key]model.Fact{}, status: map[string]model.ClusterStatus{}, unconfirmed: map[model.Key]bool{}}
}

func (n *naive) Facts(b model.Batch) {
	if b.Replace == model.KindCluster {
		listed := map[string]bool{"west": true}
		for _, c := range b.Changes {
			listed[c.Key.Cluster] = true
		}
		for _, name := range n.names() {
			if !listed[name] {
				n.forget(name)
			}
		}
	} else if b.Replace != 0 {
		scope := Scope{b.Replace, b.Namespace}
		n.remove(func(k model.Key) bool { return k.Cluster == b.Cluster && scope.holds(k) })
	}
	for _, c := range b.Changes {
		n.change(b.Cluster, c)
	}
}

func (n *naive) change(cluster string, c model.Change) {
	switch name := c.Key.Cluster; {
	case c.Key.Kind == model.KindPolicy && name != "west":
	case c.Key.Kind == model.KindCluster && name == "west":
	case c.Key.Kind == model.KindCluster:
		fact, ok := c.Value.(*model.Cluster)
		if !ok {
			n.forget(name)
			return
		}
		if old, known := n.facts[c.Key].(*model.Cluster); known && old.UID != fact.UID {
			n.forget(name)
		}
		n.facts[c.Key] = fact
	case name != cluster:
	case c.Value == nil:
		delete(n.facts, c.Key)
	default:
		delete(n.unconfirmed, c.Key)
		n.facts[c.Key] = c.Value
	}
}

func (n *naive) Status(cluster string, s model.ClusterStatus) {
	n.status[cluster] = s
	if s.State == model.StateInSync {
		n.remove(func(k model.Key) bool { return k.Cluster == cluster && n.unconfirmed[k] })
	}
}

func (n *naive) Drain(cluster string) {
	n.remove(func(k model.Key) bool { return k.Cluster == cluster && k.Kind != model.KindCluster })
}

func (n *naive) forget(cluster string) {
	n.remove(func(k model.Key) bool { return k.Cluster == cluster })
	delete(n.status, cluster)
}

func (n *naive) remove(gone func(model.Key) bool) {
	maps.DeleteFunc(n.facts, func(k model.Key, _ model.Fact) bool { return gone(k) })
}

func (n *naive) names() []string {
	names := map[string]bool{}
	for k := range n.facts {
		names[k.Cluster] = true
	}
	for name := range n.status {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (n *naive) text() string {
	var lines []string
	for k, f := range n.facts {
		lines = append(lines, factText(k, f))
	}
	for name, s := range n.status {
		lines = append(lines, statusText(name, s))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func factText(k model.Key, f model.Fact) string {
	switch f := f.(type) {
	case *model.Endpoint:
		return fmt.Sprintf("%s %s", k, f.Labels)
	case *model.Namespace:
		return fmt.Sprintf("%s %s", k, f.Labels)
	case *model.Policy:
		return fmt.Sprintf("%s %d", k, f.Generation)
	case *model.Cluster:
		return fmt.Sprintf("%s %s %d", k, f.UID, f.EndpointLimit)
	}
	return k.String() + " nothing"
}

func statusText(name string, s model.ClusterStatus) string {
	return fmt.Sprintf("status of %s: %s", name, s.State)
}

// steps drives a Core as the agent does, with its own store.
type steps struct {
	t     *testing.T
	core  *Core
	box   *mailbox
	disk  *keeper
	now   time.Time
	last  *Snapshot
	files *fakeStore
	seen  []Transition
}

func newSteps(t *testing.T, files *fakeStore) *steps {
	s := &steps{t: t, now: testStart(), files: files, core: NewCore(testConfig(), testStart()), box: newMailbox("west")}
	s.disk = newKeeper(files, s.core, "west", quiet(), s.box)
	return s
}

func (s *steps) Facts(b model.Batch)                               { s.box.facts(b) }
func (s *steps) Status(cluster string, status model.ClusterStatus) { s.box.status(cluster, status) }
func (s *steps) Drain(cluster string)                              { s.box.drain(cluster) }

// step is one step; its time is that of the test.
func (s *steps) step() (more bool) {
	s.disk.collect(s.now)
	held := false
	mail, listed := s.box.take(func(cluster string, m *Mail) bool {
		h := s.core.Busy(cluster) || s.disk.holds(cluster, m)
		held = held || h
		return h
	})
	s.disk.load()
	out := s.core.Step(Input{
		Now: s.now, Listed: listed, Images: s.disk.takeImages(), Mail: mail, StoreProblems: s.disk.problems(),
		Interfaces: s.box.takeInterfaces(), Attachments: s.box.takeAttachments(), Reading: s.disk.busyReading(),
	})
	_, changed := s.disk.write(out.Store, listed, s.now)
	s.seen = append(s.seen, out.Transitions...)
	if out.Snapshot != nil {
		s.last = out.Snapshot
	}
	return out.More || held || changed || s.disk.reading != nil || len(s.disk.waiting) > 0 || len(s.disk.rewriting) > 0
}

// settle steps until nothing is left to do, and gives the newest snapshot.
func (s *steps) settle() *Snapshot {
	for s.step() {
		if r := s.disk.reading; r != nil {
			<-r.done
		}
	}
	return s.last
}

func (s *steps) text() string {
	snapshot := s.settle()
	var lines []string
	for _, cl := range snapshot.Clusters {
		for f := range s.core.Facts(cl.Name) {
			if f.FactKey().Kind != model.KindCluster {
				lines = append(lines, factText(f.FactKey(), f))
			}
		}
		if cl.Fact != nil && !cl.Local {
			lines = append(lines, factText(model.ClusterKey(cl.Name), cl.Fact))
		}
		if s.core.clusters[cl.Name].hasStatus {
			lines = append(lines, statusText(cl.Name, cl.Status))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// script makes a sequence of calls out of random numbers, of a world small
// enough for them to meet.
func script(r *rand.Rand, n int) []call {
	var calls []call
	for range n {
		calls = append(calls, randomCall(r))
	}
	return calls
}

func randomCall(r *rand.Rand) call {
	clusters := []string{"west", "canada", "texas"}
	cluster := clusters[r.IntN(3)]
	space := string(rune('a' + r.IntN(2)))
	switch r.IntN(12) {
	case 0:
		state := model.State(r.IntN(5))
		return func(s sink) { s.Status(cluster, inState(state, testStart())) }
	case 1:
		cluster = clusters[1+r.IntN(2)]
		return func(s sink) { s.Drain(cluster) }
	case 2:
		var listed []*model.Cluster
		for _, name := range clusters[1:] {
			if r.IntN(3) > 0 {
				listed = append(listed, remote(name, byte(1+r.IntN(2))))
			}
		}
		return func(s sink) { s.Facts(remotes(listed...)) }
	case 3, 4:
		c := model.Gone(model.ClusterKey(cluster))
		if r.IntN(4) > 0 {
			fact := remote(cluster, byte(1+r.IntN(2)))
			fact.EndpointLimit = 1000 * (1 + r.IntN(2))
			c = model.Set(fact)
		}
		return func(s sink) { s.Facts(model.Batch{Cluster: cluster, Changes: []model.Change{c}}) }
	case 5, 6:
		kind := kinds()[r.IntN(4)]
		b := model.Batch{Cluster: cluster, Replace: kind}
		if kind == model.KindPod || kind == model.KindPolicy {
			if r.IntN(2) == 0 {
				b.Namespace = space
			}
		}
		for range r.IntN(5) {
			c := randomChange(r, cluster, kind)
			if c.Value != nil && (b.Namespace == "" || c.Key.Namespace == b.Namespace) {
				b.Changes = append(b.Changes, c)
			}
		}
		return func(s sink) { s.Facts(b) }
	}
	b := model.Batch{Cluster: cluster}
	for range 1 + r.IntN(4) {
		b.Changes = append(b.Changes, randomChange(r, cluster, kinds()[r.IntN(4)]))
	}
	return func(s sink) { s.Facts(b) }
}

func randomChange(r *rand.Rand, cluster string, kind model.Kind) model.Change {
	if r.IntN(50) == 0 {
		cluster = "texas" // it may not be its own
	}
	space, name, value := string(rune('a'+r.IntN(2))), fmt.Sprint(r.IntN(3)), fmt.Sprint(r.IntN(3))
	var f model.Fact
	switch kind {
	case model.KindPod:
		f = pod(cluster, space, name, "app", value)
	case model.KindNode:
		n := node(cluster, name)
		n.Labels = labelSet([]string{"zone", value})
		f = n
	case model.KindNamespace:
		f = namespace(cluster, space, "team", value)
	case model.KindPolicy:
		p := networkPolicy(space, name, model.LabelSelector{{Key: "app", Operator: model.In, Values: []string{value}}})
		p.Key.Cluster = cluster
		p.Generation = int64(r.IntN(3))
		f = p
	}
	if r.IntN(3) == 0 {
		return model.Gone(f.FactKey())
	}
	return model.Set(f)
}

// checkScript plays calls with cuts between steps where cut says so, and compares
// what is known, and what is stored, with the naive model. Then it does the same
// in a second life, which begins with what was stored.
func checkScript(t *testing.T, calls, later []call, cut func() bool) {
	t.Helper()
	files := newFakeStore()
	files.long = 3
	want := newNaive()
	first := newSteps(t, files)
	for _, kind := range kinds() { // the local cluster is stored once it is known whole
		calls = append(calls, func(s sink) { s.Facts(list("west", kind)) })
	}
	play(t, first, want, calls, cut)
	want = newNaive()
	for _, f := range files.files {
		for key, fact := range f.facts {
			want.facts[key] = fact
			want.unconfirmed[key] = key.Kind != model.KindCluster
		}
	}
	second := newSteps(t, files)
	second.disk.restoreLocal()
	second.step()
	play(t, second, want, later, cut)
}

func play(t *testing.T, got *steps, want *naive, calls []call, cut func() bool) {
	t.Helper()
	for _, c := range calls {
		c(want)
		c(got)
		if cut() {
			got.step()
		}
	}
	if got, want := got.text(), want.text(); got != want {
		t.Fatalf("got:\n%s\n\nwant:\n%s", got, want)
	}
	checkFiles(t, got)
}

// checkFiles compares the store with what is known.
func checkFiles(t *testing.T, s *steps) {
	t.Helper()
	for _, cl := range s.last.Clusters {
		file := s.files.files[cl.Name]
		if file == nil {
			if cl.Local && s.last.InSync || !cl.Local && cl.Fact != nil && (!cl.Status.LastContact.IsZero() || cl.Counts.Pods+cl.Counts.Nodes+cl.Counts.Namespaces > 0) {
				t.Errorf("%s is not stored", cl.Name)
			}
			continue
		}
		var want, have []string
		for f := range s.core.Facts(cl.Name) {
			want = append(want, factText(f.FactKey(), f))
		}
		for key, f := range file.facts {
			have = append(have, factText(key, f))
		}
		slices.Sort(want)
		slices.Sort(have)
		if !slices.Equal(want, have) {
			t.Errorf("stored of %s:\n%s\n\nknown:\n%s", cl.Name, strings.Join(have, "\n"), strings.Join(want, "\n"))
		}
	}
	for name := range s.files.files {
		if _, known := s.last.Cluster(name); !known {
			t.Errorf("%s is not known, but stored", name)
		}
	}
}

func TestStepsAnywhereEndInWhatTheCallsSaid(t *testing.T) {
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 3))
		calls, later := script(r, 1+r.IntN(60)), script(r, r.IntN(30))
		often := 1 + r.IntN(8)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			checkScript(t, calls, later, func() bool { return true })
			checkScript(t, calls, later, func() bool { return false })
			checkScript(t, calls, later, func() bool { return r.IntN(often) == 0 })
		})
	}
}

func FuzzStepsAnywhereEndInWhatTheCallsSaid(f *testing.F) {
	f.Add(uint64(1), uint64(2), 20)
	f.Add(uint64(3), uint64(5), 200)
	f.Fuzz(func(t *testing.T, seed, cuts uint64, n int) {
		r := rand.New(rand.NewPCG(seed, 0))
		cut := rand.New(rand.NewPCG(cuts, 1))
		checkScript(t, script(r, max(0, min(n, 300))), script(r, max(0, min(n, 100))), func() bool { return cut.IntN(3) == 0 })
	})
}
