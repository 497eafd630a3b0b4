package delta

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(all ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range all {
		out = append(out, addr(s))
	}
	return out
}

func addrSet(all ...string) desired.Members {
	var m desired.Members
	for _, a := range all {
		m.Addrs = m.Addrs.With(addr(a))
	}
	return m
}

func portSet(all ...string) desired.Members {
	var m desired.Members
	for _, a := range all {
		m.Ports = m.Ports.With(netip.MustParseAddrPort(a))
	}
	return m
}

func set(kind desired.SetKind, protocol model.Protocol, text string) desired.SetSpec {
	return desired.SetSpec{
		ID: desired.SetIDOf(desired.IPv4, text), Kind: kind, Family: desired.IPv4, Protocol: protocol, Text: text,
	}
}

func friends() desired.SetSpec { return set(desired.Addresses, 0, "friends") }
func foes() desired.SetSpec    { return set(desired.Addresses, 0, "foes") }
func webs() desired.SetSpec    { return set(desired.AddressPorts, model.TCP, "webs") }

func side(rules ...desired.Rule) *desired.Side {
	p := model.PolicyKey("canada", "default", "p")
	s := &desired.Side{List: desired.NewList(rules), Policies: []model.Key{p}}
	for range s.List.Rules {
		s.Origins = append(s.Origins, []desired.Origin{{Policy: p, Peer: -1, Port: -1}})
	}
	return s
}

func from(s desired.SetSpec) desired.Rule {
	return desired.Rule{Family: s.Family, Protocol: s.Protocol, Peer: desired.Peer{Set: s.ID}}
}

func ports(r desired.Rule, p model.Protocol, first, last uint16) desired.Rule {
	r.Protocol, r.First, r.Last = p, first, last
	return r
}

func block(s string) desired.Rule {
	p := netip.MustParsePrefix(s)
	return desired.Rule{Family: desired.FamilyOf(p.Addr()), Peer: desired.Peer{Block: p}}
}

func pod(n int, ingress, egress *desired.Side, ips ...string) desired.Endpoint {
	name := fmt.Sprintf("azv%d", n)
	return desired.Endpoint{
		Interface: model.Interface{Name: name, Index: 10 + n, Addrs: addrs(ips...)},
		Pod:       model.PodKey("canada", "default", name),
		UID:       model.UID{byte(n)},
		Ingress:   ingress, Egress: egress,
	}
}

func unknown(n int, grandfathered bool, ips ...string) desired.Unknown {
	return desired.Unknown{Interface: pod(n, nil, nil, ips...).Interface, Grandfathered: grandfathered}
}

// rules is a protected node with these pods, and the sets that they name.
func rules(pods ...desired.Endpoint) *desired.Rules {
	return complete(&desired.Rules{Protected: true, Endpoints: pods}, friends(), foes(), webs())
}

// complete sets Sets: those of all that a rule names.
func complete(r *desired.Rules, all ...desired.SetSpec) *desired.Rules {
	named := map[desired.SetID]bool{}
	for _, e := range r.Endpoints {
		for _, s := range []*desired.Side{e.Ingress, e.Egress} {
			if s == nil {
				continue
			}
			for _, rule := range s.List.Rules {
				named[rule.Peer.Set] = true
			}
		}
	}
	r.Sets = nil
	for _, s := range all {
		if named[s.ID] {
			r.Sets = append(r.Sets, s)
		}
	}
	slices.SortFunc(r.Sets, func(a, b desired.SetSpec) int { return cmp.Compare(a.ID, b.ID) })
	r.Sets = slices.CompactFunc(r.Sets, func(a, b desired.SetSpec) bool { return a.ID == b.ID })
	return r
}

// state is Rules with the members of those sets that they have.
func state(gen uint64, r *desired.Rules, members map[desired.SetID]desired.Members) *desired.State {
	s := &desired.State{Gen: gen, Rules: r}
	for _, spec := range r.Sets {
		if spec.Dynamic() {
			s.Sets = s.Sets.With(spec.ID, members[spec.ID])
		}
	}
	return s
}

func release(s *desired.State, gen uint64, all ...string) *desired.State {
	for _, a := range all {
		s.Released = s.Released.With(addr(a), gen)
	}
	return s
}

// random makes pairs of States in a universe so small that all its flows can be
// asked about.
type random struct{ *rand.Rand }

func (g random) chance(percent int) bool { return g.IntN(100) < percent }

const remotes, maxPort = 4, 3

func remote(i int) netip.Addr    { return netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}) }
func localAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }

func (g random) set() desired.SetSpec {
	switch g.IntN(4) {
	case 0:
		return webs()
	case 1:
		p := netip.PrefixFrom(remote(g.IntN(remotes)), 30+g.IntN(3)).Masked()
		return desired.NewNetworks(desired.IPv4, []desired.Network{{Prefix: p}})
	}
	return []desired.SetSpec{friends(), foes()}[g.IntN(2)]
}

func (g random) rule(all *[]desired.SetSpec) desired.Rule {
	var r desired.Rule
	switch n := g.IntN(10); {
	case n == 0:
	case n < 3:
		r = block([]string{"0.0.0.0/0", "10.9.0.0/31", "10.9.0.2/32"}[g.IntN(3)])
	default:
		s := g.set()
		*all = append(*all, s)
		r = from(s)
		r.Peer.Not = s.Kind == desired.Networks && g.chance(40)
		if s.Kind == desired.AddressPorts {
			return r
		}
	}
	if g.chance(60) {
		r.Protocol = []model.Protocol{model.TCP, model.UDP}[g.IntN(2)]
		if g.chance(60) {
			r.First = uint16(1 + g.IntN(maxPort))
			r.Last = r.First + uint16(g.IntN(2))
		}
	}
	return r
}

func (g random) side(all *[]desired.SetSpec) *desired.Side {
	if g.chance(25) {
		return nil
	}
	var list []desired.Rule
	for range g.IntN(4) {
		list = append(list, g.rule(all))
	}
	return side(list...)
}

// pair is a State and what it may become: most of it stays.
func (g random) pair() (old, now *desired.State) {
	var all []desired.SetSpec
	var was, is desired.Rules
	was.Protected, was.OwnNodeEgress = g.chance(70), g.chance(30)
	is.Protected = was.Protected != g.chance(10)
	is.OwnNodeEgress = was.OwnNodeEgress != g.chance(10)
	for i := range 3 {
		e := pod(i, g.side(&all), g.side(&all), localAddr(i).String())
		if g.chance(10) {
			e.Interface.Index++
		}
		g.put(&was, e)
		if g.chance(15) {
			e = pod(i, g.side(&all), e.Egress, localAddr(i).String())
		}
		if g.chance(15) && e.Egress != nil {
			e.Egress = side(append(slices.Clone(e.Egress.List.Rules), g.rule(&all))...)
		}
		g.put(&is, e)
	}
	members := g.members()
	old = state(5, complete(&was, all...), members)
	if g.chance(50) {
		is = was
	}
	for id, m := range members {
		for range g.IntN(3) {
			m.Addrs = m.Addrs.Without(remote(g.IntN(remotes)))
			m.Ports = m.Ports.Without(netip.AddrPortFrom(remote(g.IntN(remotes)), uint16(1+g.IntN(maxPort))))
		}
		members[id] = m
	}
	now = state(6, complete(&is, all...), members)
	if g.chance(30) {
		now.Released = now.Released.With(remote(g.IntN(remotes)), 6)
	}
	return old, now
}

func (g random) put(r *desired.Rules, e desired.Endpoint) {
	switch n := g.IntN(20); {
	case n == 0:
	case n < 3:
		r.Unknown = append(r.Unknown, desired.Unknown{Interface: e.Interface, Grandfathered: g.chance(50)})
	default:
		r.Endpoints = append(r.Endpoints, e)
	}
}

func (g random) members() map[desired.SetID]desired.Members {
	all := map[desired.SetID]desired.Members{}
	for _, s := range []desired.SetSpec{friends(), foes()} {
		m := pset.Set[netip.Addr]{}
		for i := range remotes {
			if g.chance(60) {
				m = m.With(remote(i))
			}
		}
		all[s.ID] = desired.Members{Addrs: m}
	}
	var m desired.Members
	for i := range remotes {
		m.Ports = m.Ports.With(netip.AddrPortFrom(remote(i), uint16(1+g.IntN(maxPort))))
	}
	all[webs().ID] = m
	return all
}
