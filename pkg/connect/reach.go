package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// reachLimit bounds one node's attempt. A packet that is dropped on the way
	// is answered by nothing at all.
	reachLimit = 5 * time.Second
	// maxProbed is how many nodes are asked: what one of many cannot reach shows
	// in its own status later.
	maxProbed     = 20
	probesAtATime = 10
)

// Reach tries from this machine whether an API server can be reached and proves
// to be of the CA (PEM): TLS, then GET /version. Any HTTP answer is contact: no
// credentials are sent. serverName is what the certificate is to be for; empty:
// the URL's host.
func Reach(ctx context.Context, server, serverName string, ca []byte) Reached {
	start := time.Now()
	status, err := reach(ctx, server, serverName, ca)
	r := Reached{URL: server, OK: err == nil, Status: status, Millis: time.Since(start).Milliseconds()}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func reach(ctx context.Context, server, serverName string, ca []byte) (int, error) {
	target, err := url.Parse(server)
	if err != nil || target.Scheme != "https" || target.Host == "" {
		return 0, fmt.Errorf("server %q: a URL with https and a host is expected", server)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return 0, errors.New("the CA has no certificate in PEM form")
	}
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	transport := &http.Transport{
		// No proxy: the agents do not use one either.
		TLSClientConfig:   &tls.Config{RootCAs: pool, ServerName: serverName, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.JoinPath("version").String(), nil)
	if err != nil {
		return 0, fmt.Errorf("server %q: %w", server, err)
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return 0, fmt.Errorf("no answer within %s", reachLimit)
		}
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// Probe asks nodes of a cluster, through their agents, whether they reach an API
// server.
func Probe(ctx context.Context, c *Cluster, agents []AgentPod, server, serverName string, ca []byte) Probes {
	probes := Probes{URL: server}
	ready := slices.DeleteFunc(slices.Clone(agents), func(p AgentPod) bool { return !p.Ready })
	if len(ready) == 0 {
		probes.NotMade = "no agent is ready there to ask"
		return probes
	}
	slices.SortFunc(ready, func(a, b AgentPod) int { return strings.Compare(a.Node, b.Node) })
	ready = ready[:min(len(ready), maxProbed)]
	command := []string{agentProgram, "reach", server}
	if serverName != "" {
		command = append(command, "--tls-server-name", serverName)
	}
	results, failures := make([]Reached, len(ready)), make([]error, len(ready))
	var group errgroup.Group
	group.SetLimit(probesAtATime)
	for i, pod := range ready {
		group.Go(func() error {
			results[i], failures[i] = probe(ctx, c.Exec, pod, command, ca)
			return nil
		})
	}
	_ = group.Wait() // its functions return no error
	for i := range ready {
		if failures[i] != nil {
			probes.NotMade = failures[i].Error()
			continue
		}
		probes.Results = append(probes.Results, results[i])
	}
	return probes
}

func probe(ctx context.Context, exec Exec, pod AgentPod, command []string, ca []byte) (Reached, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*reachLimit)
	defer cancel()
	// The program fails if it could not reach the server, and says why all the same.
	out, failed := exec(ctx, pod, command, strings.NewReader(string(ca)))
	var r Reached
	if err := json.Unmarshal(out, &r); err != nil {
		if failed != nil {
			return Reached{}, failed
		}
		return Reached{}, fmt.Errorf("the answer of pod %s/%s is not that of overland reach: %w", Namespace, pod.Name, err)
	}
	r.Node = pod.Node
	return r, nil
}

// Print writes a result as one line of JSON, for Probe on the other end.
func (r Reached) Print(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(r); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}
