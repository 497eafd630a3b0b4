package dataplanetest

import (
	"net/netip"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// fixed is a world made by hand: pods 0 and 1 of States' interfaces, and the
// sets of the catalogue.
type fixed struct{ *States }

func newFixed(s *subject) fixed {
	f := fixed{NewStates(s.rng)}
	for i := range 2 {
		f.slots[i].there = true
		f.slots[i].uid = model.UID{byte(1 + i)}
		f.slots[i].iface.Addrs = localAddrs(i)
	}
	for _, spec := range catalogue() {
		if spec.Dynamic() {
			f.members[spec.ID] = desired.Members{}
		}
	}
	return f
}

// side allows some rules, and nothing else.
func side(rules ...desired.Rule) *desired.Side {
	policy := model.Key{Kind: model.KindPolicy, Cluster: "here", Namespace: "test", Name: "fixed"}
	s := &desired.Side{List: desired.NewList(rules), Policies: []model.Key{policy}}
	for i := range s.List.Rules {
		s.Origins = append(s.Origins, []desired.Origin{{Policy: policy, Rule: i, Peer: -1, Port: -1}})
	}
	return s
}

// app is a set of the catalogue.
func app(f desired.Family, i int) desired.SetID {
	const ofFamily = 3
	specs := catalogue()
	if f == desired.IPv6 {
		i += ofFamily
	}
	return specs[i].ID
}

// members makes the addresses members of app i of their families, and others
// not.
func (f fixed) member(i int, addrs ...netip.Addr) {
	for _, family := range []desired.Family{desired.IPv4, desired.IPv6} {
		var m desired.Members
		for _, a := range addrs {
			if desired.FamilyOf(a) == family {
				m.Addrs = m.Addrs.With(a)
			}
		}
		f.members[app(family, i)] = m
	}
}

// fromApp allows what has to do with members of app i.
func fromApp(i int, p model.Protocol, port uint16) []desired.Rule {
	var rules []desired.Rule
	for _, family := range []desired.Family{desired.IPv4, desired.IPv6} {
		rules = append(rules, desired.Rule{
			Family: family, Protocol: p, First: port, Last: port, Peer: desired.Peer{Set: app(family, i)},
		})
	}
	return rules
}

// state is the world as a State, with new Rules; again is with the same ones.
func (f fixed) state(protected, own bool) *desired.State {
	f.gen++
	return f.publish(f.rules(protected, own))
}

func (f fixed) again() *desired.State {
	f.gen++
	return f.publish(f.last.Rules)
}

func pairOf(k *Kernel, src, dst netip.Addr, p model.Protocol, port uint16) desired.Flow {
	place := func(a netip.Addr) desired.Place {
		if name := k.Route(a); name != Uplink && name != "" {
			return desired.Place{Interface: name}
		} else if name == "" {
			return desired.Place{Node: true}
		}
		return desired.Place{}
	}
	f := desired.Flow{From: place(src), To: place(dst), Src: src, Dst: dst, Protocol: p, DstPort: port}
	if port != 0 {
		f.SrcPort = clientPort
	}
	return f
}
