package policy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
)

// configure adds lines to the configuration of west's agents and starts them
// anew; without any, takes them away again.
func configure(t *testing.T, more string) {
	t.Helper()
	writeConfig(t, more)
	mustKubectlWest(t, "rollout", "restart", "daemonset/overland-agent", "--namespace=overland-system")
	mustKubectlWest(t, "rollout", "status", "daemonset/overland-agent", "--namespace=overland-system", "--timeout=90s")
	enforcedAgain(t)
}

// writeConfig is configure for agents that are not there yet.
func writeConfig(t *testing.T, more string) {
	t.Helper()
	maps := west().Client.CoreV1().ConfigMaps("overland-system")
	ctx := context.WithoutCancel(t.Context())
	name := strings.TrimSpace(mustKubectlWest(t, "get", "daemonset", "overland-agent", "--namespace=overland-system",
		"-o", `jsonpath={.spec.template.spec.volumes[?(@.name=="config")].configMap.name}`))
	config, err := maps.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const mark = "# what a test has added\n"
	own, _, _ := strings.Cut(config.Data["config.yaml"], mark)
	if config.Data["config.yaml"] = own; more != "" {
		config.Data["config.yaml"] += mark + more
	}
	if _, err := maps.Update(ctx, config, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func mustKubectlWest(t *testing.T, args ...string) string {
	t.Helper()
	out := west().Kubectl(t, args...)
	if out.Code != 0 {
		t.Fatalf("kubectl %s: %s", strings.Join(args, " "), out)
	}
	return out.Stdout
}

// Addresses that no pod has: the first of each family will be an exception.
const (
	forged4, forged6 = "10.66.0.66", "fd66::66"
	never4, never6   = "10.66.0.67", "fd66::67"
)

// forge sends from addresses that the client does not have, to servers on both
// nodes, and returns how many packets of each arrived. What the servers answer
// has no way back, and none is needed.
func (s *scene) forge(addresses ...string) map[string]uint64 {
	s.t.Helper()
	var pods []*labtest.Pod
	matches := map[*labtest.Pod]map[string]string{}
	for _, name := range []string{"c1", "c2"} {
		pods = append(pods, s.servers[name])
		matches[s.servers[name]] = map[string]string{}
		for _, a := range addresses {
			matches[s.servers[name]][a] = "-s " + a
		}
	}
	m := meters{s.t, pods}
	m.count(matches)
	for _, a := range addresses {
		bits, family, unique := "/32", 4, []string{}
		if strings.Contains(a, ":") {
			bits, family, unique = "/128", 6, []string{"nodad"}
		}
		if out := s.client.NetworkExec(s.t, append([]string{"ip", "address", "add", a + bits, "dev", "eth0"}, unique...)...); out.Code != 0 {
			s.t.Fatal(out)
		}
		args := []string{"/netprobe", "probe", "--source", a, "--timeout", "100ms", "--retries", "3"}
		for _, p := range pods {
			host := p.Address(family).String()
			args = append(args, labtest.Target("udp", host, 7007), labtest.Target("tcp", host, 8081), labtest.Target("icmp", host, 0))
		}
		sent := s.client.Exec(s.t, args...)
		if out := s.client.NetworkExec(s.t, "ip", "address", "del", a+bits, "dev", "eth0"); out.Code != 0 {
			s.t.Fatal(out)
		}
		if sent.Code != 0 {
			s.t.Fatal(sent)
		}
	}
	counts := m.read()
	s.t.Logf("packets that arrived: %v", counts)
	return counts
}

func TestPolicyForgedSourcesAreDropped_2_14(t *testing.T) {
	s := onScene(t)
	d := s.servers["d"]
	all := []string{
		forged4, forged6, never4, never6,
		// Those of a pod that may, and of one on the same node.
		d.Address(4).String(), d.Address(6).String(), s.servers["b1"].Address(4).String(),
	}
	for a, n := range s.forge(all...) {
		if n != 0 {
			t.Errorf("%d packets from %s arrived, which is not the pod's", n, a)
		}
	}
}

// TestPolicyConfiguredExceptionsAndLimits_2_13_2_14 is one test, since all of it
// needs agents that start with another configuration.
func TestPolicyConfiguredExceptionsAndLimits_2_13_2_14(t *testing.T) {
	s := onScene(t)
	t.Cleanup(func() { configure(t, "") })
	configure(t, fmt.Sprintf("sourceExceptions: {%s: [%s/32, \"%s/128\"]}\nmaxSelectorsPerNamespace: 4\nmaxMembersPerNamespace: 8\n",
		sceneNamespace, forged4, forged6))
	counts := s.forge(forged4, forged6, never4, never6)
	if counts[forged4] == 0 || counts[forged6] == 0 {
		t.Error("packets from an excepted range are dropped")
	}
	if counts[never4]+counts[never6] != 0 {
		t.Error("packets from outside the excepted ranges pass")
	}
	for name, spec := range map[string]string{
		"many selectors": "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [" + strings.TrimSuffix(selectors(6), ", ") + "]}]}",
		"many members":   "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}}]}]}",
	} {
		t.Run(name, func(t *testing.T) { s.limited(t, spec) })
	}
}

func selectors(n int) string {
	text := ""
	for i := range n {
		text += fmt.Sprintf("{podSelector: {matchLabels: {n: n%d}}}, ", i)
	}
	return text
}

// limited applies a policy that is past a limit in a namespace of its own: that is
// said, its peers are empty, and other policies are enforced as ever.
func (s *scene) limited(t *testing.T, spec string) {
	n := west().NewNamespace(t, "limits")
	n.Apply(sceneServer("limited", "node-1", "is: limited") + "\n" + scenePolicy("greedy", spec))
	pod := n.Pod("limited")
	here := &scene{t: t, client: s.client, servers: map[string]*labtest.Pod{"limited": pod}}
	for name, p := range s.servers {
		here.servers[name] = p
	}
	waitUntil(t, "the Problem to be shown", func(ctx context.Context) (string, bool) {
		status, err := labtest.AskAgent[api.Status](ctx, lab, pod.NodePath(), api.PathStatus)
		if err != nil {
			return err.Error(), false
		}
		for _, p := range status.Problems {
			if p.Kind == "Limit" && (p.Object.Namespace == n.Name || strings.Contains(p.Message, n.Name)) {
				t.Logf("said: %s: %s", p.Object, p.Message)
				return "", true
			}
		}
		return fmt.Sprintf("%+v", status.Problems), false
	})
	here.reaches(api.ResultDenied, "limited")
	began := time.Now()
	here.policeBoth()
	t.Logf("other policies were in force after %s", time.Since(began).Round(time.Millisecond))
	for _, c := range lab.Clusters {
		here.unpolice(c)
	}
}
