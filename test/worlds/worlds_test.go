package worlds

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/overland-net/overland/pkg/model"
)

func TestRandomIsDeterministic(t *testing.T) {
	for seed := range uint64(20) {
		first := Random(seed, Small())
		if again := Random(seed, Small()); again.String() != first.String() {
			t.Errorf("seed %d makes two worlds", seed)
		}
	}
	if Random(1, Small()).String() == Random(2, Small()).String() {
		t.Error("two seeds make one world")
	}
}

func TestRandomWorldsAllowAndDeny(t *testing.T) {
	var allowed, denied int
	for seed := range uint64(1000) {
		w := Random(seed, Small())
		f := FlowsOf(w, seed, w.Clusters[0].Name, "node-1")
		for range 8 {
			p, ok := f.Next()
			if !ok {
				break
			}
			if !w.Has(p) {
				t.Fatalf("%s is of no world of seed %d", p, seed)
			}
			if a := Allowed(w, p); a.Egress && a.Ingress {
				allowed++
			} else {
				denied++
			}
		}
	}
	t.Logf("%d allowed, %d denied", allowed, denied)
	if allowed < denied/2 || denied < allowed/2 {
		t.Errorf("%d allowed, %d denied: expected at least a third of each", allowed, denied)
	}
}

func TestMutateChangesOneThingAndLeavesTheOldWorld(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for seed := range uint64(200) {
		w := Random(seed, Small())
		before := w.String()
		now, what := Mutate(w, r, Small())
		if w.String() != before {
			t.Fatalf("seed %d: %s changed the old world", seed, what)
		}
		changes, err := FactsBetween(w, now, "west")
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) > 1 {
			t.Errorf("seed %d: %s makes %d changes of facts", seed, what, len(changes))
		}
	}
}

func TestFactsBetweenLeadToTheNewWorld(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	known := func(changes []model.Change, into map[model.Key]model.Fact) {
		for _, ch := range changes {
			if into[ch.Key] = ch.Value; ch.Value == nil {
				delete(into, ch.Key)
			}
		}
	}
	for seed := range uint64(100) {
		w := Random(seed, Small())
		facts := map[model.Key]model.Fact{}
		first, err := Facts(w, "west")
		if err != nil {
			t.Fatal(err)
		}
		known(first, facts)
		for range 10 {
			now, _ := Mutate(w, r, Small())
			changes, err := FactsBetween(w, now, "west")
			if err != nil {
				t.Fatal(err)
			}
			known(changes, facts)
			w = now
		}
		want := map[model.Key]model.Fact{}
		all, err := Facts(w, "west")
		if err != nil {
			t.Fatal(err)
		}
		known(all, want)
		if len(want) != len(facts) {
			t.Errorf("seed %d: %d facts, expected %d", seed, len(facts), len(want))
		}
		for k := range want {
			if facts[k] == nil {
				t.Errorf("seed %d: %v is not known", seed, k)
			}
		}
	}
}

func TestFactsHavePoliciesOfTheLocalClusterOnly_2_1(t *testing.T) {
	w := Random(7, Small())
	for _, c := range w.Clusters {
		facts, err := Facts(w, c.Name)
		if err != nil {
			t.Fatal(err)
		}
		policies := 0
		for _, f := range facts {
			if f.Key.Kind == model.KindPolicy {
				policies++
				if f.Key.Cluster != c.Name {
					t.Errorf("cluster %s knows %v", c.Name, f.Key)
				}
			}
		}
		if policies != len(c.Policies) {
			t.Errorf("cluster %s knows %d policies, has %d", c.Name, policies, len(c.Policies))
		}
	}
}

func TestShrinkLeavesWhatTheFailureNeeds(t *testing.T) {
	// "Fails" where a policy has an exception and a pod is in the last cluster.
	fails := func(w World) bool {
		return len(w.Clusters) == 2 && len(w.Clusters[1].Pods) > 0 && slices.ContainsFunc(w.Clusters[0].Policies, func(p *networkingv1.NetworkPolicy) bool {
			return slices.ContainsFunc(p.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
				return slices.ContainsFunc(r.From, func(f networkingv1.NetworkPolicyPeer) bool {
					return f.IPBlock != nil && len(f.IPBlock.Except) > 0
				})
			})
		})
	}
	for seed := uint64(0); ; seed++ {
		w := Random(seed, Small())
		if !fails(w) {
			continue
		}
		before := w.String()
		s := Shrink(w, fails)
		if w.String() != before {
			t.Fatal("the world itself was changed")
		}
		a, b := s.Clusters[0], s.Clusters[1]
		if len(a.Policies) != 1 || len(a.Pods)+len(a.Nodes)+len(b.Policies) != 0 || len(a.Namespaces) != 1 || len(b.Pods) != 1 {
			t.Errorf("not small:\n%s", s)
		}
		spec := a.Policies[0].Spec
		if len(spec.Egress) != 0 || len(spec.Ingress) != 1 || len(spec.Ingress[0].From) != 1 || len(spec.Ingress[0].Ports) != 0 || len(spec.Ingress[0].From[0].IPBlock.Except) != 1 {
			t.Errorf("the policy is not small:\n%s", s)
		}
		return
	}
}

func TestObjectsCanBeMadeAndBound(t *testing.T) {
	w := Random(3, Lab("w3-"))
	for _, c := range w.Clusters {
		l, err := Objects(w, c.Name)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Pods) != len(c.Pods) || len(l.Policies) != len(c.Policies) || len(l.Namespaces) != len(c.Namespaces) {
			t.Errorf("cluster %s: %d pods, %d policies, %d namespaces", c.Name, len(l.Pods), len(l.Policies), len(l.Namespaces))
		}
		var seen Observed
		for i, p := range l.Pods {
			if !strings.HasPrefix(p.Namespace, "w3-") || p.UID != "" || len(p.Status.PodIPs) > 0 || p.Spec.NodeName == "" {
				t.Errorf("not to be created: %v", p)
			}
			real := p.DeepCopy()
			real.UID, real.Status = c.Pods[i].UID, c.Pods[i].Status
			seen.Pods = append(seen.Pods, *real)
		}
		for _, n := range c.Nodes {
			seen.Nodes = append(seen.Nodes, *n)
		}
		for _, n := range l.Namespaces {
			seen.Namespaces = append(seen.Namespaces, *n)
		}
		seen.PodCIDRs, seen.NodeCIDRs, seen.Labels, seen.Agent = c.PodCIDRs, c.NodeCIDRs, c.Labels, c.Agent
		bound := Bind(w, c.Name, seen)
		mine := func(namespace string) bool { return strings.HasPrefix(namespace, "w3-") }
		probes := Probes(w, mine)
		if len(probes) == 0 {
			t.Fatal("no probes")
		}
		for _, p := range probes {
			if a, b := Allowed(w, p), Allowed(bound, p); a != b {
				t.Errorf("%s: %+v, bound %+v", p, a, b)
			}
		}
	}
	if _, err := Objects(w, "elsewhere"); err == nil || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("a cluster that is not there: %v", err)
	}
}

func TestLabWorldsAskForNothingThatCannotBeMade(t *testing.T) {
	for seed := range uint64(300) {
		w := Random(seed, Lab("l-"))
		r := rand.New(rand.NewPCG(seed, 5))
		for range 5 {
			w, _ = Mutate(w, r, Lab("l-"))
		}
		for _, c := range w.Clusters {
			for _, p := range c.Pods {
				if p.DeletionTimestamp != nil || len(p.Spec.InitContainers) > 0 {
					t.Errorf("seed %d: pod %s/%s is odd", seed, p.Namespace, p.Name)
				}
				if Live(p) && len(w.Routed(c.Name, p)) != len(PodAddrs(p)) {
					t.Errorf("seed %d: pod %s/%s does not own its addresses", seed, p.Namespace, p.Name)
				}
			}
			for _, n := range c.Namespaces {
				if n.Labels[corev1.LabelMetadataName] != n.Name {
					t.Errorf("seed %d: namespace %s has another's name", seed, n.Name)
				}
			}
		}
	}
}
