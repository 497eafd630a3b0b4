package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/overland-net/overland/test/lab/state"
)

// Client asks a lab's daemon. It is safe for concurrent use.
type Client struct {
	dir  state.Dir
	http *http.Client
}

// NewClient is a client of the lab in dir; nothing is dialled yet.
func NewClient(dir state.Dir) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		folder, err := os.Open(string(dir))
		if err != nil {
			return nil, err
		}
		defer func() { _ = folder.Close() }() // only read
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", shortSocket(folder))
	}
	return &Client{dir: dir, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Status is the lab's status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := do(ctx, c, http.MethodGet, "status", nil, &s)
	return s, err
}

// Impair cuts, slows or heals a peering, as the request says.
func (c *Client) Impair(ctx context.Context, r ImpairRequest) error {
	return post(ctx, c, "impair", r)
}

// Heal makes a peering healthy in both directions, or all with empty names.
func (c *Client) Heal(ctx context.Context, from, to string) error {
	return post(ctx, c, "heal", ImpairRequest{From: from, To: to})
}

// Stop stops a component until it is started again.
func (c *Client) Stop(ctx context.Context, r ComponentRequest) error { return post(ctx, c, "stop", r) }

// Start starts a component.
func (c *Client) Start(ctx context.Context, r ComponentRequest) error {
	return post(ctx, c, "start", r)
}

// Reboot reboots a node; it returns when the node's programs run again.
func (c *Client) Reboot(ctx context.Context, r RebootRequest) error { return post(ctx, c, "reboot", r) }

func post[T any](ctx context.Context, c *Client, verb string, request T) error {
	text, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	return do(ctx, c, http.MethodPost, verb, text, &struct{}{})
}

func do[T any](ctx context.Context, c *Client, method, verb string, body []byte, into *T) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://lab/v1/"+verb, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the lab: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the lab at %s: %w", c.dir.Socket(), err)
	}
	defer func() { _ = response.Body.Close() }() // only read
	decoder := json.NewDecoder(response.Body)
	if response.StatusCode == http.StatusOK {
		if err := decoder.Decode(into); err != nil {
			return fmt.Errorf("ask the lab to %s: %w", verb, err)
		}
		return nil
	}
	var failure errorReply
	if err := decoder.Decode(&failure); err != nil {
		return fmt.Errorf("ask the lab to %s: status %s", verb, response.Status)
	}
	return errors.New(failure.Error)
}
