package index

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

func TestZeroViewIsEmpty(t *testing.T) {
	var v View
	_, endpoint := v.Endpoint(model.PodKey("a", "b", "c"))
	_, owner := v.Owner(netip.MustParseAddr("10.0.0.1"))
	_, namespace := v.Namespace(model.NamespaceKey("a", "b"))
	_, cluster := v.Cluster("a")
	_, members := v.Members(selector.All())
	if endpoint || owner || namespace || cluster || members || v.Len() != 0 || v.Counts("a").Pods != 0 {
		t.Error("something is known")
	}
	for range v.Endpoints() {
		t.Error("there is an endpoint")
	}
	for range v.Keys("a", model.KindPod) {
		t.Error("there is a key")
	}
	if New().View() != v {
		t.Error("that of a new index is not the zero value")
	}
}

func TestViewGivesWhatIsKnown(t *testing.T) {
	canada := remote("canada", func(c *model.Cluster) { c.Labels = labels("region", "eu") })
	shop := &model.Namespace{Key: model.NamespaceKey("canada", "shop"), Labels: labels("env", "prod")}
	x := worlds(canada, shop, pod("canada", "p", "10.1.0.1", "fd00::1"), node("canada", "n", "10.2.0.1"), west(), pod("west", "p", "10.0.0.1"))[0]
	v := x.View()
	keys := func(cluster string, kind model.Kind) []model.Key { return slices.Collect(v.Keys(cluster, kind)) }
	for kind, want := range map[model.Kind]model.Key{
		model.KindPod: model.PodKey("canada", "shop", "p"), model.KindNode: model.NodeKey("canada", "n"),
		model.KindNamespace: shop.Key, model.KindCluster: model.ClusterKey("canada"),
	} {
		if got := keys("canada", kind); len(got) != 1 || got[0] != want {
			t.Errorf("keys of %v: %v", kind, got)
		}
	}
	if got := append(keys("canada", model.KindPolicy), keys("gone", model.KindCluster)...); len(got) > 0 {
		t.Errorf("keys of what is unknown: %v", got)
	}
	c := v.Counts("canada")
	if c.Pods != 1 || c.Nodes != 1 || c.Namespaces != 1 || v.Len() != 3 {
		t.Errorf("counts %+v, Len %d", c, v.Len())
	}
	if n, ok := v.Namespace(shop.Key); !ok || n != shop {
		t.Error("no namespace")
	}
	if f, ok := v.Cluster("canada"); !ok || f != canada {
		t.Error("no cluster")
	}
	for text, want := range map[string]int{
		"all()": 3, "namespace.overland.dev/env == 'prod'": 1, "cluster.overland.dev/region == 'eu'": 2,
		"overland.dev/kind == 'Node'": 1, "overland.dev/namespace == 'shop'": 2, "!all()": 0,
	} {
		if got := len(slices.Collect(v.Select(parse(t, text).Compile()))); got != want {
			t.Errorf("%s selects %d, want %d", text, got, want)
		}
	}
	for range v.Select(selector.All().Compile()) {
		break // it must be possible, as of the others
	}
	e, _ := v.Owner(netip.MustParseAddr("fd00::1"))
	if s := v.Subject(e); s.NamespaceUnknown || s.Namespace != shop.Labels || s.Cluster != canada.Labels {
		t.Errorf("the subject is %+v", s)
	}
}

func TestNamespaceThatIsNotKnownHasItsNameOnly(t *testing.T) {
	x := New()
	name := parse(t, "overland.dev/namespace == 'shop'")
	absent := parse(t, "!has(namespace.overland.dev/env)")
	x.Track(name)
	x.Track(absent)
	for _, f := range []model.Fact{remote("canada"), pod("canada", "p", "10.1.0.1")} {
		x.Apply(model.Set(f))
	}
	v := x.View()
	if m, _ := v.Members(name); m.V4.Len() != 1 {
		t.Error("it is not found by its name")
	}
	e, _ := v.Endpoint(model.PodKey("canada", "shop", "p"))
	if s := v.Subject(e); !s.NamespaceUnknown || s.Namespace != (model.Labels{}) {
		t.Errorf("the subject is %+v", s)
	}
}

func TestValueOfAnotherKeyIsTakenAsNone(t *testing.T) {
	x := worlds(remote("canada"), pod("canada", "p", "10.1.0.1"))[0]
	x.Apply(model.Change{Key: model.PodKey("canada", "shop", "p"), Value: pod("canada", "other", "10.1.0.2")})
	if v := x.View(); v.Len() != 0 {
		t.Error("the pod is still there")
	}
}

func TestRangesContainWhatTheirPrefixesDo(t *testing.T) {
	of := prefixes("10.1.0.0/16", "10.1.2.0/24", "10.1.0.0/24", "10.3.0.0/16", "10.1.2.3/8", "fd00::/16", "fd00::/64", "192.168.1.1/32")
	r := newRanges(of[:4], of[4:], []netip.Prefix{{}})
	for _, text := range []string{
		"9.255.255.255", "10.0.0.0", "10.1.2.3", "10.255.255.255", "11.0.0.0", "192.168.1.0", "192.168.1.1", "192.168.1.2",
		"0.0.0.0", "255.255.255.255", "::", "fcff::1", "fd00::", "fd00:ffff::1", "fd01::", "::ffff:10.1.2.3",
	} {
		a := netip.MustParseAddr(text)
		if got, want := r.contains(a), within(a, of); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	}
	if newRanges().contains(netip.MustParseAddr("10.0.0.1")) {
		t.Error("no ranges contain an address")
	}
}
