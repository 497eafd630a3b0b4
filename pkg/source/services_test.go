package source

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	kruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/overland-net/overland/pkg/model"
)

func servicesConfig(a *fakeAPI) *config {
	cfg := remoteConfig(a)
	cfg.services = true
	return cfg
}

// waitServices waits until the sink has exactly the Services and EndpointSlices
// that the API server has and, but for Clusters, nothing else.
func waitServices(t *testing.T, a *fakeAPI, s *fakeSink, cluster string, only func(namespace string) bool) {
	t.Helper()
	var diff string
	deadline := time.Now().Add(60 * time.Second)
	for {
		a.mu.Lock()
		want := servicesTruth(cluster, cluster == "west", a.objects)
		a.mu.Unlock()
		got := map[model.Key]model.Fact{}
		s.mu.Lock()
		for k, f := range s.facts {
			if k.Kind != model.KindCluster {
				got[k] = f
			}
		}
		s.mu.Unlock()
		for k := range want {
			if only != nil && !only(k.Namespace) {
				delete(want, k)
			}
		}
		if diff = diffFacts(want, got); diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never the truth (-want +got):\n%s", diff)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// churnServices changes the server's objects at random.
func churnServices(a *fakeAPI, chance *rand.Rand, steps int) {
	for range steps {
		ns, name := fmt.Sprintf("ns-%d", chance.IntN(3)), fmt.Sprintf("s-%d", chance.IntN(10))
		s, e := service(ns, name, map[string]string{"app": fmt.Sprint(chance.IntN(3))}), slice(ns, name+fmt.Sprint("-", chance.IntN(3)), name)
		for range chance.IntN(5) {
			e.Endpoints = append(e.Endpoints, slice(ns, "x", name, fmt.Sprintf("10.1.0.%d", chance.IntN(250))).Endpoints...)
		}
		switch chance.IntN(12) {
		case 0:
			s.Spec.Type = corev1.ServiceTypeExternalName
		case 1:
			s.Annotations = map[string]string{model.AnnotationServiceSelector: "all()"}
		case 2:
			e.Labels[labelManagedBy] = managedFederation
		case 3:
			e.Labels = nil
		case 4:
			s.Labels[model.KeyCluster] = "west"
		case 5, 6:
			a.remove(s)
			continue
		case 7, 8:
			a.remove(e)
			continue
		case 9:
			// Nothing of these may come through.
			a.put(pod(ns, name, "10.1.0.1", nil), node("n", "10.9.0.1"), namespace(ns, "uid-"+ns, map[string]string{"team": "a"}))
			continue
		}
		a.put(s, e)
	}
}

func TestServicesEndInTheTruthUnderFaults_4_9(t *testing.T) {
	for _, streamed := range []bool{true, false} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("streamed=%v seed=%d", streamed, seed), func(t *testing.T) {
				t.Parallel()
				a, s, chance := newFakeAPI(t), newFakeSink(), rand.New(rand.NewPCG(seed, 9))
				a.streamed, a.faults, a.chance = streamed, 0.3, rand.New(rand.NewPCG(seed, 10))
				churnServices(a, chance, 80)
				start(t, servicesConfig(a), s)
				for range 8 {
					churnServices(a, chance, 25)
					if chance.IntN(2) == 0 {
						a.compact()
					}
					if chance.IntN(4) == 0 {
						a.CloseClientConnections()
					}
					time.Sleep(time.Duration(chance.IntN(20)) * time.Millisecond)
				}
				waitServices(t, a, s, "canada", nil)
				a.set(func() { a.faults = 0 })
				a.compact()
				a.CloseClientConnections()
				waitServices(t, a, s, "canada", nil)
				s.waitReason(t, "canada", model.ReasonInSync)
			})
		}
	}
}

func TestServicesAreListedPageByPageAndNothingElse(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.streamed = false
	for i := range pageSize + 7 {
		name := fmt.Sprintf("s-%04d", i)
		a.put(service("demo", name, nil), slice("demo", name+"-x", name, fmt.Sprintf("10.1.%d.%d", i/250, i%250)))
	}
	start(t, servicesConfig(a), s)
	waitServices(t, a, s, "canada", nil)
	s.waitReason(t, "canada", model.ReasonInSync)
	if n, m := a.count("list services"), a.count("list endpointslices"); n != 2 || m != 2 {
		t.Errorf("%d and %d pages, expected 2 of each", n, m)
	}
	for _, resource := range []string{"pods", "nodes", "networkpolicies"} {
		if a.count("list "+resource)+a.count("watch "+resource) > 0 {
			t.Errorf("%s are read", resource)
		}
	}
}

func TestLocalServicesHaveAllOfTheLocalCluster_4_1(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	federated := service("demo", "db-federated", nil)
	federated.Spec.Selector, federated.Annotations = nil, map[string]string{model.AnnotationServiceSelectorTigeraWWW: `federation == "yes"`}
	ours := slice("demo", "db-federated-1", "db-federated", "10.1.0.1")
	ours.Labels[labelManagedBy] = managedFederation
	a.put(federated, ours, service("demo", "db", nil), slice("demo", "db-1", "db", "10.1.0.1"), pod("demo", "db-0", "10.1.0.1", nil))
	c := NewLocalServices("west", a.config(), s)
	c.cfg.timing = quick()
	run(t, c.Run)
	waitServices(t, a, s, "west", nil)
	s.waitReason(t, "west", model.ReasonInSync)
	federated.Status.Conditions = []metav1.Condition{{Type: "overland.dev/Federated", Status: "True", Reason: "InSync"}}
	a.put(federated)
	a.remove(ours)
	waitServices(t, a, s, "west", nil)
}

// TestInSyncMeansThatBothKindsHaveBeenListed_4_9: no slice of a cluster is written
// before.
func TestInSyncMeansThatBothKindsHaveBeenListed_4_9(t *testing.T) {
	for _, late := range []string{"services", "endpointslices"} {
		t.Run(late, func(t *testing.T) {
			a, s := newFakeAPI(t), newFakeSink()
			a.put(service("demo", "db", nil), slice("demo", "db-1", "db", "10.1.0.1"))
			var opened atomic.Bool
			open := make(chan struct{})
			a.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, late) && !opened.Load() {
					select {
					case <-open:
					case <-r.Context().Done():
					}
				}
				return false
			}
			start(t, servicesConfig(a), s)
			eventually(t, "the other kind is known", func() bool {
				return s.has(model.ServiceKey("canada", "demo", "db")) || s.has(model.EndpointSliceKey("canada", "demo", "db-1"))
			})
			if st := s.status("canada"); st.State != model.StateSyncing {
				t.Errorf("state %v with %s not listed", st.State, late)
			}
			opened.Store(true)
			close(open)
			s.waitReason(t, "canada", model.ReasonInSync)
			waitServices(t, a, s, "canada", nil)
		})
	}
}

func TestServicesOutageKeepsFactsAndHeals_4_9(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.put(service("demo", "db", nil), slice("demo", "db-1", "db", "10.1.0.1"))
	cfg := servicesConfig(a)
	cfg.timing.ProbeTimeout = 200 * time.Millisecond
	start(t, cfg, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	a.set(func() { a.silent = true })
	status := s.waitReason(t, "canada", model.ReasonUnreachable)
	if status.LastContact.IsZero() || len(s.of(model.KindService)) != 1 || len(s.of(model.KindEndpointSlice)) != 1 {
		t.Errorf("status %+v; facts went with the contact", status)
	}
	a.remove(service("demo", "db", nil))
	a.put(slice("demo", "db-1", "db", "10.1.0.1", "10.1.0.2"))
	a.set(func() { a.silent = false })
	s.waitReason(t, "canada", model.ReasonInSync)
	waitServices(t, a, s, "canada", nil)
}

// TestServicesRestartForgetsWhatIsGone_3_2: what an earlier run knew is replaced.
func TestServicesRestartForgetsWhatIsGone_3_2(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.put(service("demo", "old", nil), slice("demo", "old-1", "old", "10.1.0.1"))
	cfg := servicesConfig(a)
	cfg.timing = cfg.timing.withDefaults()
	stop := run(t, newCluster(cfg, s, newReporter(cfg.name, cfg.timing, s)).Run)
	waitServices(t, a, s, "canada", nil)
	stop()
	a.remove(service("demo", "old", nil), slice("demo", "old-1", "old"))
	a.put(service("demo", "new", nil))
	start(t, servicesConfig(a), s)
	waitServices(t, a, s, "canada", nil)
}

func TestServicesOfAnImportListNeedNoRightsElsewhere_1_2(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	for _, ns := range []string{"one", "two", "three"} {
		a.put(service(ns, "db", nil), slice(ns, "db-1", "db", "10.1.0.1"), namespace(ns, ns, nil))
	}
	for _, all := range []string{"/services", "/endpointslices", "list namespaces", "watch namespaces"} {
		a.forbidden[all] = true
	}
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(&model.Service{Key: model.ServiceKey("canada", "three", "old")})}})
	cfg := servicesConfig(a)
	cfg.namespaces = []string{"one", "two"}
	start(t, cfg, s)
	imported := func(ns string) bool { return ns == "one" || ns == "two" }
	waitServices(t, a, s, "canada", imported)
	s.waitReason(t, "canada", model.ReasonInSync)
	a.put(service("two", "later", nil))
	a.remove(slice("one", "db-1", "db"))
	waitServices(t, a, s, "canada", imported)
	if len(s.status("canada").NotReadable) > 0 {
		t.Error("something that is not needed is told as not readable")
	}
}

func TestServicesOfAnImportSelectorFollowNamespaceLabels_1_2(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	share := map[string]string{"share": "yes"}
	a.put(namespace("one", "1", share), namespace("two", "2", nil), pod("one", "p", "10.1.0.9", nil))
	for _, ns := range []string{"one", "two"} {
		a.put(service(ns, "db", nil), slice(ns, "db-1", "db", "10.1.0.1"))
	}
	cfg := servicesConfig(a)
	cfg.selector = labels.SelectorFromSet(share)
	start(t, cfg, s)
	of := func(names ...string) func(string) bool {
		return func(ns string) bool { return strings.Contains(" "+strings.Join(names, " ")+" ", " "+ns+" ") }
	}
	waitServices(t, a, s, "canada", of("one"))
	a.put(namespace("two", "2", share))
	waitServices(t, a, s, "canada", of("one", "two"))
	a.put(namespace("one", "1", nil), service("one", "more", nil))
	waitServices(t, a, s, "canada", of("two"))
	a.remove(namespace("two", "2", nil))
	waitServices(t, a, s, "canada", of())
	s.waitReason(t, "canada", model.ReasonInSync)
}

// TestServicesOfANamespaceThatIsNoLongerImportedGoAtOnce_1_2: not only with a list
// that may never come.
func TestServicesOfANamespaceThatIsNoLongerImportedGoAtOnce_1_2(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	share := map[string]string{"share": "yes"}
	a.put(namespace("one", "1", share), service("one", "db", nil), slice("one", "db-1", "db", "10.1.0.1"))
	cfg := servicesConfig(a)
	cfg.selector = labels.SelectorFromSet(share)
	start(t, cfg, s)
	waitServices(t, a, s, "canada", nil)
	s.waitReason(t, "canada", model.ReasonInSync)
	a.set(func() { a.forbidden["services"], a.forbidden["endpointslices"] = true, true })
	a.put(namespace("one", "1", nil))
	waitServices(t, a, s, "canada", func(string) bool { return false })
}

// TestServicesThatMayNotBeReadAreNamed_3_5: a link of an earlier version has not
// the rights.
func TestServicesThatMayNotBeReadAreNamed_3_5(t *testing.T) {
	for _, resource := range []string{"services", "endpointslices", "watch services"} {
		t.Run(resource, func(t *testing.T) {
			a, s := newFakeAPI(t), newFakeSink()
			a.put(service("demo", "db", nil), slice("demo", "db-1", "db", "10.1.0.1"))
			a.forbidden[resource] = true
			start(t, servicesConfig(a), s)
			st := s.waitReason(t, "canada", model.ReasonForbidden)
			for _, text := range []string{strings.TrimPrefix(resource, "watch "), "get, list and watch of services and of endpointslices in discovery.k8s.io", "overland connect, run again"} {
				if !strings.Contains(st.Message, text) {
					t.Errorf("the message does not say %q: %s", text, st.Message)
				}
			}
			a.set(func() { a.forbidden = map[string]bool{} })
			s.waitReason(t, "canada", model.ReasonInSync)
			waitServices(t, a, s, "canada", nil)
		})
	}
	a, s := newFakeAPI(t), newFakeSink()
	a.forbidden["services"] = true
	c := NewLocalServices("west", a.config(), s)
	c.cfg.timing = quick()
	run(t, c.Run)
	if st := s.waitReason(t, "west", model.ReasonForbidden); !strings.Contains(st.Message, "ClusterRole overland-agent") {
		t.Errorf("of the local cluster it says %s", st.Message)
	}
}

// TestAnotherClusterBehindTheAddressIsNoticed_1_1: Namespaces are not read for
// their own sake, but whose API server it is must be known.
func TestAnotherClusterBehindTheAddressIsNoticed_1_1(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.put(service("demo", "db", nil))
	cfg := servicesConfig(a)
	uid := atomic.Pointer[string]{}
	cfg.accept = func(now string) verdict {
		before := uid.Swap(&now)
		return verdict{changed: before != nil && *before != now}
	}
	start(t, cfg, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	a.remove(namespace("kube-system", "", nil))
	a.put(namespace("kube-system", "99999999-2222-3333-4444-555555555555", nil))
	eventually(t, "what was known is dropped", func() bool { return s.drained("canada") == 1 })
	s.waitReason(t, "canada", model.ReasonInSync)
	waitServices(t, a, s, "canada", nil)
	if len(s.of(model.KindNamespace)) > 0 {
		t.Error("a Namespace is handed on")
	}
}

func TestMeshOfServicesReadsNothingElseAndUnlinks_3_3(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	canada := another(t, "aaaaaaaa-0000-0000-0000-000000000001")
	canada.put(service("demo", "db", nil), slice("demo", "db-1", "db", "10.2.0.1"), pod("demo", "db-0", "10.2.0.1", nil))
	dead := another(t, "aaaaaaaa-0000-0000-0000-000000000002")
	dead.set(func() { dead.silent = true })
	linkTo(local, "dead", 5, dead)
	rc := linkTo(local, "canada", 0, canada)
	linkTo(local, "twin", 0, canada)
	run(t, NewMesh(MeshConfig{Cluster: "west", Config: local.config(), Services: true, Timing: quick()}, s, quietLog()).Run)
	s.waitReason(t, "canada", model.ReasonInSync)
	s.waitReason(t, "twin", model.ReasonDuplicateCluster)
	waitServices(t, canada, s, "canada", nil)
	rc.Spec.Suspend = true
	local.put(rc)
	s.waitReason(t, "canada", model.ReasonSuspended)
	waitServices(t, canada, s, "canada", nil)
	local.remove(rc)
	eventually(t, "all of it is gone", func() bool {
		return !s.has(model.ClusterKey("canada")) && !s.has(model.ServiceKey("canada", "demo", "db"))
	})
}

// endlessSlices answers lists of EndpointSlices, or streamed ones, without an end.
func endlessSlices(pages, events *atomic.Int64) func(http.ResponseWriter, *http.Request) bool {
	from := func(n, count int) (all []discoveryv1.EndpointSlice) {
		for i := n; i < n+count; i++ {
			all = append(all, *slice("demo", fmt.Sprintf("s-%d", i), "db", "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"))
		}
		return all
	}
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/endpointslices") {
			return false
		}
		w.Header().Set("Content-Type", kruntime.ContentTypeProtobuf)
		if r.URL.Query().Get("watch") == "" {
			n := int(pages.Add(1))
			_, _ = w.Write(protobufOf(&discoveryv1.EndpointSliceList{
				ListMeta: metav1.ListMeta{ResourceVersion: "1", Continue: fmt.Sprint(n)}, Items: from(n*pageSize, pageSize),
			}))
			return true
		}
		send := eventsTo(w)
		for send("ADDED", &from(int(events.Add(1)), 1)[0]) {
		}
		return true
	}
}

func TestEndlessListOfSlicesStopsAtTheLimit_1_2(t *testing.T) {
	var pages, events atomic.Int64
	a, s := newFakeAPI(t), newFakeSink()
	a.put(service("demo", "db", nil))
	a.intercept = endlessSlices(&pages, &events)
	cfg := servicesConfig(a)
	cfg.limit, cfg.timing.RetryTooLarge = 4000, 1<<40
	start(t, cfg, s)
	st := s.waitReason(t, "canada", model.ReasonTooLarge)
	if !strings.Contains(st.Message, "4000 Services and endpoints of EndpointSlices") || !strings.Contains(st.Message, "spec.limits.endpoints") {
		t.Errorf("it says %s", st.Message)
	}
	if n := len(s.of(model.KindEndpointSlice)); n != 0 {
		t.Errorf("%d slices are taken", n)
	}
	if n, m := pages.Load(), events.Load(); n > 5 || m > 10_000 {
		t.Errorf("%d pages and %d events were read, for a limit of 2 pages", n, m)
	}
}

// TestSlicesPastTheLimitAreLeftOutAndLetIn_1_2: each endpoint counts.
func TestSlicesPastTheLimitAreLeftOutAndLetIn_1_2(t *testing.T) {
	for _, streamed := range []bool{true, false} {
		t.Run(fmt.Sprintf("streamed=%v", streamed), func(t *testing.T) {
			a, s := newFakeAPI(t), newFakeSink()
			a.streamed = streamed
			five := func(name string) *discoveryv1.EndpointSlice {
				return slice("demo", name, "db", "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5")
			}
			a.put(service("demo", "db", nil), five("a"), five("b"))
			cfg := servicesConfig(a)
			cfg.limit = 12
			start(t, cfg, s)
			s.waitReason(t, "canada", model.ReasonInSync)
			a.put(five("c"))
			s.waitReason(t, "canada", model.ReasonTooLarge)
			if n := len(s.of(model.KindEndpointSlice)); n != 2 {
				t.Errorf("%d slices, expected those of before", n)
			}
			a.remove(five("a"))
			s.waitReason(t, "canada", model.ReasonInSync)
			waitServices(t, a, s, "canada", nil)
		})
	}
}

// TestNothingOfAnotherKindComesThrough_1_6: a server answers with what was not
// asked for, in lists and in watches.
func TestNothingOfAnotherKindComesThrough_1_6(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.streamed = false
	a.put(service("demo", "db", nil), slice("demo", "db-1", "db", "10.1.0.1"))
	var lying atomic.Bool
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/api/v1/services" {
			return false
		}
		w.Header().Set("Content-Type", kruntime.ContentTypeProtobuf)
		switch {
		case r.URL.Query().Get("watch") != "":
			send := eventsTo(w)
			send("ADDED", pod("demo", "p", "10.1.0.1", nil))
			send("ADDED", node("n", "10.1.0.2"))
			send("DELETED", slice("demo", "db", "db"))
			send("ADDED", service("demo", "last", nil))
			<-r.Context().Done()
		case lying.Load():
			_, _ = w.Write(protobufOf(&corev1.PodList{Items: podsFrom(0, 3)}))
		default:
			return false
		}
		return true
	}
	c := start(t, servicesConfig(a), s)
	last := model.ServiceKey("canada", "demo", "last")
	eventually(t, "the last event is taken", func() bool { return s.has(last) })
	if !s.has(model.ServiceKey("canada", "demo", "db")) || len(s.of(model.KindPod))+len(s.of(model.KindNode)) > 0 {
		t.Errorf("known is %v, %v", s.of(model.KindService), s.of(model.KindPod))
	}
	lying.Store(true)
	a.CloseClientConnections()
	c.reconnect()
	s.waitReason(t, "canada", model.ReasonServerError)
	if !s.has(last) || len(s.of(model.KindPod)) > 0 {
		t.Error("a list of pods is taken for one of Services")
	}
}

func TestLargeSlicesCountForManyEvents_1_6(t *testing.T) {
	for n, want := range map[int]int{0: 1, 10: 1, 100: 3, 1000: 21} {
		s := slice("demo", "x", "db")
		s.Endpoints = make([]discoveryv1.Endpoint, n)
		if got := weightOf(itemFrom(t, false, s)); got != want {
			t.Errorf("a slice of %d endpoints counts for %d", n, got)
		}
	}
	if weightOf(nil) != 1 || weightOf(&item{refused: model.RefusedMalformed}) != 1 {
		t.Error("what is no object does not count for one")
	}
}

func TestOddServicesAreRefusedAloneAndCounted_1_6(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	bad, huge, many := service("demo", "bad", nil), service("demo", "huge", map[string]string{}), slice("demo", "many", "db")
	bad.Spec.Ports[0].Port = -1
	for i := range 100 {
		huge.Labels[fmt.Sprintf("label-%03d", i)] = "0123456789"
	}
	many.Endpoints = make([]discoveryv1.Endpoint, maxSliceEndpoints+1)
	a.put(bad, huge, many, service("demo", "db", map[string]string{"overland.dev/cluster": "x"}), slice("demo", "db-1", "db", "10.1.0.1"))
	start(t, servicesConfig(a), s)
	s.waitReason(t, "canada", model.ReasonInSync)
	eventually(t, "the counts are told", func() bool {
		st := s.status("canada")
		return st.Refused[model.RefusedMalformed] == 2 && st.Refused[model.RefusedLabelsTooLarge] == 1 && st.ReservedLabels == 1
	})
	if len(s.of(model.KindService)) != 1 || len(s.of(model.KindEndpointSlice)) != 1 {
		t.Errorf("taken are %v and %v", s.of(model.KindService), s.of(model.KindEndpointSlice))
	}
	a.remove(bad, huge, many)
	eventually(t, "the counts go", func() bool { return len(s.status("canada").Refused) == 0 })
}
