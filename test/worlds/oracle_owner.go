package worlds

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// endpoint is a pod or a node; the zero endpoint is none.
type endpoint struct {
	cluster *Cluster
	rank    int // of the cluster in the World
	pod     *corev1.Pod
	node    *corev1.Node
}

// owner is who has an address, as the agents of one cluster see it (1.5).
func (w World) owner(seenBy *Cluster, a netip.Addr) endpoint {
	var best endpoint
	for _, e := range w.claims(a) {
		if e.cluster.Name != seenBy.Name && w.refused(seenBy, e, a) {
			continue
		}
		if e.pod != nil && w.isNodeAddress(a) {
			continue
		}
		if best.cluster == nil || precedes(seenBy, e, best) {
			best = e
		}
	}
	return best
}

// claims are all endpoints with that address.
func (w World) claims(a netip.Addr) []endpoint {
	var all []endpoint
	for i := range w.Clusters {
		c := &w.Clusters[i]
		for _, n := range c.Nodes {
			if slices.Contains(NodeAddrs(n), a) {
				all = append(all, endpoint{cluster: c, rank: i, node: n})
			}
		}
		for _, p := range c.Pods {
			if Live(p) && slices.Contains(PodAddrs(p), a) {
				all = append(all, endpoint{cluster: c, rank: i, pod: p})
			}
		}
	}
	return all
}

func (w World) isNodeAddress(a netip.Addr) bool {
	for _, c := range w.Clusters {
		if nodeHas(&c, a) {
			return true
		}
	}
	return false
}

func nodeHas(c *Cluster, a netip.Addr) bool {
	return slices.ContainsFunc(c.Nodes, func(n *corev1.Node) bool { return slices.Contains(NodeAddrs(n), a) })
}

// refused: what is never taken from a remote cluster.
func (w World) refused(local *Cluster, e endpoint, a netip.Addr) bool {
	if a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() ||
		a == netip.AddrFrom4([4]byte{168, 63, 129, 16}) {
		return true
	}
	if nodeHas(local, a) || holds(local.PodCIDRs, a) || holds(local.NodeCIDRs, a) {
		return true
	}
	if !ranged(e.cluster) {
		return false
	}
	if e.pod != nil {
		return !holds(e.cluster.PodCIDRs, a)
	}
	return !holds(e.cluster.NodeCIDRs, a)
}

func ranged(c *Cluster) bool { return len(c.PodCIDRs) > 0 || len(c.NodeCIDRs) > 0 }

func holds(ranges []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// precedes is the order of claims. All clusters are in contact here.
func precedes(local *Cluster, a, b endpoint) bool {
	if aLocal, bLocal := a.cluster.Name == local.Name, b.cluster.Name == local.Name; aLocal != bLocal {
		return aLocal
	}
	if aRanged, bRanged := ranged(a.cluster), ranged(b.cluster); aRanged != bRanged {
		return aRanged
	}
	if aGoing, bGoing := terminating(a), terminating(b); aGoing != bGoing {
		return !aGoing
	}
	if a.rank != b.rank {
		return a.rank < b.rank // the older RemoteCluster object
	}
	return a.pod != nil && b.pod != nil && a.pod.CreationTimestamp.After(b.pod.CreationTimestamp.Time)
}

func terminating(e endpoint) bool { return e.pod != nil && e.pod.DeletionTimestamp != nil }
