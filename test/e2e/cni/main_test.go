package cni

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

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

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	up, down, err := labtest.Up("--clusters", "west", "--dual-stack")
	if err != nil {
		fmt.Fprintln(os.Stderr, "cni:", err)
		return 1
	}
	lab = up
	code := 1
	if err := lab.InstallOverland(); err != nil {
		fmt.Fprintln(os.Stderr, "cni:", err)
	} else {
		code = m.Run()
	}
	if err := down(code != 0); err != nil {
		fmt.Fprintln(os.Stderr, "cni:", err)
		code = 1
	}
	return code
}

func west() *labtest.Cluster { return lab.Cluster("west") }

// until polls for a condition, which says what it sees as long as it does not
// hold.
func until(t *testing.T, what string, condition func(ctx context.Context) (seen string, ok bool)) {
	t.Helper()
	deadline := time.Now().Add(labtest.WaitTimeout)
	for {
		seen, ok := condition(context.WithoutCancel(t.Context())) // a cleanup waits too
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s; last seen: %s", labtest.WaitTimeout, what, seen)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// enforcing waits until the agent of a node enforces what is wanted.
func enforcing(t *testing.T, node string) {
	t.Helper()
	until(t, "enforcement on "+node, func(ctx context.Context) (string, bool) {
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
