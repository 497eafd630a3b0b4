package iptables

import (
	"maps"
	"slices"
	"strings"
)

// changes is what makes the rules of one family from those that are there.
type changes struct {
	raw, mangle tableChanges
}

// tableChanges is of one table, in one transaction.
type tableChanges struct {
	table string
	// write are the chains that are new or differ, with all their rules.
	write map[string][]string
	// drop are hooks to delete and insert hooks to put at position 1: built-in
	// chain, then rule.
	drop, insert [][2]string
	// remove are the chains to delete.
	remove []string
}

func (c tableChanges) empty() bool {
	return len(c.write)+len(c.drop)+len(c.insert)+len(c.remove) == 0
}

func (c changes) empty() bool { return c.raw.empty() && c.mangle.empty() }

// lines is the chains of a table as text.
func (r *Ruleset) lines(all chains, generation uint8) Table {
	t := make(Table, len(all))
	for name, c := range all {
		if t[name] = c.lines; c.lines == nil {
			t[name] = linesOf(c.rules, r.cfg.mark(generation))
		}
	}
	return t
}

// changes is what has to be done to have, that the Ruleset with that generation
// is in force. Chains that are not wanted stay: they are not in use then, and
// are removed when no packet can be in them any more.
func (r *Ruleset) changes(have Tables, generation uint8) changes {
	return changes{
		raw:    r.tableChanges(tableRaw, have.Raw, r.raw, generation),
		mangle: r.tableChanges(tableMangle, have.Mangle, r.mangle, generation),
	}
}

func (r *Ruleset) tableChanges(table string, have Table, all chains, generation uint8) tableChanges {
	c := tableChanges{table: table, write: Table{}}
	for name, lines := range r.lines(all, generation) {
		if there, ok := have[name]; !ok || !slices.Equal(there, lines) {
			c.write[name] = lines
		}
	}
	wanted := map[string]string{}
	for _, h := range r.hooks {
		if h.table == table {
			wanted[h.builtin] = h.text()
		}
	}
	builtins := map[string]bool{}
	for name := range have {
		builtins[name] = !isOurs(name)
	}
	for name := range wanted {
		builtins[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(builtins)) {
		if builtins[name] {
			c.hook(name, have[name], wanted[name])
		}
	}
	return c
}

// hook brings a built-in chain in order: the wanted hook first, if there is one,
// and no other.
func (c *tableChanges) hook(builtin string, have []string, wanted string) {
	inPlace := wanted != "" && len(have) > 0 && have[0] == wanted
	for i, line := range have {
		if leadsToOurs(line) && (i > 0 || !inPlace) {
			c.drop = append(c.drop, [2]string{builtin, line})
		}
	}
	if wanted == "" {
		return
	}
	// A delete takes the first rule of that text, and that may be the one in
	// its place: then it has to be put there anew.
	spoilt := slices.ContainsFunc(c.drop, func(d [2]string) bool { return d == [2]string{builtin, wanted} })
	if !inPlace || spoilt {
		if inPlace {
			c.drop = append(c.drop, [2]string{builtin, wanted})
		}
		c.insert = append(c.insert, [2]string{builtin, wanted})
	}
}

// removal is the deletion of chains.
func removal(raw, mangle []string) changes {
	return changes{
		raw:    tableChanges{table: tableRaw, remove: raw},
		mangle: tableChanges{table: tableMangle, remove: mangle},
	}
}

// unhooking takes all ways to our chains out of the built-in ones.
func unhooking(have Tables) changes {
	none := &Ruleset{}
	return none.changes(have, 0)
}

// script is what iptables-restore --noflush is given: of a chain that is
// declared it deletes the rules first, and a table is changed at its COMMIT.
func (c changes) script() []byte {
	var b strings.Builder
	c.raw.script(&b)
	c.mangle.script(&b)
	return []byte(b.String())
}

func (c tableChanges) script(b *strings.Builder) {
	if c.empty() {
		return
	}
	line := func(parts ...string) {
		b.WriteString(strings.Join(parts, " "))
		b.WriteByte('\n')
	}
	line("*" + c.table)
	names := slices.Sorted(maps.Keys(c.write))
	for _, name := range names {
		line(":"+name, "-", "[0:0]")
	}
	for _, name := range names {
		for _, rule := range c.write[name] {
			line("-A", name, rule)
		}
	}
	for _, h := range c.drop {
		line("-D", h[0], h[1])
	}
	for _, h := range c.insert {
		line("-I", h[0], "1", h[1])
	}
	for _, name := range c.remove {
		line("-F", name)
	}
	for _, name := range c.remove {
		line("-X", name)
	}
	line("COMMIT")
}

// applied is have after the changes.
func (c changes) applied(have Tables) Tables {
	have.Raw, have.Mangle = c.raw.applied(have.Raw), c.mangle.applied(have.Mangle)
	return have
}

func (c tableChanges) applied(have Table) Table {
	if c.empty() {
		return have
	}
	now := maps.Clone(have)
	if now == nil {
		now = Table{}
	}
	maps.Copy(now, c.write)
	for _, h := range c.drop {
		if i := slices.Index(now[h[0]], h[1]); i >= 0 {
			now[h[0]] = slices.Delete(slices.Clone(now[h[0]]), i, i+1)
		}
	}
	for _, h := range c.insert {
		now[h[0]] = slices.Insert(slices.Clone(now[h[0]]), 0, h[1])
	}
	for _, name := range c.remove {
		delete(now, name)
	}
	return now
}

func isOurs(chain string) bool { return strings.HasPrefix(chain, OurChains) }

// target is the chain that a rule, as text, jumps or goes to; empty if none.
func target(line string) string {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 || !strings.HasSuffix(line[:i], "-j") && !strings.HasSuffix(line[:i], "-g") {
		return ""
	}
	return line[i+1:]
}

func leadsToOurs(line string) bool { return isOurs(target(line)) }

// unused are our chains in a table that are not in wanted and that no chain but
// such leads to, sorted.
func unused(have Table, wanted chains) []string {
	var names []string
	for name := range have {
		if _, ok := wanted[name]; isOurs(name) && !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for len(names) > 0 {
		used := map[string]bool{}
		for name, lines := range have {
			if _, gone := slices.BinarySearch(names, name); gone {
				continue
			}
			for _, line := range lines {
				if to := target(line); isOurs(to) {
					used[to] = true
				}
			}
		}
		n := len(names)
		names = slices.DeleteFunc(names, func(name string) bool { return used[name] })
		if len(names) == n {
			break
		}
	}
	return names
}

// namedSets adds the names of all sets that rules ask.
func (t Tables) namedSets(names map[string]bool) {
	for _, table := range []Table{t.Raw, t.Mangle} {
		for _, lines := range table {
			for _, line := range lines {
				if _, name, ok := strings.Cut(line, "--match-set "); ok {
					name, _, _ = strings.Cut(name, " ")
					names[name] = true
				}
			}
		}
	}
}
