package policy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
)

// lockTime is how long another program holds the lock of iptables.
const lockTime = 60 * time.Second

// backend makes the agents of west use a backend of iptables, with nothing left of
// the one before. They run again afterwards in any case: other tests need them.
func backend(t *testing.T, before, now string) {
	t.Helper()
	agentless(t, "node-1", "node-2")
	for _, node := range west().Nodes {
		waitUntil(t, "the agent to be gone", func(context.Context) (string, bool) {
			return "it runs", lab.AgentProcess(t, node.Path()) == 0
		})
		if out := lab.NodeExec(t, node.Path(), "overland-agent", "cleanup", "--iptables-backend="+before); out.Code != 0 {
			t.Errorf("overland-agent cleanup on %s: %s", node.Path(), out)
			for _, tool := range []string{"iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save"} {
				t.Logf("%s:\n%s", tool, lab.NodeExec(t, node.Path(), "sh", "-c", tool+" | grep -e match-set -e OVL-"))
			}
			t.Logf("sets:\n%s", lab.NodeExec(t, node.Path(), "ipset", "list", "-t"))
		}
	}
	more := "iptablesBackend: " + now + "\n"
	if now == "auto" {
		more = ""
	}
	writeConfig(t, more)
	agentless(t)
	enforcedAgain(t)
	if now == "auto" {
		return
	}
	// A kubelet that could not read the ConfigMap in time uses the one it knows.
	for _, node := range west().Nodes {
		waitUntil(t, node.Path()+" to use "+now, func(context.Context) (string, bool) {
			is := agentStatus(t, node.Path()).Dataplane.Backend
			if is != now {
				mustKubectlWest(t, "rollout", "restart", "daemonset/overland-agent", "--namespace=overland-system")
				mustKubectlWest(t, "rollout", "status", "daemonset/overland-agent", "--namespace=overland-system", "--timeout=90s")
				enforcedAgain(t)
			}
			return is, is == now
		})
	}
}

// TestPolicyALockHeldByAnotherKeepsTheLastStateAndIsSaid is about the legacy
// backend: nft has no such lock.
func TestPolicyALockHeldByAnotherKeepsTheLastStateAndIsSaid(t *testing.T) {
	const node = "west/node-2"
	s := onScene(t)
	if now := agentStatus(t, node).Dataplane.Backend; now != "legacy" {
		t.Cleanup(func() { backend(t, "legacy", "auto") })
		backend(t, "auto", "legacy")
	}
	s.policeBoth()
	live, dead := s.viaServices(7, "c2"), s.directly(allModes()[3:4], "b2")
	m := s.measure(append(live[:len(live):len(live)], dead...))
	living := s.client.StartFlows(t, pace, urls(live)...)
	s.client.StartFlows(t, pace, urls(dead)...)
	s.awaitPackets(m, live)

	held := make(chan labtest.Output, 1)
	began := time.Now()
	go func() {
		held <- lab.Command(t, "exec", node, "--", "flock", "/run/xtables.lock", "sleep", fmt.Sprint(lockTime.Seconds()))
	}()
	waitUntil(t, "the lock to be held", func(context.Context) (string, bool) {
		return "it is free", lab.NodeExec(t, node, "flock", "--nonblock", "/run/xtables.lock", "true").Code != 0
	})
	s.police(west(), scenePolicy("closed", ingressFrom("is: closed", "{podSelector: {matchLabels: {role: client}}}")))
	waitUntil(t, "the error to be said", func(ctx context.Context) (string, bool) {
		status, err := labtest.AskAgent[api.Status](ctx, lab, node, api.PathStatus)
		if err != nil || status.Dataplane == nil {
			return fmt.Sprint(err), false
		}
		d := status.Dataplane
		for _, p := range status.Problems {
			if !d.InForce && p.Kind == "Dataplane" && strings.Contains(p.Message, "lock") {
				t.Logf("said after %s: %s", time.Since(began).Round(time.Second), p.Message)
				return "", true
			}
		}
		return fmt.Sprintf("%+v %+v", d, status.Problems), false
	})
	if c := m.read(); c[dead[0].url()+">"]+c[dead[1].url()+">"] != 0 {
		t.Error("what was denied passes while the lock is held")
	}
	if out := <-held; out.Code != 0 {
		t.Fatal(out)
	}
	s.reaches(api.ResultAllowed, "b2")
	t.Logf("in force %s after the lock was free", (time.Since(began) - lockTime).Round(100*time.Millisecond))
	waitForces(t)
	waitUntil(t, "packets of what is allowed now", func(context.Context) (string, bool) {
		c := m.read()
		return fmt.Sprint(c), c[dead[0].url()+">"] > 0 && c[dead[1].url()+">"] > 0
	})
	s.alive(m, live, living.Stop())
}
