package kubelet

import (
	"fmt"

	"github.com/coreos/go-iptables/iptables"
)

// setUpFirewall makes the chains that the real kubelet makes in the packet
// filter of its node: the one by which others tell which iptables variant is in
// use, the canary, and the rule against packets to loopback addresses from
// elsewhere.
func setUpFirewall() error {
	for _, family := range []iptables.Protocol{iptables.ProtocolIPv4, iptables.ProtocolIPv6} {
		filter, err := iptables.New(iptables.IPFamily(family), iptables.Timeout(5))
		if err != nil {
			return fmt.Errorf("find iptables: %w", err)
		}
		chains := [][2]string{
			{"mangle", "KUBE-IPTABLES-HINT"},
			{"mangle", "KUBE-KUBELET-CANARY"},
			{"nat", "KUBE-KUBELET-CANARY"},
			{"filter", "KUBE-KUBELET-CANARY"},
		}
		if family == iptables.ProtocolIPv4 { // loopback routing exists there only
			chains = append(chains, [2]string{"filter", "KUBE-FIREWALL"})
		}
		for _, c := range chains {
			if err := ensureChain(filter, c[0], c[1]); err != nil {
				return err
			}
		}
		if family == iptables.ProtocolIPv4 {
			if err := dropMartians(filter); err != nil {
				return err
			}
		}
	}
	return nil
}

func ensureChain(filter *iptables.IPTables, table, chain string) error {
	exists, err := filter.ChainExists(table, chain)
	if err != nil {
		return fmt.Errorf("look for chain %s in %s: %w", chain, table, err)
	}
	if exists {
		return nil
	}
	if err := filter.NewChain(table, chain); err != nil {
		return fmt.Errorf("make chain %s in %s: %w", chain, table, err)
	}
	return nil
}

func dropMartians(filter *iptables.IPTables) error {
	for _, from := range []string{"OUTPUT", "INPUT"} {
		if err := filter.InsertUnique("filter", from, 1, "-j", "KUBE-FIREWALL"); err != nil {
			return fmt.Errorf("jump from %s to KUBE-FIREWALL: %w", from, err)
		}
	}
	err := filter.AppendUnique("filter", "KUBE-FIREWALL", "-m", "comment", "--comment", "block incoming localnet connections",
		"!", "-s", "127.0.0.0/8", "-d", "127.0.0.0/8", "-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED,DNAT", "-j", "DROP")
	if err != nil {
		return fmt.Errorf("fill KUBE-FIREWALL: %w", err)
	}
	return nil
}
