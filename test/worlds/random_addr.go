package worlds

import (
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/pkg/model"
)

// strangers are addresses that are nobody's: of the outside, and of the ranges
// that clusters' pods have.
func strangers() []netip.Addr {
	return []netip.Addr{
		netip.AddrFrom4([4]byte{192, 0, 2, 1}), podAddr(0, 77, 4), podAddr(1, 77, 4),
		netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: 1}), podAddr(0, 77, 6), podAddr(1, 77, 6),
	}
}

// someAddr is an address of anything in the World, or of nobody; of one family,
// or, with 0, of any.
func (m maker) someAddr(w World, family byte) netip.Addr {
	for range 8 {
		var list []netip.Addr
		c, pod := m.somePod(w)
		switch m.IntN(6) {
		case 0:
			list = strangers()
		case 1:
			if len(c.Nodes) > 0 {
				list = NodeAddrs(pick(m, c.Nodes))
			}
		default:
			if pod != nil {
				list = PodAddrs(pod)
			}
		}
		if len(list) == 0 {
			continue
		}
		if a := pick(m, list); family == 0 || a.Is4() == (family == 4) {
			return a
		}
	}
	if family == 6 {
		return podAddr(0, 1, 6)
	}
	return podAddr(0, 1, 4)
}

// prefix writes a range that holds the address; if odd, now and then with bits
// beyond its length, as API servers before Kubernetes 1.36 accept it.
func (m maker) prefix(a netip.Addr, bits int) string {
	p := netip.PrefixFrom(a, bits)
	if !m.size.Odd || !m.oneIn(4) {
		p = p.Masked()
	}
	return p.Addr().String() + "/" + strconv.Itoa(bits)
}

// excepts are exceptions of a range that is everything.
func (m maker) exceptsOfAll(w World, family byte) []string {
	var list []string
	for range m.IntN(3) {
		a := m.someAddr(w, family)
		if family == 4 {
			list = append(list, m.prefix(a, pick(m, []int{1, 8, 16, 24, 30, 31, 32})))
		} else {
			list = append(list, m.prefix(a, pick(m, []int{1, 16, 48, 64, 126, 128})))
		}
	}
	return list
}

// exceptsOf are exceptions of a range that holds the address.
func (m maker) exceptsOf(a netip.Addr, bits int) []string {
	var list []string
	for range m.IntN(3) {
		longer := bits + pick(m, []int{1, 1, 2, 8, 16})
		if longer > a.BitLen() {
			continue
		}
		// The other half of the range now and then, so that it has something left.
		b := a.AsSlice()
		if m.oneIn(2) {
			b[bits/8] ^= 0x80 >> (bits % 8)
		}
		other, _ := netip.AddrFromSlice(b)
		list = append(list, m.prefix(other, longer))
	}
	return list
}

// ends are all that can be an end of a probe: pods that own an address in their
// own cluster, nodes, and others, among them addresses that a pod or a node has
// and that do not count.
func (w World) ends() (pods, nodes, others []End) {
	for i := range w.Clusters {
		c := &w.Clusters[i]
		for _, p := range c.Pods {
			for _, a := range PodAddrs(p) {
				switch owner := w.owner(c, a); {
				case owner.pod == p:
					pods = append(pods, End{Pod, c.Name, p.Namespace, p.Name, a})
				case owner.cluster == nil:
					others = append(others, End{Kind: Outside, Addr: a})
				}
			}
		}
		for _, n := range c.Nodes {
			for _, a := range NodeAddrs(n) {
				nodes = append(nodes, End{Node, c.Name, "", n.Name, a})
			}
			others = append(others, End{Kind: Outside, Addr: externalAddr(n.Name)})
		}
	}
	for _, a := range strangers() {
		others = append(others, End{Kind: Outside, Addr: a})
	}
	return pods, nodes, others
}

// externalAddr is a node's address that is not of type InternalIP.
func externalAddr(node string) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 51, 100, node[len(node)-1] - '0'})
}

// Flows makes probes of a World, all of them with a pod of one node at an end.
type Flows struct {
	m                   maker
	w                   World
	here                []End
	pods, nodes, others []End
}

// FlowsOf makes random probes from and to pods of a node; nothing else.
func FlowsOf(w World, seed uint64, cluster, node string) Flows {
	f := Flows{m: newMaker(seed, Size{}), w: w}
	f.pods, f.nodes, f.others = w.ends()
	c := w.Cluster(cluster)
	for _, e := range f.pods {
		if e.Cluster == cluster && c.Pod(e.Namespace, e.Name).Spec.NodeName == node {
			f.here = append(f.here, e)
		}
	}
	return f
}

// Next is a probe; false if there can be none.
func (f *Flows) Next() (Probe, bool) {
	if len(f.here) == 0 {
		return Probe{}, false
	}
	for range 16 {
		other := f.other()
		p := Probe{From: pick(f.m, f.here), To: other}
		if f.m.oneIn(2) {
			p.From, p.To = p.To, p.From
		}
		if p.From.Addr.Is4() != p.To.Addr.Is4() {
			continue
		}
		f.service(&p)
		return p, true
	}
	return Probe{}, false
}

func (f *Flows) other() End {
	switch n := f.m.IntN(20); {
	case n <= 2:
		return pick(f.m, f.others)
	case n <= 5:
		e := pick(f.m, f.nodes)
		if f.m.oneIn(8) {
			e = End{Kind: Outside, Addr: e.Addr} // it may lie
		}
		return e
	case n <= 8:
		return pick(f.m, f.here)
	}
	return pick(f.m, f.pods)
}

// service picks protocol and port: what the destination has a name for, what
// rules are about, or something else.
func (f *Flows) service(p *Probe) {
	p.Protocol, p.Port = model.TCP, pick(f.m, Ports())
	if p.To.Kind == Pod && f.m.oneIn(2) {
		var named []corev1.ContainerPort
		spec := &f.w.Cluster(p.To.Cluster).Pod(p.To.Namespace, p.To.Name).Spec
		for _, c := range spec.Containers {
			named = append(named, c.Ports...)
		}
		for _, c := range spec.InitContainers {
			named = append(named, c.Ports...)
		}
		if len(named) > 0 {
			port := pick(f.m, named)
			p.Port = uint16(port.ContainerPort)
			switch port.Protocol {
			case corev1.ProtocolUDP:
				p.Protocol = model.UDP
			case corev1.ProtocolSCTP:
				p.Protocol = model.SCTP
			}
			return
		}
	}
	switch f.m.IntN(12) {
	case 0, 1, 2:
		p.Protocol = model.UDP
	case 3:
		p.Protocol = model.SCTP
	case 4:
		// No protocol of Kubernetes: ICMP of the family, or GRE.
		p.Port, p.Protocol = 0, pick(f.m, []model.Protocol{1, 47})
		if p.Protocol == 1 && p.To.Addr.Is6() {
			p.Protocol = 58
		}
	case 5:
		p.Port = pick(f.m, []uint16{1, 79, 8079, 8081, 65535})
	}
}

func protocols() []model.Protocol { return []model.Protocol{model.TCP, model.UDP, model.SCTP} }
