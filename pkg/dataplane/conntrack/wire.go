package conntrack

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/dataplane/nfnl"
)

// Commands and attributes of include/uapi/linux/netfilter/nfnetlink_conntrack.h,
// and the bits of a filter, which are in the kernel's nf_internals.h only.
const (
	cmdNew      = 0
	cmdGet      = 1
	cmdDelete   = 2
	cmdGetStats = 5

	attrTupleOrig  = 1
	attrTupleReply = 2
	attrMark       = 8
	attrID         = 12
	attrZone       = 18
	attrMarkMask   = 21
	attrFilter     = 25

	tupleIP = 1

	ipV4Source = 1
	ipV6Source = 3

	filterOrigFlags  = 1
	filterReplyFlags = 2

	filterSource = 1 << 0
)

// direction is which tuple of a connection is looked at.
type direction uint8

const (
	original direction = iota
	reply
)

// entry is a connection as far as it matters here. The slices are parts of the
// message that it was read from.
type entry struct {
	// tuple is that of the original direction, as the kernel wrote it, and with
	// it the zone, if it is not the default one: they name the connection.
	tuple, zone []byte
	// id tells one connection from a later one of the same tuple.
	id []byte
	// source is the original source, target the reply's source: the real
	// destination.
	source, target netip.Addr
	mark           uint32
}

func decode(b []byte) entry {
	var e entry
	for kind, v := range nfnl.Attrs(b) {
		switch kind {
		case attrTupleOrig:
			e.tuple, e.source = v, tupleSource(v)
		case attrTupleReply:
			e.target = tupleSource(v)
		case attrMark:
			e.mark = nfnl.Uint32(v)
		case attrZone:
			e.zone = v
		case attrID:
			e.id = v
		}
	}
	return e
}

func tupleSource(b []byte) netip.Addr {
	for kind, v := range nfnl.Attrs(b) {
		if kind != tupleIP {
			continue
		}
		for kind, v := range nfnl.Attrs(v) {
			switch {
			case kind == ipV4Source && len(v) == 4:
				return netip.AddrFrom4([4]byte(v))
			case kind == ipV6Source && len(v) == 16:
				return netip.AddrFrom16([16]byte(v))
			}
		}
	}
	return netip.Addr{}
}

// name writes what names a connection in a request. Without a tuple the kernel
// would take the request for one about all connections.
func (e entry) name(b *nfnl.Batch) {
	b.Bytes(attrTupleOrig|unix.NLA_F_NESTED, e.tuple)
	if e.zone != nil {
		b.Bytes(attrZone, e.zone)
	}
}

// resetMark sets the bits of mask to 0. The kernel does it under its lock, so
// that the other bits stay whatever they are by then.
func (e entry) resetMark(b *nfnl.Batch, family uint8, mask uint32) {
	b.Begin(nfnl.Conntrack, cmdNew, 0, family)
	e.name(b)
	b.Uint32(attrMark, 0)
	b.Uint32(attrMarkMask, mask)
	b.End()
}

func (e entry) remove(b *nfnl.Batch, family uint8) {
	b.Begin(nfnl.Conntrack, cmdDelete, 0, family)
	e.name(b)
	if e.id != nil {
		b.Bytes(attrID, e.id)
	}
	b.End()
}

// dump asks for all connections of a family or, with an address, for those with
// that source in the given direction: of IPv4, and as far as the kernel knows how
// to, which it does from Linux 5.8 on.
func dump(b *nfnl.Batch, family uint8, d direction, source netip.Addr) {
	b.Begin(nfnl.Conntrack, cmdGet, unix.NLM_F_DUMP, family)
	if source.IsValid() {
		tuple, flags := uint16(attrTupleOrig), uint16(filterOrigFlags)
		if d == reply {
			tuple, flags = attrTupleReply, filterReplyFlags
		}
		at := b.Nest(tuple)
		ip := b.Nest(tupleIP)
		if source.Is4() {
			a := source.As4()
			b.Bytes(ipV4Source, a[:])
		} else {
			a := source.As16()
			b.Bytes(ipV6Source, a[:])
		}
		b.Close(ip)
		b.Close(at)
		filter := b.Nest(attrFilter)
		b.Native32(flags, filterSource)
		b.Close(filter)
	}
	b.End()
}
