package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// Inspect implements dataplane.Inspector. It asks the kernel and nothing that
// Apply changes. Of the generation it asks only that there is one.
func (d *Dataplane) Inspect(ctx context.Context, want *desired.State, f desired.Flow) (dataplane.Inspection, error) {
	if d.bad != nil {
		return dataplane.Inspection{}, d.bad
	}
	p := Compile(want, d.cfg)
	family := desired.FamilyOf(f.Dst)
	rules := p.Family(family)
	if rules == nil {
		return dataplane.Inspection{Agrees: true}, nil // nothing is enforced in this family
	}
	there, back := p.Trace(Packet{Flow: f}), p.Trace(Packet{Flow: f, Reply: true})
	have, err := d.kernel.Tables(ctx, family)
	if err != nil {
		return dataplane.Inspection{}, fmt.Errorf("read the %s rules: %w", family, err)
	}
	in := dataplane.Inspection{Agrees: true, Chains: rules.checkChains(have, there, back)}
	for _, c := range in.Chains {
		in.Agrees = in.Agrees && c.Agrees
	}
	// The mirrored walk asks the same questions, of the same sets.
	if in.Sets, err = d.checkSets(ctx, want, there.Sets); err != nil {
		return dataplane.Inspection{}, err
	}
	for _, s := range in.Sets {
		in.Agrees = in.Agrees && s.Want == s.Kernel
	}
	return in, nil
}

// checkChains compares the hooks and the chains on paths.
func (r *Ruleset) checkChains(have Tables, paths ...Path) []dataplane.ChainCheck {
	generation := r.cfg.generationOf(have.Mangle)
	var checks []dataplane.ChainCheck
	check := func(table, chain string, differs string) {
		checks = append(checks, dataplane.ChainCheck{
			Table: table, Chain: chain, Family: r.family, Agrees: differs == "", Difference: differs,
		})
	}
	for _, h := range r.hooks {
		differs := ""
		if i := slices.Index(have.table(h.table)[h.builtin], h.text()); i < 0 {
			differs = "there is no rule that leads to " + h.chain
		} else if i > 0 {
			differs = fmt.Sprintf("the rule that leads to %s is at position %d, not 1", h.chain, i+1)
		}
		check(h.table, h.builtin, differs)
	}
	raw, mangle := r.lines(r.raw, generation), r.lines(r.mangle, generation)
	done := map[Step]bool{}
	for _, p := range paths {
		for _, s := range p.Chains {
			if done[s] {
				continue
			}
			done[s] = true
			want := Tables{Raw: raw, Mangle: mangle}.table(s.Table)[s.Chain]
			lines, ok := have.table(s.Table)[s.Chain]
			switch {
			case !ok:
				check(s.Table, s.Chain, "there is no such chain")
			case !slices.Equal(want, lines):
				check(s.Table, s.Chain, "in the kernel "+difference(want, lines))
			default:
				check(s.Table, s.Chain, "")
			}
		}
	}
	return checks
}

// checkSets asks the kernel what was asked of sets.
func (d *Dataplane) checkSets(ctx context.Context, want *desired.State, asked []Asked) ([]dataplane.SetCheck, error) {
	var checks []dataplane.SetCheck
	for _, q := range asked {
		spec, ok := want.Rules.Spec(q.Set)
		if !ok {
			continue
		}
		c := dataplane.SetCheck{Set: q.Set, Text: spec.Text, Element: q.element(), Want: q.Member}
		if slices.ContainsFunc(checks, func(o dataplane.SetCheck) bool { return o.Set == c.Set && o.Element == c.Element }) {
			continue
		}
		elements, err := d.kernel.Elements(ctx, string(q.Set))
		if err != nil && !errors.Is(err, ErrNoSet) {
			return nil, fmt.Errorf("read set %s (%s): %w", q.Set, brief(spec.Text), err)
		}
		c.Kernel = q.in(spec.Kind, elements)
		checks = append(checks, c)
	}
	return checks, nil
}

// element is what is looked for, as ipset writes it.
func (q Asked) element() string {
	if q.Protocol == 0 {
		return q.Addr.String()
	}
	return fmt.Sprintf("%s,%s:%d", q.Addr, protocolName(q.Protocol), q.Port)
}

// in is what the kernel's test of a set with these elements says.
func (q Asked) in(kind desired.SetKind, elements []Element) bool {
	if kind != desired.Networks {
		return slices.Contains(elements, Element{Addr: q.Addr, Protocol: q.protocol(kind), Port: q.Port})
	}
	longest, member := -1, false
	for _, e := range elements {
		if int(e.Bits) > longest && netip.PrefixFrom(e.Addr, int(e.Bits)).Contains(q.Addr) {
			longest, member = int(e.Bits), !e.NoMatch
		}
	}
	return member
}

func (q Asked) protocol(kind desired.SetKind) model.Protocol {
	if kind == desired.AddressPorts {
		return q.Protocol
	}
	return 0
}
