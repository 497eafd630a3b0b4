package source

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/overland-net/overland/pkg/model"
)

// expire does what the agent does after staleAfter.
func (s *fakeSink) expire(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.facts {
		if k.Cluster == cluster && k.Kind != model.KindCluster {
			delete(s.facts, k)
		}
	}
}

// TestWhatExpiredWhileOneKindWasRefusedComesBackWhole_1_2: the other kinds were
// watched all the time, so that nothing but a new list says them again.
func TestWhatExpiredWhileOneKindWasRefusedComesBackWhole_1_2(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.put(namespace("demo", "1", map[string]string{"team": "a"}), node("n", "10.9.0.1"), pod("demo", "a", "10.1.0.1", nil))
	cfg := remoteConfig(a)
	cfg.staleAfter = time.Nanosecond
	start(t, cfg, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	a.set(func() { a.forbidden["pods"] = true })
	a.compact()
	a.CloseClientConnections()
	s.waitReason(t, "canada", model.ReasonForbidden)
	eventually(t, "the namespaces are watched again", func() bool {
		a.put(namespace("other", "2", nil))
		return s.has(model.NamespaceKey("canada", "other"))
	})
	s.expire("canada")
	a.set(func() { a.forbidden["pods"] = false })
	s.waitReason(t, "canada", model.ReasonInSync)
	waitTruth(t, a, s, "canada", nil)
}

// TestAnImportListDoesNotSayWhatAnEarlierSessionHeard_1_2: it may have expired,
// or have been of another cluster.
func TestAnImportListDoesNotSayWhatAnEarlierSessionHeard_1_2(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.put(pod("one", "a", "10.1.0.1", nil), pod("two", "b", "10.1.0.2", nil))
	a.forbidden["two/pods"] = true
	cfg := remoteConfig(a)
	cfg.namespaces, cfg.timing.ProbeTimeout = []string{"one", "two"}, 200*time.Millisecond
	c := start(t, cfg, s)
	s.waitReason(t, "canada", model.ReasonForbidden)
	old, next := model.PodKey("canada", "one", "a"), model.PodKey("canada", "two", "b")
	eventually(t, "one is known", func() bool { return s.has(old) })
	a.set(func() { a.silent = true })
	s.waitReason(t, "canada", model.ReasonUnreachable)
	s.expire("canada")
	a.set(func() { a.forbidden["one/pods"], a.forbidden["two/pods"], a.silent = true, false, false })
	c.reconnect()
	eventually(t, "two is known", func() bool { return s.has(next) })
	if s.has(old) {
		t.Error("a pod comes back that nothing has said since it was dropped")
	}
}

// TestNamespaceThatIsNoLongerImportedMakesRoom_1_2: what it had does not count
// for the limit any more.
func TestNamespaceThatIsNoLongerImportedMakesRoom_1_2(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	share := map[string]string{"share": "yes"}
	a.put(namespace("one", "1", share), namespace("two", "2", share))
	fill := func(ns string, from, to int) {
		for i := from; i < to; i++ {
			a.put(pod(ns, fmt.Sprintf("%s-%02d", ns, i), fmt.Sprintf("10.1.%d.%d", len(ns), i), nil))
		}
	}
	fill("one", 0, 15)
	fill("two", 0, 5)
	cfg := remoteConfig(a)
	cfg.limit, cfg.selector = 20, labels.SelectorFromSet(share)
	start(t, cfg, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	fill("one", 15, 18)
	s.waitReason(t, "canada", model.ReasonTooLarge)
	a.put(namespace("two", "2", nil))
	s.waitReason(t, "canada", model.ReasonInSync)
	waitTruth(t, a, s, "canada", func(k model.Key) bool {
		return k.Namespace == "one" || k.Kind == model.KindNamespace && k.Name == "one"
	})
}
