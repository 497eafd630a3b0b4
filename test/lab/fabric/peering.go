package fabric

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/topology"
)

// Impairment is what one direction of a peering does to packets. The zero value
// is a healthy peering.
type Impairment struct {
	// Cut drops everything, silently, as a removed peering does.
	Cut bool `json:"cut,omitempty"`
	// CutAPI drops what goes to the other cluster's control plane only.
	CutAPI bool `json:"cutAPI,omitempty"`
	// Delay is added to every packet.
	Delay time.Duration `json:"delay,omitempty"`
	// Loss is the share of packets that are lost, 0 to 1.
	Loss float64 `json:"loss,omitempty"`
	// Rate is a limit in bytes a second; 0 is none.
	Rate int64 `json:"rate,omitempty"`
}

// Validate says what is wrong with the impairment, if anything.
func (i Impairment) Validate() error {
	switch {
	case i.Delay < 0 || i.Delay > time.Minute:
		return fmt.Errorf("delay: 0 to 1m expected, got %s", i.Delay)
	case i.Loss < 0 || i.Loss > 1:
		return fmt.Errorf("loss: 0 to 1 expected, got %g", i.Loss)
	case i.Rate < 0:
		return fmt.Errorf("rate: bytes a second expected, got %d", i.Rate)
	}
	return nil
}

// shaped reports whether packets have to pass the queue.
func (i Impairment) shaped() bool { return i.Delay > 0 || i.Loss > 0 || i.Rate > 0 }

// direction is one way across a peering, by cluster names.
type direction struct{ from, to string }

// peer is one direction of a peering: how the router of one cluster reaches the
// VNet of another.
type peer struct {
	from, to topology.Cluster
	state    Impairment
}

// routerAddr is the router's own address on links to other routers: every link
// may bear the same, since each is point to point.
func routerAddr(c topology.Cluster) topology.Pair[netip.Addr] {
	return topology.Pair[netip.Addr]{
		V4: netip.AddrFrom4([4]byte{169, 254, 0, byte(c.Number)}),
		V6: linkLocal(byte(c.Number)),
	}
}

// outsideGateway is the outside's address on its links to routers.
func outsideGateway() topology.Pair[netip.Addr] {
	return topology.Pair[netip.Addr]{V4: netip.AddrFrom4([4]byte{169, 254, 0, 254}), V6: linkLocal(254)}
}

func linkLocal(n byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: n})
}

func (f *Fabric) buildPeering(a, b topology.Cluster) error {
	if err := f.veth(a.Router, "peer-"+b.Name, "", b.Router, "peer-"+a.Name); err != nil {
		return err
	}
	for _, p := range []*peer{{from: a, to: b}, {from: b, to: a}} {
		err := f.at(p.from.Router, func(h *netlink.Handle) error {
			self := routerAddr(p.from)
			return addAddrs(h, "peer-"+p.to.Name, []netip.Addr{self.V4, self.V6})
		})
		if err != nil {
			return err
		}
		if err := f.program(p); err != nil {
			return err
		}
		f.peers[direction{p.from.Name, p.to.Name}] = p
	}
	return nil
}

// Impair sets what the direction from → to of a peering does; the other
// direction stays as it is.
func (f *Fabric) Impair(from, to string, state Impairment) error {
	p, ok := f.peers[direction{from, to}]
	if !ok {
		return fmt.Errorf("no peering from %q to %q in this lab", from, to)
	}
	if err := state.Validate(); err != nil {
		return fmt.Errorf("peering %s–%s: %w", from, to, err)
	}
	changed := *p
	changed.state = state
	if err := f.program(&changed); err != nil {
		return fmt.Errorf("peering %s–%s: %w", from, to, err)
	}
	*p = changed
	return nil
}

// Impairment is what the direction from → to does now; ok is false if there is
// no such peering.
func (f *Fabric) Impairment(from, to string) (state Impairment, ok bool) {
	p, ok := f.peers[direction{from, to}]
	if !ok {
		return Impairment{}, false
	}
	return p.state, true
}

// program makes the routes of a direction say what its state says. A route is
// replaced in one step, so no packet takes a third way meanwhile.
func (f *Fabric) program(p *peer) error {
	dev, via := "peer-"+p.to.Name, routerAddr(p.to)
	if p.state.shaped() && !p.state.Cut {
		t, err := f.tun(p)
		if err != nil {
			return err
		}
		t.shape(p.state)
		dev, via = t.name, topology.Pair[netip.Addr]{}
	}
	return f.at(p.from.Router, func(h *netlink.Handle) error {
		link, err := h.LinkByName(dev)
		if err != nil {
			return fmt.Errorf("link %s: %w", dev, err)
		}
		for _, prefix := range topology.Prefixes(p.to.VNet) {
			r := peerRoute(prefix, link.Attrs().Index, via)
			if p.state.Cut {
				r = netlink.Route{Dst: ipNet(prefix), Type: unix.RTN_BLACKHOLE}
			}
			if err := route(h, r); err != nil {
				return err
			}
		}
		return cutAPI(h, p)
	})
}

func peerRoute(to netip.Prefix, link int, via topology.Pair[netip.Addr]) netlink.Route {
	r := netlink.Route{LinkIndex: link, Dst: ipNet(to)}
	gw := via.V4
	if to.Addr().Is6() {
		gw = via.V6
	}
	if gw.IsValid() {
		r.Gw, r.Flags = gw.AsSlice(), int(netlink.FLAG_ONLINK)
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	return r
}

// cutAPI adds or removes the more specific route that swallows what goes to the
// other control plane.
func cutAPI(h *netlink.Handle, p *peer) error {
	for _, a := range topology.Addrs(p.to.ControlPlane.Addresses) {
		r := netlink.Route{Dst: ipNet(netip.PrefixFrom(a, a.BitLen())), Type: unix.RTN_BLACKHOLE}
		if p.state.CutAPI {
			if err := route(h, r); err != nil {
				return err
			}
			continue
		}
		if err := h.RouteDel(&r); err != nil && !isAbsent(err) {
			return fmt.Errorf("remove route to %s: %w", a, err)
		}
	}
	return nil
}
