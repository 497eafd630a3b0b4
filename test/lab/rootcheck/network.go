package rootcheck

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// networkReaders are the sections that belong to a network namespace. The
// sysctls of the root namespace include those of the whole machine.
func networkReaders() []reader {
	readers := []reader{
		ipReader("links", "-details", "link", "show"),
		ipReader("addresses", "address", "show"),
		ipReader("IPv4 routes", "-4", "-details", "route", "show", "table", "all"),
		ipReader("IPv6 routes", "-6", "-details", "route", "show", "table", "all"),
		ipReader("IPv4 rules", "-4", "rule", "show"),
		ipReader("IPv6 rules", "-6", "rule", "show"),
		ipReader("nexthops", "-details", "nexthop", "show"),
	}
	// Without an argument these read which tables exist and list only those.
	for _, name := range []string{"iptables-legacy-save", "ip6tables-legacy-save"} {
		readers = append(readers, reader{name, func(ctx context.Context) ([]string, error) {
			out, err := run(ctx, name)
			return firewallLines(out), err
		}})
	}
	return append(readers,
		reader{"nft ruleset", func(ctx context.Context) ([]string, error) {
			out, err := run(ctx, "nft", "--stateless", "--numeric", "list", "ruleset")
			return rulesetLines(out), err
		}},
		reader{"sysctls", func(context.Context) ([]string, error) { return fileLines("/proc/sys/net", volatileSysctl) }},
		reader{"conntrack module parameters", func(context.Context) ([]string, error) {
			return fileLines("/sys/module/nf_conntrack/parameters", never)
		}},
	)
}

// ipReader is the output of `ip -oneline ARGS`, one object a line.
func ipReader(name string, args ...string) reader {
	return reader{name, func(ctx context.Context) ([]string, error) {
		out, err := run(ctx, "ip", append([]string{"-oneline"}, args...)...)
		return objectLines(out), err
	}}
}

// run returns a program's output; its error says what the program complained.
func run(ctx context.Context, name string, args ...string) (string, error) {
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	// The words of all outputs are compared, so they may not follow a locale.
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run %s: %w: %s", cmd, err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// objectLines takes what runs down or up by itself out of the lines of ip: the
// lifetimes of addresses and routes from DHCP and router advertisements, and
// the timers of bridges.
func objectLines(out string) []string {
	lifetime := regexp.MustCompile(`\b(valid_lft|preferred_lft|expires) \d+sec`)
	timer := regexp.MustCompile(`\b(\w+_timer) +\d+\.\d+`)
	var lines []string
	for line := range strings.Lines(out) {
		line = strings.Join(strings.Fields(strings.ReplaceAll(line, `\`, " ")), " ")
		line = lifetime.ReplaceAllString(line, "$1 limited")
		line = timer.ReplaceAllString(line, "$1 -")
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// firewallLines makes the lines of iptables-save independent of their place:
// each gets its table, and a rule its number, since order matters there.
// Comments (dates) and counters are left out.
func firewallLines(out string) []string {
	counters := regexp.MustCompile(`^\[\d+:\d+\] | \[\d+:\d+\]$`)
	var lines []string
	var table string
	rules := map[string]int{}
	for line := range strings.Lines(out) {
		line = counters.ReplaceAllString(strings.TrimSpace(line), "")
		switch {
		case line == "" || line[0] == '#' || line == "COMMIT":
		case line[0] == '*':
			table = line[1:]
			lines = append(lines, table)
		case strings.HasPrefix(line, "-A "):
			chain := table + " " + strings.Fields(line)[1]
			rules[chain]++
			lines = append(lines, fmt.Sprintf("%s rule %04d: %s", table, rules[chain], line))
		default:
			lines = append(lines, table+" "+line)
		}
	}
	return lines
}

// rulesetLines numbers the lines of nft's ruleset within their table: order
// matters there, and a closing brace alone tells nothing.
func rulesetLines(out string) []string {
	expiry := regexp.MustCompile(`\bexpires \w+`)
	var lines []string
	var table string
	var number int
	for line := range strings.Lines(out) {
		line = expiry.ReplaceAllString(strings.TrimRight(line, " \n"), "expires limited")
		if strings.HasPrefix(line, "table ") {
			table, number = strings.TrimSuffix(line, " {"), 0
		}
		number++
		if line != "" {
			lines = append(lines, fmt.Sprintf("%s line %04d: %s", table, number, line))
		}
	}
	return lines
}
