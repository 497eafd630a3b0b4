package agent

import (
	"reflect"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// TransitionKind is the kind of a Transition.
type TransitionKind uint8

// The kinds of transitions.
const (
	_              TransitionKind = iota
	StateChanged                  // From, To, Reason, Message
	InSync                        // the local cluster, with Endpoints
	Enforcing                     // what this node must enforce is known, of Endpoints pods
	Restored                      // from the store: Endpoints, Contact, Age
	ImageDiscarded                // the store's facts are of another RemoteCluster, or of none
	Expired                       // staleAfter: Endpoints are dropped, Age
	Forgotten                     // the RemoteCluster is gone, or another: Endpoints are dropped
)

// Transition is worth a line in the log: something about a cluster became
// otherwise.
type Transition struct {
	Kind            TransitionKind
	Cluster         string
	From, To        model.State
	Reason, Message string
	Endpoints       int
	Contact         time.Time
	Age             time.Duration
}

func (c *Core) transition(t Transition) { c.transitions = append(c.transitions, t) }

func age(now, then time.Time) time.Duration {
	if then.IsZero() {
		return 0
	}
	return max(0, now.Sub(then))
}

// setStatus takes what a cluster's source reports of itself.
func (c *Core) setStatus(cl *cluster, s model.ClusterStatus) {
	before, had := cl.status, cl.hasStatus
	if had && reflect.DeepEqual(before, s) {
		return
	}
	cl.status, cl.hasStatus = s, true
	c.changed = true
	c.showFact(cl)
	if before.State != s.State || had && before.Reason != s.Reason {
		c.transition(Transition{
			Kind: StateChanged, Cluster: cl.name, From: before.State, To: s.State, Reason: s.Reason, Message: s.Message,
			Endpoints: cl.endpoints, Contact: cl.contact(), Age: age(c.now, cl.contact()),
		})
	}
}

// expire drops the identities of clusters that have been out of contact for
// longer than staleAfter (semantics 1.2, 3.1).
func (c *Core) expire() {
	for _, name := range c.order {
		cl := c.clusters[name]
		if cl.local || cl.fact == nil {
			continue
		}
		c.age(cl)
		if due := cl.expiry(); due.IsZero() || c.now.Before(due) {
			continue
		}
		c.index.Apply(model.Gone(model.ClusterKey(name)))
		c.index.Apply(model.Set(cl.shown))
		c.transition(Transition{
			Kind: Expired, Cluster: name, Endpoints: cl.endpoints, Contact: cl.contact(), Age: age(c.now, cl.staleBase),
		})
		cl.stale, cl.changed = true, true
		cl.restored, cl.listed, cl.confirmed, cl.complete = 0, 0, confirmed{}, false
		cl.refused, cl.refusedMore = nil, 0
		cl.stored, cl.unstored = false, nil
		c.gone[name] = true
	}
}

// age moves on the clock that staleAfter is about. It stands still while the
// cluster is suspended: what was known then stays good until it is resumed. A
// cluster that is suspended when the agent starts is taken to be so since its
// last contact.
func (c *Core) age(cl *cluster) {
	contact := cl.contact()
	if cl.stale && (cl.shown.InContact || contact.After(cl.staleBase)) {
		cl.stale, c.changed = false, true
	}
	if contact.After(cl.staleBase) {
		cl.staleBase = contact
	}
	if cl.fact.Suspended == cl.suspended {
		return
	}
	if cl.suspended = cl.fact.Suspended; cl.suspended {
		cl.suspendedAge = 0
		if cl.hasStatus && cl.restored == 0 {
			cl.suspendedAge = age(c.now, cl.staleBase)
		}
		return
	}
	if !cl.staleBase.IsZero() {
		cl.staleBase = c.now.Add(-cl.suspendedAge)
	}
}

// expiry is when the cluster's identities are to be dropped; zero if nothing is
// to be, as things stand.
func (cl *cluster) expiry() time.Time {
	if cl.local || cl.fact == nil || cl.fact.StaleAfter <= 0 || cl.suspended || cl.stale || cl.backlog != nil ||
		cl.staleBase.IsZero() || cl.shown.InContact {
		return time.Time{}
	}
	return cl.staleBase.Add(cl.fact.StaleAfter)
}

func (c *Core) nextExpiry() (next time.Time) {
	for _, cl := range c.clusters {
		next = earlier(next, cl.expiry())
	}
	return next
}

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// checkInSync notes that the local cluster is known whole. A store of it is
// written only from then on, so what was restored was whole too.
func (c *Core) checkInSync() {
	local := c.clusters[c.cfg.Cluster]
	if c.inSync || local.listed|local.restored != wantedKinds(true) {
		return
	}
	c.inSync, c.changed = true, true
	c.transition(Transition{Kind: InSync, Cluster: local.name, Endpoints: local.endpoints})
}

// empty tells whether there are no facts of a remote cluster but its own.
func (c *Core) empty(cl *cluster) bool {
	counts := c.view.Counts(cl.name)
	return counts.Pods+counts.Nodes+counts.Namespaces == 0
}

// StoreState is what a whole rewrite of a cluster's file has to say beside the
// facts; false if there should be none.
func (c *Core) StoreState(name string) (uid model.UID, contact time.Time, ok bool) {
	cl := c.clusters[name]
	if cl == nil || !cl.stored {
		return model.UID{}, time.Time{}, false
	}
	return cl.uid(), cl.contact(), true
}

// stored says what is to be written into the store, and when more will be
// because of time alone.
func (c *Core) stored() (work []StoreWork, next time.Time) {
	for _, name := range c.order {
		cl := c.clusters[name]
		w := StoreWork{Cluster: name, UID: cl.uid(), Contact: cl.contact(), Remove: c.gone[name]}
		delete(c.gone, name)
		due := cl.storedAt.Add(c.cfg.ContactInterval)
		switch {
		case cl.local && !c.inSync, !cl.local && cl.fact == nil, cl.stale:
			// Nothing of it may be, or needs to be, found at the next start.
		case !cl.local && !cl.stored && w.Contact.IsZero() && c.empty(cl):
		case !cl.stored:
			w.Rewrite = true
		case len(cl.unstored) > 0:
			w.Append, w.Changes = true, cl.unstored
		case !w.Contact.After(cl.storedContact):
		case c.now.Before(due):
			next = earlier(next, due)
		default:
			w.Append = true
		}
		cl.unstored = nil
		if w.Rewrite || w.Append {
			cl.stored, cl.storedContact, cl.storedAt = true, w.Contact, c.now
		}
		if w.Remove || w.Rewrite || w.Append {
			work = append(work, w)
		}
	}
	for name := range c.gone {
		work = append(work, StoreWork{Cluster: name, Remove: true})
	}
	return work, next
}
