package node

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// parseLink reads an RTM_NEWLINK or RTM_DELLINK; ok is false if it is about a
// bridge's ports, and not about the link itself.
func parseLink(data []byte) (l link, ok bool, err error) {
	if len(data) < unix.SizeofIfInfomsg {
		return link{}, false, fmt.Errorf("netlink: a link's message of %d bytes is too short", len(data))
	}
	info := nl.DeserializeIfInfomsg(data)
	if info.Family != unix.AF_UNSPEC {
		return link{}, false, nil
	}
	l = link{index: int(info.Index), up: info.Flags&unix.IFF_UP != 0}
	attrs, err := nl.ParseRouteAttr(data[unix.SizeofIfInfomsg:])
	if err != nil {
		return link{}, false, fmt.Errorf("netlink: read the attributes of link %d: %w", l.index, err)
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_IFNAME {
			l.name = unix.ByteSliceToString(a.Value)
		}
	}
	return l, l.name != "", nil
}

// parseRoute reads an RTM_NEWROUTE or RTM_DELROUTE; ok is false if it is no
// route to a host in the main table that is of interest here.
func parseRoute(data []byte) (r route, ok bool, err error) {
	if len(data) < unix.SizeofRtMsg {
		return route{}, false, fmt.Errorf("netlink: a route's message of %d bytes is too short", len(data))
	}
	msg := nl.DeserializeRtMsg(data)
	bits := uint8(32)
	if msg.Family == unix.AF_INET6 {
		bits = 128
	}
	if (msg.Family != unix.AF_INET && msg.Family != unix.AF_INET6) || msg.Dst_len != bits ||
		msg.Type != unix.RTN_UNICAST || msg.Flags&unix.RTM_F_CLONED != 0 || msg.Tos != 0 {
		return route{}, false, nil
	}
	attrs, err := nl.ParseRouteAttr(data[unix.SizeofRtMsg:])
	if err != nil {
		return route{}, false, fmt.Errorf("netlink: read the attributes of a route: %w", err)
	}
	table := uint32(msg.Table)
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_DST:
			r.addr, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_OIF:
			r.link = int(number(a.Value))
		case unix.RTA_PRIORITY:
			r.metric = number(a.Value)
		case unix.RTA_TABLE:
			table = number(a.Value)
		}
	}
	ok = table == unix.RT_TABLE_MAIN && r.addr.IsValid() && !r.addr.IsLinkLocalUnicast() && !r.addr.IsMulticast()
	return r, ok, nil
}

// number reads an attribute of 32 bits, in the machine's byte order.
func number(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}
