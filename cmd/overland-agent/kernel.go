package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// podInterfaces begins the names of pod interfaces. Azure CNI knows no other.
const podInterfaces = "azv"

// iptablesKernel is the iptables dataplane on this node's kernel.
type iptablesKernel struct {
	*successor
	dataplane.Inspector
	system *iptables.System
}

// openIptables opens the iptables dataplane as the configuration says.
func openIptables(cfg Config, log *logrus.Entry) func(context.Context) (kernel, error) {
	return func(ctx context.Context) (kernel, error) {
		mask, err := parseMask(cfg.ConnmarkMask)
		if err != nil {
			return nil, err
		}
		system, err := iptables.Open(ctx, iptables.SystemConfig{Backend: cfg.IptablesBackend, IPv6: true, Mask: mask}, log)
		if err != nil {
			return nil, err
		}
		info := system.Info()
		log.WithFields(logrus.Fields{
			"backend": info.Backend, "why": info.Why, "version": info.Version, "ipv6": info.IPv6, "missing": info.Missing,
		}).Info("the kernel has what the iptables dataplane needs")
		d := iptables.New(iptablesConfig(mask, info), system, log)
		return iptablesKernel{&successor{Dataplane: d, elsewhere: system.RemoveElsewhere, log: log}, d, system}, nil
	}
}

// iptablesConfig is for a kernel as it was found: a rule that asks for what is
// missing would fail the transaction of all the others.
func iptablesConfig(mask uint32, info iptables.Info) iptables.Config {
	return iptables.Config{Mask: mask, Prefix: podInterfaces, IPv6: info.IPv6, Missing: info.Missing}
}

// Holds implements kernel.
func (k iptablesKernel) Holds(ctx context.Context) (bool, error) {
	tables, err := k.system.Tables(ctx, desired.IPv4)
	if err != nil {
		return false, fmt.Errorf("look for rules of an agent before this one: %w", err)
	}
	for chain := range tables.Mangle {
		if strings.HasPrefix(chain, "OVL-") {
			return true, nil
		}
	}
	return false, nil
}

// Problems implements kernel.
func (k iptablesKernel) Problems(ctx context.Context) (found []model.Problem, refused error) {
	add := func(message string) {
		found = append(found, model.Problem{Kind: model.ProblemDataplane, Message: message})
	}
	for _, warning := range k.system.Info().Warnings {
		add(warning)
	}
	modes, err := k.system.Modes(ctx)
	if err != nil {
		add(fmt.Sprintf("it is not known whether the node's networking goes past the policies: %v", err))
	}
	for _, m := range modes {
		if m.Refused {
			refused = errors.Join(refused, fmt.Errorf("%s: %s", m.Name, m.Message))
		} else {
			add(m.Name + ": " + m.Message)
		}
	}
	return found, refused
}

// Backend implements kernel.
func (k iptablesKernel) Backend() string { return k.system.Info().Backend }

// Close implements kernel.
func (k iptablesKernel) Close() error { return k.system.Close() }
