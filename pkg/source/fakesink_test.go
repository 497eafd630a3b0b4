package source

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/model"
)

// fakeSink keeps what is true by what it was told, as the agent does.
type fakeSink struct {
	mu       sync.Mutex
	facts    map[model.Key]model.Fact
	statuses map[string]model.ClusterStatus
	states   map[string][]string // reasons in their order
	drains   map[string]int
	batches  []model.Batch
	most     int // facts at once
}

func newFakeSink() *fakeSink {
	return &fakeSink{facts: map[model.Key]model.Fact{}, statuses: map[string]model.ClusterStatus{}, states: map[string][]string{}, drains: map[string]int{}}
}

func (s *fakeSink) Facts(b model.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, b)
	if b.Replace != 0 {
		for k := range s.facts {
			if k.Kind == b.Replace && (b.Cluster == "" || k.Cluster == b.Cluster) && (b.Namespace == "" || k.Namespace == b.Namespace) {
				delete(s.facts, k)
			}
		}
	}
	for _, c := range b.Changes {
		if c.Value == nil {
			delete(s.facts, c.Key)
			if c.Key.Kind == model.KindCluster {
				maps.DeleteFunc(s.facts, func(k model.Key, _ model.Fact) bool { return k.Cluster == c.Key.Cluster })
			}
			continue
		}
		if c.Value.FactKey() != c.Key {
			panic(fmt.Sprintf("%v has key %v", c.Key, c.Value.FactKey()))
		}
		s.facts[c.Key] = c.Value
	}
	s.most = max(s.most, len(s.facts))
}

func (s *fakeSink) Status(cluster string, status model.ClusterStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses[cluster] = status
	if r := s.states[cluster]; len(r) == 0 || r[len(r)-1] != status.Reason {
		s.states[cluster] = append(r, status.Reason)
	}
}

func (s *fakeSink) Drain(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drains[cluster]++
	maps.DeleteFunc(s.facts, func(k model.Key, _ model.Fact) bool { return k.Cluster == cluster && k.Kind != model.KindCluster })
}

func (s *fakeSink) status(cluster string) model.ClusterStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.statuses[cluster]
}

func (s *fakeSink) drained(cluster string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drains[cluster]
}

// of are the facts of a kind.
func (s *fakeSink) of(kind model.Kind) map[model.Key]model.Fact {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[model.Key]model.Fact{}
	for k, f := range s.facts {
		if k.Kind == kind {
			found[k] = f
		}
	}
	return found
}

func (s *fakeSink) has(k model.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.facts[k] != nil
}

// eventually waits until something holds. How long it may take is only there to
// end a test that fails.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (s *fakeSink) waitReason(t *testing.T, cluster, reason string) model.ClusterStatus {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		status := s.status(cluster)
		if status.Reason == reason {
			return status
		}
		if time.Now().After(deadline) {
			t.Fatalf("cluster %s: reason is %s (%s), expected %s", cluster, status.Reason, status.Message, reason)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func diffFacts(a, b map[model.Key]model.Fact) string {
	return cmp.Diff(a, b, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, model.Labels{}), cmpopts.EquateEmpty())
}

func quietLog() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}
