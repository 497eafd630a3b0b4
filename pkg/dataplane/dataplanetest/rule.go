package dataplanetest

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
)

// rule is one rule of a chain. It never changes.
type rule struct {
	text    string
	matches []match // all of them have to hold
	target  target
	sets    []string
	hooks   []string // if not empty: it works in chains of these hooks only
	tables  []string // the same for tables
	limited bool     // a rate limit decides whether it holds
}

// match is one condition of a rule.
type match func(w *walk) bool

// String is the rule as iptables-save prints it, without "-A CHAIN ".
func (r *rule) String() string { return r.text }

// fits tells why the rule cannot be in a table or below a hook.
func (r *rule) fits(table, hook string) error {
	if len(r.tables) > 0 && !contains(r.tables, table) {
		return fmt.Errorf("invalid argument: works in %v only", r.tables)
	}
	if len(r.hooks) > 0 && !contains(r.hooks, hook) {
		return fmt.Errorf("invalid argument: works in %v only, reached from %s", r.hooks, hook)
	}
	if r.limited && r.target.decides() {
		return errors.New("a rate limit may not decide about packets")
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// parser reads the words of one rule.
type parser struct {
	kernel *Kernel
	table  *table
	words  []string

	rule     rule
	head     [5]string // -s, -d, -i, -o, -p as they are printed, in that order
	modules  []string  // each -m with what belongs to it
	protocol uint8     // of -p, not negated
	jump     string    // the target as it is printed
}

// parse reads a rule; the lock is held.
func (k *Kernel) parse(t *table, words []string) (*rule, error) {
	p := &parser{kernel: k, table: t, words: words}
	for len(p.words) > 0 {
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	var parts []string
	for _, h := range p.head {
		if h != "" {
			parts = append(parts, h)
		}
	}
	parts = append(parts, p.modules...)
	if p.jump != "" {
		parts = append(parts, p.jump)
	}
	r := p.rule
	r.text = strings.Join(parts, " ")
	return &r, nil
}

// take is the next word.
func (p *parser) take() (string, error) {
	if len(p.words) == 0 {
		return "", errors.New("the rule ends where a value is expected")
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w, nil
}

// not takes a "!" if there is one.
func (p *parser) not() bool {
	if len(p.words) > 0 && p.words[0] == "!" {
		p.words = p.words[1:]
		return true
	}
	return false
}

func (p *parser) next() error {
	not := p.not()
	option, err := p.take()
	if err != nil {
		return err
	}
	switch option {
	case "-s", "--source", "-d", "--destination":
		return p.address(option, not)
	case "-i", "--in-interface", "-o", "--out-interface":
		return p.device(option, not)
	case "-p", "--protocol":
		return p.proto(not)
	case "--sport", "--dport", "--source-port", "--destination-port":
		// The module of the protocol is loaded by its options too.
		p.words = append([]string{option}, p.words...)
		if not {
			p.words = append([]string{"!"}, p.words...)
		}
		return p.ports()
	}
	if not {
		return fmt.Errorf("unexpected ! before %s", option)
	}
	switch option {
	case "-m", "--match":
		return p.module()
	case "-j", "--jump", "-g", "--goto":
		return p.takeTarget(option)
	}
	return fmt.Errorf("unknown option %q", option)
}

func bang(not bool, text string) string {
	if not {
		return "! " + text
	}
	return text
}

func (p *parser) add(m match) { p.rule.matches = append(p.rule.matches, m) }

func (p *parser) address(option string, not bool) error {
	word, err := p.take()
	if err != nil {
		return err
	}
	prefix, err := parsePrefix(word)
	if err != nil {
		return err
	}
	if desired.FamilyOf(prefix.Addr()) != p.table.family {
		return fmt.Errorf("host/network %q is of another family", word)
	}
	at, flag := 0, "-s"
	if option == "-d" || option == "--destination" {
		at, flag = 1, "-d"
	}
	if p.head[at] != "" {
		return fmt.Errorf("multiple %s flags not allowed", flag)
	}
	if prefix.Bits() == 0 {
		if not {
			p.add(func(*walk) bool { return false })
			p.head[at] = bang(true, flag+" "+prefix.String())
		}
		return nil // 0.0.0.0/0 is not printed
	}
	p.head[at] = bang(not, flag+" "+prefix.String())
	p.add(func(w *walk) bool {
		a := w.packet.Src
		if at == 1 {
			a = w.packet.Dst
		}
		return prefix.Contains(a) != not
	})
	return nil
}

func parsePrefix(word string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(word); err == nil {
		return prefix.Masked(), nil
	}
	a, err := netip.ParseAddr(word)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("host/network %q not found", word)
	}
	return a.Prefix(a.BitLen())
}

// longestDevice is IFNAMSIZ without the ending zero.
const longestDevice = 15

func (p *parser) device(option string, not bool) error {
	name, err := p.take()
	if err != nil {
		return err
	}
	if len(name) > longestDevice || name == "" || strings.ContainsAny(name, "!/ ") {
		return fmt.Errorf("interface name %q is not possible", name)
	}
	at, flag := 2, "-i"
	if option == "-o" || option == "--out-interface" {
		at, flag = 3, "-o"
	}
	if p.head[at] != "" {
		return fmt.Errorf("multiple %s flags not allowed", flag)
	}
	p.head[at] = bang(not, flag+" "+name)
	prefix, wild := strings.CutSuffix(name, "+")
	p.add(func(w *walk) bool {
		have := w.packet.In
		if at == 3 {
			have = w.packet.Out
		}
		if wild {
			return strings.HasPrefix(have, prefix) != not
		}
		return (have == name) != not
	})
	return nil
}

func (p *parser) proto(not bool) error {
	word, err := p.take()
	if err != nil {
		return err
	}
	if p.head[4] != "" {
		return errors.New("multiple -p flags not allowed")
	}
	number, err := protocolNumber(word)
	if err != nil {
		return err
	}
	if number == 0 {
		if not {
			return errors.New("rule would never match protocol")
		}
		return nil
	}
	p.head[4] = bang(not, "-p "+protocolName(number))
	if !not {
		p.protocol = number
	}
	p.add(func(w *walk) bool { return (uint8(w.packet.Protocol) == number) != not })
	return nil
}

func protocolNumber(word string) (uint8, error) {
	switch strings.ToLower(word) {
	case "all":
		return 0, nil
	case "icmpv6":
		return 58, nil
	}
	for n := range uint8(255) {
		if protocolName(n) == strings.ToLower(word) {
			return n, nil
		}
	}
	n, err := strconv.ParseUint(word, 0, 8)
	if err != nil {
		return 0, fmt.Errorf("unknown protocol %q", word)
	}
	return uint8(n), nil
}

// protocolName is what iptables-save prints, without a file of protocols.
func protocolName(n uint8) string {
	switch n {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 50:
		return "esp"
	case 51:
		return "ah"
	case 58:
		return "ipv6-icmp"
	case 132:
		return "sctp"
	case 135:
		return "ipv6-mh"
	case 136:
		return "udplite"
	}
	return strconv.Itoa(int(n))
}
