package iptables

import (
	"fmt"

	"github.com/overland-net/overland/pkg/desired"
)

// cleanUp removes what is not in use: chains that were idle at the last Apply
// already, so that no packet is in them, then sets that no chain names. Failures
// are Problems and no more: what is wanted is in force.
func (a *applying) cleanUp() {
	a.untidy = false
	for _, f := range a.families {
		if a.ready(f) {
			a.cleanChains(f)
		} else {
			a.untidy = true
		}
	}
	a.cleanSets()
}

func (a *applying) cleanChains(f *family) {
	wanted := a.program.Family(f.family)
	raw, mangle := unused(f.have.Raw, wanted.raw), unused(f.have.Mangle, wanted.mangle)
	if len(raw)+len(mangle) == 0 {
		f.idle, f.idleFailures = nil, 0
		return
	}
	a.untidy = true
	idle := map[Step]struct{}{}
	ripe := func(table string, names []string) (remove []string) {
		for _, name := range names {
			s := Step{table, name}
			if _, ok := f.idle[s]; ok {
				remove = append(remove, name)
			}
			idle[s] = struct{}{}
		}
		return remove
	}
	ch := removal(ripe(tableRaw, raw), ripe(tableMangle, mangle))
	f.idle = idle
	if ch.empty() {
		a.retry(retrySoon)
		return
	}
	if wait := f.idleAfter.Sub(a.now()); wait > 0 {
		a.retry(wait)
		return
	}
	if err := a.restore(f, ch); err != nil {
		// A foreign rule may lead to one of them.
		f.idleFailures++
		f.idleAfter = a.now().Add(backoff(f.idleFailures))
		a.problem("%s: chains that are not in use any more cannot be removed: %v", f.family, err)
		a.retry(backoff(f.idleFailures))
		return
	}
	f.idleFailures = 0
	for _, t := range []tableChanges{ch.raw, ch.mangle} {
		for _, name := range t.remove {
			delete(f.idle, Step{t.table, name})
		}
	}
	if len(f.idle) > 0 {
		a.retry(retrySoon)
	}
}

// cleanSets destroys sets that are neither wanted nor named by a rule.
func (a *applying) cleanSets() {
	var idle []SetHeader
	for name, held := range a.sets {
		if _, wanted := a.want.Rules.Spec(desired.SetID(name)); !wanted {
			idle = append(idle, held.header)
		}
	}
	idle = a.unnamed(idle)
	if len(idle) == 0 {
		a.idleSets = 0
		return
	}
	var last error
	for _, h := range idle {
		err := a.kernel.Change(a.ctx, []SetChange{{Op: DestroySet, Set: h}})
		if err != nil {
			last = fmt.Errorf("destroy set %s: %w", h.Name, err)
			a.sets[h.Name].known = false
			continue
		}
		delete(a.sets, h.Name)
		a.report.SetsRemoved++
	}
	if last == nil {
		a.idleSets = 0
		return
	}
	// On nf_tables a set is in use for some milliseconds after the last rule
	// that named it is gone.
	const patience = 5
	if a.idleSets++; a.idleSets > patience {
		a.problem("sets that are not in use any more cannot be removed: %v", last)
	}
	a.untidy = true
	a.retry(backoff(a.idleSets))
}

// unnamed are those sets that no rule asks, as far as is known.
func (a *applying) unnamed(sets []SetHeader) []SetHeader {
	if len(sets) == 0 {
		return nil
	}
	named := map[string]bool{}
	unknown := map[desired.Family]bool{}
	for _, f := range a.families {
		f.have.namedSets(named)
		unknown[f.family] = !f.known
	}
	var free []SetHeader
	for _, h := range sets {
		if named[h.Name] || unknown[h.Family] {
			a.untidy = true
			continue
		}
		free = append(free, h)
	}
	return free
}
