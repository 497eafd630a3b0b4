package dataplanetest

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// The states of a packet, as iptables calls them.
const (
	stateInvalid     = "INVALID"
	stateNew         = "NEW"
	stateRelated     = "RELATED"
	stateEstablished = "ESTABLISHED"
	stateUntracked   = "UNTRACKED"
)

type tuple struct {
	protocol model.Protocol
	src, dst netip.AddrPort
}

// Conn is a tracked connection.
type Conn struct {
	Protocol model.Protocol
	// Src sent the first packet, to Dst; Real is where that went, the same but
	// behind a Service.
	Src, Dst, Real netip.AddrPort
	Mark           uint32
	// Replied: there was an answer.
	Replied bool
}

func (c *Conn) original() tuple { return tuple{c.Protocol, c.Src, c.Dst} }
func (c *Conn) answer() tuple   { return tuple{c.Protocol, c.Real, c.Src} }

// tracker is the kernel's connection tracking.
type tracker struct {
	conns map[tuple]*Conn // by both tuples
	dnat  map[tuple]netip.AddrPort
	dry   bool // nothing is kept
}

// get is the connection of a packet; a copy, if nothing is to be kept.
func (t *tracker) get(key tuple) *Conn {
	c := t.conns[key]
	if c == nil || !t.dry {
		return c
	}
	copied := *c
	return &copied
}

func (t *tracker) add(c *Conn) {
	if t.dry {
		return
	}
	if t.conns == nil {
		t.conns = map[tuple]*Conn{}
	}
	t.conns[c.original()] = c
	t.conns[c.answer()] = c
}

// find gives the walk its connection: one that is there, or a new one, which
// is kept only if the packet passes. The destination is translated.
func (t *tracker) find(w *walk) (isNew bool) {
	p := &w.packet
	switch {
	case w.untracked:
		w.state = stateUntracked
		return false
	case p.Invalid:
		w.state = stateInvalid
		return false
	case p.Error != nil:
		key := p.Error.tuple()
		w.conn = t.get(key)
		w.state = stateRelated
		if w.conn == nil {
			w.state = stateInvalid
			return false
		}
		// An error about a packet goes in the other direction.
		w.reply = key == w.conn.original()
		return false
	}
	key := p.tuple()
	c := t.get(key)
	if c == nil {
		c = &Conn{Protocol: p.Protocol, Src: key.src, Dst: key.dst, Real: key.dst}
		if real, ok := t.dnat[tuple{protocol: p.Protocol, dst: key.dst}]; ok {
			c.Real = real
		}
		isNew = true
	}
	w.conn, w.reply = c, key != c.original()
	if w.reply {
		c.Replied = true
	} else {
		p.Dst, p.DstPort = c.Real.Addr(), c.Real.Port()
	}
	w.state = stateNew
	if c.Replied {
		w.state = stateEstablished
	}
	return isNew
}

// change is iptables.Kernel.Flows, as far as most connections.
func (t *tracker) change(c iptables.FlowChange, most int) (int, error) {
	n := 0
	for key, conn := range maps.Clone(t.conns) {
		if key != conn.original() || desired.FamilyOf(conn.Src.Addr()) != c.Family {
			continue
		}
		if !c.All && !slices.Contains(c.Addrs, conn.Src.Addr()) && !slices.Contains(c.Addrs, conn.Real.Addr()) {
			continue
		}
		if n == most {
			return n, errCutShort
		}
		n++
		if c.Op == iptables.DeleteFlows {
			delete(t.conns, conn.original())
			delete(t.conns, conn.answer())
			continue
		}
		conn.Mark &^= c.Mask
	}
	return n, nil
}

// Connections are those that are tracked, in no order.
func (k *Kernel) Connections() []Conn {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []Conn
	for key, c := range k.tracker.conns {
		if key == c.original() {
			list = append(list, *c)
		}
	}
	return list
}

// Track puts a connection there as if it had come about.
func (k *Kernel) Track(c Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tracker.add(&c)
}

// Flush forgets all connections.
func (k *Kernel) Flush() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tracker.conns = nil
}

// Translate makes vip a Service with one backend.
func (k *Kernel) Translate(p model.Protocol, vip, backend netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tracker.dnat == nil {
		k.tracker.dnat = map[tuple]netip.AddrPort{}
	}
	k.tracker.dnat[tuple{protocol: p, dst: vip}] = backend
}
