package index

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// The worlds of these tests: west is local, canada and norway are remotes.

func west() *model.Cluster {
	return &model.Cluster{Name: "west", Local: true, PodCIDRs: prefixes("10.0.0.0/16"), NodeCIDRs: prefixes("10.9.0.0/16")}
}

func remote(name string, change ...func(*model.Cluster)) *model.Cluster {
	c := &model.Cluster{Name: name, InContact: true}
	for _, f := range change {
		f(c)
	}
	return c
}

func podRanges(texts ...string) func(*model.Cluster) {
	return func(c *model.Cluster) { c.PodCIDRs = prefixes(texts...) }
}

func nodeRanges(texts ...string) func(*model.Cluster) {
	return func(c *model.Cluster) { c.NodeCIDRs = prefixes(texts...) }
}

func created(at int64) func(*model.Cluster) {
	return func(c *model.Cluster) { c.Created = at }
}

func stale(c *model.Cluster) { c.InContact = false }

func pod(cluster, name string, address ...string) *model.Endpoint {
	return &model.Endpoint{Key: model.PodKey(cluster, "shop", name), Addresses: addrs(address...), Labels: labels("app", name)}
}

func node(cluster, name string, address ...string) *model.Endpoint {
	return &model.Endpoint{Key: model.NodeKey(cluster, name), Addresses: addrs(address...)}
}

func with(e *model.Endpoint, change func(*model.Endpoint)) *model.Endpoint {
	change(e)
	return e
}

// world is an index of facts, given in both orders.
func worlds(facts ...model.Fact) []*Index {
	forth, back := New(), New()
	for i := range facts {
		forth.Apply(model.Set(facts[i]))
		back.Apply(model.Set(facts[len(facts)-1-i]))
	}
	return []*Index{forth, back}
}

func TestWhoOwnsAnAddress_1_5(t *testing.T) {
	const a = "10.1.0.1"
	terminating := func(e *model.Endpoint) { e.Terminating = true }
	older := func(e *model.Endpoint) { e.Created = -1 }
	tests := []struct {
		name  string
		facts []model.Fact
		owner model.Key              // zero: nobody
		loser model.Key              // zero: nobody
		why   model.RefusalReason    // of the loser
		by    func(k model.Key) bool // nil: the owner
	}{
		{
			"one claim, ranges unknown",
			[]model.Fact{remote("canada"), pod("canada", "p", a)},
			model.PodKey("canada", "shop", "p"),
			model.Key{},
			"", nil,
		},
		{
			"a pod of an unknown cluster owns nothing",
			[]model.Fact{pod("canada", "p", a)},
			model.Key{},
			model.Key{},
			"", nil,
		},
		{
			"local first, whatever speaks for the remote",
			[]model.Fact{west(), remote("canada", podRanges("10.1.0.0/16"), created(-5)), with(pod("west", "p", a), terminating), pod("canada", "p", a)},
			model.PodKey("west", "shop", "p"), model.PodKey("canada", "shop", "p"), model.RefusedDuplicate, nil,
		},
		{
			"a remote's node does not take a local pod's address",
			[]model.Fact{west(), remote("canada"), pod("west", "p", a), node("canada", "n", a)},
			model.PodKey("west", "shop", "p"), model.NodeKey("canada", "n"), model.RefusedDuplicate, nil,
		},
		{
			"declared range before none, even if stale and newer",
			[]model.Fact{remote("canada", podRanges("10.1.0.0/16"), created(5), stale), remote("norway"), pod("canada", "p", a), pod("norway", "p", a)},
			model.PodKey("canada", "shop", "p"), model.PodKey("norway", "shop", "p"), model.RefusedDuplicate, nil,
		},
		{
			"declared range before another remote's node without one",
			[]model.Fact{remote("canada", podRanges("10.1.0.0/16")), remote("norway"), pod("canada", "p", a), node("norway", "n", a)},
			model.PodKey("canada", "shop", "p"), model.NodeKey("norway", "n"), model.RefusedDuplicate, nil,
		},
		{
			"in contact before stale, even if newer",
			[]model.Fact{remote("canada", created(1), stale), remote("norway", created(2)), pod("canada", "p", a), pod("norway", "p", a)},
			model.PodKey("norway", "shop", "p"), model.PodKey("canada", "shop", "p"), model.RefusedDuplicate, nil,
		},
		{
			"current before terminating, even of a newer cluster",
			[]model.Fact{remote("canada", created(1)), remote("norway", created(2)), with(pod("canada", "p", a), terminating), pod("norway", "p", a)},
			model.PodKey("norway", "shop", "p"), model.PodKey("canada", "shop", "p"), model.RefusedDuplicate, nil,
		},
		{
			"the older RemoteCluster, whatever the clocks of remotes say",
			[]model.Fact{remote("canada", created(2)), remote("norway", created(1)), pod("canada", "p", a), with(pod("norway", "p", a), older)},
			model.PodKey("norway", "shop", "p"), model.PodKey("canada", "shop", "p"), model.RefusedDuplicate, nil,
		},
		{
			"the first name of equally old ones",
			[]model.Fact{remote("canada"), remote("norway"), pod("canada", "p", a), pod("norway", "p", a)},
			model.PodKey("canada", "shop", "p"), model.PodKey("norway", "shop", "p"), model.RefusedDuplicate, nil,
		},
		{
			"inside one cluster the newer pod",
			[]model.Fact{remote("canada"), with(pod("canada", "a", a), older), pod("canada", "b", a)},
			model.PodKey("canada", "shop", "b"), model.PodKey("canada", "shop", "a"), model.RefusedDuplicate, nil,
		},
		{
			"inside one cluster current before terminating",
			[]model.Fact{west(), with(pod("west", "a", a), older), with(pod("west", "b", a), terminating)},
			model.PodKey("west", "shop", "a"), model.PodKey("west", "shop", "b"), model.RefusedDuplicate, nil,
		},
		{
			"then the uid",
			[]model.Fact{
				remote("canada"), with(pod("canada", "a", a), func(e *model.Endpoint) { e.UID = model.UID{2} }),
				with(pod("canada", "b", a), func(e *model.Endpoint) { e.UID = model.UID{1} }),
			},
			model.PodKey("canada", "shop", "b"), model.PodKey("canada", "shop", "a"), model.RefusedDuplicate, nil,
		},
		{
			"a pod's claim on a node address of its own cluster",
			[]model.Fact{remote("canada", podRanges("10.0.0.0/8")), pod("canada", "p", a), node("canada", "n", a)},
			model.NodeKey("canada", "n"), model.PodKey("canada", "shop", "p"), model.RefusedNodeAddress, nil,
		},
		{
			"a pod's claim on a node address of another remote",
			[]model.Fact{remote("canada"), remote("norway", created(9), stale), pod("canada", "p", a), node("norway", "n", a)},
			model.NodeKey("norway", "n"), model.PodKey("canada", "shop", "p"), model.RefusedNodeAddress, nil,
		},
		{
			"a local pod's claim on a local node address",
			[]model.Fact{west(), pod("west", "p", a), node("west", "n", a)},
			model.NodeKey("west", "n"), model.PodKey("west", "shop", "p"), model.RefusedNodeAddress, nil,
		},
		{
			"a node that is refused keeps no pod from its address",
			[]model.Fact{remote("canada", podRanges("10.0.0.0/8"), nodeRanges("10.8.0.0/16")), pod("canada", "p", a), node("canada", "n", a)},
			model.PodKey("canada", "shop", "p"), model.NodeKey("canada", "n"), model.RefusedOutsideRanges, func(k model.Key) bool { return k == model.Key{} },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, x := range worlds(tt.facts...) {
				x.Track(selector.All())
				v := x.View()
				var got model.Key
				if e, ok := v.Owner(netip.MustParseAddr(a)); ok {
					got = e.Key
				}
				if got != tt.owner {
					t.Fatalf("the owner is %v, want %v", got, tt.owner)
				}
				if m, _ := v.Members(selector.All()); m.V4.Has(netip.MustParseAddr(a)) != (tt.owner != model.Key{}) {
					t.Error("the set of all says otherwise")
				}
				refused := 0
				for e := range v.Endpoints() {
					for _, r := range e.Refused {
						refused++
						by := tt.by == nil && r.By == tt.owner || tt.by != nil && tt.by(r.By)
						if e.Key != tt.loser || r.Reason != tt.why || !by || e.Owns(r.Address) {
							t.Errorf("%v is refused: %+v", e.Key, r)
						}
					}
				}
				if (refused > 0) != (tt.loser != model.Key{}) {
					t.Errorf("%d claims are refused", refused)
				}
				if want := min(refused, 1); refused > 0 && v.Counts(tt.loser.Cluster).Refused[tt.why] != want {
					t.Errorf("counted %v", v.Counts(tt.loser.Cluster).Refused)
				}
			}
		})
	}
}

func TestRemoteClaimsThatAreAlwaysRefused_1_5(t *testing.T) {
	tests := []struct {
		what, address string
		of            *model.Cluster
		endpoint      func(cluster, name string, address ...string) *model.Endpoint
		want          model.RefusalReason
	}{
		{"unspecified", "0.0.0.0", remote("canada"), pod, model.RefusedReservedAddress},
		{"unspecified", "::", remote("canada"), pod, model.RefusedReservedAddress},
		{"loopback", "127.0.0.53", remote("canada"), pod, model.RefusedReservedAddress},
		{"loopback", "::1", remote("canada"), pod, model.RefusedReservedAddress},
		{"link-local", "169.254.169.254", remote("canada"), node, model.RefusedReservedAddress},
		{"link-local", "fe80::1", remote("canada"), pod, model.RefusedReservedAddress},
		{"multicast", "224.0.0.1", remote("canada"), pod, model.RefusedReservedAddress},
		{"multicast", "ff0e::1", remote("canada"), pod, model.RefusedReservedAddress},
		{"the platform's service", "168.63.129.16", remote("canada", podRanges("0.0.0.0/0")), pod, model.RefusedReservedAddress},
		{"a local node's address", "10.77.0.1", remote("canada"), pod, model.RefusedLocalNode},
		{"a local node's address, by a node", "10.77.0.1", remote("canada"), node, model.RefusedLocalNode},
		{"a local node's address in its own ranges", "10.77.0.1", remote("canada", podRanges("10.77.0.0/16")), pod, model.RefusedLocalNode},
		{"in the local pod ranges", "10.0.3.4", remote("canada"), pod, model.RefusedLocalRange},
		{"in the local pod ranges and its own", "10.0.3.4", remote("canada", podRanges("10.0.0.0/8")), pod, model.RefusedLocalRange},
		{"in the local node ranges", "10.9.3.4", remote("canada"), node, model.RefusedLocalRange},
		{"outside its ranges", "10.2.0.1", remote("canada", podRanges("10.1.0.0/16")), pod, model.RefusedOutsideRanges},
		{"a family without a range", "fd00::1", remote("canada", podRanges("10.1.0.0/16")), pod, model.RefusedOutsideRanges},
		{"a node outside its ranges", "10.1.0.1", remote("canada", podRanges("10.1.0.0/16"), nodeRanges("10.2.0.0/16")), node, model.RefusedOutsideRanges},
		{"within its ranges", "10.1.0.1", remote("canada", podRanges("10.1.0.0/16", "10.1.0.0/24")), pod, ""},
		{"a node, ranges for pods only", "10.3.0.1", remote("canada", podRanges("10.1.0.0/16")), node, model.RefusedOutsideRanges},
		{"a node of a family without a range", "fd00::1", remote("canada", podRanges("10.1.0.0/16")), node, model.RefusedOutsideRanges},
		{"a node within them", "10.1.0.1", remote("canada", podRanges("10.1.0.0/16")), node, ""},
		{"a pod, ranges for nodes only", "10.3.0.1", remote("canada", nodeRanges("10.1.0.0/16")), pod, model.RefusedOutsideRanges},
		{"an IPv4 address in the form of IPv6", "::ffff:10.0.0.1", remote("canada"), pod, model.RefusedMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.what+" "+tt.address, func(t *testing.T) {
			e := tt.endpoint("canada", "e", tt.address)
			for _, x := range worlds(west(), node("west", "n", "10.77.0.1"), tt.of, e) {
				v := x.View()
				got, _ := v.Endpoint(e.Key)
				if owns := got.Owns(e.Addresses[0]); owns != (tt.want == "") {
					t.Fatalf("owns it: %t", owns)
				}
				if tt.want != "" && (len(got.Refused) != 1 || got.Refused[0].Reason != tt.want || got.Refused[0].Address != e.Addresses[0]) {
					t.Errorf("refused: %+v, want %s", got.Refused, tt.want)
				}
			}
		})
	}
}

func TestLocalClaimsAreNotRefusedByRanges_1_5(t *testing.T) {
	for _, a := range []string{"10.0.0.1", "192.168.0.1", "169.254.1.1"} {
		for _, x := range worlds(west(), pod("west", "p", a)) {
			if e, ok := x.View().Owner(netip.MustParseAddr(a)); !ok || e.Key.Cluster != "west" {
				t.Errorf("%s is refused", a)
			}
		}
	}
}

// TestNobodyOwnsTheUnspecifiedAddress_1_5: one member that the kernel takes into no
// set would hold back the rules of all policies.
func TestNobodyOwnsTheUnspecifiedAddress_1_5(t *testing.T) {
	for _, a := range []string{"0.0.0.0", "::"} {
		for _, x := range worlds(west(), pod("west", "p", a)) {
			x.Track(selector.All())
			v := x.View()
			if e, ok := v.Owner(netip.MustParseAddr(a)); ok {
				t.Errorf("%s is of %s", a, e.Key)
			}
			if m, _ := v.Members(selector.All()); m.V4.Len()+m.V6.Len() > 0 {
				t.Errorf("%s is in a set", a)
			}
		}
	}
}

// What is judged is judged again when what decides comes and goes.
func TestClaimsAreJudgedAgain_1_5(t *testing.T) {
	const a = "10.1.0.1"
	address := netip.MustParseAddr(a)
	x := New()
	x.Track(selector.All())
	check := func(what string, owner model.Key) {
		t.Helper()
		v := x.View()
		e, ok := v.Owner(address)
		if ok != (owner != model.Key{}) || ok && e.Key != owner {
			t.Errorf("%s: the owner is %v", what, e)
		}
		if m, _ := v.Members(selector.All()); m.V4.Has(address) != ok {
			t.Errorf("%s: the set says otherwise", what)
		}
		checkInside(t, x)
	}
	canada, norway := model.PodKey("canada", "shop", "p"), model.PodKey("norway", "shop", "p")
	steps := []struct {
		what   string
		change model.Change
		owner  model.Key
	}{
		{"pod of an unknown cluster", model.Set(pod("canada", "p", a)), model.Key{}},
		{"its cluster is known", model.Set(remote("canada", created(1))), canada},
		{"a younger cluster claims it", model.Set(remote("norway", created(2))), canada},
		{"and its pod", model.Set(pod("norway", "p", a)), canada},
		{"contact is lost", model.Set(remote("canada", created(1), stale)), norway},
		{"contact is back", model.Set(remote("canada", created(1))), canada},
		{"the younger one declares ranges", model.Set(remote("norway", created(2), podRanges("10.1.0.0/16"))), norway},
		{"the older one others", model.Set(remote("canada", created(1), podRanges("10.2.0.0/16"))), norway},
		{"a local range has it", model.Set(&model.Cluster{Name: "west", Local: true, PodCIDRs: prefixes("10.1.0.0/24")}), model.Key{}},
		{"no more", model.Set(&model.Cluster{Name: "west", Local: true}), norway},
		{"a local node has it", model.Set(node("west", "n", a)), model.NodeKey("west", "n")},
		{"the local cluster is gone", model.Gone(model.ClusterKey("west")), norway},
		{"ranges are gone", model.Set(remote("norway", created(2))), norway},
		{"everywhere", model.Set(remote("canada", created(1))), canada},
		{"an old owner's deletion never removes the new one", model.Gone(canada), norway},
		{"its own does", model.Gone(norway), model.Key{}},
	}
	for _, s := range steps {
		x.Apply(s.change)
		check(s.what, s.owner)
	}
}

func TestManyClaimsOnOneAddressNameNobody_1_6(t *testing.T) {
	x, o := New(), newOracle()
	s := newAsked([]selector.Selector{selector.All()}, nil)
	x.Track(selector.All())
	apply := func(what string, c model.Change) {
		t.Helper()
		x.Apply(c)
		o.apply(c)
		checkView(t, what, x.View(), o.answer(s))
		checkInside(t, x)
	}
	apply("cluster", model.Set(west()))
	apply("cluster", model.Set(remote("canada")))
	for i := range 2 * maxNamed {
		p := pod("canada", fmt.Sprint("p", i), "10.1.0.1")
		p.Created = int64(i * 7 % 11)
		apply("a pod more", model.Set(p))
	}
	apply("a node as well", model.Set(node("canada", "n", "10.1.0.1")))
	apply("a local node as well", model.Set(node("west", "n", "10.1.0.1")))
	apply("a local pod as well", model.Set(pod("west", "p", "10.1.0.1")))
	apply("no local node", model.Gone(model.NodeKey("west", "n")))
	apply("contact lost", model.Set(remote("canada", stale)))
	for i := range 2 * maxNamed {
		apply("a pod less", model.Gone(model.PodKey("canada", "shop", fmt.Sprint("p", i))))
	}
}

// A cluster that claims one address with all its endpoints makes each of its
// changes cost no more than another one.
func TestCrowdOnOneAddressCostsLittleEach_1_6(t *testing.T) {
	x := New()
	x.Apply(model.Set(remote("canada")))
	const n = 2000
	for i := range n {
		p := pod("canada", fmt.Sprint("p", i), "10.1.0.1")
		p.Created = int64(i) // each is the new owner
		x.Apply(model.Set(p))
	}
	if per := x.work.judged / n; per > 5 {
		t.Errorf("judged %d claims for each", per)
	}
	v := x.View()
	if c := v.Counts("canada").Refused[model.RefusedDuplicate]; c != n-1 {
		t.Errorf("%d are refused", c)
	}
}
