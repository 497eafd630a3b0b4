package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/desired"
)

// Dataplane enforces a State by iptables and ipset. It is for one goroutine, but
// for Inspect.
//
// # What it keeps
//
// It knows what it has put into the kernel: the text of the rules, the members
// of the sets. An Apply writes the difference to that and reads nothing, but for
// the rules, when they are due. What failed half-way is not known, and is read
// before the next thing is done to it. New members and rules are programmed
// first; what has been judged by the old ones is owed a new verdict until it
// has been looked for (a sweep) or the generation was raised, however many
// Applies and failures are between. That debt is kept by family, because each
// has its own tables, generation and failures.
//
// # After a restart
//
// The first Apply adopts what it finds, as far as it is what is wanted, and
// raises the generation in any case. An earlier life may have ended between
// taking a member out of a set and looking for its connections; a note on disk
// would say so, and would have to be written before every change of a member.
// To judge every connection once more costs less than that: each walks the
// chains once at its next packet.
type Dataplane struct {
	cfg    Config
	bad    error // what is wrong with cfg
	kernel Kernel
	log    *logrus.Entry
	now    func() time.Time
	sleep  func(context.Context, time.Duration) error

	seen     *desired.State // the last one asked for
	program  *Program       // of Rules equal to those of seen
	families []*family
	sets     map[string]*heldSet // all that are ours; nil: not listed
	relist   bool                // another list of them is needed
	behind   map[desired.SetID]struct{}
	// lost are addresses that lost their owner since nothing was behind;
	// lostAll: any may have.
	lost    map[netip.Addr]struct{}
	lostAll bool
	verify  bool // read all back
	checked time.Time
	sweeps  sweeps
	// untidy: there may be chains and sets of ours that are not wanted.
	untidy bool
	// idleSets counts the tries in a row to destroy sets in vain.
	idleSets int
}

// family is what is known of one family's tables, and owed to its connections.
type family struct {
	family desired.Family
	known  bool // have is what the kernel holds, as far as we know
	have   Tables
	// generation of have; 0: not known, or unusable.
	generation uint8
	adopted    bool // a first look has been taken
	// upToDate: have is what the program says.
	upToDate bool
	// reset: before a generation is used, no connection may have any.
	reset bool
	// raise: every connection has to be judged again.
	raise bool
	// failures in a row to write the rules.
	failures int

	// left are addresses whose connections have to be judged again, since when.
	left      map[netip.Addr]struct{}
	leftSince time.Time
	// taken are addresses whose connections have to be forgotten: true, once more.
	taken map[netip.Addr]bool
	// idle are our chains that were not in use at the end of the last Apply;
	// idleFailures counts the failures in a row to delete some, and until
	// idleAfter it is not tried again.
	idle         map[Step]struct{}
	idleFailures int
	idleAfter    time.Time
}

// heldSet is a set in the kernel.
type heldSet struct {
	header  SetHeader
	content content // what it holds, if known
	known   bool
	verify  bool // what it holds is to be read, though it is known
}

var (
	_ dataplane.Dataplane = (*Dataplane)(nil)
	_ dataplane.Inspector = (*Dataplane)(nil)
)

// New is a dataplane that has not looked at the kernel yet. A bad configuration
// (Config.Validate) fails every Apply.
func New(cfg Config, k Kernel, log *logrus.Entry) *Dataplane {
	d := &Dataplane{bad: cfg.Validate(), kernel: k, log: log, now: time.Now, sleep: sleep}
	d.cfg = cfg.withDefaults()
	d.begin()
	return d
}

// begin forgets everything about the kernel.
func (d *Dataplane) begin() {
	d.seen, d.program, d.sets, d.families = nil, nil, nil, nil
	d.behind = map[desired.SetID]struct{}{}
	d.lost, d.lostAll = map[netip.Addr]struct{}{}, true
	d.verify, d.relist, d.checked, d.idleSets = false, false, time.Time{}, 0
	for _, f := range d.cfg.families() {
		d.families = append(d.families, &family{
			family: f,
			left:   map[netip.Addr]struct{}{},
			taken:  map[netip.Addr]bool{},
		})
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Forget makes the next Apply read back the rules and the members of all sets.
func (d *Dataplane) Forget() { d.verify = true }

// Remove deletes our hooks, chains, sets and marks, and nothing else, as far as
// it can: it ends with the errors of all that it could not do. What is tried
// again later finds less to do.
func (d *Dataplane) Remove(ctx context.Context) error {
	if d.bad != nil {
		return d.bad
	}
	d.begin()
	var errs []error
	for _, f := range d.cfg.families() {
		if err := d.removeRules(ctx, f); err != nil {
			errs = append(errs, err)
		}
	}
	if err := d.removeSets(ctx); err != nil {
		errs = append(errs, err)
	}
	for _, f := range d.cfg.families() {
		if _, err := d.kernel.Flows(ctx, FlowChange{Op: ResetMarks, Family: f, All: true, Mask: d.cfg.Mask}); err != nil {
			errs = append(errs, fmt.Errorf("reset the marks of the %s connections: %w", f, err))
		}
	}
	return errors.Join(errs...)
}

// removeRules takes the hooks out first: chains that a foreign rule leads to
// cannot be deleted, and must then not be in the way of packets.
func (d *Dataplane) removeRules(ctx context.Context, f desired.Family) error {
	have, err := d.kernel.Tables(ctx, f)
	if err != nil {
		return fmt.Errorf("read the %s rules: %w", f, err)
	}
	if unhook := unhooking(have); !unhook.empty() {
		if err := d.kernel.Restore(ctx, f, unhook.script()); err != nil {
			return fmt.Errorf("remove the hooks from the %s rules: %w", f, err)
		}
	}
	remove := removal(ourChainsIn(have.Raw), ourChainsIn(have.Mangle))
	if remove.empty() {
		return nil
	}
	if err := d.kernel.Restore(ctx, f, remove.script()); err != nil {
		return fmt.Errorf("remove the chains from the %s rules: %w", f, err)
	}
	return nil
}

// removeSets waits for sets that are still in use: nf_tables lets go of them
// some milliseconds after the rules are gone, on a busy machine seconds.
func (d *Dataplane) removeSets(ctx context.Context) error {
	const tries, wait = 100, 50 * time.Millisecond
	for try := 1; ; try++ {
		headers, err := d.kernel.Sets(ctx)
		if err != nil {
			return fmt.Errorf("list the sets: %w", err)
		}
		var errs []error
		used := false
		for _, h := range headers {
			if err := d.kernel.Change(ctx, []SetChange{{Op: DestroySet, Set: h}}); err != nil {
				used = used || errors.Is(err, ErrSetUsed)
				errs = append(errs, fmt.Errorf("destroy set %s: %w", h.Name, err))
			}
		}
		if !used || try == tries {
			return errors.Join(errs...)
		}
		if err := d.sleep(ctx, wait); err != nil {
			return err
		}
	}
}
