package runtime

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Kinds of frames between a shim and whoever is attached to its container. A
// frame is its kind, the length of its data as four bytes, and the data.
const (
	frameStdin    = 'i'
	frameStdinEnd = 'c'
	frameResize   = 'r' // a TermSize as JSON
	frameStdout   = 'o'
	frameStderr   = 'e'
)

const (
	// maxFrame bounds the data of a frame: what is copied at a time.
	maxFrame = 32 << 10
	// slowClient is how long a client may hold up a container's output before it
	// is cut off.
	slowClient = 10 * time.Second
)

func writeFrame(w io.Writer, kind byte, data []byte) error {
	frame := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data)))
	_, err := w.Write(append(frame, data...))
	return err
}

func readFrame(r io.Reader) (kind byte, data []byte, err error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(header[1:])
	if length > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes, at most %d expected", length, maxFrame)
	}
	data = make([]byte, length)
	_, err = io.ReadFull(r, data)
	return header[0], data, err
}

// attachments connects a container's standard files with its clients. It is
// safe for concurrent use.
type attachments struct {
	listener net.Listener
	once     bool // the first client's end is the end of standard input

	mu       sync.Mutex
	stdin    io.WriteCloser // nil: the container has none
	terminal *os.File       // nil: it has no terminal
	clients  map[net.Conn]bool
}

// listenAttach makes the socket in the container's folder. It is reached by way
// of the folder's descriptor, because a socket's path must be short.
func listenAttach(spec containerSpec) (*attachments, error) {
	folder, err := os.Open(spec.Dir)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	defer func() { _ = folder.Close() }() // only a way to the socket
	listener, err := net.Listen("unix", attachSocket(folder))
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	return &attachments{listener: listener, once: spec.Config.StdinOnce, clients: map[net.Conn]bool{}}, nil
}

func attachSocket(folder *os.File) string { return fmt.Sprintf("/proc/self/fd/%d/attach", folder.Fd()) }

// serve lets clients in until close.
func (a *attachments) serve() {
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			return // closed
		}
		a.mu.Lock()
		a.clients[conn] = true
		a.mu.Unlock()
		go a.receive(conn)
	}
}

// receive passes on what a client sends, until it goes.
func (a *attachments) receive(conn net.Conn) {
	for {
		kind, data, err := readFrame(conn)
		if err != nil {
			break
		}
		a.mu.Lock()
		stdin, terminal := a.stdin, a.terminal
		a.mu.Unlock()
		switch {
		case kind == frameStdin && stdin != nil:
			// A container that has closed its input does not want any.
			_, _ = stdin.Write(data)
		case kind == frameStdinEnd:
			a.endStdin()
		case kind == frameResize && terminal != nil:
			var size TermSize
			if json.Unmarshal(data, &size) == nil {
				_ = resize(terminal, size) // a size that does not fit changes nothing
			}
		}
	}
	a.drop(conn)
	a.endStdin()
}

// endStdin ends the container's standard input if a client's end does. A
// terminal ends only with the container.
func (a *attachments) endStdin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.once && a.stdin != nil && a.terminal == nil {
		_ = a.stdin.Close() // the container's side sees the end in any case
		a.stdin = nil
	}
}

func (a *attachments) drop(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.clients, conn)
	_ = conn.Close() // nothing is left to say
}

// connectStdin sets where clients' input goes; terminal may be nil.
func (a *attachments) connectStdin(stdin io.WriteCloser, terminal *os.File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stdin, a.terminal = stdin, terminal
}

// close ends all clients, after what was sent to them.
func (a *attachments) close() {
	_ = a.listener.Close() // which removes the socket
	a.mu.Lock()
	defer a.mu.Unlock()
	for conn := range a.clients {
		_ = conn.Close() // as for drop
	}
}

// output is a writer that shows clients what the container writes. It never
// fails: the log is what counts.
type output struct {
	to   *attachments
	kind byte
}

func (o output) Write(data []byte) (int, error) {
	o.to.mu.Lock()
	defer o.to.mu.Unlock()
	for conn := range o.to.clients {
		for rest := data; len(rest) > 0; {
			piece := rest[:min(len(rest), maxFrame)]
			rest = rest[len(piece):]
			err := errors.Join(conn.SetWriteDeadline(time.Now().Add(slowClient)), writeFrame(conn, o.kind, piece))
			if err != nil {
				delete(o.to.clients, conn)
				_ = conn.Close() // it is gone, or as good as
				break
			}
		}
	}
	return len(data), nil
}

// Attach connects the caller with the first process of a running container:
// with what it writes from now on, and with its standard input if it has one. It
// returns when the container has ended or ctx does.
func (r *Runtime) Attach(ctx context.Context, id string, streams ExecIO) error {
	c, err := r.findContainer(id)
	if err != nil {
		return err
	}
	folder, err := os.Open(c.spec.Dir)
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	conn, err := net.Dial("unix", attachSocket(folder))
	_ = folder.Close() // only a way to the socket
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	client := &attachClient{conn: conn}
	defer func() { _ = conn.Close() }() // both sides are done
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if streams.Stdin != nil {
		go client.feed(streams.Stdin)
	}
	if streams.Resize != nil {
		go client.resize(streams.Resize)
	}
	return client.show(streams)
}

// attachClient is one caller's connection with a shim.
type attachClient struct {
	mu   sync.Mutex // one frame at a time
	conn net.Conn
}

func (c *attachClient) send(kind byte, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return writeFrame(c.conn, kind, data)
}

// feed sends the caller's input; it ends with that or with the connection.
func (c *attachClient) feed(in io.Reader) {
	buffer := make([]byte, maxFrame)
	for {
		n, err := in.Read(buffer)
		if n > 0 && c.send(frameStdin, buffer[:n]) != nil {
			return
		}
		if err != nil {
			_ = c.send(frameStdinEnd, nil) // the container may have ended
			return
		}
	}
}

func (c *attachClient) resize(sizes <-chan TermSize) {
	for size := range sizes {
		text, err := json.Marshal(size)
		if err != nil || c.send(frameResize, text) != nil {
			return
		}
	}
}

// show writes what the container writes until the shim hangs up.
func (c *attachClient) show(streams ExecIO) error {
	for {
		kind, data, err := readFrame(c.conn)
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("attached to a container: %w", err)
		}
		to := streams.Stdout
		if kind == frameStderr && streams.Stderr != nil {
			to = streams.Stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(data); err != nil {
			return fmt.Errorf("attached to a container: %w", err)
		}
	}
}
