package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/overland-net/overland/test/lab/labtest"
)

func TestNamesOfServicesAndPodsResolveAsTheSearchPathSays(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "dns")
	n.Apply(service("web", "one", "") + service("pods", "named", "clusterIP: None") +
		server("one", "") + server("client", "") + fill(`
apiVersion: v1
kind: Pod
metadata: {name: named, labels: {app: named}}
spec:
  hostname: first
  subdomain: pods
  containers: [{name: netprobe, image: netprobe, args: ARGS}]
`, "ARGS", serving(port, httpPort)))
	n.Pod("one")
	n.Pod("named")
	client := n.Pod("client")
	var probes []labtest.Probe
	for _, family := range families() {
		option := fmt.Sprintf("family=%d", family)
		for _, name := range []string{"web", "web." + n.Name, "web." + n.Name + ".svc", "web." + n.Name + ".svc.cluster.local"} {
			probes = append(probes, labtest.Probe{
				From: labtest.FromPod(client), To: labtest.Target("tcp", name, 80, option), Want: labtest.Want{Server: "one"},
			})
		}
		for _, name := range []string{"pods", "first.pods", "first.pods." + n.Name + ".svc.cluster.local"} {
			probes = append(probes, labtest.Probe{
				From: labtest.FromPod(client), To: labtest.Target("tcp", name, port, option), Want: labtest.Want{Server: "first"},
			})
		}
	}
	probes = append(probes, labtest.Probe{
		From: labtest.FromPod(client), To: labtest.Target("tcp", "nobody", 80), Want: labtest.Want{Kind: "resolve"},
	})
	labtest.Eventually(t, probes...)
}

func TestDNSPolicyAndConfigMakeAPodsResolvConf(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "resolv")
	n.Apply(server("first", "") + `
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53], searches: [example.net], options: [{name: ndots, value: "2"}]}
  containers: [{name: busybox, image: busybox, command: [sleep, "1000"]}]
  terminationGracePeriodSeconds: 0
`)
	for _, tt := range []struct {
		pod  string
		want []string
	}{
		{"first", []string{"nameserver " + n.DNS.V4.String(), "search " + n.Name + ".svc.cluster.local svc.cluster.local cluster.local", "options ndots:5"}},
		{"own", []string{"nameserver 192.0.2.53", "search example.net", "options ndots:2"}},
	} {
		pod := n.Pod(tt.pod)
		command := []string{"cat", "/etc/resolv.conf"}
		out := pod.Exec(t, command...)
		for _, line := range tt.want {
			if !strings.Contains(out.Stdout, line) {
				t.Errorf("/etc/resolv.conf of %s lacks %q: %s", pod, line, out)
			}
		}
	}
}

func TestAHostPortLeadsToThePodAndIsGoneWithIt(t *testing.T) {
	t.Parallel()
	n := canada().NewNamespace(t, "hostport")
	manifest := `
apiVersion: v1
kind: Pod
metadata: {name: server}
spec:
  nodeSelector: {kubernetes.io/hostname: node-2}
  terminationGracePeriodSeconds: 0
  containers:
  - name: netprobe
    image: netprobe
    args: [serve, --tcp, "8080", --udp, "8080"]
    ports:
    - {containerPort: 8080, hostPort: 19080, protocol: TCP}
    - {containerPort: 8080, hostPort: 19080, protocol: UDP}
`
	n.Apply(manifest + "---" + server("client", "node-1"))
	server, client := n.Pod("server"), n.Pod("client")
	address := n.Nodes[1].Addresses.V4
	answers := func(kind string) []labtest.Probe {
		var probes []labtest.Probe
		for _, protocol := range []string{"tcp", "udp"} {
			for _, from := range []labtest.Source{labtest.FromPod(client), lab.FromOutside()} {
				want := labtest.Want{Server: server.Name}
				if kind != "" {
					want = labtest.Want{Kind: "refused"}
				}
				probes = append(probes, labtest.Probe{From: from, To: labtest.Target(protocol, address.String(), 19080), Want: want})
			}
		}
		return probes
	}
	labtest.Eventually(t, answers("")...)
	n.Delete(manifest)
	labtest.Eventually(t, answers("refused")...)
}
