package index

import (
	"fmt"
	"net/netip"
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
	if x.View() != v {
		t.Error("the view is another one")
	}
}
