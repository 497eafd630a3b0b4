package policy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/netprobe"
)

// strangers are rules and sets of another program of the node. Its sets have
// names that look like ours.
const strangers = `
for ipt in iptables ip6tables; do
  for table in raw mangle filter nat; do $ipt -t $table -N STRANGER; $ipt -t $table -A STRANGER -m mark --mark 0x77/0xff -j RETURN; done
  $ipt -t mangle -A FORWARD -j STRANGER; $ipt -t raw -A PREROUTING -j STRANGER; $ipt -t filter -A FORWARD -j STRANGER
done
ipset create stranger hash:ip; ipset add stranger 10.9.8.7
ipset create ovl-stranger hash:net; ipset add ovl-stranger 10.9.8.0/24
`

const noStrangers = `
for ipt in iptables ip6tables; do
  $ipt -t mangle -D FORWARD -j STRANGER; $ipt -t raw -D PREROUTING -j STRANGER; $ipt -t filter -D FORWARD -j STRANGER
  for table in raw mangle filter nat; do $ipt -t $table -F STRANGER; $ipt -t $table -X STRANGER; done
done
ipset destroy stranger; ipset destroy ovl-stranger; true
`

// withStrangers puts a neighbour's rules on a node until the test ends.
func withStrangers(t *testing.T, node string) {
	t.Helper()
	lab.MustNodeExec(t, node, "sh", "-ec", strangers)
	t.Cleanup(func() { lab.Command(t, "exec", node, "--", "sh", "-c", noStrangers) })
}

func TestPolicyLeavesTheRulesAndSetsOfNeighboursAlone(t *testing.T) {
	s := onScene(t)
	s.policeBoth()
	before := map[string]string{}
	for _, node := range nodes() {
		withStrangers(t, node)
		before[node] = foreign(rulesOf(t, node))
	}
	s.storm(60)
	for _, node := range nodes() {
		if diff := cmp.Diff(before[node], foreign(rulesOf(t, node))); diff != "" {
			t.Errorf("%s: rules and sets of others changed:\n%s", node, diff)
		}
	}
}

// dropping adds a rule to a node until the test ends.
func dropping(t *testing.T, node string, rule ...string) {
	t.Helper()
	lab.MustNodeExec(t, node, rule...)
	t.Cleanup(func() {
		undo := append([]string{"exec", node, "--"}, rule...)
		for i, word := range undo {
			if word == "-I" || word == "-A" {
				undo[i] = "-D"
			}
		}
		lab.Command(t, undo...)
	})
}

func TestPolicyTheDropOfAnotherAgentInForwardStillDecides(t *testing.T) {
	s := onScene(t)
	s.policeBoth()
	node := s.client.NodePath()
	ask := func(server string, kind netprobe.Kind) labtest.Probe {
		return labtest.Probe{
			From: labtest.FromPodNetwork(s.client), Want: labtest.Want{Kind: kind},
			To: labtest.Target("tcp", s.servers[server].Address(4).String(), 8081),
		}
	}
	labtest.Eventually(t, ask("c1", ""), ask("c2", ""))
	// After the connections were allowed, and before: both tables, both ends.
	dropping(t, node, "iptables", "-t", "filter", "-I", "FORWARD", "-d", s.servers["c1"].Address(4).String(), "-p", "tcp", "--dport", "8081", "-j", "DROP")
	dropping(t, node, "iptables", "-t", "mangle", "-A", "FORWARD", "-d", s.servers["c2"].Address(4).String(), "-p", "tcp", "--dport", "8081", "-j", "DROP")
	labtest.Expect(t, ask("c1", netprobe.KindTimeout), ask("c2", netprobe.KindTimeout))
}

func TestPolicyAHookThatAnotherProgramMovesIsPutBackAndSaid(t *testing.T) {
	s := onScene(t)
	s.policeBoth()
	node := s.servers["b1"].NodePath()
	before := agentStatus(t, node).Dataplane.Totals.Repairs
	dropping(t, node, "iptables", "-t", "mangle", "-I", "FORWARD", "-m", "comment", "--comment", "stranger", "-j", "ACCEPT")
	waitUntil(t, "our rule to be the first again", func(context.Context) (string, bool) {
		out := lab.MustNodeExec(t, node, "iptables", "-t", "mangle", "-S", "FORWARD")
		ours, other := strings.Index(out, "-j OVL-FORWARD"), strings.Index(out, "stranger")
		return out, ours >= 0 && ours < other
	})
	// The Problem is there until the hooks are looked at again; what was mended
	// stays in the status.
	waitUntil(t, "it to be said", func(ctx context.Context) (string, bool) {
		status, err := labtest.AskAgent[api.Status](ctx, lab, node, api.PathStatus)
		if err != nil || status.Dataplane == nil {
			return fmt.Sprint(err), false
		}
		d := status.Dataplane
		for _, text := range d.Repaired {
			if d.Totals.Repairs > before && strings.Contains(text, "hook in FORWARD was at position") {
				t.Logf("said: %s; problems: %+v", text, status.Problems)
				return "", true
			}
		}
		return fmt.Sprintf("%+v", d), false
	})
	labtest.Expect(t, labtest.Probe{
		From: labtest.FromPodNetwork(s.client), Want: labtest.Want{Kind: netprobe.KindTimeout},
		To: labtest.Target("tcp", s.servers["b1"].Address(4).String(), 8081),
	})
}

// agentless keeps the agent of west off some nodes; off none, it is everywhere
// again.
func agentless(t *testing.T, nodes ...string) {
	t.Helper()
	affinity := "null"
	if len(nodes) > 0 {
		affinity = fmt.Sprintf(`{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[`+
			`{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"NotIn","values":["%s"]}]}]}}}`, strings.Join(nodes, `","`))
	}
	mustKubectlWest(t, "patch", "daemonset", "overland-agent", "--namespace=overland-system", "--type=merge",
		"--patch", `{"spec":{"template":{"spec":{"affinity":`+affinity+`}}}}`)
	mustKubectlWest(t, "rollout", "status", "daemonset/overland-agent", "--namespace=overland-system", "--timeout=90s")
}

// TestPolicyCleanupAndAFirstInstallationUnderLoad: the kernel goes on without an
// agent; cleanup leaves nothing of ours and everything of others; an agent that
// comes to a node with running pods drops nothing of what it is to allow, and
// ends what it is to deny.
func TestPolicyCleanupAndAFirstInstallationUnderLoad(t *testing.T) {
	const node = "west/node-2"
	s := onScene(t)
	s.policeBoth()
	withStrangers(t, node)
	live, dead := s.viaServices(7, "c2"), s.directly([]netprobe.Mode{netprobe.UDPPush, netprobe.UDPNew}, "b2")
	m := s.measure(append(live[:len(live):len(live)], dead...))
	living := s.client.StartFlows(t, pace, urls(live)...)
	shut := s.client.StartFlows(t, pace, urls(dead)...)
	s.awaitPackets(m, live)

	t.Cleanup(func() { agentless(t) })
	agentless(t, "node-2")
	waitUntil(t, "the agent to be gone", func(context.Context) (string, bool) {
		return "it runs", lab.AgentProcess(t, node) == 0
	})
	time.Sleep(time.Second)
	leaked := func() (n uint64) {
		counts := m.read()
		for _, f := range dead {
			n += counts[f.url()+">"]
		}
		return n
	}
	if n := leaked(); n != 0 {
		t.Errorf("%d packets of denied flows passed after the agent had ended", n)
	}
	others := foreign(rulesOf(t, node))
	if out := lab.NodeExec(t, node, "overland-agent", "cleanup"); out.Code != 0 {
		t.Fatalf("overland-agent cleanup: %s", out)
	}
	after := rulesOf(t, node)
	if left := ours(after); left != "" {
		t.Errorf("cleanup left\n%s", left)
	}
	if diff := cmp.Diff(others, foreign(after)); diff != "" {
		t.Errorf("cleanup changed what is not ours:\n%s", diff)
	}
	waitUntil(t, "packets of what was denied", func(context.Context) (string, bool) { return "none", leaked() > 0 })

	agentless(t)
	waitForces(t)
	s.reaches(api.ResultDenied, "b2")
	time.Sleep(grace)
	late := leaked()
	time.Sleep(watch)
	if n := leaked() - late; n != 0 {
		t.Errorf("%d packets of denied flows passed after the first installation", n)
	}
	shut.Stop()
	s.alive(m, live, living.Stop())
}
