package federation

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"context"
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
	"github.com/overland-net/overland/pkg/model"
)

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

func TestAWriteThatHangsHoldsUpNothingElse(t *testing.T) {
	inLab(t, 19, func(l *servicesLab) {
		l.api.failing = 0
		l.api.refuse = func(_, resource string, _, is map[string]any) error {
			if name, _ := metaOf(is)["name"].(string); resource == "endpointslices" && strings.HasPrefix(name, "hangs") {
				return context.DeadlineExceeded
			}
			return nil
		}
		l.declareAll("hangs")
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(10 * time.Second)
		l.expect("another one", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
		if _, endpoints := l.published("hangs"); !slices.Equal(endpoints, []string{"10.2.0.1"}) {
			t.Errorf("its Endpoints are %q", endpoints)
		}
		l.api.do(func() { l.api.refuse = agentAdmission })
		time.Sleep(soon)
		l.expect("in the end", "hangs", plan.ReasonInSync, "10.2.0.1")
	})
}

func TestAConditionThatIsForbiddenOnOneServiceIsWrittenOnOthers_4_8(t *testing.T) {
	inLab(t, 20, func(l *servicesLab) {
		l.api.failing = 0
		l.api.refuse = func(_, resource string, _, is map[string]any) error {
			if name, _ := metaOf(is)["name"].(string); resource == "services" && name == "refused" {
				return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, name, fmt.Errorf("no"))
			}
			return nil
		}
		l.declareAll("refused")
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(10 * time.Second)
		l.expect("another one", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
		l.expect("the refused one", "refused", "", "10.2.0.1")
	})
}
