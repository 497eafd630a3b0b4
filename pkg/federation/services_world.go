package federation

import (
	"slices"
	"strings"
	"time"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/federation/plan"
	"github.com/overland-net/overland/pkg/model"
)

// link is what is known of a linked cluster, or of the local one, beside its
// Services and EndpointSlices.
type link struct {
	fact   *model.Cluster // nil for the local one
	status model.ClusterStatus
	// listed: its Services and EndpointSlices have been, in this term.
	listed bool
	// paused is since when it is known to be suspended. floor is what counts as
	// the last contact at least: the time for which it was suspended does not.
	paused, floor time.Time
}

// follow takes the newest fact. A link that was suspended already when the term
// began counts as suspended since the last contact.
func (l *link) follow(now time.Time, fact *model.Cluster) {
	was, begins := l.fact != nil && l.fact.Suspended, l.fact == nil
	l.fact = fact
	switch is := fact != nil && fact.Suspended; {
	case is && begins:
		l.paused = l.status.LastContact
	case is && !was:
		l.paused = now
	case !is && was:
		l.floor = now
		if last := l.status.LastContact; !last.IsZero() && l.paused.After(last) {
			l.floor = now.Add(-l.paused.Sub(last))
		}
	}
}

// Contacts tells when there was contact to linked clusters, as their objects have
// it (semantics 4.9): a *StatusWriter.
type Contacts interface {
	// LastContact is status.lastContactTime of each RemoteCluster, by name; nil as
	// long as they have not been read.
	LastContact() map[string]time.Time
}

// clustersOf is what plans are to know of clusters: the local one first, then the
// linked ones by name. A cluster counts as listed only if this agent has known all
// of its identities too: what an address belongs to cannot be told before.
func clustersOf(local string, links map[string]*link, s *agent.Snapshot, contacts map[string]time.Time) []plan.Cluster {
	all := []plan.Cluster{{Name: local, Local: true, Listed: true, InContact: true}}
	for name, l := range links {
		if name == local || l.fact == nil {
			continue
		}
		seen, _ := s.Cluster(name)
		sameObject := seen.Fact != nil && seen.Fact.UID == l.fact.UID
		c := plan.Cluster{
			Name: name, Listed: l.listed && seen.Complete && sameObject, InContact: l.status.InContact(),
			LastContact: l.status.LastContact, External: l.fact.ExternalAddresses,
			SpareAfter: l.fact.SpareAfter, StaleAfter: l.fact.ServicesStaleAfter,
		}
		if l.fact.Suspended {
			c.StaleAfter = 0 // it does not run meanwhile (semantics 1.2)
		}
		if at := contacts[name]; !l.listed && at.After(c.LastContact) {
			c.LastContact = at
		}
		if l.floor.After(c.LastContact) {
			c.LastContact = l.floor
		}
		all = append(all, c)
	}
	slices.SortFunc(all[1:], func(a, b plan.Cluster) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// sameClusters tells whether plans would be the same: when a cluster in contact
// last was so does not matter.
func sameClusters(a, b []plan.Cluster) bool {
	return slices.EqualFunc(a, b, func(x, y plan.Cluster) bool {
		if x.InContact && y.InContact {
			x.LastContact, y.LastContact = time.Time{}, time.Time{}
		}
		at, same := x.LastContact, x.LastContact.Equal(y.LastContact)
		y.LastContact = at
		return same && x == y
	})
}

// unready says what planning waits for; empty: nothing. It waits for the local API
// server only (semantics 3.6).
func (r *round) unready(s *agent.Snapshot) string {
	local, known := s.Cluster(r.cfg.Cluster)
	mine := r.links[r.cfg.Cluster]
	slices := r.objects.state(kindSlice)
	switch {
	case mine == nil || !mine.listed:
		return "the Services and EndpointSlices of this cluster have not been listed"
	case !slices.listed && slices.refused == "":
		return "the EndpointSlices of federated Services have not been listed"
	case !r.linked:
		return "the RemoteClusters have not been listed"
	case !s.InSync || !known || local.Restored:
		return "the identities of this cluster have not been listed"
	case r.contacts.LastContact() == nil:
		return "the status of the RemoteClusters has not been read"
	}
	return ""
}
