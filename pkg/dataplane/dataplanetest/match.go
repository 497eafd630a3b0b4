package dataplanetest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// module reads "-m NAME" and the options that belong to it.
func (p *parser) module() error {
	name, err := p.take()
	if err != nil {
		return err
	}
	switch name {
	case "tcp", "udp", "sctp":
		return p.ports()
	case "multiport":
		return p.multiport()
	case "connmark", "mark":
		return p.mark(name)
	case "conntrack":
		return p.conntrack()
	case "set":
		return p.matchSet()
	case "rpfilter":
		return p.rpfilter()
	case "icmp", "icmp6":
		return p.icmp(name)
	case "hl", "ttl":
		return p.hops(name)
	case "addrtype":
		return p.addrtype()
	case "comment":
		return p.comment()
	case "limit":
		return p.limit()
	}
	return fmt.Errorf("couldn't load match %q: no such file or directory", name)
}

// option takes the next word if it is one of the options.
func (p *parser) option(options ...string) (name string, not, ok bool) {
	words := p.words
	not = p.not()
	if len(p.words) > 0 && slices.Contains(options, p.words[0]) {
		name, _ = p.take()
		return name, not, true
	}
	p.words = words
	return "", false, false
}

type ports struct{ first, last uint16 }

func (r ports) String() string {
	if r.first == r.last {
		return strconv.Itoa(int(r.first))
	}
	return fmt.Sprintf("%d:%d", r.first, r.last)
}

func parsePorts(word string) (ports, error) {
	first, last, ranged := strings.Cut(word, ":")
	if !ranged {
		last = first
	}
	if first == "" {
		first = "0"
	}
	if last == "" {
		last = "65535"
	}
	a, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return ports{}, fmt.Errorf("invalid port %q", word)
	}
	b, err := strconv.ParseUint(last, 10, 16)
	if err != nil || b < a {
		return ports{}, fmt.Errorf("invalid portrange %q (min > max)", word)
	}
	return ports{uint16(a), uint16(b)}, nil
}

// ports is the module of a protocol with ports.
func (p *parser) ports() error {
	name := protocolName(p.protocol)
	if name != "tcp" && name != "udp" && name != "sctp" {
		return fmt.Errorf("ports need -p tcp, udp or sctp, there is %q", name)
	}
	text := "-m " + name
	for {
		option, not, ok := p.option("--sport", "--source-port", "--dport", "--destination-port")
		if !ok {
			break
		}
		word, err := p.take()
		if err != nil {
			return err
		}
		r, err := parsePorts(word)
		if err != nil {
			return err
		}
		source := option == "--sport" || option == "--source-port"
		flag := "--dport"
		if source {
			flag = "--sport"
		}
		text += " " + bang(not, flag+" "+r.String())
		p.add(func(w *walk) bool {
			have := w.packet.DstPort
			if source {
				have = w.packet.SrcPort
			}
			return (r.first <= have && have <= r.last) != not
		})
	}
	p.modules = append(p.modules, text)
	return nil
}

// mostPorts is XT_MULTI_PORTS; a range counts for two.
const mostPorts = 15

func (p *parser) multiport() error {
	switch protocolName(p.protocol) {
	case "tcp", "udp", "sctp", "udplite":
	default:
		return fmt.Errorf("multiport needs a protocol with ports")
	}
	option, not, ok := p.option("--sports", "--source-ports", "--dports", "--destination-ports", "--ports")
	if !ok {
		return fmt.Errorf("multiport without ports")
	}
	word, err := p.take()
	if err != nil {
		return err
	}
	var list []ports
	count := 0
	for w := range strings.SplitSeq(word, ",") {
		r, err := parsePorts(w)
		if err != nil {
			return err
		}
		count++
		if r.first != r.last {
			count++
		}
		list = append(list, r)
	}
	if count > mostPorts {
		return fmt.Errorf("too many ports specified: %d, at most %d", count, mostPorts)
	}
	flag := map[string]string{"--source-ports": "--sports", "--destination-ports": "--dports"}[option]
	if flag == "" {
		flag = option
	}
	p.modules = append(p.modules, "-m multiport "+bang(not, flag+" "+word))
	holds := func(port uint16) bool {
		return slices.ContainsFunc(list, func(r ports) bool { return r.first <= port && port <= r.last })
	}
	p.add(func(w *walk) bool {
		src, dst := holds(w.packet.SrcPort), holds(w.packet.DstPort)
		return (flag != "--dports" && src || flag != "--sports" && dst) != not
	})
	return nil
}

// parseMark reads a value and a mask; without one, it is the whole mark.
func parseMark(word string) (value, mask uint32, err error) {
	v, m, masked := strings.Cut(word, "/")
	if !masked {
		m = "0xffffffff"
	}
	a, err := strconv.ParseUint(v, 0, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("bad mark %q", word)
	}
	b, err := strconv.ParseUint(m, 0, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("bad mark %q", word)
	}
	return uint32(a), uint32(b), nil
}

func (p *parser) mark(module string) error {
	_, not, ok := p.option("--mark")
	if !ok {
		return fmt.Errorf("%s needs --mark", module)
	}
	word, err := p.take()
	if err != nil {
		return err
	}
	value, mask, err := parseMark(word)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("--mark 0x%x/0x%x", value, mask)
	if mask == 0xffffffff {
		text = fmt.Sprintf("--mark 0x%x", value)
	}
	p.modules = append(p.modules, "-m "+module+" "+bang(not, text))
	p.add(func(w *walk) bool {
		if module == "mark" {
			return (w.mark&mask == value) != not
		}
		// Without a connection the match does not hold, negated or not.
		return w.conn != nil && (w.conn.Mark&mask == value) != not
	})
	return nil
}

func (p *parser) conntrack() error {
	text := "-m conntrack"
	for {
		option, not, ok := p.option("--ctstate", "--ctdir")
		if !ok {
			break
		}
		word, err := p.take()
		if err != nil {
			return err
		}
		if option == "--ctdir" {
			word = strings.ToUpper(word)
			if word != "ORIGINAL" && word != "REPLY" || not {
				return fmt.Errorf("bad direction %q", word)
			}
			text += " --ctdir " + word
			states := strings.Contains(text, "--ctstate")
			p.add(func(w *walk) bool {
				if w.conn == nil {
					// Then xt_conntrack looks at the state only, if it is to.
					return states
				}
				return w.reply == (word == "REPLY")
			})
			continue
		}
		states, err := parseStates(word)
		if err != nil {
			return err
		}
		text += " " + bang(not, "--ctstate "+strings.Join(states, ","))
		p.add(func(w *walk) bool { return slices.Contains(states, w.state) != not })
	}
	if text == "-m conntrack" {
		return fmt.Errorf("conntrack: at least one option is required")
	}
	p.modules = append(p.modules, text)
	return nil
}

func parseStates(word string) ([]string, error) {
	var states []string
	known := []string{stateInvalid, stateNew, stateRelated, stateEstablished, stateUntracked}
	have := strings.Split(strings.ToUpper(word), ",")
	for _, s := range known {
		if slices.Contains(have, s) {
			states = append(states, s)
		}
	}
	if len(states) != len(have) {
		return nil, fmt.Errorf("bad ctstate %q", word)
	}
	return states, nil
}

func (p *parser) matchSet() error {
	_, not, ok := p.option("--match-set")
	if !ok {
		return fmt.Errorf("you must specify --match-set")
	}
	name, err := p.take()
	if err != nil {
		return err
	}
	word, err := p.take()
	if err != nil {
		return err
	}
	s := p.kernel.sets[name]
	if s == nil {
		return fmt.Errorf("set %s doesn't exist", name)
	}
	if s.family != p.table.family {
		return fmt.Errorf("the protocol family of set %s is not applicable", name)
	}
	flags := strings.Split(word, ",")
	for _, f := range flags {
		if f != "src" && f != "dst" {
			return fmt.Errorf("bad set direction %q", word)
		}
	}
	p.rule.sets = append(p.rule.sets, name)
	p.modules = append(p.modules, "-m set "+bang(not, "--match-set "+name+" "+word))
	p.add(func(w *walk) bool { return w.kernel.inSet(name, flags, &w.packet) != not })
	return nil
}

// inSet is ip_set_test: with fewer directions than the set has dimensions,
// nothing matches; so do packets without ports in a set of ports.
func (k *Kernel) inSet(name string, flags []string, p *Packet) bool {
	s := k.sets[name]
	if s == nil || len(flags) < s.dimension() {
		return false
	}
	a := p.Dst
	if flags[0] == "src" {
		a = p.Src
	}
	if s.dimension() == 1 {
		return s.holds(a, 0, 0)
	}
	switch p.Protocol {
	case model.TCP, model.UDP, model.SCTP:
	default:
		return false
	}
	port := p.DstPort
	if flags[1] == "src" {
		port = p.SrcPort
	}
	return s.holds(a, p.Protocol, port)
}
