package bench

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
	"github.com/overland-net/overland/pkg/selector"
)

const (
	largeMesh     = 250_000
	largeLocal    = 200
	largePolicies = 10_000
	largeSpaces   = 100
	peersEach     = 5
)

// markerPolicy selects by one marker label, and admits by five.
func markerPolicy(i int) *model.Policy {
	p := &model.Policy{
		Key:  model.PolicyKey(localCluster, fmt.Sprintf("namespace-%d", i%largeSpaces), fmt.Sprintf("policy-%d", i)),
		Pods: *exists(marker(i / largeSpaces)), Ingress: true,
	}
	rule := model.PolicyRule{AnyPort: true}
	for j := range peersEach {
		rule.Peers = append(rule.Peers, model.PolicyPeer{Namespaces: &model.LabelSelector{}, Pods: exists(marker(i + j))})
	}
	p.IngressRules = []model.PolicyRule{rule}
	return p
}

// largeWorld is policies, namespaces and endpoints, the local ones last, and
// the deletion of these.
func largeWorld() (facts []model.Fact, deletions []model.Change) {
	n := names{}
	facts = append(facts, clusters()...)
	for i := range largePolicies {
		facts = append(facts, markerPolicy(i))
	}
	for _, cluster := range []string{localCluster, remoteCluster} {
		for i := range largeSpaces {
			facts = append(facts, namespace(cluster, n.one(fmt.Sprintf("namespace-%d", i)), map[string]string{}))
		}
	}
	for i := range largeMesh {
		local := i >= largeMesh-largeLocal
		pod := n.numberedPod(i, local, fmt.Sprintf("namespace-%d", i%largeSpaces), oneInN(i))
		facts = append(facts, pod)
		if local {
			deletions = append(deletions, model.Gone(pod.Key))
		}
	}
	return facts, deletions
}

// BenchmarkIndexLargeMesh is the first computation over 250,000 endpoints with
// 6 labels each in 100 namespaces, 200 of them local, with 10,000 policies of 5
// peers, 30 different ones in all; then the local endpoints are deleted.
func BenchmarkIndexLargeMesh(b *testing.B) {
	facts, deletions := largeWorld()
	b.Run("index", func(b *testing.B) {
		var n *node
		var u usage
		once(b, func() {
			u = use(func() {
				n = newNode()
				n.apply(setAll(facts))
				if got := len(selectors(n)); got != markers {
					b.Fatalf("%d selectors are tracked", got)
				}
				n.apply(slices.Values(deletions))
			})
		})
		if n.view.Len() != largeMesh-largeLocal {
			b.Fatalf("%d endpoints", n.view.Len())
		}
		u.report(b, largeMesh)
		runtime.KeepAlive(n)
	})
	benchmarkGoMaps(b, facts, largeMesh)
	b.Run("naive-500-endpoints", func(b *testing.B) {
		const size = 500 // each costs 50,000 evaluations
		config := policy.Config{Cluster: localCluster, Mesh: true}
		var peers []selector.Selector
		var endpoints []*model.Endpoint
		for _, f := range facts {
			switch f := f.(type) {
			case *model.Policy:
				for _, p := range f.IngressRules[0].Peers {
					s, _, _ := config.Peer(f, nil, p, "")
					peers = append(peers, s)
				}
			case *model.Endpoint:
				endpoints = append(endpoints, f)
			}
		}
		n := newNaive(peers)
		var u usage
		once(b, func() {
			u = use(func() {
				for _, e := range endpoints[:size] {
					n.set(e)
				}
			})
		})
		u.report(b, size)
		runtime.KeepAlive(n)
	})
	runtime.KeepAlive(facts)
}

// benchmarkGoMaps only puts all endpoints into two Go maps, by key and by
// address: what the machine needs for the least that could be done.
func benchmarkGoMaps(b *testing.B, facts []model.Fact, endpoints int) {
	b.Run("two-go-maps", func(b *testing.B) {
		byKey := map[model.Key]*model.Endpoint{}
		owners := map[netip.Addr]*model.Endpoint{}
		var u usage
		once(b, func() {
			u = use(func() {
				for _, f := range facts {
					if e, ok := f.(*model.Endpoint); ok {
						byKey[e.Key] = e
						owners[e.Addresses[0]] = e
					}
				}
			})
		})
		u.report(b, endpoints)
		runtime.KeepAlive(byKey)
		runtime.KeepAlive(owners)
	})
}

func selectors(n *node) []selector.Selector {
	var all []selector.Selector
	for s := range n.view.Tracked() {
		all = append(all, s)
	}
	return all
}

const (
	soloSpaces = 100_000
	soloLocal  = 100
)

// soloWorld is namespaces of one pod each, isolated from all others.
func soloWorld() []model.Fact {
	n := names{}
	facts := clusters()
	for i := range soloSpaces {
		name := fmt.Sprintf("tenant-%d", i)
		local := i%(soloSpaces/soloLocal) == 0
		cluster := remoteCluster
		if local {
			cluster = localCluster
		}
		labels := map[string]string{}
		for l := range 15 {
			labels[fmt.Sprintf("label-%d", l)] = fmt.Sprintf("value-%d-%d", l, i)
		}
		facts = append(
			facts,
			&model.Policy{
				Key: model.PolicyKey(localCluster, name, "isolation"), Ingress: true,
				IngressRules: []model.PolicyRule{{AnyPort: true, Peers: []model.PolicyPeer{{Pods: &model.LabelSelector{}}}}},
			},
			namespace(cluster, name, map[string]string{"team": fmt.Sprint("team-", i%500), "tenant": name}),
			n.numberedPod(i, local, name, labels),
		)
	}
	return facts
}

// BenchmarkIndexSoloNamespaces is the first computation over 100,000 namespaces
// of one pod each, with 15 labels a pod, no two the same, 3 labels a namespace
// and one isolation policy each; 100 of the pods are local.
func BenchmarkIndexSoloNamespaces(b *testing.B) {
	facts := soloWorld()
	b.Run("index", func(b *testing.B) {
		var n *node
		var u usage
		once(b, func() {
			u = use(func() {
				n = newNode()
				n.apply(setAll(facts))
			})
		})
		if got := len(selectors(n)); got != soloLocal {
			b.Fatalf("%d selectors are tracked", got)
		}
		u.report(b, soloSpaces)
		runtime.KeepAlive(n)
	})
	benchmarkGoMaps(b, facts, soloSpaces)
	b.Run("naive-1000-endpoints", func(b *testing.B) {
		const size = 1000
		config := policy.Config{Cluster: localCluster, Mesh: true}
		var peers []selector.Selector
		var endpoints []*model.Endpoint
		for _, f := range facts {
			switch f := f.(type) {
			case *model.Policy:
				s, _, _ := config.Peer(f, nil, f.IngressRules[0].Peers[0], "")
				peers = append(peers, s)
			case *model.Endpoint:
				endpoints = append(endpoints, f)
			}
		}
		n := newNaive(peers)
		var u usage
		once(b, func() {
			u = use(func() {
				for _, e := range endpoints[:size] {
					n.set(e)
				}
			})
		})
		u.report(b, size)
		runtime.KeepAlive(n)
	})
	runtime.KeepAlive(facts)
}
