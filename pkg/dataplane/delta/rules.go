package delta

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// equalRules compares by value. Sides and lists that are shared are not looked at.
func equalRules(a, b *desired.Rules) bool {
	return a.Protected == b.Protected && a.OwnNodeEgress == b.OwnNodeEgress &&
		slices.Equal(a.Exceptions, b.Exceptions) &&
		slices.EqualFunc(a.Unknown, b.Unknown, func(x, y desired.Unknown) bool {
			return x.Grandfathered == y.Grandfathered && equalInterface(x.Interface, y.Interface)
		}) &&
		slices.EqualFunc(a.Endpoints, b.Endpoints, equalEndpoint) &&
		// A set never changes its meaning.
		slices.EqualFunc(a.Sets, b.Sets, func(x, y desired.SetSpec) bool { return x.ID == y.ID })
}

func equalInterface(a, b model.Interface) bool {
	return a.Name == b.Name && a.Index == b.Index && slices.Equal(a.Addrs, b.Addrs)
}

func equalEndpoint(a, b desired.Endpoint) bool {
	return a.Pod == b.Pod && a.UID == b.UID && equalInterface(a.Interface, b.Interface) &&
		slices.Equal(a.Addrs, b.Addrs) && equalSide(a.Ingress, b.Ingress) && equalSide(a.Egress, b.Egress)
}

func equalSide(a, b *desired.Side) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	return (a.List == b.List || a.List.Text == b.List.Text) && slices.Equal(a.Policies, b.Policies) &&
		slices.EqualFunc(a.Origins, b.Origins, slices.Equal[[]desired.Origin])
}

// place is where an address is: which interface, and which pod if it is known.
type place struct {
	name  string
	index int
	uid   model.UID
}

// taken tells the addresses that are not where they were.
func taken(old, now *desired.Rules) []netip.Addr {
	moved := map[netip.Addr]struct{}{}
	was, is := places(old), places(now)
	for a, p := range is {
		if !slices.EqualFunc(was[a], p, samePlace) {
			moved[a] = struct{}{}
		}
	}
	for a := range was {
		if len(is[a]) == 0 {
			moved[a] = struct{}{}
		}
	}
	return sortedAddrs(moved)
}

// samePlace tells whether two places are one. A pod that becomes known, or is
// not known any more, was there before: its connections live.
func samePlace(a, b place) bool {
	return a.name == b.name && a.index == b.index &&
		(a.uid == b.uid || a.uid == model.UID{} || b.uid == model.UID{})
}

// places has for each address where it is, usually one, by name of interface.
func places(r *desired.Rules) map[netip.Addr][]place {
	all := make(map[netip.Addr][]place, len(r.Endpoints)+len(r.Unknown))
	add := func(i model.Interface, uid model.UID) {
		for _, a := range i.Addrs {
			all[a] = append(all[a], place{i.Name, i.Index, uid})
		}
	}
	for _, e := range r.Endpoints {
		add(e.Interface, e.UID)
	}
	for _, u := range r.Unknown {
		add(u.Interface, model.UID{})
	}
	for _, p := range all {
		slices.SortFunc(p, func(a, b place) int { return strings.Compare(a.name, b.name) })
	}
	return all
}
