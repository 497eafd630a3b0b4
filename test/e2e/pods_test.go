package e2e

import (
	"net/netip"
	"testing"

	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/topology"
)

// toAddress are probes of every protocol to a server at an address, which has
// to see the given source. 60000 bytes do not fit in a packet.
func toAddress(from labtest.Source, to netip.Addr, port int, source netip.Addr, name string) []labtest.Probe {
	host := to.String()
	want := labtest.Want{Source: source, Server: name}
	large := want
	large.Bytes = 60000
	return []labtest.Probe{
		{From: from, To: labtest.Target("tcp", host, port), Want: want},
		{From: from, To: labtest.Target("udp", host, port), Want: want},
		{From: from, To: labtest.Target("udp", host, port, "size=60000"), Want: large},
		{From: from, To: labtest.Target("sctp", host, port), Want: labtest.Want{Source: source}},
		{From: from, To: labtest.Target("icmp", host, 0)},
	}
}

// betweenPods are probes in every protocol and family from each of the pods
// to each of the others.
func betweenPods(from, to []*labtest.Pod) []labtest.Probe {
	var probes []labtest.Probe
	for _, a := range from {
		for _, b := range to {
			for _, family := range families() {
				probes = append(probes, toAddress(labtest.FromPod(a), b.Address(family), port, a.Address(family), b.Name)...)
			}
		}
	}
	return probes
}

func TestPodsReachEachOtherByTheirOwnAddressOnANodeAcrossNodesAndAcrossClusters(t *testing.T) {
	t.Parallel()
	a, b := worldPods(t, "a"), worldPods(t, "b")
	labtest.Eventually(t, betweenPods(a, b)...)
}

func TestNodesAndPodsReachEachOtherByTheirOwnAddress(t *testing.T) {
	t.Parallel()
	pods, hosts := worldPods(t, "a"), worldPods(t, "host")
	var probes []labtest.Probe
	for _, pod := range pods {
		for _, host := range hosts {
			node, err := lab.Topology.Node(host.NodePath())
			if err != nil {
				t.Fatal(err)
			}
			for i, address := range topology.Addrs(node.Addresses) {
				own := pod.Address(families()[i])
				// A pod on the network of its node has the node's addresses.
				if got := host.Address(families()[i]); got != address {
					t.Errorf("%s has the address %s, not its node's %s", host, got, address)
				}
				probes = append(probes, toAddress(labtest.FromPod(pod), address, hostPort, own, host.Node)...)
				probes = append(probes, toAddress(lab.FromNode(node.Path()), own, port, address, pod.Name)...)
			}
		}
	}
	labtest.Eventually(t, probes...)
}

func TestControlPlanesReachPodsOfAllClustersByTheirOwnAddress(t *testing.T) {
	t.Parallel()
	var probes []labtest.Probe
	for _, pod := range worldPods(t, "a") {
		for _, c := range lab.Clusters {
			for i, address := range topology.Addrs(c.ControlPlane.Addresses) {
				own := pod.Address(families()[i])
				probes = append(probes, toAddress(lab.FromControlPlane(c.Name), own, port, address, pod.Name)...)
			}
		}
	}
	labtest.Eventually(t, probes...)
}

func TestOutsideAndPodsReachEachOtherByTheirOwnAddress(t *testing.T) {
	t.Parallel()
	pods := worldPods(t, "a")
	lab.ServeOutside(t, "serve", "--name", "outside", "--tcp", "8080", "--udp", "8080", "--sctp", "8080")
	var probes []labtest.Probe
	for _, pod := range pods {
		for i, outside := range topology.Addrs(lab.Topology.Outside.Addresses) {
			own := pod.Address(families()[i])
			probes = append(probes, toAddress(labtest.FromPod(pod), outside, port, own, "outside")...)
			probes = append(probes, toAddress(lab.FromOutside(), own, port, outside, pod.Name)...)
		}
	}
	labtest.Eventually(t, probes...)
}

func TestProbesNeedNoAPIServerFromThePodsNetwork(t *testing.T) {
	t.Parallel()
	a, b := worldPods(t, "a"), worldPods(t, "b")
	var probes []labtest.Probe
	for i := range a {
		for _, family := range families() {
			probes = append(probes, toAddress(labtest.FromPodNetwork(a[i]), b[i].Address(family), port, a[i].Address(family), b[i].Name)...)
		}
	}
	labtest.Eventually(t, probes...)
}
