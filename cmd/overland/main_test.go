package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/admin/client"
	"github.com/overland-net/overland/pkg/agent"
)

var update = flag.Bool("update", false, "write the golden files")

// call is what the program does with these arguments.
func call(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, err bytes.Buffer
	status = run(t.Context(), args, streams{in: strings.NewReader(""), out: &out, err: &err})
	return out.String(), err.String(), status
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestOutput(t *testing.T) {
	tests := []struct {
		golden   string
		snapshot *agent.Snapshot
		args     string // separated by ;
		status   int
	}{
		{"status", healthy(), "status", 0},
		{"status-cut", cut(), "status;-o;wide", 3},
		{"status-restored", restored(), "status", 3},
		{"status-starting", nil, "status", 3},
		{"status-json", healthy(), "status;-o;json", 0},
		{"status-yaml", healthy(), "status;-o=yaml", 0},
		{"clusters", healthy(), "clusters", 0},
		{"clusters-wide-cut", cut(), "clusters;-o;wide", 3},
		{"endpoints", healthy(), "endpoints", 0},
		{"endpoints-wide", healthy(), "endpoints;-o;wide", 0},
		{"endpoints-json", healthy(), "endpoints;-o;json;--cluster;canada", 0},
		{"endpoints-yaml", healthy(), "endpoints;-o;yaml;--kind;node", 0},
		{"endpoints-calicoq", healthy(), "endpoints;-o;calicoq", 0},
		{"endpoints-filtered", cut(), "endpoints;--cluster;canada;-n;redis;-l;app=redis;--kind;pods", 3},
		{"endpoints-local-while-cut", cut(), "endpoints;--cluster;west", 0},
		{"endpoints-none", empty(), "endpoints", 0},
		{"endpoints-none-json", empty(), "endpoints;-o;json", 0},
		{"endpoints-none-yaml", empty(), "endpoints;-o;yaml", 0},
		{"endpoints-starting", nil, "endpoints", 1},
		{"endpoints-bad-selector", healthy(), "endpoints;-l;a===b", 2},
		{"endpoints-bad-cluster", healthy(), "endpoints;--cluster;nada", 1},
		{"eval", healthy(), "eval;app == 'redis' || overland.dev/cluster == 'west'", 0},
		{"eval-cut", cut(), "eval;app == 'redis'", 3},
		{"eval-node", healthy(), "eval;-o;calicoq;overland.dev/kind == 'Node'", 0},
		{"eval-syntax", healthy(), "eval;app = 'redis'", 2},
		{"endpoint", healthy(), "endpoint;shop/cart-0", 0},
		{"endpoint-refused", healthy(), "endpoint;shop/thief;--cluster=canada", 0},
		{"endpoint-yaml", healthy(), "endpoint;shop/cart-0;-o;yaml", 0},
		{"endpoint-unknown", healthy(), "endpoint;shop/cart-9", 1},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			socket := agentOf(t, tt.snapshot)
			args := strings.Split(tt.args, ";")
			stdout, stderr, status := call(t, append(args, "--socket", socket)...)
			if status != tt.status {
				t.Errorf("exit status %d, want %d", status, tt.status)
			}
			text := fmt.Sprintf("$ overland %s\n%s", strings.Join(args, " "), stdout)
			if stderr != "" {
				text += "-- standard error\n" + stderr
			}
			golden(t, tt.golden, text+fmt.Sprintf("-- exit status %d\n", status))
		})
	}
}

func TestWrongCallsEndWith2(t *testing.T) {
	for args, want := range map[string]string{
		"nonsense":                      `unknown command "nonsense"`,
		"status extra":                  `unknown command "extra" for "overland status"`,
		"status --nope":                 "unknown flag: --nope",
		"status -o table":               "expected one of wide, json, yaml",
		"clusters -o calicoq":           "expected one of wide, json, yaml",
		"endpoint":                      "0 arguments given: expected one, NAMESPACE/POD",
		"endpoint a b":                  "2 arguments given",
		"endpoint cart-0":               `"cart-0": expected NAMESPACE/POD`,
		"endpoint a/b/c":                `"a/b/c": expected NAMESPACE/POD`,
		"policies a b":                  "2 arguments given: expected at most one, [NAMESPACE/]NAME",
		"policies a/b/c":                `"a/b/c": expected [NAMESPACE/]NAME`,
		"policies a/":                   `"a/": expected [NAMESPACE/]NAME`,
		"policies -n a b/c":             `"b/c" is not in namespace "a" of -n`,
		"explain a b":                   "2 arguments given: expected three, SOURCE DESTINATION PORT[/PROTOCOL]",
		"eval":                          "accepts 1 arg(s), received 0",
		"endpoints -n":                  "flag needs an argument",
		"status --context x":            "--context: it says how to reach another node, and none is named: add --node NAME",
		"status --kubeconfig /nowhere":  "add --node NAME",
		"endpoints --namespace a extra": "unknown command",
	} {
		t.Run(args, func(t *testing.T) {
			stdout, stderr, status := call(t, strings.Fields(args)...)
			if status != exitUsage || !strings.Contains(stderr, want) || !strings.HasPrefix(stderr, "overland: ") || stdout != "" {
				t.Errorf("status %d, stdout %q, stderr %q, want 2 and …%s…", status, stdout, stderr, want)
			}
			if !strings.Contains(stderr, "See 'overland") {
				t.Errorf("%q does not say where to read on", stderr)
			}
		})
	}
}

func TestWithoutAgentTheErrorSaysWhatToDo(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "a.sock")
	for _, args := range []string{"status", "clusters", "endpoints", "endpoint a/b", "eval all()", "policies", "policies a/b", "explain a b c"} {
		stdout, stderr, status := call(t, append(strings.Fields(args), "--socket", socket)...)
		want := "overland: cannot reach the agent's socket " + socket + ": is overland-agent running on this node? From elsewhere, name the node with --node\n"
		if status != exitError || stderr != want || stdout != "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q", args, status, stdout, stderr)
		}
	}
}

func TestVersionNeedsNoAgent(t *testing.T) {
	stdout, stderr, status := call(t, "version", "--socket", filepath.Join(t.TempDir(), "a.sock"))
	if status != 0 || !strings.HasPrefix(stdout, "Client: ") || !strings.HasPrefix(stderr, "Agent:  cannot reach") {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	stdout, stderr, status = call(t, "version", "--client", "-o", "json")
	var v versions
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || status != 0 || stderr != "" || v.Client.Go == "" || v.AgentError != "" {
		t.Errorf("status %d, %v, stdout %q, stderr %q", status, err, stdout, stderr)
	}
	socket := agentOf(t, healthy())
	if stdout, _, status = call(t, "version", "--socket", socket); status != 0 || !strings.HasSuffix(stdout, "Agent:  v0.1.0\n") {
		t.Errorf("status %d, stdout %q", status, stdout)
	}
}

// -o json and -o yaml print the wire type, whole.
func TestListsArePrintedAsTheWireType(t *testing.T) {
	socket := agentOf(t, healthy())
	l, err := client.New(socket).Endpoints(t.Context(), client.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := l.Head
	for e, err := range l.Items() {
		if err != nil {
			t.Fatal(err)
		}
		want.Items = append(want.Items, *e)
	}
	for format, read := range map[string]func([]byte, *api.EndpointList) error{
		"json": func(b []byte, to *api.EndpointList) error { return json.Unmarshal(b, to) },
		"yaml": func(b []byte, to *api.EndpointList) error { return yaml.UnmarshalStrict(b, to) },
	} {
		stdout, _, _ := call(t, "endpoints", "-o", format, "--socket", socket)
		var got api.EndpointList
		if err := read([]byte(stdout), &got); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
		if format == formatJSON {
			whole, err := marshal(formatJSON, want)
			if err != nil || string(whole) != stdout {
				t.Errorf("streamed JSON differs (%v): %s", err, cmp.Diff(string(whole), stdout))
			}
		}
	}
}

func TestHelpIsNoError(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"endpoints", "-h"}, {"help", "eval"}} {
		if stdout, stderr, status := call(t, args...); status != 0 || stderr != "" || !strings.Contains(stdout, "overland") {
			t.Errorf("%q: status %d, stdout %q, stderr %q", args, status, stdout, stderr)
		}
	}
}

func TestUnreadableOutputIsAnError(t *testing.T) {
	socket := agentOf(t, healthy())
	for _, args := range []string{"status", "status -o json", "clusters", "endpoints", "endpoints -o json", "endpoints -o yaml", "endpoints -o calicoq", "endpoint shop/cart-0"} {
		var stderr bytes.Buffer
		status := run(t.Context(), append(strings.Fields(args), "--socket", socket), streams{in: strings.NewReader(""), out: full{}, err: &stderr})
		if status != exitError || stderr.Len() == 0 {
			t.Errorf("%s: status %d, %q", args, status, &stderr)
		}
	}
}

// full is a disk without space.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, os.ErrInvalid }
