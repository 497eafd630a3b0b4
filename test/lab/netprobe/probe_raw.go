package netprobe

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// defaultEchoSize is the payload of an ICMP echo without a size, in bytes.
	defaultEchoSize = 16
	echoHeaderLen   = 8
	// Source ports of SCTP probes: the range that Linux takes for others.
	firstPort = 32768
	portCount = 28232
)

// dialRaw opens a raw socket that receives the protocol's packets from the
// target alone, and ICMP errors about it.
func (a *attempt) dialRaw(ctx context.Context, protocol int) (*net.IPConn, func(), error) {
	dst := a.dst.Addr()
	network := ipNetwork(dst.Is6(), protocol)
	var local *net.IPAddr
	if src := a.opts.Source; src.IsValid() {
		local = &net.IPAddr{IP: src.AsSlice(), Zone: src.Zone()}
	}
	conn, err := net.DialIP(network, local, &net.IPAddr{IP: dst.AsSlice(), Zone: dst.Zone()})
	if err != nil {
		return nil, nil, err
	}
	done := func() { _ = conn.Close() }
	if err := enableOn(conn, dst.Is6(), enableErrors); err != nil {
		done()
		return nil, nil, err
	}
	stop, err := deadlineOf(ctx, conn)
	if err != nil {
		done()
		return nil, nil, err
	}
	return conn, func() { stop(); done() }, nil
}

// receive calls match with every packet, its IP header removed, until match
// says that it is the answer.
func receive(conn *net.IPConn, match func(packet []byte) (done bool, err error)) error {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := conn.ReadFromIP(buf)
		if err != nil {
			return err
		}
		if done, err := match(buf[:n]); done || err != nil {
			return err
		}
	}
}

// askSCTP sends an INIT and waits for the INIT-ACK that belongs to it.
func (a *attempt) askSCTP(ctx context.Context) error {
	conn, done, err := a.dialRaw(ctx, protoSCTP)
	if err != nil {
		return err
	}
	defer done()
	port, tag := uint16(firstPort+rand.IntN(portCount)), randomTag()
	a.result.Local = netip.AddrPortFrom(addrPortOf(conn.LocalAddr()).Addr(), port)
	init := sctpPacket{SrcPort: port, DstPort: a.target.Port, Chunk: chunkInit, InitTag: tag}
	if _, err := conn.Write(init.encode()); err != nil {
		return err
	}
	return receive(conn, func(data []byte) (bool, error) {
		p, err := parseSCTP(data)
		if err != nil || p.SrcPort != a.target.Port || p.DstPort != port {
			return false, nil // not for this probe
		}
		switch {
		case p.Chunk == chunkAbort && (p.Tag == tag || p.Tag == 0 && p.Flags&abortReflected != 0):
			return true, errAborted
		case p.Chunk == chunkInitAck && p.Tag == tag:
			var reply Reply
			if json.Unmarshal(p.Cookie, &reply) == nil {
				a.result.take(reply)
			}
			return true, nil
		}
		return false, nil
	})
}

// askICMP sends an echo request and waits for its reply.
func (a *attempt) askICMP(ctx context.Context) error {
	v6 := a.dst.Addr().Is6()
	protocol, requestType, replyType := unix.IPPROTO_ICMP, byte(8), byte(0)
	if v6 {
		protocol, requestType, replyType = unix.IPPROTO_ICMPV6, 128, 129
	}
	conn, done, err := a.dialRaw(ctx, protocol)
	if err != nil {
		return err
	}
	defer done()
	a.result.Local = addrPortOf(conn.LocalAddr())
	size := a.target.Size
	if size == 0 {
		size = defaultEchoSize
	}
	out := echo(requestType, rand.Uint32(), size, !v6)
	if _, err := conn.Write(out); err != nil {
		return err
	}
	return receive(conn, func(in []byte) (bool, error) {
		if len(in) < echoHeaderLen || in[0] != replyType || in[1] != 0 || !bytes.Equal(in[4:8], out[4:8]) {
			return false, nil // another one's, or the request itself on loopback
		}
		if !bytes.Equal(in[echoHeaderLen:], out[echoHeaderLen:]) {
			return true, fmt.Errorf("echo reply has %d bytes that differ from the %d sent", len(in)-echoHeaderLen, size)
		}
		a.result.Bytes = size
		return true, nil
	})
}

// echo builds an echo message; id is its identifier and sequence number. The
// kernel fills in the checksum for IPv6, for IPv4 it must be there.
func echo(kind byte, id uint32, size int, checksum bool) []byte {
	packet := make([]byte, echoHeaderLen+size)
	packet[0] = kind
	binary.BigEndian.PutUint32(packet[4:], id)
	for i := range packet[echoHeaderLen:] {
		packet[echoHeaderLen+i] = byte(i)
	}
	if checksum {
		binary.BigEndian.PutUint16(packet[2:], internetChecksum(packet))
	}
	return packet
}

// internetChecksum is the ones' complement sum of RFC 1071.
func internetChecksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(data[i])<<8 | uint32(data[i+1])
	}
	if len(data)%2 == 1 {
		sum += uint32(data[len(data)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
