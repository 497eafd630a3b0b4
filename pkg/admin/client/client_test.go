package client

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/admin/api"
)

// serve answers everything with h, and is the socket of it.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovl") // t.TempDir's name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "a.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h} //nolint:gosec // of a test
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return path
}

func answer(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}
}

func TestRequestsAreEscaped(t *testing.T) {
	tests := []struct {
		name string
		ask  func(c *Client) error
		want string
	}{
		{"status", func(c *Client) error { _, err := c.Status(t.Context()); return err }, "/v1/status"},
		{"clusters", func(c *Client) error { _, err := c.Clusters(t.Context()); return err }, "/v1/clusters"},
		{"endpoint", func(c *Client) error { _, err := c.Endpoint(t.Context(), "", "a", "b.c"); return err }, "/v1/endpoints/a/b.c"},
		{"endpoint of a cluster", func(c *Client) error { _, err := c.Endpoint(t.Context(), "x&y", "a/b", "c?d"); return err }, "/v1/endpoints/a%2Fb/c%3Fd?cluster=x%26y"},
		{"no filter", func(c *Client) error { _, err := c.Endpoints(t.Context(), Filter{}); return err }, "/v1/endpoints"},
		{"filter", func(c *Client) error {
			_, err := c.Endpoints(t.Context(), Filter{"c", "n", "a in (b,c)", "Pod"})
			return err
		}, "/v1/endpoints?cluster=c&kind=Pod&labelSelector=a+in+%28b%2Cc%29&namespace=n"},
		{"expression", func(c *Client) error { _, err := c.Evaluate(t.Context(), "a == 'b' && c"); return err }, "/v1/eval?expression=a+%3D%3D+%27b%27+%26%26+c"},
		{"policies", func(c *Client) error { _, err := c.Policies(t.Context(), PolicyFilter{}); return err }, "/v1/policies"},
		{"filtered policies", func(c *Client) error {
			_, err := c.Policies(t.Context(), PolicyFilter{"n", "p&q", true})
			return err
		}, "/v1/policies?all=true&name=p%26q&namespace=n"},
		{"services", func(c *Client) error { _, err := c.Services(t.Context(), ""); return err }, "/v1/services"},
		{"services of a namespace", func(c *Client) error { _, err := c.Services(t.Context(), "n&m"); return err }, "/v1/services?namespace=n%26m"},
		{"service", func(c *Client) error { _, err := c.Service(t.Context(), "a/b", "c.d"); return err }, "/v1/services/a%2Fb/c.d"},
		{"policy", func(c *Client) error { _, err := c.Policy(t.Context(), "a/b", "c.d"); return err }, "/v1/policies/a%2Fb/c.d"},
		{"explanation", func(c *Client) error { _, err := c.Explain(t.Context(), "a/b", "fd00::1", "80/udp"); return err }, "/v1/explain?destination=fd00%3A%3A1&port=80%2Fudp&source=a%2Fb"},
		{"empty expression", func(c *Client) error { _, err := c.Evaluate(t.Context(), ""); return err }, "/v1/eval?expression="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 1)
			c := New(serve(t, func(w http.ResponseWriter, r *http.Request) {
				got <- r.RequestURI
				_, _ = w.Write([]byte(`{"items":[]}`))
			}))
			if err := tt.ask(c); err != nil {
				t.Fatal(err)
			}
			if uri := <-got; uri != tt.want {
				t.Errorf("asked for %s, want %s", uri, tt.want)
			}
		})
	}
}

const twoItems = `{"apiVersion":"admin.overland.dev/v1","kind":"EndpointList","partial":true,"newer":{"a":[1]},` +
	`"expression":"all()","items":[{"name":"a","newer":1},{"name":"b"}]}`

// read is all that a server's list has.
func read(t testing.TB, socket string) (*api.EndpointList, error) {
	t.Helper()
	l, err := New(socket).Endpoints(t.Context(), Filter{})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	all := l.Head
	for e, err := range l.Items() {
		if err != nil {
			return nil, err
		}
		all.Items = append(all.Items, *e)
	}
	return &all, nil
}

func TestListIsReadWithFieldsThatAreNotKnown(t *testing.T) {
	got, err := read(t, serve(t, answer(200, twoItems)))
	if err != nil {
		t.Fatal(err)
	}
	want := new(api.EndpointList)
	if err := json.Unmarshal([]byte(twoItems), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPartOfAListIsNeverAList(t *testing.T) {
	text := make(chan string, 1)
	socket := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(<-text)) })
	for n := range len(twoItems) {
		text <- twoItems[:n]
		if got, err := read(t, socket); err == nil {
			t.Fatalf("the first %d bytes were read as %+v", n, got)
		} else if !strings.Contains(err.Error(), "the agent's answer on "+socket+" is not complete: ") {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	nobody := filepath.Join(t.TempDir(), "a.sock")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name   string
		ctx    context.Context
		socket string
		want   string
	}{
		{"no socket", t.Context(), nobody, "cannot reach the agent's socket " + nobody + ": is overland-agent running on this node?"},
		{"not the agent", t.Context(), serve(t, answer(418, "I'm a teapot\n")), "418 I'm a teapot: I'm a teapot: is it the agent's socket, and the agent's version that of this program?"},
		{"no JSON", t.Context(), serve(t, answer(200, "hello")), "is not complete: invalid character"},
		{"nothing", t.Context(), serve(t, answer(200, "")), "is not complete: unexpected EOF"},
		{"interrupted", cancelled, nobody, "context canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.socket).Status(tt.ctx)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}

func TestRefusalIsAnAPIError(t *testing.T) {
	socket := serve(t, answer(400, `{"apiVersion":"admin.overland.dev/v1","kind":"Error","code":"Invalid","message":"no","offset":4}`))
	_, err := New(socket).Evaluate(t.Context(), "x")
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeInvalid || e.Message != "no" || e.Offset == nil || *e.Offset != 4 {
		t.Errorf("got %v", err)
	}
}

func FuzzListNeverPanics(f *testing.F) {
	for _, seed := range []string{twoItems, "", "{", `{"items":{}}`, `{"items":[1]}`, `[]`, `{"kind":1,"items":[]}`, `{"items":[]}x`} {
		f.Add(seed)
	}
	text := make(chan string, 1)
	socket := serve(f, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(<-text)) })
	f.Fuzz(func(t *testing.T, s string) {
		text <- s
		got, err := read(t, socket)
		if err == nil && !json.Valid([]byte(strings.TrimSpace(s))) {
			// What follows a whole list is not looked at.
			if !strings.Contains(s, "]") {
				t.Errorf("%q was read as %+v", s, got)
			}
		}
	})
}
