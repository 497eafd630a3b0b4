package source

import (
	"sync"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/model"
)

// registry knows which cluster is behind which RemoteCluster (semantics 1.1). It
// is safe for concurrent use.
type registry struct {
	mu    sync.Mutex
	local string // uid of the local cluster; empty if unknown
	links map[string]*link
}

// link is what is known of one RemoteCluster's cluster.
type link struct {
	object  model.UID
	created int64
	// pinned is status.clusterUID, seen what its API server said to this process.
	pinned, seen string
	// again makes its source ask anew who is there.
	again func()
}

func newRegistry() *registry { return &registry{links: map[string]*link{}} }

func (r *registry) setLocal(uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.local = uid
}

// put enters a RemoteCluster, or what has changed of it.
func (r *registry) put(rc *v1alpha1.RemoteCluster, again func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	object := model.ParseUID(string(rc.UID))
	l := r.links[rc.Name]
	if l == nil || l.object != object {
		l = &link{object: object, created: rc.CreationTimestamp.Unix()}
		r.links[rc.Name] = l
	}
	l.pinned, l.again = rc.Status.ClusterUID, again
}

func (r *registry) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.links, name)
}

// uid is the best that is known.
func (l *link) uid() string {
	if l.seen != "" {
		return l.seen
	}
	return l.pinned
}

// accept judges the uid that an API server says it has, to the source of the
// RemoteCluster that is object.
func (r *registry) accept(name string, object model.UID, uid string) verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	mine := r.links[name]
	if uid == "" || mine == nil || mine.object != object {
		return verdict{}
	}
	if uid == r.local {
		return verdict{refused: failure(model.ReasonSelfLink, "it is this cluster itself: remove the RemoteCluster, or put the other cluster's kubeconfig into its Secret")}
	}
	for other, l := range r.links {
		if other == name || l.uid() != uid {
			continue
		}
		if older(l, other, mine, name) {
			return verdict{refused: failure(model.ReasonDuplicateCluster, "it is the same cluster as RemoteCluster %s, which is older: remove one of the two", other)}
		}
		// The younger one is to learn that it is not the only one.
		l.again()
	}
	before := mine.uid()
	mine.seen = uid
	return verdict{changed: before != "" && before != uid}
}

// older tells whether a is the older object; in one second, by name.
func older(a *link, aName string, b *link, bName string) bool {
	if a.created != b.created {
		return a.created < b.created
	}
	return aName < bName
}
