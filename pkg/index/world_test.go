package index

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// chance is where a random world comes from: a generator, or a fuzzer's bytes.
type chance interface{ IntN(n int) int }

// bytesChance draws from bytes, and zeros when they are used up.
type bytesChance []byte

func (b *bytesChance) IntN(n int) int {
	if len(*b) == 0 {
		return 0
	}
	v := int((*b)[0])
	*b = (*b)[1:]
	return v % n
}

func pick[T any](c chance, of ...T) T { return of[c.IntN(len(of))] }

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

func labels(pairs ...string) model.Labels {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return model.NewLabels(m)
}

// The worlds are small, so that everything collides with everything.

func someAddress(c chance) netip.Addr {
	return netip.MustParseAddr(pick(c,
		"10.0.0.1", "10.0.0.2", "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.2.0.1", "10.2.0.2", "192.168.0.1",
		"fd00::1", "fd00::2", "fd01::1", "127.0.0.1", "168.63.129.16", "fe80::1"))
}

func someLabels(c chance) model.Labels {
	m := map[string]string{}
	for _, k := range []string{"app", "tier", "x"} {
		if v := pick(c, "", "a", "b", "c"); v != "" {
			m[k] = v
		}
	}
	return model.NewLabels(m)
}

func someCluster(c chance) string { return pick(c, "west", "canada", "norway") }

func someChange(c chance) model.Change {
	cluster := someCluster(c)
	gone := c.IntN(4) == 0
	var f model.Fact
	switch c.IntN(10) {
	case 0:
		f = someClusterFact(c, cluster)
		gone = gone && c.IntN(2) == 0
	case 1, 2:
		name := pick(c, "shop", "bank")
		l := map[string]string{model.KeyNamespaceName: name}
		maps.Insert(l, someLabels(c).All())
		f = &model.Namespace{Key: model.NamespaceKey(cluster, name), Labels: model.NewLabels(l), PeerScope: pick(c, "", "mesh")}
	case 3:
		f = someEndpoint(c, model.NodeKey(cluster, pick(c, "n1", "n2")))
	default:
		f = someEndpoint(c, model.PodKey(cluster, pick(c, "shop", "bank"), pick(c, "p1", "p2", "p3", "p4")))
	}
	if gone {
		return model.Gone(f.FactKey())
	}
	return model.Set(f)
}

func someClusterFact(c chance, name string) *model.Cluster {
	f := &model.Cluster{
		Name: name, Local: name == "west", Created: int64(c.IntN(3)), InContact: c.IntN(2) == 0,
		Labels: labels("region", pick(c, "eu", "us")),
	}
	if f.Local {
		f.PodCIDRs = pick(c, nil, prefixes("10.0.0.0/16"), prefixes("10.0.0.0/8", "10.0.0.0/16", "fd00::/16"))
		return f
	}
	f.PodCIDRs = pick(c, nil, nil, prefixes("10.1.0.0/16"), prefixes("10.1.0.0/16", "10.2.0.0/16", "fd01::/16"))
	f.NodeCIDRs = pick(c, nil, nil, prefixes("10.1.0.0/24", "10.2.0.0/24"))
	return f
}

func someEndpoint(c chance, k model.Key) *model.Endpoint {
	e := &model.Endpoint{
		Key: k, Labels: someLabels(c), UID: model.UID{byte(c.IntN(3))}, Created: int64(c.IntN(3)),
		Terminating: c.IntN(4) == 0, Node: pick(c, "n1", "n2"),
	}
	if k.Kind == model.KindPod {
		e.ServiceAccount = pick(c, "default", "robot")
	}
	// A node may say that it has ports: it has none.
	for _, p := range []model.NamedPort{
		{Name: "dns", Protocol: model.TCP, Port: 53},
		{Name: "web", Protocol: model.TCP, Port: 80},
		{Name: "web", Protocol: model.TCP, Port: 8080},
		{Name: "web", Protocol: model.UDP, Port: 80},
	} {
		if c.IntN(3) == 0 {
			e.Ports = append(e.Ports, p)
		}
	}
	for range 1 + c.IntN(2) {
		if a := someAddress(c); !slices.Contains(e.Addresses, a) {
			e.Addresses = append(e.Addresses, a)
		}
	}
	return e
}

// someVariant is an endpoint that is known, with one thing changed.
func someVariant(c chance, facts map[model.Key]model.Fact) (model.Change, bool) {
	var known []*model.Endpoint
	for _, f := range facts {
		if e, ok := f.(*model.Endpoint); ok {
			known = append(known, e)
		}
	}
	if len(known) == 0 {
		return model.Change{}, false
	}
	slices.SortFunc(known, func(a, b *model.Endpoint) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	e := *pick(c, known...)
	other := someEndpoint(c, e.Key)
	switch c.IntN(5) {
	case 0:
		e.Labels = other.Labels
	case 1:
		e.Addresses = other.Addresses
	case 2:
		e.UID = other.UID
	default:
		e.Ports = other.Ports
	}
	return model.Set(&e), true
}

// someSelectors has all forms of cover, and selectors without any.
func someSelectors() []selector.Selector {
	var all []selector.Selector
	for _, text := range []string{
		"all()", "!all()", "app == 'a'", "app != 'a'", "has(tier)", "!has(tier)", "app in {'a','b'} && tier == 'c'",
		"app == 'a' && x == 'a'", "app == 'a' && has(x)", "app == 'a' || tier == 'b'", "app == 'a' || tier != 'b'",
		"overland.dev/cluster == 'canada'", "overland.dev/cluster not in {'canada'}", "has(overland.dev/cluster)",
		"overland.dev/kind == 'Node'", "overland.dev/kind == 'Pod' && app == 'a'", "overland.dev/kind == 'Node' && app == 'a'",
		"overland.dev/namespace == 'shop'", "overland.dev/namespace == 'shop' && overland.dev/cluster == 'west'",
		"has(overland.dev/namespace)", "!has(overland.dev/namespace)", "overland.dev/service-account == 'robot'",
		"has(overland.dev/service-account) && tier == 'a'", "overland.dev/unknown == 'a' || app == 'b'", "has(overland.dev/unknown)",
		"namespace.overland.dev/app == 'a'", "namespace.overland.dev/app != 'a'", "has(namespace.overland.dev/tier) && app == 'a'",
		"namespace.overland.dev/kubernetes.io/metadata.name == 'shop'", "has(namespace.overland.dev/kubernetes.io/metadata.name)",
		"!has(namespace.overland.dev/x) && has(namespace.overland.dev/kubernetes.io/metadata.name)",
		"cluster.overland.dev/region == 'eu'", "cluster.overland.dev/region == 'us' && tier == 'a'", "has(cluster.overland.dev/region)",
		"!has(cluster.overland.dev/region)", "app starts with 'a'", "app contains 'b' && namespace.overland.dev/tier in {'a','b'}",
	} {
		s, err := selector.Parse(text)
		if err != nil {
			panic(fmt.Sprintf("%s: %v", text, err))
		}
		all = append(all, s)
	}
	return all
}

// someQueries has queries for selectors that are in someSelectors, and for others.
func someQueries() []PortQuery {
	var all []PortQuery
	for i, s := range someSelectors() {
		if i%3 == 0 {
			all = append(all, PortQuery{s, "web", model.TCP})
		}
		if i%4 == 0 {
			all = append(all, PortQuery{s, "web", model.UDP}, PortQuery{s, "dns", model.TCP})
		}
	}
	web := func(s selector.Selector) PortQuery { return PortQuery{s, "web", model.TCP} }
	return append(all, web(selector.Has("x")), web(selector.Has("namespace.overland.dev/x")),
		PortQuery{selector.All(), "dns", model.UDP}, PortQuery{selector.All(), "none", model.TCP})
}

func compareAnswers(t *testing.T, what string, got, want answer) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return // much faster, and mostly so
	}
	options := cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b owner) bool { return a == b }),
		cmp.Comparer(func(a, b PortQuery) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b model.Labels) bool { return a == b }),
		cmp.Comparer(func(a, b selector.Selector) bool { return a == b }),
		cmpopts.EquateEmpty(),
	}
	if d := cmp.Diff(want, got, options); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

// checkView compares a View with what it should say.
func checkView(t *testing.T, what string, v View, want answer) {
	t.Helper()
	got := read(v)
	compareAnswers(t, what, got, want)
	owners := 0
	for a, e := range v.now().owners.All() {
		owners++
		if o := want.Owners[a]; o.key != e.Key {
			t.Fatalf("%s: the owner of %v is %v, want %v", what, a, e.Key, o.key)
		}
		if of, ok := v.Endpoint(e.Key); !ok || of != e {
			t.Fatalf("%s: the owner of %v is another version of %v", what, a, e.Key)
		}
	}
	if owners != len(want.Owners) || v.Len() != len(want.Endpoints) {
		t.Fatalf("%s: %d owners, Len %d; want %d, %d", what, owners, v.Len(), len(want.Owners), len(want.Endpoints))
	}
}

// checkInside checks what a View does not show: that nothing is left behind.
func checkInside(t *testing.T, x *Index) {
	t.Helper()
	claims := map[netip.Addr]int{}
	for n := range x.slots {
		if e := x.slots[n].entry; e != nil {
			for i := range addresses(e.Endpoint) {
				claims[e.Addresses[i]]++
			}
		}
	}
	for a, list := range x.ledger.contested {
		if len(list) < 2 || len(list) != claims[a] {
			t.Fatalf("%d of %d claims on %v are in the ledger", len(list), claims[a], a)
		}
	}
	for a, n := range x.ledger.lone {
		if claims[a] != 1 || x.slots[n].entry.Owns(a) {
			t.Fatalf("%v is in the ledger for one claim that does not hold; it has %d", a, claims[a])
		}
	}
	if len(x.work.touched) > 0 || len(x.work.additions)+len(x.work.portAdditions) > 0 {
		t.Fatal("work is left undone")
	}
	if x.size > 0 || len(x.tracked) > 0 || len(x.clusters) > 0 {
		return
	}
	live := len(x.labels.keys) + len(x.spaceLabels.keys) + len(x.clusterLabels.keys) + len(x.mentioned.space) + len(x.mentioned.cluster) + len(x.mentioned.ports) +
		len(x.ledger.contested) + len(x.ledger.lone) + len(x.unindexed)
	if live > 0 || len(x.freeSlots) != len(x.slots) || len(x.freeSpaces) != len(x.spaces) {
		t.Fatalf("an index of nothing keeps something: %+v", x)
	}
}
