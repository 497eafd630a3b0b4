package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/topology"
)

// service is a Service of both families for the pods with the label app=APP.
func service(name, app, spec string) string {
	return fill(`
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec:
  selector: {app: APP}
  ipFamilyPolicy: RequireDualStack
  SPEC
  ports:
  - {name: tcp, port: 80, targetPort: 8080, protocol: TCP}
  - {name: udp, port: 80, targetPort: 8080, protocol: UDP}
  - {name: sctp, port: 80, targetPort: 8080, protocol: SCTP}
---
`, "NAME", name, "APP", app, "SPEC", spec)
}

// clusterIPs are a Service's own addresses in the order of families.
func clusterIPs(t *testing.T, n *labtest.Namespace, name string) []string {
	t.Helper()
	s, err := n.Client.CoreV1().Services(n.Name).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Spec.ClusterIPs) != len(families()) {
		t.Fatalf("Service %s has the addresses %v, expected one for each family", name, s.Spec.ClusterIPs)
	}
	return s.Spec.ClusterIPs
}

// protocols of a Service's ports.
func protocols() []string { return []string{"tcp", "udp", "sctp"} }

func TestClusterIPLeadsToThePodsAndHidesNothingOfTheClient(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "clusterip")
	n.Apply(server("server", "node-1") + service("web", "server", "") + server("near", "node-1") + server("far", "node-2"))
	server := n.Pod("server")
	var probes []labtest.Probe
	for _, client := range []*labtest.Pod{n.Pod("near"), n.Pod("far")} {
		for i, ip := range clusterIPs(t, n, "web") {
			for _, protocol := range protocols() {
				want := labtest.Want{Source: client.Address(families()[i])}
				if protocol != "sctp" {
					want.Server = server.Name
				}
				probes = append(probes, labtest.Probe{From: labtest.FromPod(client), To: labtest.Target(protocol, ip, 80), Want: want})
			}
		}
	}
	labtest.Eventually(t, probes...)
}

func TestAPodReachesItselfThroughItsOwnService(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "hairpin")
	n.Apply(server("self", "") + service("self", "self", ""))
	self := n.Pod("self")
	var probes []labtest.Probe
	for _, ip := range clusterIPs(t, n, "self") {
		for _, protocol := range protocols() {
			probes = append(probes, labtest.Probe{From: labtest.FromPod(self), To: labtest.Target(protocol, ip, 80)})
		}
	}
	labtest.Eventually(t, probes...)
}

func TestAServiceSpreadsOverAllItsPodsAndFollowsThem(t *testing.T) {
	t.Parallel()
	n := canada().NewNamespace(t, "spread")
	n.Apply(server("one", "") + server("two", "") + server("client", "") + `
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  selector: {group: both}
  ports: [{port: 80, targetPort: 8080}]
`)
	for _, name := range []string{"one", "two"} {
		n.Pod(name)
		label(t, n, name, "group", "both")
	}
	client := n.Pod("client")
	service, err := n.Client.CoreV1().Services(n.Name).Get(t.Context(), "both", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	targets := slices.Repeat([]string{labtest.Target("tcp", service.Spec.ClusterIP, 80)}, 32)
	await := func(want ...string) {
		t.Helper()
		n.Wait(fmt.Sprintf("32 requests to be answered by all of %v", want), func(ctx context.Context) (string, bool, error) {
			results, err := labtest.Ask(ctx, labtest.FromPod(client), targets...)
			var seen []string
			for _, r := range results {
				if !slices.Contains(seen, r.Server) {
					seen = append(seen, r.Server)
				}
			}
			slices.Sort(seen)
			return fmt.Sprint(seen), slices.Equal(seen, want), err
		})
	}
	await("one", "two")
	label(t, n, "two", "group", "none")
	await("one")
}

// label sets a label of a pod.
func label(t *testing.T, n *labtest.Namespace, pod, key, value string) {
	t.Helper()
	if out := n.Kubectl(t, "-n", n.Name, "label", "--overwrite", "pod", pod, key+"="+value); out.Code != 0 {
		t.Fatalf("kubectl label: %s", out)
	}
}

func TestHeadlessServiceHasThePodsOwnAddresses(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "headless")
	n.Apply(server("one", "node-1") + server("two", "node-2") + service("web", "one", "clusterIP: None"))
	one := n.Pod("one")
	n.Wait("EndpointSlices with the addresses of pod one", func(ctx context.Context) (string, bool, error) {
		list, err := n.Client.DiscoveryV1().EndpointSlices(n.Name).List(ctx, metav1.ListOptions{
			LabelSelector: discoveryv1.LabelServiceName + "=web",
		})
		if err != nil {
			return "", false, err
		}
		var seen []netip.Addr
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				for _, a := range e.Addresses {
					seen = append(seen, netip.MustParseAddr(a))
				}
			}
		}
		slices.SortFunc(seen, netip.Addr.Compare)
		return fmt.Sprint(seen), slices.Equal(seen, one.Addresses), nil
	})
	var probes []labtest.Probe
	for _, family := range families() {
		probes = append(probes, labtest.Probe{
			From: labtest.FromPod(n.Pod("two")), To: labtest.Target("tcp", "web."+n.Name, port, fmt.Sprintf("family=%d", family)),
			Want: labtest.Want{Server: "one"},
		})
	}
	labtest.Eventually(t, probes...)
}

func TestNodePortIsOpenOnEachNodeAndOnlyLocalPolicyKeepsTheClientsAddress(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "nodeport")
	n.Apply(server("server", "node-1") +
		service("any", "server", "type: NodePort") +
		service("local", "server", "type: NodePort\n  externalTrafficPolicy: Local"))
	server := n.Pod("server")
	everywhere, local := nodePorts(t, n, "any"), nodePorts(t, n, "local")
	var probes []labtest.Probe
	for _, node := range n.Nodes {
		for i, address := range topology.Addrs(node.Addresses) {
			outside := topology.Addrs(lab.Topology.Outside.Addresses)[i]
			for _, protocol := range protocols() {
				to := func(ports map[string]int, want labtest.Want) labtest.Probe {
					if protocol == "sctp" {
						want.Server = "" // an INIT-ACK names nobody
					}
					return labtest.Probe{From: lab.FromOutside(), To: labtest.Target(protocol, address.String(), ports[protocol]), Want: want}
				}
				// The node's own address takes the client's place.
				probes = append(probes, to(everywhere, labtest.Want{Server: server.Name, Source: address}))
				if node.Name == server.Node {
					probes = append(probes, to(local, labtest.Want{Server: server.Name, Source: outside}))
				} else {
					probes = append(probes, to(local, labtest.Want{Kind: "timeout"}))
				}
			}
		}
	}
	labtest.Eventually(t, probes...)
}

// nodePorts are a Service's node ports by protocol.
func nodePorts(t *testing.T, n *labtest.Namespace, name string) map[string]int {
	t.Helper()
	s, err := n.Client.CoreV1().Services(n.Name).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]int{}
	for _, p := range s.Spec.Ports {
		ports[p.Name] = int(p.NodePort)
	}
	return ports
}

func TestASessionSurvivesThatItsServiceGoes(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "session")
	manifest := service("web", "server", "")
	n.Apply(server("server", "node-1") + server("client", "node-2") + manifest)
	n.Pod("server")
	client := n.Pod("client")
	ip := clusterIPs(t, n, "web")[0]
	target := labtest.Target("tcp", ip, 80)
	labtest.Eventually(t, labtest.Probe{From: labtest.FromPod(client), To: target})
	answered := make(chan error, 1)
	go func() {
		// Asks once, and again on the same connection 8 seconds later.
		results, err := labtest.Ask(t.Context(), labtest.FromPod(client), target+"?hold=8s")
		if err == nil && !results[0].OK {
			err = fmt.Errorf("%s: %s", results[0].Kind, results[0].Error)
		}
		answered <- err
	}()
	n.Wait("the session to be open", func(ctx context.Context) (string, bool, error) {
		out := lab.NodeExec(t, client.NodePath(), "conntrack", "-L", "-p", "tcp", "--orig-dst", ip, "--state", "ESTABLISHED")
		return out.String(), out.Stdout != "", nil
	})
	n.Delete(manifest)
	labtest.Eventually(t, labtest.Probe{From: labtest.FromPod(client), To: target, Want: labtest.Want{Kind: "timeout"}})
	if err := <-answered; err != nil {
		t.Errorf("the session did not go on: %v", err)
	}
}
