package kubelet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/utils/exec"

	"github.com/overland-net/overland/test/lab/runtime"
)

// idleStream is how long a stream may be silent: the real kubelet's default.
const idleStream = 4 * time.Hour

// commandStreams finds the running container that a request names and which
// streams it asks for, or answers why not: options are then nil.
func (s *server) commandStreams(w http.ResponseWriter, r *http.Request) (id string, options *remotecommand.Options) {
	c, ok := s.running(w, r)
	if !ok {
		return "", nil
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return "", nil
	}
	return c.ID, options
}

// exec runs a command in a container and connects it with the caller.
func (s *server) exec(w http.ResponseWriter, r *http.Request) {
	id, options := s.commandStreams(w, r)
	if options == nil {
		return
	}
	remotecommand.ServeExec(w, r, executor{s.k}, "", "", id, r.URL.Query()["command"], options,
		idleStream, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

// executor runs commands for the streaming library. The container's name is its
// id here.
type executor struct{ k *Kubelet }

// ExecInContainer runs the command and returns an error with its exit code
// unless that is 0.
func (e executor) ExecInContainer(ctx context.Context, _, _, id string, command []string, in io.Reader, out, errs io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	code, err := e.k.streams.Exec(ctx, id, command, streamsOf(ctx, in, out, errs, tty, resize))
	if err != nil {
		return err
	}
	if code != 0 {
		return exec.CodeExitError{Err: fmt.Errorf("exit code %d", code), Code: code}
	}
	return nil
}

// attach connects the caller with the container's own command.
func (s *server) attach(w http.ResponseWriter, r *http.Request) {
	id, options := s.commandStreams(w, r)
	if options == nil {
		return
	}
	remotecommand.ServeAttach(w, r, attacher{s.k}, "", "", id, options,
		idleStream, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

// attacher attaches for the streaming library. The container's name is its id
// here.
type attacher struct{ k *Kubelet }

// AttachContainer returns when the container has ended or the caller is gone.
func (a attacher) AttachContainer(ctx context.Context, _, _, id string, in io.Reader, out, errs io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return a.k.streams.Attach(ctx, id, streamsOf(ctx, in, out, errs, tty, resize))
}

// streamsOf puts the caller's streams into one value; those that it does not
// want are absent there.
func streamsOf(ctx context.Context, in io.Reader, out, errs io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize,
) runtime.ExecIO {
	all := runtime.ExecIO{Stdin: in, Stdout: out, Stderr: errs, TTY: tty}
	if resize != nil {
		all.Resize = sizes(ctx, resize)
	}
	return all
}

func sizes(ctx context.Context, from <-chan remotecommand.TerminalSize) <-chan runtime.TermSize {
	to := make(chan runtime.TermSize)
	go func() {
		defer close(to)
		for {
			select {
			case <-ctx.Done():
				return
			case size, ok := <-from:
				if !ok {
					return
				}
				select {
				case <-ctx.Done():
					return
				case to <- runtime.TermSize{Width: size.Width, Height: size.Height}:
				}
			}
		}
	}()
	return to
}

// portForward connects the caller with ports of a pod.
func (s *server) portForward(w http.ResponseWriter, r *http.Request) {
	pod := s.pod(w, r)
	if pod == nil {
		return
	}
	sandbox, ok := s.k.observe(pod.UID).Sandbox()
	if !ok {
		answer(w, http.StatusNotFound, fmt.Sprintf("pod %s is not running", pod.Name))
		return
	}
	options, err := portforward.NewV4Options(r)
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	portforward.ServePortForward(w, r, forwarder{s.k}, sandbox.ID, string(pod.UID), options,
		idleStream, remotecommand.DefaultStreamCreationTimeout, portforward.SupportedProtocols)
}

// forwarder dials into pods for the streaming library. The pod's name is its
// sandbox's id here.
type forwarder struct{ k *Kubelet }

// PortForward connects the stream with a port on the pod's loopback interface.
func (f forwarder) PortForward(ctx context.Context, id, _ string, port int32, stream io.ReadWriteCloser) error {
	defer func() { _ = stream.Close() }() // its peer may be gone already
	namespaces, err := f.k.streams.Namespaces(id)
	if err != nil {
		return fmt.Errorf("find the pod's network: %w", err)
	}
	var conn net.Conn
	err = namespaces.Do(func() error {
		var err error
		for _, host := range []string{"127.0.0.1", "::1"} {
			// Dialled on this very thread, which is in the pod's network: a
			// numeric address needs no resolver, and one address no race.
			if conn, err = dial(host, port); err == nil {
				return nil
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("connect to port %d in the pod: %w", port, err)
	}
	defer func() { _ = conn.Close() }() // both directions are done by then
	up := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, stream)
		if half, ok := conn.(*net.TCPConn); ok && err == nil {
			err = half.CloseWrite()
		}
		up <- err
	}()
	if _, err := io.Copy(stream, conn); err != nil {
		return fmt.Errorf("read from port %d in the pod: %w", port, err)
	}
	select {
	case <-ctx.Done():
	case err := <-up:
		if err != nil {
			return fmt.Errorf("write to port %d in the pod: %w", port, err)
		}
	case <-time.After(time.Second): // the pod has closed: what is still on its way in is lost
	}
	return nil
}

func dial(host string, port int32) (net.Conn, error) {
	return net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))), 5*time.Second)
}
