package ipset

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/dataplane/nfnl"
	"github.com/overland-net/overland/pkg/desired"
)

const (
	// messages that are sent at once.
	messages = 4
	// A dump that was interrupted by changes is tried so often.
	attempts = 5
)

// Conn is a connection to the kernel, of the network namespace of the thread
// that dials it. It is safe for concurrent use; one call waits for another.
type Conn struct {
	nl *nfnl.Conn
	encoder
}

// Dial makes a connection and agrees with the kernel on the version.
func Dial(ctx context.Context) (*Conn, error) {
	nl, err := nfnl.Dial()
	if err != nil {
		return nil, err
	}
	c := &Conn{nl: nl, encoder: encoder{protocol: protocolOldest}}
	if err := c.negotiate(ctx); err != nil {
		return nil, errors.Join(err, nl.Close())
	}
	return c, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.nl.Close() }

func (c *Conn) negotiate(ctx context.Context) error {
	var newest, oldest uint8
	err := c.get(ctx, "ask the ipset version", "", func(b *nfnl.Batch) {
		c.begin(b, cmdProtocol, 0, unix.AF_UNSPEC, "")
	}, func(data []byte) error {
		for kind, v := range nfnl.Attrs(data) {
			switch kind {
			case attrProtocol:
				newest = nfnl.Uint8(v)
			case attrProtocolMin:
				oldest = nfnl.Uint8(v)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if oldest == 0 {
		oldest = newest
	}
	if newest < protocolOldest || oldest > protocolNewest {
		return fmt.Errorf("the kernel speaks versions %d to %d of the ipset protocol: %d or %d is needed",
			oldest, newest, protocolOldest, protocolNewest)
	}
	c.protocol = min(newest, protocolNewest)
	return nil
}

// get asks, and gives the answers to each.
func (c *Conn) get(ctx context.Context, op, name string, ask func(*nfnl.Batch), each func([]byte) error) error {
	var b nfnl.Batch
	ask(&b)
	b.End()
	return c.refusal(c.nl.Get(ctx, &b, each), op, name)
}

func (c *Conn) refusal(err error, op, name string) error {
	var errno unix.Errno
	switch {
	case err == nil:
		return nil
	case errors.As(err, &errno):
		return &Error{Op: op, Set: name, Errno: errno}
	case name == "":
		return fmt.Errorf("%s: %w", op, err)
	}
	return fmt.Errorf("%s set %s: %w", op, name, err)
}

// one sends a batch of one message.
func (c *Conn) one(ctx context.Context, b *nfnl.Batch, op, name string) error {
	var refused error
	err := c.nl.Exec(ctx, b, func(f nfnl.Failure) { refused = &Error{Op: op, Set: name, Errno: f.Errno} })
	if err != nil {
		return c.refusal(err, op, name)
	}
	return refused
}

// HasType tells by an error whether sets of the type and family can be made.
// Asking makes the kernel load its module.
func (c *Conn) HasType(ctx context.Context, t Type, f desired.Family) error {
	var newest, oldest uint8
	err := c.get(ctx, "ask for type "+string(t), "", func(b *nfnl.Batch) {
		c.begin(b, cmdType, 0, familyNumber(f), "")
		b.Text(attrTypeName, string(t))
		b.Uint8(attrFamily, familyNumber(f))
	}, func(data []byte) error {
		for kind, v := range nfnl.Attrs(data) {
			switch kind {
			case attrRevision:
				newest = nfnl.Uint8(v)
			case attrRevisionMin:
				oldest = nfnl.Uint8(v)
			}
		}
		return nil
	})
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("type %s: %w", t, ErrNoType)
	}
	if err == nil && (newest < t.revision() || oldest > t.revision()) {
		err = fmt.Errorf("type %s: the kernel has revisions %d to %d, and %d is needed", t, oldest, newest, t.revision())
	}
	return err
}

// Create makes a set. It is fine if it is there with the same type and family,
// whatever is in it; ErrKind if it is another.
func (c *Conn) Create(ctx context.Context, s Set) error {
	if err := s.check(); err != nil {
		return fmt.Errorf("create %w", err)
	}
	var b nfnl.Batch
	c.create(&b, s, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	err := c.one(ctx, &b, "create", s.Name)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	// The kernel would accept one of the other family as the same.
	there, herr := c.Header(ctx, s.Name)
	if herr != nil {
		return herr
	}
	if there.Type != s.Type || there.Family != s.Family {
		return fmt.Errorf("%w: it is %s of %s", err, there.Type, familyName(there.Family))
	}
	return nil
}

func familyName(f desired.Family) string {
	switch f {
	case desired.IPv4:
		return "IPv4"
	case desired.IPv6:
		return "IPv6"
	case desired.AnyFamily:
	}
	return "no family"
}

// Destroy removes a set with all that is in it. It is fine if it is not there;
// ErrUsed if a rule uses it, or while it is being listed.
func (c *Conn) Destroy(ctx context.Context, name string) error {
	if name == "" || len(name) > MaxName { // without a name, the kernel would destroy all
		return fmt.Errorf("destroy set %q: the name is not that of a set", name)
	}
	var b nfnl.Batch
	c.begin(&b, cmdDestroy, 0, unix.AF_UNSPEC, name)
	b.End()
	if err := c.one(ctx, &b, "destroy", name); !errors.Is(err, ErrNoSet) {
		return err
	}
	return nil
}

// Header is the type and family of a set, and not its sizes. ErrNoSet: there is
// none of that name.
func (c *Conn) Header(ctx context.Context, name string) (Header, error) {
	var h Header
	err := c.get(ctx, "read", name, func(b *nfnl.Batch) {
		c.begin(b, cmdHeader, 0, unix.AF_UNSPEC, name)
	}, func(data []byte) error {
		h = decodeHeader(data)
		return nil
	})
	return h, err
}

// List is all sets whose names keep accepts, sorted by name, without elements.
func (c *Conn) List(ctx context.Context, keep func(name string) bool) ([]Header, error) {
	var found []Header
	err := c.dump(ctx, "list", "", listHeader, func() { found = nil }, func(data []byte) error {
		if h := decodeHeader(data); h.Name != "" && keep(h.Name) {
			found = append(found, h)
		}
		return nil
	})
	slices.SortFunc(found, func(a, b Header) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return found, err
}

// Elements are those of a set, in no order. What is added or deleted meanwhile
// may be among them or not; all else is. ErrNoSet: there is none of that name.
func (c *Conn) Elements(ctx context.Context, name string) (Header, []Element, error) {
	var h Header
	var found []Element
	err := c.dump(ctx, "list", name, 0, func() { h, found = Header{}, nil }, func(data []byte) error {
		if part := decodeHeader(data); part.Type != "" { // the first message has it
			h = part
			found = slices.Grow(found, h.Size)
		}
		return decodeElements(data, h.Type, func(e Element) error {
			if !e.Addr.IsValid() {
				return fmt.Errorf("the set has an element that is not understood, of type %q", h.Type)
			}
			found = append(found, e)
			return nil
		})
	})
	return h, found, err
}

// dump lists one set or all, again if it was interrupted.
func (c *Conn) dump(ctx context.Context, op, name string, flags uint32, restart func(), each func([]byte) error) error {
	var err error
	for range attempts {
		restart()
		err = c.get(ctx, op, name, func(b *nfnl.Batch) {
			c.begin(b, cmdList, unix.NLM_F_DUMP, unix.AF_UNSPEC, name)
			if flags != 0 {
				b.Uint32(net(attrFlags), flags)
			}
		}, each)
		if !errors.Is(err, nfnl.ErrInterrupted) {
			break
		}
	}
	return err
}

// Add adds elements, of which some may be there, and counts them. At the first
// that is refused it ends, with ErrFull or another error that names it; those
// before it, and some after it, are in the set.
func (c *Conn) Add(ctx context.Context, s Set, elements iter.Seq[Element]) (int, error) {
	return c.change(ctx, cmdAdd, "add to", s, elements)
}

// Delete deletes elements, of which some may not be there, and counts them. It
// ends as Add does.
func (c *Conn) Delete(ctx context.Context, s Set, elements iter.Seq[Element]) (int, error) {
	return c.change(ctx, cmdDel, "delete from", s, elements)
}
