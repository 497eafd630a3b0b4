package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

const (
	inWest   = "west 10.0.0.1"
	inCanada = "canada 10.1.0.1"
	inEurope = "europe 10.2.0.1"
)

// threeClusters has one ready pod in each.
func threeClusters(t *testing.T, pairs ...string) *world {
	w := newWorld(t)
	w.set(federatedService(annotate(pairs...)))
	w.serve(west, "10.0.0.1")
	w.serve(canada, "10.1.0.1")
	w.serve(europe, "10.2.0.1")
	return w
}

// ready makes all pods of a cluster ready, or none.
func (w *world) ready(cluster string, to bool) {
	s := *w.slices[model.EndpointSliceKey(cluster, redis, "testdb-1")]
	s.Endpoints = slices.Clone(s.Endpoints)
	for i := range s.Endpoints {
		s.Endpoints[i].Ready = model.False
		if to {
			s.Endpoints[i].Ready = model.True
		}
	}
	w.set(&s)
}

func (w *world) later(d time.Duration) { w.now = w.now.Add(d) }

// silent cuts a cluster off; the time of its last contact stays.
func (w *world) silent(cluster string) { w.cluster(cluster).InContact = false }

func TestPreferenceAnyIsTheDefault_4_7(t *testing.T) {
	for _, pairs := range [][]string{nil, {model.AnnotationPreference, "any"}, {model.AnnotationPreference, ""}} {
		w := threeClusters(t, pairs...)
		w.settle(fed())
		wantEqual(t, "published", w.published(), []string{inCanada, inEurope, inWest})
	}
}

func TestPreferenceLocal_4_7(t *testing.T) {
	w := threeClusters(t, model.AnnotationPreference, "local")
	r := w.settle(fed())
	wantEqual(t, "local is sufficient", w.published(), []string{inWest})
	wantEqual(t, "canada", stateOf(r, canada), StatePreferredElsewhere)
	w.ready(west, false)
	w.settle(fed())
	wantEqual(t, "otherwise all", w.published(), []string{inCanada, inEurope, inWest + "!"})
	w.ready(west, true)
	r = w.settle(fed())
	wantEqual(t, "going back waits", w.published(), []string{inCanada, inEurope, inWest})
	wantEqual(t, "due", r.Due.Sub(w.now), 30*time.Second)
	w.later(29 * time.Second)
	w.settle(fed())
	wantEqual(t, "still", w.published(), []string{inCanada, inEurope, inWest})
	w.ready(west, false)
	w.settle(fed())
	w.ready(west, true)
	w.settle(fed())
	w.later(29 * time.Second)
	w.settle(fed())
	wantEqual(t, "anew after an interruption", w.published(), []string{inCanada, inEurope, inWest})
	w.later(time.Second)
	w.settle(fed())
	wantEqual(t, "back", w.published(), []string{inWest})
}

func TestPreferenceOrder_4_7(t *testing.T) {
	w := threeClusters(t, model.AnnotationPreference, " canada , local", model.AnnotationSettle, "10s")
	r := w.settle(fed())
	wantEqual(t, "the first", w.published(), []string{inCanada})
	wantEqual(t, "an unlisted cluster", stateOf(r, europe), StateUnlisted)
	w.ready(canada, false)
	w.settle(fed())
	wantEqual(t, "the next takes over at once", w.published(), []string{inWest})
	w.ready(canada, true)
	w.settle(fed())
	wantEqual(t, "going back waits", w.published(), []string{inWest})
	// Another leader goes on where this one was.
	w.facts = w.permuted(newGenerator(t, 1).r)
	w.later(10 * time.Second)
	w.settle(fed())
	wantEqual(t, "back", w.published(), []string{inCanada})
	w.ready(canada, false)
	w.ready(west, false)
	r = w.settle(fed())
	wantEqual(t, "none sufficient: ready ones of the listed", w.published(), "[]")
	wantEqual(t, "refused", refusedOf(r, canada), "NotReady=1")
	wantEqual(t, "reason", r.Condition.Reason, ReasonNoReadyEndpoints)
	wantEqual(t, "an unlisted cluster never serves", stateOf(r, europe), StateUnlisted)
}

func TestNoneSufficientAllReadyServe_4_7(t *testing.T) {
	w := threeClusters(t, model.AnnotationPreference, "canada,west", model.AnnotationMinReady, "2")
	w.serve(canada, "10.1.0.1", "10.1.0.2")
	s := *w.slices[model.EndpointSliceKey(canada, redis, "testdb-1")]
	s.Endpoints = slices.Clone(s.Endpoints)
	s.Endpoints[1].Ready = model.False
	w.set(&s)
	w.settle(fed())
	wantEqual(t, "ready ones of the listed", w.published(), []string{inCanada, inWest})
	w.ready(canada, true)
	w.settle(fed())
	wantEqual(t, "going back waits", w.published(), []string{inCanada, "canada 10.1.0.2", inWest})
	w.later(30 * time.Second)
	w.settle(fed())
	wantEqual(t, "back", w.published(), []string{inCanada, "canada 10.1.0.2"})
}

func TestEditedPreferenceTakesEffectAtOnce_4_7(t *testing.T) {
	w := threeClusters(t)
	w.settle(fed())
	for _, step := range [][2]string{{"local", "[" + inWest + "]"}, {"europe,canada", "[" + inEurope + "]"}, {"canada,europe", "[" + inCanada + "]"}} {
		w.set(federatedService(annotate(model.AnnotationPreference, step[0])))
		w.settle(fed())
		wantEqual(t, step[0], w.published(), step[1])
	}
}

func TestUnknownNamesAreAProblem_4_7(t *testing.T) {
	w := threeClusters(t, model.AnnotationPreference, "atlantis,canada")
	r := w.settle(fed())
	wantEqual(t, "published", w.published(), []string{inCanada})
	if !strings.Contains(fmt.Sprint(r.Report.Problems), "atlantis") || !strings.Contains(r.Condition.Message, "atlantis") {
		t.Errorf("problems %v, message %q", r.Report.Problems, r.Condition.Message)
	}
	w.set(federatedService(annotate(model.AnnotationPreference, "cnaada")))
	r = w.settle(fed())
	wantEqual(t, "a name misspelt empties nothing", w.published(), []string{inCanada})
	wantEqual(t, "problems", len(r.Report.Problems), 2)
	for _, pair := range [][2]string{{model.AnnotationMinReady, "0"}, {model.AnnotationMinReady, "x"}, {model.AnnotationSettle, "30"}, {model.AnnotationSettle, "-1s"}} {
		w.set(federatedService(annotate(pair[0], pair[1])))
		wantEqual(t, pair[0]+"="+pair[1], len(w.settle(fed()).Report.Problems), 1)
	}
}

// TestSufficientCountsDistinctPods_4_7 has one pod with two addresses where two
// pods are demanded.
func TestSufficientCountsDistinctPods_4_7(t *testing.T) {
	for _, cluster := range [...]string{west, canada} {
		w := newWorld(t)
		w.set(federatedService(annotate(model.AnnotationPreference, cluster+",europe", model.AnnotationMinReady, "2")))
		w.serve(europe, "10.2.0.1", "10.2.0.2")
		v4, v6 := sliceOf(cluster, "v4", "10.3.0.1"), sliceOf(cluster, "v6", "fd00:3::1")
		v6.Endpoints[0].Target = v4.Endpoints[0].Target
		w.set(backing(cluster), v4, v6, podAt(cluster, redis, "10.3.0.1", "fd00:3::1"))
		w.settle(fed())
		wantEqual(t, cluster, w.published(), []string{inEurope, "europe 10.2.0.2"})
		v4 = sliceOf(cluster, "v4", "10.3.0.1", "10.3.0.2")
		w.set(v4, podAt(cluster, redis, "10.3.0.2"))
		w.settle(fed())
		w.later(time.Minute)
		w.settle(fed())
		wantEqual(t, cluster+" with a second pod", len(w.published()), 3)
	}
}

func TestEndpointsWithoutMatchingPortDoNotSuffice_4_7(t *testing.T) {
	w := threeClusters(t, model.AnnotationPreference, "canada,west")
	s := sliceOf(canada, "testdb-1", "10.1.0.1")
	s.Ports[0].Name = "other"
	w.set(s)
	w.settle(fed())
	wantEqual(t, "published", w.published(), []string{inWest})
}

func TestSilentClusterIsSpare_4_9(t *testing.T) {
	w := threeClusters(t)
	w.settle(fed())
	w.silent(canada)
	w.later(59 * time.Second)
	r := w.settle(fed())
	wantEqual(t, "before spareAfter nothing changes", len(r.Changes), 0)
	wantEqual(t, "reason", r.Condition.Reason, ReasonInSync)
	wantEqual(t, "due", r.Due, w.cluster(canada).LastContact.Add(time.Minute))
	w.later(time.Second)
	r = w.settle(fed())
	wantEqual(t, "spare", w.published(), []string{inEurope, inWest})
	wantEqual(t, "and parked", w.endpointsIn(true), []string{inCanada})
	wantEqual(t, "state", stateOf(r, canada), StateSpare)
	wantEqual(t, "reason", r.Condition.Reason, ReasonPartlyStale)
	wantEqual(t, "due", r.Due, w.cluster(canada).LastContact.Add(time.Hour))
	w.ready(west, false)
	w.settle(fed())
	wantEqual(t, "europe suffices", len(w.endpointsIn(true)), 1)
	w.ready(europe, false)
	w.settle(fed())
	wantEqual(t, "spare ones serve", w.published(), []string{inCanada, inEurope + "!", inWest + "!"})
	wantEqual(t, "parked", w.endpointsIn(true), "[]")
	w.ready(west, true)
	w.settle(fed())
	wantEqual(t, "spare again", w.published(), []string{inEurope + "!", inWest})
	w.now = w.cluster(canada).LastContact.Add(time.Hour)
	r = w.settle(fed())
	wantEqual(t, "withdrawn", fmt.Sprint(w.published(), w.endpointsIn(true)), fmt.Sprint([]string{inEurope + "!", inWest}, []string{}))
	wantEqual(t, "state", stateOf(r, canada), StateWithdrawn)
	w.ready(west, false)
	w.settle(fed())
	wantEqual(t, "and serves no more", w.published(), []string{inEurope + "!", inWest + "!"})
	w.cluster(canada).InContact, w.cluster(canada).LastContact = true, w.now
	r = w.settle(fed())
	wantEqual(t, "back in contact", w.published(), []string{inCanada, inEurope + "!", inWest + "!"})
	wantEqual(t, "reason", r.Condition.Reason, ReasonInSync)
}

func TestStaleAfterZeroIsNever_4_9(t *testing.T) {
	for _, contact := range []time.Time{start(), {}} {
		w := threeClusters(t)
		w.gone(backing(west).Key, backing(europe).Key)
		w.settle(fed())
		w.silent(canada)
		w.cluster(canada).LastContact = contact
		w.cluster(canada).StaleAfter = 0
		w.later(10000 * time.Hour)
		r := w.settle(fed())
		wantEqual(t, "nothing is emptied because an API server is silent", w.published(), []string{inCanada})
		wantEqual(t, "reason", r.Condition.Reason, ReasonPartlyStale)
	}
}

func TestSilentClusterIsNotSufficient_4_9(t *testing.T) {
	w := threeClusters(t, model.AnnotationPreference, "canada,west")
	w.settle(fed())
	w.silent(canada)
	w.later(59 * time.Second)
	w.settle(fed())
	wantEqual(t, "before spareAfter nothing changes", w.published(), []string{inCanada})
	w.later(time.Second)
	w.settle(fed())
	wantEqual(t, "then the next takes over", w.published(), []string{inWest})
	w.ready(west, false)
	w.settle(fed())
	wantEqual(t, "spare ones serve when nothing else does", w.published(), []string{inCanada})
}

// newLeader forgets what only the old one knew: a silent cluster is not listed.
func (w *world) newLeader(unlisted ...string) {
	w.facts = w.permuted(newGenerator(w.t, 1).r)
	for _, name := range unlisted {
		w.facts.Drain(name)
		w.cluster(name).Listed = false
	}
}

func TestPartialClusterIsReadBackUnchanged_4_9(t *testing.T) {
	w := threeClusters(t)
	w.settle(fed())
	w.newLeader(canada)
	w.set(federatedService(func(s *model.Service) { s.Labels = model.NewLabels(map[string]string{"team": "b"}) }))
	r := w.settle(fed())
	wantEqual(t, "published", w.published(), []string{inCanada, inEurope, inWest})
	for _, c := range r.Changes {
		if c.Slice != nil && c.Slice.Labels[LabelSourceCluster] == canada {
			t.Errorf("a slice of a partial cluster is written: %s", nameOf(c))
		}
	}
	e := w.api.endpoints["redis/testdb-federated"]
	wantEqual(t, "Endpoints keep its reference", e.Subsets[0].Addresses[1].TargetRef.Name, "canada/p10-1-0-1")
	wantEqual(t, "partial", r.Report.Clusters[1].Partial, true)
	wantEqual(t, "reason", r.Condition.Reason, ReasonInSync)
}

func TestPartialClusterCounts_4_7_4_9(t *testing.T) {
	w := threeClusters(t, model.AnnotationPreference, "canada,west")
	w.settle(fed())
	w.newLeader(canada)
	w.silent(canada)
	r := w.settle(fed())
	wantEqual(t, "a new leader changes nothing", len(r.Changes), 0)
	wantEqual(t, "published", w.published(), []string{inCanada})
}

// TestLeaderKilledWhileTheRemoteIsDown_4_9 goes through the whole life: spare
// endpoints survive in the objects alone.
func TestLeaderKilledWhileTheRemoteIsDown_4_9(t *testing.T) {
	w := threeClusters(t)
	w.gone(backing(europe).Key)
	w.settle(fed())
	w.silent(canada)
	w.later(2 * time.Minute)
	w.settle(fed())
	w.newLeader(canada)
	r := w.settle(fed())
	wantEqual(t, "writes", describe(r.Changes), "")
	wantEqual(t, "published", w.published(), []string{inWest})
	w.ready(west, false)
	w.settle(fed())
	wantEqual(t, "west's own go: canada's serve", w.published(), []string{inCanada, inWest + "!"})
	w.newLeader(canada)
	w.ready(west, true)
	w.settle(fed())
	wantEqual(t, "west's own are back", fmt.Sprint(w.published(), w.endpointsIn(true)), fmt.Sprint([]string{inWest}, []string{inCanada}))
	w.ready(west, false)
	w.settle(fed())
	w.now = w.cluster(canada).LastContact.Add(time.Hour)
	w.settle(fed())
	wantEqual(t, "withdrawn by the age of the last contact", w.published(), []string{inWest + "!"})
}

func TestParkedSlicesAreNobodys_4_9(t *testing.T) {
	w := threeClusters(t)
	w.settle(fed())
	w.silent(canada)
	w.later(time.Minute)
	w.settle(fed())
	for _, s := range w.api.have(fed()).Slices {
		if !parked(s) {
			continue
		}
		wantEqual(t, "labels", s.Labels, map[string]string{
			"endpointslice.kubernetes.io/managed-by": "federation.overland.dev", "federation.overland.dev/parked": "testdb-federated",
			"federation.overland.dev/source-cluster": "canada", "service.kubernetes.io/headless": "",
			"service.kubernetes.io/service-proxy-name": "federation.overland.dev",
		})
	}
}

func TestUnlistedRemoteWritesNothing_4_9(t *testing.T) {
	w := threeClusters(t)
	w.cluster(canada).Listed = false
	w.settle(fed())
	wantEqual(t, "published", w.published(), []string{inEurope, inWest})
}

// TestWhoIsAffected_4_2 tells whom changes affect.
func TestWhoIsAffected_4_2(t *testing.T) {
	w := threeClusters(t)
	other := federatedService(func(s *model.Service) {
		s.Key.Name, s.Annotations = "other", map[string]string{model.AnnotationServiceSelector: "app == 'other'"}
	})
	wantEqual(t, "a federated Service affects itself", w.set(other), []model.Key{other.Key})
	wantEqual(t, "declared", len(slices.Collect(w.facts.Federated())), 2)
	wantEqual(t, "a slice affects whom it backs", w.set(sliceOf(canada, "testdb-1", "10.1.0.5")), []model.Key{fed()})
	same := sliceOf(canada, "testdb-1", "10.1.0.5")
	wantEqual(t, "the same slice affects nobody", len(w.set(same)), 0)
	wantEqual(t, "naming", w.facts.Naming(podAt(canada, redis, "10.1.0.5").Addresses[0]), []model.Key{fed()})
	wantEqual(t, "no more", len(w.facts.Naming(podAt(canada, redis, "10.1.0.1").Addresses[0])), 0)
	shadow := &model.Service{Key: model.ServiceKey(west, elsewhere, "shadow"), ClusterIPs: podAt(canada, redis, "10.1.0.5").Addresses}
	wantEqual(t, "a ClusterIP affects who names it", w.set(shadow), []model.Key{fed()})
	wantEqual(t, "and when it goes", w.gone(shadow.Key), []model.Key{fed()})
	stranger := sliceOf(canada, "x", "10.1.0.6")
	stranger.Service = "stranger"
	wantEqual(t, "a stranger's slice affects nobody", len(w.set(stranger)), 0)
	whole := model.Batch{Cluster: canada, Replace: model.KindEndpointSlice, Namespace: redis}
	wantEqual(t, "a batch without it", w.facts.Apply(whole), []model.Key{fed()})
	wantEqual(t, "nobody speaks for another cluster", len(w.facts.Apply(model.Batch{Cluster: europe, Changes: []model.Change{model.Gone(fed())}})), 0)
	gone := w.gone(other.Key)
	wantEqual(t, "one that is gone", gone, []model.Key{other.Key})
}
