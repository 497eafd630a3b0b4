package netprobe

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// listenFlow serves flows of every mode on a port, over TCP and UDP.
func (s *Server) listenFlow(port uint16) error {
	if err := s.acceptTCP(port, s.serveFlow); err != nil {
		return err
	}
	return bothFamilies(func(v6 bool) error {
		network := "udp4"
		if v6 {
			network = "udp6"
		}
		conn, err := net.ListenUDP(network, &net.UDPAddr{Port: int(port)})
		if err != nil {
			return fmt.Errorf("listen for flows on UDP port %d: %w", port, err)
		}
		if err := enableOn(conn, v6, enablePacketInfo); err != nil {
			_ = conn.Close()
			return fmt.Errorf("listen for flows on UDP port %d: %w", port, err)
		}
		pulls := &pulls{conn: conn, clients: map[netip.AddrPort]bool{}}
		s.add(conn, func() error { return pulls.serve(s.log, port) })
		return nil
	})
}

// serveFlow serves one flow over TCP, as its first line asks.
func (s *Server) serveFlow(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	if err := conn.SetDeadline(time.Now().Add(maxFlow)); err != nil {
		return
	}
	lines := bufio.NewReader(conn)
	first, err := lines.ReadString('\n')
	if err != nil {
		return
	}
	mode, rest, _ := strings.Cut(strings.TrimSpace(first), " ")
	// How it ended is the client's to tell.
	switch Mode(mode) {
	case TCPPush:
		_, _ = io.Copy(io.Discard, lines)
	case TCPNew:
		_, _ = conn.Write([]byte("ok\n"))
	case TCPBulk:
		pushStream(conn, rest, func(uint64) []byte { return bytes.Repeat([]byte{'b'}, bulkSize) })
	case TCPSlow:
		pushStream(conn, rest, func(n uint64) []byte { return strconv.AppendUint(nil, n, 10) })
	}
}

// pushStream writes what next gives, once an interval, until it cannot.
func pushStream(conn net.Conn, interval string, next func(n uint64) []byte) {
	pause, err := time.ParseDuration(interval)
	if err != nil || pause < time.Millisecond {
		return
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		if _, err := conn.Write(next(n)); err != nil {
			return
		}
		<-tick.C
	}
}

// pulls are the clients of UDPPull that a socket sends to.
type pulls struct {
	conn *net.UDPConn

	mu      sync.Mutex
	clients map[netip.AddrPort]bool
}

// serve answers what asks for an answer, and hears the rest.
func (p *pulls) serve(log *logrus.Entry, port uint16) error {
	buf, oob := make([]byte, 1<<16), make([]byte, packetInfoSpace())
	for {
		n, oobn, _, source, err := p.conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return fmt.Errorf("receive flows on UDP port %d: %w", port, err)
		}
		words := strings.Fields(string(buf[:n]))
		if len(words) == 0 || Mode(words[0]) == UDPPush {
			continue
		}
		_, from, err := packetInfo(oob[:oobn])
		if err != nil {
			log.WithError(err).WithField("source", source).Warn("flow without its destination ignored")
			continue
		}
		switch {
		case Mode(words[0]) == UDPNew:
			if _, _, err := p.conn.WriteMsgUDPAddrPort([]byte("ok\n"), from, source); err != nil {
				log.WithError(err).WithField("source", source).Warn("UDP answer not sent")
			}
		case Mode(words[0]) == UDPPull && len(words) == 3:
			p.begin(source, from, words[1], words[2])
		}
	}
}

// begin sends to a client for as long as it asked, unless it is served already.
func (p *pulls) begin(client netip.AddrPort, from []byte, interval, length string) {
	pause, err := time.ParseDuration(interval)
	if err != nil || pause < time.Millisecond {
		return
	}
	limit, err := time.ParseDuration(length)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[client] {
		return
	}
	p.clients[client] = true
	go func() {
		defer func() {
			p.mu.Lock()
			delete(p.clients, client)
			p.mu.Unlock()
		}()
		p.push(client, from, pause, time.Now().Add(min(limit, maxFlow)))
	}()
}

// push sends numbered datagrams. What the network says of one that is dropped
// does not end it: it is to go on sending.
func (p *pulls) push(client netip.AddrPort, from []byte, pause time.Duration, until time.Time) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for n := uint64(0); time.Now().Before(until); n++ {
		_, _, err := p.conn.WriteMsgUDPAddrPort(strconv.AppendUint(nil, n, 10), from, client)
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EPERM) {
			return
		}
		<-tick.C
	}
}
