package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/admin/api"
)

const doneAnswer = `{"apiVersion":"admin.overland.dev/v1","kind":"CNIAnswer","version":"v1","newer":1}`

func TestCNIRequestsAreWhatTheAgentExpects(t *testing.T) {
	pod := api.CNIAttachment{
		ContainerID: "c1", IfName: "eth0", Netns: "/run/netns/a", Namespace: "ns", Pod: "p", UID: "u",
		PeerIndex: 7, Addresses: []string{"10.0.0.1", "fd00::1"},
	}
	const podText = `{"containerID":"c1","ifName":"eth0","netns":"/run/netns/a","namespace":"ns","pod":"p","uid":"u","peerIndex":7,"addresses":["10.0.0.1","fd00::1"]}`
	tests := []struct {
		name       string
		ask        func(context.Context, *Client) (*api.CNIAnswer, error)
		want, body string
	}{
		{"add", func(ctx context.Context, c *Client) (*api.CNIAnswer, error) { return c.CNIAdd(ctx, pod) }, "POST /v1/cni/add", podText},
		{"check", func(ctx context.Context, c *Client) (*api.CNIAnswer, error) { return c.CNICheck(ctx, pod) }, "POST /v1/cni/check", podText},
		{"delete", func(ctx context.Context, c *Client) (*api.CNIAnswer, error) {
			return c.CNIDelete(ctx, api.CNIAttachment{ContainerID: "c1", IfName: "eth0"})
		}, "POST /v1/cni/delete", `{"containerID":"c1","ifName":"eth0"}`},
		{"gc", func(ctx context.Context, c *Client) (*api.CNIAnswer, error) {
			return c.CNIGC(ctx, api.CNIAttachmentList{Items: []api.CNIAttachmentID{{ContainerID: "c1", IfName: "eth0"}}})
		}, "POST /v1/cni/gc", `{"items":[{"containerID":"c1","ifName":"eth0"}]}`},
		{"status", func(ctx context.Context, c *Client) (*api.CNIAnswer, error) { return c.CNIStatus(ctx) }, "GET /v1/cni/status", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan [2]string, 1)
			c := New(serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got <- [2]string{r.Method + " " + r.RequestURI, string(body)}
				_, _ = w.Write([]byte(doneAnswer))
			}))
			answer, err := tt.ask(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if answer.Version != "v1" {
				t.Errorf("the answer's version is %q", answer.Version)
			}
			if diff := cmp.Diff([2]string{tt.want, tt.body}, <-got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCNIAddTellsTheAgentHowLongThereIs(t *testing.T) {
	got := make(chan api.CNIAttachment, 1)
	c := New(serve(t, func(w http.ResponseWriter, r *http.Request) {
		var a api.CNIAttachment
		_ = json.NewDecoder(r.Body).Decode(&a)
		got <- a
		_, _ = w.Write([]byte(doneAnswer))
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.CNIAdd(ctx, api.CNIAttachment{}); err != nil {
		t.Fatal(err)
	}
	if a := <-got; a.TimeoutMillis < 50_000 || a.TimeoutMillis > 60_000 {
		t.Errorf("told %d ms of a minute", a.TimeoutMillis)
	}
}

func TestCNICallsThatAreNotServedSayWhy(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string // in the error's text
		refused string // the code of the agent's error
	}{
		{"refused", answer(409, `{"apiVersion":"admin.overland.dev/v1","kind":"Error","code":"Conflict","message":"eth9 is not there"}`), "eth9 is not there", api.CodeConflict},
		{"not an agent", answer(200, `{"hello":1}`), "is it the agent's socket", ""},
		{"another kind", answer(200, `{"apiVersion":"admin.overland.dev/v1","kind":"Status"}`), "is it the agent's socket", ""},
		{"another version", answer(200, `{"apiVersion":"admin.overland.dev/v2","kind":"CNIAnswer"}`), "is it the agent's socket", ""},
		{"empty", answer(200, ``), "is not complete", ""},
		{"not JSON", answer(502, `<html>`), "502 Bad Gateway", ""},
		{"endless", answer(200, `{"apiVersion":"`+strings.Repeat("a", 2*maxAnswer)), "is not complete", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(serve(t, tt.handler)).CNIAdd(t.Context(), api.CNIAttachment{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q in it", err, tt.want)
			}
			refused := new(api.Error)
			if got := errors.As(err, &refused); got != (tt.refused != "") || refused.Code != tt.refused {
				t.Errorf("refusal %v %q, want %q", got, refused.Code, tt.refused)
			}
		})
	}
}

func TestCNIAddEndsAtItsDeadline(t *testing.T) {
	end := make(chan struct{})
	socket := serve(t, func(http.ResponseWriter, *http.Request) { <-end })
	t.Cleanup(func() { close(end) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := New(socket).CNIAdd(ctx, api.CNIAttachment{})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not answer on "+socket) {
		t.Errorf("error %v", err)
	}
}

func TestCNIAddSaysThatThereIsNoAgent(t *testing.T) {
	_, err := New("/nonexistent/a.sock").CNIAdd(t.Context(), api.CNIAttachment{})
	if err == nil || !strings.Contains(err.Error(), "is overland-agent running on this node") || strings.Contains(err.Error(), "--node") {
		t.Errorf("error %v", err)
	}
}
