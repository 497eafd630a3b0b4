package desired

import (
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/model"
)

// icmp6 is the protocol of neighbour and router discovery and MLD.
const icmp6 model.Protocol = 58

// Verdict is what a State means: whether a flow that crosses the node passes,
// and every check on the way. It is of the connection's original direction;
// replies and related ICMP errors of a flow that passes pass with it (semantics
// 2.8) and have no Verdict of their own.
//
// Interfaces decide, not addresses: where a flow comes from is whose egress it
// is, where it goes to is whose ingress. The addresses are asked for only where
// a rule names peers, and once for the source (semantics 2.14). They are as
// packets have them: without zone, IPv4 never mapped into IPv6.
//
// Neighbour discovery from an address routed to the interface, which a Flow
// cannot tell from other ICMPv6 to the node, passes whatever is said here.
func (s *State) Verdict(f Flow) Verdict {
	const most = 3 // checks: the source's two, the destination's
	j := judge{State: s, flow: f, trail: make([]Check, 0, most)}
	allowed := j.passes()
	return Verdict{Allowed: allowed, Trail: j.trail}
}

type judge struct {
	*State
	flow  Flow
	trail []Check
}

// check notes a check and tells how it went.
func (j *judge) check(c Check) bool {
	j.trail = append(j.trail, c)
	return c.Allowed
}

func (j *judge) passes() bool {
	from, to := j.flow.From, j.flow.To
	if from.Interface != "" && !j.source() {
		return false
	}
	switch {
	case from.Interface == "" && to.Interface == "":
		return j.check(Check{Kind: CheckForeign, Allowed: true, Rule: -1})
	case from.Interface == "" && from.Node:
		return j.check(Check{
			Kind: CheckOwnNode, Endpoint: j.Rules.Endpoint(to.Interface), Interface: to.Interface, Allowed: true, Rule: -1,
		})
	case to.Interface == "" && to.Node && (!j.Rules.OwnNodeEgress || j.discovery()):
		return j.check(Check{
			Kind: CheckOwnNode, Endpoint: j.Rules.Endpoint(from.Interface), Interface: from.Interface, Allowed: true, Rule: -1,
		})
	case from.Interface == to.Interface:
		// Of an interface without a pod nothing says that it is a pod's own.
		if e := j.Rules.Endpoint(from.Interface); e != nil {
			return j.check(Check{Kind: CheckSelf, Endpoint: e, Interface: from.Interface, Allowed: true, Rule: -1})
		}
	}
	return (from.Interface == "" || j.side(CheckEgress, from.Interface)) &&
		(to.Interface == "" || j.side(CheckIngress, to.Interface))
}

// source checks that the source address is routed to the interface, or excepted.
// It holds for pods without policy, for interfaces without a known pod and
// towards the node too.
func (j *judge) source() bool {
	name := j.flow.From.Interface
	c := Check{Kind: CheckSource, Endpoint: j.Rules.Endpoint(name), Interface: name, Rule: -1}
	var routed []netip.Addr
	if c.Endpoint != nil {
		routed = c.Endpoint.Interface.Addrs
	} else if u := j.Rules.UnknownAt(name); u != nil {
		routed = u.Addrs
	}
	c.Allowed = slices.Contains(routed, j.flow.Src) || j.linkSource() ||
		slices.ContainsFunc(j.Rules.Excepted(name), func(e Exception) bool { return e.Prefix.Contains(j.flow.Src) })
	return j.check(c)
}

// linkSource tells whether the flow is one to the node itself from an address
// that is good on the link only. Such packets are never forwarded.
func (j *judge) linkSource() bool {
	to, src := j.flow.To, j.flow.Src
	return to.Node && to.Interface == "" && src.Is6() && (src.IsLinkLocalUnicast() || src.IsUnspecified())
}

// discovery tells whether what a pod sends to its node keeps the link working
// (semantics 2.8): ICMPv6 only, for a node's daemons listen on the link too.
func (j *judge) discovery() bool { return j.linkSource() && j.flow.Protocol == icmp6 }

// side checks one direction of what is behind a pod interface.
func (j *judge) side(kind CheckKind, name string) bool {
	e := j.Rules.Endpoint(name)
	if e == nil {
		u := j.Rules.UnknownAt(name)
		allowed := !j.Rules.Protected || u != nil && u.Grandfathered
		return j.check(Check{Kind: CheckUnknown, Interface: name, Allowed: allowed, Rule: -1})
	}
	side, peer := e.Ingress, j.flow.Src
	if kind == CheckEgress {
		side, peer = e.Egress, j.flow.Dst
	}
	c := Check{Kind: kind, Endpoint: e, Interface: name, Side: side, Allowed: side == nil, Rule: -1}
	if side != nil {
		c.Rule = slices.IndexFunc(side.List.Rules, func(r Rule) bool { return j.matches(r, peer) })
		c.Allowed = c.Rule >= 0
	}
	return j.check(c)
}

// matches tells whether a rule allows the flow, whose other side is peer.
func (j *judge) matches(r Rule, peer netip.Addr) bool {
	port := j.flow.DstPort
	switch {
	case r.Family != AnyFamily && r.Family != FamilyOf(peer),
		r.Protocol != 0 && r.Protocol != j.flow.Protocol,
		!r.AllPorts() && (port < r.First || port > r.Last):
		return false
	case r.Peer.Block.IsValid():
		return r.Peer.Block.Contains(peer)
	case r.Peer.Set != "" || r.Peer.Not:
		// Not in a set that does not exist is no reason to allow anything.
		spec, ok := j.Rules.set(r.Peer.Set)
		return ok && j.inSet(spec, peer, port) != r.Peer.Not
	}
	return true
}
