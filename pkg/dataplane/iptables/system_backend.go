package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
)

// traces are what the kubelet and kube-proxy leave in a backend's tables.
type traces struct {
	// Chains of the kubelet in mangle: the hint is made for this question, the
	// canary is there to notice flushes.
	hint, canary bool
	// A chain of kube-proxy in nat.
	services bool
}

func (t traces) weight() int {
	switch {
	case t.services && t.hint:
		return 4
	case t.services:
		return 3
	case t.hint:
		return 2
	case t.canary:
		return 1
	}
	return 0
}

func (t traces) String() string {
	var list []string
	for name, there := range map[string]bool{"KUBE-IPTABLES-HINT": t.hint, "KUBE-KUBELET-CANARY": t.canary, "KUBE-SERVICES": t.services} {
		if there {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// chooseBackend sets Info.Backend and Info.Why.
func (s *System) chooseBackend(ctx context.Context) error {
	if len(s.programs) == 0 {
		return errors.New("no programs of iptables are installed: iptables-nft-restore and -save, or iptables-legacy-restore and -save, are needed")
	}
	found := map[string]traces{}
	for _, backend := range slices.Sorted(maps.Keys(s.programs)) {
		t, err := s.traces(ctx, backend)
		if err != nil {
			// It may still be the one that nobody uses.
			s.info.Warnings = append(s.info.Warnings, fmt.Sprintf("backend %s cannot be looked into: %v", backend, err))
		}
		found[backend] = t
	}
	legacy, nft := found[BackendLegacy], found[BackendNFT]
	if legacy.weight() > 0 && nft.weight() > 0 {
		s.info.Warnings = append(s.info.Warnings, fmt.Sprintf("both backends of iptables have chains of Kubernetes (legacy: %s; nft: %s): "+
			"one of them is stale, or the kubelet and kube-proxy use different ones", legacy, nft))
	}
	if s.cfg.Backend != BackendAuto {
		return s.configuredBackend(legacy, nft)
	}
	switch {
	case legacy.weight() > nft.weight():
		return s.use(BackendLegacy, "it has the chains "+legacy.String())
	case nft.weight() > 0:
		return s.use(BackendNFT, "it has the chains "+nft.String())
	}
	return s.usableBackend(ctx)
}

func (s *System) use(backend, why string) error {
	if _, ok := s.programs[backend]; !ok {
		return fmt.Errorf("the programs of the iptables backend %s are not installed", backend)
	}
	s.info.Backend, s.info.Why = backend, why
	return nil
}

func (s *System) configuredBackend(legacy, nft traces) error {
	chosen, other, name := legacy, nft, BackendNFT
	if s.cfg.Backend == BackendNFT {
		chosen, other, name = nft, legacy, BackendLegacy
	}
	if chosen.weight() < other.weight() {
		s.info.Warnings = append(s.info.Warnings, fmt.Sprintf("the iptables backend %s is configured, but Kubernetes uses %s here: it has the chains %s",
			s.cfg.Backend, name, other))
	}
	return s.use(s.cfg.Backend, "it is configured")
}

// usableBackend is for a node on which Kubernetes has written no rules yet.
func (s *System) usableBackend(ctx context.Context) error {
	var errs []error
	for _, backend := range []string{BackendNFT, BackendLegacy} {
		if _, ok := s.programs[backend]; !ok {
			continue
		}
		err := s.restore(ctx, backend, desired.IPv4, probeScript(tableMangle))
		if err == nil {
			err = s.restore(ctx, backend, desired.IPv4, unprobeScript(tableMangle))
		}
		if err == nil {
			return s.use(backend, "neither the kubelet nor kube-proxy has chains, and it is usable")
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("no iptables backend is usable: %w", errors.Join(errs...))
}

// traces looks for Kubernetes in the tables of a backend.
func (s *System) traces(ctx context.Context, backend string) (traces, error) {
	var t traces
	for _, f := range []desired.Family{desired.IPv4, desired.IPv6} {
		if s.programs[backend].save(f) == "" || f == desired.IPv6 && !s.info.IPv6 {
			continue
		}
		for _, name := range []string{tableMangle, "nat"} {
			if !populated(backend, f, name) {
				continue
			}
			table, err := s.table(ctx, backend, f, name)
			if err != nil {
				return t, err
			}
			has := func(chain string) bool { _, ok := table[chain]; return ok }
			t.hint = t.hint || name == tableMangle && has("KUBE-IPTABLES-HINT")
			t.canary = t.canary || name == tableMangle && has("KUBE-KUBELET-CANARY")
			t.services = t.services || name == "nat" && has("KUBE-SERVICES")
		}
	}
	return t, nil
}

// hasIPv6 tells whether there are packets of IPv6 to judge, and if not, why not.
func hasIPv6(wanted bool) (ok bool, why string) {
	if !wanted {
		return false, "it is not configured"
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return false, "this node's kernel has no IPv6, or runs with ipv6.disable=1"
	}
	return true, ""
}
