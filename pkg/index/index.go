package index

import (
	"net/netip"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
	"github.com/overland-net/overland/pkg/selector"
)

// Index keeps the facts it is given, and the members of tracked selectors. It
// is for one goroutine.
type Index struct {
	clusters map[string]*cluster
	// slots and spaces give endpoints and namespaces small numbers, which are
	// used again.
	slots      []slot
	freeSlots  []uint32
	spaces     []*space
	freeSpaces []uint32
	size       int // endpoints

	// What is known by key and value: of the labels of endpoints, of namespaces
	// and of clusters. Reserved keys are used for what is no label: in labels,
	// they do not occur.
	labels, spaceLabels, clusterLabels *table

	tracked map[selector.Selector]*tracked
	// unindexed selectors have no cover: every change has to look at them.
	unindexed []*tracked
	// mentioned counts the tracked selectors that say something of a label of
	// namespaces, and of clusters, and the queries for a named port.
	mentioned struct {
		space, cluster map[string]int
		ports          map[portName]int
	}

	ledger      ledger
	localRanges ranges

	owners  growingMap[netip.Addr, *Entry]
	taken   pset.Map[netip.Addr, *Entry] // owners at the last TakeReleased
	members growingMap[selector.Selector, Members]
	ports   growingMap[PortQuery, PortMembers]
	states  growingMap[string, *clusterState]
	view    View
	changed bool // since view
	dirty   struct {
		clusters []*cluster
		sets     []*tracked
		ports    []*portSet
	}
	work work
}

// slot is an endpoint in the index.
type slot struct {
	entry *Entry // nil: free
	space uint32 // in Index.spaces: there are as many slots as endpoints
	at    uint32 // in the members of its space
}

// spaceAt is the space of an endpoint.
func (x *Index) spaceAt(n uint32) *space { return x.spaces[x.slots[n].space] }

// New is an index that knows nothing.
func New() *Index {
	x := &Index{clusters: map[string]*cluster{}, tracked: map[selector.Selector]*tracked{}}
	x.labels = newTable(x.endpointValue)
	x.spaceLabels = newTable(x.spaceValue)
	x.clusterLabels = newTable(func(uint32, string) (string, bool) { return "", false }) // it lists no ids
	x.mentioned.space, x.mentioned.cluster = map[string]int{}, map[string]int{}
	x.mentioned.ports = map[portName]int{}
	x.ledger = newLedger()
	return x
}

// Apply takes a change of a pod, node, namespace or cluster; others are ignored.
// Facts may come in any order, a pod before its namespace or cluster. A cluster
// that is gone takes all its facts with it. A value that is not of its key is
// taken as none.
func (x *Index) Apply(c model.Change) {
	if c.Value != nil && c.Value.FactKey() != c.Key {
		c.Value = nil
	}
	switch c.Key.Kind {
	case model.KindPod, model.KindNode:
		fact, _ := c.Value.(*model.Endpoint)
		x.setEndpoint(c.Key, fact)
	case model.KindNamespace:
		fact, _ := c.Value.(*model.Namespace)
		x.setNamespace(c.Key, fact)
	case model.KindCluster:
		if fact, _ := c.Value.(*model.Cluster); fact != nil {
			x.setCluster(fact)
		} else {
			x.dropCluster(c.Key.Cluster)
		}
	}
}

// View is what the index knows now. It costs what changed since the last one.
func (x *Index) View() View {
	if !x.changed {
		return x.view
	}
	for _, c := range x.dirty.clusters {
		c.dirty = false
		if c.empty() {
			delete(x.clusters, c.name)
			x.states.delete(c.name)
		} else {
			x.states.set(c.name, c.freeze())
		}
	}
	for _, t := range x.dirty.sets {
		t.dirty = false
		if t.plain && x.tracked[t.matcher.Selector()] == t {
			x.members.set(t.matcher.Selector(), Members{t.v4.freeze(), t.v6.freeze()})
		}
	}
	for _, p := range x.dirty.ports {
		p.dirty = false
		if p.of.ports[p.name] == p {
			x.ports.set(p.query(), PortMembers{p.v4.freeze(), p.v6.freeze()})
		}
	}
	clear(x.dirty.clusters) // what is gone must not be kept from the collector
	clear(x.dirty.sets)
	clear(x.dirty.ports)
	x.dirty.clusters, x.dirty.sets, x.dirty.ports = x.dirty.clusters[:0], x.dirty.sets[:0], x.dirty.ports[:0]
	x.view = View{&state{x.states.freeze(), x.owners.freeze(), x.members.freeze(), x.ports.freeze(), x.localRanges, x.size}}
	x.changed = false
	return x.view
}

func (x *Index) endpointValue(n uint32, key string) (string, bool) {
	e := x.slots[n].entry
	switch {
	case e == nil:
		return "", false
	case key == model.KeyServiceAccount:
		return e.ServiceAccount, e.ServiceAccount != ""
	}
	return e.Labels.Get(key)
}

func (x *Index) spaceValue(n uint32, key string) (string, bool) {
	if s := x.spaces[n]; s != nil && s.fact != nil {
		return s.fact.Labels.Get(key)
	}
	return "", false
}
