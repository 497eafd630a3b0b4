package netprobe

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A server on all addresses must answer from the one that was asked: the
// kernel tells which with every datagram, and takes it back with the answer.

// enablePacketInfo asks the kernel for it on a socket of either family.
func enablePacketInfo(conn syscall.RawConn, v6 bool) error {
	level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
	if v6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}
	return setsockopt(conn, level, option)
}

// enableErrors makes ICMP errors of every kind, also those that the kernel
// holds for transient, end a blocked read.
func enableErrors(conn syscall.RawConn, v6 bool) error {
	level, option := unix.IPPROTO_IP, unix.IP_RECVERR
	if v6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	return setsockopt(conn, level, option)
}

// setsockopt switches a socket option on.
func setsockopt(conn syscall.RawConn, level, option int) error {
	var optErr error
	if err := conn.Control(func(fd uintptr) { optErr = unix.SetsockoptInt(int(fd), level, option, 1) }); err != nil {
		return fmt.Errorf("reach socket: %w", err)
	}
	if optErr != nil {
		return fmt.Errorf("set socket option %d of level %d: %w", option, level, optErr)
	}
	return nil
}

// packetInfoSpace is the room for one such control message of either family.
func packetInfoSpace() int { return unix.CmsgSpace(unix.SizeofInet6Pktinfo) }

// packetInfo gives the address that a received datagram was sent to and the
// control message that makes an answer leave from there.
func packetInfo(oob []byte) (dst netip.Addr, answer []byte, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, nil, fmt.Errorf("parse control messages: %w", err)
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&m.Data[0]))
			// Without the interface: the way back is the routing table's to choose.
			return netip.AddrFrom4(info.Spec_dst), unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: info.Spec_dst}), nil
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&m.Data[0]))
			dst := netip.AddrFrom16(info.Addr)
			back := &unix.Inet6Pktinfo{Addr: info.Addr}
			if dst.IsLinkLocalUnicast() {
				back.Ifindex = info.Ifindex // such an address means nothing without it
			}
			return dst, unix.PktInfo6(back), nil
		}
	}
	return netip.Addr{}, nil, fmt.Errorf("no destination among %d control messages", len(messages))
}

// stripIPv4 removes the header that raw IPv4 sockets deliver with a packet.
func stripIPv4(packet []byte) []byte {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return nil
	}
	length := int(packet[0]&0xf) * 4
	if length < 20 || length > len(packet) {
		return nil
	}
	return packet[length:]
}

// addrOf converts a raw socket's address; IPv4 in its short form.
func addrOf(a *net.IPAddr) netip.Addr {
	addr, ok := netip.AddrFromSlice(a.IP)
	if !ok {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone(a.Zone)
}
