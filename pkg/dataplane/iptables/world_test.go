package iptables_test

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

// quiet is a log that nobody reads.
func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// world makes States by hand.
type world struct {
	gen   uint64
	rules desired.Rules
	sets  pset.Map[desired.SetID, desired.Members]
}

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// addresses is a set of addresses of one family.
func (w *world) addresses(f desired.Family, what string, members ...string) desired.SetID {
	text := "test v1 " + f.String() + " " + what
	id := desired.SetIDOf(f, text)
	var m desired.Members
	for _, a := range addrs(members...) {
		m.Addrs = m.Addrs.With(a)
	}
	w.addSet(desired.SetSpec{ID: id, Kind: desired.Addresses, Family: f, Text: text})
	w.sets = w.sets.With(id, m)
	return id
}

// ports is a set of addresses with ports.
func (w *world) ports(f desired.Family, p model.Protocol, what string, members ...string) desired.SetID {
	text := fmt.Sprintf("test v1 %s %s port %s", f, what, p)
	id := desired.SetIDOf(f, text)
	var m desired.Members
	for _, a := range members {
		m.Ports = m.Ports.With(netip.MustParseAddrPort(a))
	}
	w.addSet(desired.SetSpec{ID: id, Kind: desired.AddressPorts, Family: f, Protocol: p, Text: text})
	w.sets = w.sets.With(id, m)
	return id
}

// networks is a set of networks; those with "!" before them are excepted.
func (w *world) networks(f desired.Family, members ...string) desired.SetID {
	var all []desired.Network
	for _, m := range members {
		m, except := strings.CutPrefix(m, "!")
		all = append(all, desired.Network{Prefix: netip.MustParsePrefix(m), Except: except})
	}
	spec := desired.NewNetworks(f, all)
	w.addSet(spec)
	return spec.ID
}

func (w *world) addSet(s desired.SetSpec) {
	w.rules.Sets = append(slices.DeleteFunc(slices.Clone(w.rules.Sets), func(o desired.SetSpec) bool { return o.ID == s.ID }), s)
	slices.SortFunc(w.rules.Sets, func(a, b desired.SetSpec) int { return strings.Compare(string(a.ID), string(b.ID)) })
}

// pod is a pod with the interface azvNAME; nil sides are not isolated.
func (w *world) pod(name string, ingress, egress *desired.Side, own ...string) {
	w.rules.Endpoints = append(slices.Clone(w.rules.Endpoints), desired.Endpoint{
		Interface: model.Interface{Name: "azv" + name, Index: 10 + len(w.rules.Endpoints), Addrs: addrs(own...)},
		Pod:       model.Key{Kind: model.KindPod, Cluster: "here", Namespace: "test", Name: name},
		UID:       model.UID{byte(1 + len(w.rules.Endpoints))},
		Ingress:   ingress, Egress: egress,
	})
	slices.SortFunc(w.rules.Endpoints, func(a, b desired.Endpoint) int { return strings.Compare(a.Interface.Name, b.Interface.Name) })
}

func (w *world) unknown(name string, grandfathered bool, own ...string) {
	w.rules.Unknown = append(slices.Clone(w.rules.Unknown), desired.Unknown{
		Interface: model.Interface{Name: "azv" + name, Index: 90, Addrs: addrs(own...)}, Grandfathered: grandfathered,
	})
}

// side is isolated by one policy.
func side(rules ...desired.Rule) *desired.Side {
	key := model.Key{Kind: model.KindPolicy, Cluster: "here", Namespace: "test", Name: "policy"}
	s := &desired.Side{List: desired.NewList(rules), Policies: []model.Key{key}}
	for i := range s.List.Rules {
		s.Origins = append(s.Origins, []desired.Origin{{Policy: key, Rule: i, Peer: -1, Port: -1}})
	}
	return s
}

func inSet(id desired.SetID) desired.Rule {
	f := desired.IPv6
	if strings.HasPrefix(string(id), "ovl4-") {
		f = desired.IPv4
	}
	return desired.Rule{Family: f, Peer: desired.Peer{Set: id}}
}

func notIn(id desired.SetID) desired.Rule {
	r := inSet(id)
	r.Peer.Not = true
	return r
}

func block(text string) desired.Rule {
	p := netip.MustParsePrefix(text)
	return desired.Rule{Family: desired.FamilyOf(p.Addr()), Peer: desired.Peer{Block: p}}
}

// on makes a rule be about ports.
func on(p model.Protocol, first, last uint16, r desired.Rule) desired.Rule {
	r.Protocol, r.First, r.Last = p, first, last
	return r
}

// state is the State so far; the world may go on.
func (w *world) state() *desired.State {
	w.gen++
	rules := w.rules
	rules.Endpoints = slices.Clone(rules.Endpoints)
	return &desired.State{Gen: w.gen, Rules: &rules, Sets: w.sets}
}

// members is the State with other members of one set, and the same Rules.
func (w *world) members(old *desired.State, id desired.SetID, members ...string) *desired.State {
	w.gen++
	var m desired.Members
	for _, a := range addrs(members...) {
		m.Addrs = m.Addrs.With(a)
	}
	w.sets = w.sets.With(id, m)
	return &desired.State{Gen: w.gen, Rules: old.Rules, Sets: old.Sets.With(id, m)}
}

// everything has every form of rule there is, in both families.
func everything() *desired.State {
	w := &world{rules: desired.Rules{Protected: true, OwnNodeEgress: true}}
	app4 := w.addresses(desired.IPv4, "app=web", "10.1.0.1", "10.2.0.1")
	app6 := w.addresses(desired.IPv6, "app=web", "fd00:1::1", "fd00:2::1")
	http4 := w.ports(desired.IPv4, model.TCP, "app=web http", "10.1.0.1:8080", "10.2.0.1:8080")
	http6 := w.ports(desired.IPv6, model.TCP, "app=web http", "[fd00:2::1]:8080")
	dns4 := w.ports(desired.IPv4, model.UDP, "dns", "10.2.0.9:5353")
	sip4 := w.ports(desired.IPv4, model.SCTP, "sip", "10.2.0.9:5060")
	nets4 := w.networks(desired.IPv4, "10.0.0.0/8", "!10.9.0.0/16")
	nets6 := w.networks(desired.IPv6, "fd00::/16", "!fd00:9::/32")
	but4 := w.networks(desired.IPv4, "192.0.2.0/24")
	both := []desired.Rule{inSet(app4), inSet(app6)}
	in := side(append(both, on(model.TCP, 80, 80, block("10.3.0.0/16")), on(model.UDP, 1, 1023, block("fd00:3::/64")),
		on(model.SCTP, 5060, 5061, inSet(nets4)), on(model.TCP, 443, 443, notIn(but4)), on(model.TCP, 0, 0, inSet(nets6)),
		on(model.SCTP, 7, 7, desired.Rule{}), on(model.UDP, 0, 0, block("0.0.0.0/0")), on(model.TCP, 1, 65535, block("::/0")),
		block("::1.2.3.0/120"), block("1:0:2:0:3:0:4:0/128"), block("10.3.0.7/32"))...)
	out := side(on(model.TCP, 0, 0, inSet(http4)), on(model.TCP, 0, 0, inSet(http6)), on(model.UDP, 0, 0, inSet(dns4)),
		on(model.SCTP, 0, 0, inSet(sip4)), on(model.TCP, 53, 53, desired.Rule{}), on(model.UDP, 53, 53, desired.Rule{}))
	w.pod("0123456789a", in, out, "10.1.0.1", "fd00:1::1")
	w.pod("0fedcba9876", in, nil, "10.1.0.2", "fd00:1::2")
	w.pod("7777777777a", nil, side(desired.Rule{}), "10.1.0.3")     // isolated, and everything is allowed
	w.pod("8888888888a", side(block("0.0.0.0/0")), nil, "10.1.0.4") // everything of one family
	w.pod("f00000000ff", nil, nil, "10.1.0.5")
	w.pod("f1111111111", side(), out, "10.1.0.6", "fd00:1::6")
	w.unknown("2222222222a", true, "10.1.0.7")
	w.unknown("3333333333a", false, "10.1.0.8")
	w.rules.Exceptions = []desired.Exception{
		{Interface: "azv0123456789a", Prefix: netip.MustParsePrefix("10.66.0.0/16")},
		{Interface: "azv0123456789a", Prefix: netip.MustParsePrefix("fd00:66::/64")},
		{Interface: "azvf00000000ff", Prefix: netip.MustParsePrefix("0.0.0.0/0")},
	}
	return w.state()
}
