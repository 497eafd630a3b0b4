package desired

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// listVersion is that of the form of List.Text. Another one gives other texts
// to equal rules, and so other names to what is made of them.
const listVersion = "v1"

// NewList is rules in canonical order, each once: rules for any peer first, then
// blocks, then sets, so that what is cheap to ask is asked first; among these by
// family, protocol, ports and peer. It does not keep rules.
func NewList(rules []Rule) *List {
	sorted := slices.SortedFunc(slices.Values(rules), Rule.Compare)
	sorted = slices.Compact(sorted)
	return &List{Text: listText(sorted), Rules: sorted}
}

func listText(rules []Rule) string {
	var b strings.Builder
	b.WriteString(listVersion + "\n")
	for _, r := range rules {
		b.WriteString(r.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Index is where a rule is in the list; -1 if it is not.
func (l *List) Index(r Rule) int {
	i, found := slices.BinarySearchFunc(l.Rules, r, Rule.Compare)
	if !found {
		return -1
	}
	return i
}

// Compare is the canonical order of rules: negative if r comes before o.
func (r Rule) Compare(o Rule) int {
	return cmp.Or(
		cmp.Compare(r.Peer.class(), o.Peer.class()),
		cmp.Compare(r.Family, o.Family),
		cmp.Compare(r.Protocol, o.Protocol),
		cmp.Compare(r.First, o.First),
		cmp.Compare(r.Last, o.Last),
		r.Peer.Block.Compare(o.Peer.Block),
		cmp.Compare(r.Peer.Set, o.Peer.Set),
		compareBool(r.Peer.Not, o.Peer.Not),
	)
}

// class is how dear it is to ask for the peer.
func (p Peer) class() int {
	switch {
	case p == Peer{}:
		return 0
	case p.Set == "":
		return 1
	}
	return 2
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// AllPorts tells whether the rule is about all ports of its protocol.
func (r Rule) AllPorts() bool { return r.First == 0 && r.Last == 0 }

// String is the rule in canonical form, one line: the family, protocol, ports
// and peer that it names, "all" if it names none. Rules that differ have
// different forms.
func (r Rule) String() string {
	var parts []string
	if r.Family != AnyFamily {
		parts = append(parts, r.Family.String())
	}
	if r.Protocol != 0 {
		parts = append(parts, protocolText(r.Protocol))
	}
	switch {
	case r.AllPorts():
	case r.First == r.Last:
		parts = append(parts, strconv.Itoa(int(r.First)))
	default:
		parts = append(parts, fmt.Sprintf("%d-%d", r.First, r.Last))
	}
	if r.Peer != (Peer{}) {
		parts = append(parts, r.Peer.String())
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, " ")
}

// String is the peer in canonical form: "any", a block, "in SET" or "not in SET".
func (p Peer) String() string {
	if p == (Peer{}) {
		return "any"
	}
	var parts []string
	if p.Block != (netip.Prefix{}) {
		parts = append(parts, p.Block.String())
	}
	if p.Not {
		parts = append(parts, "not")
	}
	if p.Set != "" || p.Not {
		parts = append(parts, "in "+string(p.Set))
	}
	return strings.Join(parts, " ")
}

// String is NAMESPACE/NAME of the policy and the indexes, as in
// "shop/allow-web rule 0 peer 1 port 2". Whoever knows the direction can say it
// in the names of the policy's fields.
func (o Origin) String() string {
	s := fmt.Sprintf("%s/%s rule %d", o.Policy.Namespace, o.Policy.Name, o.Rule)
	if o.Peer >= 0 {
		s += fmt.Sprintf(" peer %d", o.Peer)
	}
	if o.Port >= 0 {
		s += fmt.Sprintf(" port %d", o.Port)
	}
	return s
}

// Compare is the order of origins: by policy, then by the indexes.
func (o Origin) Compare(p Origin) int {
	return cmp.Or(
		CompareKeys(o.Policy, p.Policy),
		cmp.Compare(o.Rule, p.Rule),
		cmp.Compare(o.Peer, p.Peer),
		cmp.Compare(o.Port, p.Port),
	)
}

// CompareKeys is the order of Side.Policies and of origins: by cluster,
// namespace, name and kind.
func CompareKeys(a, b model.Key) int {
	return cmp.Or(
		strings.Compare(a.Cluster, b.Cluster),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name),
		cmp.Compare(a.Kind, b.Kind),
	)
}

// String is the name that people know.
func (f Family) String() string {
	switch f {
	case AnyFamily:
		return "any"
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return fmt.Sprintf("family(%d)", uint8(f))
}

// String is the kind in words.
func (k SetKind) String() string {
	switch k {
	case Addresses:
		return "addresses"
	case AddressPorts:
		return "addresses with ports"
	case Networks:
		return "networks"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// HasPorts tells whether a protocol is one of those that have ports here.
func HasPorts(p model.Protocol) bool {
	return p == model.TCP || p == model.UDP || p == model.SCTP
}

func protocolText(p model.Protocol) string {
	if HasPorts(p) {
		return p.String()
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}
