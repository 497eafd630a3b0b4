package federation

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/overland-net/overland/pkg/federation/plan"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// soon is long enough for anything that nothing keeps back.
const soon = 5 * time.Minute

func TestAServiceIsFederatedAndFollowsItsBacking_4_6(t *testing.T) {
	inLab(t, 1, func(l *servicesLab) {
		l.world("10.2.0.1", "10.2.0.2")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		l.expect("at first", "testdb-federated", plan.ReasonInSync, "10.2.0.1", "10.2.0.2")
		l.pods("canada", "10.2.0.3")
		l.canada(redis("canada", "10.2.0.1", "10.2.0.3")...)
		time.Sleep(soon)
		l.expect("changed", "testdb-federated", plan.ReasonInSync, "10.2.0.1", "10.2.0.3")
		l.api.writes()
		time.Sleep(time.Hour)
		if n := l.api.writes(); len(n) > 20 || slices.ContainsFunc(n, func(s string) bool { return !strings.HasSuffix(s, ReportsName) }) {
			t.Errorf("while nothing changes: %q", n)
		}
		l.declare("testdb-federated", nil)
		time.Sleep(soon)
		l.expect("not federated any more", "testdb-federated", "")
	})
}

// TestAChangeIsWrittenOnceAtOnce: without faults, one endpoint more is one write
// of a slice and one of Endpoints, within a second, though the informers lag.
func TestAChangeIsWrittenOnceAtOnceThoughInformersLag_4_6(t *testing.T) {
	inLab(t, 1, func(l *servicesLab) {
		l.api.failing, l.api.lag = 0, 3*time.Second
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		for i := range 20 {
			l.api.writes()
			address := fmt.Sprintf("10.2.1.%d", i)
			l.pods("canada", address)
			l.canada(redis("canada", "10.2.0.1", address)...)
			time.Sleep(time.Second)
			wrote := slices.DeleteFunc(l.api.writes(), func(s string) bool { return strings.Contains(s, "configmaps/") })
			if len(wrote) != 2 || !strings.HasPrefix(wrote[0], "update endpointslices/redis/") || wrote[1] != "update endpoints/redis/testdb-federated" {
				t.Errorf("change %d: wrote %q", i, wrote)
			}
		}
		time.Sleep(soon)
		l.expect("in the end", "testdb-federated", plan.ReasonInSync, "10.2.0.1", "10.2.1.19")
		if n := slices.DeleteFunc(l.api.writes(), func(s string) bool { return strings.Contains(s, "configmaps/") }); len(n) > 0 {
			t.Errorf("once the informers have caught up: %q", n)
		}
	})
}

// TestALeaderPausedPastItsLeaseChangesNothing_4_11: what it had sent is refused by
// the resource version, and what it had not is not sent.
// TestAServiceMadeAnewIsAnotherOne_4_11: its old objects go by owner reference.
func TestAThousandChangesASecondBecomeAFewWrites(t *testing.T) {
	inLab(t, 8, func(l *servicesLab) {
		l.api.failing = 0
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		var all []string
		for i := range 200 {
			all = append(all, fmt.Sprintf("10.2.3.%d", i))
		}
		l.pods("canada", all...)
		l.api.writes()
		for i := range 10000 {
			l.canada(redis("canada", all[i%len(all)])...)
			time.Sleep(time.Millisecond)
		}
		wrote := l.api.writes()
		if limit := 2*(planBurst+int(10*time.Second/planPeriod)) + 10; len(wrote) > limit {
			t.Errorf("%d writes in ten seconds", len(wrote))
		}
		time.Sleep(soon)
		l.expect("in the end", "testdb-federated", plan.ReasonInSync, all[9999%len(all)])
	})
}

func TestASilentClusterIsKeptAndWithdrawnInTime_4_9(t *testing.T) {
	inLab(t, 9, func(l *servicesLab) {
		l.cluster.ServicesStaleAfter = time.Hour
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		time.Sleep(soon)
		lost := model.ClusterStatus{State: model.StateOutOfContact, Reason: model.ReasonUnreachable, LastContact: time.Now()}
		l.mu.Lock()
		l.contact["canada"] = time.Now().Truncate(time.Second)
		l.mu.Unlock()
		l.reach(lost)
		time.Sleep(30 * time.Minute)
		l.expect("silent", "testdb-federated", plan.ReasonPartlyStale, "10.2.0.1")
		// Another leader has never listed it.
		end()
		lost.LastContact = time.Time{}
		l.mu.Lock()
		l.status = lost
		l.mu.Unlock()
		_, end = l.lead("agent-2")
		defer end()
		time.Sleep(20 * time.Minute)
		l.expect("silent, another leader", "testdb-federated", plan.ReasonPartlyStale, "10.2.0.1")
		time.Sleep(15 * time.Minute)
		if got, _ := l.published("testdb-federated"); got != nil {
			t.Errorf("an hour after the last contact: %q", got)
		}
		l.reach(model.ClusterStatus{State: model.StateInSync, Reason: model.ReasonInSync, LastContact: time.Now()})
		time.Sleep(soon)
		l.expect("back", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
	})
}

// TestNothingIsWrittenBeforeAllIsKnown_4_9: of identities too; else every address
// would be nobody's.
func TestNothingIsWrittenBeforeAllIsKnown_4_9(t *testing.T) {
	inLab(t, 10, func(l *servicesLab) {
		l.api.failing = 0
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		time.Sleep(soon)
		end()
		time.Sleep(time.Second)
		complete, _ := l.seen.Snapshot()
		empty := *complete

		empty.View, empty.Clusters = index.View{}, slices.Clone(complete.Clusters)
		empty.Clusters[1].Complete = false
		l.seen.publish(&empty)
		l.api.writes()
		_, end = l.lead("agent-2")
		defer end()
		time.Sleep(30 * time.Second)
		l.expect("identities of canada are not known", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
		for _, w := range l.api.writes() {
			if strings.Contains(w, "endpoint") {
				t.Errorf("wrote %s", w)
			}
		}
		l.seen.publish(complete)
		time.Sleep(soon)
		l.expect("known", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
	})
}

// TestAnAddressOfAnotherOwnerIsTakenOut_4_5: no source says anything about it.
func TestAnAddressOfAnotherOwnerIsTakenOut_4_5(t *testing.T) {
	inLab(t, 11, func(l *servicesLab) {
		l.world("10.2.0.1", "10.2.0.2")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		l.index.Apply(model.Gone(model.PodKey("canada", "redis", "pod-10-2-0-2")))
		l.look()
		time.Sleep(soon)
		l.expect("its pod is gone", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
	})
}

func TestALinkThatIsRemovedTakesItsEndpointsAlong_3_3(t *testing.T) {
	inLab(t, 12, func(l *servicesLab) {
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		l.mu.Lock()
		l.cluster = nil
		l.mu.Unlock()
		l.tell(func(s Sink) {
			s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Gone(model.ClusterKey("canada"))}})
		})
		l.look()
		time.Sleep(soon)
		l.expect("removed", "testdb-federated", plan.ReasonNoBackingServices)
	})
}

// TestFaultsEditsAndLeadersEndInThePlan_4_11 is against everything at once.
// TestWhatCannotBeListedIsTold_4_8: without the right to list EndpointSlices
// nothing can be planned; without Endpoints, slices are written all the same.
func TestEndpointsCanBeTurnedOff_4_6(t *testing.T) {
	inLab(t, 14, func(l *servicesLab) {
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		time.Sleep(soon)
		l.expect("on", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
		end()
		l.noEndpoints = true
		_, end = l.lead("agent-2")
		defer end()
		time.Sleep(soon)
		got, _ := l.published("testdb-federated")
		if all := stored[corev1.Endpoints](l.api, "endpoints"); len(all) > 0 || !slices.Equal(got, []string{"10.2.0.1"}) {
			t.Errorf("Endpoints %v, slices %q", all, got)
		}
		l.expectReason("off", "testdb-federated", plan.ReasonInSync)
	})
}

func TestConditionsOfOthersAreLeftAlone_4_8(t *testing.T) {
	inLab(t, 15, func(l *servicesLab) {
		l.world("10.2.0.1")
		foreign := map[string]any{"type": "example.com/Ready", "status": "True", "reason": "Yes", "lastTransitionTime": "2026-11-22T12:00:00Z"}
		l.api.edit("services", "redis", "testdb-federated", func(o map[string]any) map[string]any {
			o["status"] = map[string]any{"conditions": []any{foreign}}
			return o
		})
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		service := func() *corev1.Service { return stored[corev1.Service](l.api, "services")["redis/testdb-federated"] }
		if got := service().Status.Conditions; len(got) != 2 {
			t.Errorf("conditions %v", got)
		}
		l.expectReason("beside it", "testdb-federated", plan.ReasonInSync)
		l.api.edit("services", "redis", "testdb-federated", func(o map[string]any) map[string]any {
			delete(metaOf(o), "annotations")
			return o
		})
		time.Sleep(soon)
		if got := service().Status.Conditions; len(got) != 1 || got[0].Type != "example.com/Ready" {
			t.Errorf("without annotation: conditions %v", got)
		}
	})
}

// TestAConditionIsWrittenOnceThoughTheSourceLags_4_8: by the version that was
// written.
func TestAConditionIsWrittenOnceThoughTheSourceLags_4_8(t *testing.T) {
	inLab(t, 16, func(l *servicesLab) {
		l.api.failing = 0
		l.world("10.2.0.1", "10.2.0.2")
		time.Sleep(time.Second)
		l.api.do(func() { l.api.lag = 5 * time.Second })
		s, end := l.lead("agent-1")
		defer end()
		for i := range 8 {
			time.Sleep(500 * time.Millisecond)
			l.canada(redis("canada", []string{"10.2.0.1", "10.2.0.2"}[:1+i%2]...)...)
		}
		time.Sleep(soon)
		own, _ := s.Snapshot()
		for w, n := range own.Totals.Writes {
			if w.Result != ResultOK || w.Kind == string(kindCondition) && n != 1 {
				t.Errorf("%+v: %d", w, n)
			}
		}
		l.expect("in the end", "testdb-federated", plan.ReasonInSync, "10.2.0.1", "10.2.0.2")
	})
}

// TestANewLeaderWaitsForWhatTheLocalAPIServerHas_4_9: which clusters there are, and
// when there was contact.
func TestANewLeaderWaitsForWhatTheLocalAPIServerHas_4_9(t *testing.T) {
	for what, keep := range map[string]func(l *servicesLab) (release func()){
		"the links": func(l *servicesLab) func() {
			l.unlinked = make(chan struct{})
			return func() { close(l.unlinked) }
		},
		"the last contact": func(l *servicesLab) func() {
			l.mu.Lock()
			l.unread = true
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				l.unread = false
				l.mu.Unlock()
			}
		},
		"the local identities": func(l *servicesLab) func() {
			complete, _ := l.seen.Snapshot()
			starting := *complete
			starting.InSync, starting.View = false, index.View{}
			l.seen.publish(&starting)
			return func() { l.seen.publish(complete) }
		},
		"the objects": func(l *servicesLab) func() {
			l.api.do(func() {
				l.api.unlisted = map[string]error{"endpointslices": apierrors.NewTooManyRequests("later", 1)}
			})
			return func() { l.api.do(func() { l.api.unlisted = nil }) }
		},
	} {
		t.Run(what, func(t *testing.T) {
			inLab(t, 17, func(l *servicesLab) {
				l.api.failing = 0
				l.world("10.2.0.1")
				_, end := l.lead("agent-1")
				time.Sleep(soon)
				end()
				time.Sleep(time.Second)
				l.api.writes()
				release := keep(l)
				s, end := l.lead("agent-2")
				defer end()
				time.Sleep(time.Minute)
				if n := l.api.writes(); len(n) > 0 {
					t.Errorf("wrote %q", n)
				}
				if own, _ := s.Snapshot(); own.Whole || own.Backing != nil {
					t.Errorf("it knows %+v", own)
				}
				release()
				time.Sleep(soon)
				l.expect("released", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
				for _, w := range l.api.writes() {
					if strings.Contains(w, "endpoint") {
						t.Errorf("then wrote %s", w)
					}
				}
			})
		})
	}
}

// TestTheTimeForWhichALinkWasSuspendedDoesNotCount_1_2: resuming it does not make
// it stale.
func TestTheTimeForWhichALinkWasSuspendedDoesNotCount_1_2(t *testing.T) {
	inLab(t, 18, func(l *servicesLab) {
		l.cluster.ServicesStaleAfter = time.Hour
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		fact := func(suspended bool) {
			l.mu.Lock()
			next := *l.cluster
			next.Suspended = suspended
			l.cluster = &next
			l.mu.Unlock()
			l.look()
			l.tell(func(s Sink) { s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(&next)}}) })
		}
		last := time.Now()
		fact(true)
		l.reach(model.ClusterStatus{State: model.StateSuspended, Reason: model.ReasonSuspended, LastContact: last})
		time.Sleep(10 * time.Hour)
		l.expect("suspended", "testdb-federated", plan.ReasonPartlyStale, "10.2.0.1")
		fact(false)
		l.reach(model.ClusterStatus{State: model.StateOutOfContact, Reason: model.ReasonUnreachable, LastContact: last})
		time.Sleep(50 * time.Minute)
		l.expect("resumed, and silent", "testdb-federated", plan.ReasonPartlyStale, "10.2.0.1")
		time.Sleep(20 * time.Minute)
		if got, _ := l.published("testdb-federated"); got != nil {
			t.Errorf("silent for an hour: %q", got)
		}
	})
}

// TestAWriteThatHangsHoldsUpNothingElse: not of its Service either.
// TestAConditionThatIsForbiddenOnOneServiceIsWrittenOnOthers_4_8: some other
// admission may refuse it there.

// TestAnOwnConditionThatShowsItselfIsNoReasonToPlan: else each change that turns the
// condition would cost two turns of a Service's rate.
func TestAnOwnConditionThatShowsItselfIsNoReasonToPlan(t *testing.T) {
	inLab(t, 17, func(l *servicesLab) {
		l.api.failing = 0
		l.world("10.2.0.1")
		s, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		before, _ := s.Snapshot()
		const changes = 20
		for i := range changes {
			l.canada(redis("canada", []string{"10.2.0.1"}[:i%2]...)...)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		after, _ := s.Snapshot()
		// The watch may show a write before its answer is taken: not each time.
		if n := after.Totals.Plans - before.Totals.Plans; n < changes || n > changes*7/4 {
			t.Errorf("%d plans for %d changes", n, changes)
		}
		l.expect("in the end", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
	})
}
