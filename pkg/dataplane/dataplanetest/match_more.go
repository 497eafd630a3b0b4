package dataplanetest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

func (p *parser) rpfilter() error {
	flags := map[string]bool{}
	for {
		option, not, ok := p.option("--loose", "--validmark", "--accept-local", "--invert")
		if !ok {
			break
		}
		if not {
			return fmt.Errorf("unexpected ! before %s", option)
		}
		flags[option] = true
	}
	text := "-m rpfilter"
	for _, f := range []string{"--loose", "--validmark", "--accept-local", "--invert"} {
		if flags[f] {
			text += " " + f
		}
	}
	p.modules = append(p.modules, text)
	p.rule.tables = []string{"raw", "mangle"}
	p.rule.hooks = []string{"PREROUTING"}
	p.add(func(w *walk) bool {
		return w.kernel.routedBack(&w.packet, flags["--loose"]) != flags["--invert"]
	})
	return nil
}

func (p *parser) icmp(module string) error {
	want, option := uint8(1), "--icmp-type"
	if module == "icmp6" {
		want, option = 58, "--icmpv6-type"
	}
	if p.protocol != want {
		return fmt.Errorf("%s needs -p %s", module, protocolName(want))
	}
	_, not, ok := p.option(option)
	if !ok {
		return fmt.Errorf("%s needs %s", module, option)
	}
	word, err := p.take()
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(word, 10, 8)
	if err != nil {
		return fmt.Errorf("invalid ICMP type %q: a number is expected here", word)
	}
	p.modules = append(p.modules, "-m "+module+" "+bang(not, fmt.Sprintf("%s %d", option, n)))
	p.add(func(w *walk) bool { return (uint64(w.packet.ICMPType) == n) != not })
	return nil
}

func (p *parser) hops(module string) error {
	option, not, ok := p.option("--" + module + "-eq")
	if !ok {
		return fmt.Errorf("%s needs --%s-eq", module, module)
	}
	word, err := p.take()
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(word, 10, 8)
	if err != nil {
		return fmt.Errorf("bad hop limit %q", word)
	}
	p.modules = append(p.modules, "-m "+module+" "+bang(not, fmt.Sprintf("%s %d", option, n)))
	p.add(func(w *walk) bool { return (uint64(w.packet.HopLimit) == n) != not })
	return nil
}

func (p *parser) addrtype() error {
	text := "-m addrtype"
	for {
		option, not, ok := p.option("--src-type", "--dst-type")
		if !ok {
			break
		}
		word, err := p.take()
		if err != nil {
			return err
		}
		if word != "LOCAL" {
			return fmt.Errorf("address type %q is not known here, LOCAL is", word)
		}
		text += " " + bang(not, option+" LOCAL")
		p.add(func(w *walk) bool {
			a := w.packet.Dst
			if option == "--src-type" {
				a = w.packet.Src
			}
			return w.kernel.local[a] != not
		})
	}
	p.modules = append(p.modules, text)
	return nil
}

func (p *parser) comment() error {
	if _, not, ok := p.option("--comment"); !ok || not {
		return errors.New("comment needs --comment")
	}
	word, err := p.take()
	if err != nil {
		return err
	}
	if len(word) > 255 {
		return errors.New("the comment is longer than 255 characters")
	}
	p.modules = append(p.modules, "-m comment --comment "+quote(word))
	return nil
}

// quote is how iptables-save prints free text.
func quote(s string) string {
	plain := func(c rune) bool {
		return c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	if s != "" && strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) < 0 {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`).Replace(s) + `"`
}

// limit always holds here, and so may not decide about a packet.
func (p *parser) limit() error {
	rate, burst := "3/hour", "5"
	for {
		option, not, ok := p.option("--limit", "--limit-burst")
		if !ok {
			break
		}
		word, err := p.take()
		if err != nil || not {
			return fmt.Errorf("bad %s", option)
		}
		if option == "--limit" {
			rate = word
		} else {
			burst = word
		}
	}
	number, unit, ok := strings.Cut(rate, "/")
	if _, err := strconv.Atoi(number); err != nil || !ok || unit == "" {
		return fmt.Errorf("bad rate %q", rate)
	}
	for _, u := range []string{"sec", "min", "hour", "day"} {
		if u[0] == unit[0] {
			unit = u
		}
	}
	text := "-m limit --limit " + number + "/" + unit
	if burst != "5" {
		text += " --limit-burst " + burst
	}
	p.modules = append(p.modules, text)
	p.rule.limited = true
	return nil
}
