package netprobe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The little of SCTP (RFC 9260) that a handshake's first two packets need.
const (
	protoSCTP = 132

	chunkInit    = 1
	chunkInitAck = 2
	chunkAbort   = 6

	paramStateCookie = 7

	sctpHeaderLen  = 12 // ports, verification tag, checksum
	chunkHeaderLen = 4  // type, flags, length
	initFixedLen   = 16 // tag, window, streams out and in, first TSN

	// sctpWindow is the receive window advertised; RFC 9260 asks for 1500 at least.
	sctpWindow = 65536
	// abortReflected is the ABORT flag for "the tag is the receiver's own peer's".
	abortReflected = 1
)

// sctpPacket is an SCTP packet whose first chunk is INIT, INIT-ACK or ABORT.
type sctpPacket struct {
	SrcPort, DstPort uint16
	Tag              uint32 // verification tag
	Chunk            byte
	Flags            byte
	InitTag          uint32 // INIT and INIT-ACK: the sender's own tag
	Cookie           []byte // INIT-ACK: the state cookie
}

var (
	errNotSCTP   = errors.New("not a packet of an SCTP handshake")
	errSCTPCheck = errors.New("wrong checksum")
)

// castagnoli is the table of CRC-32C; building it again returns the same one.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// encode gives the packet's bytes, checksum included.
func (p sctpPacket) encode() []byte {
	var body []byte
	if p.Chunk != chunkAbort {
		body = binary.BigEndian.AppendUint32(body, p.InitTag)
		body = binary.BigEndian.AppendUint32(body, sctpWindow)
		body = binary.BigEndian.AppendUint16(body, 1)         // streams out
		body = binary.BigEndian.AppendUint16(body, 1)         // streams in
		body = binary.BigEndian.AppendUint32(body, p.InitTag) // first TSN: any number
	}
	if p.Chunk == chunkInitAck {
		body = binary.BigEndian.AppendUint16(body, paramStateCookie)
		body = binary.BigEndian.AppendUint16(body, uint16(chunkHeaderLen+len(p.Cookie)))
		body = append(body, p.Cookie...)
	}
	packet := make([]byte, 0, sctpHeaderLen+chunkHeaderLen+len(body)+3)
	packet = binary.BigEndian.AppendUint16(packet, p.SrcPort)
	packet = binary.BigEndian.AppendUint16(packet, p.DstPort)
	packet = binary.BigEndian.AppendUint32(packet, p.Tag)
	packet = append(packet, 0, 0, 0, 0, p.Chunk, p.Flags)
	// A last parameter's padding is not counted in the chunk's length.
	packet = binary.BigEndian.AppendUint16(packet, uint16(chunkHeaderLen+len(body)))
	packet = append(packet, body...)
	for len(packet)%4 != 0 {
		packet = append(packet, 0)
	}
	sealSCTP(packet)
	return packet
}

// sealSCTP writes the checksum into the packet's header. It is little-endian,
// unlike everything else in the packet.
func sealSCTP(packet []byte) {
	clear(packet[8:12])
	binary.LittleEndian.PutUint32(packet[8:12], crc32.Checksum(packet, castagnoli()))
}

// parseSCTP decodes and checks a packet.
func parseSCTP(data []byte) (sctpPacket, error) {
	if len(data) < sctpHeaderLen+chunkHeaderLen || len(data)%4 != 0 {
		return sctpPacket{}, fmt.Errorf("%w: %d bytes", errNotSCTP, len(data))
	}
	sum := crc32.Update(0, castagnoli(), data[:8])
	sum = crc32.Update(sum, castagnoli(), make([]byte, 4))
	sum = crc32.Update(sum, castagnoli(), data[12:])
	if binary.LittleEndian.Uint32(data[8:12]) != sum {
		return sctpPacket{}, errSCTPCheck
	}
	p := sctpPacket{
		SrcPort: binary.BigEndian.Uint16(data), DstPort: binary.BigEndian.Uint16(data[2:]),
		Tag: binary.BigEndian.Uint32(data[4:]), Chunk: data[12], Flags: data[13],
	}
	length := int(binary.BigEndian.Uint16(data[14:]))
	if length < chunkHeaderLen || sctpHeaderLen+length > len(data) {
		return sctpPacket{}, fmt.Errorf("%w: chunk of %d bytes in a packet of %d", errNotSCTP, length, len(data))
	}
	body := data[sctpHeaderLen+chunkHeaderLen : sctpHeaderLen+length]
	switch p.Chunk {
	case chunkAbort:
		return p, nil
	case chunkInit, chunkInitAck:
		// Either stands alone in its packet (RFC 9260, 6.10).
		if len(body) < initFixedLen || (sctpHeaderLen+length+3)&^3 != len(data) {
			return sctpPacket{}, fmt.Errorf("%w: chunk %d of %d bytes in a packet of %d", errNotSCTP, p.Chunk, length, len(data))
		}
		if p.InitTag = binary.BigEndian.Uint32(body); p.InitTag == 0 {
			return sctpPacket{}, fmt.Errorf("%w: initiate tag 0", errNotSCTP)
		}
		return p, p.parseParams(body[initFixedLen:])
	default:
		return sctpPacket{}, fmt.Errorf("%w: chunk type %d", errNotSCTP, p.Chunk)
	}
}

// parseParams walks an INIT's parameters and keeps the state cookie.
func (p *sctpPacket) parseParams(data []byte) error {
	for len(data) > 0 {
		if len(data) < chunkHeaderLen {
			return fmt.Errorf("%w: %d bytes after the last parameter", errNotSCTP, len(data))
		}
		kind, length := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
		if length < chunkHeaderLen || length > len(data) {
			return fmt.Errorf("%w: parameter of %d bytes, %d left", errNotSCTP, length, len(data))
		}
		if kind == paramStateCookie {
			p.Cookie = data[chunkHeaderLen:length]
		}
		data = data[min((length+3)&^3, len(data)):]
	}
	return nil
}
