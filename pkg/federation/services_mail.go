package federation

import (
	"maps"
	"sync"

	"github.com/overland-net/overland/pkg/model"
)

// scope is what a list is the whole truth of: a kind in a cluster or, if namespace
// is not empty, in one namespace of it.
type scope struct {
	kind      model.Kind
	namespace string
}

func (s scope) holds(k model.Key) bool {
	return k.Kind == s.kind && (s.namespace == "" || k.Namespace == s.namespace)
}

// clusterMail is what came in of one cluster, coalesced: bounded by the number of
// distinct keys, not of calls.
type clusterMail struct {
	// drained: all that was known of it before is gone.
	drained bool
	// lists are the scopes of which changes have all there is.
	lists   map[scope]bool
	changes map[model.Key]model.Fact // nil: gone
	status  *model.ClusterStatus     // the newest, nil if there is none
	// listed: a status said so, be it the newest or not.
	listed bool
	// fact is of the Cluster, if told is set; nil: the link is removed.
	fact *model.Cluster
	told bool
}

func newClusterMail() *clusterMail {
	return &clusterMail{lists: map[scope]bool{}, changes: map[model.Key]model.Fact{}}
}

func (m *clusterMail) drain() {
	clear(m.lists)
	clear(m.changes)
	m.drained, m.listed = true, false
}

func (m *clusterMail) list(s scope) {
	maps.DeleteFunc(m.changes, func(k model.Key, _ model.Fact) bool { return s.holds(k) })
	if s.namespace == "" {
		maps.DeleteFunc(m.lists, func(o scope, _ bool) bool { return o.kind == s.kind })
	}
	m.lists[s] = true
}

// batches are the mail's facts, as few batches as say the same.
func (m *clusterMail) batches(cluster string) []model.Batch {
	single := model.Batch{Cluster: cluster}
	of := map[scope]*model.Batch{}
	var all []model.Batch
	for s := range m.lists {
		of[s] = &model.Batch{Cluster: cluster, Replace: s.kind, Namespace: s.namespace}
	}
	for k, v := range m.changes {
		b := of[scope{k.Kind, k.Namespace}]
		if b == nil {
			b = of[scope{kind: k.Kind}]
		}
		switch {
		case b == nil:
			single.Changes = append(single.Changes, model.Change{Key: k, Value: v})
		case v != nil: // a list does not say what is not there
			b.Changes = append(b.Changes, model.Change{Key: k, Value: v})
		}
	}
	// The broader list first: it would wipe what a narrower one says.
	for _, narrow := range []bool{false, true} {
		for s, b := range of {
			if (s.namespace != "") == narrow {
				all = append(all, *b)
			}
		}
	}
	if len(single.Changes) > 0 {
		all = append(all, single)
	}
	return all
}

// mailbox is the Sink of the sources of Services and EndpointSlices: it takes all
// that they say, without ever making them wait, until the loop fetches it.
type mailbox struct {
	local string
	// filled has one token while there is mail that was not looked at.
	filled chan struct{}

	mu       sync.Mutex
	clusters map[string]*clusterMail
	// linked: the list of all linked clusters has come.
	linked bool
}

func newMailbox(local string) *mailbox {
	return &mailbox{local: local, filled: make(chan struct{}, 1), clusters: map[string]*clusterMail{}}
}

// Facts takes facts. A cluster speaks of itself only (semantics 1.6).
func (m *mailbox) Facts(b model.Batch) {
	m.do(func() {
		if b.Replace == model.KindCluster {
			m.linked = true
		} else if b.Replace != 0 {
			m.of(b.Cluster).list(scope{b.Replace, b.Namespace})
		}
		for _, c := range b.Changes {
			switch {
			case c.Key.Kind == model.KindCluster:
				m.cluster(c)
			case c.Key.Cluster == b.Cluster && (c.Key.Kind == model.KindService || c.Key.Kind == model.KindEndpointSlice):
				m.of(b.Cluster).changes[c.Key] = c.Value
			}
		}
	})
}

// cluster takes a Cluster fact.
func (m *mailbox) cluster(c model.Change) {
	if c.Key.Cluster == m.local {
		return
	}
	x := m.of(c.Key.Cluster)
	x.fact, _ = c.Value.(*model.Cluster)
	x.told = true
	if x.fact == nil {
		x.drain()
		x.status = nil
	}
}

// Status takes how a cluster's source is doing.
func (m *mailbox) Status(cluster string, s model.ClusterStatus) {
	m.do(func() {
		x := m.of(cluster)
		x.status = &s
		x.listed = x.listed || s.State == model.StateInSync
	})
}

// Drain takes that all facts of a cluster are gone.
func (m *mailbox) Drain(cluster string) { m.do(func() { m.of(cluster).drain() }) }

func (m *mailbox) of(cluster string) *clusterMail {
	x := m.clusters[cluster]
	if x == nil {
		x = newClusterMail()
		m.clusters[cluster] = x
	}
	return x
}

func (m *mailbox) do(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	poke(m.filled)
}

// take hands over all mail.
func (m *mailbox) take() (clusters map[string]*clusterMail, linked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clusters = m.clusters
	m.clusters = map[string]*clusterMail{}
	return clusters, m.linked
}

// poke wakes who waits on a channel of one.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
