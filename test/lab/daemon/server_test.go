package daemon

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/overland-net/overland/test/lab/fabric"
	"github.com/overland-net/overland/test/lab/state"
	"github.com/overland-net/overland/test/lab/topology"
)

// serving is a daemon whose lab is still starting, with nothing built, and its
// client, in a folder whose path is too long for a socket.
func serving(t *testing.T) (*Daemon, *Client) {
	t.Helper()
	dir := state.Dir(filepath.Join(t.TempDir(), strings.Repeat("long", 30)))
	if err := os.MkdirAll(string(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	lab := topology.New(topology.Options{Clusters: []string{"west", "canada"}, Nodes: 1, Iptables: "nft"})
	d := &Daemon{dir: dir, lab: lab, log: quiet(), phase: PhaseStarting, clusters: map[string]*cluster{}}
	d.fabric = fabric.New(t.TempDir(), lab)
	listener, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = d.serve(listener) }() // ends with the listener
	t.Cleanup(func() { _ = listener.Close() })
	return d, NewClient(dir)
}

func TestStatusOfAStartingLabTellsTheStep(t *testing.T) {
	d, client := serving(t)
	d.step("building the network")
	s, err := client.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if s.Phase != PhaseStarting || s.Doing != "building the network" || len(s.Options.Clusters) != 2 {
		t.Errorf("got %+v", s)
	}
}

func TestRequestsThatCannotBeMetSayWhy(t *testing.T) {
	_, client := serving(t)
	ctx := context.Background()
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"cut", client.Impair(ctx, ImpairRequest{From: "west", To: "east"}), `no peering from "west" to "east" in this lab`},
		{"heal", client.Heal(ctx, "west", "east"), `no peering from "west" to "east" in this lab`},
		{"stop", client.Stop(ctx, ComponentRequest{Name: "west/etcd"}), `no component "west/etcd"`},
		{"start", client.Start(ctx, ComponentRequest{Name: "x"}), `no component "x"`},
		{"reboot first", client.Reboot(ctx, RebootRequest{Node: "west/node-1", First: "etcd"}), `first: kube-proxy or agent expected, got "etcd"`},
		{"reboot form", client.Reboot(ctx, RebootRequest{Node: "node-1", First: "agent"}), `"node-1": CLUSTER/NODE expected, such as west/node-1`},
		{"reboot node", client.Reboot(ctx, RebootRequest{Node: "west/node-2", First: "agent"}), `no node "node-2" in cluster west`},
		{"reboot early", client.Reboot(ctx, RebootRequest{Node: "west/node-1", First: "agent"}), "the lab is still starting"},
		{"unknown", post(ctx, client, "fly", struct{}{}), "ask the lab to fly: status 404"},
		{"field", post(ctx, client, "stop", struct{ Wings int }{2}), `read the request: json: unknown field "Wings"`},
	}
	for _, tt := range tests {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: want %q, got %v", tt.name, tt.want, tt.err)
		}
	}
	if err := client.Heal(ctx, "", ""); err != nil {
		t.Errorf("healing all of no peerings: %v", err)
	}
}

func TestTheSocketIsForItsOwnerOnly(t *testing.T) {
	d, _ := serving(t)
	info, err := os.Stat(d.dir.Socket())
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("its mode is %o", mode)
	}
}

func TestAClientWithoutADaemonNamesTheSocket(t *testing.T) {
	dir := state.Dir(t.TempDir())
	client := NewClient(dir)
	if _, err := client.Status(context.Background()); err == nil || !strings.Contains(err.Error(), "ask the lab at "+dir.Socket()) {
		t.Errorf("got %v", err)
	}
	if _, err := client.NetworkNamespace("west-cp"); err == nil || !strings.Contains(err.Error(), "no lab is up in "+string(dir)) {
		t.Errorf("got %v", err)
	}
}

func TestOptionsAreReadAndChecked(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"fine", `{"clusters":["west"],"nodes":1,"iptables":"nft"}`, ""},
		{"no JSON", `{`, "read the lab's options "},
		{"invalid", `{"clusters":["west"],"nodes":0,"iptables":"nft"}`, "nodes: 1 to 100 expected, got 0"},
	}
	for _, tt := range tests {
		dir := state.Dir(t.TempDir())
		if err := os.WriteFile(dir.Options(), []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := readOptions(dir)
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: want %q, got %v", tt.name, tt.want, err)
		}
	}
	if _, err := readOptions(state.Dir(t.TempDir())); err == nil || !strings.Contains(err.Error(), "read the lab's options: ") {
		t.Errorf("no file: got %v", err)
	}
}

func TestPSSIsReadFromItsLine(t *testing.T) {
	tests := []struct {
		text string
		want int64
	}{
		{"55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  300 kB\nPss:    123 kB\nPss_Anon:  100 kB\n", 123 << 10},
		{"Rss: 300 kB\n", 0},
		{"Pss: many kB\n", 0},
		{"", 0},
	}
	for _, tt := range tests {
		if got := pss(tt.text); got != tt.want {
			t.Errorf("%q: got %d, want %d", tt.text, got, tt.want)
		}
	}
}

func TestBootIDsHaveTheKernelsFormAndDiffer(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	a, b := newBootID(), newBootID()
	if a == b || !form.MatchString(a) {
		t.Errorf("got %q and %q", a, b)
	}
}
