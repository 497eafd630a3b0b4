package fabric

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/overland-net/overland/test/lab/topology"
)

// addressesOf is every address in the lab that somebody has.
func addressesOf(lab topology.Lab) []netip.Addr {
	all := topology.Addrs(lab.Outside.Addresses)
	for _, c := range lab.Clusters {
		all = append(all, topology.Addrs(c.ControlPlane.Addresses)...)
		for _, n := range c.Nodes {
			all = append(all, topology.Addrs(n.Addresses)...)
			all = append(all, n.Pods.V4.First, n.Pods.V6.First)
		}
	}
	return all
}

func TestEveryHostReachesEveryAddressOfEveryVNet(t *testing.T) {
	lab := twoClusters()
	f := build(t, lab)
	west, canada := lab.Clusters[0], lab.Clusters[1]
	for _, from := range []string{
		west.Nodes[0].Namespace, canada.Nodes[1].Namespace, west.ControlPlane.Namespace, lab.Outside.Namespace,
	} {
		expect(t, f, from, true, addressesOf(lab)...)
	}
}

func TestAnIPv4LabHasNoIPv6Addresses(t *testing.T) {
	options := twoClusters().Options
	options.DualStack = false
	lab := topology.New(options)
	f := build(t, lab)
	n := lab.Clusters[0].Nodes[0]
	expect(t, f, n.Namespace, true, lab.Clusters[1].ControlPlane.Addresses.V4, lab.Outside.Addresses.V4)
	err := f.at(n.Namespace, func(h *netlink.Handle) error {
		link, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		all, err := h.AddrList(link, netlink.FAMILY_V6)
		for _, a := range all {
			if !a.IP.IsLinkLocalUnicast() {
				t.Errorf("eth0 has %s", a)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheRouterAnswersARPForWhatIsThere(t *testing.T) {
	lab := twoClusters()
	f := build(t, lab)
	west := lab.Clusters[0]
	node := west.Nodes[0]
	absent := netip.MustParseAddr("10.1.77.77")
	there := []netip.Addr{west.Nodes[1].Addresses.V4, west.Nodes[1].Pods.V4.First, west.ControlPlane.Addresses.V4}
	expect(t, f, node.Namespace, true, there...)
	expect(t, f, node.Namespace, false, absent)
	for _, a := range there {
		if mac := neighbour(t, f, node.Namespace, a); mac != azureMAC {
			t.Errorf("the neighbour %s is at %q, want %s", a, mac, azureMAC)
		}
	}
	if mac := neighbour(t, f, node.Namespace, absent); mac != "" {
		t.Errorf("%s, which nobody has, is at %s", absent, mac)
	}
}

func TestADetachedNodeIsGoneAndComesBack(t *testing.T) {
	lab := twoClusters()
	f := build(t, lab)
	gone, other := lab.Clusters[0].Nodes[0], lab.Clusters[1].Nodes[0]
	links := linkNames(t, f, "west-vnet")
	for range 2 { // the second time there is nothing to do
		if err := f.DetachNode(gone); err != nil {
			t.Fatal(err)
		}
	}
	if exists(f, gone.Namespace) {
		t.Error("the namespace still has its name")
	}
	if after := linkNames(t, f, "west-vnet"); strings.Contains(after, "n-node-1") || !strings.Contains(after, "n-node-2") {
		t.Errorf("the router had %s and has %s", links, after)
	}
	expect(t, f, other.Namespace, false, gone.Addresses.V4, gone.Pods.V4.First, gone.Pods.V6.First)
	attach(t, f, gone)
	expect(t, f, other.Namespace, true, gone.Addresses.V4, gone.Pods.V4.First, gone.Pods.V6.First)
}

func TestAttachingTwiceIsAnErrorThatNamesTheNode(t *testing.T) {
	lab := twoClusters()
	f := build(t, lab)
	err := f.AttachNode(lab.Clusters[0].Nodes[1])
	if err == nil || !strings.Contains(err.Error(), "node west/node-2: create network namespace") {
		t.Errorf("got %v", err)
	}
}

func TestTheCallersNamespaceIsLeftAlone(t *testing.T) {
	build(t, twoClusters())
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 1 || links[0].Attrs().Name != "lo" {
		t.Errorf("want lo alone, got %v", links)
	}
}
