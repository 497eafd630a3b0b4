package desired

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

func rulesInOrder() []Rule {
	ten, all6 := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")
	return []Rule{
		{},
		{Protocol: model.TCP},
		{Protocol: model.TCP, First: 80, Last: 80},
		{Protocol: model.TCP, First: 80, Last: 90},
		{Protocol: model.UDP, First: 53, Last: 53},
		{Family: IPv4, Peer: Peer{Block: ten}},
		{Family: IPv4, Protocol: model.TCP, First: 80, Last: 80, Peer: Peer{Block: ten}},
		{Family: IPv6, Peer: Peer{Block: all6}},
		{Family: IPv4, Peer: Peer{Set: "ovl4-a"}},
		{Family: IPv4, Peer: Peer{Set: "ovl4-b"}},
		{Family: IPv4, Peer: Peer{Set: "ovl4-b", Not: true}},
		{Family: IPv4, Protocol: model.SCTP, First: 1, Last: 65535, Peer: Peer{Set: "ovl4-a"}},
		{Family: IPv6, Protocol: model.TCP, Peer: Peer{Set: "ovl6-a"}},
	}
}

const listInOrder = `v1
all
TCP
TCP 80
TCP 80-90
UDP 53
IPv4 10.0.0.0/8
IPv4 TCP 80 10.0.0.0/8
IPv6 ::/0
IPv4 in ovl4-a
IPv4 in ovl4-b
IPv4 not in ovl4-b
IPv4 SCTP 1-65535 in ovl4-a
IPv6 TCP in ovl6-a
`

func TestNewListIsInCanonicalOrderWithoutDuplicates(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		rules := append(rulesInOrder(), rulesInOrder()[r.IntN(len(rulesInOrder()))])
		r.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		given := slices.Clone(rules)
		l := NewList(rules)
		if !slices.Equal(l.Rules, rulesInOrder()) || l.Text != listInOrder {
			t.Fatalf("from %v got %v, %s", rules, l.Rules, l.Text)
		}
		if !slices.Equal(given, rules) {
			t.Fatal("what was given has changed")
		}
	}
	for i, rule := range rulesInOrder() {
		if got := NewList(rulesInOrder()).Index(rule); got != i {
			t.Errorf("Index(%s) is %d, want %d", rule, got, i)
		}
	}
	if got := NewList(rulesInOrder()).Index(Rule{Protocol: model.SCTP}); got != -1 {
		t.Errorf("the index of a rule that is not there is %d", got)
	}
	if empty := NewList(nil); empty.Text != "v1\n" || len(empty.Rules) != 0 {
		t.Errorf("the empty list is %+v", empty)
	}
}

// Chains are named by Text, so rules that differ must never have one text.
func TestTextsOfRulesDifferWhereRulesDo(t *testing.T) {
	seen := map[string]Rule{}
	for _, family := range []Family{AnyFamily, IPv4, IPv6} {
		for _, protocol := range []model.Protocol{0, 1, model.TCP, model.UDP, model.SCTP, 255} {
			for _, ports := range [][2]uint16{{0, 0}, {1, 1}, {1, 11}, {11, 11}, {0, 1}, {1, 0}} {
				for _, peer := range []Peer{
					{},
					{Set: "ovl4-a"},
					{Set: "ovl4-a", Not: true},
					{Not: true},
					{Block: netip.MustParsePrefix("10.0.0.0/8")},
					{Block: netip.MustParsePrefix("10.0.0.0/8"), Set: "ovl4-a"},
					{Block: netip.MustParsePrefix("10.0.0.0/8"), Not: true},
				} {
					r := Rule{family, protocol, ports[0], ports[1], peer}
					if other, ok := seen[r.String()]; ok {
						t.Errorf("%#v and %#v are both %q", r, other, r)
					}
					seen[r.String()] = r
				}
			}
		}
	}
}

func TestOriginString(t *testing.T) {
	p := model.PolicyKey("canada", "shop", "allow-web")
	for _, c := range []struct {
		origin Origin
		want   string
	}{
		{Origin{p, 0, 1, 2}, "shop/allow-web rule 0 peer 1 port 2"},
		{Origin{p, 3, -1, 0}, "shop/allow-web rule 3 port 0"},
		{Origin{p, 3, -1, -1}, "shop/allow-web rule 3"},
	} {
		if got := c.origin.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestSetIDIsWhatTheKernelTakes_Case44(t *testing.T) {
	form := regexp.MustCompile(`^ovl[46]-[a-z2-7]{25}$`)
	seen := map[SetID]string{}
	for _, text := range []string{"", "a", "b", `v1 mesh app == "friend"`} {
		for _, family := range []Family{IPv4, IPv6} {
			id := SetIDOf(family, text)
			if !form.MatchString(string(id)) {
				t.Errorf("%q: %s", text, id)
			}
			if other, ok := seen[id]; ok {
				t.Errorf("%q and %q are both %s", text, other, id)
			}
			seen[id] = text
		}
	}
	// The hash of the empty text is well known: e3b0c442 98fc1c14 9afbf4c8 996fb924.
	if got := SetIDOf(IPv4, ""); got != "ovl4-4oymiquy7qobjgx36tejs35ze" {
		t.Errorf("of the empty text: %s", got)
	}
}

func TestNewNetworksIsCanonical(t *testing.T) {
	in := func(s string) Network { return Network{Prefix: netip.MustParsePrefix(s)} }
	except := func(s string) Network { return Network{netip.MustParsePrefix(s), true} }
	got := NewNetworks(IPv4, []Network{except("10.1.0.0/16"), in("10.0.0.0/8"), in("10.1.0.0/16"), in("9.0.0.0/8"), in("10.0.0.0/8")})
	want := []Network{in("9.0.0.0/8"), in("10.0.0.0/8"), except("10.1.0.0/16")}
	if !slices.Equal(got.Networks, want) {
		t.Errorf("got %v", got.Networks)
	}
	if got.Text != "networks v1 9.0.0.0/8 10.0.0.0/8 except 10.1.0.0/16" || got.ID != SetIDOf(IPv4, got.Text) {
		t.Errorf("got %+v", got)
	}
}

func TestLookups(t *testing.T) {
	s := world()
	if e := s.Rules.Endpoint(shop); e == nil || e.Pod.Name != "shop" {
		t.Errorf("Endpoint(%s) is %v", shop, e)
	}
	if e := s.Rules.Endpoint(veteran); e != nil {
		t.Errorf("Endpoint(%s) is %v", veteran, e)
	}
	if u := s.Rules.UnknownAt(newcomer); u == nil || u.Grandfathered {
		t.Errorf("UnknownAt(%s) is %v", newcomer, u)
	}
	if spec, ok := s.Rules.Spec(webs().ID); !ok || spec.Protocol != model.TCP {
		t.Errorf("Spec is %v, %v", spec, ok)
	}
	if spec, ok := s.Rules.Spec("ovl4-"); ok {
		t.Errorf("Spec of what is not there is %v", spec)
	}
	if got := s.Rules.Excepted(open); len(got) != 1 || len(s.Rules.Excepted(cart)) != 0 {
		t.Errorf("Excepted is %v", got)
	}
	if !s.InSet(webs().ID, addr(friend), 8080) || s.InSet(webs().ID, addr(friend), 8081) || s.InSet("ovl4-", addr(friend), 0) {
		t.Error("InSet is wrong")
	}
	if got := slices.Collect(addrSet(friend).All()); !slices.Equal(got, []netip.AddrPort{netip.AddrPortFrom(addr(friend), 0)}) {
		t.Errorf("All of addresses is %v", got)
	}
	if got := slices.Collect(portSet("10.0.0.1:5").All()); !slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:5")}) {
		t.Errorf("All of ports is %v", got)
	}
}
