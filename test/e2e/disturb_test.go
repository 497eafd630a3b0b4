package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/netprobe"
	"github.com/overland-net/overland/test/lab/topology"
)

// The tests of this file are not parallel: they disturb the whole lab.

// apart are the world's pods a and b of each cluster, west's first.
func apart(t *testing.T) (west, canada []*labtest.Pod) {
	t.Helper()
	for _, p := range append(worldPods(t, "a"), worldPods(t, "b")...) {
		if p.Cluster.Name == "west" {
			west = append(west, p)
		} else {
			canada = append(canada, p)
		}
	}
	return west, canada
}

// pings are probes by ICMP, TCP and UDP from one pod to another, sent from the
// first one's network, with the same result for all.
func pings(from, to *labtest.Pod, kind netprobe.Kind) []labtest.Probe {
	var probes []labtest.Probe
	for _, family := range families() {
		host := to.Address(family).String()
		for _, target := range []string{
			labtest.Target("icmp", host, 0), labtest.Target("tcp", host, port), labtest.Target("udp", host, port),
		} {
			probes = append(probes, labtest.Probe{From: labtest.FromPodNetwork(from), To: target, Want: labtest.Want{Kind: kind}})
		}
	}
	return probes
}

// apiServer are probes of a cluster's API server from all nodes of another. One
// that answers ends the connection, as what is asked is not TLS.
func apiServer(of, from *labtest.Cluster, kind netprobe.Kind) []labtest.Probe {
	var probes []labtest.Probe
	for _, node := range from.Nodes {
		for _, address := range topology.Addrs(of.ControlPlane.Addresses) {
			probes = append(probes, labtest.Probe{
				From: lab.FromNode(node.Path()), To: labtest.Target("tcp", address.String(), 6443), Want: labtest.Want{Kind: kind},
			})
		}
	}
	return probes
}

func TestACutPeeringLosesEveryPacketBothWaysAndHeals(t *testing.T) {
	w, c := apart(t)
	healthy := slices.Concat(pings(w[0], c[0], ""), pings(c[0], w[0], ""), apiServer(canada(), west(), "closed"))
	inside := slices.Concat(pings(w[0], w[1], ""), pings(c[0], c[1], ""))
	labtest.Eventually(t, healthy...)
	lab.Cut(t, "west", "canada")
	labtest.Expect(t, slices.Concat(pings(w[0], c[0], "timeout"), pings(c[0], w[0], "timeout"),
		apiServer(canada(), west(), "timeout"), apiServer(west(), canada(), "timeout"), inside)...)
	lab.Heal(t, "west", "canada")
	labtest.Expect(t, healthy...)
}

func TestACutOneWayStillDeliversTheOtherWay(t *testing.T) {
	w, c := apart(t)
	labtest.Eventually(t, append(pings(w[0], c[0], ""), pings(c[0], w[0], "")...)...)
	lab.CutOneWay(t, "west", "canada")
	west, canada := echosSeen(t, w[0]), echosSeen(t, c[0])
	// No side gets an answer, but what canada sends arrives.
	labtest.Expect(t, append(pings(w[0], c[0], "timeout"), pings(c[0], w[0], "timeout")...)...)
	for family, i := range map[string]int{"IPv4": 0, "IPv6": 1} {
		if got := echosSeen(t, c[0])[i] - canada[i]; got != 0 {
			t.Errorf("%s: %d requests from west arrived in canada over the cut way", family, got)
		}
		if got := echosSeen(t, w[0])[i] - west[i]; got == 0 {
			t.Errorf("%s: no request from canada arrived in west over the way that is not cut", family)
		}
	}
	lab.Heal(t, "west", "canada")
	labtest.Expect(t, append(pings(w[0], c[0], ""), pings(c[0], w[0], "")...)...)
}

// echosSeen is how many echo requests have arrived in a pod, by family.
func echosSeen(t *testing.T, p *labtest.Pod) [2]int {
	t.Helper()
	var seen [2]int
	out := p.Exec(t, "cat", "/proc/net/snmp", "/proc/net/snmp6").Stdout
	var names []string
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		switch {
		case words[0] == "Icmp6InEchos":
			seen[1], _ = strconv.Atoi(words[1])
		case words[0] == "Icmp:" && names == nil:
			names = words
		case words[0] == "Icmp:":
			seen[0], _ = strconv.Atoi(words[slices.Index(names, "InEchos")])
		}
	}
	return seen
}

func TestACutToTheAPIServersLeavesPodsAlone(t *testing.T) {
	w, c := apart(t)
	healthy := append(apiServer(canada(), west(), "closed"), apiServer(west(), canada(), "closed")...)
	pods := append(pings(w[0], c[0], ""), pings(c[0], w[0], "")...)
	labtest.Eventually(t, append(healthy, pods...)...)
	lab.CutAPI(t, "west", "canada")
	labtest.Expect(t, slices.Concat(pods,
		apiServer(canada(), west(), "timeout"), apiServer(west(), canada(), "timeout"),
		apiServer(west(), west(), "closed"), apiServer(canada(), canada(), "closed"))...)
	lab.Heal(t, "west", "canada")
	labtest.Expect(t, healthy...)
}

func TestADelayedPeeringHoldsPacketsEachWay(t *testing.T) {
	const hold = 60 * time.Millisecond
	w, c := apart(t)
	labtest.Eventually(t, pings(w[0], c[0], "")...)
	lab.Delay(t, "west", "canada", hold)
	var probes []labtest.Probe
	for _, p := range append(pings(w[0], c[0], ""), pings(c[1], w[1], "")...) {
		p.Want.AtLeast = 2 * hold // a lower bound: how busy the machine is cannot break it
		probes = append(probes, p)
	}
	// The largest datagrams pass in fragments, and a delay orders nothing anew.
	for _, family := range families() {
		probes = append(probes, labtest.Probe{
			From: labtest.FromPodNetwork(w[0]), To: labtest.Target("udp", c[0].Address(family).String(), port, "size=60000"),
			Want: labtest.Want{Bytes: 60000, AtLeast: 2 * hold},
		})
	}
	labtest.Expect(t, probes...)
	lab.Heal(t, "west", "canada")
	labtest.Expect(t, pings(w[0], c[0], "")...)
}

func TestPodsGoOnWithoutAPIServerAndCrashedContainersAreRestarted(t *testing.T) {
	n := west().NewNamespace(t, "noapi")
	n.Apply(server("victim", "node-1") + server("client", "node-2") + service("web", "victim", ""))
	victim, client := n.Pod("victim"), n.Pod("client")
	var probes []labtest.Probe
	for i, ip := range clusterIPs(t, n, "web") {
		for _, target := range []string{
			labtest.Target("tcp", ip, 80), labtest.Target("tcp", victim.Address(families()[i]).String(), port),
		} {
			probes = append(probes, labtest.Probe{
				From: labtest.FromPodNetwork(client), To: target, Want: labtest.Want{Server: "victim"},
			})
		}
	}
	labtest.Eventually(t, probes...)
	process := victim.Process(t, victim.Status("netprobe").ContainerID)

	lab.Stop(t, "west/kube-apiserver")
	labtest.Expect(t, probes...)
	lab.MustNodeExec(t, victim.NodePath(), "kill", "-KILL", strconv.Itoa(process.PID))
	labtest.Eventually(t, probes...)
	restarted := time.Now()
	lab.Start(t, "west/kube-apiserver")

	again := n.PodWhen("victim", "restarted once and Ready", func(p *v1.Pod) bool {
		return p.Status.ContainerStatuses[0].RestartCount == 1 && p.Status.ContainerStatuses[0].Ready
	})
	running := again.Status("netprobe").State.Running
	if again.UID != victim.UID || running == nil || running.StartedAt.After(restarted) {
		t.Errorf("the container was not restarted before the API server: %+v", running)
	}
}

func TestARestartedKubeletKeepsItsContainers(t *testing.T) {
	pods := onThe(t, "west/node-1")
	processes := func() []string {
		var all []string
		for _, p := range pods {
			for _, s := range p.Object.Status.ContainerStatuses {
				all = append(all, fmt.Sprint(p, s.ContainerID, p.Process(t, s.ContainerID)))
			}
		}
		return all
	}
	before := processes()
	for _, stop := range []func(testing.TB, string){lab.Stop, lab.Kill} {
		stop(t, "west/node-1/kubelet")
		labtest.Expect(t, pings(pods[0], pods[1], "")...)
		lab.Start(t, "west/node-1/kubelet")
		n := west().In(t, world)
		n.Wait("exec on west/node-1 to work again", func(context.Context) (string, bool, error) {
			out := n.Kubectl(t, "-n", world, "exec", pods[0].Name, "--", "hostname")
			return out.String(), out.Code == 0, nil
		})
	}
	if after := processes(); !slices.Equal(before, after) {
		t.Errorf("the containers were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	for _, p := range pods {
		now, err := west().Client.CoreV1().Pods(world).Get(t.Context(), p.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := now.Status.ContainerStatuses[0], p.Object.Status.ContainerStatuses[0]; got.RestartCount != want.RestartCount || got.ContainerID != want.ContainerID {
			t.Errorf("%s: the API server has container %s restarted %d times, which was %s and %d", p, got.ContainerID, got.RestartCount, want.ContainerID, want.RestartCount)
		}
	}
}

func TestWithoutKubeProxyANodeKeepsOldServicesAndLearnsNoNewOnes(t *testing.T) {
	n := west().NewNamespace(t, "noproxy")
	n.Apply(server("server", "node-1") + server("near", "node-1") + server("far", "node-2") + service("old", "server", ""))
	n.Pod("server")
	near, far := n.Pod("near"), n.Pod("far")
	to := func(service string, from *labtest.Pod, fails bool) []labtest.Probe {
		var probes []labtest.Probe
		for _, ip := range clusterIPs(t, n, service) {
			probes = append(probes, labtest.Probe{From: labtest.FromPodNetwork(from), To: labtest.Target("tcp", ip, 80), Want: labtest.Want{Fails: fails}})
		}
		return probes
	}
	labtest.Eventually(t, append(to("old", near, false), to("old", far, false)...)...)
	lab.Stop(t, "west/node-2/kube-proxy")
	n.Apply(service("new", "server", ""))
	labtest.Eventually(t, to("new", near, false)...)
	labtest.Expect(t, append(to("old", far, false), to("new", far, true)...)...)
	lab.Start(t, "west/node-2/kube-proxy")
	labtest.Eventually(t, to("new", far, false)...)
}
