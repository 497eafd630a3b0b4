package agent

import (
	"iter"
	"reflect"
	"slices"

	"github.com/overland-net/overland/pkg/model"
)

// stepBudget is how many changes of all remote clusters together one step works
// off. At some 10 µs each, measured with 100,000 pods, that is half of the 20 ms
// between steps: a local change hardly waits for a remote cluster's list.
const stepBudget = 1024

// restore takes what this node's store has of a cluster, and gives the changes
// for those of its facts that no source has spoken of.
func (c *Core) restore(cl *cluster, m *Mail, image Image) []model.Change {
	if !cl.local && (cl.fact == nil || cl.fact.UID != image.ClusterUID) {
		c.transition(Transition{Kind: ImageDiscarded, Cluster: cl.name})
		c.gone[cl.name] = true
		return nil
	}
	if image.LastContact.After(c.now) {
		// The clock was wrong then or is now: its age counts from now.
		image.LastContact = c.now
	}
	cl.stored, cl.storedContact, cl.storedAt = true, image.LastContact, c.now
	cl.imageContact = image.LastContact
	c.changed = true
	kept := wantedKinds(cl.local) &^ cl.listed
	for scope := range m.Wiped {
		if scope.Namespace == "" {
			kept = kept.without(scope.Kind)
		}
	}
	if m.Synced {
		kept = 0
	}
	cl.restored = kept
	c.restate(cl)
	var facts []model.Change
	endpoints := 0
	for _, change := range image.Facts {
		key := change.Key
		if remote, ok := change.Value.(*model.Cluster); ok {
			c.restoreFact(cl, remote)
			continue
		}
		said, spoken := m.Changes[key]
		switch {
		case key.Cluster != cl.name || c.knows(key):
		case !spoken && kept.has(key.Kind) && !m.wiped(key) && !cl.confirmed.has(key):
			facts = append(facts, change)
			if key.Kind == model.KindPod || key.Kind == model.KindNode {
				endpoints++
			}
		case said == nil:
			cl.unstored = append(cl.unstored, model.Gone(key)) // it is in the file
		}
	}
	c.transition(Transition{
		Kind: Restored, Cluster: cl.name, Endpoints: endpoints, Contact: image.LastContact, Age: age(c.now, image.LastContact),
	})
	return facts
}

// restate has what is known of a cluster already put into its store: it came
// before it was known whose store that is.
func (c *Core) restate(cl *cluster) {
	for _, kind := range kinds() {
		for key := range c.known(cl, kind) {
			cl.unstored = append(cl.unstored, model.Set(c.fact(key)))
		}
	}
}

// restoreFact takes the fact of a remote cluster from the local cluster's store,
// unless a source has spoken of the remote clusters already.
func (c *Core) restoreFact(from *cluster, fact *model.Cluster) {
	if !from.local || c.clustersListed || fact.Name == from.name || fact.Local {
		return
	}
	cl := c.cluster(fact.Name)
	if cl.fact == nil {
		cl.fact = fact
		c.showFact(cl)
	}
}

// known gives the keys of a kind that are known of a cluster. It reads the view
// of the last step's end.
func (c *Core) known(cl *cluster, kind model.Kind) iter.Seq[model.Key] {
	switch {
	case kind == model.KindPod && cl.local:
		return c.knownPods
	case kind != model.KindPolicy:
		return c.view.Keys(cl.name, kind)
	}
	return func(yield func(model.Key) bool) {
		if !cl.local {
			return
		}
		for key := range c.rules {
			if !yield(key) {
				return
			}
		}
	}
}

// knownPods gives the keys of the local cluster's pods: what the view has of those
// of this node is not what a source said.
func (c *Core) knownPods(yield func(model.Key) bool) {
	for key := range c.view.Keys(c.cfg.Cluster, model.KindPod) {
		if _, placed := c.own.placed[key]; !placed && !yield(key) {
			return
		}
	}
	for key := range c.own.facts {
		if !yield(key) {
			return
		}
	}
}

// work works off backlogs: the local one whole, of the remote ones what the
// budget allows, in turn.
func (c *Core) work() {
	var busy []*cluster
	for _, name := range c.order {
		cl := c.clusters[name]
		switch {
		case cl.backlog == nil:
		case cl.local:
			c.workOff(cl, len(cl.backlog.restored)+len(cl.backlog.changes))
		default:
			busy = append(busy, cl)
		}
	}
	budget := stepBudget
	c.busy = 0
	for i := range busy {
		cl := busy[(i+c.turn)%len(busy)]
		budget -= c.workOff(cl, budget/(len(busy)-i))
		if cl.backlog != nil {
			c.busy++
		}
	}
	c.turn++
}

// workOff works off up to most changes and says how many it did. The status
// comes last: it speaks of the facts before it.
func (c *Core) workOff(cl *cluster, most int) (done int) {
	b := cl.backlog
	for ; done < most && b.next < len(b.restored)+len(b.changes); done++ {
		if b.next < len(b.restored) {
			if change := b.restored[b.next]; !c.knows(change.Key) {
				c.apply(cl, change, true)
			}
		} else {
			c.apply(cl, b.changes[b.next-len(b.restored)], false)
		}
		b.next++
	}
	if b.next == len(b.restored)+len(b.changes) {
		cl.backlog = nil
		if come := cl.readmitted(); len(come) > 0 {
			cl.backlog = &backlog{changes: come, status: b.status, completes: b.completes}
			return done
		}
		if b.completes && !cl.complete {
			cl.complete, c.changed = true, true
		}
		if b.status != nil {
			c.setStatus(cl, *b.status)
		}
	}
	return done
}

// readmitted gives the changes for endpoints past the limit that there is room
// for by now: each kind, and each namespace of an import list, is listed on its
// own, and what one list removes may come after what another one adds.
func (cl *cluster) readmitted() []model.Change {
	room := len(cl.refused)
	if limit := cl.limit(); limit > 0 {
		room = min(room, limit-cl.endpoints)
	}
	if room <= 0 {
		return nil
	}
	come := make([]model.Change, 0, len(cl.refused))
	for _, fact := range cl.refused {
		come = append(come, model.Set(fact))
	}
	slices.SortFunc(come, compareComing)
	return come[:room]
}

// fact is what is known of a key, nil if nothing is.
func (c *Core) fact(key model.Key) model.Fact {
	switch key.Kind {
	case model.KindPod, model.KindNode:
		if own, ok := c.own.facts[key]; ok {
			return own
		}
		if _, placed := c.own.placed[key]; placed {
			return nil
		}
		if e, ok := c.view.Endpoint(key); ok {
			return e.Endpoint
		}
	case model.KindNamespace:
		if n, ok := c.view.Namespace(key); ok {
			return n
		}
	case model.KindPolicy:
		if p, ok := c.rules[key]; ok {
			return p
		}
	}
	return nil
}

func (c *Core) knows(key model.Key) bool { return c.fact(key) != nil }

// apply makes a change true, if it is not already. Of remote clusters policies
// are not taken (semantics 2.1).
func (c *Core) apply(cl *cluster, change model.Change, restored bool) {
	key := change.Key
	if key.Kind == model.KindPolicy && !cl.local {
		return
	}
	old := c.fact(key)
	if (old == nil && change.Value == nil) || (old != nil && change.Value != nil && equal(old, change.Value)) {
		c.admit(cl, key)
		return
	}
	endpoint := key.Kind == model.KindPod || key.Kind == model.KindNode
	if endpoint {
		switch limit := cl.limit(); {
		case old != nil && change.Value == nil:
			cl.endpoints--
		case old == nil && limit > 0 && cl.endpoints >= limit:
			c.refuse(cl, change)
			return
		case old == nil:
			cl.endpoints++
		}
		c.admit(cl, key)
	}
	switch {
	case cl.local && key.Kind == model.KindPod:
		c.setPod(change)
	case key.Kind == model.KindPolicy:
		c.setPolicy(change)
	default:
		c.index.Apply(change)
		if cl.local {
			c.policies.Apply(change)
			c.policyChanged = c.policyChanged || !endpoint
		}
	}
	if !restored {
		cl.unstored = append(cl.unstored, change)
	}
	cl.changed = true
}

func (c *Core) setPolicy(change model.Change) {
	c.enforce.sorted = nil
	c.policies.Apply(change)
	c.policyChanged = true
	if p, ok := change.Value.(*model.Policy); ok {
		c.rules[change.Key] = p
		return
	}
	delete(c.rules, change.Key)
}

// refuse counts an endpoint that is past the limit of its cluster (semantics
// 1.2).
func (c *Core) refuse(cl *cluster, change model.Change) {
	if _, known := cl.refused[change.Key]; known {
		cl.refused[change.Key] = change.Value
		return
	}
	c.changed = true
	if len(cl.refused) >= maxRefused {
		cl.refusedMore++
		return
	}
	if cl.refused == nil {
		cl.refused = map[model.Key]model.Fact{}
	}
	cl.refused[change.Key] = change.Value
}

// admit forgets that an endpoint was past the limit: it is gone, or now known.
func (c *Core) admit(cl *cluster, key model.Key) {
	if _, refused := cl.refused[key]; refused {
		delete(cl.refused, key)
		c.changed = true
	}
}

// equal tells whether two facts of one key say the same.
func equal(a, b model.Fact) bool {
	switch a := a.(type) {
	case *model.Endpoint:
		b, ok := b.(*model.Endpoint)
		return ok && (a == b || equalEndpoint(a, b))
	case *model.Namespace:
		b, ok := b.(*model.Namespace)
		return ok && *a == *b
	case *model.Policy:
		b, ok := b.(*model.Policy)
		return ok && reflect.DeepEqual(a, b)
	}
	return false
}

func equalEndpoint(a, b *model.Endpoint) bool {
	return a.Key == b.Key && a.UID == b.UID && a.Labels == b.Labels && a.ServiceAccount == b.ServiceAccount &&
		a.Node == b.Node && a.Created == b.Created && a.Terminating == b.Terminating &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Ports, b.Ports)
}

func equalCluster(a, b *model.Cluster) bool { return reflect.DeepEqual(a, b) }

// Facts are all facts of a cluster that its store is to have: its own and, for
// the local one, policies and the facts of the remote clusters. The sequence
// stays good, and the same, whatever the Core does next.
func (c *Core) Facts(name string) iter.Seq[model.Fact] {
	view, local := c.view, name == c.cfg.Cluster
	var more []model.Fact
	if local {
		for _, p := range c.rules {
			more = append(more, p)
		}
		for _, cl := range c.clusters {
			if !cl.local && cl.fact != nil {
				more = append(more, cl.fact)
			}
		}
	}
	return func(yield func(model.Fact) bool) {
		for _, f := range more {
			if !yield(f) {
				return
			}
		}
		for key := range view.Keys(name, model.KindNamespace) {
			if n, ok := view.Namespace(key); ok && !yield(n) {
				return
			}
		}
		for _, kind := range []model.Kind{model.KindNode, model.KindPod} {
			for key := range view.Keys(name, kind) {
				if e, ok := view.Endpoint(key); ok && !yield(e.Endpoint) {
					return
				}
			}
		}
	}
}
