package dataplanetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

// Uplink is the interface of a node that leads to everything beyond it.
const Uplink = "eth0"

// RandomState is a valid State of a small world: few interfaces, addresses,
// ports and sets, so that what is chosen at random meets.
func RandomState(rng *rand.Rand) *desired.State { return NewStates(rng).Next() }

// States is a random walk through the States of one small world, as an agent
// would make them: each shares with the one before it what is equal.
type States struct {
	rng   *rand.Rand
	gen   uint64
	last  *desired.State
	slots []slot
	// members of all sets that have some, used or not.
	members  map[desired.SetID]desired.Members
	released pset.Map[netip.Addr, uint64]
	uids     byte
}

// slot is a place for a pod interface.
type slot struct {
	iface model.Interface
	there bool
	uid   model.UID // zero: nobody knows whose it is
	old   bool      // grandfathered

	ingress, egress *desired.Side
}

// NewStates is a walk that has not begun.
func NewStates(rng *rand.Rand) *States {
	s := &States{rng: rng, members: map[desired.SetID]desired.Members{}}
	for i, name := range interfaceNames() {
		s.slots = append(s.slots, slot{iface: model.Interface{Name: name, Index: 10 + i}})
	}
	return s
}

// interfaceNames has two that begin with the same digit.
func interfaceNames() []string {
	return []string{"azv0123456789a", "azv0fedcba9876", "azv7777777777a", "azvf00000000ff"}
}

func address(text string, n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(text, n)) }

// localAddrs are what pods of the node may have, remoteAddrs what is elsewhere.
func localAddrs(i int) []netip.Addr {
	return []netip.Addr{address("10.1.0.%d", 1+i), address("fd00:1::%d", 1+i)}
}

func remoteAddrs() []netip.Addr {
	var list []netip.Addr
	for i := range 3 {
		list = append(list, address("10.2.0.%d", 1+i), address("fd00:2::%d", 1+i))
	}
	return append(list, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"))
}

// allAddrs are all, by family.
func allAddrs(f desired.Family) []netip.Addr {
	var list []netip.Addr
	for i := range interfaceNames() {
		list = append(list, localAddrs(i)...)
	}
	list = append(list, remoteAddrs()...)
	return slices.DeleteFunc(list, func(a netip.Addr) bool { return desired.FamilyOf(a) != f })
}

// catalogue is the sets that rules may name.
func catalogue() []desired.SetSpec {
	var specs []desired.SetSpec
	for _, f := range []desired.Family{desired.IPv4, desired.IPv6} {
		for _, name := range []string{"app=a", "app=b"} {
			text := fmt.Sprintf("test v1 %s %s", f, name)
			specs = append(specs, desired.SetSpec{ID: desired.SetIDOf(f, text), Kind: desired.Addresses, Family: f, Text: text})
		}
		text := fmt.Sprintf("test v1 %s app=a port web TCP", f)
		specs = append(specs, desired.SetSpec{
			ID: desired.SetIDOf(f, text), Kind: desired.AddressPorts, Family: f, Protocol: model.TCP, Text: text,
		})
	}
	network := func(text string, except bool) desired.Network {
		return desired.Network{Prefix: netip.MustParsePrefix(text), Except: except}
	}
	return append(specs,
		desired.NewNetworks(desired.IPv4, []desired.Network{
			network("10.0.0.0/8", false), network("10.2.0.0/16", true), network("10.2.0.2/32", false),
		}),
		desired.NewNetworks(desired.IPv4, []desired.Network{network("10.2.0.0/30", false)}),
		desired.NewNetworks(desired.IPv6, []desired.Network{network("fd00::/16", false), network("fd00:1::/64", true)}),
	)
}

// Next is the next State: sometimes only members differ, sometimes a little,
// sometimes all.
func (s *States) Next() *desired.State {
	s.gen++
	switch n := s.rng.IntN(10); {
	case s.last == nil || n == 0:
		for i := range s.slots {
			s.shuffleSlot(&s.slots[i])
		}
		return s.publish(s.rules(s.rng.IntN(2) == 0, s.rng.IntN(2) == 0))
	case n < 6:
		s.shuffleMembers(1 + s.rng.IntN(3))
		return s.publish(s.last.Rules)
	default:
		for range 1 + s.rng.IntN(2) {
			s.shuffleSlot(&s.slots[s.rng.IntN(len(s.slots))])
		}
		if s.rng.IntN(3) == 0 {
			s.shuffleMembers(1)
		}
		protected, own := s.last.Rules.Protected, s.last.Rules.OwnNodeEgress
		if s.rng.IntN(8) == 0 {
			protected = !protected
		}
		if s.rng.IntN(8) == 0 {
			own = !own
		}
		return s.publish(s.rules(protected, own))
	}
}

func (s *States) publish(r *desired.Rules) *desired.State {
	state := &desired.State{Gen: s.gen, Rules: r, Released: s.released}
	for _, spec := range r.Sets {
		if !spec.Dynamic() {
			continue
		}
		if _, ok := s.members[spec.ID]; !ok {
			s.members[spec.ID] = s.randomMembers(spec)
		}
		state.Sets = state.Sets.With(spec.ID, s.members[spec.ID])
	}
	s.last = state
	return state
}

// shuffleSlot makes something else of an interface.
func (s *States) shuffleSlot(sl *slot) {
	at := slices.IndexFunc(interfaceNames(), func(n string) bool { return n == sl.iface.Name })
	switch n := s.rng.IntN(8); {
	case n == 0:
		s.leave(sl)
		sl.there = false
		return
	case n == 1 || !sl.there:
		// Another pod, with an address that was another one's or not.
		s.leave(sl)
		sl.iface.Index += 10
		sl.there = false
		own := localAddrs(at)
		if other := s.rng.IntN(len(s.slots)); !s.routed(localAddrs(other)) {
			own = localAddrs(other)
		}
		if s.routed(own) {
			return
		}
		sl.iface.Addrs = own[s.rng.IntN(2):]
		s.uids++
		sl.there, sl.uid = true, model.UID{s.uids}
	case n == 2:
		sl.uid = model.UID{} // forgotten by the API, or not known yet
		sl.old = s.rng.IntN(2) == 0
	case sl.uid == model.UID{}:
		s.uids++
		sl.uid = model.UID{s.uids}
	}
	if s.rng.IntN(2) == 0 {
		sl.ingress = s.randomSide()
	}
	if s.rng.IntN(2) == 0 {
		sl.egress = s.randomSide()
	}
}

// routed tells whether an interface has one of the addresses.
func (s *States) routed(addrs []netip.Addr) bool {
	return slices.ContainsFunc(s.slots, func(sl slot) bool {
		return sl.there && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(sl.iface.Addrs, a) })
	})
}

func (s *States) leave(sl *slot) {
	for _, a := range sl.iface.Addrs {
		s.released = s.released.With(a, s.gen)
	}
}

func (s *States) rules(protected, own bool) *desired.Rules {
	r := &desired.Rules{Protected: protected, OwnNodeEgress: own}
	for i, sl := range s.slots {
		switch {
		case !sl.there:
		case sl.uid == model.UID{}:
			r.Unknown = append(r.Unknown, desired.Unknown{Interface: sl.iface, Grandfathered: sl.old})
		default:
			r.Endpoints = append(r.Endpoints, desired.Endpoint{
				Interface: sl.iface, UID: sl.uid, Addrs: sl.iface.Addrs, Ingress: sl.ingress, Egress: sl.egress,
				Pod: model.Key{Kind: model.KindPod, Cluster: "here", Namespace: "test", Name: fmt.Sprintf("pod-%d", i)},
			})
			if sl.uid[0]%4 == 0 {
				r.Exceptions = append(r.Exceptions, desired.Exception{
					Interface: sl.iface.Name, Prefix: netip.MustParsePrefix("192.0.2.0/30"),
				})
			}
		}
	}
	byName := func(a, b string) int { return strings.Compare(a, b) }
	slices.SortFunc(r.Endpoints, func(a, b desired.Endpoint) int { return byName(a.Interface.Name, b.Interface.Name) })
	slices.SortFunc(r.Unknown, func(a, b desired.Unknown) int { return byName(a.Name, b.Name) })
	slices.SortFunc(r.Exceptions, func(a, b desired.Exception) int { return byName(a.Interface, b.Interface) })
	r.Sets = usedSets(r)
	return r
}

func usedSets(r *desired.Rules) []desired.SetSpec {
	used := map[desired.SetID]bool{}
	for _, e := range r.Endpoints {
		for _, side := range []*desired.Side{e.Ingress, e.Egress} {
			if side == nil {
				continue
			}
			for _, rule := range side.List.Rules {
				used[rule.Peer.Set] = true
			}
		}
	}
	specs := slices.DeleteFunc(catalogue(), func(spec desired.SetSpec) bool { return !used[spec.ID] })
	slices.SortFunc(specs, func(a, b desired.SetSpec) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return specs
}

// randomSide is nil for a pod that is not isolated; one that allows nothing is
// more likely than by chance.
func (s *States) randomSide() *desired.Side {
	if s.rng.IntN(4) == 0 {
		return nil
	}
	var rules []desired.Rule
	for range s.rng.IntN(4) {
		rules = append(rules, s.randomRule())
	}
	policy := model.Key{Kind: model.KindPolicy, Cluster: "here", Namespace: "test", Name: "policy"}
	side := &desired.Side{List: desired.NewList(rules), Policies: []model.Key{policy}}
	for i := range side.List.Rules {
		side.Origins = append(side.Origins, []desired.Origin{{Policy: policy, Rule: i, Peer: -1, Port: -1}})
	}
	return side
}

func (s *States) randomRule() desired.Rule {
	var r desired.Rule
	switch s.rng.IntN(3) {
	case 0:
		r.Protocol = model.TCP
	case 1:
		r.Protocol = model.UDP
	}
	if r.Protocol != 0 {
		switch s.rng.IntN(3) {
		case 0:
			r.First, r.Last = 80, 80
		case 1:
			r.First, r.Last = 80, 443
		}
	}
	switch n := s.rng.IntN(8); {
	case n == 0:
	case n < 3:
		blocks := []string{"10.2.0.0/31", "10.1.0.0/16", "0.0.0.0/0", "fd00:2::/64", "::/0", "10.1.0.2/32"}
		r.Peer.Block = netip.MustParsePrefix(blocks[s.rng.IntN(len(blocks))])
		r.Family = desired.FamilyOf(r.Peer.Block.Addr())
	default:
		specs := catalogue()
		spec := specs[s.rng.IntN(len(specs))]
		r.Peer.Set, r.Family = spec.ID, spec.Family
		r.Peer.Not = spec.Kind == desired.Networks && s.rng.IntN(2) == 0
		if spec.Kind == desired.AddressPorts {
			r.Protocol, r.First, r.Last = spec.Protocol, 0, 0
		}
	}
	return r
}

func (s *States) randomMembers(spec desired.SetSpec) desired.Members {
	var m desired.Members
	for _, a := range allAddrs(spec.Family) {
		if s.rng.IntN(2) == 0 {
			continue
		}
		if spec.Kind == desired.AddressPorts {
			m.Ports = m.Ports.With(netip.AddrPortFrom(a, []uint16{80, 443, 8080}[s.rng.IntN(3)]))
		} else {
			m.Addrs = m.Addrs.With(a)
		}
	}
	return m
}

// shuffleMembers moves an address in or out of some sets, or gives it another
// owner in the same ones.
func (s *States) shuffleMembers(n int) {
	specs := slices.DeleteFunc(catalogue(), func(spec desired.SetSpec) bool { return !spec.Dynamic() })
	for range n {
		addrs := allAddrs(desired.IPv4)
		if s.rng.IntN(2) == 0 {
			addrs = allAddrs(desired.IPv6)
		}
		a := addrs[s.rng.IntN(len(addrs))]
		if s.rng.IntN(3) == 0 {
			s.released = s.released.With(a, s.gen)
		}
		for _, spec := range specs {
			m, ok := s.members[spec.ID]
			if !ok || spec.Family != desired.FamilyOf(a) || s.rng.IntN(2) == 0 {
				continue
			}
			s.members[spec.ID] = toggled(m, spec.Kind, a)
		}
	}
}

func toggled(m desired.Members, kind desired.SetKind, a netip.Addr) desired.Members {
	p := netip.AddrPortFrom(a, 80)
	switch {
	case kind == desired.AddressPorts && m.Ports.Has(p):
		m.Ports = m.Ports.Without(p)
	case kind == desired.AddressPorts:
		m.Ports = m.Ports.With(p)
	case m.Addrs.Has(a):
		m.Addrs = m.Addrs.Without(a)
	default:
		m.Addrs = m.Addrs.With(a)
	}
	return m
}

// Routes are those of a node in a State: its pods' and the uplink's.
func Routes(s *desired.State) map[netip.Prefix]string {
	routes := map[netip.Prefix]string{
		netip.MustParsePrefix("0.0.0.0/0"): Uplink,
		netip.MustParsePrefix("::/0"):      Uplink,
	}
	maps.Copy(routes, podRoutes(s))
	return routes
}

func podRoutes(s *desired.State) map[netip.Prefix]string {
	routes := map[netip.Prefix]string{}
	add := func(i model.Interface) {
		for _, a := range i.Addrs {
			routes[netip.PrefixFrom(a, a.BitLen())] = i.Name
		}
	}
	for _, e := range s.Rules.Endpoints {
		add(e.Interface)
	}
	for _, u := range s.Rules.Unknown {
		add(u.Interface)
	}
	return routes
}
