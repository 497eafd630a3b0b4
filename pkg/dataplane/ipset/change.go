package ipset

import (
	"context"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/dataplane/nfnl"
)

// change is what Add and Delete do, in messages of many elements. Without the
// flag EXCL the kernel passes over what is there, or is not.
func (c *Conn) change(ctx context.Context, command uint8, op string, s Set, elements iter.Seq[Element]) (int, error) {
	if err := s.check(); err != nil {
		return 0, fmt.Errorf("%s %w", op, err)
	}
	w := writer{conn: c, command: command, op: op, set: s}
	for e := range elements {
		if err := w.put(ctx, e); err != nil {
			return w.done, err
		}
	}
	err := w.flush(ctx)
	return w.done, err
}

// writer fills messages and sends a few at a time.
type writer struct {
	conn    *Conn
	command uint8
	op      string
	set     Set

	batch   nfnl.Batch
	sent    []Element // what is in the batch
	list    int       // of the open message, where its list is
	open    int       // elements in it
	begun   int       // the batch's size where it begins
	done    int
	refused error
}

func (w *writer) put(ctx context.Context, e Element) error {
	if err := e.check(w.set); err != nil {
		return fmt.Errorf("%s set %s, element %s: %w", w.op, w.set.Name, e, err)
	}
	if w.open == 0 {
		w.begun = w.batch.Size()
		w.conn.begin(&w.batch, w.command, 0, familyNumber(w.set.Family), w.set.Name)
		// Asks for the guilty element by its number; the value is not looked at.
		w.batch.Native32(attrLine, 0)
		w.list = w.batch.Nest(attrADT)
	}
	element(&w.batch, w.set, e, uint32(len(w.sent)))
	w.sent = append(w.sent, e)
	w.open++
	if w.open < maxBatch && w.batch.Size()-w.begun < maxBatchSize-largest {
		return nil
	}
	w.end()
	if w.batch.Len() < messages {
		return nil
	}
	return w.flush(ctx)
}

func (w *writer) end() {
	if w.open == 0 {
		return
	}
	w.batch.Close(w.list)
	w.batch.End()
	w.open = 0
}

func (w *writer) flush(ctx context.Context) error {
	w.end()
	err := w.conn.nl.Exec(ctx, &w.batch, w.failed)
	switch {
	case err != nil:
		return w.conn.refusal(err, w.op, w.set.Name)
	case w.refused != nil:
		return w.refused
	}
	w.done += len(w.sent)
	w.batch.Reset()
	w.sent = w.sent[:0]
	return nil
}

func (w *writer) failed(f nfnl.Failure) {
	if w.refused != nil {
		return
	}
	refused := &Error{Op: w.op, Set: w.set.Name, Errno: f.Errno}
	if line, ok := guilty(f.Request); ok && int(line) < len(w.sent) && f.Errno != unix.ENOENT {
		refused.Element = w.sent[line].String()
	}
	w.refused = refused
}
