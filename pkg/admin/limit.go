package admin

import (
	"context"
	"net"
	"sync"
	"time"
)

// turnTimeout is how long a request waits for its turn.
const turnTimeout = 10 * time.Second

// limit bounds how much is done at once.
type limit struct{ turns chan struct{} }

func newLimit(n int) *limit { return &limit{make(chan struct{}, n)} }

// enter waits for a turn; false if there is none in time, or the caller is gone.
func (l *limit) enter(ctx context.Context) bool {
	select {
	case l.turns <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(turnTimeout)
	defer timer.Stop()
	select {
	case l.turns <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

func (l *limit) leave() { <-l.turns }

// limitConns accepts no more than n connections at once; others wait in the
// kernel's queue.
func limitConns(l net.Listener, n int) net.Listener {
	return &limitedListener{Listener: l, open: make(chan struct{}, n), closed: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	open   chan struct{}
	closed chan struct{}
	once   sync.Once
}

// Accept waits for a place, then for a connection.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.open <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &limitedConn{Conn: conn, free: func() { <-l.open }}, nil
}

// Close ends a waiting Accept too.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	once sync.Once
	free func()
}

// Close gives the place back, once.
func (c *limitedConn) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}
