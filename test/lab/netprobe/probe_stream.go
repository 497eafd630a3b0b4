package netprobe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pathMTUTries is how often a datagram is sent again after a router said that
// it was too big: each time the kernel knows the path better.
const pathMTUTries = 3

// request is a request of size bytes, for which 0 means a short one.
func request(size int) []byte {
	if size == 0 {
		return []byte("netprobe\n")
	}
	return append(bytes.Repeat([]byte{'n'}, size-1), '\n')
}

// askStream asks a TCP or UDP server, and once more after a hold. Any answer
// counts as one; only that of a netprobe server tells more.
func (a *attempt) askStream(ctx context.Context) error {
	var conn net.Conn
	err := a.timed(ctx, func(ctx context.Context) (err error) {
		if conn, err = a.dial(ctx); err != nil {
			return err
		}
		a.result.Local = addrPortOf(conn.LocalAddr())
		return a.ask(ctx, conn)
	})
	if conn != nil {
		defer func() { _ = conn.Close() }()
	}
	if err != nil || a.target.Hold == 0 {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(a.target.Hold):
	}
	err = a.timed(ctx, func(ctx context.Context) error { return a.ask(ctx, conn) })
	if err != nil {
		return fmt.Errorf("after holding the connection for %s: %w", a.target.Hold, err)
	}
	return nil
}

func (a *attempt) dial(ctx context.Context) (net.Conn, error) {
	// No keep-alives: a held connection is to be silent.
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}
	if src := a.opts.Source; src.IsValid() {
		ip := net.IP(src.AsSlice())
		if a.target.Scheme == schemeTCP {
			dialer.LocalAddr = &net.TCPAddr{IP: ip, Zone: src.Zone()}
		} else {
			dialer.LocalAddr = &net.UDPAddr{IP: ip, Zone: src.Zone()}
		}
	}
	if a.target.Scheme == schemeTCP {
		return dialTCP(ctx, dialer, a.dst)
	}
	conn, err := dialer.DialContext(ctx, a.target.Scheme, a.dst.String())
	if err != nil {
		return nil, err
	}
	if udp, ok := conn.(*net.UDPConn); ok {
		if err := enableOn(udp, a.dst.Addr().Is6(), enableErrors); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// dialTCP connects. An ICMP error that arrives while the kernel is still at
// sending the SYN, as between namespaces of one machine, does not end the
// attempt before the next SYN, a second later; the socket remembers it though,
// so a time-out asks there.
func dialTCP(ctx context.Context, dialer net.Dialer, dst netip.AddrPort) (net.Conn, error) {
	spare := -1 // the socket once more, which outlives the dialer's failure
	dialer.Control = func(_, _ string, c syscall.RawConn) error {
		var dupErr error
		if err := c.Control(func(fd uintptr) { spare, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
			return err
		}
		return dupErr
	}
	conn, err := dialer.DialContext(ctx, schemeTCP, dst.String())
	if spare < 0 {
		return conn, err
	}
	defer func() { _ = unix.Close(spare) }()
	if err == nil || classify(err) != KindTimeout {
		return conn, err
	}
	if code, optErr := unix.GetsockoptInt(spare, unix.SOL_SOCKET, unix.SO_ERROR); optErr == nil && code != 0 {
		return nil, fmt.Errorf("connect to %s: %w, then nothing more", dst, unix.Errno(code))
	}
	return nil, err
}

// ask sends a request and reads the answer, by ctx's deadline.
func (a *attempt) ask(ctx context.Context, conn net.Conn) error {
	stop, err := deadlineOf(ctx, conn)
	if err != nil {
		return err
	}
	defer stop()
	var line []byte
	for try := 0; ; try++ {
		line, err = exchange(conn, request(a.target.Size), a.target.Scheme == schemeTCP)
		if !errors.Is(err, unix.EMSGSIZE) || try == pathMTUTries {
			break
		}
	}
	if err != nil {
		return err
	}
	var reply Reply
	if json.Unmarshal(line, &reply) == nil {
		a.result.take(reply)
	}
	return nil
}

// exchange sends and receives once. A stream's answer is one line.
func exchange(conn net.Conn, out []byte, stream bool) ([]byte, error) {
	if _, err := conn.Write(out); err != nil {
		return nil, err
	}
	if stream {
		line, err := bufio.NewReader(conn).ReadBytes('\n')
		if len(line) > 0 {
			return line, nil // whoever answers without an end of line answers
		}
		return nil, err
	}
	buf := make([]byte, 1<<16)
	n, err := conn.Read(buf)
	return buf[:n], err
}

// deadlineOf gives conn the deadline of ctx and makes the end of ctx end a
// blocked call; stop ends the watch.
func deadlineOf(ctx context.Context, conn net.Conn) (stop func() bool, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, fmt.Errorf("set deadline: %w", err)
		}
	}
	return context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0)) // fails only once conn is closed
	}), nil
}
