package federation

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

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
func TestALeaderPausedPastItsLeaseChangesNothing_4_11(t *testing.T) {
	inLab(t, 1, func(l *servicesLab) {
		l.api.failing = 0
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		time.Sleep(soon)
		woken := make(chan struct{})
		l.api.do(func() { l.api.hold = woken })
		l.pods("canada", "10.2.0.2", "10.2.0.3")
		l.canada(redis("canada", "10.2.0.1", "10.2.0.2")...)
		time.Sleep(time.Second) // its write is on its way
		end()
		l.api.do(func() { l.api.hold = nil })
		l.canada(redis("canada", "10.2.0.1", "10.2.0.3")...)
		_, endNext := l.lead("agent-2")
		defer endNext()
		time.Sleep(soon)
		l.expect("the next leader's", "testdb-federated", plan.ReasonInSync, "10.2.0.1", "10.2.0.3")
		l.api.writes()
		close(woken)
		time.Sleep(soon)
		l.expect("after the paused one woke", "testdb-federated", plan.ReasonInSync, "10.2.0.1", "10.2.0.3")
		for _, w := range l.api.writes() {
			if !strings.Contains(w, "configmaps/") {
				t.Errorf("wrote %s", w)
			}
		}
	})
}

func TestWhatOthersDoToOurObjectsIsMended_4_6(t *testing.T) {
	for what, change := range map[string]func(l *servicesLab, slice string){
		"slice deleted": func(l *servicesLab, slice string) {
			l.api.edit("endpointslices", "redis", slice, func(map[string]any) map[string]any { return nil })
		},
		"slice emptied": func(l *servicesLab, slice string) {
			l.api.edit("endpointslices", "redis", slice, func(o map[string]any) map[string]any {
				o["endpoints"] = []any{}
				return o
			})
		},
		"slice not marked any more": func(l *servicesLab, slice string) {
			l.api.edit("endpointslices", "redis", slice, func(o map[string]any) map[string]any {
				delete(metaOf(o)["labels"].(map[string]any), discoveryv1.LabelManagedBy)
				return o
			})
			time.Sleep(soon)
			l.api.edit("endpointslices", "redis", slice, func(o map[string]any) map[string]any {
				metaOf(o)["labels"].(map[string]any)[discoveryv1.LabelManagedBy] = plan.ManagedBy
				return o
			})
		},
		"Endpoints deleted": func(l *servicesLab, _ string) {
			l.api.edit("endpoints", "redis", "testdb-federated", func(map[string]any) map[string]any { return nil })
		},
		"condition removed": func(l *servicesLab, _ string) {
			l.api.edit("services", "redis", "testdb-federated", func(o map[string]any) map[string]any {
				delete(o, "status")
				return o
			})
		},
		"everything at once": func(l *servicesLab, slice string) {
			l.api.edit("endpointslices", "redis", slice, func(map[string]any) map[string]any { return nil })
			l.api.edit("endpoints", "redis", "testdb-federated", func(map[string]any) map[string]any { return nil })
			l.pods("canada", "10.2.0.9")
			l.canada(redis("canada", "10.2.0.1", "10.2.0.9")...)
			l.canada(redis("canada", "10.2.0.1")...)
		},
	} {
		t.Run(what, func(t *testing.T) {
			inLab(t, 3, func(l *servicesLab) {
				l.api.lag = 700 * time.Millisecond
				l.world("10.2.0.1")
				_, end := l.lead("agent-1")
				defer end()
				time.Sleep(soon)
				for name := range stored[discoveryv1.EndpointSlice](l.api, "endpointslices") {
					change(l, strings.TrimPrefix(name, "redis/"))
				}
				time.Sleep(soon)
				l.expect(what, "testdb-federated", plan.ReasonInSync, "10.2.0.1")
			})
		})
	}
}

// TestAServiceMadeAnewIsAnotherOne_4_11: its old objects go by owner reference.
func TestAServiceMadeAnewIsAnotherOne_4_11(t *testing.T) {
	inLab(t, 4, func(l *servicesLab) {
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		l.api.edit("services", "redis", "testdb-federated", func(map[string]any) map[string]any { return nil })
		time.Sleep(time.Second)
		l.declareAll("testdb-federated")
		time.Sleep(soon)
		// The garbage collector looks at owners.
		service := stored[corev1.Service](l.api, "services")["redis/testdb-federated"]
		for name, s := range stored[discoveryv1.EndpointSlice](l.api, "endpointslices") {
			if s.OwnerReferences[0].UID != service.UID {
				l.api.edit("endpointslices", "redis", strings.TrimPrefix(name, "redis/"), func(map[string]any) map[string]any { return nil })
			}
		}
		time.Sleep(soon)
		l.expect("made anew", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
		for name, e := range stored[corev1.Endpoints](l.api, "endpoints") {
			if e.OwnerReferences[0].UID != service.UID {
				t.Errorf("%s is owned by another one", name)
			}
		}
	})
}

func TestEndpointsOfSomebodyElseAreLeftAloneAndFoundGone_4_6(t *testing.T) {
	inLab(t, 5, func(l *servicesLab) {
		l.api.edit("endpoints", "redis", "testdb-federated", func(o map[string]any) map[string]any {
			o["subsets"] = []any{}
			return o
		})
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		if got, _ := l.published("testdb-federated"); !slices.Equal(got, []string{"10.2.0.1"}) {
			t.Errorf("slices %q", got)
		}
		l.expectReason("foreign", "testdb-federated", plan.ReasonForeignEndpoints)
		l.api.edit("endpoints", "redis", "testdb-federated", func(map[string]any) map[string]any { return nil })
		time.Sleep(soon)
		l.expect("gone", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
	})
}

func TestWhatIsForbiddenIsToldAndHoldsUpNothingElse_4_8(t *testing.T) {
	forbid := func(what string) func(string, string, map[string]any, map[string]any) error {
		return func(_, resource string, was, is map[string]any) error {
			name := ""
			for _, o := range []map[string]any{was, is} {
				if n, ok := metaOf(o)["name"].(string); ok {
					name = n
				}
			}
			if resource == what || strings.HasPrefix(name, what) && resource == "endpointslices" {
				return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, name, fmt.Errorf("no"))
			}
			return nil
		}
	}
	t.Run("Endpoints", func(t *testing.T) {
		inLab(t, 6, func(l *servicesLab) {
			l.api.refuse = forbid("endpoints")
			l.world("10.2.0.1")
			_, end := l.lead("agent-1")
			defer end()
			time.Sleep(soon)
			got, endpoints := l.published("testdb-federated")
			if !slices.Equal(got, []string{"10.2.0.1"}) || endpoints != nil {
				t.Errorf("slices %q, Endpoints %q", got, endpoints)
			}
			l.expectReason("forbidden", "testdb-federated", plan.ReasonWriteForbidden)
			l.pods("canada", "10.2.0.2")
			l.canada(redis("canada", "10.2.0.2")...)
			time.Sleep(2 * time.Second)
			if got, _ := l.published("testdb-federated"); !slices.Equal(got, []string{"10.2.0.2"}) {
				t.Errorf("slices %q wait for Endpoints", got)
			}
			l.api.do(func() { l.api.tried = 0 })
			time.Sleep(time.Hour)
			l.api.do(func() {
				if l.api.tried > 40 {
					t.Errorf("%d writes tried in an hour", l.api.tried)
				}
			})
			l.api.do(func() { l.api.refuse = agentAdmission })
			time.Sleep(2 * lastForbidden)
			l.expect("allowed", "testdb-federated", plan.ReasonInSync, "10.2.0.2")
		})
	})
	t.Run("conditions", func(t *testing.T) {
		inLab(t, 6, func(l *servicesLab) {
			l.api.refuse = forbid("services")
			l.world("10.2.0.1")
			_, end := l.lead("agent-1")
			defer end()
			time.Sleep(soon)
			l.expect("forbidden", "testdb-federated", "", "10.2.0.1")
			l.api.do(func() { l.api.refuse = agentAdmission })
			time.Sleep(3 * lastForbidden)
			l.expect("allowed", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
		})
	})
	t.Run("one Service's EndpointSlices", func(t *testing.T) {
		inLab(t, 6, func(l *servicesLab) {
			l.api.refuse = forbid("bad")
			l.declareAll("bad-one", "bad-two")
			l.world("10.2.0.1")
			_, end := l.lead("agent-1")
			defer end()
			time.Sleep(soon)
			l.expect("the other one", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
			l.expectReason("the forbidden one", "bad-one", plan.ReasonWriteForbidden)
		})
	})
}

func TestAnAPIServerThatIsDownForAWhileLosesNothing_4_11(t *testing.T) {
	inLab(t, 7, func(l *servicesLab) {
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		l.api.cut(true)
		l.pods("canada", "10.2.0.2")
		l.canada(redis("canada", "10.2.0.1", "10.2.0.2")...)
		time.Sleep(20 * time.Minute)
		l.api.do(func() { l.api.down = false })
		time.Sleep(soon)
		l.expect("back", "testdb-federated", plan.ReasonInSync, "10.2.0.1", "10.2.0.2")
	})
}

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
func TestFaultsEditsAndLeadersEndInThePlan_4_11(t *testing.T) {
	for seed := range uint64(6) {
		inLab(t, seed, func(l *servicesLab) {
			random := rand.New(rand.NewPCG(seed, 3))
			l.api.failing, l.api.lag = 3, time.Duration(random.IntN(2000))*time.Millisecond
			names := []string{"one", "two", "three"}
			l.pods("canada", "10.2.0.1", "10.2.0.2", "10.2.0.3", "10.2.0.4")
			l.canada(redis("canada", "10.2.0.1")...)
			l.declareAll(names...)
			_, end := l.lead("agent-0")
			var now []string
			for i := range 60 {
				switch random.IntN(7) {
				case 0:
					now = []string{"10.2.0.1", "10.2.0.4"}
					l.canada(redis("canada", now...)...)
				case 1:
					now = []string{"10.2.0.2", "10.2.0.3"}
					l.canada(redis("canada", now...)...)
				case 2:
					name := names[random.IntN(len(names))]
					l.api.edit("services", "redis", name, func(map[string]any) map[string]any { return nil })
					time.Sleep(time.Duration(random.IntN(2)) * time.Second)
					l.declareAll(name)
				case 3:
					end()
					_, end = l.lead(fmt.Sprintf("agent-%d", i))
				case 4:
					l.api.cut(false)
				case 5:
					for name := range stored[discoveryv1.EndpointSlice](l.api, "endpointslices") {
						if random.IntN(2) == 0 {
							l.api.edit("endpointslices", "redis", strings.TrimPrefix(name, "redis/"), func(map[string]any) map[string]any { return nil })
						}
					}
				case 6:
					l.api.edit("endpoints", "redis", names[random.IntN(len(names))], func(map[string]any) map[string]any { return nil })
				}
				time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
			}
			now = []string{"10.2.0.1", "10.2.0.3"}
			l.canada(redis("canada", now...)...)
			time.Sleep(time.Hour)
			for _, name := range names {
				l.expect(fmt.Sprintf("seed %d", seed), name, plan.ReasonInSync, now...)
			}
			end()
		})
	}
}

// TestWhatCannotBeListedIsTold_4_8: without the right to list EndpointSlices
// nothing can be planned; without Endpoints, slices are written all the same.
func TestWhatCannotBeListedIsTold_4_8(t *testing.T) {
	for kind, want := range map[string][]string{"endpointslices": nil, "endpoints": {"10.2.0.1"}} {
		for what, answer := range map[string]error{
			"forbidden":  apierrors.NewForbidden(schema.GroupResource{Resource: kind}, "", fmt.Errorf("no")),
			"not served": apierrors.NewNotFound(schema.GroupResource{Resource: kind}, ""),
		} {
			t.Run(kind+" "+what, func(t *testing.T) {
				inLab(t, 13, func(l *servicesLab) {
					l.api.unlisted = map[string]error{kind: answer}
					l.world("10.2.0.1")
					s, end := l.lead("agent-1")
					defer end()
					time.Sleep(soon)
					if got, endpoints := l.published("testdb-federated"); !slices.Equal(got, want) || endpoints != nil {
						t.Errorf("slices %q, Endpoints %q", got, endpoints)
					}
					l.expectReason("not listed", "testdb-federated", plan.ReasonWriteForbidden)
					if own, _ := s.Snapshot(); len(own.Reports) != 1 || own.Reports[0].Federated.Reason != plan.ReasonWriteForbidden {
						t.Errorf("the report is %+v", own.Reports)
					}
					l.api.do(func() { l.api.unlisted = nil })
					time.Sleep(soon)
					l.expect("listed", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
				})
			})
		}
	}
}

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

// TestAServiceIsNeverEmptyInBetween_4_6: whatever fails on the way from some
// addresses to others.
func TestAServiceIsNeverEmptyInBetween_4_6(t *testing.T) {
	for seed := range uint64(20) {
		inLab(t, seed, func(l *servicesLab) {
			l.api.failing = 2
			l.world("10.2.0.1")
			_, end := l.lead("agent-1")
			defer end()
			time.Sleep(soon)
			changed := func(resource string, is map[string]any, gone bool) {
				l.locally(resource, is, gone)
				left := 0
				for key, o := range l.api.objects {
					if endpoints, _ := o["endpoints"].([]any); strings.HasPrefix(key, "endpointslices/") && labelsOf(o)[discoveryv1.LabelServiceName] != "" {
						left += len(endpoints)
					}
				}
				if left == 0 {
					t.Errorf("seed %d: empty after a change of %v", seed, metaOf(is)["name"])
				}
			}
			l.api.do(func() { l.api.changed = changed })
			// Another number of the port is another slice.
			facts := redis("canada", "10.2.0.1")
			slice, _ := facts[1].(*model.EndpointSlice)
			slice.Ports[0].Port = 6380
			l.canada(facts...)
			time.Sleep(soon)
			l.expect("moved", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
		})
	}
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
