package dataplanetest

import (
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

// nodeAddrs are the node's own addresses.
func nodeAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("10.3.0.1"), netip.MustParseAddr("fd00:3::1")}
}

// clientPort is the source port of all flows; no rule asks for it.
const clientPort = 40000

// flows is every flow of the small world that a State can be asked about: from
// every pod interface and from elsewhere, with every source that is possible
// there and some that are not, to every address by the way that is routed.
func flows(s *desired.State) []desired.Flow {
	routes := Routes(s)
	place := func(a netip.Addr) desired.Place {
		if slices.Contains(nodeAddrs(), a) {
			return desired.Place{Node: true}
		}
		if name := routes[netip.PrefixFrom(a, a.BitLen())]; name != "" {
			return desired.Place{Interface: name}
		}
		return desired.Place{}
	}
	var list []desired.Flow
	for _, f := range []desired.Family{desired.IPv4, desired.IPv6} {
		addrs := allAddrs(f)
		for _, a := range nodeAddrs() {
			if desired.FamilyOf(a) == f {
				addrs = append(addrs, a)
			}
		}
		for _, src := range addrs {
			for _, dst := range addrs {
				from, to := place(src), place(dst)
				if from.Node || from.Interface == to.Interface && src != dst {
					continue
				}
				list = appendPorts(list, desired.Flow{From: from, To: to, Src: src, Dst: dst})
			}
		}
	}
	return append(list, spoofed(s, list)...)
}

// spoofed is some of the flows as if they came from another pod.
func spoofed(s *desired.State, list []desired.Flow) []desired.Flow {
	var names []string
	for _, e := range s.Rules.Endpoints {
		names = append(names, e.Interface.Name)
	}
	for _, u := range s.Rules.Unknown {
		names = append(names, u.Name)
	}
	var out []desired.Flow
	for i := 0; i < len(list) && len(names) > 0; i += 5 {
		f := list[i]
		if name := names[i%len(names)]; name != f.From.Interface && name != f.To.Interface {
			f.From = desired.Place{Interface: name}
			out = append(out, f)
		}
	}
	return out
}

func appendPorts(list []desired.Flow, f desired.Flow) []desired.Flow {
	for _, p := range []struct {
		protocol model.Protocol
		port     uint16
	}{{model.TCP, 80}, {model.TCP, 443}, {model.TCP, 8080}, {model.UDP, 80}, {model.UDP, 53}, {47, 0}} {
		f.Protocol, f.DstPort, f.SrcPort = p.protocol, p.port, 0
		if p.port != 0 {
			f.SrcPort = clientPort
		}
		list = append(list, f)
	}
	return list
}

// packet is the first packet of a flow.
func packet(f desired.Flow) Packet {
	p := Packet{
		In: f.From.Interface, Out: f.To.Interface, Src: f.Src, Dst: f.Dst,
		Protocol: f.Protocol, SrcPort: f.SrcPort, DstPort: f.DstPort, HopLimit: 63,
	}
	if p.In == "" {
		p.In = Uplink
	}
	if p.Out == "" && !f.To.Node {
		p.Out = Uplink
	}
	return p
}

// connection is the flow as it is tracked once it has been answered.
func connection(f desired.Flow, mark uint32) Conn {
	src, dst := netip.AddrPortFrom(f.Src, f.SrcPort), netip.AddrPortFrom(f.Dst, f.DstPort)
	return Conn{Protocol: f.Protocol, Src: src, Dst: dst, Real: dst, Mark: mark, Replied: true}
}

// consistent tells whether both ends are where their addresses are routed to, so
// that the answer comes back the way of the flow.
func consistent(k *Kernel, f desired.Flow) bool {
	p := packet(f)
	return k.Route(f.Src) == p.In && k.Route(f.Dst) == p.Out
}

// between is what may and what must pass while States are being exchanged for
// one another, of which any may be half there.
type between struct {
	states []*desired.State
	// more and less are each of the States with the members that any, and that
	// all of them have. In more any source is good: the routes decide about it,
	// and they are there before a State knows them.
	more, less []*desired.State
	moved      map[netip.Addr]bool // addresses that may have another owner in one of them
}

func newBetween(states []*desired.State) *between {
	b := &between{states: states, moved: map[netip.Addr]bool{}}
	first := states[0]
	for _, s := range states {
		b.more = append(b.more, anySource(mixed(s, states, true)))
		b.less = append(b.less, mixed(s, states, false))
		for a, gen := range s.Released.All() {
			if gen > first.Gen {
				b.moved[a] = true
			}
		}
	}
	return b
}

// mixed is a State with the members that any or that all of some States have.
func mixed(s *desired.State, states []*desired.State, any bool) *desired.State {
	m := *s
	m.Sets = pset.Map[desired.SetID, desired.Members]{}
	for id, members := range s.Sets.All() {
		for _, o := range states {
			if other, ok := o.Sets.Get(id); ok {
				members = merged(members, other, any)
			}
		}
		m.Sets = m.Sets.With(id, members)
	}
	return &m
}

// anySource is a State in which the source check lets everything pass.
func anySource(s *desired.State) *desired.State {
	rules := *s.Rules
	rules.Exceptions = nil
	for _, name := range interfaceNames() {
		for _, all := range []string{"0.0.0.0/0", "::/0"} {
			rules.Exceptions = append(rules.Exceptions, desired.Exception{Interface: name, Prefix: netip.MustParsePrefix(all)})
		}
	}
	changed := *s
	changed.Rules = &rules
	return &changed
}

// touched is the addresses that are not in the same sets in all States.
func (b *between) touched() map[netip.Addr]bool {
	t := map[netip.Addr]bool{}
	for _, s := range b.states[1:] {
		for c := range pset.DiffMap(b.states[0].Sets, s.Sets) {
			if !c.HadOld || !c.HasNew {
				continue
			}
			for a := range pset.Diff(c.Old.Addrs, c.New.Addrs) {
				t[a] = true
			}
			for p := range pset.Diff(c.Old.Ports, c.New.Ports) {
				t[p.Addr()] = true
			}
		}
	}
	return t
}

// goodSource tells whether the source check may let a flow pass.
func (b *between) goodSource(k *Kernel, f desired.Flow) bool {
	return f.From.Interface == "" || k.Route(f.Src) == f.From.Interface ||
		slices.ContainsFunc(b.states, func(s *desired.State) bool {
			return slices.ContainsFunc(s.Rules.Excepted(f.From.Interface), func(e desired.Exception) bool {
				return e.Prefix.Contains(f.Src)
			})
		})
}

func merged(a, b desired.Members, any bool) desired.Members {
	return desired.Members{Addrs: mergedSet(a.Addrs, b.Addrs, any), Ports: mergedSet(a.Ports, b.Ports, any)}
}

func mergedSet[K comparable](a, b pset.Set[K], any bool) pset.Set[K] {
	for k := range b.All() {
		if any {
			a = a.With(k)
		}
	}
	for k := range a.All() {
		if !any && !b.Has(k) {
			a = a.Without(k)
		}
	}
	return a
}

// may tells whether a flow may pass: one State allows it or, as the two pods of
// a flow are not changed at one moment, one lets it go and one lets it come. One
// whose members are not those of its rules is a State too that could have been.
func (b *between) may(k *Kernel, f desired.Flow) bool {
	if !b.goodSource(k, f) {
		return false
	}
	if allowedByAny(b.more, f) {
		return true
	}
	out, in := f, f
	out.To, in.From = desired.Place{}, desired.Place{}
	return f.From.Interface != f.To.Interface && !f.To.Node && allowedByAny(b.more, out) && allowedByAny(b.more, in)
}

func allowedByAny(states []*desired.State, f desired.Flow) bool {
	return slices.ContainsFunc(states, func(s *desired.State) bool { return s.Verdict(f).Allowed })
}

func allowedByAll(states []*desired.State, f desired.Flow) bool {
	return !slices.ContainsFunc(states, func(s *desired.State) bool { return !s.Verdict(f).Allowed })
}

// must tells whether a flow, new or not, has to pass all the time. If members
// alone differ, each State has to allow it, unless one of its addresses may have
// another owner: that one may be in no set for a moment. If rules differ too, it
// counts only what has not moved between sets: members and rules cannot be
// changed in one transaction, and what left a set must not wait for the rules.
func (b *between) must(f desired.Flow) bool {
	rules := slices.ContainsFunc(b.states, func(s *desired.State) bool { return s.Rules != b.states[0].Rules })
	if rules || b.moved[f.Src] || b.moved[f.Dst] {
		return allowedByAll(b.less, f)
	}
	return allowedByAll(b.states, f)
}
