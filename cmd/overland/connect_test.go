package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConnectRefusesWrongCalls(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(empty, []byte("apiVersion: v1\nkind: Config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   string
		status int
		says   string
	}{
		{"connect west", exitUsage, "accepts 2 arg(s)"},
		{"connect west canada --token-ttl 5m", exitUsage, "at least 10m is expected"},
		{"connect west canada --timeout 0s", exitUsage, "above 0"},
		{"connect west canada --skip-preflight names,nonsense", exitUsage, `"nonsense": one of names,`},
		{"connect west canada --pod-cidrs-b 10.2.0.1/16", exitUsage, `--pod-cidrs-b "10.2.0.1/16"`},
		{"connect west canada --node-cidrs-a ten", exitUsage, `--node-cidrs-a "ten"`},
		{"connect west canada --server-a http://x", exitUsage, "https://"},
		{"connect west canada --ca-b /nonexistent", exitUsage, "--ca-b"},
		{"connect west canada --kubeconfig /nonexistent", exitError, "/nonexistent"},
		{"connect west canada --kubeconfig " + empty, exitError, `context "west"`},
		{"disconnect west", exitUsage, "accepts 2 arg(s)"},
		{"disconnect west canada --kubeconfig " + empty, exitError, `context "west"`},
		{"reach", exitUsage, "accepts 1 arg(s)"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			_, stderr, status := call(t, strings.Split(tt.args, " ")...)
			if status != tt.status || !strings.Contains(stderr, tt.says) {
				t.Errorf("status %d\n%s", status, stderr)
			}
		})
	}
}

func TestReachPrintsOneObjectAndItsStatusSaysWhetherItDid(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for _, tt := range []struct {
		ca     []byte
		status int
		says   string
	}{
		{ca, exitOK, fmt.Sprintf(`{"url":%q,"ok":true,"status":403,`, server.URL)},
		{nil, exitError, fmt.Sprintf(`{"url":%q,"ok":false,"error":"the CA has no certificate`, server.URL)},
	} {
		var out, complaint bytes.Buffer
		status := run(t.Context(), []string{"reach", server.URL}, streams{in: bytes.NewReader(tt.ca), out: &out, err: &complaint})
		if status != tt.status || !strings.HasPrefix(out.String(), tt.says) || complaint.Len() > 0 {
			t.Errorf("status %d\n%s%s", status, out.String(), complaint.String())
		}
	}
}
