package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/overland-net/overland/pkg/dataplane/ipset"
	"github.com/overland-net/overland/pkg/desired"
)

// Feature is something that the kernel is asked for, by name.
type Feature string

// The optional features: rules that need one of them are refused without it.
const (
	FeatureSCTP     Feature = "match sctp" // kernel module xt_sctp
	FeatureHopLimit Feature = "match hl"   // xt_hl: own-node egress policy of IPv6
)

// probeChain is a chain that nothing leads to. The name is ours, so that one that
// is left behind by a crash is removed like any other.
const probeChain = "OVL-PROBE"

// probeTimeout is what cleaning up after a probe may take if the caller has no
// more time.
const probeTimeout = 10 * time.Second

// trial is a rule that is tried to see whether the kernel takes it.
type trial struct {
	feature  Feature
	module   string
	table    string
	rule     string
	optional bool
}

// trials are the features of a family. The marks and names are of no meaning.
func trials(f desired.Family) []trial {
	icmp := "-p icmp"
	prefix := "ovl4-probe-"
	if f == desired.IPv6 {
		icmp, prefix = "-p ipv6-icmp", "ovl6-probe-"
	}
	list := []trial{
		{feature: "match connmark", module: "xt_connmark", rule: "-m connmark --mark 0x1000000/0xff000000 -j RETURN"},
		{feature: "target CONNMARK", module: "xt_connmark", rule: "-j CONNMARK --set-xmark 0x1000000/0xff000000"},
		{feature: "match conntrack by state and direction", module: "xt_conntrack", rule: "-m conntrack --ctstate ESTABLISHED --ctdir REPLY -j RETURN"},
		{feature: "match conntrack of ICMP", module: "xt_conntrack", rule: icmp + " -m conntrack --ctstate RELATED -j RETURN"},
		{feature: "match tcp and udp", module: "xt_tcpudp", rule: "-p tcp -m tcp --dport 1:2 -j RETURN"},
		{feature: "match set of addresses", module: "xt_set", rule: "-m set --match-set " + prefix + "ip src -j DROP"},
		{feature: "match set of networks", module: "xt_set", rule: "-m set ! --match-set " + prefix + "net dst -j RETURN"},
		{feature: "match set of addresses and ports", module: "xt_set", rule: "-p udp -m set --match-set " + prefix + "port dst,dst -j RETURN"},
		{feature: "match rpfilter", module: "xt_rpfilter", table: tableRaw, rule: "-m rpfilter --invert -j DROP"},
		{feature: FeatureSCTP, module: "xt_sctp", rule: "-p sctp -m sctp --dport 1:2 -j RETURN", optional: true},
	}
	if f == desired.IPv6 {
		list = append(list, trial{
			feature: FeatureHopLimit, module: "xt_hl", optional: true,
			rule: "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -j RETURN",
		})
	}
	for i := range list {
		if list[i].table == "" {
			list[i].table = tableMangle
		}
	}
	return list
}

func probeSets(f desired.Family) []ipset.Set {
	prefix := "ovl4-probe-"
	if f == desired.IPv6 {
		prefix = "ovl6-probe-"
	}
	return []ipset.Set{
		{Name: prefix + "ip", Type: ipset.HashIP, Family: f},
		{Name: prefix + "net", Type: ipset.HashNet, Family: f},
		{Name: prefix + "port", Type: ipset.HashIPPort, Family: f},
	}
}

// probeScript makes the probe's chain in a table, empty, and puts rules there.
func probeScript(table string, rules ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%s\n:%s - [0:0]\n", table, probeChain)
	for _, r := range rules {
		fmt.Fprintf(&b, "-A %s %s\n", probeChain, r)
	}
	b.WriteString("COMMIT\n")
	return b.Bytes()
}

// unprobeScript removes the chain, whatever is in it, also if it is not there.
func unprobeScript(table string) []byte {
	return fmt.Appendf(nil, "*%s\n:%s - [0:0]\n-X %s\nCOMMIT\n", table, probeChain, probeChain)
}

// probe tries all features of a family, in sets and chains that no packet meets.
func (s *System) probe(ctx context.Context, f desired.Family) (err error) {
	if s.programs[s.info.Backend].restore(f) == "" || s.programs[s.info.Backend].save(f) == "" {
		return fmt.Errorf("the programs of ip6tables of the backend %s are not installed", s.info.Backend)
	}
	defer func() { err = errors.Join(err, s.unprobe(ctx, f)) }()
	for _, table := range []string{tableMangle, tableRaw} {
		if err := s.Restore(ctx, f, probeScript(table)); err != nil {
			return fmt.Errorf("table %s of %s cannot be written: %w", table, familyText(f), err)
		}
	}
	for _, set := range probeSets(f) {
		err := s.write.HasType(ctx, set.Type, f)
		if err == nil {
			err = s.write.Create(ctx, set)
		}
		if err != nil {
			return s.missing(f, trial{feature: Feature("sets of type " + string(set.Type)), module: "ip_set_" + module(set.Type)}, err)
		}
	}
	all := trials(f)
	if s.Restore(ctx, f, trialScript(all)) == nil {
		return nil
	}
	for _, one := range all { // to find out which
		err := s.Restore(ctx, f, probeScript(one.table, one.rule))
		switch {
		case err == nil:
		case one.optional && !errors.Is(err, ErrLocked) && ctx.Err() == nil:
			s.info.Missing = append(s.info.Missing, one.feature)
			s.info.Warnings = append(s.info.Warnings, s.missing(f, one, err).Error())
		default:
			return s.missing(f, one, err)
		}
	}
	return nil
}

func trialScript(all []trial) []byte {
	rules := map[string][]string{}
	for _, one := range all {
		rules[one.table] = append(rules[one.table], one.rule)
	}
	return append(probeScript(tableRaw, rules[tableRaw]...), probeScript(tableMangle, rules[tableMangle]...)...)
}

func module(t ipset.Type) string {
	switch t {
	case ipset.HashIP:
		return "hash_ip"
	case ipset.HashIPPort:
		return "hash_ipport"
	case ipset.HashNet:
		return "hash_net"
	}
	return "core"
}

// missing is the error for a feature that is refused.
func (s *System) missing(f desired.Family, one trial, err error) error {
	if errors.Is(err, ErrLocked) || errors.Is(err, ErrBlocked) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("this node's kernel refuses %q of %s with the iptables backend %s: load the kernel module %s, "+
		"or use a node image that has it: %w", one.feature, familyText(f), s.info.Backend, one.module, err)
}

func familyText(f desired.Family) string {
	if f == desired.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// unprobe removes what probe has made, even if the caller's time is over.
func (s *System) unprobe(ctx context.Context, f desired.Family) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	var errs []error
	for _, table := range []string{tableMangle, tableRaw} {
		errs = append(errs, s.Restore(ctx, f, unprobeScript(table)))
	}
	for _, set := range probeSets(f) {
		errs = append(errs, s.write.Destroy(ctx, set.Name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up after the trial of features: %w", err)
	}
	return nil
}
