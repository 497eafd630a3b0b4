package dataplanetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
)

// longestChain is XT_EXTENSION_MAXNAMELEN without the ending zero.
const longestChain = 28

// family is the tables of iptables or of ip6tables.
type family struct {
	family desired.Family
	tables map[string]*table
}

func newFamily(f desired.Family) *family {
	builtin := map[string][]string{
		"raw":    {"PREROUTING", "OUTPUT"},
		"mangle": {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
		"nat":    {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
		"filter": {"INPUT", "FORWARD", "OUTPUT"},
	}
	fam := &family{family: f, tables: map[string]*table{}}
	for name, chains := range builtin {
		t := &table{name: name, family: f, builtin: chains, chains: map[string][]*rule{}}
		for _, c := range chains {
			t.chains[c] = nil
		}
		fam.tables[name] = t
	}
	return fam
}

// uses is a rule that names a set; empty if there is none.
func (f *family) uses(set string) string {
	for _, t := range f.tables {
		for _, chain := range slices.Sorted(maps.Keys(t.chains)) {
			for _, r := range t.chains[chain] {
				if slices.Contains(r.sets, set) {
					return fmt.Sprintf("%s -A %s %s", t.name, chain, r)
				}
			}
		}
	}
	return ""
}

// foreign is the rules of others that may interfere.
func (f *family) foreign() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(f.tables)) {
		t := f.tables[name]
		for _, chain := range slices.Sorted(maps.Keys(t.chains)) {
			if ours(chain) {
				continue
			}
			for _, r := range t.chains[chain] {
				if r.target.interferes() {
					lines = append(lines, fmt.Sprintf("%s -A %s %s", name, chain, r))
				}
			}
		}
	}
	return lines
}

// table has its chains by name. Rules are never changed, so that a copy of the
// lists is a copy of the table.
type table struct {
	name    string
	family  desired.Family
	builtin []string
	chains  map[string][]*rule
}

func (t *table) clone() *table {
	c := *t
	c.chains = make(map[string][]*rule, len(t.chains))
	for name, rules := range t.chains {
		c.chains[name] = slices.Clone(rules)
	}
	return &c
}

func ours(chain string) bool { return strings.HasPrefix(chain, ourChains) }

// read is the table as iptables.Kernel shows it.
func (t *table) read(hooks ...string) iptables.Table {
	out := iptables.Table{}
	for name, rules := range t.chains {
		if !ours(name) && !slices.Contains(hooks, name) {
			continue
		}
		out[name] = make([]string, 0, len(rules))
		for _, r := range rules {
			out[name] = append(out[name], r.String())
		}
	}
	return out
}

// save is the table as iptables-save prints it; of others only, if so wished.
func (t *table) save(foreign bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n", t.name)
	names := slices.Sorted(maps.Keys(t.chains))
	for _, name := range names {
		if !foreign || !ours(name) {
			fmt.Fprintf(&b, ":%s\n", name)
		}
	}
	for _, name := range names {
		for _, r := range t.chains[name] {
			if foreign && (ours(name) || ours(r.target.chain)) {
				continue
			}
			fmt.Fprintf(&b, "-A %s %s\n", name, r)
		}
	}
	return b.String()
}

// referenced is a rule that jumps to the chain; empty if none does.
func (t *table) referenced(chain string) string {
	for name, rules := range t.chains {
		for _, r := range rules {
			if r.target.chain == chain {
				return fmt.Sprintf("-A %s %s", name, r)
			}
		}
	}
	return ""
}

// check is what the kernel checks of a whole table: that there is no loop and
// no extension in a place where it does not work.
func (t *table) check() error {
	done := map[string]bool{}
	for _, name := range t.builtin {
		if err := t.checkFrom(name, name, nil, done); err != nil {
			return err
		}
		clear(done)
	}
	return nil
}

func (t *table) checkFrom(hook, chain string, path []string, done map[string]bool) error {
	if slices.Contains(path, chain) {
		return fmt.Errorf("table %s: too many levels of symbolic links: %s", t.name, strings.Join(append(path, chain), " → "))
	}
	if done[chain] {
		return nil
	}
	done[chain] = true
	for _, r := range t.chains[chain] {
		if err := r.fits(t.name, hook); err != nil {
			return fmt.Errorf("table %s, chain %s, rule %q: %w", t.name, chain, r, err)
		}
		if r.target.chain == "" {
			continue
		}
		if err := t.checkFrom(hook, r.target.chain, append(slices.Clip(path), chain), done); err != nil {
			return err
		}
	}
	return nil
}
