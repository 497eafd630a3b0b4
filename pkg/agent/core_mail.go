package agent

import (
	"maps"

	"github.com/overland-net/overland/pkg/model"
)

// Scope is what a Replace is the whole truth of: a kind in a cluster or, if
// Namespace is not empty, in one namespace of it.
type Scope struct {
	Kind      model.Kind
	Namespace string
}

func (s Scope) holds(k model.Key) bool {
	return k.Kind == s.Kind && (s.Namespace == "" || k.Namespace == s.Namespace)
}

// Mail is what came in of one cluster since its last delivery, coalesced: what it
// means does not depend on the calls that it came in, only on what they said
// last. Its parts are to be taken in the order of the fields.
type Mail struct {
	// Forget: the cluster was gone, or became another one under the same name.
	// All that was known of it before is gone.
	Forget bool
	// Wiped are the scopes of which all is gone that Changes do not name. True:
	// a list said so, and Changes are all there is; false: it was drained.
	Wiped map[Scope]bool
	// Changes have the newest of each key, the Cluster fact's included.
	Changes map[model.Key]model.Fact
	// Status is the newest, nil if there is none.
	Status *model.ClusterStatus
	// Synced: a status said that all had been listed, be it the newest or not.
	Synced bool
}

func newMail() *Mail {
	return &Mail{Wiped: map[Scope]bool{}, Changes: map[model.Key]model.Fact{}}
}

// The kinds of facts that come of a cluster, beside its own fact.
func kinds() [4]model.Kind {
	return [...]model.Kind{model.KindNode, model.KindNamespace, model.KindPolicy, model.KindPod}
}

// wipe empties a scope.
func (m *Mail) wipe(s Scope, listed bool) {
	for k := range m.Changes {
		if s.holds(k) {
			delete(m.Changes, k)
		}
	}
	if s.Namespace == "" {
		for other := range m.Wiped {
			if other.Kind == s.Kind {
				delete(m.Wiped, other)
			}
		}
	}
	m.Wiped[s] = listed
}

// add adds newer changes, and takes them over.
func (m *Mail) add(newer map[model.Key]model.Fact) {
	if len(newer) <= len(m.Changes) {
		maps.Copy(m.Changes, newer)
		return
	}
	for k, v := range m.Changes {
		if _, ok := newer[k]; !ok {
			newer[k] = v
		}
	}
	m.Changes = newer
}

// drain empties all scopes.
func (m *Mail) drain() {
	for _, kind := range kinds() {
		m.wipe(Scope{Kind: kind}, false)
	}
	m.Synced = false
}

// forget empties everything.
func (m *Mail) forget() {
	*m = *newMail()
	m.Forget = true
}

// wiped tells whether what was known of a key before this mail is gone.
func (m *Mail) wiped(k model.Key) bool {
	if m.Forget {
		return true
	}
	if _, ok := m.Wiped[Scope{Kind: k.Kind}]; ok {
		return true
	}
	_, ok := m.Wiped[Scope{Kind: k.Kind, Namespace: k.Namespace}]
	return ok
}

// sorter puts calls into the mail of each cluster. The zero value is not ready.
type sorter struct {
	local string
	mail  map[string]*Mail
	// listed are the remote clusters there are; nil if no list came.
	listed map[string]bool
	// uids are those of the newest Cluster facts, kept for good, so that a
	// RemoteCluster that was made anew under its old name is told apart wherever
	// the step between falls.
	uids map[string]model.UID
}

func newSorter(local string) *sorter {
	return &sorter{local: local, mail: map[string]*Mail{}, uids: map[string]model.UID{}}
}

// know says which RemoteCluster was known under a name before the start.
func (s *sorter) know(name string, uid model.UID) {
	if _, known := s.uids[name]; !known {
		s.uids[name] = uid
	}
}

// of is the mail of a cluster. One that the newest list lacks, if there is a
// list, begins anew.
func (s *sorter) of(cluster string) *Mail {
	m := s.mail[cluster]
	if m == nil {
		m = newMail()
		m.Forget = s.listed != nil && cluster != s.local
		s.mail[cluster] = m
	}
	return m
}

// parcel is a batch ready to be put into the mail: what takes long with a large
// one is done before the mailbox is locked.
type parcel struct {
	cluster  string
	replace  Scope // no kind: none
	changes  map[model.Key]model.Fact
	clusters []model.Change // changes of remote Cluster facts, in order
}

// pack makes a parcel. A cluster speaks of itself only (semantics 1.6), and no
// one but the agent's configuration of the local cluster's own fact.
func (s *sorter) pack(b model.Batch) parcel {
	p := parcel{cluster: b.Cluster, replace: Scope{b.Replace, b.Namespace}}
	for _, c := range b.Changes {
		switch {
		case c.Key.Kind == model.KindCluster:
			if c.Key.Cluster != s.local {
				p.clusters = append(p.clusters, c)
			}
		case c.Key.Cluster == b.Cluster && b.Replace != model.KindCluster:
			if p.changes == nil {
				p.changes = make(map[model.Key]model.Fact, len(b.Changes))
			}
			p.changes[c.Key] = c.Value
		}
	}
	return p
}

// put puts a parcel into the mail and takes it over.
func (s *sorter) put(p parcel) {
	if p.replace.Kind == model.KindCluster {
		s.list(p.clusters)
		return
	}
	if p.replace.Kind != 0 {
		s.of(p.cluster).wipe(p.replace, true)
	}
	if len(p.changes) > 0 {
		s.of(p.cluster).add(p.changes)
	}
	for _, c := range p.clusters {
		s.cluster(c)
	}
}

func (s *sorter) cluster(c model.Change) {
	name := c.Key.Cluster
	fact, ok := c.Value.(*model.Cluster)
	if !ok {
		s.of(name).forget()
		s.mail[name].Changes[c.Key] = nil
		delete(s.uids, name)
		return
	}
	m := s.of(name)
	if uid, known := s.uids[name]; known && uid != fact.UID {
		m.forget()
	}
	s.uids[name] = fact.UID
	m.Changes[c.Key] = fact
}

func (s *sorter) status(cluster string, status model.ClusterStatus) {
	m := s.of(cluster)
	m.Status = &status
	m.Synced = m.Synced || status.State == model.StateInSync
}

// list takes the list of all remote clusters.
func (s *sorter) list(changes []model.Change) {
	listed := map[string]bool{}
	for _, c := range changes {
		if c.Value != nil {
			listed[c.Key.Cluster] = true
		}
	}
	for name, m := range s.mail {
		if name != s.local && !listed[name] {
			m.forget()
		}
	}
	for name := range s.uids {
		if !listed[name] {
			delete(s.uids, name)
		}
	}
	// Their mail begins before the list counts: what it lists is not new by that.
	// But one that an earlier list lacked is.
	for _, c := range changes {
		if c.Value != nil {
			s.cluster(c)
		}
	}
	s.listed = listed
}

// take hands over the mail but that of clusters that hold tells to leave for
// now. The order of both is lost on purpose: it means nothing.
func (s *sorter) take(hold func(cluster string, m *Mail) bool) (map[string]*Mail, map[string]bool) {
	taken := map[string]*Mail{}
	for name, m := range s.mail {
		if !hold(name, m) {
			taken[name] = m
			delete(s.mail, name)
		}
	}
	listed := s.listed
	s.listed = nil
	return taken, listed
}
