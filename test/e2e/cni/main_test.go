package cni

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
)

// lab is up, with Overland in its one cluster, while the tests run. They disturb
// it, so none is parallel.
var lab *labtest.Lab

// The nodes: pods start on near, and those that are there already are on both.
const (
	near = "west/node-1"
	far  = "west/node-2"
)

func TestMain(m *testing.M) {
	os.Exit(labtest.Main(m, "cni", &lab, "--clusters", "west", "--dual-stack"))
}

func west() *labtest.Cluster { return lab.Cluster("west") }

// enforcing waits until the agent of a node enforces what is wanted.
func enforcing(t *testing.T, node string) {
	t.Helper()
	labtest.Until(t, "enforcement on "+node, func(ctx context.Context) (string, bool) {
		s, err := labtest.AskAgent[api.Status](ctx, lab, node, api.PathStatus)
		if err != nil || s.Dataplane == nil {
			return fmt.Sprint(err), false
		}
		return fmt.Sprintf("%s %+v", s.State, s.Dataplane), s.Dataplane.InForce
	})
}

// agentProcess is the running agent of a node.
func agentProcess(t *testing.T, node string) *os.Process {
	t.Helper()
	pid := lab.AgentProcess(t, node)
	if pid == 0 {
		t.Fatalf("no agent runs on %s", node)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	return process
}
