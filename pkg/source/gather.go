package source

import (
	"slices"
	"sync"

	"github.com/overland-net/overland/pkg/model"
)

// gather publishes what comes of an import list, where every namespace is listed
// on its own. A list of one namespace says nothing of the others: facts of a
// namespace that was on the list before, perhaps in an earlier life of the agent,
// would stay for ever. Hence, once every namespace has been listed, all of it is
// said once more, as the whole truth of the cluster. It is safe for concurrent
// use.
type gather struct {
	sink       Sink
	cluster    string
	kind       model.Kind
	namespaces []string

	mu      sync.Mutex
	waiting map[string]bool
	facts   map[model.Key]model.Fact // until nothing is waited for
}

func newGather(sink Sink, cluster string, kind model.Kind, namespaces []string) *gather {
	g := &gather{sink: sink, cluster: cluster, kind: kind, namespaces: namespaces, facts: map[model.Key]model.Fact{}}
	g.begin()
	return g
}

// begin begins a session. What an earlier one heard may have been dropped since,
// or be of another cluster: it is not said again.
func (g *gather) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.facts == nil {
		return
	}
	g.facts, g.waiting = map[model.Key]model.Fact{}, map[string]bool{}
	for _, n := range g.namespaces {
		g.waiting[n] = true
	}
}

// replace says all there is in a namespace.
func (g *gather) replace(namespace string, changes []model.Change) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.facts != nil {
		for k := range g.facts {
			if g.within(k, namespace) {
				delete(g.facts, k)
			}
		}
		g.keep(changes)
	}
	b := model.Batch{Cluster: g.cluster, Changes: changes}
	if g.kind == model.KindNamespace {
		// A Namespace is in no namespace: the one that may be there is named.
		if len(changes) == 0 {
			b.Changes = []model.Change{model.Gone(model.NamespaceKey(g.cluster, namespace))}
		}
	} else {
		b.Replace, b.Namespace = g.kind, namespace
	}
	g.sink.Facts(b)
	delete(g.waiting, namespace)
	if len(g.waiting) == 0 && g.facts != nil {
		all := model.Batch{Cluster: g.cluster, Replace: g.kind, Changes: make([]model.Change, 0, len(g.facts))}
		for _, fact := range g.facts {
			all.Changes = append(all.Changes, model.Set(fact))
		}
		g.facts = nil
		g.sink.Facts(all)
	}
}

// change says that something has changed.
func (g *gather) change(c model.Change) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.facts != nil {
		g.keep([]model.Change{c})
	}
	g.sink.Facts(model.Batch{Cluster: g.cluster, Changes: []model.Change{c}})
}

func (g *gather) within(k model.Key, namespace string) bool {
	if g.kind == model.KindNamespace {
		return k.Name == namespace
	}
	return k.Namespace == namespace
}

func (g *gather) keep(changes []model.Change) {
	for c := range slices.Values(changes) {
		if c.Value == nil {
			delete(g.facts, c.Key)
		} else {
			g.facts[c.Key] = c.Value
		}
	}
}
