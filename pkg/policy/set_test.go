package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// podOn is a pod with labels "k=v; k=v" and service account sa.
func podOn(node, namespace, name, labels string) *model.Endpoint {
	m := map[string]string{}
	for _, r := range *sel(labels) {
		m[r.Key] = r.Values[0]
	}
	return &model.Endpoint{
		Key: model.PodKey("west", namespace, name), Labels: model.NewLabels(m),
		ServiceAccount: "sa", Node: node, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")},
	}
}

// named is a policy with a name.
func named(p *model.Policy, name string) *model.Policy {
	copied := *p
	copied.Key.Name = name
	return &copied
}

func from(pods string) model.PolicyPeer { return model.PolicyPeer{Pods: sel(pods)} }

func names(s *Set) (active []string) {
	for p := range s.Active() {
		active = append(active, p.Key.Namespace+"/"+p.Key.Name)
	}
	return active
}

func TestSetFollowsAPod(t *testing.T) {
	s := NewSet(west(), "node-1")
	key := model.PodKey("west", "shop", "cart-0")
	expect := func(step string, active, track, untrack int) {
		t.Helper()
		tracked, untracked, _, _ := s.Update()
		if s.Len() != active || len(tracked) != track || len(untracked) != untrack {
			t.Errorf("%s: %v active, track %v, untrack %v", step, names(s), tracked, untracked)
		}
		if selecting := slices.Collect(s.Selecting(key)); len(selecting) != active {
			t.Errorf("%s: %v select the pod", step, selecting)
		}
	}
	s.Apply(model.Set(named(policyIn("shop", "app=cart", from("app=web"), from("app=ops")), "a")))
	s.Apply(model.Set(named(policyIn("shop", "app=cart", from("app=web")), "b")))
	s.Apply(model.Set(named(policyIn("other", "", from("app=x")), "c")))
	expect("policies without pods", 0, 0, 0)
	s.Apply(model.Set(podOn("node-2", "shop", "cart-0", "app=cart")))
	expect("a pod of another node", 0, 0, 0)
	s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "app=db")))
	expect("a pod that no policy selects", 0, 0, 0)
	s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "app=cart")))
	expect("its label", 2, 2, 0)
	s.Apply(model.Gone(model.PolicyKey("west", "shop", "a")))
	expect("one policy less: the other still wants its peer", 1, 0, 1)
	s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "app=db")))
	s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "app=cart")))
	expect("there and back at once", 1, 0, 0)
	s.Apply(model.Set(podOn("node-2", "shop", "cart-0", "app=cart")))
	expect("a pod of that name on another node", 0, 0, 1)
	s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "app=cart")))
	expect("back", 1, 1, 0)
	s.Apply(model.Gone(key))
	s.Apply(model.Gone(key))
	expect("gone", 0, 0, 1)
	s.Apply(model.Gone(model.PolicyKey("west", "shop", "b")))
	s.Apply(model.Gone(model.PolicyKey("west", "other", "c")))
	if len(s.spaces)+len(s.live)+len(s.wanted)+len(s.before) != 0 {
		t.Errorf("something is left: %v", s)
	}
}

func TestSetFollowsTheServiceAccount_2_5(t *testing.T) {
	s := NewSet(west(), "node-1")
	s.Apply(model.Set(policyIn("shop", "overland.dev/service-account=sa")))
	for _, account := range []string{"other", "sa", "other"} {
		pod := podOn("node-1", "shop", "cart-0", "")
		pod.ServiceAccount = account
		s.Apply(model.Set(pod))
		if got := s.Len() == 1; got != (account == "sa") {
			t.Errorf("account %s: selected is %v", account, got)
		}
	}
}

func TestSetIgnoresWhatIsNotItsMatter(t *testing.T) {
	s := NewSet(west(), "node-1")
	s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "")))
	remote := policyIn("shop", "")
	remote.Key.Cluster = "canada"
	s.Apply(model.Set(remote))
	s.Apply(model.Set(&model.Cluster{Name: "west", Local: true}))
	s.Apply(model.Set(&model.Endpoint{Key: model.NodeKey("west", "node-1"), Node: "node-1"}))
	s.Apply(model.Set(&model.Namespace{Key: model.NamespaceKey("canada", "shop"), PeerScope: "x"}))
	pod := podOn("node-1", "shop", "cart-1", "")
	pod.Key.Cluster = "canada"
	s.Apply(model.Set(pod))
	if s.Len() != 0 || len(s.Problems()) != 0 || len(s.live["shop"].pods) != 1 {
		t.Errorf("%v, %v", names(s), s.Problems())
	}
}

// Rules of a direction that a policy does not isolate have no effect, so their
// peers need no sets; ipBlocks and impossible peers need none either.
func TestOnlyWhatIsNeededIsWanted(t *testing.T) {
	p := policyIn("shop", "", from("a"), model.PolicyPeer{Block: prefix("10.0.0.0/8")}, from("b=1; b=2"))
	p.EgressRules = []model.PolicyRule{{Peers: []model.PolicyPeer{from("c")}, AnyPort: true}, {AnyPeer: true, AnyPort: true}}
	s := NewSet(west(), "node-1")
	s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "")))
	s.Apply(model.Set(p))
	wanted := func() (keys string) {
		for _, sel := range slices.SortedFunc(s.Wanted(), func(a, b selector.Selector) int { return strings.Compare(a.String(), b.String()) }) {
			keys += strings.Join(slices.DeleteFunc(sel.Compile().Keys(), model.ReservedKey), " ") + ";"
		}
		return keys
	}
	if got := wanted(); got != "a;" {
		t.Errorf("wanted is %s", got)
	}
	checkProblems(t, s.Problems(), p.Key, "spec.ingress[0].from[2]", []string{"matches nothing"})
	both := *p
	both.Egress = true
	s.Apply(model.Set(&both))
	if got := wanted(); got != "a;c;" {
		t.Errorf("wanted is %s", got)
	}
}

func TestNamespaceAnnotationReachesPolicies_2_3(t *testing.T) {
	s := NewSet(west(), "node-1")
	ns := func(scope, label string) model.Change {
		return model.Set(&model.Namespace{Key: model.NamespaceKey("west", "shop"), PeerScope: scope, Labels: model.NewLabels(map[string]string{"l": label})})
	}
	s.Apply(model.Set(policyIn("shop", "", from("app=web"))))
	s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "")))
	expect := func(step string, track, untrack int, cluster bool, problems int) {
		t.Helper()
		tracked, untracked, _, _ := s.Update()
		if len(tracked) != track || len(untracked) != untrack || len(s.Problems()) != problems {
			t.Errorf("%s: track %v, untrack %v, problems %v", step, tracked, untracked, s.Problems())
		}
		for sel := range s.Wanted() {
			if sel.Compile().Mentions(model.KeyCluster) != cluster {
				t.Errorf("%s: wanted is %s", step, sel)
			}
		}
	}
	expect("no namespace", 1, 0, true, 0)
	s.Apply(ns("mesh", "a"))
	expect("mesh", 1, 1, false, 0)
	s.Apply(ns("mesh", "b"))
	expect("another label", 0, 0, false, 0)
	s.Apply(ns("everywhere", "b"))
	expect("an unknown word", 1, 1, true, 1)
	s.Apply(model.Set(named(policyIn("shop", "", from("app=web")), "q")))
	expect("a second policy, but one problem", 0, 0, true, 1)
	s.Apply(ns("mesh", "b"))
	s.Apply(model.Gone(model.NamespaceKey("west", "shop")))
	expect("the namespace is gone", 0, 0, true, 0)
}

func TestMalformedPartsAreProblems_2_12(t *testing.T) {
	p := policyIn("shop", "app=web")
	p.Malformed = []string{"spec.ingress[0].ports[0].port: x"}
	s := NewSet(west(), "node-1")
	s.Apply(model.Set(p))
	if got := s.Problems(); got != nil {
		t.Errorf("no pod of this node is there, but %v", got)
	}
	s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "app=db")))
	want := []model.Problem{{Kind: model.ProblemPolicy, Object: p.Key, Message: p.Malformed[0]}}
	if diff := cmp.Diff(want, s.Problems()); diff != "" {
		t.Error(diff)
	}
}
