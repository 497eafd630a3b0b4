package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// saved is what iptables-save prints: tables by name.
type savedTables map[string]Table

// parseSave reads what iptables-save prints. Counters are left out. A table that
// the program cannot print, and what is not understood, is an error: who took it
// for empty would write all of it again.
func parseSave(text string) (savedTables, error) {
	tables := savedTables{}
	var table Table
	for rest := text; rest != ""; {
		var line string
		var err error
		if line, rest, err = cutRule(rest); err != nil {
			return nil, err
		}
		switch {
		case line == "" || line == "COMMIT":
		case strings.HasPrefix(line, "#"):
			if strings.Contains(line, "is incompatible") {
				return nil, fmt.Errorf("iptables cannot show all rules, because another program has written some with nft: %s", bounded(line))
			}
		case strings.HasPrefix(line, "*"):
			if table = tables[line[1:]]; table == nil {
				table = Table{}
				tables[line[1:]] = table
			}
		case table == nil:
			return nil, fmt.Errorf("iptables-save prints %q outside of a table", bounded(line))
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			if _, ok := table[name]; !ok {
				table[name] = nil
			}
		default:
			chain, rule, ok := cutChain(line)
			if !ok {
				return nil, fmt.Errorf("iptables-save prints %q, which is not understood", bounded(line))
			}
			table[chain] = append(table[chain], rule)
		}
	}
	return tables, nil
}

// cutRule takes the first line off; a comment in a rule may go over several, in
// quotes. A quote is one only at the beginning of a word: names of chains and
// interfaces, which are printed as they are, may have some too.
func cutRule(text string) (line, rest string, err error) {
	line, rest, _ = strings.Cut(text, "\n")
	_, rule, ok := cutChain(line)
	if !ok || !strings.Contains(rule, `"`) {
		return line, rest, nil
	}
	quoted := false
	for i := len(line) - len(rule); i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' && quoted:
			quoted = false
		case c == '"':
			quoted = text[i-1] == ' '
		case c == '\\' && quoted:
			i++
		case c == '\n' && !quoted:
			return text[:i], text[i+1:], nil
		}
	}
	if quoted {
		return "", "", fmt.Errorf("iptables-save prints a rule whose quotes do not end: %q", bounded(line))
	}
	return text, "", nil
}

// cutChain takes counters, "-A " and the name of the chain off a line.
func cutChain(line string) (chain, rule string, ok bool) {
	if strings.HasPrefix(line, "[") {
		_, after, found := strings.Cut(line, "] ")
		if !found {
			return "", "", false
		}
		line = after
	}
	line, ok = strings.CutPrefix(line, "-A ")
	if !ok {
		return "", "", false
	}
	chain, rule, _ = strings.Cut(line, " ")
	return chain, rule, chain != ""
}

// words are the words of a rule, without their quotes.
func words(rule string) []string {
	var list []string
	var word strings.Builder
	quoted, open := false, false
	for i := 0; i < len(rule); i++ {
		c := rule[i]
		switch {
		case c == '"' && (quoted || !open):
			quoted, open = !quoted, true
		case c == '\\' && quoted && i+1 < len(rule):
			i++
			word.WriteByte(rule[i])
		case c == ' ' && !quoted:
			if open {
				list = append(list, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if open {
		list = append(list, word.String())
	}
	return list
}

// after is the word that follows an option; empty if it is not there.
func after(list []string, option string) string {
	if i := slices.Index(list, option); i >= 0 && i+1 < len(list) {
		return list[i+1]
	}
	return ""
}

// interferes tells whether a rule of another program writes connection marks in
// the mask, or keeps connections from being tracked.
func interferes(rule string, mask uint32) bool {
	list := words(rule)
	switch target := after(list, "-j"); {
	case target == "NOTRACK" || target == "CT" && slices.Contains(list, "--notrack"):
		return !nodeLocal(after(list, "-s")) && !nodeLocal(after(list, "-d"))
	case target != "CONNMARK":
		return false
	}
	for _, option := range []string{"--set-xmark", "--set-mark"} {
		if v := after(list, option); v != "" {
			return written(v)&mask != 0
		}
	}
	if slices.Contains(list, "--save-mark") {
		return (number(after(list, "--ctmask"))|number(after(list, "--nfmask")))&mask != 0
	}
	return false
}

// written are the bits that VALUE/MASK writes.
func written(v string) uint32 {
	value, mask, found := strings.Cut(v, "/")
	if !found {
		return ^uint32(0)
	}
	return number(value) | number(mask)
}

// number reads a mask; what is not there or not understood is all bits.
func number(text string) uint32 {
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return ^uint32(0)
	}
	return uint32(n)
}

// nodeLocal tells ranges that no pod has: caches of DNS on the node use them, and
// are not tracked.
func nodeLocal(prefix string) bool {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		a, err := netip.ParseAddr(prefix)
		if err != nil {
			return false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	least := 10 // fe80::/10
	switch {
	case p.Addr().Is4() && p.Addr().IsLoopback():
		least = 8
	case p.Addr().Is4():
		least = 16
	case p.Addr().IsLoopback():
		least = 128
	}
	return (p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast()) && p.Bits() >= least
}
