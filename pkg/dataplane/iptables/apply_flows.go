package iptables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/overland-net/overland/pkg/dataplane/delta"
)

const (
	// sweepWithin is when the connections of an address that left a set must
	// have been judged again (semantics 2.11), less what scheduling may cost.
	sweepWithin = 900 * time.Millisecond
	// settle is how long a packet may be between its walk through the rules and
	// the end of it: those that were allowed by a member that is gone now have
	// given their connections the mark after that.
	settle = time.Millisecond
	// sweepShare is how many times as long as a sweep took there is none after
	// it: looking for connections takes a quarter of the time at most.
	sweepShare = 3
)

// sweeps is when the last sweep ended and how long it took.
type sweeps struct {
	end  time.Time
	took time.Duration
}

// sweep has the connections of addresses that left a set judged again: at once,
// or when the last sweep is long enough ago. If that were too late, or if it
// fails, the generation is raised instead. Only families that match are done.
func (a *applying) sweep(match func(*family) bool) {
	var due []*family
	for _, f := range a.families {
		if len(f.left) > delta.LeftLimit {
			f.raise = true
		}
		if len(f.left) > 0 && match(f) {
			due = append(due, f)
		}
	}
	if len(due) == 0 {
		return
	}
	now := a.now()
	earliest := a.sweeps.end.Add(sweepShare * a.sweeps.took)
	if wait := earliest.Sub(now); wait > 0 {
		for _, f := range due {
			if a.ready(f) && earliest.Add(a.sweeps.took).After(f.leftSince.Add(sweepWithin)) {
				f.raise = true
			} else {
				a.retry(wait)
			}
		}
		return
	}
	if err := a.Dataplane.sleep(a.ctx, settle); err != nil {
		a.errs = append(a.errs, err)
		return
	}
	start := a.now()
	for _, f := range due {
		a.sweepFamily(f)
	}
	a.sweeps.end = a.now()
	a.sweeps.took = a.sweeps.end.Sub(start)
	a.report.Sweep += a.sweeps.took
}

func (a *applying) sweepFamily(f *family) {
	n, err := a.kernel.Flows(a.ctx, FlowChange{Op: ResetMarks, Family: f.family, Addrs: sortedAddrs(f.left), Mask: a.cfg.Mask})
	a.report.Swept += n
	if err != nil {
		f.raise = true
		a.problem("%s: connections of addresses that lost a policy could not be looked for, so that all are judged again: %v",
			f.family, err)
		return
	}
	// Of what is still in a set that it left, this was in vain.
	maps.DeleteFunc(f.left, func(addr netip.Addr, _ struct{}) bool {
		_, stuck := a.stuck[addr]
		return !stuck && !a.stuckAll[f.family] && a.sets != nil
	})
}

// forgetFlows deletes the connections of addresses that came to a pod of this
// node, or went: at once, so that none has a verdict that was another pod's,
// however long rules cannot be written.
func (a *applying) forgetFlows(f *family) {
	var addrs []netip.Addr
	for addr, forgotten := range f.taken {
		if !forgotten {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 || !a.deleteFlows(f, addrs) {
		return
	}
	for _, addr := range addrs {
		f.taken[addr] = true
	}
}

// forgetAgain deletes them once nothing can bring them back by older rules.
func (a *applying) forgetAgain(f *family) {
	if len(f.taken) > 0 && a.ready(f) && a.deleteFlows(f, slices.Collect(maps.Keys(f.taken))) {
		clear(f.taken)
	}
}

func (a *applying) deleteFlows(f *family, addrs []netip.Addr) bool {
	slices.SortFunc(addrs, netip.Addr.Compare)
	n, err := a.kernel.Flows(a.ctx, FlowChange{Op: DeleteFlows, Family: f.family, Addrs: addrs})
	a.report.Released += n
	if err != nil {
		a.errs = append(a.errs, fmt.Errorf("forget the %s connections of addresses that changed hands: %w", f.family, err))
	}
	return err == nil
}

func sortedAddrs(set map[netip.Addr]struct{}) []netip.Addr {
	return slices.SortedFunc(maps.Keys(set), netip.Addr.Compare)
}

// backoff is when to try again what has failed so many times.
func backoff(failures int) time.Duration {
	const doublings = 6
	return retrySoon << min(failures-1, doublings)
}
