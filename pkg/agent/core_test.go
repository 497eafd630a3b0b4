package agent

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// linked is a Core with the local cluster listed, and canada in sync with the
// given facts.
func linked(t *testing.T, canada *model.Cluster, facts ...model.Fact) *steps {
	s := newSteps(t, newFakeStore())
	for _, kind := range kinds() {
		s.Facts(list("west", kind))
	}
	s.Facts(remotes(canada))
	s.Facts(list("canada", model.KindPod, facts...))
	s.Facts(list("canada", model.KindNode))
	s.Facts(list("canada", model.KindNamespace))
	s.Status("canada", inState(model.StateInSync, s.now))
	s.settle()
	return s
}

func (s *steps) cluster(name string) Cluster {
	s.t.Helper()
	c, ok := s.last.Cluster(name)
	if !ok {
		s.t.Fatalf("cluster %s is not in the snapshot", name)
	}
	return c
}

// want checks which pods of a cluster are known, as NAMESPACE/NAME.
func (s *steps) want(cluster string, pods ...string) {
	s.t.Helper()
	wantPods(s.t, s.last, cluster, pods...)
}

func wantPods(t *testing.T, s *Snapshot, cluster string, pods ...string) {
	t.Helper()
	var got []string
	for key := range s.View.Keys(cluster, model.KindPod) {
		got = append(got, key.Namespace+"/"+key.Name)
	}
	slices.Sort(got)
	if !slices.Equal(got, pods) {
		t.Errorf("pods of %s: %q, want %q", cluster, got, pods)
	}
}

func (s *steps) wantProblem(kind model.ProblemKind, cluster, part string) {
	s.t.Helper()
	for _, p := range s.last.Problems {
		if p.Kind == kind && p.Object.Cluster == cluster && strings.Contains(p.Message, part) {
			return
		}
	}
	s.t.Errorf("no Problem %s of %s that says %q among %v", kind, cluster, part, s.last.Problems)
}

func (s *steps) wantNoProblem(kind model.ProblemKind, cluster string) {
	s.t.Helper()
	for _, p := range s.last.Problems {
		if p.Kind == kind && p.Object.Cluster == cluster {
			s.t.Errorf("Problem %v", p)
		}
	}
}

func (s *steps) pass(d time.Duration) Output {
	s.now = s.now.Add(d)
	out := s.core.Step(Input{Now: s.now})
	s.disk.write(out.Store, nil, s.now)
	if out.Snapshot != nil {
		s.last = out.Snapshot
	}
	return out
}

func TestInSyncWaitsForTheLocalListsAndNothingElse_3_6(t *testing.T) {
	s := newSteps(t, newFakeStore())
	s.Facts(remotes(remote("canada", 1)))
	s.Status("canada", inState(model.StateOutOfContact, time.Time{}))
	for _, kind := range kinds() {
		if s.settle().InSync {
			t.Fatalf("in sync before the %s list", kind)
		}
		s.Facts(list("west", kind))
	}
	if !s.settle().InSync {
		t.Fatal("not in sync although everything local is listed")
	}
}

func TestInContactFollowsTheStatus_1_5(t *testing.T) {
	s := linked(t, remote("canada", 1), pod("canada", "demo", "a"))
	if !s.cluster("canada").Fact.InContact {
		t.Error("not in contact although in sync")
	}
	first := s.last
	s.Status("canada", inState(model.StateOutOfContact, s.now))
	s.settle()
	fact, _ := s.last.View.Cluster("canada")
	if fact.InContact || s.cluster("canada").Fact.InContact {
		t.Error("in contact although out of contact")
	}
	if old, _ := first.Cluster("canada"); !old.Fact.InContact {
		t.Error("an earlier snapshot has changed")
	}
}

func TestPastTheLimitNothingIsAddedAndWhatIsKnownStays_1_2(t *testing.T) {
	canada := remote("canada", 1)
	canada.EndpointLimit = 3
	s := linked(t, canada, pod("canada", "demo", "b"), pod("canada", "demo", "d"))
	s.Facts(list("canada", model.KindPod, pod("canada", "demo", "e"), pod("canada", "demo", "a"),
		pod("canada", "demo", "b", "app", "new"), pod("canada", "demo", "c"), pod("canada", "demo", "d")))
	s.settle()
	s.want("canada", "demo/a", "demo/b", "demo/d")
	if e, _ := s.last.View.Endpoint(model.PodKey("canada", "demo", "b")); e.Labels.String() != "app=new" {
		t.Error("what is known is no longer kept up to date")
	}
	c := s.cluster("canada")
	if c.Refused[model.RefusedLimit] != 2 || c.Status.Reason != model.ReasonTooLarge || c.Status.State != model.StateInSync {
		t.Errorf("refused %v, status %+v", c.Refused, c.Status)
	}
	s.wantProblem(model.ProblemCluster, "canada", "TooLarge")

	// Room is made, and what changes then is taken.
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{
		model.Gone(model.PodKey("canada", "demo", "a")), model.Set(pod("canada", "demo", "e")),
	}})
	s.settle()
	s.want("canada", "demo/b", "demo/d", "demo/e")
	if n := s.cluster("canada").Refused[model.RefusedLimit]; n != 1 {
		t.Errorf("%d refused, want c only", n)
	}
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Gone(model.PodKey("canada", "demo", "c"))}})
	s.settle()
	if c := s.cluster("canada"); c.Status.Reason != model.ReasonInSync || len(c.Refused) != 0 {
		t.Errorf("refused %v, reason %s, though all fits", c.Refused, c.Status.Reason)
	}
	checkFiles(t, s)
}

// TestRoomThatAnotherListMakesIsUsed_1_2: after an outage nodes may be fewer and
// pods more. Each kind is listed on its own, and nothing is past the limit in the
// end.
func TestRoomThatAnotherListMakesIsUsed_1_2(t *testing.T) {
	canada := remote("canada", 1)
	canada.EndpointLimit = 3
	s := linked(t, canada)
	s.Facts(list("canada", model.KindNode, node("canada", "m"), node("canada", "n")))
	s.Facts(list("canada", model.KindPod, pod("canada", "demo", "a")))
	s.settle()
	s.want("canada", "demo/a")
	s.Facts(list("canada", model.KindPod, pod("canada", "demo", "a"), pod("canada", "demo", "b"), pod("canada", "demo", "c")))
	s.settle()
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(pod("canada", "demo", "c", "app", "new"))}})
	s.settle()
	s.want("canada", "demo/a")
	s.Facts(list("canada", model.KindNode))
	s.settle()
	s.want("canada", "demo/a", "demo/b", "demo/c")
	if e, _ := s.last.View.Endpoint(model.PodKey("canada", "demo", "c")); e == nil || e.Labels.String() != "app=new" {
		t.Errorf("c is %v, not what was said of it last", e)
	}
	if c := s.cluster("canada"); c.Status.Reason != model.ReasonInSync || len(c.Refused) != 0 {
		t.Errorf("refused %v, reason %s, though all fits", c.Refused, c.Status.Reason)
	}
	checkFiles(t, s)
}

func TestAListOfMoreThanCanBeRememberedIsCounted_1_2(t *testing.T) {
	canada := remote("canada", 1)
	canada.EndpointLimit = 1
	s := linked(t, canada)
	var facts []model.Fact
	for i := range maxRefused + 11 {
		facts = append(facts, pod("canada", "demo", fmt.Sprintf("%06d", i)))
	}
	s.Facts(list("canada", model.KindPod, facts...))
	s.settle()
	s.want("canada", "demo/000000")
	if n := s.cluster("canada").Refused[model.RefusedLimit]; n != maxRefused+10 {
		t.Errorf("%d refused, want %d", n, maxRefused+10)
	}
	s.Facts(list("canada", model.KindPod))
	s.settle()
	if n := s.cluster("canada").Refused[model.RefusedLimit]; n != 0 {
		t.Errorf("%d refused of an empty cluster", n)
	}
}

func TestIdentitiesAreDroppedAfterStaleAfterAndComeBackWithTheList_1_2(t *testing.T) {
	canada := remote("canada", 1)
	canada.StaleAfter = time.Hour
	s := linked(t, canada, pod("canada", "demo", "a"))
	if out := s.pass(2 * time.Hour); !out.Next.IsZero() {
		t.Error("the clock runs in contact")
	}
	s.want("canada", "demo/a")
	lost := inState(model.StateOutOfContact, s.now)
	s.Status("canada", lost)
	s.settle()
	if out := s.pass(time.Hour - 1); !out.Next.Equal(lost.LastContact.Add(time.Hour)) {
		t.Errorf("the next step is due at %v", out.Next)
	}
	s.want("canada", "demo/a")
	s.pass(1)
	s.want("canada")
	s.wantProblem(model.ProblemCluster, "canada", "identities are dropped")
	if _, stored := s.files.files["canada"]; stored {
		t.Error("dropped identities are still stored")
	}
	if out := s.pass(time.Hour); !out.Next.IsZero() || out.Snapshot != nil {
		t.Error("there is still something to drop")
	}
	s.Facts(list("canada", model.KindPod, pod("canada", "demo", "b")))
	s.Status("canada", inState(model.StateInSync, s.now))
	s.settle()
	s.want("canada", "demo/b")
	s.wantNoProblem(model.ProblemCluster, "canada")
	checkFiles(t, s)
}

func TestTheClockOfStaleAfterStandsStillWhileSuspended_1_2(t *testing.T) {
	canada := remote("canada", 1)
	canada.StaleAfter = time.Hour
	s := linked(t, canada, pod("canada", "demo", "a"))
	s.Status("canada", inState(model.StateOutOfContact, s.now))
	s.settle()
	s.pass(40 * time.Minute)
	suspended := *canada
	suspended.Suspended = true
	s.Facts(model.Batch{Changes: []model.Change{model.Set(&suspended)}})
	s.Status("canada", inState(model.StateSuspended, s.now.Add(-40*time.Minute)))
	s.settle()
	s.pass(100 * time.Hour)
	s.want("canada", "demo/a")
	s.Facts(model.Batch{Changes: []model.Change{model.Set(canada)}})
	s.settle()
	s.pass(19 * time.Minute)
	s.want("canada", "demo/a")
	s.pass(time.Minute)
	s.want("canada")
}

func TestClusterChangedDrainsBeforeNewFactsCount_1_1(t *testing.T) {
	s := linked(t, remote("canada", 1), pod("canada", "demo", "a"), pod("canada", "demo", "b"))
	s.Drain("canada")
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(pod("canada", "demo", "b"))}})
	s.settle()
	s.want("canada", "demo/b")
	if s.cluster("canada").Fact == nil {
		t.Error("the Cluster fact is drained too")
	}
	checkFiles(t, s)
}

func TestAnotherRemoteClusterOfThatNameBeginsAnew_1_1(t *testing.T) {
	s := linked(t, remote("canada", 1), pod("canada", "demo", "a"))
	mail := newMail()
	mail.Changes[model.ClusterKey("canada")] = remote("canada", 2)
	wantPods(t, s.core.Step(Input{Now: s.now, Mail: map[string]*Mail{"canada": mail}}).Snapshot, "canada")
}

func TestARemoteSaysNothingOfTheLocalClusterOrAnother_1_6(t *testing.T) {
	s := linked(t, remote("canada", 1))
	own := remote("west", 9)
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{
		model.Set(own), model.Set(pod("west", "demo", "a")), model.Set(pod("texas", "demo", "a")),
		model.Set(&model.Policy{Key: model.PolicyKey("canada", "demo", "p")}),
	}})
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Gone(model.ClusterKey("west"))}})
	s.settle()
	s.want("west")
	if fact := s.last.Clusters[0].Fact; fact.Name != "west" || !fact.Local || fact.UID != (model.UID{}) {
		t.Errorf("the local cluster's fact is %+v", fact)
	}
	if _, ok := s.last.Cluster("texas"); ok {
		t.Error("texas is known from canada")
	}
}

func TestALargeRemoteListDoesNotHoldUpALocalChange_3_6(t *testing.T) {
	s := linked(t, remote("canada", 1))
	var facts []model.Fact
	for i := range 5 * stepBudget {
		facts = append(facts, pod("canada", "demo", fmt.Sprint(i)))
	}
	s.Facts(list("canada", model.KindPod, facts...))
	if !s.step() {
		t.Fatal("a list of five budgets is done in one step")
	}
	s.Facts(model.Batch{Cluster: "west", Changes: []model.Change{model.Set(pod("west", "demo", "a"))}})
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Gone(facts[0].FactKey())}})
	s.step()
	s.want("west", "demo/a")
	if n := s.cluster("canada").Counts.Pods; n != 2*stepBudget {
		t.Errorf("%d pods of canada after two steps, want %d", n, 2*stepBudget)
	}
	s.settle()
	if n := s.cluster("canada").Counts.Pods; n != 5*stepBudget-1 {
		t.Errorf("%d pods of canada at the end", n)
	}
	checkFiles(t, s)
}

func TestWhatChangesNothingGivesNoSnapshotAndNoWrite(t *testing.T) {
	s := linked(t, remote("canada", 1), pod("canada", "demo", "a", "app", "x"))
	gen, writes := s.last.Gen, s.files.writes
	s.Facts(list("canada", model.KindNode))
	s.settle()
	listed := s.last.Gen
	for range 3 {
		s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{
			model.Set(pod("canada", "demo", "a", "app", "x")), model.Gone(model.PodKey("canada", "demo", "z")),
		}})
		s.Status("canada", inState(model.StateInSync, s.now))
		s.settle()
	}
	if s.last.Gen != listed || s.last.Gen > gen+1 || s.files.writes != writes {
		t.Errorf("generation %d after %d, %d writes after %d", s.last.Gen, gen, s.files.writes, writes)
	}
}

func TestPeerSelectorsOfPoliciesOnThisNodeAreTracked(t *testing.T) {
	s := linked(t, remote("canada", 1), pod("canada", "demo", "r", "app", "redis"))
	tracked := func() []index.Members {
		var all []index.Members
		for sel := range s.last.View.Tracked() {
			m, _ := s.last.View.Members(sel)
			all = append(all, m)
		}
		return all
	}
	s.Facts(list("west", model.KindNamespace, namespace("west", "demo")))
	s.Facts(list("canada", model.KindNamespace, namespace("canada", "demo")))
	s.Facts(list("west", model.KindPod, pod("west", "demo", "cart")))
	p := networkPolicy("demo", "p", model.LabelSelector{
		{Key: "app", Operator: model.In, Values: []string{"redis"}},
		{Key: model.KeyCluster, Operator: model.In, Values: []string{"canada"}},
	})
	s.Facts(list("west", model.KindPolicy, p))
	s.settle()
	if got := tracked(); len(got) != 1 || got[0].V4.Len() != 1 || !got[0].V4.Has(address(model.PodKey("canada", "demo", "r"))) {
		t.Fatalf("tracked: %v", got)
	}
	s.Facts(model.Batch{Cluster: "west", Changes: []model.Change{model.Gone(p.Key)}})
	s.settle()
	if got := tracked(); len(got) != 0 {
		t.Errorf("still tracked: %v", got)
	}
}

func TestProblemsOfClusters(t *testing.T) {
	s := linked(t, remote("canada", 1), pod("canada", "demo", "a"), &model.Endpoint{
		Key: model.PodKey("canada", "demo", "thief"), Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.7")},
	})
	s.Status("canada", model.ClusterStatus{
		State: model.StateOutOfContact, Reason: model.ReasonUnauthorized, Message: "make a new token", LastContact: s.now,
		DeclaredName: "kanada", NotReadable: []model.Kind{model.KindNode}, ReservedLabels: 4,
		Refused: map[model.RefusalReason]int{model.RefusedMalformed: 2, model.RefusedLabelsTooLarge: 5},
	})
	s.settle()
	s.wantProblem(model.ProblemCluster, "canada", "Unauthorized: make a new token")
	s.wantProblem(model.ProblemAddressesTrusted, "canada", "no ranges")
	s.wantProblem(model.ProblemNameMismatch, "canada", `"kanada"`)
	s.wantProblem(model.ProblemNotReadable, "canada", "Node")
	s.wantProblem(model.ProblemReservedLabels, "canada", "4 objects")
	s.wantProblem(model.ProblemAddressRefused, "canada", "Malformed: 2")
	s.wantProblem(model.ProblemAddressRefused, "canada", "LocalRange: 1")
	s.wantNoProblem(model.ProblemLocalRangeUnknown, "west")
	if got := s.cluster("canada").Refused; got[model.RefusedLocalRange] != 1 || got[model.RefusedLabelsTooLarge] != 5 {
		t.Errorf("refused: %v", got)
	}
	if !slices.IsSortedFunc(s.last.Problems, compareProblems) {
		t.Error("Problems are not sorted")
	}
}

func TestUnknownLocalRangesAreAProblem_1_5(t *testing.T) {
	cfg := testConfig()
	cfg.PodCIDRs = nil
	out := NewCore(cfg, testStart()).Step(Input{Now: testStart()})
	if len(out.Snapshot.Problems) != 1 || out.Snapshot.Problems[0].Kind != model.ProblemLocalRangeUnknown {
		t.Errorf("Problems: %v", out.Snapshot.Problems)
	}
}

func TestProblemsOfAKindAreBounded(t *testing.T) {
	var many []model.Problem
	for i := range 10 {
		many = append(many, model.Problem{Kind: model.ProblemPolicy, Object: model.PolicyKey("west", "demo", fmt.Sprint(i))})
	}
	many = append(many, model.Problem{Kind: model.ProblemCluster, Object: model.ClusterKey("canada")})
	got := bounded(many, 4)
	if len(got) != 5 || got[0].Kind != model.ProblemCluster || got[4].Message != "and 7 more" {
		t.Errorf("got %v", got)
	}
}

func TestClustersAreInOrderTheLocalOneFirst(t *testing.T) {
	s := linked(t, remote("canada", 1))
	s.Facts(remotes(remote("zambia", 3), remote("canada", 1), remote("austria", 2)))
	s.settle()
	var names []string
	for _, c := range s.last.Clusters {
		names = append(names, c.Name)
	}
	if got := strings.Join(names, " "); got != "west austria canada zambia" {
		t.Errorf("got %s", got)
	}
	if !s.last.Clusters[0].Local || s.last.Clusters[0].Fact.Name != "west" {
		t.Errorf("first is %+v", s.last.Clusters[0])
	}
}

func TestTimeOfContactIsStoredAtABoundedRate_3_3(t *testing.T) {
	s := linked(t, remote("canada", 1), pod("canada", "demo", "a"))
	stored := func() time.Time { return s.files.files["canada"].contact }
	first := stored()
	contact := s.now
	for range 4 {
		s.now = s.now.Add(time.Second)
		contact = s.now
		s.Status("canada", inState(model.StateInSync, contact))
		s.settle()
	}
	if !stored().Equal(first) {
		t.Error("the time of contact is stored more often than every 5 s")
	}
	out := s.core.Step(Input{Now: s.now})
	if !out.Next.Equal(testStart().Add(5 * time.Second)) {
		t.Errorf("next is %v", out.Next)
	}
	s.pass(time.Second)
	if !stored().Equal(contact) {
		t.Errorf("stored %v, want %v", stored(), contact)
	}
}

func TestEveryFieldOfAnEndpointMakesADifference(t *testing.T) {
	base := pod("west", "demo", "a")
	for i := range reflect.TypeFor[model.Endpoint]().NumField() {
		other := *base
		field := reflect.ValueOf(&other).Elem().Field(i)
		name := reflect.TypeFor[model.Endpoint]().Field(i).Name
		switch field.Kind() {
		case reflect.Bool:
			field.SetBool(!field.Bool())
		case reflect.Int64:
			field.SetInt(field.Int() + 1)
		case reflect.String:
			field.SetString(field.String() + "x")
		case reflect.Slice:
			field.Set(reflect.MakeSlice(field.Type(), 3, 3))
		default:
			switch name {
			case "Key":
				other.Key.Name += "x"
			case "UID":
				other.UID = uid(9)
			case "Labels":
				other.Labels = labelSet([]string{"a", "b"})
			default:
				t.Fatalf("compare field %s, and add it here", name)
			}
		}
		if equal(base, &other) {
			t.Errorf("another %s is not noticed", name)
		}
	}
	same := *base
	if !equal(base, &same) {
		t.Error("a copy is taken for a change")
	}
}
