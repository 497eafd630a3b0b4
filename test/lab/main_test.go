//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/daemon"
	"github.com/overland-net/overland/test/lab/fabric"
	"github.com/overland-net/overland/test/lab/state"
	"github.com/overland-net/overland/test/lab/topology"
)

func TestTheStateFolderIsTheFlagsOrTheEnvironmentsOrTheCheckouts(t *testing.T) {
	root, err := checkout()
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(filepath.Dir(mustGetwd(t))) != "test" || !strings.HasPrefix(mustGetwd(t), root) {
		t.Errorf("the checkout of %s is %s", mustGetwd(t), root)
	}
	tests := []struct{ name, flag, environment, want string }{
		{"flag", "/a/b", "/c", "/a/b"},
		{"environment", "", "/c", "/c"},
		{"relative", "x", "", filepath.Join(mustGetwd(t), "x")},
		{"checkout", "", "", filepath.Join(root, ".lab")},
	}
	for _, tt := range tests {
		t.Setenv("OVERLAND_LAB", tt.environment)
		l := &lab{state: tt.flag}
		if err := l.resolve(); err != nil || l.dir != state.Dir(tt.want) {
			t.Errorf("%s: got %s, %v, want %s", tt.name, l.dir, err, tt.want)
		}
	}
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	at, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestOutsideOfACheckoutTheLabHasToBeNamed(t *testing.T) {
	t.Setenv("OVERLAND_LAB", "")
	t.Chdir(t.TempDir())
	err := (&lab{}).resolve()
	if err == nil || !strings.Contains(err.Error(), "not inside a checkout of "+modulePath+"; name the lab with --state or OVERLAND_LAB") {
		t.Errorf("got %v", err)
	}
}

func TestACommandsEndDecidesTheStatus(t *testing.T) {
	t.Setenv("OVERLAND_LAB", filepath.Join(t.TempDir(), "absent"))
	tests := []struct {
		args []string
		want int
	}{
		{nil, 0},
		{[]string{"--help"}, 0},
		{[]string{"status"}, 1},
		{[]string{"fly"}, 2},
		{[]string{"status", "now"}, 2},
		{[]string{"--no-such"}, 2},
		{[]string{"daemon"}, 2},
	}
	for _, tt := range tests {
		cmd := exec.Command("/proc/self/exe", tt.args...)
		cmd.Env = append(os.Environ(), asLab+"=1")
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		lines := strings.Count(complaint.String(), "\n")
		if got := cmd.ProcessState.ExitCode(); got != tt.want || lines != min(tt.want, 1) {
			t.Errorf("lab %v: status %d, want %d; it says %q", tt.args, got, tt.want, complaint.String())
		}
	}
}

// asLab, in the environment, makes the test binary the program.
const asLab = "LAB_TEST_AS_LAB"

func TestMain(m *testing.M) {
	if os.Getenv(asLab) != "" {
		os.Exit(run(os.Args))
	}
	os.Exit(m.Run())
}

func TestDashesBeforeACommandAreDropped(t *testing.T) {
	for _, tt := range []struct{ words, want []string }{
		{[]string{"--", "ip", "route"}, []string{"ip", "route"}},
		{[]string{"ip", "--", "route"}, []string{"ip", "--", "route"}},
		{[]string{"--"}, []string{"--"}},
		{[]string{"--", "--"}, []string{"--"}},
	} {
		if got := afterDashes(tt.words); !slices.Equal(got, tt.want) {
			t.Errorf("%v: got %v, want %v", tt.words, got, tt.want)
		}
	}
}

func TestAQuotedWordIsOneWordOfTheShell(t *testing.T) {
	for _, word := range []string{"", "plain", "with a blank", "it's", `$HOME "x" \`, "two\nlines", "''"} {
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+quote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q became %q, %v", word, out, err)
		}
	}
}

func TestImpairmentsAreTold(t *testing.T) {
	tests := []struct {
		state fabric.Impairment
		want  string
	}{
		{fabric.Impairment{}, "healthy"},
		{fabric.Impairment{Cut: true}, "cut"},
		{fabric.Impairment{CutAPI: true}, "cut to the API server"},
		{
			fabric.Impairment{Delay: 40 * time.Millisecond, Loss: 0.025, Rate: 1000},
			"delay 40ms, loss 2.5 %, limit 1000 B/s",
		},
	}
	for _, tt := range tests {
		if got := impairment(daemon.PeeringStatus{Impairment: tt.state}); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.state, got, tt.want)
		}
	}
}

func TestOptionsAreDescribed(t *testing.T) {
	o := topology.Options{Clusters: []string{"west", "canada"}, Nodes: 2, Iptables: "nft"}
	if got, want := describe(o), "clusters [west canada], 2 nodes each, iptables nft"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	o.DualStack = true
	if got := describe(o); !strings.HasSuffix(got, ", dual-stack") {
		t.Errorf("got %q", got)
	}
}

func TestASharedFileIsTheSameAndACopyIsNot(t *testing.T) {
	dir := t.TempDir()
	from := filepath.Join(dir, "from")
	if err := os.WriteFile(from, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		make func(from, to string) error
		same bool
	}{{"shared", shareFile, true}, {"copy", copyFile, false}} {
		to := filepath.Join(dir, tt.name)
		if err := tt.make(from, to); err != nil {
			t.Fatal(err)
		}
		a, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.Stat(to)
		if err != nil || os.SameFile(a, b) != tt.same {
			t.Errorf("%s: the same file: %t, %v", tt.name, os.SameFile(a, b), err)
		}
		if text, err := os.ReadFile(to); err != nil || string(text) != "program" {
			t.Errorf("%s: it has %q, %v", tt.name, text, err)
		}
		if err := tt.make(from, to); err == nil {
			t.Errorf("%s: a file that was there was replaced", tt.name)
		}
	}
}

func TestStatusTellsOfClustersNodesAndPeerings(t *testing.T) {
	var out bytes.Buffer
	err := (&lab{out: &out}).printStatus(daemon.Status{
		Phase: daemon.PhaseStarting, Doing: "waiting", Memory: 5 << 20,
		Options: topology.Options{Clusters: []string{"west"}, Nodes: 1, Iptables: "nft"},
		Clusters: []daemon.ClusterStatus{{
			Name: "west", Server: "https://server",
			Components: []daemon.ComponentStatus{{Name: "west/etcd", State: "running", PID: 7, Restarts: 2}},
			Nodes: []daemon.NodeStatus{{
				Name: "node-1", Addresses: []string{"10.1.0.4", "fd00:1::4"},
				Components: []daemon.ComponentStatus{{Name: "west/node-1/kubelet", State: "stopped"}},
			}},
		}},
		Peerings: []daemon.PeeringStatus{{From: "west", To: "canada"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"starting: waiting", "west https://server", "etcd running 7 2", "node-1 down 0 10.1.0.4 fd00:1::4",
		"kubelet stopped 0", "west → canada healthy",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no line %q in\n%s", want, out.String())
		}
	}
}
