package iptables

import (
	"errors"
	"fmt"
)

// updateRules writes what differs of a family's rules, and the generation if
// every connection has to be judged again, in one transaction a table.
func (a *applying) updateRules(f *family) {
	if !a.ready(f) || f.upToDate && !f.raise && !f.reset {
		return
	}
	generation, again, err := a.nextGeneration(f)
	if err != nil {
		f.failures++
		a.fail(f.family, err)
		return
	}
	ch := a.program.Family(f.family).changes(f.have, generation)
	if ch.empty() {
		f.failures, f.upToDate = 0, true
		return
	}
	if err := a.restore(f, ch); err != nil {
		f.failures++
		a.fail(f.family, fmt.Errorf("write the %s rules: %w", f.family, err))
		return
	}
	a.report.Raised = a.report.Raised || f.raise || f.reset
	f.failures, f.generation, f.upToDate = 0, generation, true
	f.raise, f.reset = false, false
	clear(f.left) // all connections are judged again
	if !again {
		return
	}
	if err := a.resetAgain(f); err != nil {
		f.reset = true
		f.failures++
		a.fail(f.family, err)
	}
}

// nextGeneration is the one to write. Before one is used for the first time, or
// again, no connection may have it: all marks are set to 0. That is so where
// none can be read back, and behind the last one.
func (a *applying) nextGeneration(f *family) (generation uint8, again bool, err error) {
	switch {
	case f.reset || f.raise && f.generation == a.cfg.generations():
	case f.raise:
		return f.generation + 1, false, nil
	default:
		return f.generation, false, nil
	}
	if err := a.resetMarks(f); err != nil {
		return 0, false, err
	}
	return a.cfg.unusedGeneration(f.have.Mangle), true, nil
}

// resetAgain is after the rules with a generation that is used again are there.
// Until then the old rules have given their own to what sent a packet, and an idle
// connection would keep it until it is the current one once more.
func (a *applying) resetAgain(f *family) error {
	if err := a.Dataplane.sleep(a.ctx, settle); err != nil {
		return err
	}
	return a.resetMarks(f)
}

func (a *applying) resetMarks(f *family) error {
	reset := FlowChange{Op: ResetMarks, Family: f.family, All: true, Mask: a.cfg.Mask}
	if _, err := a.kernel.Flows(a.ctx, reset); err != nil {
		return fmt.Errorf("reset the marks of the %s connections, so that a generation can be used again: %w", f.family, err)
	}
	return nil
}

// restore does a transaction. If it fails it may have been done all the same,
// for one table or for both.
func (a *applying) restore(f *family, ch changes) error {
	if a.locked != nil {
		return a.locked // it is one lock for all, and was waited for
	}
	a.report.Transactions++
	if err := a.kernel.Restore(a.ctx, f.family, ch.script()); err != nil {
		f.known = false
		if errors.Is(err, ErrLocked) {
			a.locked = err
		}
		return err
	}
	f.have = ch.applied(f.have)
	return nil
}
