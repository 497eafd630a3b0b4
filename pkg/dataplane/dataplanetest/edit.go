package dataplanetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
)

// Edit does what another program or a person does: commands of iptables-restore
// on one table, without "*TABLE" and COMMIT, on foreign chains and on ours, with
// no fault.
func (k *Kernel) Edit(f desired.Family, table string, commands ...string) error {
	k.mu.Lock()
	t := k.families[f].tables[table].clone()
	violations := len(k.violations)
	k.mu.Unlock()
	for _, c := range commands {
		if err := k.editLine(t, c); err != nil {
			return fmt.Errorf("%q: %w", c, err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.violations = k.violations[:violations]
	if err := t.check(); err != nil {
		return err
	}
	k.families[f].tables[table] = t
	return nil
}

// editLine does a line with the chains of others taken for ours.
func (k *Kernel) editLine(t *table, line string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	words, err := split(line)
	if err != nil || len(words) < 2 {
		return fmt.Errorf("a command with a chain is expected: %w", err)
	}
	command, chain := words[0], words[1]
	rules := t.chains[chain]
	switch command {
	case "-N":
		t.chains[chain] = nil
	case "-F":
		t.chains[chain] = nil
	case "-X":
		delete(t.chains, chain)
	case "-A", "-I":
		r, err := k.parse(t, words[2:])
		if err != nil {
			return err
		}
		if command == "-A" {
			t.chains[chain] = append(slices.Clone(rules), r)
		} else {
			t.chains[chain] = append([]*rule{r}, rules...)
		}
	case "-D":
		text := strings.Join(words[2:], " ")
		at := slices.IndexFunc(rules, func(r *rule) bool { return r.String() == text })
		if at < 0 {
			return fmt.Errorf("there is no such rule among %v", rules)
		}
		t.chains[chain] = slices.Delete(slices.Clone(rules), at, at+1)
	default:
		return fmt.Errorf("unknown command %s", command)
	}
	return nil
}

// EditSet does what another program does to sets, foreign ones and ours.
func (k *Kernel) EditSet(c iptables.SetChange) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch c.Op {
	case iptables.CreateSet:
		return k.createSet(c.Set)
	case iptables.DestroySet:
		return k.destroySet(c.Set.Name)
	}
	s := k.sets[c.Set.Name]
	if s == nil {
		return iptables.ErrNoSet
	}
	for e := range c.Elements {
		key, err := s.key(e)
		if err != nil {
			return err
		}
		if c.Op == iptables.AddElements {
			s.elements[key] = e.NoMatch
		} else {
			delete(s.elements, key)
		}
	}
	return nil
}

// Foreign is all that is not ours, in words: what has to stay as it is.
func (k *Kernel) Foreign() string { return k.dump(true) }

// Dump is all tables and sets in words.
func (k *Kernel) Dump() string { return k.dump(false) }

func (k *Kernel) dump(foreign bool) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var b strings.Builder
	for _, f := range []desired.Family{desired.IPv4, desired.IPv6} {
		fmt.Fprintf(&b, "# IPv%d\n", map[desired.Family]int{desired.IPv4: 4, desired.IPv6: 6}[f])
		for _, name := range slices.Sorted(maps.Keys(k.families[f].tables)) {
			b.WriteString(k.families[f].tables[name].save(foreign))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.sets)) {
		if foreign && isOurs(name) {
			continue
		}
		s := k.sets[name]
		fmt.Fprintf(&b, "create %s %s family %d\n", name, s.kind, s.family)
		for _, e := range s.list() {
			fmt.Fprintf(&b, "add %s %v\n", name, e)
		}
	}
	return b.String()
}

// Ours tells what of a dataplane's is there: its chains, hooks and sets.
func (k *Kernel) Ours() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []string
	for f, fam := range k.families {
		for _, t := range fam.tables {
			for chain, rules := range t.chains {
				if ours(chain) {
					list = append(list, fmt.Sprintf("family %d table %s chain %s", f, t.name, chain))
					continue
				}
				for _, r := range rules {
					if ours(r.target.chain) {
						list = append(list, fmt.Sprintf("family %d table %s hook -A %s %s", f, t.name, chain, r))
					}
				}
			}
		}
	}
	for name := range k.sets {
		if isOurs(name) {
			list = append(list, "set "+name)
		}
	}
	slices.Sort(list)
	return list
}
