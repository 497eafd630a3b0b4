package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/admin/api"
)

const (
	socketMode = 0o600
	// dialTimeout is for a listener on this machine that does not accept.
	dialTimeout = 2 * time.Second
)

var (
	errAnswered  = errors.New("another agent answers on it: only one can run on a node")
	errLocked    = errors.New("another agent holds its lock: only one can run on a node")
	errNotSocket = errors.New("something that is not a socket is in its place: remove it")
)

// socket is a listener that nobody else on this machine has at its path.
type socket struct {
	listener net.Listener
	lock     *os.File
}

// listenSocket makes the socket and its folder. What a dead agent left there is
// replaced; a living one's is not. Two agents that start at the same moment are
// told apart by a lock beside the socket, which ends with its process.
func listenSocket(path string) (*socket, error) {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	lock, err := lockFile(path + api.LockSuffix)
	if err != nil {
		return nil, err
	}
	listener, err := replaceSocket(path)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return &socket{listener, lock}, nil
}

// close removes the socket, then lets go of the lock. The lock's file stays: an
// agent that is waiting for it would otherwise hold one that nobody else sees.
func (s *socket) close() {
	_ = s.listener.Close() // the server has closed it already, mostly
	_ = s.lock.Close()
}

// makeFolder makes the folder, or looks whether the one there can be trusted:
// who may write to it could put a socket of his own in our place.
func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("make its folder: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look at its folder: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("its folder %s has mode %#o: others may write there, expected 0755 or less", path, mode)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("its folder %s belongs to uid %d, expected %d", path, stat.Uid, os.Geteuid())
	}
	return nil
}

func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, socketMode)
	if err != nil {
		return nil, fmt.Errorf("open its lock: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errLocked
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

func replaceSocket(path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSocket == 0:
		return nil, errNotSocket
	default:
		conn, err := net.DialTimeout("unix", path, dialTimeout)
		if err == nil {
			_ = conn.Close()
			return nil, errAnswered
		}
		// A full backlog is a sign of life, too: only this one is of death.
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("find out whether somebody answers on it: %w", err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove what a dead agent left: %w", err)
		}
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// The mode of a socket before it is bound is the mode that its file
		// gets (unix(7)): there is no moment in which it is open to others.
		if failed := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) }); failed != nil {
			return failed
		}
		return err
	}}
	return config.Listen(context.Background(), "unix", path)
}

type peerKey struct{}

// peer is who is at the other end of a connection.
type peer struct {
	uid uint32
	err error
}

// withPeer asks the kernel who has connected.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

func peerOf(c net.Conn) peer {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return peer{err: errors.New("not a unix socket")}
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{err: err}
	}
	var credentials *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		credentials, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, failed); err != nil {
		return peer{err: err}
	}
	return peer{uid: credentials.Uid}
}

// requireRoot refuses who is not root, should the mode of the socket's file
// have been changed or the connection have been handed on.
func requireRoot(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(peerKey{}).(peer)
		switch {
		case !ok || p.err != nil:
			w.Header().Set("Connection", "close")
			writeError(w, newError(http.StatusForbidden, api.CodeForbidden, "cannot tell who is asking: %v", p.err))
		case p.uid != 0:
			w.Header().Set("Connection", "close")
			writeError(w, newError(http.StatusForbidden, api.CodeForbidden, "uid %d is asking: only root may", p.uid))
		default:
			h.ServeHTTP(w, r)
		}
	})
}
