package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The loads. One thread plays both ends, each system call after the other: the
// kernel carries a packet all the way within the call that sends it, so that
// what is measured is the path and not how soon a thread is woken.
const (
	trips       = 1500 // of the ping-pong, for one figure
	connections = 300
	batch       = 64 // packets that one system call sends
	batches     = 150
	firsts      = 60 // batches of first packets
	pathPort    = 8002
)

// ends are the sockets of both ends in one space.
type ends struct {
	client, server   netip.Addr
	listener         int
	in, out          int // a TCP connection: accepted, connected
	udpOut, udpIn    int
	raw              int
	sends, datagrams []mmsg
	packets          [][]byte
	port             uint16 // the last one that a first packet came from
}

// mmsg is struct mmsghdr.
type mmsg struct {
	header unix.Msghdr
	length uint32
	_      uint32
}

func sockaddr(a netip.Addr, port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
}

// openEnds makes the sockets, in the pods client and server.
func openEnds(s *space, client, server netip.Addr) *ends {
	e := &ends{client: client, server: server, port: 1024}
	patience := unix.Timeval{Sec: 2}
	socket := func(kind, protocol int) (int, error) {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return 0, fmt.Errorf("open a socket: %w", err)
		}
		s.b.Cleanup(func() { _ = unix.Close(fd) }) // nobody reads it any more
		return fd, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)
	}
	both := opened(s, "server", func() (fds [2]int, err error) {
		for i, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			if fds[i], err = socket(kind, 0); err != nil {
				return fds, err
			}
			err = errors.Join(unix.SetsockoptInt(fds[i], unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fds[i], sockaddr(server, pathPort)))
			if err != nil {
				return fds, err
			}
		}
		return fds, unix.Listen(fds[0], 64)
	})
	e.listener, e.udpIn = both[0], both[1]
	three := opened(s, "client", func() (fds [3]int, err error) {
		for i, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW} {
			protocol := 0
			if kind == unix.SOCK_RAW {
				protocol = unix.IPPROTO_RAW
			}
			if fds[i], err = socket(kind, protocol); err != nil {
				return fds, err
			}
			if err := unix.Connect(fds[i], sockaddr(server, pathPort)); err != nil {
				return fds, fmt.Errorf("connect to the server: %w", err)
			}
		}
		return fds, unix.SetsockoptInt(fds[0], unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	})
	e.out, e.udpOut, e.raw = three[0], three[1], three[2]
	var err error
	if e.in, _, err = unix.Accept4(e.listener, unix.SOCK_CLOEXEC); err != nil {
		s.b.Fatalf("accept the client: %v", err)
	}
	s.b.Cleanup(func() { _ = unix.Close(e.in) }) // as above
	if err := unix.SetsockoptInt(e.in, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		s.b.Fatal(err)
	}
	e.prepare()
	return e
}

// prepare makes what sendmmsg is given: datagrams of one byte, and packets of
// the same kind as raw sockets send them.
func (e *ends) prepare() {
	e.sends, e.datagrams = make([]mmsg, batch), make([]mmsg, batch)
	for i := range batch {
		p := make([]byte, 29)
		p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		source, target := e.client.As4(), e.server.As4()
		copy(p[12:], source[:])
		copy(p[16:], target[:])
		binary.BigEndian.PutUint16(p[22:], pathPort)
		binary.BigEndian.PutUint16(p[24:], uint16(len(p)-20))
		e.packets = append(e.packets, p)
		e.sends[i].header.Iov = &unix.Iovec{Base: &p[0], Len: uint64(len(p))}
		e.sends[i].header.Iovlen = 1
		e.datagrams[i].header.Iov = &unix.Iovec{Base: &p[28], Len: 1}
		e.datagrams[i].header.Iovlen = 1
	}
}

// sendAll sends a batch with one system call.
func sendAll(fd int, messages []mmsg) error {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), 0, 0, 0)
	if errno != 0 || int(n) != len(messages) {
		return fmt.Errorf("send %d datagrams: %d sent: %w", len(messages), n, errno)
	}
	return nil
}

// arrived takes a batch from the server, all of which has to be there.
func (e *ends) arrived() error {
	var buffer [64]byte
	for i := range batch {
		if _, err := unix.Read(e.udpIn, buffer[:]); err != nil {
			return fmt.Errorf("packet %d of %d has not arrived: %w", i, batch, err)
		}
	}
	return nil
}

// pingPong gives the time of each exchange of one byte over TCP.
func (e *ends) pingPong() ([]time.Duration, error) {
	all := make([]time.Duration, 0, trips)
	var buffer [1]byte
	for range trips {
		began := time.Now()
		for _, hop := range [][2]int{{e.out, e.in}, {e.in, e.out}} {
			if _, err := unix.Write(hop[0], buffer[:]); err != nil {
				return nil, fmt.Errorf("write: %w", err)
			}
			if _, err := unix.Read(hop[1], buffer[:]); err != nil {
				return nil, fmt.Errorf("read: %w", err)
			}
		}
		all = append(all, time.Since(began))
	}
	return all, nil
}

// connect gives the time of each connection, from sockets that were opened in
// the client's namespace: made, a byte each way, reset.
func (e *ends) connect(sockets []int) ([]time.Duration, error) {
	all := make([]time.Duration, 0, len(sockets))
	for i, fd := range sockets {
		took, err := e.exchange(fd)
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		all = append(all, took)
	}
	return all, nil
}

func (e *ends) exchange(fd int) (time.Duration, error) {
	var buffer [1]byte
	began := time.Now()
	if err := unix.Connect(fd, sockaddr(e.server, pathPort)); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	peer, _, err := unix.Accept4(e.listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("accept: %w", err), unix.Close(fd))
	}
	for _, hop := range [][2]int{{fd, peer}, {peer, fd}} {
		_, sent := unix.Write(hop[0], buffer[:])
		_, got := unix.Read(hop[1], buffer[:])
		err = errors.Join(err, sent, got)
	}
	err = errors.Join(err, unix.Close(fd), unix.Close(peer))
	return time.Since(began), err
}

// openSockets opens TCP sockets that are reset when they are closed.
func openSockets() (fds []int, err error) {
	for range connections {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// established gives the time for a packet of a flow that has seen replies, one
// figure a batch.
func (e *ends) established() ([]time.Duration, error) {
	var buffer [1]byte
	for range 3 { // there may be a new entry, which is to see both directions
		if _, err := unix.Write(e.udpOut, buffer[:]); err != nil {
			return nil, err
		}
		_, from, err := unix.Recvfrom(e.udpIn, buffer[:], 0)
		if err != nil {
			return nil, fmt.Errorf("the server has received nothing: %w", err)
		}
		if err := unix.Sendto(e.udpIn, buffer[:], 0, from); err != nil {
			return nil, err
		}
		if _, err := unix.Read(e.udpOut, buffer[:]); err != nil {
			return nil, fmt.Errorf("the client has received nothing: %w", err)
		}
	}
	return e.burst(batches, e.udpOut, e.datagrams, func() {})
}

// first gives the time for the first packet of a flow, one figure a batch.
func (e *ends) first() ([]time.Duration, error) {
	return e.burst(firsts, e.raw, e.sends, func() {
		for _, p := range e.packets {
			if e.port++; e.port < 1024 {
				e.port = 1024
			}
			binary.BigEndian.PutUint16(p[20:], e.port)
		}
	})
}

func (e *ends) burst(count, fd int, messages []mmsg, next func()) ([]time.Duration, error) {
	all := make([]time.Duration, 0, count)
	for range count {
		next()
		began := time.Now()
		if err := sendAll(fd, messages); err != nil {
			return nil, err
		}
		all = append(all, time.Since(began)/batch)
		if err := e.arrived(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// tenth is the time that one in ten is no longer than: what others do on the
// machine makes some longer and none shorter.
func tenth(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/10]
}
