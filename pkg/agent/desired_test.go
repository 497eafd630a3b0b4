package agent

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

// link is the interface of a pod of this node.
func link(p *model.Endpoint, index int) model.Interface {
	return model.Interface{Name: policy.InterfaceName(p.Key.Namespace, p.Key.Name), Index: index, Addrs: p.Addresses}
}

func links(list ...model.Interface) []model.Interface {
	slices.SortFunc(list, func(a, b model.Interface) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return list
}

// redisOfCanada is what the policy of enforcing admits.
func redisOfCanada() model.LabelSelector {
	return model.LabelSelector{
		{Key: "app", Operator: model.In, Values: []string{"redis"}},
		{Key: model.KeyCluster, Operator: model.In, Values: []string{"canada"}},
	}
}

// enforcing is a Core that enforces a policy on the pod cart of this node.
func enforcing(t *testing.T, cfg Config) (*steps, *model.Endpoint) {
	t.Helper()
	cart := pod("west", "demo", "cart")
	s := newSteps(t, newFakeStore())
	s.core = NewCore(cfg, s.now)
	s.disk = newKeeper(s.files, s.core, "west", quiet(), s.box)
	for _, kind := range kinds() {
		s.Facts(list("west", kind))
	}
	s.Facts(list("west", model.KindNamespace, namespace("west", "demo")))
	s.Facts(list("west", model.KindPod, cart))
	s.Facts(list("west", model.KindPolicy, networkPolicy("demo", "p", redisOfCanada())))
	s.Facts(remotes(remote("canada", 1)))
	s.Facts(list("canada", model.KindNamespace, namespace("canada", "demo")))
	s.Facts(list("canada", model.KindPod, pod("canada", "demo", "r", "app", "redis")))
	s.box.tell(links(link(cart, 7)))
	s.settle()
	if s.last.Desired == nil {
		t.Fatal("nothing is to be enforced")
	}
	return s, cart
}

func flowTo(p *model.Endpoint, src string) desired.Flow {
	return desired.Flow{
		Src: netip.MustParseAddr(src), Dst: p.Addresses[0], To: desired.Place{Interface: link(p, 0).Name}, Protocol: model.TCP, SrcPort: 1025, DstPort: 80,
	}
}

func TestNothingIsToBeEnforcedBeforeLocalFactsAndInterfacesAreKnown(t *testing.T) {
	s := newSteps(t, newFakeStore())
	for i, kind := range kinds() {
		s.Facts(list("west", kind))
		if s.settle().Desired != nil {
			t.Fatalf("after %d lists, without interfaces: %v", i+1, s.last.Desired)
		}
	}
	s.box.tell(nil)
	if s.settle().Desired == nil || !s.last.InSync {
		t.Fatal("nothing is to be enforced though all is known, and there is no interface")
	}
	other := newSteps(t, newFakeStore())
	other.box.tell(links())
	if other.settle().Desired != nil {
		t.Fatal("enforced before the local cluster is known")
	}
}

func TestAPolicyOfThisNodeIsEnforcedAcrossClusters(t *testing.T) {
	s, cart := enforcing(t, testConfig())
	redis := address(model.PodKey("canada", "demo", "r"))
	if v := s.last.Desired.Verdict(flowTo(cart, redis.String())); !v.Allowed {
		t.Errorf("redis of canada is dropped: %+v", v)
	}
	if v := s.last.Desired.Verdict(flowTo(cart, "10.9.9.9")); v.Allowed {
		t.Errorf("anybody is let through: %+v", v)
	}
	if err := s.last.Desired.Validate(); err != nil {
		t.Error(err)
	}
}

func TestARemoteLabelChangeKeepsTheRules(t *testing.T) {
	s, cart := enforcing(t, testConfig())
	before := s.last
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(pod("canada", "demo", "r", "app", "mysql"))}})
	now := s.settle()
	if now.Desired == before.Desired || now.Desired.Rules != before.Desired.Rules {
		t.Errorf("the same State: %v, the same Rules: %v", now.Desired == before.Desired, now.Desired.Rules == before.Desired.Rules)
	}
	if now.Desired.Gen != now.Gen || before.Desired.Gen > before.Gen {
		t.Errorf("State %d of snapshot %d", now.Desired.Gen, now.Gen)
	}
	if v := now.Desired.Verdict(flowTo(cart, address(model.PodKey("canada", "demo", "r")).String())); v.Allowed {
		t.Errorf("let through without the label: %+v", v)
	}
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(pod("canada", "other", "z", "app", "mysql"))}})
	if s.settle(); s.last.Desired != now.Desired || s.last.Gen == now.Gen {
		t.Error("what concerns no policy made another State")
	}
	if &s.last.Policies[0] != &before.Policies[0] {
		t.Error("the policies were described anew, though they have not changed")
	}
}

func TestAnotherInterfaceMakesOtherRules(t *testing.T) {
	s, cart := enforcing(t, testConfig())
	before := s.last.Desired
	s.box.tell(links(link(cart, 7)))
	if s.settle().Desired != before {
		t.Error("the same interfaces made another State")
	}
	s.box.tell(links(link(cart, 8), model.Interface{Name: "azvstranger", Index: 9}))
	now := s.settle().Desired
	if now.Rules == before.Rules || now.Rules.Endpoints[0].Interface.Index != 8 || len(now.Rules.Unknown) != 1 {
		t.Errorf("got %+v", now.Rules)
	}
}

func TestGrandfatheredEndWithTheirPodOrTheirInterface(t *testing.T) {
	cfg := testConfig()
	cart := pod("west", "demo", "cart")
	late := pod("west", "demo", "late")
	cfg.Protected = true
	cfg.Grandfathered = links(link(cart, 7), link(late, 8), model.Interface{Name: "azvgone", Index: 9}, model.Interface{Name: "azvanew", Index: 10})
	s, _ := enforcing(t, cfg)
	if len(s.last.Grandfathered) != 0 {
		t.Fatalf("left of those that are not there, or known: %v", s.last.Grandfathered)
	}

	s = newSteps(t, newFakeStore())
	s.core = NewCore(cfg, s.now)
	s.disk = newKeeper(s.files, s.core, "west", quiet(), s.box)
	s.box.tell(links(link(cart, 7), link(late, 8), model.Interface{Name: "azvanew", Index: 11}))
	for _, kind := range kinds() {
		s.Facts(list("west", kind))
	}
	s.Facts(list("west", model.KindPod, cart))
	s.settle()
	want := []model.Interface{link(late, 8)}
	if !reflect.DeepEqual(s.last.Grandfathered, want) {
		t.Fatalf("grandfathered %v, want %v", s.last.Grandfathered, want)
	}
	unknown := s.last.Desired.Rules.Unknown
	for _, u := range unknown {
		if u.Grandfathered != (u.Name == want[0].Name) {
			t.Errorf("%s: grandfathered %v", u.Name, u.Grandfathered)
		}
	}
	if len(unknown) != 2 {
		t.Errorf("unknown: %v", unknown)
	}
	// Once its pod is known it is as any other, also when the pod goes again.
	s.Facts(model.Batch{Cluster: "west", Changes: []model.Change{model.Set(late)}})
	s.settle()
	s.Facts(model.Batch{Cluster: "west", Changes: []model.Change{model.Gone(late.Key)}})
	s.settle()
	for _, u := range s.last.Desired.Rules.Unknown {
		if u.Grandfathered {
			t.Errorf("%s is grandfathered again", u.Name)
		}
	}
}

func TestSnapshotsDescribePolicies(t *testing.T) {
	s, cart := enforcing(t, testConfig())
	other := networkPolicy("elsewhere", "q", nil)
	broken := networkPolicy("demo", "a", model.LabelSelector{{Key: "overland.dev/nothing", Operator: model.Exists}})
	s.Facts(model.Batch{Cluster: "west", Changes: []model.Change{model.Set(other), model.Set(broken)}})
	s.settle()
	var got []string
	for _, p := range s.last.Policies {
		got = append(got, p.Policy.Key.Namespace+"/"+p.Policy.Key.Name)
	}
	if !slices.Equal(got, []string{"demo/a", "demo/p", "elsewhere/q"}) {
		t.Fatalf("policies %v", got)
	}
	for i, selects := range []int{1, 1, 0} {
		if n := len(s.last.Policies[i].Selects); n != selects {
			t.Errorf("%s selects %d pods", got[i], n)
		}
	}
	if s.last.Policies[0].Selects[0] != cart.Key || len(s.last.Policies[0].Problems) == 0 || len(s.last.Policies[1].Problems) > 0 {
		t.Errorf("got %+v", s.last.Policies)
	}
}

// TestTheFirstStateHasWhatTheStoreHas: a State without what was known before the
// restart would cut what lives.
func TestTheFirstStateHasWhatTheStoreHas_3_3(t *testing.T) {
	s, cart := enforcing(t, testConfig())
	redis := address(model.PodKey("canada", "demo", "r")).String()
	s.Status("canada", inState(model.StateInSync, s.now))
	s.settle()
	again := newSteps(t, s.files)
	if !again.disk.restoreLocal() {
		t.Fatal("nothing is restored")
	}
	again.box.tell(links(link(cart, 7)))
	for more := true; more; {
		more = again.step()
		if d := again.last.Desired; d != nil {
			if v := d.Verdict(flowTo(cart, redis)); !v.Allowed {
				t.Fatalf("the first State cuts what lives: %+v", v)
			}
			return
		}
		if r := again.disk.reading; r != nil {
			<-r.done
		}
	}
	t.Error("nothing is to be enforced after a restart")
}

func TestAReusedAddressIsReleased(t *testing.T) {
	s, _ := enforcing(t, testConfig())
	r := pod("canada", "demo", "r", "app", "redis")
	heir := pod("canada", "demo", "heir", "app", "redis")
	heir.Addresses = r.Addresses
	s.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Gone(r.Key), model.Set(heir)}})
	now := s.settle().Desired
	if gen, ok := now.Released.Get(r.Addresses[0]); !ok || gen != now.Gen {
		t.Errorf("released %d, %v in State %d", gen, ok, now.Gen)
	}
}

func TestInterfacesAreTakenByARunningAgent(t *testing.T) {
	a := New(testConfig(), nil, quiet())
	for _, kind := range kinds() {
		a.Facts(list("west", kind))
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	a.Interfaces([]model.Interface{{Name: "azvold", Index: 1}})
	a.Interfaces([]model.Interface{{Name: "azvnew", Index: 2}})
	late := time.After(time.Minute)
	for {
		s, newer := a.Snapshot()
		if s.Desired != nil && len(s.Desired.Rules.Unknown) == 1 && s.Desired.Rules.Unknown[0].Name == "azvnew" {
			return
		}
		select {
		case <-newer:
		case <-late:
			t.Fatalf("got %+v", s.Desired)
		}
	}
}
