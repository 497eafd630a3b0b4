package iptables

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// Packet is a packet of a connection, as Trace takes it.
type Packet struct {
	// Flow is the connection, in its original direction.
	Flow desired.Flow
	// Reply: the packet goes the other way, and belongs to a connection that
	// has been tracked. It passes or not as the connection does.
	Reply bool
	// Related: it is an ICMP error about the connection.
	Related bool
	// Current: the connection has been judged in this generation.
	Current bool
}

// Path is the way of a Packet through the chains.
type Path struct {
	Allowed bool
	// Table, Chain and Rule are the last rule that has let it pass or dropped
	// it, as text with generation 1; empty if there was none about it.
	Table, Chain, Rule string
	// Chains are those that it went through, in order, our own only.
	Chains []Step
	// Sets are what was asked of sets, in order.
	Sets []Asked
}

// Step is a chain on a Path.
type Step struct {
	Table, Chain string
}

// Asked is a question to a set.
type Asked struct {
	Set  desired.SetID
	Addr netip.Addr
	// Port and Protocol of a set of kind AddressPorts, else 0.
	Port     uint16
	Protocol model.Protocol
	Member   bool
}

// Trace walks the rules with a packet, one by one, as the kernel does: what the
// rules do and not what they are meant to. The source check is asked about the
// packet, so that of a reply it is about where the reply comes from.
func (p *Program) Trace(pk Packet) Path {
	t := tracer{program: p, packet: pk, flow: pk.Flow}
	if pk.Reply {
		t.flow = reversed(pk.Flow)
	}
	t.family = desired.FamilyOf(t.flow.Dst)
	t.set = p.Family(t.family)
	t.path.Allowed = t.set == nil || t.walk()
	return t.path
}

func reversed(f desired.Flow) desired.Flow {
	f.From, f.To = f.To, f.From
	f.Src, f.Dst = f.Dst, f.Src
	f.SrcPort, f.DstPort = f.DstPort, f.SrcPort
	return f
}

type tracer struct {
	program *Program
	packet  Packet
	flow    desired.Flow // the packet's own
	family  desired.Family
	set     *Ruleset
	path    Path
}

// outcome is how a chain ends for a packet.
type outcome uint8

const (
	comesBack outcome = iota
	isDropped
)

// walk takes the packet through the hooks of the kernel where rules are.
func (t *tracer) walk() bool {
	from, to := t.flow.From, t.flow.To
	switch {
	case from.Node:
		return true // OUTPUT has no rules of ours
	case t.chain(tableRaw, chainSource, t.set.raw) == isDropped:
		return false
	case to.Node:
		_, hooked := t.set.mangle[chainInput]
		return !hooked || t.chain(tableMangle, chainInput, t.set.mangle) != isDropped
	case from.Interface != "" && linkLocal(t.flow.Src):
		// Good on the link only: the kernel never forwards it.
		return false
	}
	return t.chain(tableMangle, chainForward, t.set.mangle) != isDropped
}

func linkLocal(a netip.Addr) bool {
	return a.Is6() && (a.IsLinkLocalUnicast() || a.IsUnspecified())
}

func (t *tracer) chain(table, name string, all chains) outcome {
	t.path.Chains = append(t.path.Chains, Step{table, name})
	for _, r := range all[name].rules {
		if !t.matches(r) {
			continue
		}
		switch r.does {
		case returns, drops:
			t.path.Table, t.path.Chain = table, name
			t.path.Rule = r.text(t.program.cfg.mark(1))
			if r.does == drops {
				return isDropped
			}
			return comesBack
		case jumps:
			if t.chain(table, r.chain, all) == isDropped {
				return isDropped
			}
		case goesTo:
			// What comes back from there comes back to who called this chain.
			return t.chain(table, r.chain, all)
		case marks:
		}
	}
	return comesBack
}

func (t *tracer) matches(r rule) bool {
	switch f := t.flow; {
	case r.src.IsValid() && !r.src.Contains(f.Src),
		r.dst.IsValid() && !r.dst.Contains(f.Dst),
		!r.in.matches(f.From.Interface),
		!r.out.matches(f.To.Interface),
		r.protocol != 0 && r.protocol != f.Protocol,
		!r.sport.matches(f.SrcPort),
		!r.dport.matches(f.DstPort),
		r.icmp6Type != 0 && !linkLocal(f.Src), // a Flow has no type: see Packet
		r.set.id != "" && t.asks(r.set) == r.set.not,
		r.state == related && !t.packet.Related,
		r.state == reply && (!t.packet.Reply || t.packet.Related),
		r.current && !t.packet.Current,
		r.spoofed && !t.spoofed():
		return false
	}
	return true
}

func (i ifMatch) matches(name string) bool {
	switch {
	case i.name == "":
		return true
	case i.wild:
		return strings.HasPrefix(name, i.name) != i.not
	}
	return (name == i.name) != i.not
}

func (p portRange) matches(port uint16) bool {
	return p == (portRange{}) || p.first <= port && port <= p.last
}

func (t *tracer) asks(s setMatch) bool {
	a := Asked{Set: s.id, Addr: t.flow.Src}
	if s.address == destination {
		a.Addr = t.flow.Dst
	}
	if s.port != noSide {
		a.Port, a.Protocol = t.flow.SrcPort, t.flow.Protocol
		if s.port == destination {
			a.Port = t.flow.DstPort
		}
	}
	a.Member = t.program.State.InSet(s.id, a.Addr, a.Port) && (s.port == noSide || a.Protocol == s.elements)
	t.path.Sets = append(t.path.Sets, a)
	return a.Member
}

// spoofed is the rpfilter match: the way back to the source is not the
// interface. Of a pod interface that is its host routes, and on the link itself
// all that is good on the link.
func (t *tracer) spoofed() bool {
	if linkLocal(t.flow.Src) {
		return false
	}
	rules, name := t.program.State.Rules, t.flow.From.Interface
	if e := rules.Endpoint(name); e != nil {
		return !slices.Contains(e.Interface.Addrs, t.flow.Src)
	}
	if u := rules.UnknownAt(name); u != nil {
		return !slices.Contains(u.Addrs, t.flow.Src)
	}
	return true
}
