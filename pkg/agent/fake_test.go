package agent

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/store"
)

var errDisk = errors.New("no space left on device")

// fakeStore keeps what a store keeps, in memory. With faults, every call that
// can fail may do so, done, half done or not done at all.
type fakeStore struct {
	mu     sync.Mutex
	files  map[string]*fakeFile
	faults *rand.Rand // nil: none
	long   int        // how many appends make a file long; 0: never
	writes int
	stuck  map[string]bool // could not be removed
}

type fakeFile struct {
	uid     model.UID
	contact time.Time
	facts   map[model.Key]model.Fact
	appends int
}

func newFakeStore() *fakeStore {
	return &fakeStore{files: map[string]*fakeFile{}, stuck: map[string]bool{}}
}

func (s *fakeStore) fails() bool { return s.faults != nil && s.faults.IntN(4) == 0 }

func (s *fakeStore) Load(cluster string) (store.Image, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[cluster]
	if f == nil {
		return store.Image{}, false
	}
	image := store.Image{ClusterUID: f.uid, LastContact: f.contact}
	for _, fact := range f.facts {
		image.Facts = append(image.Facts, model.Set(fact))
	}
	return image, true
}

func (s *fakeStore) Clusters() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.files))
}

func (s *fakeStore) Append(cluster string, uid model.UID, contact time.Time, changes []model.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	f := s.files[cluster]
	if f == nil {
		f = &fakeFile{facts: map[model.Key]model.Fact{}}
		s.files[cluster] = f
	}
	if f.uid != uid {
		return fmt.Errorf("append to %s: it is of another RemoteCluster", cluster)
	}
	failed := s.fails()
	if failed {
		changes = changes[:s.faults.IntN(len(changes)+1)]
	}
	f.contact = contact
	f.appends++
	for _, c := range changes {
		if c.Value == nil {
			delete(f.facts, c.Key)
		} else {
			f.facts[c.Key] = c.Value
		}
	}
	if failed {
		return errDisk
	}
	return nil
}

func (s *fakeStore) Rewrite(cluster string, uid model.UID, contact time.Time, facts iter.Seq[model.Fact]) error {
	f := &fakeFile{uid: uid, contact: contact, facts: map[model.Key]model.Fact{}}
	for fact := range facts {
		f.facts[fact.FactKey()] = fact
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.fails() {
		return errDisk
	}
	s.files[cluster] = f
	return nil
}

func (s *fakeStore) NeedsRewrite(cluster string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[cluster]
	return s.long > 0 && f != nil && f.appends > s.long
}

func (s *fakeStore) Remove(cluster string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.stuck[cluster] = s.fails(); s.stuck[cluster] {
		return errDisk
	}
	delete(s.files, cluster)
	return nil
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// The local cluster of the tests is west, its node is node-1.
func testConfig() Config {
	return Config{
		Cluster: "west", Node: "node-1", Version: "v0.0.1",
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
	}
}

func testStart() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func uid(n byte) model.UID { return model.UID{15: n} }

func remote(name string, n byte) *model.Cluster {
	return &model.Cluster{Name: name, UID: uid(n), Created: int64(n)}
}

// address is one of a thousand of a cluster, by the text of its key.
func address(key model.Key) netip.Addr {
	hash := uint32(0)
	for _, b := range []byte(key.String()) {
		hash = hash*31 + uint32(b)
	}
	second := byte(200)
	if key.Cluster == "west" {
		second = 1
	}
	return netip.AddrFrom4([4]byte{10, second, byte(hash >> 8), byte(hash)})
}

func pod(cluster, namespace, name string, labels ...string) *model.Endpoint {
	key := model.PodKey(cluster, namespace, name)
	return &model.Endpoint{Key: key, Labels: labelSet(labels), Node: "node-1", Addresses: []netip.Addr{address(key)}}
}

func node(cluster, name string) *model.Endpoint {
	key := model.NodeKey(cluster, name)
	return &model.Endpoint{Key: key, Node: name, Addresses: []netip.Addr{address(key)}}
}

func namespace(cluster, name string, labels ...string) *model.Namespace {
	return &model.Namespace{Key: model.NamespaceKey(cluster, name), Labels: labelSet(labels)}
}

func networkPolicy(namespace, name string, peer model.LabelSelector) *model.Policy {
	return &model.Policy{
		Key: model.PolicyKey("west", namespace, name), Ingress: true,
		IngressRules: []model.PolicyRule{{AnyPort: true, Peers: []model.PolicyPeer{{Pods: &peer}}}},
	}
}

func labelSet(pairs []string) model.Labels {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return model.NewLabels(m)
}

// list is the whole truth of a kind in a cluster.
func list(cluster string, kind model.Kind, facts ...model.Fact) model.Batch {
	return model.Batch{Cluster: cluster, Replace: kind, Changes: sets(facts)}
}

func sets(facts []model.Fact) []model.Change {
	var changes []model.Change
	for _, f := range facts {
		changes = append(changes, model.Set(f))
	}
	return changes
}

// remotes is the list of all remote clusters.
func remotes(clusters ...*model.Cluster) model.Batch {
	b := model.Batch{Replace: model.KindCluster}
	for _, c := range clusters {
		b.Changes = append(b.Changes, model.Set(c))
	}
	return b
}

func inState(state model.State, contact time.Time) model.ClusterStatus {
	return model.ClusterStatus{State: state, Reason: state.String(), LastContact: contact}
}
