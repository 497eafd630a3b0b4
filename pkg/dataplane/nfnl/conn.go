package nfnl

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// The longest datagram of the kernel is an ipset error, which has the whole
	// request in it: 64 KiB and some. Dumps come in 32 KiB.
	receiveLen = 128 << 10
	// Room for the messages of a batch, and for what the kernel answers. Each
	// answer is counted with about 1.3 KiB by the kernel, however short.
	sendBuffer, receiveBuffer = 1 << 20, 4 << 20
	// patience is how long the kernel may be silent without being broken. It
	// answers within the system call, but for its locks.
	patience = 30 * time.Second
)

// ErrInterrupted is that of a dump during which what it lists has changed so that
// it may be incomplete.
var ErrInterrupted = errors.New("the dump was interrupted by changes")

// Failure is the kernel's refusal of one message of a batch.
type Failure struct {
	// Index is that of the message in its batch.
	Index int
	Errno unix.Errno
	// Request is what the kernel says of the message's attributes, if it does:
	// that of ipset does. It is valid until the next use of the connection.
	Request []byte
}

// Conn is a connection to the kernel, of the network namespace of the thread
// that dials it. It is safe for concurrent use; one call waits for another.
type Conn struct {
	mu     sync.Mutex
	socket *netlink.Conn // nil: to be dialled at the next use
	raw    syscall.RawConn
	seq    uint32
	buf    []byte
}

// Dial makes a connection.
func Dial() (*Conn, error) {
	c := &Conn{buf: make([]byte, receiveLen)}
	if err := c.dial(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Conn) dial() (err error) {
	socket, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("open a netlink socket of netfilter: %w", err)
	}
	defer func() {
		if err != nil {
			_ = socket.Close() // it was never used
		}
	}()
	// Without it the kernel sends each refused message back whole.
	if err := socket.SetOption(netlink.CapAcknowledge, true); err != nil {
		return fmt.Errorf("netlink socket of netfilter: %w", err)
	}
	if err := errors.Join(socket.SetReadBuffer(receiveBuffer), socket.SetWriteBuffer(sendBuffer)); err != nil {
		return fmt.Errorf("netlink socket of netfilter: %w", err)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("netlink socket of netfilter: %w", err)
	}
	c.socket, c.raw = socket, raw
	return nil
}

// Close closes the connection. A later use would open it again.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.close()
}

func (c *Conn) close() error {
	if c.socket == nil {
		return nil
	}
	socket := c.socket
	c.socket, c.raw = nil, nil
	if err := socket.Close(); err != nil {
		return fmt.Errorf("close a netlink socket of netfilter: %w", err)
	}
	return nil
}

// Exec sends the messages of a batch, all at once, and waits until the kernel has
// done them all. What it refuses is told to failed, in order; the others are done
// nevertheless. An error is about the connection: what was done is not known.
func (c *Conn) Exec(ctx context.Context, b *Batch, failed func(Failure)) error {
	if b.Len() == 0 {
		return b.err
	}
	return c.use(ctx, b, func(first uint32) error {
		last := first + uint32(b.Len()) - 1
		for {
			answered := false
			err := c.receive(func(m message) error {
				i := m.seq - first
				if m.kind != unix.NLMSG_ERROR || i >= uint32(b.Len()) {
					return nil // of an earlier use, or not asked for
				}
				errno, err := m.errno()
				if err != nil {
					return err
				}
				if errno != 0 {
					failed(Failure{Index: int(i), Errno: errno, Request: m.request()})
				}
				answered = answered || m.seq == last
				return nil
			})
			if err != nil || answered {
				return err
			}
		}
	})
}

// Get sends one message and gives each of the messages that answer it to each,
// without the header of netfilter: one, or all those of a dump. The data is valid
// during the call only. An error of each ends it and is returned. What the kernel
// refuses is returned as the unix.Errno that it is, wrapped.
func (c *Conn) Get(ctx context.Context, b *Batch, each func(data []byte) error) error {
	if b.Len() != 1 {
		return fmt.Errorf("a question is one message, not %d", b.Len())
	}
	return c.use(ctx, b, func(seq uint32) error {
		interrupted := false
		for {
			done := false
			err := c.receive(func(m message) error {
				if m.seq != seq || done {
					return nil
				}
				interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
				switch {
				case m.kind == unix.NLMSG_ERROR || m.kind == unix.NLMSG_DONE:
					done = true
					return m.result()
				case m.kind < unix.NLMSG_MIN_TYPE:
					return nil
				case len(m.data) < familyLen:
					return errMalformed
				}
				return each(m.data[familyLen:])
			})
			if err != nil {
				return err
			}
			if done && interrupted {
				return ErrInterrupted
			}
			if done {
				return nil
			}
		}
	})
}

func (m message) result() error {
	errno, err := m.errno()
	switch {
	case err != nil:
		return err
	case errno == unix.EINTR || errno == unix.EAGAIN:
		return ErrInterrupted
	case errno != 0:
		return refused{errno}
	}
	return nil
}

// refused is an error after which the connection is as good as before.
type refused struct{ errno unix.Errno }

func (r refused) Error() string { return r.errno.Error() }
func (r refused) Unwrap() error { return r.errno }

// use sends the batch and lets answer read what comes, under the deadline of ctx.
// A connection on which something may still be on its way is not used again.
func (c *Conn) use(ctx context.Context, b *Batch, answer func(first uint32) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := errors.Join(b.err, ctx.Err()); err != nil {
		return err
	}
	if c.socket == nil {
		if err := c.dial(); err != nil {
			return err
		}
	}
	deadline, ok := ctx.Deadline()
	if latest := time.Now().Add(patience); !ok || deadline.After(latest) {
		deadline = latest
	}
	socket := c.socket
	if err := socket.SetDeadline(deadline); err != nil {
		return errors.Join(err, c.close())
	}
	stop := context.AfterFunc(ctx, func() {
		_ = socket.SetDeadline(time.Unix(1, 0)) // fails only if it is closed, and then nobody waits
	})
	b.seal(c.seq + 1)
	err := c.send(b.b)
	if err == nil {
		first := c.seq + 1
		c.seq += uint32(b.Len())
		err = answer(first)
	}
	cut := !stop()
	if cut || err != nil && !errors.As(err, new(refused)) && !errors.Is(err, ErrInterrupted) {
		_ = c.close() // the next use dials anew
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	return err
}

func (c *Conn) send(b []byte) error {
	var err error
	werr := c.raw.Write(func(fd uintptr) bool {
		for {
			err = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if err := errors.Join(werr, err); err != nil {
		return fmt.Errorf("send to netfilter: %w", err)
	}
	return nil
}

// receive reads one datagram and gives its messages to each.
func (c *Conn) receive(each func(message) error) error {
	var n int
	var err error
	rerr := c.raw.Read(func(fd uintptr) bool {
		for {
			n, _, err = unix.Recvfrom(int(fd), c.buf, unix.MSG_TRUNC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if err := errors.Join(rerr, err); err != nil {
		return fmt.Errorf("receive from netfilter: %w", err)
	}
	if n > len(c.buf) {
		return fmt.Errorf("receive from netfilter: a message of %d bytes, at most %d are expected", n, len(c.buf))
	}
	for rest := c.buf[:n]; len(rest) > 0; {
		var m message
		if m, rest, err = next(rest); err != nil {
			return err
		}
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}
