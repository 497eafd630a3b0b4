package iptables

import (
	"context"
	"fmt"
	"net"
	"slices"
)

// Mode is a way of networking on a node in which pods' packets may not cross
// the hooks where policy is enforced.
type Mode struct {
	// Name is short and stable: a label value.
	Name string
	// Refused: policy would not hold, or not for all packets. Else it may be so.
	Refused bool
	// Message says what was found and what to do.
	Message string
}

// modeOf is a network interface that gives a mode away.
type modeOf struct {
	link string
	Mode
}

func modes() []modeOf {
	return []modeOf{
		{"kube-ipvs0", Mode{
			"kube-proxy-ipvs", true,
			"kube-proxy runs in IPVS mode: what pods send to Services does not cross FORWARD and would not be judged; use mode iptables or nftables",
		}},
		{"azure0", Mode{
			"azure-cni-bridge", true,
			"Azure CNI runs in bridge mode: what pods of this node send to each other does not cross FORWARD and would not be judged; use transparent mode",
		}},
		{"cilium_host", Mode{
			"cilium", true,
			"Cilium forwards pods' packets with eBPF: they do not cross FORWARD and would not be judged; use an Azure CNI network without Cilium",
		}},
	}
}

// Modes looks for ways of networking in which policy is not enforced. That AKS
// keeps iptables from writing rules (eBPF host routing) shows in Open and in
// Restore: ErrBlocked.
func (s *System) Modes(ctx context.Context) ([]Mode, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	var found []Mode
	for _, m := range modes() {
		if slices.ContainsFunc(links, func(l net.Interface) bool { return l.Name == m.link }) {
			m.Message += " (found: interface " + m.link + ")"
			found = append(found, m.Mode)
		}
	}
	return found, nil
}
