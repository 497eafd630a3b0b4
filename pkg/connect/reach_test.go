package connect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestReachVerifiesWhoAnswers(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/version" || r.Header.Get("Authorization") != "" {
			t.Errorf("asked %s with %v", r.URL, r.Header)
		}
		w.WriteHeader(http.StatusUnauthorized) // contact all the same
	}))
	defer server.Close()
	ca := pemOf(server.Certificate().Raw)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "https://" + closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	other := httptest.NewUnstartedServer(nil)
	for _, tt := range []struct {
		name, url, serverName string
		ca                    []byte
		ok                    bool
		says                  string
	}{
		{"the right one", server.URL, "", ca, true, ""},
		{"by another name", server.URL, "example.com", ca, true, ""},
		{"not its name", server.URL, "canada.example", ca, false, "canada.example"},
		{"nobody listens", nobody, "", ca, false, "refused"},
		{"no CA", server.URL, "", nil, false, "PEM"},
		{"no https", strings.Replace(server.URL, "https", "http", 1), "", ca, false, "https"},
		{"no URL", "::", "", ca, false, "https"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Reach(t.Context(), tt.url, tt.serverName, tt.ca)
			if r.OK != tt.ok || !strings.Contains(r.Error, tt.says) || tt.ok && r.Status != http.StatusUnauthorized {
				t.Errorf("got %+v", r)
			}
		})
	}
	other.Close()
}

func TestProbeAsksReadyAgentsAndReadsWhatTheySay(t *testing.T) {
	agents := []AgentPod{
		{Name: "a1", Node: "n1", Ready: true},
		{Name: "a2", Node: "n2", Ready: true},
		{Name: "a3", Node: "n3"},
		{Name: "a4", Node: "n4", Ready: true},
	}
	c := &Cluster{Exec: func(_ context.Context, pod AgentPod, command []string, stdin io.Reader) ([]byte, error) {
		ca, err := io.ReadAll(stdin)
		if err != nil || string(ca) != "CA" || strings.Join(command, " ") != "/overland reach https://x --tls-server-name y" {
			t.Errorf("%s: %v with %q, %v", pod.Name, command, ca, err)
		}
		switch pod.Name {
		case "a1":
			return json.Marshal(Reached{OK: true})
		case "a2": // fails, and says why
			out, err := json.Marshal(Reached{Error: "no route"})
			return out, errors.Join(err, errors.New("exit status 1"))
		}
		return nil, errors.New("pods \"a4\" is forbidden: cannot exec")
	}}
	p := Probe(t.Context(), c, agents, "https://x", "y", []byte("CA"))
	if len(p.Results) != 2 || !p.Results[0].OK || p.Results[0].Node != "n1" || p.Results[1].OK || p.Results[1].Error != "no route" {
		t.Errorf("got %+v", p.Results)
	}
	if !strings.Contains(p.NotMade, "forbidden") {
		t.Errorf("got %q", p.NotMade)
	}
	if p := Probe(t.Context(), c, nil, "https://x", "", nil); p.NotMade == "" {
		t.Error("without agents it says nothing")
	}
}

func TestReachedIsOneLineOfJSON(t *testing.T) {
	var b bytes.Buffer
	if err := (Reached{URL: "https://x", Error: "no\nroute", Millis: 3}).Print(&b); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), `{"url":"https://x","ok":false,"error":"no\nroute","millis":3}`+"\n"; got != want {
		t.Errorf("got %s", got)
	}
}
