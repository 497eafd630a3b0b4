package iptables

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// listKey is a List, by its Text, in a direction.
type listKey struct {
	text   string
	egress bool
}

// policyChain is the name of the chain that has the rules of a list, which it
// makes, with its mirror, if it is not there; empty if the list allows
// everything in this family.
//
// The name is a digest of the rules' text. Pods share the chain by that, and in
// a change of policy a chain is never rewritten: a new one is made, filled and
// then used.
func (c *compiler) policyChain(l *desired.List, egress bool) string {
	k := listKey{l.Text, egress}
	if name, ok := c.lists[k]; ok {
		return name
	}
	if name, ok := c.fromOld(k); ok {
		c.lists[k] = name
		return name
	}
	problems := len(c.Problems)
	rules := c.policyRules(l, egress)
	c.faulty[k] = len(c.Problems) > problems
	if rules[0].asksNothing() && rules[0].does == returns {
		c.lists[k] = ""
		return ""
	}
	made := chains{}
	made.put("", rules)
	name := c.policyName(egress, made[""])
	c.lists[k] = name
	c.mangle[name] = made[""]
	mirror := make([]rule, len(rules))
	for i, r := range rules {
		mirror[i] = r.mirrored()
	}
	c.mangle.put(name+mirrorSuffix, mirror)
	return name
}

// fromOld takes the chains of a list from the Program before, if they are what
// would be made: nothing was left out, the sets that they ask are there, and
// the name is free.
func (c *compiler) fromOld(k listKey) (string, bool) {
	if c.old == nil || c.old.faulty[k] {
		return "", false
	}
	name, ok := c.old.lists[k]
	if !ok || name == "" {
		return "", ok
	}
	made := c.old.mangle[name]
	for i := range made.rules {
		if id := made.rules[i].set.id; id != "" && c.sets[id] == nil {
			return "", false
		}
	}
	if other, taken := c.mangle[name]; taken && !slices.Equal(other.lines, made.lines) {
		return "", false
	}
	c.mangle[name], c.mangle[name+mirrorSuffix] = made, c.old.mangle[name+mirrorSuffix]
	return name, true
}

// policyName is free, or the name of the same rules. Two lists with the same
// digest can be made by who tries 2^47 of them; then the second has another.
func (c *compiler) policyName(egress bool, rules chain) string {
	prefix := prefixIngress
	if egress {
		prefix = prefixEgress
	}
	content := strings.Join(rules.lines, "\n")
	for salt := 1; ; salt++ {
		name := prefix + chainDigest(content)
		if other, taken := c.mangle[name]; !taken || slices.Equal(other.lines, rules.lines) {
			return name
		}
		content += strconv.Itoa(salt)
	}
}

// chainDigest is 19 characters, 95 bits: with prefix and mirrorSuffix a name has
// the 28 that the kernel takes.
func chainDigest(content string) string {
	const (
		alphabet = "abcdefghijklmnopqrstuvwxyz234567" // RFC 4648, as small letters
		digits   = 19
	)
	sum := sha256.Sum256([]byte(content))
	return base32.NewEncoding(alphabet).WithPadding(base32.NoPadding).EncodeToString(sum[:])[:digits]
}

// policyRules are the rules of a list in this family, the last one drops: what
// is cheap to ask first, as any order means the same. There is at least one.
func (c *compiler) policyRules(l *desired.List, egress bool) []rule {
	rules := make([]rule, 0, len(l.Rules)+1)
	for _, r := range l.Rules {
		if r.Family != desired.AnyFamily && r.Family != c.family {
			continue
		}
		compiled, ok := c.policyRule(r, egress)
		if !ok {
			continue
		}
		if compiled.asksNothing() {
			return []rule{compiled}
		}
		rules = append(rules, compiled)
	}
	slices.SortStableFunc(rules, func(a, b rule) int { return cmp.Compare(a.cost(), b.cost()) })
	rules = slices.Compact(rules)
	return append(rules, rule{does: drops})
}

// cost is the price of a rule that a packet does not match, in classes: without
// a set 5 ns, with one of addresses 100 ns, with one of networks 25 ns for each
// prefix length in it.
func (r rule) cost() int {
	switch {
	case r.set.id == "":
		return 0
	case r.set.kindOf == desired.Networks:
		return 2
	}
	return 1
}

// policyRule is a rule that returns what is allowed; false if it cannot be said.
func (c *compiler) policyRule(r desired.Rule, egress bool) (rule, bool) {
	peer := source
	if egress {
		peer = destination
	}
	out := rule{protocol: r.Protocol}
	switch r.Protocol {
	case 0:
		if r.First != 0 || r.Last != 0 {
			c.problem(model.Key{}, "rule %q: ports without a protocol", r)
			return rule{}, false
		}
	case model.TCP, model.UDP, model.SCTP:
		if all := (portRange{0, 65535}); (portRange{r.First, r.Last}) != all {
			out.dport = portRange{r.First, r.Last}
		}
		if r.Protocol == model.SCTP && out.dport != (portRange{}) && c.Program.cfg.misses(FeatureSCTP) {
			c.problem(model.Key{}, "rule %q: this node's kernel cannot tell ports of SCTP: module xt_sctp is missing", r)
			return rule{}, false
		}
	default:
		c.problem(model.Key{}, "rule %q: protocol %d, expected TCP, UDP or SCTP", r, r.Protocol)
		return rule{}, false
	}
	switch {
	case r.Peer.Block.IsValid():
		if desired.FamilyOf(r.Peer.Block.Addr()) != c.family {
			return rule{}, false
		}
		out.peer(r.Peer.Block, egress)
	case r.Peer.Set != "":
		spec := c.sets[r.Peer.Set]
		if spec == nil || spec.Family != c.family {
			c.problem(model.Key{}, "rule %q: no set of that family", r)
			return rule{}, false
		}
		out.set = setMatch{id: spec.ID, not: r.Peer.Not, address: peer, kindOf: spec.Kind}
		if spec.Kind == desired.AddressPorts {
			out.protocol, out.dport = spec.Protocol, portRange{}
			out.set.port, out.set.elements = destination, spec.Protocol
		}
	}
	return out, true
}

// peer makes the rule ask for addresses of the other side. Any address of the
// family is what the whole Ruleset is about.
func (r *rule) peer(block netip.Prefix, egress bool) {
	switch {
	case block.Bits() == 0:
	case egress:
		r.dst = block.Masked()
	default:
		r.src = block.Masked()
	}
}
