package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/overland-net/overland/pkg/model"
)

const (
	// magic begins every file; its last two bytes are the version of the format.
	magic = "OVLSTORE\x00\x01"
	// frameHead is the length of a record, the checksum of its payload and that of
	// these two, four bytes each, in big-endian order.
	frameHead = 12
	// changesARecord keeps records small enough to be read one by one.
	changesARecord = 500
)

// The kinds of records: the first byte of a payload. CBOR of the type in
// brackets follows.
const (
	recordHeader   byte = 1 + iota // the first [header]
	recordFacts                    // part of the image [[]change]
	recordImage                    // the image is complete [batch without changes]
	recordPart                     // part of a batch, more of it follows [[]change]
	recordBatch                    // the end of a batch, or a contact alone [batch]
	recordBootOnly                 // what follows is written in another boot [boot]
)

type header struct {
	_       struct{} `cbor:",toarray"`
	Cluster string
	UID     []byte // of the RemoteCluster object
	Boot    string
	Nonce   string // keeps records of an earlier file from fitting into this one
}

type batch struct {
	_       struct{} `cbor:",toarray"`
	Contact int64    // nanoseconds since 1970, 0 = never
	Changes []change
}

type boot struct {
	_    struct{} `cbor:",toarray"`
	Boot string
}

func checksum(chain uint32, b []byte) uint32 {
	return crc32.Update(chain, crc32.MakeTable(crc32.Castagnoli), b)
}

// writer frames records. Each checksum goes on from the one before, so that a
// record fits only after the very records it was written after.
type writer struct {
	codec codec
	chain uint32
	buf   []byte
}

// encode appends one record to the writer's buf.
func encode[T any](w *writer, kind byte, value T) error {
	body, err := w.codec.enc.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	w.frame(kind, body)
	return nil
}

func (w *writer) frame(kind byte, body []byte) {
	start := len(w.buf)
	w.buf = append(w.buf, make([]byte, frameHead)...)
	w.buf = append(append(w.buf, kind), body...)
	head, payload := w.buf[start:start+frameHead], w.buf[start+frameHead:]
	sum := checksum(w.chain, payload)
	binary.BigEndian.PutUint32(head, uint32(len(payload)))
	binary.BigEndian.PutUint32(head[4:], sum)
	binary.BigEndian.PutUint32(head[8:], checksum(w.chain, head[:8]))
	w.chain = sum
}

// batch appends the records of one batch.
func (w *writer) batch(cluster string, contact int64, changes []model.Change) error {
	for len(changes) > changesARecord {
		part, err := wire(cluster, changes[:changesARecord])
		if err != nil {
			return err
		}
		if err := encode(w, recordPart, part); err != nil {
			return err
		}
		changes = changes[changesARecord:]
	}
	last, err := wire(cluster, changes)
	if err != nil {
		return err
	}
	return encode(w, recordBatch, batch{Contact: contact, Changes: last})
}

func wire(cluster string, changes []model.Change) ([]change, error) {
	all := make([]change, 0, len(changes))
	for _, c := range changes {
		if err := check(cluster, c); err != nil {
			return nil, err
		}
		w, err := toWire(c)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

var (
	errForeign = errors.New("not a store file of this version")
	errDamaged = errors.New("damaged: a checksum or length is wrong")
	errEnd     = errors.New("no record follows")
	// errCut: the file ends inside a record. Only its length can say that, which
	// has its own checksum.
	errCut = errors.New("cut off inside a record")
)

// frames reads records one by one. The payload is good until the next call.
type frames struct {
	r     *bufio.Reader
	left  int64 // bytes of the file not read yet
	chain uint32
	buf   []byte
}

func newFrames(r io.Reader, size int64) *frames {
	const readAhead = 256 << 10
	return &frames{r: bufio.NewReaderSize(r, readAhead), left: size}
}

func (f *frames) magic() error {
	var got [len(magic)]byte
	if f.left < int64(len(got)) {
		return errForeign
	}
	if _, err := io.ReadFull(f.r, got[:]); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	f.left -= int64(len(got))
	if string(got[:]) != magic {
		return errForeign
	}
	return nil
}

// next gives the next record; errEnd after the last.
func (f *frames) next() (kind byte, body []byte, err error) {
	switch {
	case f.left == 0:
		return 0, nil, errEnd
	case f.left < frameHead:
		return 0, nil, errCut
	}
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, nil, fmt.Errorf("read: %w", err)
	}
	f.left -= frameHead
	length, sum := int64(binary.BigEndian.Uint32(head[:])), binary.BigEndian.Uint32(head[4:])
	switch {
	case binary.BigEndian.Uint32(head[8:]) != checksum(f.chain, head[:8]), length == 0:
		return 0, nil, errDamaged
	case length > f.left:
		return 0, nil, errCut
	}
	if int64(cap(f.buf)) < length {
		f.buf = make([]byte, length)
	}
	payload := f.buf[:length]
	if _, err := io.ReadFull(f.r, payload); err != nil {
		return 0, nil, fmt.Errorf("read: %w", err)
	}
	f.left -= length
	if checksum(f.chain, payload) != sum {
		return 0, nil, errDamaged
	}
	f.chain = sum
	return payload[0], payload[1:], nil
}
