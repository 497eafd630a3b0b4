package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/admin/client"
	"github.com/overland-net/overland/pkg/agent"
)

// stranger is the uid that the child process has.
const stranger = 65534

// TestMain is the child process too: it asks the socket as somebody else.
func TestMain(m *testing.M) {
	if socket := os.Getenv("OVERLAND_TEST_ASK"); socket != "" {
		os.Exit(askAsStranger(socket))
	}
	os.Exit(m.Run())
}

func askAsStranger(socket string) int {
	_, err := client.New(socket).Status(context.Background())
	fmt.Println(err)
	return 0
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root: only root may ask the socket")
	}
}

// folder is a folder that others may pass, but not write to.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovl") // t.TempDir's name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start runs a server until the test ends, and waits until it listens.
func start(t *testing.T, s *Server) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	for {
		conn, err := net.Dial("unix", s.config.Socket)
		if err == nil {
			_ = conn.Close()
			return stop
		}
		select {
		case err := <-done:
			t.Fatalf("the server has ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
}

func socketServer(socket string, s *agent.Snapshot) *Server {
	return NewServer(Config{Socket: socket, Self: self(), Now: noon}, fixed{s}, quiet())
}

func TestSocketIsForRootAlone(t *testing.T) {
	needRoot(t)
	path := filepath.Join(folder(t), "run", "overland", "admin.sock")
	stop := start(t, socketServer(path, nil))
	for name, want := range map[string]fs.FileMode{path: 0o600 | fs.ModeSocket, filepath.Dir(path): 0o755 | fs.ModeDir} {
		info, err := os.Lstat(name)
		if err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v (%v), want %v", name, info.Mode(), err, want)
		}
	}
	if s, err := client.New(path).Status(t.Context()); err != nil || s.State != api.AgentStarting {
		t.Errorf("status %+v, %v, want it starting", s, err)
	}
	if err := stop(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	_, err := client.New(path).Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "is overland-agent running on this node?") {
		t.Errorf("got %v, want what to do about it", err)
	}
}

func TestStrangerIsRefused(t *testing.T) {
	needRoot(t)
	program := filepath.Join(folder(t), "program")
	copyProgram(t, program)
	ask := func(socket string) string {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = []string{"OVERLAND_TEST_ASK=" + socket, "GORACE=atexit_sleep_ms=0"}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	path := filepath.Join(folder(t), "a.sock")
	start(t, socketServer(path, world()))
	if got := ask(path); !strings.Contains(got, "permission denied: you must be root") {
		t.Errorf("by the mode of the file: got %q", got)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if got, want := ask(path), "uid 65534 is asking: only root may\n"; got != want {
		t.Errorf("by its credentials: got %q, want %q", got, want)
	}
}

// copyProgram copies this test's program to where a stranger can run it.
func copyProgram(t *testing.T, to string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	needRoot(t)
	path := filepath.Join(folder(t), "a.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, socketServer(path, world()))
	if _, err := client.New(path).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSocketIsRefused(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name    string
		prepare func(t *testing.T, dir, path string)
		want    string
	}{
		{"another agent runs", func(t *testing.T, _, path string) { start(t, socketServer(path, nil)) }, "another agent holds its lock: only one can run on a node"},
		{"something answers", func(t *testing.T, _, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, "another agent answers on it: only one can run on a node"},
		{"a file is in its place", func(t *testing.T, _, path string) { write(t, path) }, "something that is not a socket is in its place"},
		{"others may write to the folder", func(t *testing.T, dir, _ string) {
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}, "has mode 0777: others may write there, expected 0755 or less"},
		{"the folder is another's", func(t *testing.T, dir, _ string) {
			if err := os.Chown(dir, stranger, stranger); err != nil {
				t.Fatal(err)
			}
		}, "belongs to uid 65534, expected 0"},
		{"the lock is a link", func(t *testing.T, dir, path string) {
			if err := os.Symlink(filepath.Join(dir, "elsewhere"), path+".lock"); err != nil {
				t.Fatal(err)
			}
		}, "open its lock"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := folder(t)
			path := filepath.Join(dir, "a.sock")
			tt.prepare(t, dir, path)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // Run ends by itself
			defer cancel()
			err := socketServer(path, nil).Run(ctx)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTakenMetricsPortIsAnError(t *testing.T) {
	needRoot(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	path := filepath.Join(folder(t), "a.sock")
	server := socketServer(path, nil)
	server.config.Listen = taken.Addr().String()
	if err := server.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "metrics and health on 127.0.0.1:") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestPortServesMetricsAndHealthAlone(t *testing.T) {
	needRoot(t)
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder(t), "a.sock")
	socket, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- socketServer(path, world()).serve(ctx, socket.listener, port) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve returned %v", err)
		}
	}()
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200, "/metrics": 200,
		"/v1/status": 404, "/v1/endpoints": 404, "/debug/pprof/": 404, "/": 404,
	} {
		response, err := http.Get("http://" + port.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != want {
			t.Errorf("%s: %d (%v), want %d", path, response.StatusCode, err, want)
		}
		if path == "/metrics" {
			for _, name := range []string{"overland_in_sync 1", "go_goroutines ", "process_resident_memory_bytes ", "go_build_info{"} {
				if !bytes.Contains(body, []byte(name)) {
					t.Errorf("/metrics has no %s", name)
				}
			}
		}
	}
}

func TestPprofIsOnTheSocket(t *testing.T) {
	needRoot(t)
	path := filepath.Join(folder(t), "a.sock")
	start(t, socketServer(path, world()))
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for _, p := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/metrics"} {
		response, err := c.Get("http://overland" + p)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", p, response.Status)
		}
	}
}

func TestListArrivesWhole(t *testing.T) {
	needRoot(t)
	const pods = 3000 // some hundred kilobytes: more than any buffer on the way
	path := filepath.Join(folder(t), "a.sock")
	start(t, socketServer(path, manyPods(pods)))
	l, err := client.New(path).Endpoints(t.Context(), client.Filter{Kind: api.KindPod})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, last := 0, ""
	for e, err := range l.Items() {
		if err != nil {
			t.Fatal(err)
		}
		if e.Name <= last {
			t.Fatalf("%s after %s", e.Name, last)
		}
		last = e.Name
		n++
	}
	if n != pods || l.Head.Kind != api.KindEndpointList || !l.Head.Partial {
		t.Errorf("%d endpoints, head %+v", n, l.Head)
	}
}

func TestStoppedServerCutsAnswersOff(t *testing.T) {
	needRoot(t)
	path := filepath.Join(folder(t), "a.sock")
	stop := start(t, socketServer(path, manyPods(10000)))
	l, err := client.New(path).Endpoints(t.Context(), client.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := stop(); err != nil {
		t.Error(err)
	}
	var failed error
	for _, err := range l.Items() {
		failed = err
	}
	if failed == nil || !strings.Contains(failed.Error(), "is not complete") {
		t.Errorf("got %v, want that the list is not complete", failed)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limited := limitConns(inner, 1)
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := limited.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	for range 2 {
		if _, err := net.Dial("tcp", inner.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	first := <-accepted
	if n := len(limited.(*limitedListener).open); n != 1 {
		t.Errorf("%d connections are open, want 1", n)
	}
	for range 2 {
		_ = first.Close() // gives one place back, not two
	}
	second := <-accepted
	if err := limited.Close(); err != nil {
		t.Error(err)
	}
	if conn, open := <-accepted; open {
		t.Errorf("accepted %v after Close", conn)
	}
	_ = second.Close()
}
