package index

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// ledger is the claims on addresses, but for those where the only claim is that
// of the owner: these are in Index.owners alone.
type ledger struct {
	// lone are claims that have no other beside them and do not hold.
	lone map[netip.Addr]uint32
	// contested are two claims or more, the best one first (compareClaims).
	contested map[netip.Addr][]uint32
}

func newLedger() ledger {
	return ledger{map[netip.Addr]uint32{}, map[netip.Addr][]uint32{}}
}

// claim is an endpoint's claim on an address, with what decides about it.
type claim struct {
	*model.Endpoint
	cluster  *cluster
	valid    bool // refused for no reason of its own
	declared bool // a range that the cluster declares, for pods or nodes, has the address
}

func (x *Index) newClaim(e *model.Endpoint, a netip.Addr) claim {
	c := x.clusters[e.Key.Cluster]
	return claim{
		Endpoint: e, cluster: c,
		valid:    c.fact != nil && c.refusal(x.localRanges, e.Key.Kind, a) == "",
		declared: c.podRanges.contains(a) || c.nodeRanges.contains(a),
	}
}

// compareClaims is the order of claims on one address, the best one first
// (semantics 1.5). That a pod's claim on a node address is refused (1.3) comes
// after the question whose address it is: else a remote could take a local
// pod's address, or one in another remote's ranges, by saying that it is its
// node's. Whether ranges have the address is asked of the cluster, not of the
// kind, so that a cluster's node always comes before its pod.
func compareClaims(a, b claim) int {
	if c := trueFirst(a.valid, b.valid); c != 0 || a.cluster.fact == nil || b.cluster.fact == nil {
		return cmp.Or(c, trueFirst(a.cluster.fact != nil, b.cluster.fact != nil), compareWithin(a.Endpoint, b.Endpoint))
	}
	ca, cb := a.cluster.fact, b.cluster.fact
	return cmp.Or(
		trueFirst(ca.Local, cb.Local),
		trueFirst(a.declared, b.declared),
		trueFirst(a.Key.Kind == model.KindNode, b.Key.Kind == model.KindNode),
		trueFirst(ca.Local || ca.InContact, cb.Local || cb.InContact),
		trueFirst(!a.Terminating, !b.Terminating),
		cmp.Compare(ca.Created, cb.Created),
		compareWithin(a.Endpoint, b.Endpoint),
	)
}

// compareWithin is the order of claims of one cluster, the newer one first, and
// that of clusters between which nothing else decides. It gives 0 for an
// endpoint and itself only.
func compareWithin(a, b *model.Endpoint) int {
	return cmp.Or(
		strings.Compare(a.Key.Cluster, b.Key.Cluster),
		cmp.Compare(b.Created, a.Created),
		slices.Compare(a.UID[:], b.UID[:]),
		cmp.Compare(a.Key.Kind, b.Key.Kind),
		strings.Compare(a.Key.Namespace, b.Key.Namespace),
		strings.Compare(a.Key.Name, b.Key.Name),
	)
}

func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// moveClaims takes back the claims that an endpoint no longer makes, and enters
// its new ones. Both sides may be nil. The slot still has the old entry.
func (x *Index) moveClaims(n uint32, old, now *model.Endpoint) {
	reordered := old != nil && now != nil &&
		(old.Terminating != now.Terminating || old.Created != now.Created || old.UID != now.UID)
	for i := range addresses(old) {
		a := old.Addresses[i]
		switch {
		case now == nil || !slices.Contains(now.Addresses, a):
			x.unclaim(n, old, a)
		case reordered && len(x.ledger.contested[a]) > 0:
			x.leave(n, old, a)
			x.enter(n, now, a)
		}
	}
	for i := range addresses(now) {
		if a := now.Addresses[i]; old == nil || !slices.Contains(old.Addresses, a) {
			x.claim(n, now, a)
		}
	}
}

// addresses gives the index of each address of an endpoint, which may be nil,
// once.
func addresses(e *model.Endpoint) iter.Seq[int] {
	return func(yield func(int) bool) {
		if e == nil {
			return
		}
		for i, a := range e.Addresses {
			if !slices.Contains(e.Addresses[:i], a) && !yield(i) {
				return
			}
		}
	}
}

// claim enters a new claim into the ledger, unless it is the only one: judge
// looks after that.
func (x *Index) claim(n uint32, e *model.Endpoint, a netip.Addr) {
	if len(x.ledger.contested) > 0 && len(x.ledger.contested[a]) > 0 {
		x.enter(n, e, a)
		return
	}
	other, found := x.ledger.lone[a]
	if found {
		delete(x.ledger.lone, a)
	} else {
		owner, owned := x.owners.get(a)
		if !owned {
			return
		}
		other = owner.slot
	}
	x.ledger.contested[a] = []uint32{other}
	x.enter(n, e, a)
}

// enter adds a claim to those on a contested address.
func (x *Index) enter(n uint32, e *model.Endpoint, a netip.Addr) {
	list := x.ledger.contested[a]
	i, _ := x.position(list, e, a)
	list = slices.Insert(list, i, n)
	x.ledger.contested[a] = list
	x.touchRivals(list, e, i, len(list))
}

// unclaim takes a claim back.
func (x *Index) unclaim(n uint32, e *model.Endpoint, a netip.Addr) {
	if len(x.ledger.contested[a]) == 0 {
		if lone, found := x.ledger.lone[a]; found && lone == n {
			delete(x.ledger.lone, a)
		}
		return
	}
	x.leave(n, e, a)
	if len(x.ledger.contested[a]) == 1 {
		delete(x.ledger.contested, a) // what is left is judged again: it was touched
	}
}

// leave removes a claim from those on a contested address.
func (x *Index) leave(n uint32, e *model.Endpoint, a netip.Addr) {
	list := x.ledger.contested[a]
	i, _ := x.position(list, e, a)
	list = slices.Delete(list, i, i+1)
	x.ledger.contested[a] = list
	x.touchRivals(list, e, i, len(list)+1)
}

// position is where a claim is, or belongs, in a list.
func (x *Index) position(list []uint32, e *model.Endpoint, a netip.Addr) (int, bool) {
	return slices.BinarySearchFunc(list, x.newClaim(e, a), func(n uint32, c claim) int {
		return compareClaims(x.newClaim(x.slots[n].entry.Endpoint, a), c)
	})
}

// touchRivals touches whose standing may have changed since e came to, or left,
// place i of a list; most is its greatest length before and after.
func (x *Index) touchRivals(list []uint32, e *model.Endpoint, i, most int) {
	switch {
	case most <= maxNamed+1 || e.Key.Kind == model.KindNode && x.clusters[e.Key.Cluster].local():
		x.work.touched = append(x.work.touched, list...)
	case i <= 1:
		// The first, and the one who was it before.
		x.work.touched = append(x.work.touched, list[:2]...)
	}
}

// judge finds which claims of an endpoint do not hold, and leaves them in
// work.refusals. A lone claim goes into the ledger, or out of it.
func (x *Index) judge(n uint32, e *model.Endpoint, c *cluster) {
	x.work.refusals = x.work.refusals[:0]
	for i := range addresses(e) {
		a := e.Addresses[i]
		x.work.judged++
		r := Refusal{Address: a}
		if c.fact != nil {
			r.Reason = c.refusal(x.localRanges, e.Key.Kind, a)
		}
		if list := x.ledger.contested[a]; len(list) > 0 {
			x.contest(n, e, c, list, &r)
		} else if c.fact == nil || r.Reason != "" {
			x.ledger.lone[a] = n
		} else {
			delete(x.ledger.lone, a)
		}
		if r.Reason != "" && c.fact != nil {
			x.work.refusals = append(x.work.refusals, r)
		}
	}
}

// contest adds to r, of an endpoint of a known cluster, what follows from the
// other claims on its address.
func (x *Index) contest(n uint32, e *model.Endpoint, c *cluster, list []uint32, r *Refusal) {
	if list[0] == n || c.fact == nil {
		return
	}
	best := x.slots[list[0]].entry.Endpoint
	taken := best.Key.Kind == model.KindNode
	switch {
	case r.Reason == model.RefusedMalformed || r.Reason == model.RefusedReservedAddress:
	case taken && !c.fact.Local && x.clusters[best.Key.Cluster].local():
		r.Reason, r.By = model.RefusedLocalNode, best.Key
	case r.Reason != "":
	case len(list) > maxNamed:
		r.Reason = model.RefusedDuplicate
	case taken && e.Key.Kind == model.KindPod:
		r.Reason, r.By = model.RefusedNodeAddress, best.Key
	default:
		r.Reason, r.By = model.RefusedDuplicate, best.Key
	}
}

// judgeContested sorts the claims on the contested addresses of a cluster, or of
// all for nil, again, and touches who makes them.
func (x *Index) judgeContested(c *cluster) {
	for a, list := range x.ledger.contested {
		if c != nil && !slices.ContainsFunc(list, func(n uint32) bool { return x.spaceAt(n).cluster == c }) {
			continue
		}
		slices.SortFunc(list, func(n, m uint32) int {
			return compareClaims(x.newClaim(x.slots[n].entry.Endpoint, a), x.newClaim(x.slots[m].entry.Endpoint, a))
		})
		x.work.touched = append(x.work.touched, list...)
	}
}

// judgeCluster judges all claims of a cluster again, and those beside them.
func (x *Index) judgeCluster(c *cluster) {
	x.judgeContested(c)
	x.work.touched = append(x.work.touched, c.slots()...)
	x.settle()
}

// judgeAll judges all claims again: what is local has changed.
func (x *Index) judgeAll() {
	x.localRanges = nil
	for _, c := range x.clusters {
		if c.local() {
			x.localRanges = newRanges(c.fact.PodCIDRs, c.fact.NodeCIDRs, x.localRanges)
		}
	}
	x.judgeContested(nil)
	for n := range x.slots {
		if x.slots[n].entry != nil {
			x.work.touched = append(x.work.touched, uint32(n))
		}
	}
	x.settle()
}
