package dataplanetest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
)

// restore is iptables-restore --noflush: line by line on a copy of the table,
// which becomes the table at COMMIT; a failure leaves the tables before it done.
func (k *Kernel) restore(f desired.Family, script string, most int) error {
	fam := k.families[f]
	if fam == nil {
		return fmt.Errorf("no tables of family %d", f)
	}
	if !strings.HasSuffix(script, "\n") {
		return errors.New("the last line has no end")
	}
	var t *table
	for i, line := range strings.Split(script, "\n") {
		line = strings.TrimRight(line, " ")
		switch {
		case line == "" || line[0] == '#':
		case line == "COMMIT":
			if t == nil {
				return fmt.Errorf("line %d: COMMIT without a table", i+1)
			}
			if err := k.commit(fam, t, most); err != nil {
				return fmt.Errorf("line %d: %w", i+1, err)
			}
			most--
			t = nil
		case line[0] == '*':
			if t != nil {
				return fmt.Errorf("line %d: table %s has no COMMIT", i+1, t.name)
			}
			k.mu.Lock()
			old := fam.tables[line[1:]]
			if old != nil {
				t = old.clone()
			}
			k.mu.Unlock()
			if t == nil {
				return fmt.Errorf("line %d: there is no table %q", i+1, line[1:])
			}
		case t == nil:
			return fmt.Errorf("line %d: %q outside of a table", i+1, line)
		default:
			if err := k.line(t, line); err != nil {
				return fmt.Errorf("line %d: %q: %w", i+1, line, err)
			}
		}
	}
	if t != nil {
		return fmt.Errorf("table %s has no COMMIT", t.name)
	}
	return nil
}

func (k *Kernel) commit(fam *family, t *table, most int) error {
	if most <= 0 {
		return errCutShort
	}
	return k.do("commit of "+t.name, func() error {
		if err := t.check(); err != nil {
			return err
		}
		// The kernel looks sets up again when the table is put in.
		for chain, rules := range t.chains {
			for _, r := range rules {
				for _, s := range r.sets {
					if k.sets[s] == nil {
						return fmt.Errorf("chain %s, rule %q: set %s doesn't exist", chain, r, s)
					}
				}
			}
		}
		fam.tables[t.name] = t
		return nil
	})
}

// line does one line on the copy of a table.
func (k *Kernel) line(t *table, line string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	words, err := split(line)
	if err != nil {
		return err
	}
	if declared, ok := strings.CutPrefix(words[0], ":"); ok {
		return k.declare(t, declared, words[1:])
	}
	if len(words) < 2 {
		return errors.New("a command without a chain")
	}
	command, chain, words := words[0], words[1], words[2:]
	if command == "-N" {
		return k.newChain(t, chain)
	}
	rules, ok := t.chains[chain]
	if !ok {
		return fmt.Errorf("no chain %s by that name", chain)
	}
	switch command {
	case "-A", "-I", "-R", "-D":
		return k.lineOfRule(t, command, chain, rules, words)
	case "-F":
		if !ours(chain) {
			return k.violation("table %s: chain %s flushed", t.name, chain)
		}
		t.chains[chain] = nil
		return nil
	case "-X":
		return k.deleteChain(t, chain, rules)
	}
	return fmt.Errorf("unknown command %s", command)
}

// declare is a line ":CHAIN POLICY [0:0]": a chain of the user is made or, if it
// is there, flushed, even with --noflush.
func (k *Kernel) declare(t *table, chain string, words []string) error {
	if len(words) == 0 {
		return errors.New("a chain without a policy")
	}
	for _, b := range t.builtin {
		if b != chain {
			continue
		}
		if words[0] != "-" {
			return k.violation("table %s: policy of %s set", t.name, chain)
		}
		return nil
	}
	if words[0] != "-" {
		return fmt.Errorf("bad policy %s of the user's chain %s", words[0], chain)
	}
	if _, ok := t.chains[chain]; !ok {
		return k.newChain(t, chain)
	}
	if !ours(chain) {
		return k.violation("table %s: chain %s flushed", t.name, chain)
	}
	t.chains[chain] = nil
	return nil
}

func (k *Kernel) newChain(t *table, chain string) error {
	if _, ok := t.chains[chain]; ok {
		return fmt.Errorf("chain %s already exists", chain)
	}
	if !ours(chain) {
		return k.violation("table %s: chain %s made", t.name, chain)
	}
	if len(chain) > longestChain {
		return fmt.Errorf("chain name %s has %d characters, at most %d are possible", chain, len(chain), longestChain)
	}
	t.chains[chain] = nil
	return nil
}

func (k *Kernel) deleteChain(t *table, chain string, rules []*rule) error {
	for _, b := range t.builtin {
		if b == chain {
			return fmt.Errorf("chain %s is built in", chain)
		}
	}
	if !ours(chain) {
		return k.violation("table %s: chain %s deleted", t.name, chain)
	}
	if len(rules) > 0 {
		return fmt.Errorf("chain %s: directory not empty: %s", chain, rules[0])
	}
	if by := t.referenced(chain); by != "" {
		return fmt.Errorf("chain %s: too many links: %s", chain, by)
	}
	delete(t.chains, chain)
	return nil
}

func (k *Kernel) lineOfRule(t *table, command, chain string, rules []*rule, words []string) error {
	at := len(rules)
	if command == "-I" {
		at = 0
	}
	numbered := false
	if len(words) > 0 && command != "-A" {
		if n, err := strconv.Atoi(words[0]); err == nil {
			at, numbered, words = n-1, true, words[1:]
		}
	}
	switch {
	case at < 0 || at > len(rules) || (command == "-R" || command == "-D" && numbered) && at == len(rules):
		return fmt.Errorf("index of %s too big", command)
	case command == "-R" && !numbered:
		return errors.New("-R without a rule number")
	case command == "-D" && numbered:
		return k.deleteRule(t, chain, at)
	}
	r, err := k.parse(t, words)
	if err != nil {
		return err
	}
	if !ours(chain) && !ours(r.target.chain) {
		return k.violation("table %s: chain %s: %s %s", t.name, chain, command, r)
	}
	switch command {
	case "-D":
		for i, old := range rules {
			if old.String() == r.String() {
				return k.deleteRule(t, chain, i)
			}
		}
		return errors.New("bad rule (does a matching rule exist in that chain?)")
	case "-R":
		if !ours(chain) && !ours(rules[at].target.chain) {
			return k.violation("table %s: chain %s: foreign rule %s replaced", t.name, chain, rules[at])
		}
		rules[at] = r
		return nil
	}
	t.chains[chain] = append(rules[:at:at], append([]*rule{r}, rules[at:]...)...)
	return nil
}

func (k *Kernel) deleteRule(t *table, chain string, at int) error {
	rules := t.chains[chain]
	if !ours(chain) && !ours(rules[at].target.chain) {
		return k.violation("table %s: chain %s: foreign rule %s deleted", t.name, chain, rules[at])
	}
	t.chains[chain] = append(rules[:at:at], rules[at+1:]...)
	return nil
}

// split cuts a line into words as iptables-restore does: double quotes, with a
// backslash before what is meant literally.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quoted, escaped, begun := false, false, false
	for _, c := range []byte(line) {
		switch {
		case escaped:
			word.WriteByte(c)
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted, begun = !quoted, true
		case !quoted && (c == ' ' || c == '\t'):
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if begun {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, errors.New("an empty line")
	}
	return words, nil
}
