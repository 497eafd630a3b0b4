package source

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/model"
)

func pod(ns, name, ip string, set map[string]string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: name, UID: types.UID("uid-" + name), Labels: set,
			CreationTimestamp: metav1.Unix(1700000000, 0),
		},
		Spec: corev1.PodSpec{
			NodeName: "node-1", ServiceAccountName: "default",
			Containers: []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if ip != "" {
		p.Status.PodIP, p.Status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	}
	return p
}

func node(name, ip string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"zone": "a"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: ip}, {Type: corev1.NodeExternalIP, Address: "1.2.3.4"},
		}},
	}
}

func remoteConfig(a *fakeAPI) *config {
	return &config{
		name: "canada", connect: a.config(), limit: 10_000, labelBytes: 1 << 10,
		agentNamespace: DefaultNamespace, timing: quick(),
	}
}

// start runs a Cluster until the test ends.
func start(t *testing.T, cfg *config, sink Sink) *Cluster {
	t.Helper()
	cfg.timing = cfg.timing.withDefaults()
	c := newCluster(cfg, sink, newReporter(cfg.name, cfg.timing, sink))
	run(t, c.Run)
	return c
}

func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// waitTruth waits until the sink has exactly what the API server has.
func waitTruth(t *testing.T, a *fakeAPI, s *fakeSink, cluster string, only func(model.Key) bool) {
	t.Helper()
	var diff string
	deadline := time.Now().Add(60 * time.Second)
	for {
		a.mu.Lock()
		want := truthOf(cluster, a.objects)
		a.mu.Unlock()
		got := map[model.Key]model.Fact{}
		s.mu.Lock()
		for k, f := range s.facts {
			if k.Cluster == cluster && k.Kind != model.KindCluster && k.Kind != model.KindPolicy {
				got[k] = f
			}
		}
		s.mu.Unlock()
		if only != nil {
			for k := range want {
				if !only(k) {
					delete(want, k)
				}
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

// churn changes the server's objects at random.
func churn(a *fakeAPI, chance *rand.Rand, steps int) {
	for range steps {
		ns, name := fmt.Sprintf("ns-%d", chance.IntN(3)), fmt.Sprintf("pod-%d", chance.IntN(40))
		p := pod(ns, name, fmt.Sprintf("10.1.%d.%d", chance.IntN(3), chance.IntN(250)), map[string]string{"app": fmt.Sprint(chance.IntN(4))})
		switch chance.IntN(12) {
		case 0:
			p.Spec.HostNetwork = true
		case 1:
			p.Status.Phase = corev1.PodSucceeded
		case 2:
			p.Status.PodIP, p.Status.PodIPs = "", nil
		case 3:
			p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1700000100, 0)}
		case 4:
			p.Labels[model.KeyCluster] = "west"
		case 5, 6, 7:
			a.remove(p)
			continue
		case 8:
			a.put(namespace(ns, "uid-"+ns, map[string]string{"team": fmt.Sprint(chance.IntN(3))}))
			continue
		case 9:
			a.put(node(fmt.Sprintf("node-%d", chance.IntN(4)), fmt.Sprintf("10.0.0.%d", 1+chance.IntN(200))))
			continue
		}
		a.put(p)
	}
}

func TestClusterEndsInTheTruthUnderFaults_3_2(t *testing.T) {
	for _, streamed := range []bool{true, false} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("streamed=%v seed=%d", streamed, seed), func(t *testing.T) {
				t.Parallel()
				a, s, chance := newFakeAPI(t), newFakeSink(), rand.New(rand.NewPCG(seed, 7))
				a.streamed, a.faults, a.chance = streamed, 0.3, rand.New(rand.NewPCG(seed, 8))
				churn(a, chance, 100)
				start(t, remoteConfig(a), s)
				for range 10 {
					churn(a, chance, 30)
					if chance.IntN(2) == 0 {
						a.compact()
					}
					if chance.IntN(4) == 0 {
						a.CloseClientConnections()
					}
					time.Sleep(time.Duration(chance.IntN(20)) * time.Millisecond)
				}
				waitTruth(t, a, s, "canada", nil)
				a.set(func() { a.faults = 0 })
				a.compact()
				a.CloseClientConnections()
				waitTruth(t, a, s, "canada", nil)
				s.waitReason(t, "canada", model.ReasonInSync)
			})
		}
	}
}

func TestClusterListsPageByPage(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.streamed = false
	for i := range 2*pageSize + 7 {
		a.put(pod("demo", fmt.Sprintf("p-%04d", i), fmt.Sprintf("10.1.%d.%d", i/250, i%250), nil))
	}
	start(t, remoteConfig(a), s)
	waitTruth(t, a, s, "canada", nil)
	if n := a.count("list pods"); n != 3 {
		t.Errorf("%d pages, expected 3", n)
	}
}

func TestLocalClusterHasPolicies(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "deny"}}
	a.put(p, pod("demo", "a", "10.1.0.1", nil))
	c := NewLocal("west", "node-1", a.config(), s)
	c.cfg.timing = quick()
	run(t, c.Run)
	key := model.PolicyKey("west", "demo", "deny")
	eventually(t, "the policy is known", func() bool { return s.has(key) && s.has(model.PodKey("west", "demo", "a")) })
	s.waitReason(t, "west", model.ReasonInSync)
	a.remove(p)
	eventually(t, "the policy is gone", func() bool { return !s.has(key) })
}

func TestImportListNeedsNoRightsElsewhere_1_2(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.put(pod("one", "a", "10.1.0.1", nil), pod("two", "b", "10.1.0.2", nil), pod("three", "c", "10.1.0.3", nil),
		namespace("one", "1", nil), namespace("two", "2", nil), namespace("three", "3", nil))
	a.forbidden["/pods"], a.forbidden["nodes"] = true, true
	// What an earlier agent knew of a namespace that is no longer on the list.
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{
		model.Set(&model.Endpoint{Key: model.PodKey("canada", "three", "old")}),
		model.Set(&model.Namespace{Key: model.NamespaceKey("canada", "three")}),
	}})
	cfg := remoteConfig(a)
	cfg.namespaces = []string{"one", "two"}
	start(t, cfg, s)
	imported := func(k model.Key) bool {
		return k.Namespace == "one" || k.Namespace == "two" || k.Kind == model.KindNamespace && (k.Name == "one" || k.Name == "two")
	}
	waitTruth(t, a, s, "canada", imported)
	status := s.waitReason(t, "canada", model.ReasonInSync)
	eventually(t, "Nodes are told as not readable", func() bool {
		status = s.status("canada")
		return len(status.NotReadable) == 1 && status.NotReadable[0] == model.KindNode
	})
	a.put(pod("two", "later", "10.1.0.9", nil))
	a.remove(namespace("one", "1", nil))
	waitTruth(t, a, s, "canada", imported)
}

func TestImportSelectorFollowsNamespaceLabels_1_2(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	share := map[string]string{"share": "yes"}
	a.put(namespace("one", "1", share), namespace("two", "2", nil),
		pod("one", "a", "10.1.0.1", nil), pod("two", "b", "10.1.0.2", nil))
	cfg := remoteConfig(a)
	cfg.selector = labels.SelectorFromSet(share)
	start(t, cfg, s)
	of := func(names ...string) func(model.Key) bool {
		return func(k model.Key) bool {
			for _, n := range names {
				if k.Namespace == n || k.Kind == model.KindNamespace && k.Name == n {
					return true
				}
			}
			return false
		}
	}
	waitTruth(t, a, s, "canada", of("one"))
	a.put(namespace("two", "2", share))
	waitTruth(t, a, s, "canada", of("one", "two"))
	a.put(namespace("one", "1", nil), pod("one", "more", "10.1.0.3", nil))
	waitTruth(t, a, s, "canada", of("two"))
	a.remove(namespace("two", "2", nil))
	a.remove(pod("two", "b", "", nil))
	waitTruth(t, a, s, "canada", of())
	s.waitReason(t, "canada", model.ReasonInSync)
}

func TestOddObjectsAreRefusedAloneAndCounted_1_4_1_6(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	huge := map[string]string{}
	for i := range 100 {
		huge[fmt.Sprintf("label-%d", i)] = "0123456789"
	}
	zoned, control := pod("demo", "zoned", "fe80::1%eth0", nil), pod("demo", "control", "10.1.0.3", map[string]string{"a": "\x1b[2J"})
	odd := []runtime.Object{
		zoned, control, pod("demo", "huge", "10.1.0.2", huge), pod("demo", "no-address", "nonsense", nil),
		pod("demo", "UPPER", "10.1.0.4", nil), pod("demo", "reserved", "10.1.0.5", map[string]string{"overland.dev/cluster": "west", "app": "x"}),
	}
	a.put(odd...)
	a.put(pod("demo", "good", "::ffff:10.1.0.1", nil))
	start(t, remoteConfig(a), s)
	s.waitReason(t, "canada", model.ReasonInSync)
	eventually(t, "the counts are told", func() bool {
		st := s.status("canada")
		return st.Refused[model.RefusedMalformed] == 4 && st.Refused[model.RefusedLabelsTooLarge] == 1 && st.ReservedLabels == 1
	})
	if n := len(s.of(model.KindPod)); n != 2 {
		t.Errorf("%d pods are taken, expected good and reserved: %v", n, s.of(model.KindPod))
	}
	a.remove(odd...)
	eventually(t, "the counts go", func() bool {
		st := s.status("canada")
		return len(st.Refused) == 0 && st.ReservedLabels == 0
	})
}

func TestTooLargeKeepsWhatIsKnownAndAddsNothing_1_2(t *testing.T) {
	for _, streamed := range []bool{true, false} {
		t.Run(fmt.Sprintf("streamed=%v", streamed), func(t *testing.T) {
			a, s := newFakeAPI(t), newFakeSink()
			a.streamed = streamed
			for i := range 20 {
				a.put(pod("demo", fmt.Sprintf("p-%02d", i), fmt.Sprintf("10.1.0.%d", i), nil))
			}
			cfg := remoteConfig(a)
			cfg.limit = 20
			start(t, cfg, s)
			s.waitReason(t, "canada", model.ReasonInSync)
			extra := pod("demo", "extra", "10.1.0.99", nil)
			a.put(extra)
			s.waitReason(t, "canada", model.ReasonTooLarge)
			eventually(t, "it is counted", func() bool { return s.status("canada").Refused[model.RefusedLimit] == 1 })
			if n := len(s.of(model.KindPod)); n != 20 {
				t.Errorf("%d pods, expected those of before", n)
			}
			a.remove(pod("demo", "p-00", "", nil))
			s.waitReason(t, "canada", model.ReasonInSync)
			waitTruth(t, a, s, "canada", nil)
			a.put(pod("demo", "p-00", "10.1.0.0", nil))
			s.waitReason(t, "canada", model.ReasonTooLarge)
			// A list past the limit is given up, and what is known stays.
			a.compact()
			a.CloseClientConnections()
			time.Sleep(20 * time.Millisecond)
			s.waitReason(t, "canada", model.ReasonTooLarge)
			if n := len(s.of(model.KindPod)); n != 20 {
				t.Errorf("%d pods after a list past the limit, expected those of before", n)
			}
			a.remove(extra)
			s.waitReason(t, "canada", model.ReasonInSync)
			waitTruth(t, a, s, "canada", nil)
		})
	}
}

func TestOutageKeepsFactsAndHeals_3_1(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.put(pod("demo", "a", "10.1.0.1", nil), pod("demo", "b", "10.1.0.2", nil))
	cfg := remoteConfig(a)
	cfg.timing.ProbeTimeout = 200 * time.Millisecond
	start(t, cfg, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	waitTruth(t, a, s, "canada", nil)
	a.set(func() { a.silent = true }) // nothing is refused, nothing is answered
	status := s.waitReason(t, "canada", model.ReasonUnreachable)
	if status.State != model.StateOutOfContact || status.LastContact.IsZero() {
		t.Errorf("status is %+v", status)
	}
	last := status.LastContact
	if len(s.of(model.KindPod)) != 2 {
		t.Error("facts went with the contact")
	}
	a.remove(pod("demo", "a", "", nil))
	a.set(func() { a.silent = false })
	s.waitReason(t, "canada", model.ReasonInSync)
	waitTruth(t, a, s, "canada", nil)
	eventually(t, "contact is told", func() bool { return s.status("canada").LastContact.After(last) })
	if s.drained("canada") != 0 {
		t.Error("drained")
	}
}
