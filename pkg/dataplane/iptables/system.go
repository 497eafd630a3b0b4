package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/dataplane/conntrack"
	"github.com/overland-net/overland/pkg/dataplane/ipset"
	"github.com/overland-net/overland/pkg/desired"
)

// The backends of SystemConfig and Info.
const (
	BackendAuto   = "auto"   // the one that the kubelet and kube-proxy use
	BackendLegacy = "legacy" // x_tables
	BackendNFT    = "nft"    // nf_tables, by the compatibility layer
)

const defaultLockTimeout = 10 * time.Second

// ErrBlocked is wrapped by errors of programs that the node keeps from writing
// rules, although they are root's.
var ErrBlocked = errors.New("the node blocks iptables: with eBPF host routing, AKS refuses the rules of all but its own programs; " +
	"this dataplane cannot be used there: switch eBPF host routing off for the node pool")

// SystemConfig is what Open has to know.
type SystemConfig struct {
	// Backend is one of the above; empty: auto.
	Backend string
	// IPv6 asks for the rules of IPv6 too. A node without IPv6 does without.
	IPv6 bool
	// LockTimeout is how long to wait for the xtables lock, in whole seconds,
	// rounded up; 0: 10 s.
	LockTimeout time.Duration
	// Mask are the bits of connection marks that are ours: rules of others that
	// write them are reported. 0: 0xff000000.
	Mask uint32
}

// System is the Kernel of this node. It is safe for concurrent use; what changes
// something waits for what does alike.
type System struct {
	cfg      SystemConfig
	log      *logrus.Entry
	info     Info
	programs map[string]programs // by backend; those that are installed
	write    *ipset.Conn
	read     *ipset.Conn // so that a long listing for people holds nothing up
	ct       *conntrack.Conn

	mu      sync.Mutex
	foreign map[desired.Family]foreignScan
}

// Info is what Open has found.
type Info struct {
	// Backend is BackendLegacy or BackendNFT; Why says what has decided.
	Backend, Why string
	// Version is what the restore program says of itself.
	Version string
	// IPv6: rules of IPv6 are written; if not, NoIPv6 says why.
	IPv6   bool
	NoIPv6 string
	// Missing are the optional features that this kernel does not have.
	Missing []Feature
	// Warnings are what is not as it should be, in words.
	Warnings []string
}

// Open finds the programs, chooses the backend and tries all features: an error
// names what is missing and what to do. It leaves no rule and no set behind.
func Open(ctx context.Context, cfg SystemConfig, log *logrus.Entry) (*System, error) {
	if cfg.Backend == "" {
		cfg.Backend = BackendAuto
	}
	if cfg.LockTimeout <= 0 {
		cfg.LockTimeout = defaultLockTimeout
	}
	if cfg.Mask == 0 {
		cfg.Mask = DefaultMask
	}
	if !slices.Contains([]string{BackendAuto, BackendLegacy, BackendNFT}, cfg.Backend) {
		return nil, fmt.Errorf("iptables backend %q: expected %s, %s or %s", cfg.Backend, BackendAuto, BackendLegacy, BackendNFT)
	}
	s := &System{cfg: cfg, log: log, programs: installed(), foreign: map[desired.Family]foreignScan{}}
	s.info.IPv6, s.info.NoIPv6 = hasIPv6(cfg.IPv6)
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	for _, w := range s.info.Warnings {
		log.Warn(w)
	}
	log.WithFields(logrus.Fields{"backend": s.info.Backend, "version": s.info.Version, "ipv6": s.info.IPv6}).
		Infof("iptables is usable: %s", s.info.Why)
	return s, nil
}

func (s *System) open(ctx context.Context) error {
	if err := s.chooseBackend(ctx); err != nil {
		return err
	}
	version, err := s.run(ctx, s.programs[s.info.Backend].restore(desired.IPv4), nil, "--version")
	if err != nil {
		return err
	}
	s.info.Version = strings.TrimSpace(string(version))
	if s.write, err = ipset.Dial(ctx); err != nil {
		return fmt.Errorf("sets of addresses (kernel module ip_set) cannot be used: %w", err)
	}
	if s.read, err = ipset.Dial(ctx); err != nil {
		return err
	}
	if s.ct, err = conntrack.Dial(); err != nil {
		return err
	}
	if err := s.ct.Available(ctx); err != nil {
		return fmt.Errorf("tracked connections (kernel module nf_conntrack_netlink) cannot be used: %w", err)
	}
	for _, f := range s.families() {
		if err := s.probe(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (s *System) families() []desired.Family {
	if s.info.IPv6 {
		return []desired.Family{desired.IPv4, desired.IPv6}
	}
	return []desired.Family{desired.IPv4}
}

// Info is what Open has found.
func (s *System) Info() Info { return s.info }

// Close closes what System holds open. The kernel keeps all that was written.
func (s *System) Close() error {
	var errs []error
	for _, c := range []*ipset.Conn{s.write, s.read} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if s.ct != nil {
		errs = append(errs, s.ct.Close())
	}
	return errors.Join(errs...)
}
