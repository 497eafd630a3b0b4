package store

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// contents is what a file says, and where in it appends go on.
type contents struct {
	uid     model.UID
	boot    string // in which the last bytes were written
	contact int64
	facts   table
	image   int64 // where the image ends
	good    int64 // where the last whole batch ends
	chain   uint32
	cut     bool // there is more, which was never acknowledged
}

// parse reads a whole file of a cluster. See the package comment for what is
// accepted. boot is the present boot.
func parse(c codec, r io.Reader, size int64, cluster, boot string) (*contents, error) {
	p := parser{codec: c, reader: newReader(cluster), frames: newFrames(r, size), size: size}
	p.facts.place = make(map[model.Key]int, size/bytesAFact)
	if err := p.header(cluster); err != nil {
		return nil, err
	}
	for p.image == 0 {
		if err := p.imageRecord(); err != nil {
			return nil, fmt.Errorf("in the image: %w", err)
		}
	}
	for {
		err := p.appended()
		switch {
		case err == nil:
			continue
		case errors.Is(err, errEnd) && !p.open:
			return &p.contents, nil
		case !errors.Is(err, errEnd) && !errors.Is(err, errCut):
			return nil, fmt.Errorf("at byte %d: %w", p.good, err)
		case p.boot != boot || boot == "":
			return nil, fmt.Errorf("at byte %d: %w, and the machine was restarted since", p.good, errCut)
		}
		p.cut = true
		return &p.contents, nil
	}
}

type parser struct {
	contents
	codec  codec
	reader *reader
	frames *frames
	size   int64
	open   bool // a batch has begun, and is not complete
	parts  []model.Change
}

func decode[T any](c codec, body []byte) (T, error) {
	var value T
	if err := c.dec.Unmarshal(body, &value); err != nil {
		return value, fmt.Errorf("decode record: %w", err)
	}
	return value, nil
}

func (p *parser) header(cluster string) error {
	if err := p.frames.magic(); err != nil {
		return err
	}
	kind, body, err := p.frames.next()
	switch {
	case errors.Is(err, errEnd):
		return errCut
	case err != nil:
		return err
	case kind != recordHeader:
		return fmt.Errorf("the first record is of kind %d", kind)
	}
	h, err := decode[header](p.codec, body)
	if err != nil {
		return err
	}
	if h.Cluster != cluster {
		return fmt.Errorf("it is of cluster %.*q", maxClusterName, h.Cluster)
	}
	p.boot = h.Boot
	p.uid, err = uidFromWire(h.UID)
	return err
}

func (p *parser) imageRecord() error {
	kind, body, err := p.frames.next()
	switch {
	case errors.Is(err, errEnd):
		return errCut
	case err != nil:
		return err
	case kind == recordFacts:
		changes, err := p.changes(body)
		if err != nil {
			return err
		}
		p.facts.apply(changes)
		return nil
	case kind != recordImage:
		return fmt.Errorf("a record of kind %d", kind)
	}
	end, err := decode[batch](p.codec, body)
	if err != nil {
		return err
	}
	p.contact = end.Contact
	p.mark()
	p.image = p.good
	return nil
}

// mark notes that the file is good up to here.
func (p *parser) mark() { p.good, p.chain = p.size-p.frames.left, p.frames.chain }

// appended reads one record behind the image.
func (p *parser) appended() error {
	kind, body, err := p.frames.next()
	if err != nil {
		return err
	}
	switch kind {
	case recordPart:
		part, err := p.changes(body)
		p.open, p.parts = true, append(p.parts, part...)
		return err
	case recordBatch:
		b, err := decode[batch](p.codec, body)
		if err != nil {
			return err
		}
		last, err := p.read(b.Changes)
		if err != nil {
			return err
		}
		p.facts.apply(append(p.parts, last...))
		p.contact, p.open, p.parts = b.Contact, false, nil
	case recordBootOnly:
		b, err := decode[boot](p.codec, body)
		if err != nil {
			return err
		}
		if p.open {
			return errDamaged
		}
		p.boot = b.Boot
	default:
		return fmt.Errorf("a record of kind %d", kind)
	}
	p.mark()
	return nil
}

func (p *parser) changes(body []byte) ([]model.Change, error) {
	all, err := decode[[]change](p.codec, body)
	if err != nil {
		return nil, err
	}
	return p.read(all)
}

func (p *parser) read(all []change) ([]model.Change, error) {
	changes := make([]model.Change, 0, len(all))
	for i := range all {
		c, err := p.reader.fromWire(&all[i])
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// bytesAFact is about what a pod takes on disk: of how many facts there will be
// it need say no more than the order.
const bytesAFact = 400

// table is the facts by key, in the order of their first coming.
type table struct {
	place map[model.Key]int
	all   []model.Change
	gone  int
}

func (t *table) apply(changes []model.Change) {
	for _, c := range changes {
		i, known := t.place[c.Key]
		switch {
		case known && c.Value != nil:
			t.all[i].Value = c.Value
		case known:
			t.all[i].Value = nil
			delete(t.place, c.Key)
			t.gone++
		case c.Value != nil:
			t.place[c.Key] = len(t.all)
			t.all = append(t.all, c)
		}
	}
	// A file may have far more changes than facts.
	if t.gone > len(t.place)+changesARecord {
		t.compact()
	}
}

func (t *table) compact() {
	kept := make([]model.Change, 0, len(t.place))
	for _, c := range t.all {
		if c.Value != nil {
			t.place[c.Key] = len(kept)
			kept = append(kept, c)
		}
	}
	t.all, t.gone = kept, 0
}

// sets are the facts.
func (t *table) sets() []model.Change {
	if t.gone > 0 {
		t.compact()
	}
	return t.all
}

func fromContact(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
}

func toContact(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
