package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// bed is a Set with an index, as an agent has them, and the facts that they know.
type bed struct {
	t     testing.TB
	set   *Set
	index *index.Index
	facts map[model.Key]model.Fact
	node  NodeFacts
	gen   uint64
	last  *desired.State
}

func emptyBed(t testing.TB, c Config) *bed {
	b := &bed{t: t, set: NewSet(c, "node-1"), index: index.New(), facts: map[model.Key]model.Fact{}, node: NodeFacts{Protected: true}}
	b.set.Node(b.node)
	return b
}

// newBed knows two clusters and two namespaces in each: shop with env=prod, ops
// with env=dev. Cluster west's node-1 is this node.
func newBed(t testing.TB, policies ...*model.Policy) *bed {
	c := west()
	c.ScopeOverride = OverridePolicy
	return newBedWith(t, c, policies...)
}

func newBedWith(t testing.TB, c Config, policies ...*model.Policy) *bed {
	b := emptyBed(t, c)
	b.tell(
		&model.Cluster{Name: "west", Local: true, Labels: c.ClusterLabels, InContact: true},
		&model.Cluster{Name: "canada", Created: 1, Labels: labelled("region=ca"), InContact: true, PodCIDRs: []netip.Prefix{prefix("10.9.0.0/16"), prefix("fd00:9::/64")}, NodeCIDRs: []netip.Prefix{prefix("10.8.0.0/16")}},
	)
	for _, cluster := range []string{"west", "canada"} {
		b.tell(ns(cluster, "shop", "env=prod"), ns(cluster, "ops", "env=dev"))
	}
	b.tell(
		podAt("west/node-1/shop/cart", "app=cart", "10.1.0.10 fd00:1::10", "http TCP 8080"),
		podAt("west/node-1/shop/db", "app=db; tier=", "10.1.0.11 fd00:1::11", "http TCP 9090; sql TCP 5432"),
		podAt("west/node-1/ops/admin", "app=admin", "10.1.0.12 fd00:1::12", "web TCP 80"),
		podAt("west/node-2/shop/web", "app=web", "10.1.1.20 fd00:1::1:20", "http TCP 8888; dns UDP 53"),
		podAt("west/node-2/ops/mon", "app=mon", "10.1.1.21 fd00:1::1:21", "http TCP 7070"),
		podAt("canada/n/shop/cart", "app=cart", "10.9.0.10 fd00:9::10", "http TCP 6060"),
		podAt("canada/n/ops/mon", "app=mon", "10.9.0.21 fd00:9::21", ""),
		nodeAt("west/node-1", "zone=a", "10.0.0.1"), nodeAt("west/node-2", "zone=b", "10.0.0.2"),
		nodeAt("canada/n", "zone=a", "10.8.0.1"),
	)
	for _, p := range policies {
		b.tell(p)
	}
	b.plug()
	return b
}

func labelled(text string) model.Labels {
	m := map[string]string{}
	for _, r := range *sel(text) {
		m[r.Key] = r.Values[0]
	}
	return model.NewLabels(m)
}

func ns(cluster, name, labels string) *model.Namespace {
	return &model.Namespace{Key: model.NamespaceKey(cluster, name), Labels: labelled(labels)}
}

func addresses(text string) (addrs []netip.Addr) {
	for _, a := range strings.Fields(text) {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs
}

func protocolOf(text string) model.Protocol {
	return map[string]model.Protocol{"TCP": model.TCP, "UDP": model.UDP, "SCTP": model.SCTP, "ICMP": 1}[text]
}

// podAt is a pod CLUSTER/NODE/NAMESPACE/NAME with ports "NAME PROTOCOL NUMBER; ...".
func podAt(at, labels, addrs, ports string) *model.Endpoint {
	words := strings.Split(at, "/")
	e := &model.Endpoint{
		Key: model.PodKey(words[0], words[2], words[3]), Node: words[1], Labels: labelled(labels),
		UID: model.ParseUID(at), ServiceAccount: "sa", Addresses: addresses(addrs),
	}
	for _, port := range strings.Split(ports, "; ") {
		if f := strings.Fields(port); len(f) == 3 {
			n, _ := strconv.Atoi(f[2])
			e.Ports = append(e.Ports, model.NamedPort{Name: f[0], Protocol: protocolOf(f[1]), Port: uint16(n)})
		}
	}
	return e
}

func nodeAt(at, labels, addrs string) *model.Endpoint {
	cluster, name, _ := strings.Cut(at, "/")
	return &model.Endpoint{Key: model.NodeKey(cluster, name), Node: name, Labels: labelled(labels), UID: model.ParseUID(at), Addresses: addresses(addrs)}
}

func (b *bed) apply(ch model.Change) {
	if ch.Value == nil {
		delete(b.facts, ch.Key)
	} else {
		b.facts[ch.Key] = ch.Value
	}
	if ch.Key.Kind != model.KindPolicy {
		b.index.Apply(ch)
	}
	b.set.Apply(ch)
}

func (b *bed) tell(facts ...model.Fact) {
	for _, f := range facts {
		b.apply(model.Set(f))
	}
}

func (b *bed) gone(key model.Key) { b.apply(model.Gone(key)) }

// plug gives each pod of this node its interface, and no others.
func (b *bed) plug() {
	b.node.Interfaces = plugs(b.facts)
	b.set.Node(b.node)
}

func plugs(facts map[model.Key]model.Fact) (all []model.Interface) {
	for key, f := range facts {
		if e, ok := f.(*model.Endpoint); ok && key.Kind == model.KindPod && key.Cluster == "west" && e.Node == "node-1" {
			addrs := slices.SortedFunc(slices.Values(e.Addresses), netip.Addr.Compare)
			all = append(all, model.Interface{Name: InterfaceName(key.Namespace, key.Name), Index: 1 + int(addrs[0].As16()[15]), Addrs: addrs})
		}
	}
	slices.SortFunc(all, func(a, b model.Interface) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// state makes the next State, which must be valid.
func (b *bed) state() *desired.State {
	b.t.Helper()
	track(b.set, b.index)
	view := b.index.View()
	b.gen++
	s := b.set.State(b.gen, view, b.index.TakeReleased())
	if s != b.last {
		if err := s.Validate(); err != nil {
			b.t.Fatalf("the State is not valid: %v\n%s", err, s.Text())
		}
	}
	b.last = s
	return s
}

func track(s *Set, x *index.Index) {
	track, untrack, trackPorts, untrackPorts := s.Update()
	for _, sel := range track {
		x.Track(sel)
	}
	for _, sel := range untrack {
		x.Untrack(sel)
	}
	for _, q := range trackPorts {
		x.TrackPorts(q)
	}
	for _, q := range untrackPorts {
		x.UntrackPorts(q)
	}
}

// place is where "shop/cart", "canada/shop/cart", "node", "node west/node-2" or an
// address is. A word after it, v6, takes the IPv6 address.
func (b *bed) place(text string) (desired.Place, netip.Addr) {
	text, v6 := strings.CutSuffix(text, " v6")
	if a, err := netip.ParseAddr(text); err == nil {
		return desired.Place{}, a
	}
	if text == "node" {
		return desired.Place{Node: true}, netip.MustParseAddr("10.0.0.1")
	}
	key := model.PodKey("west", "", "")
	if node, ok := strings.CutPrefix(text, "node "); ok {
		cluster, name, _ := strings.Cut(node, "/")
		key = model.NodeKey(cluster, name)
	} else {
		words := strings.Split(text, "/")
		if len(words) == 3 {
			key.Cluster, words = words[0], words[1:]
		}
		key.Namespace, key.Name = words[0], words[1]
	}
	e, ok := b.facts[key].(*model.Endpoint)
	if !ok {
		b.t.Fatalf("there is no %s", key)
	}
	p := desired.Place{}
	if key.Kind == model.KindPod && key.Cluster == "west" && e.Node == "node-1" {
		p.Interface = InterfaceName(key.Namespace, key.Name)
	}
	if v6 {
		return p, e.Addresses[1]
	}
	return p, e.Addresses[0]
}

// expect judges flows "FROM > TO PROTOCOL PORT: yes" by a new State; several
// protocols and ports may be given, separated by commas.
func (b *bed) expect(flows ...string) {
	b.t.Helper()
	s := b.state()
	for _, text := range flows {
		flow, want, ok := strings.Cut(text, ": ")
		from, rest, ok2 := strings.Cut(flow, " > ")
		words := strings.Fields(rest)
		if !ok || !ok2 || len(words) < 3 || want != "yes" && want != "no" {
			b.t.Fatalf("%q is no flow", text)
		}
		last := slices.IndexFunc(words, func(w string) bool { return protocolOf(w) != 0 })
		protocol := ""
		for _, one := range strings.Split(strings.Join(words[last:], " "), ",") {
			number := one
			if p, n, found := strings.Cut(one, " "); found {
				protocol, number = p, n
			}
			port, err := strconv.Atoi(number)
			if err != nil {
				b.t.Fatal(err)
			}
			f := desired.Flow{Protocol: protocolOf(protocol), SrcPort: 40000, DstPort: uint16(port)}
			f.From, f.Src = b.place(from)
			f.To, f.Dst = b.place(strings.Join(words[:last], " "))
			if v := s.Verdict(f); v.Allowed != (want == "yes") {
				b.t.Errorf("%s %s: got %v, by %+v\n%s", text, one, v.Allowed, v.Trail, s.Text())
			}
		}
	}
}

// np is a policy NAMESPACE/NAME for the pods; it isolates nothing yet.
func np(name, pods string) *model.Policy {
	namespace, name, _ := strings.Cut(name, "/")
	return &model.Policy{Key: model.PolicyKey("west", namespace, name), Pods: *sel(pods)}
}

func in(p *model.Policy, rules ...model.PolicyRule) *model.Policy {
	p.Ingress, p.IngressRules = true, rules
	return p
}

func out(p *model.Policy, rules ...model.PolicyRule) *model.Policy {
	p.Egress, p.EgressRules = true, rules
	return p
}

// on is a rule for ports "TCP 80; TCP 80-90; UDP; TCP http", all if there are
// none, and for peers, all if there are none.
func on(ports string, peers ...model.PolicyPeer) model.PolicyRule {
	r := model.PolicyRule{AnyPort: ports == "", AnyPeer: len(peers) == 0, Peers: peers}
	for _, text := range strings.Split(ports, "; ") {
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		p := model.PolicyPort{Protocol: protocolOf(words[0])}
		if len(words) == 2 {
			first, last, isRange := strings.Cut(words[1], "-")
			n, err := strconv.Atoi(first)
			if err != nil {
				p.Name = words[1]
			} else {
				p.First, p.Last = uint16(n), uint16(n)
			}
			if isRange && err == nil {
				m, _ := strconv.Atoi(last)
				p.Last = uint16(m)
			}
		}
		r.Ports = append(r.Ports, p)
	}
	return r
}

func spaces(namespaces string) model.PolicyPeer { return model.PolicyPeer{Namespaces: sel(namespaces)} }

func podsIn(pods, namespaces string) model.PolicyPeer {
	return model.PolicyPeer{Pods: sel(pods), Namespaces: sel(namespaces)}
}

func block(text string, except ...string) model.PolicyPeer {
	p := model.PolicyPeer{Block: netip.MustParsePrefix(text)}
	for _, e := range except {
		p.Except = append(p.Except, netip.MustParsePrefix(e))
	}
	return p
}

// problems are the messages of a Set's Problems, each with its kind.
func (b *bed) problems() (messages []string) {
	for _, p := range b.set.Problems() {
		messages = append(messages, fmt.Sprintf("%s %s: %s", p.Kind, p.Object, p.Message))
	}
	return messages
}

// expectProblems wants a Problem for each of the parts, in order, that has it.
func (b *bed) expectProblems(parts ...string) {
	b.t.Helper()
	b.state()
	got := b.problems()
	ok := len(got) == len(parts)
	for i := range parts {
		ok = ok && strings.Contains(got[i], parts[i])
	}
	if !ok {
		b.t.Errorf("problems:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(parts, "\n"))
	}
}

// factsInOrder are the facts of a bed, sorted.
func factsInOrder(facts map[model.Key]model.Fact) (all []model.Change) {
	for _, k := range slices.SortedFunc(maps.Keys(facts), compareKeys) {
		all = append(all, model.Set(facts[k]))
	}
	return all
}
