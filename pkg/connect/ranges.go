package connect

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Ranges are the addresses that a cluster's pods and nodes may claim in the
// other one, and where that was learnt. Empty: not known.
type Ranges struct {
	Pods, Nodes         []netip.Prefix
	PodsFrom, NodesFrom string
}

// Where ranges are from.
const (
	fromFlag   = "flag"
	fromConfig = "ConfigMap " + Namespace + "/" + configMapName
	fromNodes  = "the nodes' podCIDRs"
)

// ranges decides about a cluster's ranges: what the person says wins, then what
// its agents are configured with, which is what the cluster defends as its own.
// A node's podCIDRs are believed only if the pods are in them: where pods have
// addresses of the nodes' own subnet, as with Azure CNI, they mean nothing.
// Nothing is guessed from single addresses: a range too narrow would refuse the
// next pod or node, and one too wide would let it claim a neighbour's.
func ranges(f Facts, given Ranges) (Ranges, error) {
	pods, err := prefixes(fromConfig+" podCIDRs", f.Config.PodCIDRs)
	if err != nil {
		return Ranges{}, err
	}
	nodes, err := prefixes(fromConfig+" nodeCIDRs", f.Config.NodeCIDRs)
	if err != nil {
		return Ranges{}, err
	}
	r := Ranges{}
	switch {
	case len(given.Pods) > 0:
		r.Pods, r.PodsFrom = given.Pods, fromFlag
	case len(pods) > 0:
		r.Pods, r.PodsFrom = pods, fromConfig
	default:
		if found := nodePodCIDRs(f); len(found) > 0 {
			r.Pods, r.PodsFrom = found, fromNodes
		}
	}
	switch {
	case len(given.Nodes) > 0:
		r.Nodes, r.NodesFrom = given.Nodes, fromFlag
	case len(nodes) > 0:
		r.Nodes, r.NodesFrom = nodes, fromConfig
	}
	r.Pods, r.Nodes = canonical(r.Pods), canonical(r.Nodes)
	return r, nil
}

// nodePodCIDRs is the union of the nodes' podCIDRs, if every pod that was seen
// is in it, and at least one was.
func nodePodCIDRs(f Facts) []netip.Prefix {
	var all []netip.Prefix
	for _, n := range f.Nodes {
		all = append(all, n.PodCIDRs...)
	}
	for _, a := range f.PodAddresses {
		if !slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return nil
		}
	}
	if len(f.PodAddresses) == 0 {
		return nil
	}
	return join(all)
}

// join unites halves of the same range, again and again: two hundred nodes' /24
// are one or a few ranges then.
func join(ps []netip.Prefix) []netip.Prefix {
	ps = canonical(ps)
	for {
		joined := false
		for i := 0; i+1 < len(ps); i++ {
			a, b := ps[i], ps[i+1]
			if a.Bits() == 0 || a.Bits() != b.Bits() {
				continue
			}
			up := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
			if up.Contains(a.Addr()) && up.Contains(b.Addr()) {
				ps = slices.Replace(ps, i, i+2, up)
				joined = true
			}
		}
		if !joined {
			return ps
		}
		ps = canonical(ps)
	}
}

// canonical is sorted, without what another one contains.
func canonical(ps []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(ps)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var kept []netip.Prefix
	for _, p := range sorted {
		if !slices.ContainsFunc(kept, func(k netip.Prefix) bool { return contains(k, p) }) {
			kept = append(kept, p)
		}
	}
	return kept
}

func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// covered tells whether every address of p is in one of ps.
func covered(p netip.Prefix, ps []netip.Prefix) bool {
	if slices.ContainsFunc(ps, func(outer netip.Prefix) bool { return contains(outer, p) }) {
		return true
	}
	if !slices.ContainsFunc(ps, p.Overlaps) || p.IsSingleIP() {
		return false
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	high := netip.PrefixFrom(upperHalf(p), p.Bits()+1)
	return covered(low, ps) && covered(high, ps)
}

// upperHalf is the first address of the upper half of p.
func upperHalf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	b[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// overlap is a range of each that have addresses in common.
func overlap(as, bs []netip.Prefix) (a, b netip.Prefix, found bool) {
	for _, a := range as {
		for _, b := range bs {
			if a.Overlaps(b) {
				return a, b, true
			}
		}
	}
	return netip.Prefix{}, netip.Prefix{}, false
}

// prefixes reads ranges; where is named in errors.
func prefixes(where string, texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%s: %q: an address range such as 10.1.0.0/16 is expected", where, text)
		}
		if p != p.Masked() {
			return nil, fmt.Errorf("%s: %q has bits beyond its length: %s is expected", where, text, p.Masked())
		}
		all = append(all, p)
	}
	return all, nil
}

func texts(ps []netip.Prefix) []string {
	var all []string
	for _, p := range ps {
		all = append(all, p.String())
	}
	return all
}
