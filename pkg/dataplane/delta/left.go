package delta

import (
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/pset"
)

// departed collects Delta.Left. The zero value is empty.
type departed struct {
	addrs map[netip.Addr]struct{}
	all   bool
}

// add is false once there is nothing more to collect.
func (d *departed) add(a netip.Addr) bool {
	switch {
	case d.all:
		return false
	case d.addrs == nil:
		d.addrs = map[netip.Addr]struct{}{}
	}
	d.addrs[a] = struct{}{}
	d.all = len(d.addrs) > LeftLimit
	return !d.all
}

func (d *departed) has(a netip.Addr) bool {
	_, ok := d.addrs[a]
	return ok
}

func (d *departed) result() ([]netip.Addr, bool) {
	if d.all {
		return nil, true
	}
	return sortedAddrs(d.addrs), false
}

func sortedAddrs(set map[netip.Addr]struct{}) []netip.Addr {
	if len(set) == 0 {
		return nil
	}
	all := make([]netip.Addr, 0, len(set))
	for a := range set {
		all = append(all, a)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// released collects the addresses that lost their owner after old while in a set
// that is in both States: what their new owner inherits must be judged anew.
func released(old, now *desired.State, gone *departed) {
	if old.Gen < now.ReleasedFloor {
		gone.all = true
	}
	var lost []netip.Addr
	if old.Released.Same(now.Released) {
		return
	}
	for c := range pset.DiffMap(old.Released, now.Released) {
		if gone.all {
			return
		}
		if c.HasNew && c.New > old.Gen && !gone.has(c.Key) {
			lost = append(lost, c.Key)
			gone.all = len(lost) > LeftLimit
		}
	}
	// Above this, to ask costs more than to judge too many connections again.
	const questions = 1 << 18
	unsure := len(lost)*old.Sets.Len() > questions
	for id, members := range old.Sets.All() {
		if len(lost) == 0 || gone.all {
			return
		}
		if _, both := now.Sets.Get(id); both {
			lost = unclaimed(lost, members, unsure, gone)
		}
	}
}

// unclaimed moves those of lost that are, or may be, members to gone, and gives
// the others.
func unclaimed(lost []netip.Addr, members desired.Members, unsure bool, gone *departed) []netip.Addr {
	ports := portAddrs(members, lost)
	return slices.DeleteFunc(lost, func(a netip.Addr) bool {
		member := unsure || members.Addrs.Has(a) || ports(a)
		if member {
			gone.add(a)
		}
		return member
	})
}

// portAddrs tells which of some addresses may be in a set with any port. A large
// set is not searched: there, each may be.
func portAddrs(members desired.Members, lost []netip.Addr) func(netip.Addr) bool {
	const large = 1 << 12
	switch n := members.Ports.Len(); {
	case n == 0:
		return func(netip.Addr) bool { return false }
	case n > large:
		var one netip.AddrPort
		for one = range members.Ports.All() {
			break
		}
		return func(a netip.Addr) bool { return a.Is4() == one.Addr().Is4() }
	}
	wanted := make(map[netip.Addr]bool, len(lost))
	for _, a := range lost {
		wanted[a] = false
	}
	for p := range members.Ports.All() {
		if _, ok := wanted[p.Addr()]; ok {
			wanted[p.Addr()] = true
		}
	}
	return func(a netip.Addr) bool { return wanted[a] }
}
