package index

import (
	"net/netip"

	"github.com/overland-net/overland/pkg/model"
)

// territory is what a cluster may claim: its fact, and the ranges in it made
// ready for looking up.
type territory struct {
	fact                  *model.Cluster // nil: not known
	podRanges, nodeRanges ranges
}

func (t *territory) local() bool { return t.fact != nil && t.fact.Local }

// azureService is the address of the platform's own service on each node
// (semantics 1.5).
var azureService = netip.MustParseAddr("168.63.129.16")

// refusal is why a claim of a known cluster does not hold whatever else is
// claimed; empty if it may hold.
func (t *territory) refusal(local ranges, kind model.Kind, a netip.Addr) model.RefusalReason {
	reason := t.reserved(a)
	switch {
	case reason != "" || t.fact.Local:
		return reason
	case local.contains(a):
		return model.RefusedLocalRange
	case t.outside(kind, a):
		return model.RefusedOutsideRanges
	}
	return ""
}

// reserved is why no endpoint of the cluster can have an address, whatever is
// known of any; empty if one can.
func (t *territory) reserved(a netip.Addr) model.RefusalReason {
	switch {
	case !a.IsValid() || a.Is4In6() || a.Zone() != "":
		return model.RefusedMalformed // facts have no such addresses
	case a.IsUnspecified():
		// Not from the local cluster either: no set of the kernel takes it, so that
		// who may write one pod's status could hold back everybody's policies.
		return model.RefusedReservedAddress
	case t.fact.Local:
		return ""
	case a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a == azureService:
		return model.RefusedReservedAddress
	}
	return ""
}

// outside tells whether an address is outside of the ranges declared for a kind
// or, if none are, of those for the other kind: a cluster that declares any range
// has no address elsewhere (semantics 1.6). An address of a family without ranges
// is outside (1.2).
func (t *territory) outside(kind model.Kind, a netip.Addr) bool {
	declared, in := len(t.fact.PodCIDRs), t.podRanges
	if kind == model.KindNode && len(t.fact.NodeCIDRs) > 0 || declared == 0 {
		declared, in = len(t.fact.NodeCIDRs), t.nodeRanges
	}
	return declared > 0 && !in.contains(a)
}

// Refuses tells whether an address is refused outright to a cluster (semantics
// 1.5), whichever pod, node or object of it names the address, and why: what no
// cluster may have and, to a linked one, what is the local cluster's, or outside
// of the ranges of both its pods and its nodes. Of a cluster that is not known
// nothing is in its ranges. That another endpoint has the address is Owner's
// matter.
func (v View) Refuses(cluster string, a netip.Addr) (model.RefusalReason, bool) {
	t := &v.cluster(cluster).territory
	if t.fact == nil {
		return model.RefusedOutsideRanges, true
	}
	reason := t.reserved(a)
	owner, _ := v.Owner(a)
	switch {
	case reason != "" || t.fact.Local:
	case owner != nil && owner.Key.Kind == model.KindNode && v.cluster(owner.Key.Cluster).local():
		reason = model.RefusedLocalNode
	case v.now().localRanges.contains(a):
		reason = model.RefusedLocalRange
	case t.outside(model.KindPod, a) && t.outside(model.KindNode, a):
		reason = model.RefusedOutsideRanges
	}
	return reason, reason != ""
}
