package index

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// These count what a change looks at. They do not measure time.

const many = 10_000

func parse(t *testing.T, text string) selector.Selector {
	t.Helper()
	s, err := selector.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func numbered(i int) string {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()
}

// evaluatedBy counts evaluations of selectors in f.
func evaluatedBy(x *Index, f func()) int {
	before := x.work.evaluated
	f()
	return x.work.evaluated - before
}

func TestChangedEndpointLooksAtFewSelectors(t *testing.T) {
	forms := map[string]string{
		"a value and a key of its own": "alpha == 'beta' && has(ipset-%d)",
		"a namespace each":             "overland.dev/kind == 'Pod' && overland.dev/cluster == 'canada' && overland.dev/namespace == 'ns-%d'",
		"a label in a namespace each":  "alpha == 'beta' && overland.dev/namespace == 'ns-%d'",
		"a namespace label each":       "overland.dev/kind == 'Pod' && namespace.overland.dev/team == 't-%d'",
		"one of two values each":       "alpha in {'beta-%[1]d', 'gamma-%[1]d'}",
		"a service account each":       "overland.dev/service-account == 'robot-%d' && alpha == 'beta'",
	}
	for what, form := range forms {
		t.Run(what, func(t *testing.T) {
			x := New()
			x.Apply(model.Set(remote("canada")))
			for i := range many {
				x.Track(parse(t, fmt.Sprintf(form, i)))
			}
			e := pod("canada", "p", "10.1.0.1")
			e.Key.Namespace, e.Labels, e.ServiceAccount = "ns-1", labels("alpha", "beta", "ipset-1", "true"), "robot-1"
			n := evaluatedBy(x, func() {
				x.Apply(model.Set(&model.Namespace{Key: model.NamespaceKey("canada", "ns-1"), Labels: labels("team", "t-1")}))
				x.Apply(model.Set(e))
			})
			// Of the first few, when every cover is as good as another one,
			// some are under what all have.
			if n > 5 {
				t.Errorf("an endpoint evaluates %d of %d selectors", n, many)
			}
			if n := evaluatedBy(x, func() { x.Apply(model.Gone(e.Key)) }); n > 0 {
				t.Errorf("its removal evaluates %d", n)
			}
		})
	}
}

func TestNewSelectorLooksAtFewEndpoints(t *testing.T) {
	x := New()
	x.Apply(model.Set(remote("canada")))
	x.Apply(model.Set(remote("norway", func(c *model.Cluster) { c.Labels = labels("region", "eu") })))
	for i := range many {
		e := pod("canada", fmt.Sprint("p", i), numbered(i))
		e.Key.Namespace = fmt.Sprint("ns-", i/10)
		e.Labels = labels("all", "same", "hundred", fmt.Sprint(i%100), "unique", fmt.Sprint(i))
		if i == 7 {
			e.Labels = labels("all", "same", "seventh", "yes")
			e.Key.Cluster = "norway"
		}
		x.Apply(model.Set(e))
	}
	for i := range many / 10 {
		x.Apply(model.Set(&model.Namespace{
			Key: model.NamespaceKey("canada", fmt.Sprint("ns-", i)), Labels: labels("team", fmt.Sprint(i), "env", "prod"),
		}))
	}
	tests := []struct {
		selector string
		visits   int
	}{
		{"unique == '5'", 1},
		{"all == 'same' && unique == '5'", 1},
		{"hundred == '5'", 100},
		{"has(seventh) && has(all)", 1},
		{"unique in {'1','2','3'} || has(seventh)", 4},
		{"all == 'same' && overland.dev/namespace == 'ns-5'", 10},
		{"all == 'same' && namespace.overland.dev/kubernetes.io/metadata.name == 'ns-5'", 10},
		{"namespace.overland.dev/env == 'prod' && namespace.overland.dev/team == '5'", 10},
		{"overland.dev/cluster == 'norway'", 1},
		{"cluster.overland.dev/region == 'eu' && has(all)", 1},
		{"overland.dev/kind == 'Node'", 0},
		{"overland.dev/unknown == 'x'", 0},
		{"!all()", 0},
		{"all()", many},
		{"all != 'same'", many},
	}
	for _, tt := range tests {
		if n := evaluatedBy(x, func() { x.Track(parse(t, tt.selector)) }); n != tt.visits {
			t.Errorf("%s looks at %d endpoints of %d, want %d", tt.selector, n, many, tt.visits)
		}
	}
}

func TestLabelsOfNamespacesAndClustersReachWhatMentionsThemOnly(t *testing.T) {
	x := New()
	x.Apply(model.Set(remote("canada")))
	namespace := func(pairs ...string) model.Change {
		return model.Set(&model.Namespace{Key: model.NamespaceKey("canada", "shop"), Labels: labels(pairs...)})
	}
	x.Apply(namespace("env", "test"))
	for i := range 10 {
		x.Apply(model.Set(pod("canada", fmt.Sprint("p", i), numbered(i))))
	}
	for i := range many {
		x.Track(parse(t, fmt.Sprintf("app == 'p%d' || app == 'x' && namespace.overland.dev/team == 'y'", i)))
	}
	x.Track(parse(t, "namespace.overland.dev/env == 'prod'"))
	x.Track(parse(t, "app == 'p1' && namespace.overland.dev/env != 'prod'"))
	if n := evaluatedBy(x, func() { x.Apply(namespace("env", "test", "unheard-of", "x")) }); n > 0 {
		t.Errorf("a label that no selector mentions evaluates %d", n)
	}
	if n := evaluatedBy(x, func() { x.Apply(namespace("env", "prod")) }); n > 11 {
		t.Errorf("two selectors, one of them for one of ten pods, are evaluated %d times", n)
	}
	if m, _ := x.View().Members(parse(t, "namespace.overland.dev/env == 'prod'")); m.V4.Len() != 10 {
		t.Errorf("%d members", m.V4.Len())
	}
	region := func(l model.Labels) func() {
		return func() { x.Apply(model.Set(remote("canada", func(c *model.Cluster) { c.Labels = l }))) }
	}
	if n := evaluatedBy(x, region(labels("region", "eu"))); n > 0 {
		t.Errorf("a cluster label that no selector mentions evaluates %d", n)
	}
}

func TestContactCostsContestedAddressesOnly_1_5(t *testing.T) {
	x := New()
	x.Apply(model.Set(remote("canada", created(1))))
	x.Apply(model.Set(remote("norway", created(2), podRanges("10.0.0.0/8"))))
	x.Track(selector.All())
	for i := range many {
		x.Apply(model.Set(pod("canada", fmt.Sprint("p", i), numbered(i))))
		x.Apply(model.Set(pod("norway", fmt.Sprint("refused", i), fmt.Sprintf("192.168.%d.%d", i>>8, i&255))))
	}
	for i := range 3 {
		x.Apply(model.Set(pod("norway", fmt.Sprint("p", i), numbered(i))))
	}
	x.View()
	before := x.work.judged
	n := evaluatedBy(x, func() { x.Apply(model.Set(remote("norway", created(2), podRanges("10.0.0.0/8"), stale))) })
	if judged := x.work.judged - before; judged != 6 || n > 0 {
		t.Errorf("judged %d claims, evaluated %d selectors; there are 3 addresses with 2 claims", judged, n)
	}
}

func TestNamedPortCostsWhatHasIt_2_9(t *testing.T) {
	x := New()
	x.Apply(model.Set(remote("canada")))
	web := []model.NamedPort{{Name: "web", Protocol: model.TCP, Port: 80}}
	for i := range many {
		e := pod("canada", fmt.Sprint("p", i), numbered(i))
		e.Labels = labels("all", "same", "hundred", fmt.Sprint(i%100))
		if i%10 == 5 { // and so all of whose label ends on 5
			e.Ports = web
		}
		x.Apply(model.Set(e))
	}
	ask := func(s, port string) func() {
		return func() { x.TrackPorts(PortQuery{parse(t, s), port, model.TCP}) }
	}
	for _, tt := range []struct {
		what   string
		visits int
		do     func()
	}{
		{"a cover with few endpoints that have it", 100, ask("hundred == '5'", "web")},
		{"a cover with endpoints that do not", 0, ask("hundred == '6'", "web")},
		{"a name that none has, of all", 0, ask("all()", "none")},
		{"a selector", 100, func() { x.Track(parse(t, "hundred == '15'")) }},
		{"a selector that is tracked", 0, ask("hundred == '15'", "web")},
		{"another name with it", 0, ask("hundred == '15'", "dns")},
	} {
		if n := evaluatedBy(x, tt.do); n != tt.visits {
			t.Errorf("%s evaluates %d, want %d", tt.what, n, tt.visits)
		}
	}
}

func TestChangedPortReachesQueriesForItOnly_2_9(t *testing.T) {
	x := New()
	x.Apply(model.Set(remote("canada")))
	for i := range many {
		s := parse(t, fmt.Sprintf("alpha == 'beta' && has(ipset-%d)", i%5000))
		x.TrackPorts(PortQuery{s, "dns", model.TCP})
		x.TrackPorts(PortQuery{s, "dns", model.UDP})
		x.Track(parse(t, fmt.Sprintf("alpha == 'beta' && has(plain-%d)", i)))
	}
	asked := PortQuery{parse(t, "alpha == 'beta' && has(ipset-1)"), "web", model.TCP}
	x.TrackPorts(asked)
	set := func(l model.Labels, ports ...model.NamedPort) func() {
		return func() {
			e := pod("canada", "p", "10.1.0.1")
			e.Labels, e.Ports = l, ports
			x.Apply(model.Set(e))
		}
	}
	with := labels("alpha", "beta", "ipset-1", "true", "ipset-2", "true")
	without := labels("alpha", "beta", "ipset-2", "true")
	port := func(name string, number uint16) model.NamedPort {
		return model.NamedPort{Name: name, Protocol: model.TCP, Port: number}
	}
	for _, tt := range []struct {
		what    string
		most    int
		do      func()
		numbers []uint16
	}{
		{"a pod without ports", 0, set(with), nil},
		{"a port that no query is for", 0, set(with, port("other", 1)), nil},
		{"one that a query is for", 1, set(with, port("web", 80)), []uint16{80}},
		{"another number", 1, set(with, port("web", 81)), []uint16{81}},
		{"two numbers", 1, set(with, port("web", 81), port("web", 82)), []uint16{81, 82}},
		{"a label", 2, set(without, port("web", 81)), nil},
		{"the label is back", 2, set(with, port("web", 81)), []uint16{81}},
	} {
		if n := evaluatedBy(x, tt.do); n > tt.most {
			t.Errorf("%s evaluates %d of %d", tt.what, n, 3*many)
		}
		m, _ := x.View().PortMembers(asked)
		if m.V4.Len() != len(tt.numbers) {
			t.Errorf("%s: %d members", tt.what, m.V4.Len())
		}
		for _, number := range tt.numbers {
			if !m.V4.Has(netip.AddrPortFrom(netip.MustParseAddr("10.1.0.1"), number)) {
				t.Errorf("%s: %d is missing", tt.what, number)
			}
		}
	}
}

// That a selector is evaluated once for all that is asked with it.
func TestSelectorWithPortsIsEvaluatedOnce(t *testing.T) {
	x := New()
	x.Apply(model.Set(remote("canada")))
	s := parse(t, "app == 'p'")
	x.Track(s)
	for i := range 100 {
		x.TrackPorts(PortQuery{s, fmt.Sprint("port-", i), model.TCP})
	}
	e := pod("canada", "p", "10.1.0.1")
	for i := range 3 {
		e.Ports = append(e.Ports, model.NamedPort{Name: fmt.Sprint("port-", i), Protocol: model.TCP, Port: 80})
	}
	if n := evaluatedBy(x, func() { x.Apply(model.Set(e)) }); n != 1 {
		t.Errorf("evaluated %d times", n)
	}
	moved := *e
	moved.Addresses, moved.Ports = addrs("10.1.0.2"), e.Ports[:2]
	if n := evaluatedBy(x, func() { x.Apply(model.Set(&moved)) }); n != 0 {
		t.Errorf("another address and a port less: evaluated %d times", n)
	}
	m, _ := x.View().PortMembers(PortQuery{s, "port-1", model.TCP})
	if !m.V4.Has(netip.MustParseAddrPort("10.1.0.2:80")) || m.V4.Len() != 1 {
		t.Errorf("%d members", m.V4.Len())
	}
}

func TestChangedCostsWhatDiffers(t *testing.T) {
	x := New()
	x.Apply(model.Set(remote("canada")))
	for i := range many {
		x.Apply(model.Set(pod("canada", fmt.Sprint("p", i), numbered(i))))
		x.Track(parse(t, fmt.Sprintf("app == 'p%d'", i)))
	}
	old := x.View()
	x.TakeReleased()
	x.Apply(model.Set(pod("canada", "p7", "10.200.0.1")))
	now := x.View()
	if got := slices.Collect(Changed(old, now)); len(got) != 1 || got[0] != parse(t, "app == 'p7'") {
		t.Errorf("changed are %v", got)
	}
	compared := 0
	for range changed(old.now().members, now.now().members, func(Members, Members) bool { compared++; return false }) {
	}
	if compared != 1 {
		t.Errorf("compared the members of %d selectors of %d", compared, many)
	}
	if released := x.TakeReleased(); len(released) != 1 || released[0] != netip.MustParseAddr(numbered(7)) {
		t.Errorf("released are %v", released)
	}
}

func TestWhatIsEqualChangesNothing(t *testing.T) {
	x := New()
	facts := func() []model.Fact {
		e := pod("canada", "p", "10.1.0.1")
		e.Ports = []model.NamedPort{{Name: "web", Protocol: model.TCP, Port: 80}}
		return []model.Fact{
			remote("canada", podRanges("10.1.0.0/16")), e, node("canada", "n", "10.1.0.2"),
			&model.Namespace{Key: model.NamespaceKey("canada", "shop"), Labels: labels("env", "prod")},
		}
	}
	for _, f := range facts() {
		x.Apply(model.Set(f))
	}
	v := x.View()
	for _, f := range facts() { // others of the same content, as a new list gives
		x.Apply(model.Set(f))
	}
	for _, k := range []model.Key{model.PodKey("gone", "a", "b"), model.NamespaceKey("gone", "a"), model.ClusterKey("gone"), model.PodKey("canada", "shop", "none")} {
		x.Apply(model.Gone(k))
	}
	x.Apply(model.Set(&model.Policy{Key: model.PolicyKey("canada", "shop", "p")}))
	x.Untrack(selector.Has("never"))
	x.UntrackPorts(PortQuery{selector.Has("never"), "web", model.TCP})
	if released := x.TakeReleased(); len(released) > 0 {
		t.Errorf("released are %v", released)
	}
	if x.View() != v {
		t.Error("the view is another one")
	}
}
