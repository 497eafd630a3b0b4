package index

import (
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
	"github.com/overland-net/overland/pkg/selector"
)

// PortQuery asks for a named port: which addresses have it, and at which number.
// What answers are the pods that match Selector and have a port of that name and
// protocol, with each address that they own and each number that their
// containers give to the name (semantics 2.9). Nodes have no ports.
type PortQuery struct {
	Selector selector.Selector
	Port     string // its name
	Protocol model.Protocol
}

// portName is a named port without its number.
type portName struct {
	name     string
	protocol model.Protocol
}

func nameOf(p model.NamedPort) portName { return portName{p.Name, p.Protocol} }

// portSet is the answer to a PortQuery, kept beside the members of its selector.
type portSet struct {
	of     *tracked
	name   portName
	v4, v6 growingSet[netip.AddrPort]
	dirty  bool
}

func (p *portSet) query() PortQuery {
	return PortQuery{p.of.matcher.Selector(), p.name.name, p.name.protocol}
}

func (p *portSet) set(a netip.AddrPort) *growingSet[netip.AddrPort] {
	if a.Addr().Is4() {
		return &p.v4
	}
	return &p.v6
}

func (p *portSet) has(a netip.AddrPort) bool { return p.set(a).has(a) }

func (p *portSet) editor(a netip.AddrPort) *pset.SetEditor[netip.AddrPort] { return p.set(a).editor() }

func (x *Index) touchPorts(p *portSet) {
	x.changed = true
	if !p.dirty {
		p.dirty = true
		x.dirty.ports = append(x.dirty.ports, p)
	}
}

// TrackPorts keeps the answer to a query from now on. To track what is tracked
// changes nothing. A selector that is tracked too, or by several queries, is
// registered and evaluated once for all of them.
func (x *Index) TrackPorts(q PortQuery) {
	name := portName{q.Port, q.Protocol}
	t := x.tracked[q.Selector]
	if t != nil && t.ports[name] != nil {
		return
	}
	known := t != nil
	if !known {
		t = x.newTracked(q.Selector)
	}
	if t.ports == nil {
		t.ports = map[portName]*portSet{}
	}
	p := &portSet{of: t, name: name}
	t.ports[name] = p
	x.mentioned.ports[name]++
	x.touchPorts(p)
	if known && t.plain {
		x.fillPortsFromMembers(t, p)
		return
	}
	x.fillAll(t, !known, func(n uint32) { x.fillPorts(t, p, n) })
}

// UntrackPorts forgets the answer to a query.
func (x *Index) UntrackPorts(q PortQuery) {
	name := portName{q.Port, q.Protocol}
	t := x.tracked[q.Selector]
	if t == nil || t.ports[name] == nil {
		return
	}
	x.changed = true
	x.ports.delete(q)
	delete(t.ports, name)
	if len(t.ports) == 0 {
		t.ports = nil
	}
	forget(x.mentioned.ports, name)
	x.sweepTracked(t)
}

// fillPortsFromMembers fills a new set from the members of its selector, which
// need not be evaluated again.
func (x *Index) fillPortsFromMembers(t *tracked, p *portSet) {
	for _, members := range []pset.Set[netip.Addr]{t.v4.freeze(), t.v6.freeze()} {
		for a := range members.All() {
			e, _ := x.owners.get(a)
			p.add(ports(e), a)
		}
	}
}

// fillPorts adds what an endpoint owns to a new set, if it has the port and
// matches.
func (x *Index) fillPorts(t *tracked, p *portSet, n uint32) {
	s, e := x.spaceAt(n), x.slots[n].entry
	has := slices.ContainsFunc(ports(e), func(port model.NamedPort) bool { return nameOf(port) == p.name })
	owned := e.owned(&x.work.afterBuffer)
	if !has || len(owned) == 0 {
		return
	}
	x.work.subject = subject(e.Endpoint, s.cluster.labels, s.fact)
	if !x.matches(t) {
		return
	}
	for _, a := range owned {
		p.add(ports(e), a)
	}
}

// add adds an address with those of its owner's ports that have the name.
func (p *portSet) add(of []model.NamedPort, a netip.Addr) {
	for _, port := range of {
		if nameOf(port) == p.name {
			pair := netip.AddrPortFrom(a, port.Port)
			p.editor(pair).Add(pair)
		}
	}
}

// ports are the named ports of an endpoint, which may be nil.
func ports(e *Entry) []model.NamedPort {
	if e == nil || e.Key.Kind != model.KindPod {
		return nil
	}
	return e.Ports
}

// asked tells whether any query is for one of the ports.
func (x *Index) asked(of []model.NamedPort) bool {
	return len(x.mentioned.ports) > 0 &&
		slices.ContainsFunc(of, func(p model.NamedPort) bool { return x.mentioned.ports[nameOf(p)] > 0 })
}

// answers tells whether any of the ports is asked for with this selector.
func (t *tracked) answers(of []model.NamedPort) bool {
	return len(t.ports) > 0 &&
		slices.ContainsFunc(of, func(p model.NamedPort) bool { return t.ports[nameOf(p)] != nil })
}

// movePorts changes the answers to queries of a selector by the addresses in
// work and the ports before and after; is tells whether the endpoint matches now.
// A pair with an address that it had is in a set because of it: what another
// endpoint adds waits until everything is removed.
func (x *Index) movePorts(t *tracked, before, after []model.NamedPort, is bool) {
	w := &x.work
	for _, port := range before {
		p := t.ports[nameOf(port)]
		if p == nil {
			continue
		}
		stays := is && slices.Contains(after, port)
		for _, a := range w.before {
			pair := netip.AddrPortFrom(a, port.Port)
			if (!stays || !slices.Contains(w.after, a)) && p.has(pair) {
				x.touchPorts(p)
				p.editor(pair).Remove(pair)
			}
		}
	}
	if !is {
		return
	}
	for _, port := range after {
		p := t.ports[nameOf(port)]
		if p == nil {
			continue
		}
		for _, a := range w.after {
			pair := netip.AddrPortFrom(a, port.Port)
			if !slices.Contains(w.before, a) || !p.has(pair) {
				x.touchPorts(p)
				w.portAdditions = append(w.portAdditions, portAddition{p, pair})
			}
		}
	}
}
