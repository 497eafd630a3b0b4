package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
)

// maxAnswer bounds what is read of an answer to the CNI plugin.
const maxAnswer = 64 << 10

// The calls of the CNI plugin. The context's deadline is theirs; without one they
// wait as long as the other calls do. An *api.Error is the agent's refusal; any
// other error means that there is no answer of an agent.

// CNIAdd returns when the kernel enforces what policies say of the pod. It tells
// the agent how long there is, by the context's deadline.
func (c *Client) CNIAdd(ctx context.Context, a api.CNIAttachment) (*api.CNIAnswer, error) {
	return c.attachment(ctx, api.PathCNIAdd, a)
}

// CNICheck returns whether it still does.
func (c *Client) CNICheck(ctx context.Context, a api.CNIAttachment) (*api.CNIAnswer, error) {
	return c.attachment(ctx, api.PathCNICheck, a)
}

// CNIDelete tells that the pod's link is about to be deleted.
func (c *Client) CNIDelete(ctx context.Context, a api.CNIAttachment) (*api.CNIAnswer, error) {
	return c.attachment(ctx, api.PathCNIDelete, a)
}

// CNIGC deletes all attachments but those of the list.
func (c *Client) CNIGC(ctx context.Context, valid api.CNIAttachmentList) (*api.CNIAnswer, error) {
	return c.askCNI(ctx, http.MethodPost, api.PathCNIGC, valid)
}

// CNIStatus returns whether CNIAdd could be served now.
func (c *Client) CNIStatus(ctx context.Context) (*api.CNIAnswer, error) {
	return c.askCNI(ctx, http.MethodGet, api.PathCNIStatus, nil)
}

func (c *Client) attachment(ctx context.Context, path string, a api.CNIAttachment) (*api.CNIAnswer, error) {
	if deadline, ok := ctx.Deadline(); ok {
		// 0 would mean that there is no end.
		a.TimeoutMillis = max(1, time.Until(deadline).Milliseconds())
	}
	return c.askCNI(ctx, http.MethodPost, path, a)
}

// askCNI sends value, if there is one, and returns the agent's answer.
func (c *Client) askCNI(ctx context.Context, method, path string, value any) (*api.CNIAnswer, error) {
	var body io.Reader
	if value != nil {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encode what %s is asked: %w", path, err)
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://overland"+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask the agent for %s: %w", path, err)
	}
	if value != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	do := c.http.Do
	if _, ok := ctx.Deadline(); ok {
		do = c.patient.Do
	}
	response, err := do(request)
	if err != nil {
		return nil, c.noAnswer(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, c.refusal(response)
	}
	answer := new(api.CNIAnswer)
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(answer); err != nil {
		return nil, c.brokenOff(err)
	}
	// Something else that listens there must not pass for an agent that enforces.
	if answer.APIVersion != api.Version || answer.Kind != api.KindCNIAnswer {
		return nil, fmt.Errorf("%s answers %s with %q of %q and not with %q of %q: is it the agent's socket, and the agent's version that of this program?",
			c.socket, path, answer.Kind, answer.APIVersion, api.KindCNIAnswer, api.Version)
	}
	return answer, nil
}

// noAnswer says why there is none, and what to do about it: as unreachable, for
// somebody who reads it in a pod's events.
func (c *Client) noAnswer(err error) error {
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("overland-agent did not answer on %s in time: its log and `overland status` on the node say what it waits for: %w", c.socket, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("cannot reach the agent's socket %s: is overland-agent running on this node, and is this where it listens? %w", c.socket, err)
	}
	return fmt.Errorf("cannot reach the agent's socket %s: %w", c.socket, err)
}
