package bench

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

const (
	ruleRounds = 5
	edits      = 3 // a round
	mesh       = 5000
)

func equals(key, value string) *model.LabelSelector {
	return &model.LabelSelector{{Key: key, Operator: model.In, Values: []string{value}}}
}

// numberedPolicy is policy i of 1,000: for a tier of its namespace's pods, three
// rules of two peers and two ports, of 20 apps. Edited, its ports are others.
func numberedPolicy(i, edit int) *model.Policy {
	p := &model.Policy{
		Key: model.PolicyKey(localCluster, fmt.Sprint("ns-", i%10), fmt.Sprint("policy-", i)), UID: numberedUID(i),
		Pods: *equals("tier", fmt.Sprint("tier-", i/10%5)), Ingress: true,
	}
	for j := range 3 {
		p.IngressRules = append(p.IngressRules, model.PolicyRule{
			Ports: []model.PolicyPort{port(1000 + i*3 + j + edit*7), port(9000 + j)},
			Peers: []model.PolicyPeer{
				{Pods: &model.LabelSelector{
					{Key: model.KeyCluster, Operator: model.Exists},
					{Key: "app", Operator: model.In, Values: []string{fmt.Sprint("app-", (i+j)%20)}},
				}},
				{Namespaces: equals(model.KeyNamespaceName, "ns-1")},
			},
		})
	}
	return p
}

func port(n int) model.PolicyPort {
	return model.PolicyPort{Protocol: model.TCP, First: uint16(n), Last: uint16(n)}
}

// policed is a node of 250 pods in ten namespaces, with 5,000 pods elsewhere.
func policed(policies iter.Seq[*model.Policy]) (*node, []model.Fact) {
	n, one := newNode(), names{}
	facts := clusters()
	for i := range 10 {
		for _, c := range []string{localCluster, remoteCluster} {
			facts = append(facts, namespace(c, fmt.Sprint("ns-", i), map[string]string{}))
		}
	}
	facts = append(facts, namespace(localCluster, "elsewhere", map[string]string{}))
	for i := range localPods + mesh {
		facts = append(facts, one.numberedPod(i, i < localPods, fmt.Sprint("ns-", i%10), map[string]string{
			"app": fmt.Sprint("app-", i/10%20), "tier": fmt.Sprint("tier-", i/10%5),
		}))
	}
	for p := range policies {
		facts = append(facts, p)
	}
	return n, facts
}

func (n *node) interfaces(facts []model.Fact) (all []model.Interface) {
	for _, f := range facts {
		if e, ok := f.(*model.Endpoint); ok && e.Node == thisNode {
			all = append(all, model.Interface{
				Name: policy.InterfaceName(e.Key.Namespace, e.Key.Name), Index: 10 + len(all), Addrs: slices.Clone(e.Addresses),
			})
		}
	}
	slices.SortFunc(all, func(a, b model.Interface) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// state is what the node must enforce by all facts.
func (n *node) state(gen uint64) *desired.State {
	return n.policies.State(gen, n.view, n.index.TakeReleased())
}

func (n *node) learn(facts []model.Fact) {
	n.policies.Node(policy.NodeFacts{Interfaces: n.interfaces(facts), Protected: true})
	n.apply(setAll(facts))
}

func numberedPolicies(count int) iter.Seq[*model.Policy] {
	return func(yield func(*model.Policy) bool) {
		for i := range count {
			if !yield(numberedPolicy(i, 0)) {
				return
			}
		}
	}
}

// BenchmarkDataplaneClusterPolicies compares the programs of a node whose pods
// are selected by ten policies, in a cluster that has ten others and 10,000
// others: they are the same text.
func BenchmarkDataplaneClusterPolicies(b *testing.B) {
	var scripts []string
	var took []time.Duration
	once(b, func() {
		for _, others := range []int{10, 10_000} {
			n, facts := policed(func(yield func(*model.Policy) bool) {
				for p := range numberedPolicies(10) {
					if !yield(p) {
						return
					}
				}
				for i := range others {
					p := numberedPolicy(i, 0)
					p.Key.Namespace = "elsewhere"
					if !yield(p) {
						return
					}
				}
			})
			n.learn(facts)
			began := time.Now()
			s := n.state(1)
			took = append(took, time.Since(began))
			p := iptables.Compile(s, iptables.Config{IPv6: true})
			scripts = append(scripts, p.IPv4.Script(1)+p.IPv6.Script(1)+s.Text())
		}
	})
	same := 0.0
	if strings.ReplaceAll(scripts[0], "gen 1", "") == strings.ReplaceAll(scripts[1], "gen 1", "") {
		same = 1
	}
	b.ReportMetric(same, "same-program")
	b.ReportMetric(ms(took[0]), "ms-state-10")
	b.ReportMetric(ms(took[1]), "ms-state-10000")
}

// BenchmarkDataplaneRules programs 1,000 policies that select 250 pods, both
// families, on each backend: cold, from the facts (ms-state) to the kernel
// (ms-apply), beside the restore program that is given the same rules and has
// nothing to think about; and one policy that is edited, from the fact to the
// rules in force, beside a restore of one chain of one rule.
func BenchmarkDataplaneRules(b *testing.B) {
	backends := []string{iptables.BackendLegacy, iptables.BackendNFT}
	took := map[string]map[string][]float64{}
	rules, sets := 0, 0
	once(b, func() {
		spaces, kernels := map[string]*space{}, map[string]*restores{}
		for _, backend := range backends {
			spaces[backend] = newSpace(b)
			kernels[backend] = spaces[backend].open(backend, true)
			took[backend] = map[string][]float64{}
		}
		for range ruleRounds {
			for _, backend := range backends {
				rules, sets = programme(b, backend, spaces[backend], kernels[backend], took[backend])
			}
		}
	})
	for _, backend := range backends {
		b.Run(backend, func(b *testing.B) {
			once(b, func() {})
			of := took[backend]
			b.ReportMetric(float64(rules), "rules")
			b.ReportMetric(float64(sets), "sets")
			for name, all := range of {
				b.ReportMetric(median(all), "ms-"+name)
			}
			b.ReportMetric(slices.Min(of["apply"]), "ms-apply-least")
			b.ReportMetric(slices.Min(of["edit"]), "ms-edit-least")
			b.ReportMetric(median(of["apply"])/median(of["restore-only"]), "apply/restore-only")
			b.ReportMetric(median(of["edit"])/median(of["one-chain"]), "edit/one-chain")
		})
	}
}

// programme is a round of BenchmarkDataplaneRules on one backend.
func programme(b *testing.B, backend string, s *space, k *restores, took map[string][]float64) (rules, sets int) {
	note := func(name string, began time.Time) { took[name] = append(took[name], ms(time.Since(began))) }
	n, facts := policed(numberedPolicies(1000))
	n.apply(setAll(facts)) // the index is not what is measured
	began := time.Now()
	n.policies = policy.NewSet(policy.Config{Cluster: localCluster, Mesh: true}, thisNode)
	for _, f := range facts {
		n.policies.Apply(model.Set(f))
	}
	n.policies.Node(policy.NodeFacts{Interfaces: n.interfaces(facts), Protected: true})
	n.policies.Update()
	want := n.state(1)
	note("state", began)
	p := iptables.Compile(want, iptables.Config{IPv6: true})
	d := newDataplane(k, true)
	began = time.Now()
	s.apply(d, want)
	note("apply", began)
	oneChain := "*mangle\n:BENCH - [0:0]\n-A BENCH -j RETURN\nCOMMIT\n"
	for i := range edits {
		began = time.Now()
		n.apply(setAll([]model.Fact{numberedPolicy(500, 1+i)}))
		want = n.state(uint64(2 + i))
		note("edit-state", began)
		s.apply(d, want)
		note("edit", began)
		s.apply(d, want) // what was left behind goes
		s.do(func() {
			began = time.Now()
			nfnltest.Run(b, oneChain, "iptables-"+backend+"-restore", "--noflush", "-w", "10")
			note("one-chain", began)
		})
	}
	s.do(func() {
		if err := d.Remove(b.Context()); err != nil {
			b.Fatal(err)
		}
		var create strings.Builder
		for _, spec := range p.State.Rules.Sets {
			fmt.Fprintf(&create, "create %s hash:ip family %s\n", spec.ID, map[desired.Family]string{desired.IPv4: "inet", desired.IPv6: "inet6"}[spec.Family])
		}
		nfnltest.Run(b, create.String(), "ipset", "restore")
		began = time.Now()
		nfnltest.Run(b, p.IPv4.Script(1), "iptables-"+backend+"-restore", "--noflush", "-w", "10")
		nfnltest.Run(b, p.IPv6.Script(1), "ip6tables-"+backend+"-restore", "--noflush", "-w", "10")
		note("restore-only", began)
		if err := newDataplane(k, true).Remove(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
	return p.IPv4.Rules() + p.IPv6.Rules(), len(p.State.Rules.Sets)
}
