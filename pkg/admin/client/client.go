package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
)

const (
	// dialTimeout is for an agent on this machine that does not accept.
	dialTimeout = 5 * time.Second
	// headerTimeout is for an agent that accepts and does not answer; lists
	// may have to wait for their turn.
	headerTimeout = 30 * time.Second
	// maxError bounds what is read of an answer that is not JSON.
	maxError = 4096
)

// Client asks one agent. It may be used by several goroutines.
type Client struct {
	socket string
	http   *http.Client
	// patient is http without headerTimeout, for callers that set a deadline.
	patient *http.Client
}

// New asks the agent behind a socket; nothing is opened yet.
func New(socket string) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport := func(headerTimeout time.Duration) *http.Transport {
		return &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			},
			// One command asks once or twice: nothing needs to be kept open.
			DisableKeepAlives:     true,
			DisableCompression:    true,
			ResponseHeaderTimeout: headerTimeout,
		}
	}
	return &Client{
		socket:  socket,
		http:    &http.Client{Transport: transport(headerTimeout)},
		patient: &http.Client{Transport: transport(0)},
	}
}

// Status is the node at a glance.
func (c *Client) Status(ctx context.Context) (*api.Status, error) {
	return get[api.Status](ctx, c, api.PathStatus, nil)
}

// Clusters lists the clusters.
func (c *Client) Clusters(ctx context.Context) (*api.ClusterList, error) {
	return get[api.ClusterList](ctx, c, api.PathClusters, nil)
}

// Endpoint is all about one pod: of the local cluster, if cluster is empty.
func (c *Client) Endpoint(ctx context.Context, cluster, namespace, pod string) (*api.EndpointDetails, error) {
	query := url.Values{}
	set(query, api.ParamCluster, cluster)
	path := api.PathEndpoints + "/" + url.PathEscape(namespace) + "/" + url.PathEscape(pod)
	return get[api.EndpointDetails](ctx, c, path, query)
}

// Filter says which endpoints are asked for; what is empty filters nothing.
type Filter struct {
	Cluster, Namespace string
	LabelSelector      string // as of kubectl -l
	Kind               string // api.KindPod or api.KindNode
}

// Endpoints lists those that pass the filter. The list must be closed.
func (c *Client) Endpoints(ctx context.Context, f Filter) (*List, error) {
	query := url.Values{}
	set(query, api.ParamCluster, f.Cluster)
	set(query, api.ParamNamespace, f.Namespace)
	set(query, api.ParamLabelSelector, f.LabelSelector)
	set(query, api.ParamKind, f.Kind)
	return c.list(ctx, api.PathEndpoints, query)
}

// Evaluate lists what a federation expression selects. The list must be closed.
func (c *Client) Evaluate(ctx context.Context, expression string) (*List, error) {
	return c.list(ctx, api.PathEvaluate, url.Values{api.ParamExpression: {expression}})
}

func set(query url.Values, name, value string) {
	if value != "" {
		query.Set(name, value)
	}
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (*T, error) {
	body, err := c.open(ctx, path, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	value := new(T)
	if err := json.NewDecoder(body).Decode(value); err != nil {
		return nil, c.brokenOff(err)
	}
	return value, nil
}

// open asks and returns the body of a good answer.
func (c *Client) open(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	// The host is never looked up; it is what the agent sees as Host.
	target := url.URL{Scheme: "http", Host: "overland", RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the agent for %s: %w", path, err)
	}
	if request.URL.Path, err = url.PathUnescape(path); err != nil {
		return nil, fmt.Errorf("ask the agent for %s: %w", path, err)
	}
	request.URL.RawPath = path
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer func() { _ = response.Body.Close() }()
	return nil, c.refusal(response)
}

// refusal is what an answer that is not a good one says: an *api.Error, if it is
// an agent that gave it.
func (c *Client) refusal(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxError))
	if err != nil {
		return c.brokenOff(err)
	}
	refused := new(api.Error)
	if json.Unmarshal(text, refused) != nil || refused.Kind != api.KindError {
		return fmt.Errorf("%s answers %s: %s: is it the agent's socket, and the agent's version that of this program?",
			c.socket, response.Status, strings.TrimSpace(string(text)))
	}
	return refused
}

// unreachable says what to do about it.
func (c *Client) unreachable(err error) error {
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err // its text repeats the URL, which means nothing here
	}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot reach the agent's socket %s: permission denied: you must be root", c.socket)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("cannot reach the agent's socket %s: is overland-agent running on this node? "+
			"From elsewhere, name the node with --node", c.socket)
	}
	return fmt.Errorf("cannot reach the agent's socket %s: %w", c.socket, err)
}

func (c *Client) brokenOff(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the agent's answer on %s is not complete: %w: ask again; if the agent was restarted, its log says why", c.socket, err)
}
