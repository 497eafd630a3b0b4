package iptables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// read brings what is known of the kernel up to date, as far as it is in doubt
// or due.
func (a *applying) read() {
	all := true
	for _, f := range a.families {
		if f.known && !a.check {
			continue
		}
		t, err := a.kernel.Tables(a.ctx, f.family)
		if err != nil {
			all = false
			a.fail(f.family, fmt.Errorf("read the %s rules: %w", f.family, err))
			continue
		}
		a.adopt(f, t)
	}
	if all && a.check {
		a.checked = a.now()
	}
	if a.sets == nil || a.relist || a.verify {
		a.listSets()
	}
}

// adopt compares what was read with what was believed.
func (a *applying) adopt(f *family, t Tables) {
	believed, known := f.have, f.known
	f.have, f.known, f.upToDate = t, true, false
	a.untidy = true
	generation := a.cfg.generationOf(t.Mangle)
	switch {
	case !f.adopted:
		a.adoptFirst(f, generation)
	case known:
		a.drifted(f, believed)
		if generation != f.generation {
			f.reset = true
		}
	case generation == 0:
		f.reset = true
	default:
		// A transaction of ours has failed, or its answer was lost.
		f.generation = generation
	}
	f.adopted = true
}

// adoptFirst is the first look of this life: at nothing, or at what an earlier
// one has left.
func (a *applying) adoptFirst(f *family, generation uint8) {
	f.generation = generation
	if generation == 0 {
		f.reset = true
	} else {
		f.raise = true
	}
	if _, ok := f.have.Mangle[chainForward]; !ok {
		return
	}
	a.log.WithField("family", f.family.String()).WithField("generation", generation).
		Info("Going on with the rules of an earlier life of this agent")
	for _, h := range a.program.Family(f.family).hooks {
		if _, ok := f.have.table(h.table)[h.chain]; ok {
			a.hookPlace(f, h, f.have.table(h.table)[h.builtin])
		}
	}
}

// drifted tells how the rules differ from what we put there. A connection may
// have been judged by what others made of our chains.
func (a *applying) drifted(f *family, believed Tables) {
	name := f.family
	for _, table := range []string{tableRaw, tableMangle} {
		was, is := believed.table(table), f.have.table(table)
		for _, chain := range slices.Sorted(maps.Keys(was)) {
			lines, there := is[chain]
			switch {
			case !isOurs(chain) || there && slices.Equal(was[chain], lines):
				continue
			case !there:
				a.mended("%s %s: chain %s was gone", name, table, chain)
			default:
				a.mended("%s %s: chain %s was changed: %s", name, table, chain, difference(was[chain], lines))
			}
			f.raise = true
		}
	}
	for _, h := range a.program.Family(f.family).hooks {
		if slices.Contains(believed.table(h.table)[h.builtin], h.text()) {
			a.hookPlace(f, h, f.have.table(h.table)[h.builtin])
		}
	}
}

// hookPlace reports a hook that is not where it has to be. What passed while it
// was not there has no mark, and is judged at its next packet.
func (a *applying) hookPlace(f *family, h hook, have []string) {
	i := slices.Index(have, h.text())
	if i == 0 {
		return
	}
	where := fmt.Sprintf("%s %s: the hook in %s", f.family, h.table, h.builtin)
	if i < 0 {
		a.mended("%s was gone", where)
		a.problem("%s had been removed by another program", where)
		return
	}
	a.mended("%s was at position %d", where, i+1)
	a.problem("%s had been moved to position %d by another program", where, i+1)
}

// difference is in words what is has that was has not.
func difference(was, is []string) string {
	for i, line := range was {
		switch {
		case i >= len(is):
			return fmt.Sprintf("%d of %d rules were missing", len(was)-i, len(was))
		case line != is[i]:
			return fmt.Sprintf("rule %d was %q instead of %q", i+1, is[i], line)
		}
	}
	return fmt.Sprintf("%d rules too many, the first is %q", len(is)-len(was), is[len(was)])
}

func (t Tables) table(name string) Table {
	if name == tableRaw {
		return t.Raw
	}
	return t.Mangle
}

func ourChainsIn(t Table) []string {
	var names []string
	for name := range t {
		if isOurs(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// leave notes that an address left a set.
func (f *family) leave(addr netip.Addr, now time.Time) {
	if len(f.left) == 0 {
		f.leftSince = now
	}
	f.left[addr] = struct{}{}
}
