package connect

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// invalidName says what is wrong with a cluster's name (semantics 1.1).
func invalidName(name string) string {
	switch name {
	case "":
		return "it says no name"
	case "local", "any":
		return "that name is reserved"
	}
	if why := validation.IsDNS1123Label(name); len(why) > 0 {
		return why[0]
	}
	return ""
}

// checkRanges compares addresses (semantics 1.5 and 5.3): what both clusters
// have cannot be told apart.
func checkRanges(a, b Side) []Result {
	var all []Result
	for _, pair := range [][2]Side{{a, b}, {b, a}} {
		learner, other := pair[0], pair[1]
		if learner.Learns && len(other.Ranges.Pods) == 0 {
			all = append(all, Result{
				CheckRanges, Warning, fmt.Sprintf("the ranges of the pods of %s are not known: %s takes any address from it that is not its own (condition AddressesTrusted)", other.Name, learner.Name),
				"Set podCIDRs in " + fromConfig + " there, or give --pod-cidrs-a or --pod-cidrs-b",
			})
		}
		if learner.Learns && len(other.Ranges.Pods) > 0 && len(other.Ranges.Nodes) == 0 {
			all = append(all, Result{
				CheckRanges, Warning, fmt.Sprintf("the ranges of the nodes of %s are not known", other.Name),
				"Set nodeCIDRs in " + fromConfig + " there, or give --node-cidrs-a or --node-cidrs-b",
			})
		}
	}
	clash := false
	for _, c := range []struct {
		x, y         []netip.Prefix
		xWhat, yWhat string
	}{
		{a.Ranges.Pods, b.Ranges.Pods, "pods of " + a.Name, "pods of " + b.Name},
		{a.Ranges.Pods, nodeRanges(b), "pods of " + a.Name, "nodes of " + b.Name},
		{nodeRanges(a), b.Ranges.Pods, "nodes of " + a.Name, "pods of " + b.Name},
		{nodeRanges(a), nodeRanges(b), "nodes of " + a.Name, "nodes of " + b.Name},
	} {
		if x, y, found := overlap(c.x, c.y); found {
			clash = true
			all = append(all, Result{
				CheckRanges, Failed, fmt.Sprintf("the %s (%s) and the %s (%s) have addresses in common", c.xWhat, x, c.yWhat, y),
				"Clusters that are linked need addresses of their own; if a range is declared too wide, narrow it",
			})
		}
	}
	if !clash && len(a.Ranges.Pods) > 0 && len(b.Ranges.Pods) > 0 {
		all = append(all, Result{Check: CheckRanges, Message: fmt.Sprintf("the addresses of %s and %s do not overlap", a.Name, b.Name)})
	}
	return append(append(all, serviceOverlaps(a, b)...), linkOverlaps(a, b)...)
}

// nodeRanges is what a cluster's nodes may have, or else what they have.
func nodeRanges(s Side) []netip.Prefix {
	if len(s.Ranges.Nodes) > 0 {
		return s.Ranges.Nodes
	}
	var all []netip.Prefix
	for _, n := range s.Nodes {
		for _, a := range n.Addresses {
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return all
}

// serviceOverlaps: kube-proxy translates a connection to an address that is also
// a Service's, so that the remote pod of that address cannot be reached.
func serviceOverlaps(a, b Side) []Result {
	var all []Result
	for _, pair := range [][2]Side{{a, b}, {b, a}} {
		local, other := pair[0], pair[1]
		if !local.Learns {
			continue
		}
		if local.ServiceCIDRs == nil {
			all = append(all, Result{CheckRanges, NotChecked, fmt.Sprintf("whether addresses of %s are of the Service ranges of %s: its API server does not show them", other.Name, local.Name), ""})
			continue
		}
		if x, y, found := overlap(slices.Concat(other.Ranges.Pods, nodeRanges(other)), local.ServiceCIDRs); found {
			all = append(all, Result{
				CheckRanges, Warning, fmt.Sprintf("%s of %s overlaps the Service range %s of %s: an address that is a Service there cannot be reached as a pod", x, other.Name, y, local.Name), "",
			})
		}
	}
	return all
}

// linkOverlaps compares with the clusters that are linked already.
func linkOverlaps(a, b Side) []Result {
	var all []Result
	for _, pair := range [][2]Side{{a, b}, {b, a}} {
		local, other := pair[0], pair[1]
		if !local.Learns {
			continue
		}
		for _, l := range local.Links {
			if l.Name == other.Name {
				continue
			}
			if x, y, found := overlap(slices.Concat(other.Ranges.Pods, other.Ranges.Nodes), slices.Concat(l.PodCIDRs, l.NodeCIDRs)); found {
				all = append(all, Result{
					CheckRanges, Warning, fmt.Sprintf("%s of %s overlaps %s of %s, which is linked to %s already: an address that both claim is the older link's", x, other.Name, y, l.Name, local.Name), "",
				})
			}
		}
	}
	return all
}

// checkMasquerade looks whether the pods of each cluster arrive at the other one
// with their own addresses. Otherwise they arrive as nodes, and no policy of the
// other cluster can know them.
func checkMasquerade(a, b Side) []Result {
	var all []Result
	for _, pair := range [][2]Side{{a, b}, {b, a}} {
		if from, to := pair[0], pair[1]; to.Learns { // only then are there policies that know them
			all = append(all, masquerade(from, to))
		}
	}
	return all
}

func masquerade(from, to Side) Result {
	m := from.Masquerade
	way := fmt.Sprintf("pods of %s towards %s", from.Name, to.Name)
	switch {
	case m.NotRead != "":
		return Result{CheckMasquerade, NotChecked, way + ": " + m.NotRead, ""}
	case !m.Present:
		return Result{Check: CheckMasquerade, Message: way + ": there is no azure-ip-masq-agent; other address translation is not checked"}
	case len(m.Malformed) > 0:
		return Result{CheckMasquerade, Warning, way + ": " + strings.Join(m.Malformed, "; "), "Correct it: the masquerading agent may refuse all of its configuration"}
	case len(to.Ranges.Pods) == 0:
		return Result{CheckMasquerade, NotChecked, fmt.Sprintf("%s: the ranges of the pods of %s are not known", way, to.Name), ""}
	}
	var hidden []string
	for _, p := range to.Ranges.Pods {
		if !covered(p, m.Except) {
			hidden = append(hidden, p.String())
		}
	}
	if len(hidden) > 0 {
		return Result{
			CheckMasquerade, Failed, fmt.Sprintf("%s leave with their node's address: azure-ip-masq-agent does not except %s", way, strings.Join(hidden, ", ")),
			fmt.Sprintf("Add %s to nonMasqueradeCIDRs in ConfigMap kube-system/%s of %s", strings.Join(hidden, ", "), masqueradeConfig, from.Name),
		}
	}
	return Result{Check: CheckMasquerade, Message: way + " keep their addresses"}
}

// unsupportedMode is a way of networking that AKS tells by a label of its nodes.
type unsupportedMode struct {
	label, value string
	// unroutable: its pods cannot be reached from, or known in, another
	// cluster. The others only cannot be protected by an agent of their own.
	unroutable bool
	what       string
}

func unsupportedModes() []unsupportedMode {
	return []unsupportedMode{
		{"kubernetes.azure.com/podnetwork-type", "overlay", true, "an overlay network: its pods leave the cluster with their node's address, and cannot be reached from outside"},
		{"kubernetes.azure.com/ebpf-host-routing", "true", false, "eBPF host routing: the traffic of its pods does not pass where the agent works"},
		{"kubernetes.azure.com/ebpf-dataplane", "cilium", false, "Azure CNI Powered by Cilium, which has a policy engine of its own beside which the agent cannot work"},
	}
}

func checkNetworkModes(a, b Side) []Result {
	var all []Result
	for _, s := range []Side{a, b} {
		found := networkModes(s)
		if len(found) == 0 {
			found = []Result{{Check: CheckNetworkMode, Message: s.Name + ": no node is in a mode known not to work"}}
		}
		all = append(all, found...)
	}
	return all
}

func networkModes(s Side) []Result {
	var all []Result
	for _, mode := range unsupportedModes() {
		var nodes []string
		for _, n := range s.Nodes {
			if strings.EqualFold(n.Labels[mode.label], mode.value) {
				nodes = append(nodes, n.Name)
			}
		}
		if len(nodes) == 0 || !mode.unroutable && !s.Learns {
			continue
		}
		slices.Sort(nodes)
		all = append(all, Result{
			CheckNetworkMode, Failed, fmt.Sprintf("%s: %d of %d nodes (%s…) have %s", s.Name, len(nodes), len(s.Nodes), nodes[0], mode.what),
			"Use node pools with Azure CNI in a VNet subnet",
		})
	}
	return all
}
