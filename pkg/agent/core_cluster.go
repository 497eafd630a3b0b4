package agent

import (
	"cmp"
	"slices"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// maxRefused is how many endpoints past the limit are remembered of a cluster, so
// that they are counted once each and taken when there is room; what is past that
// is counted as it comes. 65,536 are some 50 MB at worst: what a cluster can cost
// us by being too large. Its source takes no more than the limit in the end.
const maxRefused = 1 << 16

// kindSet is a set of kinds.
type kindSet uint8

func (s kindSet) has(k model.Kind) bool { return s&(1<<k) != 0 }

func (s kindSet) with(k model.Kind) kindSet { return s | 1<<k }

func (s kindSet) without(k model.Kind) kindSet { return s &^ (1 << k) }

// wantedKinds are those that a cluster is to be listed of: policies of the local
// one only (semantics 2.1).
func wantedKinds(local bool) (s kindSet) {
	for _, k := range kinds() {
		if local || k != model.KindPolicy {
			s = s.with(k)
		}
	}
	return s
}

// cluster is what the core knows of a cluster beside its facts.
type cluster struct {
	name  string
	local bool
	// fact is as given, shown is with InContact: nil if not known.
	fact, shown *model.Cluster
	status      model.ClusterStatus
	hasStatus   bool
	// changed: its facts have, in this step.
	changed   bool
	endpoints int

	// listed are the kinds of which a whole list came. restored are those of
	// which facts from the store have not been confirmed by one, except in
	// confirmed.
	listed, restored kindSet
	confirmed        confirmed
	// complete is Cluster.Complete.
	complete bool
	backlog  *backlog

	// refused are endpoints past the limit; more of them than can be remembered
	// are only counted, in refusedMore, until the next whole list.
	refused     map[model.Key]model.Fact
	refusedMore int

	// imageContact is the last contact by this node's store. staleBase is since
	// when staleAfter counts. suspendedAge is how far it had come when the
	// cluster was suspended.
	imageContact, staleBase time.Time
	suspended               bool
	suspendedAge            time.Duration
	stale                   bool

	// stored: its file holds all that was known at the end of the last step,
	// and storedContact, written at storedAt. unstored is what has changed since.
	stored                  bool
	storedContact, storedAt time.Time
	unstored                []model.Change
}

// confirmed is what a source has said while facts from the store were waiting
// for that: scopes listed, and single keys.
type confirmed struct {
	scopes map[Scope]bool
	keys   map[model.Key]bool
}

func (c confirmed) has(k model.Key) bool {
	return c.keys[k] || c.scopes[Scope{k.Kind, k.Namespace}]
}

// backlog is mail in the order in which it is worked off, some of it a step: a
// cluster of a hundred thousand pods must not make the local one wait.
type backlog struct {
	restored []model.Change // from the store; anything else known wins
	changes  []model.Change
	next     int // of both
	status   *model.ClusterStatus
	// completes: once it is worked off, everything has been known.
	completes bool
}

// contact is when the cluster last said anything, here or before a restart.
func (cl *cluster) contact() time.Time {
	if cl.status.LastContact.After(cl.imageContact) {
		return cl.status.LastContact
	}
	return cl.imageContact
}

func (cl *cluster) uid() model.UID {
	if cl.local || cl.fact == nil {
		return model.UID{}
	}
	return cl.fact.UID
}

func (cl *cluster) pastLimit() int { return len(cl.refused) + cl.refusedMore }

// accept takes what came in of a cluster and puts it in order.
func (c *Core) accept(cl *cluster, m *Mail, image Image, hasImage bool) {
	if m == nil {
		m = newMail()
	}
	fact, _ := m.Changes[model.ClusterKey(cl.name)].(*model.Cluster)
	another := fact != nil && cl.fact != nil && fact.UID != cl.fact.UID
	if m.Forget || another {
		c.forget(cl)
		cl = c.cluster(cl.name)
		hasImage = false
	}
	if fact != nil {
		c.setFact(cl, fact)
	}
	b := &backlog{status: m.Status, completes: m.Synced}
	if hasImage {
		b.restored = c.restore(cl, m, image)
		b.completes = b.completes || len(b.restored) > 0
	}
	b.changes = append(c.wipe(cl, m), c.unconfirmed(cl, m)...)
	b.changes = append(b.changes, c.inOrder(cl, m)...)
	if len(b.restored) > 0 || len(b.changes) > 0 || b.status != nil || len(cl.refused) > 0 {
		cl.backlog = b
	}
}

// wipe gives the changes that empty the scopes of the mail.
func (c *Core) wipe(cl *cluster, m *Mail) []model.Change {
	var gone []model.Change
	for scope, listed := range m.Wiped {
		_, whole := m.Wiped[Scope{Kind: scope.Kind}]
		if scope.Namespace != "" && whole {
			continue
		}
		for key := range c.known(cl, scope.Kind) {
			if _, stays := m.Changes[key]; scope.holds(key) && !stays {
				gone = append(gone, model.Gone(key))
			}
		}
		for key := range cl.refused {
			if _, stays := m.Changes[key]; scope.holds(key) && !stays {
				delete(cl.refused, key)
				c.changed = true
			}
		}
		cl.wiped(scope, listed)
	}
	return gone
}

// wiped notes that a scope is wiped.
func (cl *cluster) wiped(scope Scope, listed bool) {
	if scope.Namespace != "" {
		if cl.restored.has(scope.Kind) {
			cl.confirm(scope)
		}
		return
	}
	cl.restored = cl.restored.without(scope.Kind)
	cl.listed = cl.listed.without(scope.Kind)
	if listed {
		cl.listed = cl.listed.with(scope.Kind)
	} else {
		cl.complete = false
	}
	if scope.Kind == model.KindPod {
		cl.refusedMore = 0
	}
	if cl.restored == 0 {
		cl.confirmed = confirmed{}
	}
	cl.changed = true // listed and restored are seen
}

func (cl *cluster) confirm(scope Scope) {
	if cl.confirmed.scopes == nil {
		cl.confirmed.scopes = map[Scope]bool{}
	}
	cl.confirmed.scopes[scope] = true
}

// unconfirmed gives the changes that drop what the store had and a source that
// has listed everything did not say: a namespace that is no longer imported, a
// kind that may no longer be read.
func (c *Core) unconfirmed(cl *cluster, m *Mail) []model.Change {
	if cl.restored == 0 {
		return nil
	}
	if !m.Synced {
		for key := range m.Changes {
			if cl.restored.has(key.Kind) && !m.wiped(key) && !cl.confirmed.has(key) {
				if cl.confirmed.keys == nil {
					cl.confirmed.keys = map[model.Key]bool{}
				}
				cl.confirmed.keys[key] = true
			}
		}
		return nil
	}
	var gone []model.Change
	for _, kind := range kinds() {
		if !cl.restored.has(kind) {
			continue
		}
		for key := range c.known(cl, kind) {
			if _, said := m.Changes[key]; !said && !m.wiped(key) && !cl.confirmed.has(key) {
				gone = append(gone, model.Gone(key))
			}
		}
	}
	cl.restored, cl.confirmed, cl.changed = 0, confirmed{}, true
	return gone
}

// inOrder gives the changes of the mail: what goes before what comes, so that
// there is room for it, and if there will not be enough, the same endpoints on
// every node.
func (c *Core) inOrder(cl *cluster, m *Mail) []model.Change {
	var gone, stay, come []model.Change
	for key, fact := range m.Changes {
		change := model.Change{Key: key, Value: fact}
		switch {
		case key.Kind == model.KindCluster:
		case fact == nil:
			gone = append(gone, change)
		case c.knows(key):
			stay = append(stay, change)
		default:
			come = append(come, change)
		}
	}
	if limit := cl.limit(); limit > 0 && cl.endpoints+len(come) > limit {
		slices.SortFunc(come, compareComing)
	}
	return append(append(gone, stay...), come...)
}

// compareComing is the order in which endpoints come where there may be no room
// for all.
func compareComing(a, b model.Change) int {
	return cmp.Or(
		-cmp.Compare(a.Key.Kind, b.Key.Kind), // nodes before pods
		cmp.Compare(a.Key.Namespace, b.Key.Namespace),
		cmp.Compare(a.Key.Name, b.Key.Name))
}

func (cl *cluster) limit() int {
	if cl.fact == nil {
		return 0
	}
	return cl.fact.EndpointLimit
}

// forget drops a remote cluster and all that is known of it.
func (c *Core) forget(cl *cluster) {
	if cl.local {
		return
	}
	if cl.fact != nil {
		local := c.clusters[c.cfg.Cluster]
		local.unstored = append(local.unstored, model.Gone(model.ClusterKey(cl.name)))
		c.transition(Transition{Kind: Forgotten, Cluster: cl.name, Endpoints: cl.endpoints})
	}
	c.index.Apply(model.Gone(model.ClusterKey(cl.name)))
	c.view = c.index.View()
	c.drop(cl.name)
	c.gone[cl.name] = true
	c.changed = true
}

// setFact takes what the RemoteCluster object says.
func (c *Core) setFact(cl *cluster, fact *model.Cluster) {
	if cl.fact != nil && equalCluster(cl.fact, fact) {
		return
	}
	cl.fact = fact
	local := c.clusters[c.cfg.Cluster]
	local.unstored = append(local.unstored, model.Set(fact))
	c.showFact(cl)
}

// showFact tells the index the cluster's fact, if that has changed.
func (c *Core) showFact(cl *cluster) {
	if cl.fact == nil {
		return
	}
	shown := *cl.fact
	shown.InContact = cl.status.InContact() && cl.hasStatus
	if cl.shown != nil && equalCluster(cl.shown, &shown) {
		return
	}
	cl.shown = &shown
	c.index.Apply(model.Set(&shown))
	cl.changed = true
}
