package delta

import (
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// tightened tells whether a flow may be allowed by old and not by now, both with
// the same members. Each interface that is in now was something before: a pod
// with its rules, or one of which nothing was known. What is gone needs nothing:
// no packet comes from there or goes there.
func tightened(old, now *desired.Rules) bool {
	if now.Protected && !old.Protected || now.OwnNodeEgress && !old.OwnNodeEgress || abandoned(old, now) {
		return true
	}
	c := comparison{old: old, known: map[[2]*desired.List]bool{}}
	for i := range now.Endpoints {
		e := &now.Endpoints[i]
		ingress, egress := c.before(e.Interface)
		if !c.covers(e.Ingress, ingress) || !c.covers(e.Egress, egress) {
			return true
		}
	}
	for _, u := range now.Unknown {
		ingress, egress := c.before(u.Interface)
		if now.Protected && !u.Grandfathered && !(ingress.none && egress.none) {
			return true
		}
	}
	return false
}

// abandoned tells whether a pod that might send from ranges beside its own
// addresses is not where it was. Its connections cannot be told by address, and
// may look the same as those of its successor.
func abandoned(old, now *desired.Rules) bool {
	return slices.ContainsFunc(old.Exceptions, func(x desired.Exception) bool {
		was, is := old.Endpoint(x.Interface), now.Endpoint(x.Interface)
		return was != nil && (is == nil || was.UID != is.UID || was.Interface.Index != is.Interface.Index)
	})
}

// allowance is what passed in one direction: all that side allows, and with a
// side of nil everything, or nothing at all.
type allowance struct {
	side *desired.Side
	none bool
}

type comparison struct {
	old   *desired.Rules
	known map[[2]*desired.List]bool
}

// before is what passed an interface. One that comes back with another index is
// another one. Of one that was not known, everything may have passed unless the
// node was protected.
func (c *comparison) before(i model.Interface) (ingress, egress allowance) {
	e, u := c.old.Endpoint(i.Name), c.old.UnknownAt(i.Name)
	none := c.old.Protected
	switch {
	case e != nil && e.Interface.Index == i.Index:
		return allowance{side: e.Ingress}, allowance{side: e.Egress}
	case u != nil && u.Index == i.Index:
		none = none && !u.Grandfathered
	}
	return allowance{none: none}, allowance{none: none}
}

// covers tells whether all that passed is sure to be allowed by now.
func (c *comparison) covers(now *desired.Side, was allowance) bool {
	switch {
	case now == nil || was.none:
		return true
	case was.side == nil:
		return now.List.Index(desired.Rule{}) >= 0
	case now.List == was.side.List:
		return true
	}
	key := [2]*desired.List{was.side.List, now.List}
	covered, ok := c.known[key]
	if !ok {
		covered = coversList(now.List, was.side.List)
		c.known[key] = covered
	}
	return covered
}

// peerOf is what rules must have in common to be compared by their ports.
type peerOf struct {
	family desired.Family
	peer   desired.Peer
}

func coversList(now, old *desired.List) bool {
	if now.Text == old.Text {
		return true
	}
	byPeer := map[peerOf][]desired.Rule{}
	for _, r := range now.Rules {
		key := peerOf{r.Family, r.Peer}
		byPeer[key] = append(byPeer[key], r)
	}
	for _, r := range old.Rules {
		covered := func(p peerOf) bool {
			return slices.ContainsFunc(byPeer[p], func(n desired.Rule) bool { return coversPorts(n, r) })
		}
		if !covered(peerOf{r.Family, r.Peer}) && !covered(peerOf{}) && !covered(wholeFamily(r.Family)) {
			return false
		}
	}
	return true
}

// wholeFamily is any address of a family.
func wholeFamily(f desired.Family) peerOf {
	switch f {
	case desired.IPv4:
		return peerOf{f, desired.Peer{Block: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}}
	case desired.IPv6:
		return peerOf{f, desired.Peer{Block: netip.PrefixFrom(netip.IPv6Unspecified(), 0)}}
	}
	return peerOf{}
}

func coversPorts(now, old desired.Rule) bool {
	switch {
	case now.Protocol != 0 && now.Protocol != old.Protocol:
		return false
	case now.AllPorts():
		return true
	}
	return !old.AllPorts() && now.First <= old.First && old.Last <= now.Last
}
