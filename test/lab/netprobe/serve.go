package netprobe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// maxRequest is the longest TCP request line, in bytes.
	maxRequest = 1 << 17
	// idleLimit ends TCP connections on which nothing is asked any more; well
	// above the longest hold.
	idleLimit = 2 * maxHold
	// headerLimit is how long an HTTP client may take to send its headers.
	headerLimit = 10 * time.Second
)

// ServeConfig says what to serve: ports by protocol, each on every IPv4 and
// IPv6 address.
type ServeConfig struct {
	Name string // what replies call this server
	TCP  []uint16
	UDP  []uint16
	SCTP []uint16 // needs root
	HTTP []uint16 // /healthz is 200 and empty, / is a Reply
	Flow []uint16 // flows of every Mode, over TCP and UDP
}

// Server is a set of open sockets. Listen makes one.
type Server struct {
	name string
	log  *logrus.Entry

	closers []io.Closer
	loops   []func() error // each ends when its socket is closed

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]struct{}
	done  bool
}

// Listen opens every socket of cfg; after an error none stays open.
func Listen(cfg ServeConfig, log *logrus.Entry) (*Server, error) {
	s := &Server{name: cfg.Name, log: log, conns: map[net.Conn]struct{}{}}
	for _, group := range []struct {
		ports  []uint16
		listen func(port uint16) error
	}{{cfg.TCP, s.listenTCP}, {cfg.UDP, s.listenUDP}, {cfg.HTTP, s.listenHTTP}, {cfg.Flow, s.listenFlow}} {
		for _, port := range group.ports {
			if err := group.listen(port); err != nil {
				s.close()
				return nil, err
			}
		}
	}
	if len(cfg.SCTP) > 0 {
		if err := s.listenSCTP(cfg.SCTP); err != nil {
			s.close()
			return nil, err
		}
	}
	log.WithFields(logrus.Fields{
		"name": cfg.Name, "tcp": cfg.TCP, "udp": cfg.UDP, "sctp": cfg.SCTP, "http": cfg.HTTP, "flow": cfg.Flow,
	}).Info("serving")
	return s, nil
}

// Run serves until ctx ends or a socket fails, then closes everything and
// returns the failure, if it was one. Call it once.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, loop := range s.loops {
		g.Go(loop)
	}
	<-ctx.Done()
	s.close()
	return g.Wait()
}

// close closes every socket and every open connection.
func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	for _, c := range s.closers {
		_ = c.Close() // nothing is left to be lost
	}
	for c := range s.conns {
		_ = c.Close()
	}
}

// add takes a socket and the loop that serves it.
func (s *Server) add(closer io.Closer, loop func() error) {
	s.closers = append(s.closers, closer)
	s.loops = append(s.loops, func() error {
		if err := loop(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}

// listenStream listens for plain TCP: Go would take MPTCP where there is such,
// which is another protocol to a packet filter.
func listenStream(port uint16) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	return config.Listen(context.Background(), "tcp", ":"+strconv.Itoa(int(port)))
}

func (s *Server) listenTCP(port uint16) error { return s.acceptTCP(port, s.serveTCP) }

// acceptTCP serves each connection to a port.
func (s *Server) acceptTCP(port uint16, serve func(net.Conn)) error {
	l, err := listenStream(port)
	if err != nil {
		return fmt.Errorf("listen on TCP port %d: %w", port, err)
	}
	s.add(l, func() error {
		for {
			conn, err := l.Accept()
			if err != nil {
				return fmt.Errorf("accept on TCP port %d: %w", port, err)
			}
			if s.track(conn) {
				go serve(conn)
			}
		}
	})
	return nil
}

// track remembers a connection so that close ends it; false means too late.
func (s *Server) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		_ = conn.Close()
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

// serveTCP answers each line, and a last one that ends with the stream.
func (s *Server) serveTCP(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	reply := Reply{Server: s.name, Source: addrPortOf(conn.RemoteAddr()), Local: addrPortOf(conn.LocalAddr())}
	lines := bufio.NewReaderSize(conn, maxRequest)
	for {
		if err := conn.SetDeadline(time.Now().Add(idleLimit)); err != nil {
			return
		}
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 && (err == nil || errors.Is(err, io.EOF)) {
			reply.Bytes = len(line)
			if _, err := conn.Write(reply.line()); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// addrPortOf gives a socket's address, IPv4 in its short form.
func addrPortOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.IPAddr:
		return netip.AddrPortFrom(addrOf(a), 0)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func (s *Server) listenHTTP(port uint16) error {
	l, err := listenStream(port)
	if err != nil {
		return fmt.Errorf("listen on HTTP port %d: %w", port, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		size, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return // the client went away
		}
		reply := Reply{Server: s.name, Bytes: int(size)}
		if source, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			reply.Source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port())
		}
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			reply.Local = addrPortOf(local)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(reply.line()) // a client that went away needs no answer
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerLimit}
	s.add(server, func() error { return server.Serve(l) })
	// Until it serves, the HTTP server does not know its listener.
	s.closers = append(s.closers, l)
	return nil
}

// bothFamilies calls listen for IPv4, then for IPv6, which a kernel may lack.
func bothFamilies(listen func(v6 bool) error) error {
	if err := listen(false); err != nil {
		return err
	}
	err := listen(true)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

func (s *Server) listenUDP(port uint16) error {
	return bothFamilies(func(v6 bool) error {
		network := "udp4"
		if v6 {
			network = "udp6"
		}
		conn, err := net.ListenUDP(network, &net.UDPAddr{Port: int(port)})
		if err != nil {
			return fmt.Errorf("listen on UDP port %d: %w", port, err)
		}
		if err := enableOn(conn, v6, enablePacketInfo); err != nil {
			_ = conn.Close()
			return fmt.Errorf("listen on UDP port %d: %w", port, err)
		}
		s.add(conn, func() error { return s.serveUDP(conn, port) })
		return nil
	})
}

// enableOn applies a socket option to conn.
func enableOn(conn syscall.Conn, v6 bool, enable func(syscall.RawConn, bool) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return enable(raw, v6)
}

// serveUDP answers each datagram from the address that it was sent to.
func (s *Server) serveUDP(conn *net.UDPConn, port uint16) error {
	buf, oob := make([]byte, 1<<16), make([]byte, packetInfoSpace())
	for {
		n, oobn, _, source, err := conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return fmt.Errorf("receive on UDP port %d: %w", port, err)
		}
		dst, answer, err := packetInfo(oob[:oobn])
		if err != nil {
			s.log.WithError(err).WithField("source", source).Warn("UDP datagram without its destination ignored")
			continue
		}
		reply := Reply{
			Server: s.name, Bytes: n, Local: netip.AddrPortFrom(dst, port),
			Source: netip.AddrPortFrom(source.Addr().Unmap(), source.Port()),
		}
		if _, _, err := conn.WriteMsgUDPAddrPort(reply.line(), answer, source); err != nil {
			s.log.WithError(err).WithField("source", source).Warn("UDP answer not sent")
		}
	}
}
