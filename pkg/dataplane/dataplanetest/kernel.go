package dataplanetest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
)

const (
	ourChains = "OVL-" // how the names of a dataplane's chains begin

	defaultOneIn = 10
)

// Options are those of a Kernel. The zero value is good.
type Options struct {
	// Seed of the faults: equal seeds and equal operations, equal faults.
	Seed uint64
	// OneIn operations fails; 0 means 10, and less than 0 that none does.
	OneIn int
}

// Kernel is an iptables.Kernel in memory. What it refuses, a real kernel or the
// tools refuse; what it lets through, they let through. It may be used by many
// goroutines, as iptables.Kernel says.
type Kernel struct {
	mu       sync.Mutex
	rng      *rand.Rand
	families map[desired.Family]*family
	sets     map[string]*set
	tracker  tracker
	routes   []route
	local    map[netip.Addr]bool

	faults     faults
	watch      func(operation string)
	violations []string
	journal    []string
}

var _ iptables.Kernel = (*Kernel)(nil)

// NewKernel is a kernel with the built-in chains and nothing in them.
func NewKernel(o Options) *Kernel {
	if o.OneIn == 0 {
		o.OneIn = defaultOneIn
	}
	k := &Kernel{
		rng:      rand.New(rand.NewPCG(o.Seed, 0)),
		families: map[desired.Family]*family{},
		sets:     map[string]*set{},
		local:    map[netip.Addr]bool{},
		faults:   faults{oneIn: o.OneIn},
	}
	for _, f := range []desired.Family{desired.IPv4, desired.IPv6} {
		k.families[f] = newFamily(f)
	}
	return k
}

// Watch has f called after each change that packets could notice: each table's
// transaction, each set, each member. It may probe. Nil ends it.
func (k *Kernel) Watch(f func(operation string)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watch = f
}

// Violations are the things that were asked for and that a dataplane must never
// do: a touch on what is not its own.
func (k *Kernel) Violations() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.violations)
}

// Journal is the operations that were asked for since the last call, one a
// line, the failed ones too.
func (k *Kernel) Journal() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	j := k.journal
	k.journal = nil
	return j
}

// journalled is the upper bound of Journal, so that a long random walk which
// nobody reads stays small.
const journalled = 1000

func (k *Kernel) note(format string, a ...any) {
	if len(k.journal) >= journalled {
		k.journal = slices.Delete(k.journal, 0, journalled/2)
	}
	k.journal = append(k.journal, fmt.Sprintf(format, a...))
}

func (k *Kernel) violation(format string, a ...any) error {
	v := fmt.Sprintf(format, a...)
	k.violations = append(k.violations, v)
	return fmt.Errorf("forbidden: %s", v)
}

// noticed tells the watcher; the lock is not held.
func (k *Kernel) noticed(operation string) {
	k.mu.Lock()
	f := k.watch
	k.mu.Unlock()
	if f != nil {
		f(operation)
	}
}

// do is a change that is seen as one.
func (k *Kernel) do(operation string, f func() error) error {
	k.mu.Lock()
	err := f()
	k.mu.Unlock()
	if err == nil {
		k.noticed(operation)
	}
	return err
}

// Tables implements iptables.Kernel.
func (k *Kernel) Tables(ctx context.Context, f desired.Family) (iptables.Tables, error) {
	var t iptables.Tables
	err := k.operation(ctx, OpTables, fmt.Sprintf("tables of %d", f), func(int) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		fam := k.families[f]
		if fam == nil {
			return fmt.Errorf("no tables of family %d", f)
		}
		t = iptables.Tables{
			Mangle:  fam.tables["mangle"].read("FORWARD", "INPUT"),
			Raw:     fam.tables["raw"].read("PREROUTING"),
			Foreign: fam.foreign(),
		}
		return nil
	})
	return t, err
}

// Restore implements iptables.Kernel.
func (k *Kernel) Restore(ctx context.Context, f desired.Family, script []byte) error {
	return k.operation(ctx, OpRestore, fmt.Sprintf("restore of %d:\n%s", f, script), func(most int) error {
		return k.restore(f, string(script), most)
	})
}

// isOurs tells the names of a dataplane's sets: those of desired.SetID.
func isOurs(set string) bool {
	return strings.HasPrefix(set, "ovl4-") || strings.HasPrefix(set, "ovl6-")
}

// Sets implements iptables.Kernel.
func (k *Kernel) Sets(ctx context.Context) ([]iptables.SetHeader, error) {
	var headers []iptables.SetHeader
	err := k.operation(ctx, OpSets, "sets", func(int) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(k.sets)) {
			if isOurs(name) {
				headers = append(headers, k.sets[name].header(name))
			}
		}
		return nil
	})
	return headers, err
}

// Elements implements iptables.Kernel.
func (k *Kernel) Elements(ctx context.Context, name string) ([]iptables.Element, error) {
	var elements []iptables.Element
	err := k.operation(ctx, OpElements, "elements of "+name, func(int) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		s := k.sets[name]
		if s == nil {
			return fmt.Errorf("list %s: %w", name, iptables.ErrNoSet)
		}
		elements = s.list()
		return nil
	})
	return elements, err
}

// Change implements iptables.Kernel.
func (k *Kernel) Change(ctx context.Context, changes []iptables.SetChange) error {
	return k.operation(ctx, OpChange, describe(changes), func(most int) error {
		for _, c := range changes {
			if err := k.changeSet(c, &most); err != nil {
				return fmt.Errorf("set %s: %w", c.Set.Name, err)
			}
		}
		return nil
	})
}

// Flows implements iptables.Kernel.
func (k *Kernel) Flows(ctx context.Context, c iptables.FlowChange) (int, error) {
	n := 0
	err := k.operation(ctx, OpFlows, fmt.Sprintf("flows %+v", c), func(most int) error {
		return k.do("flows", func() error {
			if c.Op == iptables.DeleteFlows && c.All {
				return k.violation("all connections deleted")
			}
			var err error
			n, err = k.tracker.change(c, most)
			return err
		})
	})
	return n, err
}
