package iptables

import (
	"iter"
	"net/netip"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/pset"
)

// content is what a set holds, or has to.
type content struct {
	spec    desired.SetSpec
	members desired.Members
}

func contentOf(s *desired.State, spec desired.SetSpec) content {
	members, _ := s.Sets.Get(spec.ID)
	return content{spec, members}
}

// header is the set in the kernel's words.
func (c content) header() SetHeader {
	h := SetHeader{Name: string(c.spec.ID), Family: c.spec.Family, Size: c.len()}
	switch c.spec.Kind {
	case desired.Addresses:
		h.Type = HashIP
	case desired.AddressPorts:
		h.Type = HashIPPort
	case desired.Networks:
		h.Type = HashNet
	}
	return h
}

func (c content) len() int {
	if c.spec.Kind == desired.Networks {
		return len(c.spec.Networks)
	}
	return c.members.Len()
}

func (c content) ofAddr(a netip.Addr) Element { return Element{Addr: a} }

func (c content) ofPort(p netip.AddrPort) Element {
	return Element{Addr: p.Addr(), Protocol: c.spec.Protocol, Port: p.Port()}
}

func ofNetwork(n desired.Network) Element {
	return Element{Addr: n.Prefix.Addr(), Bits: uint8(n.Prefix.Bits()), NoMatch: n.Except}
}

// all gives the elements, each once.
func (c content) all() iter.Seq[Element] {
	return func(yield func(Element) bool) {
		switch c.spec.Kind {
		case desired.Addresses:
			for a := range c.members.Addrs.All() {
				if !yield(c.ofAddr(a)) {
					return
				}
			}
		case desired.AddressPorts:
			for p := range c.members.Ports.All() {
				if !yield(c.ofPort(p)) {
					return
				}
			}
		case desired.Networks:
			for _, n := range c.spec.Networks {
				if !yield(ofNetwork(n)) {
					return
				}
			}
		}
	}
}

// has tells whether the element belongs to the content as it is.
func (c content) has(e Element) bool {
	switch c.spec.Kind {
	case desired.Addresses:
		return e == c.ofAddr(e.Addr) && c.members.Addrs.Has(e.Addr)
	case desired.AddressPorts:
		p := netip.AddrPortFrom(e.Addr, e.Port)
		return e == c.ofPort(p) && c.members.Ports.Has(p)
	}
	for _, n := range c.spec.Networks {
		if e == ofNetwork(n) {
			return true
		}
	}
	return false
}

// setChanges is what makes one content of another one.
type setChanges struct {
	want          content
	delete, add   iter.Seq[Element]
	deletes, adds int
}

// from is what has to change from old; where the two share members it costs
// nothing. Networks never change under one name.
func (c content) from(old content) setChanges {
	ch := setChanges{want: c, delete: c.differing(old, false), add: c.differing(old, true)}
	for range ch.delete {
		ch.deletes++
	}
	for range ch.add {
		ch.adds++
	}
	return ch
}

func (c content) differing(old content, added bool) iter.Seq[Element] {
	return func(yield func(Element) bool) {
		for a, is := range pset.Diff(old.members.Addrs, c.members.Addrs) {
			if is == added && !yield(c.ofAddr(a)) {
				return
			}
		}
		for p, is := range pset.Diff(old.members.Ports, c.members.Ports) {
			if is == added && !yield(c.ofPort(p)) {
				return
			}
		}
	}
}
