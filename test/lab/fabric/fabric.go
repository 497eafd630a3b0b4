// Package fabric builds the network of a lab as Azure shows it to a node: a
// router for every VNet, point-to-point links from it to each node, a host
// route for every pod address, and peerings between VNets that can be cut,
// slowed and made lossy. It may import test/lab/topology and test/lab/ns.
//
// Everything happens in named network namespaces that the caller's mount
// namespace shows under one folder; the caller's own network namespace is left
// alone.
package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/topology"
)

// Fabric is the built network. Its methods are not safe for concurrent use.
type Fabric struct {
	dir   string // where namespaces are named
	lab   topology.Lab
	peers map[direction]*peer
	tuns  map[direction]*tun
}

// New is a fabric with nothing built yet; namespaces are named under dir.
func New(dir string, lab topology.Lab) *Fabric {
	return &Fabric{dir: dir, lab: lab, peers: map[direction]*peer{}, tuns: map[direction]*tun{}}
}

// Path is where the namespace of that name is bound.
func (f *Fabric) Path(namespace string) string { return filepath.Join(f.dir, namespace) }

// azureMAC is the address with which Azure's fabric answers every ARP request.
const azureMAC = "12:34:56:78:9a:bc"

// defaultV4 and defaultV6 are the destinations of a default route.
var (
	defaultV4 = netip.MustParsePrefix("0.0.0.0/0")
	defaultV6 = netip.MustParsePrefix("::/0")
)

// Build makes routers, control planes, the outside and all peerings. Nodes are
// attached apart, since a reboot detaches and attaches them again.
func (f *Fabric) Build() error {
	if err := f.buildOutside(); err != nil {
		return err
	}
	for _, c := range f.lab.Clusters {
		if err := f.buildCluster(c); err != nil {
			return fmt.Errorf("cluster %s: %w", c.Name, err)
		}
	}
	for i, a := range f.lab.Clusters {
		for _, b := range f.lab.Clusters[i+1:] {
			if err := f.buildPeering(a, b); err != nil {
				return fmt.Errorf("peering %s–%s: %w", a.Name, b.Name, err)
			}
		}
	}
	return nil
}

func (f *Fabric) buildOutside() error {
	out := f.lab.Outside
	if err := f.makeNamespace(out.Namespace, false); err != nil {
		return err
	}
	return f.at(out.Namespace, func(h *netlink.Handle) error {
		return addAddrs(h, "lo", topology.Addrs(out.Addresses))
	})
}

func (f *Fabric) buildCluster(c topology.Cluster) error {
	if err := f.makeNamespace(c.Router, true); err != nil {
		return err
	}
	// What has no route of its own is not there: no answer to ARP, no default.
	err := f.at(c.Router, func(h *netlink.Handle) error {
		for _, p := range topology.Prefixes(c.VNet) {
			if err := route(h, netlink.Route{Dst: ipNet(p), Type: unix.RTN_UNREACHABLE}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := f.makeNamespace(c.ControlPlane.Namespace, false); err != nil {
		return err
	}
	if err := f.attach(c, c.ControlPlane, "cp"); err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	return f.attachOutside(c)
}

// attachOutside links the VNet's router to the outside, which knows the way to
// every VNet but forwards nothing between them.
func (f *Fabric) attachOutside(c topology.Cluster) error {
	name := "to-" + c.Name
	if err := f.veth(c.Router, "outside", "", f.lab.Outside.Namespace, name); err != nil {
		return err
	}
	self := routerAddr(c)
	err := f.at(c.Router, func(h *netlink.Handle) error {
		if err := addAddrs(h, "outside", []netip.Addr{self.V4, self.V6}); err != nil {
			return err
		}
		return f.routesVia(h, "outside", []netip.Prefix{defaultV4, defaultV6}, outsideGateway())
	})
	if err != nil {
		return err
	}
	return f.at(f.lab.Outside.Namespace, func(h *netlink.Handle) error {
		gateway := outsideGateway()
		if err := addAddrs(h, name, []netip.Addr{gateway.V4, gateway.V6}); err != nil {
			return err
		}
		return f.routesVia(h, name, topology.Prefixes(c.VNet), self)
	})
}

// AttachNode makes the node's namespace and wires it to its VNet's router, with
// a host route for each of its addresses.
func (f *Fabric) AttachNode(n topology.Node) error {
	c, err := f.lab.Cluster(n.Cluster)
	if err != nil {
		return err
	}
	if err := f.makeNamespace(n.Namespace, true); err != nil {
		return fmt.Errorf("node %s: %w", n.Path(), err)
	}
	if err := f.attach(c, n.Host, "n-"+n.Name); err != nil {
		return fmt.Errorf("node %s: %w", n.Path(), err)
	}
	err = f.at(c.Router, func(h *netlink.Handle) error {
		link, err := h.LinkByName("n-" + n.Name)
		if err != nil {
			return err
		}
		for _, a := range append(n.Pods.V4.All(), n.Pods.V6.All()...) {
			if err := route(h, hostRoute(a, link, n.Addresses)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("node %s: routes of its pods: %w", n.Path(), err)
	}
	return nil
}

// DetachNode undoes AttachNode. Absent parts are fine.
func (f *Fabric) DetachNode(n topology.Node) error {
	c, err := f.lab.Cluster(n.Cluster)
	if err != nil {
		return err
	}
	err = f.at(c.Router, func(h *netlink.Handle) error {
		link, err := h.LinkByName("n-" + n.Name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err != nil {
			return err
		}
		return h.LinkDel(link)
	})
	if err != nil {
		return fmt.Errorf("node %s: remove its link: %w", n.Path(), err)
	}
	return ns.DeleteNet(f.Path(n.Namespace))
}

// attach wires a host's eth0 to the port of its VNet's router.
func (f *Fabric) attach(c topology.Cluster, host topology.Host, port string) error {
	if err := f.veth(c.Router, port, azureMAC, host.Namespace, "eth0"); err != nil {
		return err
	}
	err := f.at(c.Router, func(h *netlink.Handle) error {
		if err := addAddrs(h, port, topology.Addrs(c.Gateway)); err != nil {
			return err
		}
		link, err := h.LinkByName(port)
		if err != nil {
			return err
		}
		for _, a := range topology.Addrs(host.Addresses) {
			// The host itself is on the link.
			r := netlink.Route{
				LinkIndex: link.Attrs().Index, Dst: ipNet(netip.PrefixFrom(a, a.BitLen())), Scope: netlink.SCOPE_LINK,
			}
			if err := route(h, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("port %s: %w", port, err)
	}
	// Azure answers ARP for every address of the VNet; the delay is for
	// proxies that compete with the owner, and here there is none.
	if err := f.sysctls(c.Router, map[string]string{
		"ipv4/conf/" + port + "/proxy_arp":    "1",
		"ipv4/neigh/" + port + "/proxy_delay": "0",
	}); err != nil {
		return err
	}
	return f.at(host.Namespace, func(h *netlink.Handle) error {
		onLink := netip.PrefixFrom(host.Addresses.V4, c.VNet.V4.Bits())
		if err := addPrefix(h, "eth0", onLink); err != nil {
			return err
		}
		if host.Addresses.V6.IsValid() {
			if err := addAddrs(h, "eth0", []netip.Addr{host.Addresses.V6}); err != nil {
				return err
			}
		}
		return f.routesVia(h, "eth0", []netip.Prefix{defaultV4, defaultV6}, c.Gateway)
	})
}

// hostRoute sends one address to its node: the fabric answers for pod addresses
// on the link, so the node's own address is the next hop.
func hostRoute(a netip.Addr, link netlink.Link, via topology.Pair[netip.Addr]) netlink.Route {
	gw := via.V4
	if a.Is6() {
		gw = via.V6
	}
	return netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: ipNet(netip.PrefixFrom(a, a.BitLen())),
		Gw: gw.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	}
}

// routesVia adds a route to each prefix through the gateway of its family;
// families without a gateway are left out.
func (f *Fabric) routesVia(h *netlink.Handle, dev string, to []netip.Prefix, via topology.Pair[netip.Addr]) error {
	link, err := h.LinkByName(dev)
	if err != nil {
		return err
	}
	for _, p := range to {
		gw := via.V4
		if p.Addr().Is6() {
			gw = via.V6
		}
		if !gw.IsValid() || (p.Addr().Is6() && !f.lab.Options.DualStack) {
			continue
		}
		r := netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p), Gw: gw.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := route(h, r); err != nil {
			return err
		}
	}
	return nil
}

// makeNamespace makes a named namespace with the settings of an Azure node or
// router.
func (f *Fabric) makeNamespace(name string, forward bool) error {
	if err := ns.CreateNet(f.Path(name)); err != nil {
		return err
	}
	on := "0"
	if forward {
		on = "1"
	}
	return f.sysctls(name, map[string]string{
		"ipv4/ip_forward":          on,
		"ipv6/conf/all/forwarding": on,
		// Our links are point to point: no address can be a duplicate.
		"ipv6/conf/all/accept_dad":     "0",
		"ipv6/conf/default/accept_dad": "0",
		"ipv6/conf/all/accept_ra":      "0",
		"ipv6/conf/default/accept_ra":  "0",
		// A new namespace copies these from the machine, whatever they are there.
		"ipv4/conf/all/rp_filter":     "0",
		"ipv4/conf/default/rp_filter": "0",
		"ipv4/conf/all/proxy_arp":     "0",
		"ipv4/conf/default/proxy_arp": "0",
	})
}

// sysctls writes settings below /proc/sys/net in the named namespace.
func (f *Fabric) sysctls(namespace string, values map[string]string) error {
	return ns.Net(f.Path(namespace)).Do(func() error {
		for name, value := range values {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil {
				return fmt.Errorf("set sysctl net.%s in %s: %w", strings.ReplaceAll(name, "/", "."), namespace, err)
			}
		}
		return nil
	})
}

// at calls do with a netlink handle in the named namespace.
func (f *Fabric) at(namespace string, do func(*netlink.Handle) error) error {
	fd, err := netns.GetFromPath(f.Path(namespace))
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", namespace, err)
	}
	defer func() { _ = fd.Close() }()
	h, err := netlink.NewHandleAt(fd, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink in %s: %w", namespace, err)
	}
	defer h.Close()
	if err := do(h); err != nil {
		return fmt.Errorf("in %s: %w", namespace, err)
	}
	return nil
}

// veth links two namespaces, both ends up; mac is the first end's, or empty.
func (f *Fabric) veth(nsA, nameA, mac, nsB, nameB string) error {
	fd, err := netns.GetFromPath(f.Path(nsB))
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", nsB, err)
	}
	defer func() { _ = fd.Close() }()
	err = f.at(nsA, func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = nameA
		if mac != "" {
			var err error
			if attrs.HardwareAddr, err = net.ParseMAC(mac); err != nil {
				return err
			}
		}
		pair := &netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(int(fd))}
		if err := h.LinkAdd(pair); err != nil {
			return fmt.Errorf("add link %s–%s: %w", nameA, nameB, err)
		}
		return h.LinkSetUp(pair)
	})
	if err != nil {
		return err
	}
	return f.at(nsB, func(h *netlink.Handle) error {
		link, err := h.LinkByName(nameB)
		if err != nil {
			return err
		}
		return h.LinkSetUp(link)
	})
}

func addAddrs(h *netlink.Handle, dev string, all []netip.Addr) error {
	for _, a := range all {
		if !a.IsValid() {
			continue
		}
		bits := a.BitLen()
		if a.IsLinkLocalUnicast() && a.Is6() {
			bits = 64
		}
		if err := addPrefix(h, dev, netip.PrefixFrom(a, bits)); err != nil {
			return err
		}
	}
	return nil
}

func addPrefix(h *netlink.Handle, dev string, p netip.Prefix) error {
	link, err := h.LinkByName(dev)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		address.Flags = unix.IFA_F_NODAD
	}
	if p.Addr().IsLinkLocalUnicast() && p.Addr().Is4() {
		// Else a host would send from it where it has another address.
		address.Scope = int(netlink.SCOPE_LINK)
	}
	// The gateway's link-local address may be the one the kernel chose itself.
	if err := h.AddrReplace(link, address); err != nil {
		return fmt.Errorf("add address %s to %s: %w", p, dev, err)
	}
	return nil
}

func route(h *netlink.Handle, r netlink.Route) error {
	r.Family = nl.FAMILY_V4
	if r.Dst.IP.To4() == nil {
		r.Family = nl.FAMILY_V6
	}
	if err := h.RouteReplace(&r); err != nil {
		return fmt.Errorf("route to %s: %w", r.Dst, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
