package netprobe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// runFlow sends one flow until ctx ends, and returns why it ended.
func runFlow(ctx context.Context, f Flow, opts FlowOptions, t *tally) error {
	switch f.Mode {
	case TCPNew, UDPNew:
		return runExchanges(ctx, f, opts, t)
	case UDPPush, UDPPull:
		return runDatagrams(ctx, f, opts, t)
	}
	conn, err := dialFlow(ctx, f)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is left to be lost
	stop, err := deadlineOf(ctx, conn)
	if err != nil {
		return err
	}
	defer stop()
	t.change(func(r *FlowReport) { r.Local = addrPortOf(conn.LocalAddr()) })
	if _, err := fmt.Fprintf(conn, "%s %s\n", f.Mode, opts.Interval); err != nil {
		return ended(ctx, err)
	}
	if f.Mode != TCPPush {
		return ended(ctx, readStream(conn, t))
	}
	return ended(ctx, every(ctx, opts.Interval, func(n uint64) error {
		if _, err := fmt.Fprintf(conn, "%d\n", n); err != nil {
			return err
		}
		t.sent()
		return nil
	}))
}

// ended says why a flow ended: with its context, whose deadline is the
// connection's too, or by itself.
func ended(ctx context.Context, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.Join(ctx.Err(), context.DeadlineExceeded)
	}
	return err
}

func readStream(conn net.Conn, t *tally) error {
	buf := make([]byte, bulkSize)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			t.received(n)
		}
		if err != nil {
			return err
		}
	}
}

// every calls do now and after each interval, with its number, until ctx ends or
// it fails.
func every(ctx context.Context, interval time.Duration, do func(n uint64) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		if err := do(n); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// dialFlow connects. What the network says of a flow that it drops, such as an
// ICMP error, must not end a flow of datagrams: errors are not asked for.
func dialFlow(ctx context.Context, f Flow) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}
	network := "udp"
	switch f.Mode {
	case TCPPush, TCPBulk, TCPSlow, TCPNew:
		network = "tcp"
	}
	return dialer.DialContext(ctx, network, f.Target.String())
}

// runDatagrams sends UDPPush or UDPPull.
func runDatagrams(ctx context.Context, f Flow, opts FlowOptions, t *tally) error {
	conn, err := dialFlow(ctx, f)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is left to be lost
	stop, err := deadlineOf(ctx, conn)
	if err != nil {
		return err
	}
	defer stop()
	t.change(func(r *FlowReport) { r.Local = addrPortOf(conn.LocalAddr()) })
	if f.Mode == UDPPush {
		return ended(ctx, every(ctx, opts.Interval, func(n uint64) error {
			return sendDatagram(conn, t, fmt.Sprintf("%s %d", f.Mode, n))
		}))
	}
	if err := sendDatagram(conn, t, fmt.Sprintf("%s %s %s", f.Mode, opts.Interval, opts.For)); err != nil {
		return ended(ctx, err)
	}
	buf := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buf)
		switch {
		case err == nil:
			t.numbered(buf[:n])
		case !errors.Is(err, unix.ECONNREFUSED):
			return ended(ctx, err)
		}
	}
}

// sendDatagram sends one and counts it. A refusal is that of an earlier one.
func sendDatagram(conn net.Conn, t *tally, text string) error {
	_, err := conn.Write([]byte(text))
	if errors.Is(err, unix.ECONNREFUSED) {
		_, err = conn.Write([]byte(text))
	}
	if err == nil {
		t.sent()
	}
	return err
}

// runExchanges sends TCPNew or UDPNew: each exchange has a socket of its own.
// Those that are under way when ctx ends are waited for.
func runExchanges(ctx context.Context, f Flow, opts FlowOptions, t *tally) error {
	var running sync.WaitGroup
	defer running.Wait()
	return every(ctx, opts.Interval, func(n uint64) error {
		running.Go(func() {
			t.sent()
			own, cancel := context.WithTimeout(context.WithoutCancel(ctx), newTimeout)
			defer cancel()
			size, err := exchangeOnce(own, f, n)
			if err != nil {
				t.failed()
				return
			}
			t.received(size)
		})
		return nil
	})
}

func exchangeOnce(ctx context.Context, f Flow, n uint64) (int, error) {
	conn, err := dialFlow(ctx, f)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // its answer is read, or there is none
	stop, err := deadlineOf(ctx, conn)
	if err != nil {
		return 0, err
	}
	defer stop()
	if _, err := fmt.Fprintf(conn, "%s %d\n", f.Mode, n); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	return len(line), err
}
