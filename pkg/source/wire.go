package source

import (
	"errors"
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
)

var errWire = errors.New("not well-formed protobuf")

// wireField is one field of a protobuf message: bytes of a length-delimited one,
// number of a varint.
type wireField struct {
	id     int
	number uint64
	bytes  []byte
}

// fields gives the fields of a message in their order, and an error at the first
// that cannot be read. Their bytes are parts of the message.
//
// Reading only the fields that are needed, in place, is what bounds memory: the
// generated types take hundreds of bytes for an empty container that has two on
// the wire, so that a short answer could fill a node.
func fields(message []byte) iter.Seq2[wireField, error] {
	return func(yield func(wireField, error) bool) {
		for len(message) > 0 {
			f, size := cutField(message)
			if size < 0 {
				yield(wireField{}, errWire)
				return
			}
			message = message[size:]
			if !yield(f, nil) {
				return
			}
		}
	}
}

// cutField reads the first field and tells its size, negative if there is none.
// Groups, which Kubernetes does not use, are refused: they nest.
func cutField(message []byte) (f wireField, size int) {
	id, kind, size := protowire.ConsumeTag(message)
	if size < 0 {
		return wireField{}, size
	}
	f.id = int(id)
	rest := message[size:]
	n := 0
	switch kind {
	case protowire.VarintType:
		f.number, n = protowire.ConsumeVarint(rest)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(rest)
	case protowire.Fixed32Type, protowire.Fixed64Type:
		n = protowire.ConsumeFieldValue(id, kind, rest)
	default:
		n = -1
	}
	if n < 0 {
		return wireField{}, n
	}
	return f, size + n
}
