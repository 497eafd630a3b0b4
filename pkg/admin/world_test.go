package admin

import (
	"net/netip"
	"time"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// noon is when every answer of these tests is made.
func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func ago(d time.Duration) time.Time { return noon().Add(-d) }

// fixed is a source that always has the same snapshot.
type fixed struct{ snapshot *agent.Snapshot }

func (f fixed) Snapshot() (*agent.Snapshot, <-chan struct{}) {
	return f.snapshot, make(chan struct{})
}

func addresses(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

func labelSet(pairs ...string) model.Labels {
	m := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return model.NewLabels(m)
}

func self() agent.Self {
	return agent.Self{Cluster: "west", Node: "node-1", Version: "v0.1.0", Started: ago(3 * time.Hour)}
}

func westFact() *model.Cluster {
	return &model.Cluster{
		Name: "west", Local: true, InContact: true, Labels: labelSet("region", "uswest"),
		PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24"), netip.MustParsePrefix("fd00:1::/64")},
		NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")},
	}
}

func canadaFact() *model.Cluster {
	return &model.Cluster{
		Name: "canada", UID: model.ParseUID("5d3c1f70-0000-4000-8000-00000000000c"), Created: 1000,
		Labels:   labelSet("region", "canada"),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}, NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")},
		StaleAfter: time.Hour, EndpointLimit: 250000,
	}
}

// worldFacts are two clusters; canada claims what is not its own.
func worldFacts() []model.Fact {
	day := int64(24 * 3600)
	return []model.Fact{
		westFact(), canadaFact(),
		&model.Cluster{Name: "europe", Created: 2000, InContact: true},
		&model.Namespace{Key: model.NamespaceKey("west", "shop"), Labels: labelSet("team", "web")},
		&model.Namespace{Key: model.NamespaceKey("west", "redis"), Labels: labelSet("team", "data")},
		&model.Namespace{Key: model.NamespaceKey("canada", "redis"), Labels: labelSet("team", "data")},
		&model.Endpoint{
			Key: model.PodKey("west", "shop", "cart-0"), UID: model.ParseUID("00000000-0000-4000-8000-000000000001"),
			Labels: labelSet("app", "cart", "tier", "front"), ServiceAccount: "cart", Node: "node-1",
			Addresses: addresses("10.1.1.10", "fd00:1::10"),
			Ports:     []model.NamedPort{{Name: "http", Protocol: model.TCP, Port: 8080}},
			Created:   noon().Unix() - 2*day,
		},
		&model.Endpoint{
			Key: model.PodKey("west", "redis", "redis-0"), UID: model.ParseUID("00000000-0000-4000-8000-000000000002"),
			Labels: labelSet("app", "redis"), ServiceAccount: "default", Node: "node-2",
			Addresses: addresses("10.1.1.11"), Created: noon().Unix() - 60, Terminating: true,
		},
		&model.Endpoint{Key: model.NodeKey("west", "node-1"), Node: "node-1", Addresses: addresses("10.1.0.4"), Created: noon().Unix() - 9*day, Labels: labelSet("pool", "one")},
		&model.Endpoint{Key: model.NodeKey("west", "node-2"), Node: "node-2", Addresses: addresses("10.1.0.5"), Created: noon().Unix() - 9*day},
		&model.Endpoint{
			Key: model.PodKey("canada", "redis", "demo-clusterb-0"), UID: model.ParseUID("00000000-0000-4000-8000-000000000003"),
			Labels: labelSet("app", "redis", "note", "<&>"), ServiceAccount: "default", Node: "node-1",
			Addresses: addresses("10.2.1.10"), Created: noon().Unix() + 5,
		},
		&model.Endpoint{
			Key: model.PodKey("canada", "shop", "thief"), UID: model.ParseUID("00000000-0000-4000-8000-000000000004"),
			Labels: labelSet("app", "cart"), ServiceAccount: "default", Node: "node-1",
			Addresses: addresses("10.1.0.4", "8.8.8.8"), Created: noon().Unix() - day,
		},
		&model.Endpoint{Key: model.NodeKey("canada", "node-1"), Node: "node-1", Addresses: addresses("10.2.0.4"), Created: noon().Unix() - 9*day},
	}
}

// world is a snapshot of them: canada cannot be reached, and is known from the
// store.
func world() *agent.Snapshot {
	x := index.New()
	for _, f := range worldFacts() {
		x.Apply(model.Set(f))
	}
	v := x.View()
	canada := v.Counts("canada").Refused
	if canada == nil {
		canada = make(map[model.RefusalReason]int)
	}
	canada[model.RefusedMalformed] = 2
	return &agent.Snapshot{
		Gen: 7, At: ago(1500 * time.Millisecond), Self: self(), View: v, InSync: true,
		Clusters: []agent.Cluster{
			{Name: "west", Local: true, Fact: westFact(), Counts: v.Counts("west"), Status: model.ClusterStatus{
				State: model.StateInSync, Reason: model.ReasonInSync, Since: ago(2 * time.Hour), LastContact: ago(time.Second),
				ClusterUID: "aaaaaaaa-0000-4000-8000-000000000000", DeclaredName: "west", KubernetesVersion: "v1.37.1",
			}},
			{Name: "canada", Fact: canadaFact(), Counts: v.Counts("canada"), Restored: true, Refused: canada, Status: model.ClusterStatus{
				State: model.StateOutOfContact, Reason: model.ReasonUnreachable, Since: ago(42 * time.Second), LastContact: ago(3 * time.Minute),
				Message:    "dial tcp 10.2.0.4:6443: i/o timeout: check the peering and the API server's firewall",
				ClusterUID: "cccccccc-0000-4000-8000-000000000000", KubernetesVersion: "v1.36.2",
				NotReadable: []model.Kind{model.KindNode}, ReservedLabels: 3,
			}},
			{Name: "europe", Fact: &model.Cluster{Name: "europe", Created: 2000, InContact: true}, Counts: v.Counts("europe"), Status: model.ClusterStatus{
				State: model.StateInSync, Reason: model.ReasonInSync, Since: ago(time.Hour), LastContact: ago(2 * time.Second),
				CredentialsExpire: noon().Add(29 * 24 * time.Hour),
			}},
		},
		Problems: []model.Problem{
			{Kind: model.ProblemAddressRefused, Object: model.PodKey("canada", "shop", "thief"), Message: "2 addresses are refused"},
			{Kind: model.ProblemCluster, Object: model.ClusterKey("canada"), Message: "Unreachable"},
			{Kind: model.ProblemPolicy, Object: model.PolicyKey("west", "shop", "front"), Message: "impossible selector"},
		},
	}
}

// unlisted is the snapshot of an agent whose local cluster has not answered.
func unlisted(restored bool) *agent.Snapshot {
	return &agent.Snapshot{Gen: 1, At: ago(time.Second), Self: self(), Clusters: []agent.Cluster{{
		Name: "west", Local: true, Restored: restored,
		Status: model.ClusterStatus{State: model.StateOutOfContact, Reason: model.ReasonUnreachable, Since: ago(9 * time.Second)},
	}}}
}
