package nfnl

import (
	"encoding/binary"
	"errors"
	"iter"

	"golang.org/x/sys/unix"
)

var errMalformed = errors.New("malformed netlink message from the kernel")

// message is one that the kernel sent.
type message struct {
	kind, flags uint16
	seq         uint32
	data        []byte
}

// next takes the first message off a datagram.
func next(b []byte) (m message, rest []byte, err error) {
	if len(b) < headerLen {
		return message{}, nil, errMalformed
	}
	n := int(binary.NativeEndian.Uint32(b))
	if n < headerLen || n > len(b) {
		return message{}, nil, errMalformed
	}
	m = message{
		kind:  binary.NativeEndian.Uint16(b[4:]),
		flags: binary.NativeEndian.Uint16(b[6:]),
		seq:   binary.NativeEndian.Uint32(b[8:]),
		data:  b[headerLen:n],
	}
	return m, b[min((n+3)&^3, len(b)):], nil
}

// errno is that of an answer, or of the end of a dump; 0 is success.
func (m message) errno() (unix.Errno, error) {
	if len(m.data) < errorLen {
		if m.kind == unix.NLMSG_DONE {
			return 0, nil
		}
		return 0, errMalformed
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(m.data))), nil
}

// request is what an answer says of the request's attributes, if it does.
func (m message) request() []byte {
	const skip = errorLen + headerLen + familyLen
	if len(m.data) < skip {
		return nil
	}
	return m.data[skip:]
}

// Attrs are the attributes in b, by their number without flags, as parts of b.
// It ends at what is malformed.
func Attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= attrLen {
			n := int(binary.NativeEndian.Uint16(b))
			if n < attrLen || n > len(b) {
				return
			}
			kind := binary.NativeEndian.Uint16(b[2:]) &^ uint16(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, b[attrLen:n]) {
				return
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	}
}

// Uint32 is a value in network byte order; 0 if it is not four bytes long.
func Uint32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// Uint16 is a value in network byte order; 0 if it is not two bytes long.
func Uint16(b []byte) uint16 {
	if len(b) != 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

// Native32 is a value in the byte order of this machine; 0 if it is not four
// bytes long.
func Native32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// Uint8 is a value of one byte; 0 if it is not that.
func Uint8(b []byte) uint8 {
	if len(b) != 1 {
		return 0
	}
	return b[0]
}

// Text is a string up to the 0 that ends it.
func Text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
