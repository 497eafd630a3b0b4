package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// Bounds of what an API server may send. A page of 500 objects with 100 KiB each
// is far beyond any real one.
const (
	maxListBody  = 48 << 20 // an answer to a list with a limit
	maxErrorBody = 1 << 20  // any other answer
)

var (
	errTooLong  = errors.New("the answer is longer than it may be")
	errRedirect = errors.New("the server answers with a redirect to another address, which an API server never does")
)

// wire is an HTTP connection to one API server, shared with nothing else, so that
// closing it ends what hangs on it.
type wire struct {
	client *http.Client
	base   *http.Transport
}

// newWire connects as cfg says. noted hears of every request that got no answer
// and of every answer that broke off.
func newWire(cfg *rest.Config, t Timing, noted func()) (*wire, error) {
	tc, err := cfg.TransportConfig()
	if err != nil {
		return nil, fmt.Errorf("prepare a connection to %s: %w", cfg.Host, err)
	}
	tlsConfig, err := transport.TLSConfigFor(tc)
	if err != nil {
		return nil, fmt.Errorf("prepare TLS for %s: %w", cfg.Host, err)
	}
	dialer := &net.Dialer{Timeout: t.ProbeTimeout, KeepAlive: t.ProbeAfter}
	base := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   t.ProbeTimeout,
		ForceAttemptHTTP2:     true,
		IdleConnTimeout:       time.Minute,
		ExpectContinueTimeout: time.Second,
		// A connection that has gone silent is found by pings, if not sooner by
		// a probe, also while nothing but a watch uses it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: t.ProbeAfter, PingTimeout: t.ProbeTimeout},
		// Headers count like bodies.
		MaxResponseHeaderBytes: 64 << 10,
	}
	if cfg.Proxy != nil {
		base.Proxy = cfg.Proxy
	}
	if tc.DialHolder != nil {
		base.DialContext = tc.DialHolder.Dial
	}
	auth, err := transport.HTTPWrappersForConfig(tc, &guard{next: base, noted: noted})
	if err != nil {
		return nil, fmt.Errorf("prepare the credentials for %s: %w", cfg.Host, err)
	}
	client := &http.Client{Transport: auth, CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect }}
	return &wire{client: client, base: base}, nil
}

// close ends what no request uses any more; requests end with their contexts.
func (w *wire) close() { w.base.CloseIdleConnections() }

// guard bounds answers and hears of broken ones.
type guard struct {
	next  http.RoundTripper
	noted func()
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		g.note(req.Context(), err)
		return nil, err //nolint:wrapcheck // callers look into it, and http.Client wraps it
	}
	left := int64(maxErrorBody)
	query := req.URL.Query()
	switch {
	case resp.StatusCode != http.StatusOK:
	case query.Get("watch") != "":
		left = -1
	case query.Get("limit") != "":
		left = maxListBody
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: left, broke: func(err error) { g.note(req.Context(), err) }}
	return resp, nil
}

// note passes on failures of the connection, not that the asker has gone.
func (g *guard) note(ctx context.Context, err error) {
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		if !errors.Is(err, errTooLong) {
			g.noted()
		}
	}
}

// boundedBody fails with errTooLong beyond its length; below 0 it has none.
type boundedBody struct {
	io.ReadCloser
	left  int64
	broke func(error)
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		// Only what follows tells whether the answer is too long.
		if n, err := b.ReadCloser.Read(make([]byte, 1)); n == 0 {
			return 0, err //nolint:wrapcheck // io.EOF must stay itself
		}
		return 0, errTooLong
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.broke(err)
	}
	return n, err //nolint:wrapcheck // io.EOF must stay itself
}

// serverURL is what people need to know of where a connection goes.
func serverURL(host string) string {
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host
	}
	return host
}
