package agent

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/overland-net/overland/pkg/model"
)

// ownPods are the pods of this node. What is true of them has two sources: an API
// server, which has their labels, and the node, which has their addresses first.
type ownPods struct {
	// facts are what sources, or this node's store, say: with or without addresses.
	facts map[model.Key]*model.Endpoint
	// attachments are those of each pod, newest first.
	attachments map[model.Key][]model.Attachment
	// placed are the pods that the index and the policies were told of by place:
	// what they know of these is not what a source said.
	placed map[model.Key]struct{}
	// seen is facts as a Snapshot has it; nil if it must be made anew.
	seen map[model.Key]*model.Endpoint
}

func newOwnPods() ownPods {
	return ownPods{
		facts:       map[model.Key]*model.Endpoint{},
		attachments: map[model.Key][]model.Attachment{},
		placed:      map[model.Key]struct{}{},
	}
}

// snapshot is facts, for good.
func (o *ownPods) snapshot() map[model.Key]*model.Endpoint {
	if o.seen == nil {
		o.seen = maps.Clone(o.facts)
	}
	return o.seen
}

// setAttachments takes the whole truth about them.
func (c *Core) setAttachments(list []model.Attachment) {
	if list == nil {
		return
	}
	now := map[model.Key][]model.Attachment{}
	for _, a := range list {
		now[a.Pod] = append(now[a.Pod], a)
	}
	for _, of := range now {
		slices.SortFunc(of, func(a, b model.Attachment) int { return cmp.Compare(b.Order, a.Order) })
	}
	old := c.own.attachments
	c.own.attachments = now
	for key := range union(old, now) {
		if !reflect.DeepEqual(old[key], now[key]) {
			c.place(key, c.fact(key))
		}
	}
}

// union gives the keys of both maps.
func union[K comparable, V any](a, b map[K]V) iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range a {
			if !yield(k) {
				return
			}
		}
		for k := range b {
			if _, both := a[k]; !both && !yield(k) {
				return
			}
		}
	}
}

// setPod takes what a source says of a pod of the local cluster.
func (c *Core) setPod(change model.Change) {
	e, _ := change.Value.(*model.Endpoint)
	if e != nil && e.Node == c.cfg.Node {
		c.own.facts[change.Key], c.own.seen = e, nil
	} else if _, here := c.own.facts[change.Key]; here {
		delete(c.own.facts, change.Key)
		c.own.seen = nil
	}
	c.place(change.Key, change.Value)
}

// place tells the index and the policies of a pod of the local cluster, of which
// sources say fact.
func (c *Core) place(key model.Key, fact model.Fact) {
	said, _ := fact.(*model.Endpoint)
	enforced, known := effective(said, c.cfg.Node, c.own.attachments[key])
	_, was := c.own.placed[key]
	here := enforced != nil && enforced.Node == c.cfg.Node
	if here {
		c.own.placed[key] = struct{}{}
	} else {
		delete(c.own.placed, key)
	}
	c.policies.Apply(changeOf(key, enforced))
	c.index.Apply(changeOf(key, known))
	if here || was {
		c.policyChanged = true
	}
	c.clusters[c.cfg.Cluster].changed = true
}

func changeOf(key model.Key, e *model.Endpoint) model.Change {
	if e == nil {
		return model.Gone(key)
	}
	return model.Set(e)
}

// effective says what is true of a pod: enforced is for the policies, known for
// the index, by which peers know it. said is what sources say, attachments are the
// pod's, newest first.
//
// An attachment that lasts has the pod's addresses, whatever an API server says:
// that hears of them later. The addresses of one that has ended are nobody's, but
// what is left of the pod's link is still the pod's.
func effective(said *model.Endpoint, node string, attachments []model.Attachment) (enforced, known *model.Endpoint) {
	pod := said
	for _, a := range attachments {
		if a.Fact != nil && !a.Ended && (said == nil || said.UID != a.Fact.UID && said.Created <= a.Fact.Created) {
			pod = a.Fact
			break
		}
	}
	if pod == nil || pod.Node != node {
		return said, said
	}
	of := slices.DeleteFunc(slices.Clone(attachments), func(a model.Attachment) bool {
		return a.UID != pod.UID && a.UID != model.UID{}
	})
	if i := slices.IndexFunc(of, func(a model.Attachment) bool { return !a.Ended }); i >= 0 {
		pod = withAddresses(pod, of[i].Addrs)
		return pod, pod
	}
	addrs, left := pod.Addresses, pod.Addresses
	for _, a := range of {
		if len(pod.Addresses) == 0 {
			addrs = append(slices.Clone(addrs), a.Addrs...)
		}
		left = slices.DeleteFunc(slices.Clone(left), func(addr netip.Addr) bool { return slices.Contains(a.Addrs, addr) })
	}
	enforced = withAddresses(pod, addrs)
	if len(left) == 0 {
		return enforced, nil
	}
	return enforced, withAddresses(pod, left)
}

func withAddresses(e *model.Endpoint, addrs []netip.Addr) *model.Endpoint {
	if slices.Equal(e.Addresses, addrs) {
		return e
	}
	another := *e
	another.Addresses = addrs
	return &another
}
