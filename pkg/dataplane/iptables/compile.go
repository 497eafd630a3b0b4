package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// The chains that are always there, but for OVL-INPUT: only where a pod's
// egress rules are applied to its own node. The mirrors of the walks from and to
// pods judge a connection by its replies.
const (
	chainForward  = "OVL-FORWARD"
	chainReply    = "OVL-REPLY"
	chainInput    = "OVL-INPUT"
	chainFrom     = "OVL-FROM"
	chainTo       = "OVL-TO"
	chainSource   = "OVL-SOURCE"
	prefixFrom    = "OVL-F-"  // + the first character of the interface's name after the prefix
	prefixTo      = "OVL-T-"  // the same
	prefixEgress  = "OVL-PE-" // + a digest of the rules
	prefixIngress = "OVL-PI-" // the same
	mirrorSuffix  = "-R"

	// OurChains is how the names of all our chains begin: whatever has such a name
	// is ours, of this life or an earlier one.
	OurChains = "OVL-"
)

// The tables.
const (
	tableRaw    = "raw"
	tableMangle = "mangle"
)

// Program is what a State is in chains and rules. It is immutable.
type Program struct {
	// State is what it was compiled from.
	State *desired.State
	// IPv4 and IPv6 are the rules; those of IPv6 are nil without IPv6.
	IPv4, IPv6 *Ruleset
	// Problems are the parts of the State that rules cannot say, and that are
	// left out: never is more allowed for that.
	Problems []model.Problem
	cfg      Config
}

// Ruleset is the chains of one family. It is immutable.
type Ruleset struct {
	family      desired.Family
	cfg         Config
	mangle, raw chains
	hooks       []hook
	// lists are the names of the chains of lists; empty for one that allows
	// everything.
	lists map[listKey]string
	// faulty are the lists of which rules were left out.
	faulty map[listKey]bool
}

// chains are by name.
type chains map[string]chain

type chain struct {
	rules []rule
	// lines are the rules as text; nil if that depends on the generation.
	lines []string
}

func (c chains) put(name string, rules []rule) {
	ch := chain{rules: rules}
	if !slices.ContainsFunc(rules, func(r rule) bool { return r.current || r.does == marks }) {
		ch.lines = linesOf(rules, mark{})
	}
	c[name] = ch
}

func linesOf(rules []rule, m mark) []string {
	lines := make([]string, len(rules))
	for i := range rules {
		lines[i] = rules[i].text(m)
	}
	return lines
}

// hook is the rule of a built-in chain that leads to ours. It is the first one
// there, so that nobody's ACCEPT comes before it.
type hook struct {
	table, builtin, chain string
}

// text is the rule. The name of the chain says whose it is: a comment would be a
// match that each packet pays for, in the nft backend by 1.5 % of its whole way.
func (h hook) text() string { return "-j " + h.chain }

// Compile says a State in chains and rules. It is a function of the State's
// Rules alone; the members of sets are asked for by Trace. Of cfg it takes that
// Validate found it good.
func Compile(s *desired.State, cfg Config) *Program { return compileAfter(nil, s, cfg) }

// compileAfter is Compile, of the same result. What a list is in chains it takes
// from an earlier Program of the same configuration, if that has the list: so a
// change of one policy does not cost as much as all of them.
func compileAfter(old *Program, s *desired.State, cfg Config) *Program {
	p := &Program{State: s, cfg: cfg.withDefaults()}
	if old == nil {
		old = &Program{}
	}
	p.IPv4 = p.compile(desired.IPv4, old.IPv4)
	if cfg.IPv6 {
		p.IPv6 = p.compile(desired.IPv6, old.IPv6)
	}
	slices.SortFunc(p.Problems, func(a, b model.Problem) int { return strings.Compare(a.Message, b.Message) })
	p.Problems = slices.Compact(p.Problems)
	return p
}

// Family is the rules of a family; nil if there are none.
func (p *Program) Family(f desired.Family) *Ruleset {
	if f == desired.IPv4 {
		return p.IPv4
	}
	return p.IPv6
}

func (p *Program) problem(pod model.Key, format string, a ...any) {
	p.Problems = append(p.Problems, model.Problem{Kind: model.ProblemDataplane, Object: pod, Message: fmt.Sprintf(format, a...)})
}

func (p *Program) compile(f desired.Family, old *Ruleset) *Ruleset {
	r := &Ruleset{family: f, cfg: p.cfg, mangle: chains{}, raw: chains{}, lists: map[listKey]string{}, faulty: map[listKey]bool{}}
	r.hooks = []hook{{tableRaw, "PREROUTING", chainSource}, {tableMangle, "FORWARD", chainForward}}
	c := compiler{Program: p, Ruleset: r, old: old, known: p.known(), sets: map[desired.SetID]*desired.SetSpec{}}
	for i := range p.State.Rules.Sets {
		spec := &p.State.Rules.Sets[i]
		c.sets[spec.ID] = spec
	}
	r.raw.put(chainSource, c.source())
	r.mangle.put(chainForward, c.forward())
	r.mangle.put(chainReply, c.replies())
	if p.State.Rules.OwnNodeEgress {
		r.hooks = append(r.hooks, hook{tableMangle, "INPUT", chainInput})
		r.mangle.put(chainInput, c.input())
	}
	for _, t := range trees() {
		c.dispatch(t)
	}
	return r
}

// compiler makes one Ruleset.
type compiler struct {
	*Program
	*Ruleset
	old   *Ruleset // of the Program before; nil if there is none
	known []knownInterface
	sets  map[desired.SetID]*desired.SetSpec
}

// pods is what matches any pod interface.
func (c *compiler) pods() ifMatch { return ifMatch{name: c.Program.cfg.Prefix, wild: true} }

// forward is the walk of every packet that crosses the node.
func (c *compiler) forward() []rule {
	return append([]rule{
		// The verdict of this connection is current. No state is asked for, so
		// that flows in one direction only are short-cut too.
		{current: true},
		c.relatedErrors(),
		// A stale reply is judged by its connection.
		{state: reply, does: goesTo, chain: chainReply},
		{in: c.pods(), does: jumps, chain: chainFrom},
		{out: c.pods(), does: jumps, chain: chainTo},
	}, c.judged()...)
}

// replies is the same walk seen from the other end.
func (c *compiler) replies() []rule {
	return append([]rule{
		{out: c.pods(), does: jumps, chain: chainFrom + mirrorSuffix},
		{in: c.pods(), does: jumps, chain: chainTo + mirrorSuffix},
	}, c.judged()...)
}

// judged is reached only if both directions have allowed the connection. What
// is between foreign interfaces is never marked.
func (c *compiler) judged() []rule {
	return []rule{{in: c.pods(), does: marks}, {out: c.pods(), does: marks}}
}

// relatedErrors lets ICMP errors about connections pass: path MTU discovery
// must not depend on policy.
func (c *compiler) relatedErrors() rule {
	if c.family == desired.IPv4 {
		return rule{protocol: icmp4, state: related}
	}
	return rule{protocol: icmp6, state: related}
}

// input is the walk of what pods send to their own node. The node's own
// connections have their replies, and discovery on the link goes on (semantics
// 2.8): what has hop limit 255 has crossed no router, and multicast listeners
// report from addresses of the link, or before they have one from none.
func (c *compiler) input() []rule {
	rules := []rule{{current: true}, c.relatedErrors(), {state: reply}}
	if c.family == desired.IPv6 {
		const firstDiscovery, lastDiscovery = 133, 137 // RFC 4861
		for t := uint8(firstDiscovery); t <= lastDiscovery; t++ {
			// Without the match it is as safe: the kernel itself takes no
			// discovery that has come from further away.
			hops := !c.Program.cfg.misses(FeatureHopLimit)
			rules = append(rules, rule{protocol: icmp6, icmp6Type: t, hopLimit255: hops})
		}
		for _, from := range []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80}), 10), netip.PrefixFrom(netip.IPv6Unspecified(), 128),
		} {
			for _, t := range []uint8{130, 131, 132, 143} { // RFC 2710, RFC 3810
				rules = append(rules, rule{src: from, protocol: icmp6, icmp6Type: t})
			}
		}
	}
	return append(rules,
		rule{in: c.pods(), does: jumps, chain: chainFrom},
		rule{in: c.pods(), does: marks})
}

// source is the source check (semantics 2.14). The host routes to the pods are
// the authority, so that it holds before an API server knows the address.
func (c *compiler) source() []rule {
	var rules []rule
	for _, e := range c.State.Rules.Exceptions {
		if !e.Prefix.IsValid() || desired.FamilyOf(e.Prefix.Addr()) != c.family {
			continue
		}
		if !c.isPod(e.Interface) {
			c.problem(model.Key{}, "exception %s of interface %q: not a name of a pod interface", e.Prefix, e.Interface)
			continue
		}
		r := rule{in: ifMatch{name: e.Interface}}
		if e.Prefix.Bits() > 0 {
			r.src = e.Prefix.Masked()
		}
		rules = append(rules, r)
	}
	return append(rules, rule{in: c.pods(), spoofed: true, does: drops})
}

// isPod tells whether an interface's name is one of a pod interface that rules
// can name.
func (p *Program) isPod(name string) bool {
	return nameable(name) && strings.HasPrefix(name, p.cfg.Prefix)
}

// Script is the whole Ruleset with that generation as a file of
// iptables-restore, of nobody else's rules.
func (r *Ruleset) Script(generation uint8) string {
	return string(r.changes(Tables{}, generation).script())
}

// Rules counts the rules.
func (r *Ruleset) Rules() int {
	n := 0
	for _, all := range []chains{r.raw, r.mangle} {
		for _, c := range all {
			n += len(c.rules)
		}
	}
	return n
}
