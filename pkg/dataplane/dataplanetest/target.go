package dataplanetest

import (
	"errors"
	"fmt"
	"strings"
)

// target is what a rule does with a packet.
type target struct {
	kind  string // DROP, ACCEPT, RETURN, CONNMARK …; "" for a chain or none
	chain string
	leave bool // -g: what returns from the chain returns from this one too
	do    func(w *walk)

	// connmark is the mask of a CONNMARK that sets the mark.
	connmark *uint32
	notrack  bool
}

func (t target) decides() bool {
	switch t.kind {
	case "DROP", "ACCEPT", "RETURN", "REJECT":
		return true
	}
	return t.chain != ""
}

// interferes tells whether a foreign rule with it may break us: it overwrites
// our bits of the mark, or takes packets out of connection tracking.
func (t target) interferes() bool {
	return t.connmark != nil && *t.connmark == 0xffffffff || t.notrack
}

func (p *parser) takeTarget(option string) error {
	if p.jump != "" {
		return errors.New("multiple -j flags not allowed")
	}
	name, err := p.take()
	if err != nil {
		return err
	}
	if _, ok := p.table.chains[name]; ok && contains(p.table.builtin, name) {
		return fmt.Errorf("%s is a built-in chain, can't jump to it", name)
	} else if ok {
		p.rule.target = target{chain: name, leave: option == "-g" || option == "--goto"}
		p.jump = "-j " + name
		if p.rule.target.leave {
			p.jump = "-g " + name
		}
		return nil
	}
	if option == "-g" || option == "--goto" {
		return fmt.Errorf("goto %q isn't a chain", name)
	}
	p.rule.target = target{kind: name}
	p.jump = "-j " + name
	switch name {
	case "DROP", "ACCEPT", "RETURN":
		return nil
	case "CONNMARK", "MARK":
		return p.setMark(name)
	case "NFLOG":
		return p.nflog()
	case "CT":
		if _, _, ok := p.option("--notrack"); !ok {
			return errors.New("CT needs --notrack")
		}
		p.jump += " --notrack"
		p.rule.tables = []string{"raw"}
		p.rule.target.notrack = true
		p.rule.target.do = func(w *walk) { w.untracked = true }
		return nil
	}
	return fmt.Errorf("couldn't load target %q: no such file or directory", name)
}

func (p *parser) setMark(name string) error {
	option, _, ok := p.option("--set-xmark", "--set-mark", "--and-mark", "--or-mark", "--save-mark", "--restore-mark")
	if !ok {
		return fmt.Errorf("%s: no operation specified", name)
	}
	if option == "--save-mark" || option == "--restore-mark" {
		return p.copyMark(name, option)
	}
	word, err := p.take()
	if err != nil {
		return err
	}
	value, mask, err := parseMark(word)
	if err != nil {
		return err
	}
	switch option {
	case "--set-mark":
		mask |= value
	case "--and-mark":
		value, mask = 0, ^value
	case "--or-mark":
		mask = value
	}
	p.jump += fmt.Sprintf(" --set-xmark 0x%x/0x%x", value, mask)
	if name == "MARK" {
		p.rule.tables = []string{"mangle"}
		p.rule.target.do = func(w *walk) { w.mark = w.mark&^mask ^ value }
		return nil
	}
	p.rule.target.connmark = &mask
	p.rule.target.do = func(w *walk) {
		if w.conn != nil {
			w.conn.Mark = w.conn.Mark&^mask ^ value
		}
	}
	return nil
}

func (p *parser) copyMark(name, option string) error {
	if name != "CONNMARK" {
		return fmt.Errorf("%s: unknown option %s", name, option)
	}
	masks := map[string]uint32{"--nfmask": 0xffffffff, "--ctmask": 0xffffffff}
	for {
		flag, _, ok := p.option("--nfmask", "--ctmask", "--mask")
		if !ok {
			break
		}
		word, err := p.take()
		if err != nil {
			return err
		}
		m, _, err := parseMark(word)
		if err != nil {
			return err
		}
		if flag == "--mask" {
			masks["--nfmask"], masks["--ctmask"] = m, m
		}
		masks[flag] = m
	}
	nf, ct := masks["--nfmask"], masks["--ctmask"]
	p.jump += fmt.Sprintf(" %s --nfmask 0x%x --ctmask 0x%x", option, nf, ct)
	if option == "--save-mark" {
		p.rule.target.connmark = &ct
		p.rule.target.do = func(w *walk) {
			if w.conn != nil {
				w.conn.Mark = w.conn.Mark&^ct ^ w.mark&nf
			}
		}
		return nil
	}
	p.rule.tables = []string{"mangle"}
	p.rule.target.do = func(w *walk) {
		if w.conn != nil {
			w.mark = w.mark&^nf ^ w.conn.Mark&ct
		}
	}
	return nil
}

func (p *parser) nflog() error {
	options := []string{"--nflog-prefix", "--nflog-group", "--nflog-size", "--nflog-threshold"}
	values := map[string]string{}
	for {
		option, _, ok := p.option(options...)
		if !ok {
			break
		}
		word, err := p.take()
		if err != nil {
			return err
		}
		values[option] = word
	}
	if len(values["--nflog-prefix"]) > 63 {
		return errors.New("the prefix is longer than 63 characters")
	}
	var parts []string
	for _, o := range options {
		v, ok := values[o]
		switch {
		case !ok || o == "--nflog-group" && v == "0" || o == "--nflog-threshold" && v == "1":
		case o == "--nflog-prefix":
			parts = append(parts, o+" "+quote(v))
		default:
			parts = append(parts, o+" "+v)
		}
	}
	if len(parts) > 0 {
		p.jump += " " + strings.Join(parts, " ")
	}
	return nil
}
