package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/dataplane/nfnl"
)

const (
	// changes that are sent at once: a message is about 100 bytes long, and what
	// the kernel may answer fits the socket's buffer many times over.
	batch = 512
	// From so many addresses on, one dump of all connections costs less than one
	// for each address and direction.
	manyAddrs = 3
	// A dump that was interrupted is tried so often.
	attempts = 5
)

// Filter says which connections are meant: those of one family whose original
// source, or whose reply source (which is the real destination), is one of
// Addrs; or, with All, all of them.
type Filter struct {
	IPv6  bool
	All   bool
	Addrs []netip.Addr
}

// Conn is two connections to the kernel, of the network namespace of the thread
// that dials it: what one reads is changed through the other. It is safe for
// concurrent use; one call waits for another, at each message.
type Conn struct{ read, write *nfnl.Conn }

// Dial makes a connection.
func Dial() (*Conn, error) {
	read, err := nfnl.Dial()
	if err != nil {
		return nil, err
	}
	write, err := nfnl.Dial()
	if err != nil {
		return nil, errors.Join(err, read.Close())
	}
	return &Conn{read: read, write: write}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return errors.Join(c.read.Close(), c.write.Close()) }

// Available tells by an error that the kernel does not let connections be read
// or changed. It leaves all as it is. Asking makes the kernel load its module.
func (c *Conn) Available(ctx context.Context) error {
	var b nfnl.Batch
	b.Begin(nfnl.Conntrack, cmdGetStats, 0, unix.AF_UNSPEC)
	b.End()
	if err := c.read.Get(ctx, &b, func([]byte) error { return nil }); err != nil {
		return fmt.Errorf("ask for the number of tracked connections: %w", err)
	}
	return nil
}

// ResetMarks sets the bits of mask to 0 in the marks of the connections meant,
// leaves all other bits alone, and counts those in which a bit was set.
// Connections that end meanwhile are fine.
func (c *Conn) ResetMarks(ctx context.Context, f Filter, mask uint32) (int, error) {
	n, err := c.sweep(ctx, f, func(b *nfnl.Batch, family uint8, e entry) {
		if e.mark&mask != 0 {
			e.resetMark(b, family, mask)
		}
	})
	if err != nil {
		return n, fmt.Errorf("reset marks of connections: %w", err)
	}
	return n, nil
}

// Delete forgets the connections meant, and counts them. Their next packet
// begins a new one, with whatever direction it has.
func (c *Conn) Delete(ctx context.Context, f Filter) (int, error) {
	n, err := c.sweep(ctx, f, func(b *nfnl.Batch, family uint8, e entry) { e.remove(b, family) })
	if err != nil {
		return n, fmt.Errorf("delete connections: %w", err)
	}
	return n, nil
}

// sweep applies change to all connections of the filter, while they are read.
func (c *Conn) sweep(ctx context.Context, f Filter, change func(*nfnl.Batch, uint8, entry)) (int, error) {
	s := sweeper{conn: c, family: unix.AF_INET, change: change}
	if f.IPv6 {
		s.family = unix.AF_INET6
	}
	if f.All {
		err := s.pass(ctx, original, netip.Addr{}, func(entry) bool { return true })
		return s.done, err
	}
	wanted := map[netip.Addr]bool{}
	for _, a := range f.Addrs {
		if a = a.Unmap().WithZone(""); a.Is6() == f.IPv6 && a.IsValid() {
			wanted[a] = true
		}
	}
	if len(wanted) == 0 {
		return 0, nil
	}
	// Of IPv6 the kernel's filter is of no use: up to Linux 6.18 at least it sends
	// all connections but those that were asked for.
	if len(wanted) >= manyAddrs || f.IPv6 {
		err := s.pass(ctx, original, netip.Addr{}, func(e entry) bool { return wanted[e.source] || wanted[e.target] })
		return s.done, err
	}
	for a := range wanted {
		for _, d := range []direction{original, reply} {
			// A kernel that does not know the filter sends all of them.
			if err := s.pass(ctx, d, a, func(e entry) bool { return e.at(d) == a }); err != nil {
				return s.done, err
			}
		}
	}
	return s.done, nil
}

func (e entry) at(d direction) netip.Addr {
	if d == reply {
		return e.target
	}
	return e.source
}

type sweeper struct {
	conn   *Conn
	family uint8
	change func(*nfnl.Batch, uint8, entry)

	batch nfnl.Batch
	done  int
}

// pass reads connections once and changes those that match; again, if the kernel
// says that it may have left some out: what is changed already is passed over,
// or gone.
func (s *sweeper) pass(ctx context.Context, d direction, source netip.Addr, match func(entry) bool) error {
	var err error
	for range attempts {
		var ask nfnl.Batch
		dump(&ask, s.family, d, source)
		err = s.conn.read.Get(ctx, &ask, func(data []byte) error {
			e := decode(data)
			if len(e.tuple) == 0 || !match(e) {
				return nil
			}
			s.change(&s.batch, s.family, e)
			if s.batch.Len() < batch {
				return nil
			}
			return s.flush(ctx)
		})
		if err == nil || errors.Is(err, nfnl.ErrInterrupted) {
			err = errors.Join(err, s.flush(ctx))
		}
		if !errors.Is(err, nfnl.ErrInterrupted) {
			break
		}
	}
	return err
}

func (s *sweeper) flush(ctx context.Context) error {
	var refused error
	gone := 0
	err := s.conn.write.Exec(ctx, &s.batch, func(f nfnl.Failure) {
		gone++
		if f.Errno != unix.ENOENT && refused == nil {
			refused = fmt.Errorf("the kernel refuses it: %w", f.Errno)
		}
	})
	if err == nil {
		s.done += s.batch.Len() - gone
	}
	s.batch.Reset()
	return errors.Join(err, refused)
}
