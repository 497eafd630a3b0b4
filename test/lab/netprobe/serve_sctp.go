package netprobe

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// ipNetwork names a raw socket of a protocol for package net.
func ipNetwork(v6 bool, protocol int) string {
	if v6 {
		return "ip6:" + strconv.Itoa(protocol)
	}
	return "ip4:" + strconv.Itoa(protocol)
}

// listenSCTP opens a raw socket for each family: it sees every SCTP packet of
// the network namespace and answers for the given ports alone. To other ports
// it is silent, since another server may have them.
func (s *Server) listenSCTP(ports []uint16) error {
	return bothFamilies(func(v6 bool) error {
		conn, err := net.ListenIP(ipNetwork(v6, protoSCTP), nil)
		if err != nil {
			return fmt.Errorf("open raw socket for SCTP (needs root): %w", err)
		}
		if err := enableOn(conn, v6, enablePacketInfo); err != nil {
			_ = conn.Close()
			return fmt.Errorf("open raw socket for SCTP: %w", err)
		}
		s.add(conn, func() error { return s.serveSCTP(conn, v6, ports) })
		return nil
	})
}

// serveSCTP answers INIT with INIT-ACK. What is malformed or has a wrong
// checksum is ignored, as by a real endpoint.
func (s *Server) serveSCTP(conn *net.IPConn, v6 bool, ports []uint16) error {
	buf, oob := make([]byte, 1<<16), make([]byte, packetInfoSpace())
	for {
		n, oobn, _, source, err := conn.ReadMsgIP(buf, oob)
		if err != nil {
			return fmt.Errorf("receive SCTP: %w", err)
		}
		payload := buf[:n]
		if !v6 {
			payload = stripIPv4(payload)
		}
		packet, err := parseSCTP(payload)
		// An INIT's verification tag is 0: its sender knows no other yet.
		if err != nil || packet.Chunk != chunkInit || packet.Tag != 0 || !slices.Contains(ports, packet.DstPort) {
			continue
		}
		dst, answer, err := packetInfo(oob[:oobn])
		if err != nil {
			s.log.WithError(err).WithField("source", source).Warn("SCTP packet without its destination ignored")
			continue
		}
		out := s.answerInit(packet, addrOf(source), dst, len(payload))
		if _, _, err := conn.WriteMsgIP(out.encode(), answer, source); err != nil {
			s.log.WithError(err).WithField("source", source).Warn("SCTP answer not sent")
		}
	}
}

// answerInit builds the INIT-ACK. Its cookie is the Reply: a real peer would
// carry it back unread, ours reads it.
func (s *Server) answerInit(in sctpPacket, source, local netip.Addr, size int) sctpPacket {
	reply := Reply{
		Server: s.name, Bytes: size,
		Source: netip.AddrPortFrom(source, in.SrcPort), Local: netip.AddrPortFrom(local, in.DstPort),
	}
	return sctpPacket{
		SrcPort: in.DstPort, DstPort: in.SrcPort, Tag: in.InitTag,
		Chunk: chunkInitAck, InitTag: randomTag(), Cookie: reply.line(),
	}
}

// randomTag is a tag that is not 0.
func randomTag() uint32 { return rand.Uint32N(1<<32-1) + 1 }
