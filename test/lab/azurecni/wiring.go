package azurecni

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// hostMAC is the MAC address of the host end of every pod's veth pair, so
	// that pods can have a permanent neighbour entry for their gateway.
	hostMAC = "aa:aa:aa:aa:aa:aa"
	// gateway4 and gateway6 are the next hops that pods see. No interface has
	// them: frames to hostMAC reach the node, which routes them.
	gateway4 = "169.254.1.1"
	gateway6 = "fe80::1234:5678:9abc"
)

// wiring is a pod's veth pair in the making: the host's and the pod's network
// namespace and the names of the two ends. Not for concurrent use.
type wiring struct {
	hostVeth, ifName string
	podNS            netns.NsHandle
	host, pod        *netlink.Handle
}

// openWiring opens both network namespaces: the caller's is the host's.
func openWiring(netnsPath, hostVeth, ifName string) (*wiring, error) {
	podNS, err := openNetns(netnsPath)
	if err != nil {
		return nil, err
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		_ = podNS.Close()
		return nil, fmt.Errorf("open netlink of the host: %w", err)
	}
	pod, err := netlink.NewHandleAt(podNS, unix.NETLINK_ROUTE)
	if err != nil {
		host.Close()
		_ = podNS.Close()
		return nil, fmt.Errorf("open netlink of %s: %w", netnsPath, err)
	}
	return &wiring{hostVeth: hostVeth, ifName: ifName, podNS: podNS, host: host, pod: pod}, nil
}

func (w *wiring) close() {
	w.pod.Close()
	w.host.Close()
	_ = w.podNS.Close()
}

// checkPodIsBare fails if the pod has an interface of the wanted name.
func (w *wiring) checkPodIsBare() error {
	_, err := w.pod.LinkByName(w.ifName)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for %s in the pod: %w", w.ifName, err)
	}
	return types.NewError(types.ErrInvalidNetNS, "the pod's network namespace already has an interface "+w.ifName, "")
}

// connect builds the pair in the real plugin's order and returns the MAC
// address of the pod's end. After an error, removeHostVeth undoes all of it.
func (w *wiring) connect(master string, leases []lease) (net.HardwareAddr, error) {
	primary, err := w.host.LinkByName(master)
	if err != nil {
		return nil, fmt.Errorf("find the node's interface %s for its MTU: %w", master, err)
	}
	// The name is the pod's, not the container's: a pod made again finds the
	// interface of its predecessor if that one's namespace still lives.
	if err := w.removeHostVeth(); err != nil {
		return nil, err
	}
	host, err := w.createPair(primary.Attrs().MTU)
	if err != nil {
		return nil, err
	}
	if err := w.setupHost(host, leases); err != nil {
		return nil, err
	}
	peer, err := w.movePeer()
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		if err := w.setupPod(peer, l); err != nil {
			return nil, fmt.Errorf("configure %s of the pod for %s: %w", w.ifName, l.addr, err)
		}
	}
	return peer.Attrs().HardwareAddr, nil
}

// removeHostVeth deletes the host end, with it the pod's end and the host's
// routes to it; it is fine if there is none.
func (w *wiring) removeHostVeth() error {
	link, err := w.host.LinkByName(w.hostVeth)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for veth %s: %w", w.hostVeth, err)
	}
	if err := w.host.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete veth %s: %w", w.hostVeth, err)
	}
	return nil
}

// createPair makes the pair in the host's namespace and sets the host end up.
func (w *wiring) createPair(mtu int) (netlink.Link, error) {
	mac, err := net.ParseMAC(hostMAC)
	if err != nil {
		return nil, fmt.Errorf("parse MAC address %s: %w", hostMAC, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = w.hostVeth, mtu, mac
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU = w.peerName(), uint32(mtu)
	if err := w.host.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("create veth %s: %w", w.hostVeth, err)
	}
	host, err := w.host.LinkByName(w.hostVeth)
	if err != nil {
		return nil, fmt.Errorf("find veth %s just made: %w", w.hostVeth, err)
	}
	// Before it is up, or the first settings would already have acted.
	if err := quietIPv6(w.hostVeth); err != nil {
		return nil, err
	}
	if err := w.host.LinkSetUp(host); err != nil {
		return nil, fmt.Errorf("set veth %s up: %w", w.hostVeth, err)
	}
	return host, nil
}

// peerName is the pod end's name until it is in the pod: it must not clash
// with an interface of the host.
func (w *wiring) peerName() string { return w.hostVeth + "2" }

// setupHost routes the pod's addresses to the pair.
func (w *wiring) setupHost(host netlink.Link, leases []lease) error {
	for _, l := range leases {
		if err := w.host.RouteAdd(hostRoute(host, l.addr)); err != nil {
			return fmt.Errorf("add route %s dev %s: %w", l.addr, w.hostVeth, err)
		}
		if l.addr.Is6() {
			if err := writeSysctl("net/ipv6/conf/all/forwarding", "1"); err != nil {
				return err
			}
		}
	}
	return writeSysctl("net/ipv4/conf/"+w.hostVeth+"/proxy_arp", "1")
}

// movePeer puts the pod's end into the pod under its final name, up.
func (w *wiring) movePeer() (netlink.Link, error) {
	peer, err := w.host.LinkByName(w.peerName())
	if err != nil {
		return nil, fmt.Errorf("find peer %s: %w", w.peerName(), err)
	}
	if err := w.host.LinkSetNsFd(peer, int(w.podNS)); err != nil {
		return nil, fmt.Errorf("move %s into the pod: %w", w.peerName(), err)
	}
	// Its index may have changed on the way.
	if peer, err = w.pod.LinkByName(w.peerName()); err != nil {
		return nil, fmt.Errorf("find %s in the pod: %w", w.peerName(), err)
	}
	if err := w.pod.LinkSetName(peer, w.ifName); err != nil {
		return nil, fmt.Errorf("rename %s to %s: %w", w.peerName(), w.ifName, err)
	}
	if err := inNamespace(w.podNS, func() error { return quietIPv6(w.ifName) }); err != nil {
		return nil, err
	}
	if err := w.pod.LinkSetUp(peer); err != nil {
		return nil, fmt.Errorf("set %s of the pod up: %w", w.ifName, err)
	}
	return peer, nil
}

// setupPod gives the pod's end one address and the way out for its family.
func (w *wiring) setupPod(peer netlink.Link, l lease) error {
	index, prefix := peer.Attrs().Index, l.from.prefix(l.addr)
	addr := &netlink.Addr{IPNet: ipNet(prefix)}
	gateway := netip.MustParseAddr(gateway4)
	if l.addr.Is6() {
		gateway = netip.MustParseAddr(gateway6)
		addr.Flags = unix.IFA_F_NODAD // the package comment says why
	}
	if err := w.pod.AddrAdd(peer, addr); err != nil {
		return fmt.Errorf("add address %s: %w", prefix, err)
	}
	// Neighbours of the subnet are not on this link: everything goes by the gateway.
	subnet := &netlink.Route{LinkIndex: index, Dst: ipNet(prefix.Masked()), Protocol: unix.RTPROT_KERNEL}
	if l.addr.Is4() {
		subnet.Scope = netlink.SCOPE_LINK
	}
	if err := w.pod.RouteDel(subnet); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove the kernel's route %s: %w", prefix.Masked(), err)
	}
	hop := netip.PrefixFrom(gateway, gateway.BitLen())
	for _, r := range []*netlink.Route{
		{LinkIndex: index, Dst: ipNet(hop), Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC},
		{LinkIndex: index, Dst: ipNet(defaultOf(gateway)), Gw: gateway.AsSlice(), Protocol: unix.RTPROT_STATIC},
	} {
		if err := w.pod.RouteAdd(r); err != nil {
			return fmt.Errorf("add route %s: %w", r, err)
		}
	}
	mac, err := net.ParseMAC(hostMAC)
	if err != nil {
		return fmt.Errorf("parse MAC address %s: %w", hostMAC, err)
	}
	neigh := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: gateway.AsSlice(), HardwareAddr: mac}
	if err := w.pod.NeighSet(neigh); err != nil {
		return fmt.Errorf("add neighbour %s: %w", gateway, err)
	}
	return nil
}

// verify reports the first piece of the pod's connection that is missing.
func (w *wiring) verify(addrs []netip.Addr) error {
	host, err := w.host.LinkByName(w.hostVeth)
	if err != nil {
		return fmt.Errorf("find veth %s: %w", w.hostVeth, err)
	}
	if _, err := w.pod.LinkByName(w.ifName); err != nil {
		return fmt.Errorf("find %s in the pod: %w", w.ifName, err)
	}
	for _, addr := range addrs {
		family := netlink.FAMILY_V4
		if addr.Is6() {
			family = netlink.FAMILY_V6
		}
		want := hostRoute(host, addr)
		routes, err := w.host.RouteListFiltered(family, want, netlink.RT_FILTER_DST|netlink.RT_FILTER_OIF)
		if err != nil {
			return fmt.Errorf("list routes to %s: %w", addr, err)
		}
		if len(routes) == 0 {
			return fmt.Errorf("no route to %s by %s", addr, w.hostVeth)
		}
	}
	return nil
}

// removeHostRoutes removes the routes to addrs by the named veth; it is fine
// if the veth or a route is gone.
func removeHostRoutes(hostVeth string, addrs []netip.Addr) error {
	link, err := netlink.LinkByName(hostVeth)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for veth %s: %w", hostVeth, err)
	}
	for _, addr := range addrs {
		err := netlink.RouteDel(hostRoute(link, addr))
		if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove route %s dev %s: %w", addr, hostVeth, err)
		}
	}
	return nil
}

func hostRoute(host netlink.Link, addr netip.Addr) *netlink.Route {
	return &netlink.Route{
		LinkIndex: host.Attrs().Index,
		Dst:       ipNet(netip.PrefixFrom(addr, addr.BitLen())),
		Protocol:  unix.RTPROT_STATIC,
	}
}

// quietIPv6 keeps the kernel from configuring or probing addresses on an
// interface by itself: no router advertisements (as Azure), no duplicate
// address detection (the package comment says why).
func quietIPv6(ifName string) error {
	for _, key := range []string{"accept_ra", "accept_dad"} {
		err := writeSysctl("net/ipv6/conf/"+ifName+"/"+key, "0")
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6 has no such file
			return err
		}
	}
	return nil
}

// writeSysctl sets a sysctl, named by its path, in the caller's namespace.
func writeSysctl(key, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", key, value, err)
	}
	return nil
}

// inNamespace runs fn with the calling thread in ns. If the way back fails,
// the thread stays locked, so that it ends with its goroutine.
func inNamespace(ns netns.NsHandle, fn func() error) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() { _ = own.Close() }()
	if err := netns.Set(ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the pod's network namespace: %w", err)
	}
	result := fn()
	if err := netns.Set(own); err != nil {
		return errors.Join(result, fmt.Errorf("leave the pod's network namespace: %w", err))
	}
	runtime.UnlockOSThread()
	return result
}

func isNotFound(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound)
}

// ipNet converts for the libraries that predate net/netip.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// defaultOf is the prefix of everything in addr's family.
func defaultOf(addr netip.Addr) netip.Prefix {
	if addr.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}
