package index

import (
	"maps"

	"github.com/overland-net/overland/pkg/model"
)

// cluster is what is known of a cluster. It is there as long as it has a fact of
// its own or any other.
type cluster struct {
	name string
	territory
	// labels are those by which its endpoints are in sets now.
	labels model.Labels
	spaces map[string]*space
	hosts  *space // of its nodes

	pods, nodes growingMap[id, *Entry]
	namespaces  growingMap[string, *model.Namespace]
	refused     map[model.RefusalReason]int
	frozen      map[model.RefusalReason]int // copy of refused; nil: to be made
	dirty       bool
}

// space is a namespace, known or not, with its pods, or the nodes of a cluster.
type space struct {
	cluster *cluster
	name    string
	fact    *model.Namespace // nil: not known, or nodes
	members []uint32         // slots
	number  uint32           // in Index.spaces
}

func (s *space) labels() model.Labels {
	if s.fact == nil {
		return model.Labels{}
	}
	return s.fact.Labels
}

func (c *cluster) entries(kind model.Kind) *growingMap[id, *Entry] {
	if kind == model.KindNode {
		return &c.nodes
	}
	return &c.pods
}

func (c *cluster) empty() bool { return c.fact == nil && len(c.spaces) == 0 && c.hosts == nil }

// eachSpace gives all spaces of the cluster until f returns false.
func (c *cluster) eachSpace(f func(*space) bool) bool {
	for _, s := range c.spaces {
		if !f(s) {
			return false
		}
	}
	return c.hosts == nil || f(c.hosts)
}

// slots are those of all endpoints of the cluster, in a new slice.
func (c *cluster) slots() []uint32 {
	all := make([]uint32, 0, c.pods.len()+c.nodes.len())
	c.eachSpace(func(s *space) bool {
		all = append(all, s.members...)
		return true
	})
	return all
}

func (c *cluster) freeze() *clusterState {
	if c.frozen == nil && len(c.refused) > 0 {
		c.frozen = maps.Clone(c.refused)
	}
	return &clusterState{c.territory, c.pods.freeze(), c.nodes.freeze(), c.namespaces.freeze(), c.frozen}
}

// countRefused corrects the counts by the refusals of an entry, which may be nil.
func (c *cluster) countRefused(e *Entry, by int) {
	if e == nil || len(e.Refused) == 0 {
		return
	}
	c.frozen = nil
	for _, r := range e.Refused {
		if c.refused[r.Reason] += by; c.refused[r.Reason] == 0 {
			delete(c.refused, r.Reason)
		}
	}
}

// touchCluster is the cluster of that name, made if need be, about to change.
func (x *Index) touchCluster(name string) *cluster {
	c := x.clusters[name]
	if c == nil {
		c = &cluster{name: name, spaces: map[string]*space{}, refused: map[model.RefusalReason]int{}}
		x.clusters[name] = c
	}
	x.touch(c)
	return c
}

func (x *Index) touch(c *cluster) {
	x.changed = true
	if !c.dirty {
		c.dirty = true
		x.dirty.clusters = append(x.dirty.clusters, c)
	}
}

// spaceOf is the space of a key of a pod, node or namespace, made if need be.
func (x *Index) spaceOf(c *cluster, k model.Key) *space {
	switch k.Kind {
	case model.KindNode:
		if c.hosts == nil {
			c.hosts = x.newSpace(c, "")
		}
		return c.hosts
	case model.KindNamespace:
		k.Namespace = k.Name
	}
	s := c.spaces[k.Namespace]
	if s == nil {
		s = x.newSpace(c, k.Namespace)
		c.spaces[k.Namespace] = s
	}
	return s
}

func (x *Index) newSpace(c *cluster, name string) *space {
	s := &space{cluster: c, name: name}
	if last := len(x.freeSpaces) - 1; last >= 0 {
		s.number = x.freeSpaces[last]
		x.freeSpaces = x.freeSpaces[:last]
		x.spaces[s.number] = s
		return s
	}
	s.number = uint32(len(x.spaces))
	x.spaces = append(x.spaces, s)
	return s
}

// sweepSpace forgets a space of which nothing is known any more.
func (x *Index) sweepSpace(s *space) {
	if s.fact != nil || len(s.members) > 0 {
		return
	}
	if s == s.cluster.hosts {
		s.cluster.hosts = nil
	} else {
		delete(s.cluster.spaces, s.name)
	}
	x.spaces[s.number] = nil
	x.freeSpaces = append(x.freeSpaces, s.number)
}

func (x *Index) setNamespace(k model.Key, fact *model.Namespace) {
	c := x.clusters[k.Cluster]
	if c == nil && fact == nil {
		return
	}
	if c != nil {
		if old, _ := c.namespaces.get(k.Name); sameNamespace(old, fact) {
			return
		}
	}
	c = x.touchCluster(k.Cluster)
	s := x.spaceOf(c, k)
	old, before := s.fact, s.labels()
	if s.fact = fact; fact != nil {
		c.namespaces.set(k.Name, fact)
	} else {
		c.namespaces.delete(k.Name)
	}
	var changed []string // of what selectors look at
	if old == nil || fact == nil {
		// That a namespace is known can be seen by the label that each one has.
		changed = mentionedOnly(x.mentioned.space, nil, model.KeyNamespaceName)
	}
	for l := range model.DiffLabels(before, s.labels()) {
		changed = mentionedOnly(x.mentioned.space, changed, l.Key)
		if l.Key == model.KeyNamespaceName {
			continue // found by the namespace's name
		}
		if l.HadOld {
			x.spaceLabels.remove(s.number, l.Key, l.Old)
		}
		if l.HasNew {
			x.spaceLabels.add(s.number, 0, l.Key, l.New)
		}
	}
	if len(changed) > 0 {
		for _, n := range s.members {
			x.reevaluate(n, x.spaceLabels, before, func(t *tracked) bool { return containsAny(t.spaceKeys, changed) })
		}
		x.settle()
	}
	x.sweepSpace(s)
}

func (x *Index) setCluster(fact *model.Cluster) {
	if c := x.clusters[fact.Name]; c != nil && c.fact != nil && sameCluster(c.fact, fact) {
		return
	}
	c := x.touchCluster(fact.Name)
	old := c.fact
	known := old != nil
	if !known {
		old = &model.Cluster{}
		c.labels = fact.Labels // so far it owns nothing: no set has to change
	}
	c.fact = fact
	judged := !known || old.Local != fact.Local || !sameRanges(old, fact)
	if judged {
		c.podRanges, c.nodeRanges = newRanges(fact.PodCIDRs), newRanges(fact.NodeCIDRs)
	}
	switch {
	case judged && (old.Local || fact.Local):
		x.judgeAll()
	case judged:
		x.judgeCluster(c)
	case old.Created != fact.Created || old.InContact != fact.InContact:
		x.judgeContested(c)
		x.settle()
	}
	x.relabelCluster(c, fact.Labels)
}

// relabelCluster puts the endpoints of a cluster into the sets of its new labels.
func (x *Index) relabelCluster(c *cluster, labels model.Labels) {
	before := c.labels
	c.labels = labels
	var changed []string
	for l := range model.DiffLabels(before, labels) {
		changed = mentionedOnly(x.mentioned.cluster, changed, l.Key)
	}
	if len(changed) == 0 {
		return
	}
	for _, n := range c.slots() {
		x.reevaluate(n, x.clusterLabels, before, func(t *tracked) bool { return containsAny(t.clusterKeys, changed) })
	}
	x.settle()
}

// dropCluster forgets a cluster and all its facts.
func (x *Index) dropCluster(name string) {
	c := x.clusters[name]
	if c == nil {
		return
	}
	for _, n := range c.slots() {
		x.setEndpoint(x.slots[n].entry.Key, nil)
	}
	var known []model.Key
	for n := range c.namespaces.all() {
		known = append(known, model.NamespaceKey(name, n))
	}
	for _, k := range known {
		x.setNamespace(k, nil)
	}
	if c.fact == nil {
		return
	}
	wasLocal := c.fact.Local
	x.touch(c)
	c.territory, c.labels = territory{}, model.Labels{}
	if wasLocal {
		x.judgeAll()
	}
}
