package policy

import (
	"fmt"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

// benchWorld is 250 pods of this node in 10 namespaces, 25 remote and 4 other
// local pods for each, and 1,000 policies with 3 rules of 2 peers and 2 ports,
// each for one app of its namespace; 200 distinct peer selectors.
func benchWorld() (facts []model.Change, interfaces []model.Interface) {
	tell := func(f model.Fact) { facts = append(facts, model.Set(f)) }
	tell(&model.Cluster{Name: "west", Local: true, InContact: true})
	tell(&model.Cluster{Name: "canada", Created: 1, InContact: true})
	known := map[model.Key]model.Fact{}
	for i := range 250 {
		space := fmt.Sprintf("ns-%d", i%10)
		pod := podAt(fmt.Sprintf("west/node-1/%s/pod-%d", space, i), fmt.Sprintf("app=a%d; tier=t%d", i/10, i/10%5), fmt.Sprintf("10.1.0.%d fd00::1:%d", i, i), "http TCP 8080")
		known[pod.Key] = pod
		tell(pod)
		for j := range 29 {
			tell(podAt(fmt.Sprintf("canada/n/%s/remote-%d-%d", space, i, j), fmt.Sprintf("app=a%d", j), fmt.Sprintf("10.9.%d.%d", i, j), "http TCP 8080"))
		}
	}
	for i := range 10 {
		tell(ns("west", fmt.Sprintf("ns-%d", i), "env=prod"))
		tell(ns("canada", fmt.Sprintf("ns-%d", i), "env=prod"))
	}
	for i := range 1000 {
		tell(benchPolicy(i, 0))
	}
	return facts, plugs(known)
}

func benchPolicy(i, edit int) *model.Policy {
	p := np(fmt.Sprintf("ns-%d/p-%d", i%10, i), fmt.Sprintf("tier=t%d", i/10%5))
	for j := range 3 {
		in(p, append(p.IngressRules, on(fmt.Sprintf("TCP %d; TCP http", 1000+i*3+j+edit*7),
			from(fmt.Sprintf("overland.dev/cluster; app=a%d", (i+j)%20)), spaces("kubernetes.io/metadata.name=ns-1")))...)
	}
	return p
}

func (b *bed) load(facts []model.Change, interfaces []model.Interface) {
	for _, f := range facts {
		b.index.Apply(f)
		b.set.Apply(f)
	}
	b.node.Interfaces = interfaces
	b.set.Node(b.node)
}

func (b *bed) next() {
	track(b.set, b.index)
	b.gen++
	b.last = b.set.State(b.gen, b.index.View(), nil)
}

// BenchmarkColdState is the first State of benchWorld, with all that the Set does
// for it and without what the index does.
func BenchmarkColdState(b *testing.B) {
	facts, interfaces := benchWorld()
	warm := emptyBed(b, west())
	warm.load(facts, interfaces)
	warm.next()
	view := warm.index.View()
	b.ReportAllocs()
	for b.Loop() {
		s := NewSet(west(), "node-1")
		for _, f := range facts {
			s.Apply(f)
		}
		s.Node(warm.node)
		s.Update()
		if state := s.State(1, view, nil); len(state.Rules.Endpoints) != 250 {
			b.Fatal(len(state.Rules.Endpoints))
		}
	}
	b.ReportMetric(float64(len(warm.last.Rules.Sets)), "sets")
	b.ReportMetric(float64(len(warm.last.Rules.Endpoints[0].Ingress.List.Rules)), "rules/pod")
}

// BenchmarkPolicyEdit is one policy of 1,000 that changes its ports, which 5
// pods of 250 are selected by.
func BenchmarkPolicyEdit(b *testing.B) {
	benchmarkChanges(b, func(i int) model.Fact { return benchPolicy(500, 1+i%2) })
}

// BenchmarkLocalPodLabel is a label of a pod of this node that changes which
// policies select it.
func BenchmarkLocalPodLabel(b *testing.B) {
	benchmarkChanges(b, func(i int) model.Fact {
		return podAt("west/node-1/ns-7/pod-7", fmt.Sprintf("app=a0; tier=t%d", i%2), "10.1.0.7 fd00::1:7", "http TCP 8080")
	})
}

// BenchmarkRemotePodLabel is a label of a remote pod: members only.
func BenchmarkRemotePodLabel(b *testing.B) {
	benchmarkChanges(b, func(i int) model.Fact {
		return podAt("canada/n/ns-7/remote-7-3", fmt.Sprintf("app=a%d", i%2), "10.9.7.3", "http TCP 8080")
	})
}

// BenchmarkOtherPod is a pod of another node of the local cluster that no set has.
func BenchmarkOtherPod(b *testing.B) {
	benchmarkChanges(b, func(i int) model.Fact {
		return podAt("west/node-2/other/x", fmt.Sprintf("app=a%d", i%2), "10.1.9.3", "")
	})
}

func benchmarkChanges(b *testing.B, change func(i int) model.Fact) {
	facts, interfaces := benchWorld()
	bed := emptyBed(b, west())
	bed.load(facts, interfaces)
	bed.next()
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		f := model.Set(change(i))
		bed.index.Apply(f)
		bed.set.Apply(f)
		bed.next()
		i++
	}
}
