package nfnl

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"

	"golang.org/x/sys/unix"
)

const (
	headerLen = 16 // struct nlmsghdr
	familyLen = 4  // struct nfgenmsg
	attrLen   = 4  // struct nlattr
	errorLen  = 4  // struct nlmsgerr before the header of the request

	// MaxAttr is the longest value of an attribute: its length is 16 bits wide
	// and counts the attribute's own header.
	MaxAttr = math.MaxUint16 - attrLen
)

// Subsystem is a part of netfilter, the upper byte of a message's type.
type Subsystem uint8

// The subsystems in use.
const (
	Conntrack Subsystem = unix.NFNL_SUBSYS_CTNETLINK
	IPSet     Subsystem = unix.NFNL_SUBSYS_IPSET
)

// Batch is messages in one buffer, which Reset makes free for the next ones. The
// zero value is empty. Lengths that do not fit make it fail when it is sent.
type Batch struct {
	b      []byte
	starts []int
	err    error
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { b.b, b.starts, b.err = b.b[:0], b.starts[:0], nil }

// Len is the number of messages.
func (b *Batch) Len() int { return len(b.starts) }

// Size is their length in bytes.
func (b *Batch) Size() int { return len(b.b) }

// Begin begins a message; what is put follows until End. family is that of
// struct nfgenmsg, flags are those of netlink beside NLM_F_REQUEST.
func (b *Batch) Begin(s Subsystem, command uint8, flags uint16, family uint8) {
	b.starts = append(b.starts, len(b.b))
	b.b = append(b.b, make([]byte, headerLen)...)
	m := b.b[len(b.b)-headerLen:]
	binary.NativeEndian.PutUint16(m[4:], uint16(s)<<8|uint16(command))
	binary.NativeEndian.PutUint16(m[6:], flags|unix.NLM_F_REQUEST)
	b.b = append(b.b, family, unix.NFNETLINK_V0, 0, 0)
}

// End ends the message that Begin began.
func (b *Batch) End() {
	start := b.starts[len(b.starts)-1]
	binary.NativeEndian.PutUint32(b.b[start:], uint32(len(b.b)-start))
}

// Nest begins an attribute that holds others, and returns what Close takes.
func (b *Batch) Nest(attr uint16) int {
	at := len(b.b)
	b.header(attr|unix.NLA_F_NESTED, 0)
	return at
}

// Close ends the attribute that Nest began.
func (b *Batch) Close(at int) {
	n := len(b.b) - at
	if n > math.MaxUint16 {
		b.err = fmt.Errorf("an attribute of %d bytes: at most %d fit", n, math.MaxUint16)
		n = attrLen
	}
	binary.NativeEndian.PutUint16(b.b[at:], uint16(n))
}

// Uint8 puts an attribute of one byte.
func (b *Batch) Uint8(attr uint16, v uint8) {
	b.header(attr, 1)
	b.b = append(b.b, v, 0, 0, 0)
}

// Uint16 puts an attribute in network byte order.
func (b *Batch) Uint16(attr, v uint16) {
	b.header(attr, 2)
	b.b = append(b.b, byte(v>>8), byte(v), 0, 0)
}

// Uint32 puts an attribute in network byte order.
func (b *Batch) Uint32(attr uint16, v uint32) {
	b.header(attr, 4)
	b.b = binary.BigEndian.AppendUint32(b.b, v)
}

// Native32 puts an attribute in the byte order of this machine.
func (b *Batch) Native32(attr uint16, v uint32) {
	b.header(attr, 4)
	b.b = binary.NativeEndian.AppendUint32(b.b, v)
}

// Bytes puts an attribute as it is; attr may bear NLA_F_NESTED or
// NLA_F_NET_BYTEORDER.
func (b *Batch) Bytes(attr uint16, v []byte) {
	if len(v) > MaxAttr {
		b.err = fmt.Errorf("an attribute of %d bytes: at most %d fit", len(v), MaxAttr)
		return
	}
	b.header(attr, len(v))
	b.b = append(b.b, v...)
	for len(b.b)%4 != 0 { // every message begins at a multiple of four
		b.b = append(b.b, 0)
	}
}

// Text puts a string with the 0 that ends it.
func (b *Batch) Text(attr uint16, v string) { b.Bytes(attr, append([]byte(v), 0)) }

func (b *Batch) header(attr uint16, n int) {
	b.b = binary.NativeEndian.AppendUint16(b.b, uint16(attrLen+n))
	b.b = binary.NativeEndian.AppendUint16(b.b, attr)
}

// seal numbers the messages from first on, and asks for an answer to the last
// one: the kernel answers in order, and to what fails it always does.
func (b *Batch) seal(first uint32) {
	for i, start := range b.starts {
		binary.NativeEndian.PutUint32(b.b[start+8:], first+uint32(i))
	}
	last := b.b[b.starts[len(b.starts)-1]:]
	binary.NativeEndian.PutUint16(last[6:], binary.NativeEndian.Uint16(last[6:])|unix.NLM_F_ACK)
}

// Messages are the attributes of each message of a batch, as they are sent.
func Messages(b *Batch) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for rest := b.b; len(rest) > 0; {
			var m message
			var err error
			if m, rest, err = next(rest); err == nil && len(m.data) < familyLen {
				err = errMalformed
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(m.data[familyLen:], nil) {
				return
			}
		}
	}
}
