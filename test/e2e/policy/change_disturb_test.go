package policy

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/netprobe"
)

// prober sends all the time what has to pass and what must not.
type prober struct {
	s            *scene
	m            meters
	live, dead   []flow
	living, shut *labtest.Flows
}

// policeBoth applies policies under which the client reaches the open
// servers of both clusters, and none of the closed ones.
func (s *scene) policeBoth() {
	s.t.Helper()
	s.police(west(), scenePolicy("closed", "{podSelector: {matchLabels: {is: closed}}, policyTypes: [Ingress]}")+
		scenePolicy("open", ingressFrom("is: open", "{podSelector: {matchLabels: {role: client}}}")))
	s.police(canada(), scenePolicy("closed", ingressFrom("is: closed", "{podSelector: {matchLabels: {overland.dev/cluster: canada}}}"))+
		scenePolicy("open", ingressFrom("is: open", "{podSelector: {matchLabels: {overland.dev/cluster: west, role: client}}}")))
	s.reaches(api.ResultAllowed, "c1", "c2", "d")
	s.reaches(api.ResultDenied, "b1", "b2", "e")
}

// directly are flows of the modes to the own addresses of servers.
func (s *scene) directly(modes []netprobe.Mode, servers ...string) []flow {
	var flows []flow
	for _, name := range servers {
		for _, m := range modes {
			for _, family := range []int{4, 6} {
				flows = append(flows, flow{name, m, s.servers[name].Address(family)})
			}
		}
	}
	return flows
}

// startProber starts to send. Denied flows are those that begin again and again,
// and one that was never anything but denied.
func (s *scene) startProber() *prober {
	s.t.Helper()
	denied := []netprobe.Mode{netprobe.TCPNew, netprobe.UDPNew, netprobe.UDPPush}
	p := &prober{s: s}
	p.live = slices.Concat(s.viaServices(7, "c1", "c2"), s.directly(allModes(), "d"))
	p.dead = s.directly(denied, "b1", "b2", "e")
	p.m = s.measure(slices.Concat(p.live, p.dead))
	p.living = s.client.StartFlows(s.t, pace, urls(p.live)...)
	p.shut = s.client.StartFlows(s.t, 2*pace, urls(p.dead)...)
	s.awaitPackets(p.m, p.live)
	return p
}

// stop ends the sending and checks that nothing was cut and nothing leaked.
func (p *prober) stop() {
	s := p.s
	s.t.Helper()
	dead, live := p.shut.Stop(), p.living.Stop()
	counts := p.m.read()
	var sent, leaked, asked, heard uint64
	for _, f := range p.dead {
		r := dead[f.url()]
		n := counts[f.url()+">"] + counts[f.url()+"<"]
		sent, leaked = sent+r.Sent, leaked+n
		if n != 0 || r.Received != 0 || r.Sent == 0 {
			s.t.Errorf("%s, which is denied: %d sent, %d answered, %d packets arrived", f, r.Sent, r.Received, n)
		}
	}
	for _, f := range p.live {
		asked, heard = asked+live[f.url()].Sent, heard+live[f.url()].Received
	}
	s.alive(p.m, p.live, live)
	s.t.Logf("denied: %d sent, %d packets leaked; allowed: %d sent, %d received, none cut unless said", sent, leaked, asked, heard)
}

// enforcedAgain waits until the agent of every node enforces again what is wanted.
func enforcedAgain(t *testing.T) {
	t.Helper()
	for _, node := range nodes() {
		waitUntil(t, "enforcement on "+node, func(ctx context.Context) (string, bool) {
			s, err := labtest.AskAgent[api.Status](ctx, lab, node, api.PathStatus)
			if err != nil || s.Dataplane == nil {
				return fmt.Sprint(err), false
			}
			return fmt.Sprintf("%s %+v", s.State, s.Dataplane), s.Dataplane.InForce
		})
	}
}

// killAgents ends every agent without a warning and waits until others enforce.
func killAgents(t *testing.T) {
	t.Helper()
	old := map[string]int{}
	for _, node := range nodes() {
		old[node] = lab.AgentProcess(t, node)
		process, err := os.FindProcess(old[node])
		if err == nil && old[node] != 0 {
			err = process.Kill()
		}
		if err != nil || old[node] == 0 {
			t.Fatalf("kill the agent of %s, process %d: %v", node, old[node], err)
		}
	}
	for _, node := range nodes() {
		waitUntil(t, "another agent on "+node, func(context.Context) (string, bool) {
			pid := lab.AgentProcess(t, node)
			return fmt.Sprint("process ", pid), pid != 0 && pid != old[node]
		})
	}
	enforcedAgain(t)
}

// restartAgents makes new agents in an orderly way, in both clusters.
func restartAgents(t *testing.T) {
	t.Helper()
	for _, c := range lab.Clusters {
		out := c.Kubectl(t, "rollout", "restart", "daemonset/overland-agent", "--namespace=overland-system")
		if out.Code == 0 {
			out = c.Kubectl(t, "rollout", "status", "daemonset/overland-agent", "--namespace=overland-system", "--timeout=90s")
		}
		if out.Code != 0 {
			t.Fatalf("restart the agents of %s: %s", c.Name, out)
		}
	}
	enforcedAgain(t)
}

// servesAgain starts API servers again and waits until they serve.
func servesAgain(t *testing.T, clusters ...string) {
	t.Helper()
	for _, name := range clusters {
		lab.Start(t, name+"/kube-apiserver")
		waitUntil(t, "the API server of "+name, func(ctx context.Context) (string, bool) {
			text, err := lab.Cluster(name).Client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
			return fmt.Sprintf("%s %v", text, err), err == nil
		})
	}
	waitForces(t)
}

// withoutServers kills API servers, and then every agent.
func withoutServers(t *testing.T, clusters ...string) {
	t.Helper()
	for _, name := range clusters {
		lab.Kill(t, name+"/kube-apiserver")
	}
	killAgents(t)
	servesAgain(t, clusters...)
}

func TestPolicyNothingLeaksAndNothingIsCutMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		name    string
		disturb func(t *testing.T, s *scene)
	}{
		// An agent that is killed again and again is started later and later; the
		// orderly restart makes new pods.
		{"agents are killed", func(t *testing.T, _ *scene) { killAgents(t) }},
		{"the local API server is down and agents are killed", func(t *testing.T, _ *scene) { withoutServers(t, "west") }},
		{"agents are restarted", func(t *testing.T, _ *scene) { restartAgents(t) }},
		{"both API servers are down and agents are killed", func(t *testing.T, _ *scene) { withoutServers(t, "west", "canada") }},
		{"policies are edited a hundred times", func(_ *testing.T, s *scene) { s.storm(100) }},
		{"kube-proxy is restarted", func(t *testing.T, _ *scene) {
			for _, node := range nodes() {
				lab.Kill(t, node+"/kube-proxy")
				lab.Start(t, node+"/kube-proxy")
			}
			time.Sleep(5 * time.Second) // it writes all of its rules anew
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := onScene(t)
			s.policeBoth()
			p := s.startProber()
			tt.disturb(t, s)
			p.stop()
		})
	}
}

// storm edits policies and labels. After each edit the closed servers are closed
// to the client, and the open ones open.
func (s *scene) storm(edits int) {
	s.t.Helper()
	closed := []string{
		"{podSelector: {matchLabels: {is: closed}}, policyTypes: [Ingress]}",
		ingressFrom("is: closed", "{podSelector: {matchLabels: {role: other}}}"),
		ingressFrom("is: closed", "{ipBlock: {cidr: 10.99.0.0/16}}, {podSelector: {matchLabels: {noise: never}}}"),
		"{podSelector: {matchLabels: {is: closed}}, policyTypes: [Ingress], ingress: [{ports: [{port: 9, protocol: TCP}]}]}",
		"{podSelector: {matchExpressions: [{key: is, operator: In, values: [closed, shut]}]}, policyTypes: [Ingress, Egress], egress: [{}]}",
	}
	open := []string{
		ingressFrom("is: open", "{podSelector: {matchLabels: {role: client}}}"),
		ingressFrom("is: open", "{podSelector: {}}"),
		"{podSelector: {matchLabels: {is: open}}, policyTypes: [Ingress], ingress: [{}]}",
		"{podSelector: {matchLabels: {is: open}}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: \"::/0\"}}]," +
			" ports: [{port: 1, endPort: 65535, protocol: TCP}, {port: 1, endPort: 65535, protocol: UDP}]}]}",
		ingressFrom("is: open", "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: change}}, podSelector: {matchLabels: {app: a}}}"),
	}
	more := scenePolicy("more", ingressFrom("is: closed", "{podSelector: {matchLabels: {role: nobody}}}")) +
		scenePolicy("most", ingressFrom("is: open", "{podSelector: {matchLabels: {noise: never}}}"))
	for i := range edits {
		switch i % 5 {
		case 0:
			s.police(west(), scenePolicy("closed", closed[i/5%len(closed)]))
		case 1:
			s.police(west(), scenePolicy("open", open[(i/5+1)%len(open)]))
		case 2:
			s.label(west(), "a", "noise", fmt.Sprint("n", i))
		case 3:
			s.police(west(), strings.ReplaceAll(more, "nobody", fmt.Sprint("nobody", i)))
		case 4:
			west().In(s.t, sceneNamespace).Delete(scenePolicy("more", "{}"))
		}
	}
	waitForces(s.t)
}
