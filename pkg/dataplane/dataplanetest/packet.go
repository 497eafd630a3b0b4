package dataplanetest

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// Packet is a packet as it comes to the node, routed already.
type Packet struct {
	// In is where it comes in. Out is where it will go out; empty: it is for the
	// node itself, and walks INPUT instead of FORWARD.
	In, Out          string
	Src, Dst         netip.Addr
	Protocol         model.Protocol
	SrcPort, DstPort uint16
	ICMPType         uint8
	HopLimit         uint8
	// Invalid packets belong to no connection and make none.
	Invalid bool
	// Error, if not nil, makes it an ICMP error about that packet.
	Error *Packet
}

// Reverse is the answer to a packet, from where that went to.
func (p Packet) Reverse() Packet {
	p.In, p.Out = p.Out, p.In
	p.Src, p.Dst = p.Dst, p.Src
	p.SrcPort, p.DstPort = p.DstPort, p.SrcPort
	return p
}

func (p Packet) tuple() tuple {
	return tuple{p.Protocol, netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort)}
}

// Fate is what became of a packet.
type Fate struct {
	Passed bool
	// Mark is that of the connection afterwards; 0 without one.
	Mark  uint32
	trail []hit
}

// hit is a rule that held for a packet.
type hit struct {
	table, chain string
	rule         *rule
}

// Trail is the rules that held, in order.
func (f Fate) Trail() []string {
	trail := make([]string, len(f.trail))
	for i, h := range f.trail {
		trail[i] = fmt.Sprintf("%s -A %s %s", h.table, h.chain, h.rule)
	}
	return trail
}

// String is the fate and the trail.
func (f Fate) String() string {
	verb := "dropped by"
	if f.Passed {
		verb = "passed:"
	}
	return verb + "\n  " + strings.Join(f.Trail(), "\n  ")
}

// walk is a packet on its way.
type walk struct {
	kernel    *Kernel
	packet    Packet
	conn      *Conn
	reply     bool
	state     string
	untracked bool
	mark      uint32
	trail     []hit
}

// Send has a packet walk through the node. It leaves its trace in the tracked
// connections.
func (k *Kernel) Send(p Packet) Fate {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.send(p, &k.tracker)
}

// Probe is Send without a trace.
func (k *Kernel) Probe(p Packet) Fate {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.send(p, &tracker{conns: k.tracker.conns, dnat: k.tracker.dnat, dry: true})
}

// ProbeNew is Probe as if no connection were tracked.
func (k *Kernel) ProbeNew(p Packet) Fate {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.send(p, &tracker{dnat: k.tracker.dnat})
}

// ProbeWith is Probe as if one connection were tracked and no other.
func (k *Kernel) ProbeWith(p Packet, c Conn) Fate {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := &tracker{dnat: k.tracker.dnat}
	t.add(&c)
	return k.send(p, t)
}

func (k *Kernel) send(p Packet, t *tracker) Fate {
	fam := k.families[desired.FamilyOf(p.Src)]
	w := &walk{kernel: k, packet: p}
	if !w.hook(fam.tables["raw"], "PREROUTING") {
		return w.fate(false)
	}
	isNew := t.find(w)
	hook := "FORWARD"
	if p.Out == "" {
		hook = "INPUT"
	}
	if !w.hook(fam.tables["mangle"], "PREROUTING") || !w.hook(fam.tables["mangle"], hook) {
		return w.fate(false)
	}
	if isNew {
		t.add(w.conn)
	}
	return w.fate(true)
}

func (w *walk) fate(passed bool) Fate {
	f := Fate{Passed: passed, trail: w.trail}
	if w.conn != nil {
		f.Mark = w.conn.Mark
	}
	return f
}

// frame is a place in a chain.
type frame struct {
	chain string
	at    int
}

// hook walks a built-in chain, and tells whether the packet passes.
func (w *walk) hook(t *table, chain string) bool {
	stack := []frame{{chain: chain}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		rules := t.chains[top.chain]
		if top.at >= len(rules) {
			stack = stack[:len(stack)-1]
			continue
		}
		r := rules[top.at]
		top.at++
		if !w.holds(r) {
			continue
		}
		w.trail = append(w.trail, hit{t.name, top.chain, r})
		if r.target.do != nil {
			r.target.do(w)
		}
		switch {
		case r.target.chain != "" && r.target.leave && len(stack) > 1:
			*top = frame{chain: r.target.chain}
		case r.target.chain != "" && r.target.leave:
			// From a built-in chain there is nothing to come back to: its policy.
			top.at = len(rules)
			stack = append(stack, frame{chain: r.target.chain})
		case r.target.chain != "":
			stack = append(stack, frame{chain: r.target.chain})
		case r.target.kind == "RETURN":
			stack = stack[:len(stack)-1]
		case r.target.kind == "ACCEPT":
			return true
		case r.target.kind == "DROP":
			return false
		}
	}
	return true
}

func (w *walk) holds(r *rule) bool {
	for _, m := range r.matches {
		if !m(w) {
			return false
		}
	}
	return true
}

// route is a route of the node.
type route struct {
	prefix netip.Prefix
	device string
}

// SetRoutes replaces the routes of the node; the longest prefix decides.
func (k *Kernel) SetRoutes(routes map[netip.Prefix]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.routes = k.routes[:0]
	for p, device := range routes {
		k.routes = append(k.routes, route{p.Masked(), device})
	}
}

// SetLocal replaces the node's own addresses.
func (k *Kernel) SetLocal(addrs ...netip.Addr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.local)
	for _, a := range addrs {
		k.local[a] = true
	}
}

// Route is the device by which an address is reached; empty if it is the node's
// own or there is no route.
func (k *Kernel) Route(a netip.Addr) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.route(a)
}

func (k *Kernel) route(a netip.Addr) string {
	if k.local[a] {
		return ""
	}
	best := route{}
	for _, r := range k.routes {
		if r.prefix.Contains(a) && (best.device == "" || r.prefix.Bits() > best.prefix.Bits()) {
			best = r
		}
	}
	return best.device
}

// routedBack is xt_rpfilter: the way back to the source is by the device that
// the packet came in by. The node's own addresses are not a way back; what has
// no source yet, or is for the link only, passes.
func (k *Kernel) routedBack(p *Packet, loose bool) bool {
	switch {
	case p.Src.Is6() && (p.Src.IsUnspecified() || p.Src.IsLinkLocalUnicast()):
		return true
	case p.Src.Is4() && p.Src.IsUnspecified():
		return p.Dst.IsMulticast() || p.Dst == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	case k.local[p.Src]:
		return false
	}
	device := k.route(p.Src)
	return device != "" && (loose || device == p.In)
}
