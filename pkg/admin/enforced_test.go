package admin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

func in(key string, values ...string) model.Requirement {
	return model.Requirement{Key: key, Operator: model.In, Values: values}
}

func selecting(r ...model.Requirement) *model.LabelSelector {
	s := model.LabelSelector(r)
	return &s
}

// enforcedPolicies are those of west.
func enforcedPolicies() []model.Fact {
	return []model.Fact{
		&model.Policy{
			Key: model.PolicyKey("west", "redis", "only-carts"), UID: model.ParseUID("00000000-0000-4000-8000-0000000000a1"), Generation: 3,
			Pods: *selecting(in("app", "redis")), Ingress: true,
			IngressRules: []model.PolicyRule{{
				Peers: []model.PolicyPeer{
					{Pods: selecting(in("app", "cart"), in(model.KeyCluster, "canada")), Namespaces: selecting(in("team", "web"))},
					{Block: netip.MustParsePrefix("10.9.0.0/16"), Except: []netip.Prefix{netip.MustParsePrefix("10.9.1.0/24")}},
					{Pods: selecting(in(model.KeyKind, "Node"))},
				},
				Ports: []model.PolicyPort{
					{Protocol: model.TCP, Name: "redis"}, {Protocol: model.UDP, First: 7000, Last: 7010}, {Protocol: model.SCTP},
				},
			}},
		},
		&model.Policy{
			Key: model.PolicyKey("west", "shop", "carts-out"), Generation: 1, PeerScope: "mesh",
			Pods: *selecting(in("app", "cart")), Egress: true,
			EgressRules: []model.PolicyRule{
				{Peers: []model.PolicyPeer{{Namespaces: selecting()}}, Ports: []model.PolicyPort{{Protocol: model.TCP, First: 6379, Last: 6379}}},
				{AnyPeer: true, Ports: []model.PolicyPort{{Protocol: model.UDP, First: 53, Last: 53}}},
			},
		},
		&model.Policy{Key: model.PolicyKey("west", "shop", "carts-in"), Generation: 1, Pods: *selecting(in("app", "cart")), Ingress: true},
		&model.Policy{
			Key: model.PolicyKey("west", "shop", "none-here"), Generation: 1, Pods: *selecting(in("app", "nobody")), Ingress: true,
			IngressRules: []model.PolicyRule{{AnyPort: true, Peers: []model.PolicyPeer{{Pods: selecting(in("overland.dev/nonsense", "1"))}, {Pods: selecting()}}}},
		},
	}
}

// enforcedFacts are those of a cluster.
func enforcedFacts(cluster string) []model.Fact {
	pod := func(namespace, name, node string, addrs []netip.Addr, pairs ...string) *model.Endpoint {
		return &model.Endpoint{
			Key: model.PodKey(cluster, namespace, name), UID: model.ParseUID(cluster + namespace + name), Node: node,
			Labels: labelSet(pairs...), ServiceAccount: "default", Addresses: addrs,
		}
	}
	namespaces := []model.Fact{
		&model.Namespace{Key: model.NamespaceKey(cluster, "shop"), Labels: labelSet("team", "web")},
		&model.Namespace{Key: model.NamespaceKey(cluster, "redis"), Labels: labelSet("team", "data")},
	}
	if cluster == "canada" {
		return append(namespaces,
			&model.Endpoint{Key: model.NodeKey("canada", "node-1"), Node: "node-1", Addresses: addresses("10.2.0.4")},
			pod("shop", "cart-0", "node-1", addresses("10.2.1.10"), "app", "cart"),
			pod("redis", "redis-0", "node-1", addresses("10.2.1.11"), "app", "redis"),
			pod("shop", "thief", "node-1", addresses("10.1.0.4"), "app", "cart"),
		)
	}
	redis := pod("redis", "redis-0", "node-1", addresses("10.1.1.11"), "app", "redis")
	redis.Ports = []model.NamedPort{{Name: "redis", Protocol: model.TCP, Port: 6379}, {Name: "redis", Protocol: model.TCP, Port: 6380}}
	leaving := pod("shop", "leaving", "node-2", addresses("10.1.2.11"))
	leaving.Terminating = true
	return append(append(namespaces, enforcedPolicies()...),
		&model.Endpoint{Key: model.NodeKey("west", "node-1"), Node: "node-1", Addresses: addresses("10.1.0.4", "fd00:1::4")},
		&model.Endpoint{Key: model.NodeKey("west", "node-2"), Node: "node-2", Addresses: addresses("10.1.0.5")},
		pod("shop", "cart-0", "node-1", addresses("10.1.1.10", "fd00:1::10"), "app", "cart"),
		pod("shop", "cart-1", "node-2", addresses("10.1.2.10", "fd00:1::20"), "app", "cart"),
		pod("shop", "waiting", "node-1", addresses("10.1.1.12")), leaving, redis,
	)
}

// enforced is the snapshot of an agent that enforces: of a real Core.
func enforced(t testing.TB) *agent.Snapshot {
	t.Helper()
	core := agent.NewCore(agent.Config{
		Cluster: "west", Node: "node-1", Version: "v0.1.0", Protected: true, ClusterLabels: labelSet("region", "uswest"),
		PodCIDRs:   []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/48")},
		Exceptions: map[string][]netip.Prefix{"redis": {netip.MustParsePrefix("172.30.0.0/16")}},
	}, ago(3*time.Hour))
	mail := map[string]*agent.Mail{}
	for _, cluster := range []string{"west", "canada"} {
		m := &agent.Mail{Wiped: map[agent.Scope]bool{}, Changes: map[model.Key]model.Fact{}, Synced: true, Status: &model.ClusterStatus{
			State: model.StateInSync, Reason: model.ReasonInSync, Since: ago(2 * time.Hour), LastContact: ago(time.Second),
		}}
		for _, kind := range []model.Kind{model.KindNode, model.KindNamespace, model.KindPolicy, model.KindPod} {
			m.Wiped[agent.Scope{Kind: kind}] = true
		}
		for _, f := range enforcedFacts(cluster) {
			m.Changes[f.FactKey()] = f
		}
		if cluster == "canada" {
			f := &model.Cluster{Name: "canada", Created: 1000, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}, InContact: true}
			m.Changes[f.FactKey()] = f
		}
		mail[cluster] = m
	}
	interfaces := []model.Interface{
		{Name: policy.InterfaceName("shop", "cart-0"), Index: 7, Addrs: addresses("10.1.1.10", "fd00:1::10")},
		{Name: policy.InterfaceName("redis", "redis-0"), Index: 8, Addrs: addresses("10.1.1.11")},
		{Name: "azvffffffffff9", Index: 9, Addrs: addresses("10.1.1.99")},
	}
	slices.SortFunc(interfaces, func(a, b model.Interface) int { return strings.Compare(a.Name, b.Name) })
	var s *agent.Snapshot
	for more := true; more; {
		out := core.Step(agent.Input{Now: ago(time.Second), Mail: mail, Interfaces: interfaces})
		if out.Snapshot != nil {
			s = out.Snapshot
		}
		mail, interfaces, more = nil, nil, out.More
	}
	if s == nil || s.Desired == nil || len(s.Desired.Rules.Endpoints) != 2 {
		t.Fatal("the world is not enforced")
	}
	return s
}

// fakeDataplane says and finds what it is told to.
type fakeDataplane struct {
	status dataplane.Status
	ready  error
	found  func(*desired.State, desired.Flow) (dataplane.Inspection, error)
	asked  []desired.Flow
}

func (f *fakeDataplane) Ready() error { return f.ready }

func (f *fakeDataplane) Status() dataplane.Status { return f.status }

func (f *fakeDataplane) Inspect(_ context.Context, want *desired.State, flow desired.Flow) (dataplane.Inspection, error) {
	f.asked = append(f.asked, flow)
	if f.found != nil {
		return f.found(want, flow)
	}
	return dataplane.Inspection{
		Agrees: true,
		Sets:   []dataplane.SetCheck{{Set: "ovl4-x", Text: "what it means", Element: flow.Src.String(), Want: true, Kernel: true}},
		Chains: []dataplane.ChainCheck{{Table: "mangle", Chain: "OVL-FORWARD", Family: desired.FamilyOf(flow.Dst), Agrees: true}},
	}, nil
}

// applied is a dataplane that enforces what the snapshot wants.
func applied(s *agent.Snapshot) *fakeDataplane {
	return &fakeDataplane{status: dataplane.Status{
		Name: "iptables", Backend: "nft", Wanted: s.Desired.Gen, Applied: s.Desired.Gen, State: s.Desired, InForce: true,
		AppliedAt: ago(2 * time.Second),
		Totals: dataplane.Totals{
			Applies: 10, Transactions: 3, SetsCreated: 4, SetsRemoved: 1, Added: 20, Deleted: 5, Sweeps: 2, FlowsReset: 6, FlowsDeleted: 7,
			Raises: 1, Repairs: 1, SweepTime: 30 * time.Millisecond, LastSweep: 10 * time.Millisecond, LongestSweep: 20 * time.Millisecond,
			LastApply: 5 * time.Millisecond, LongestApply: 50 * time.Millisecond,
		},
	}}
}

// behind is one that fails.
func behind(s *agent.Snapshot) *fakeDataplane {
	f := applied(s)
	f.status.InForce, f.status.Applied, f.status.State = false, 0, nil
	f.status.WantedSince, f.status.Error, f.status.ErrorSince, f.status.Failures = ago(90*time.Second), "no lock", ago(80*time.Second), 4
	f.status.Repaired, f.status.RepairedAt = []string{"a chain"}, ago(time.Minute)
	f.status.Problems = []model.Problem{{Kind: model.ProblemDataplane, Message: "what is wanted is not enforced: no lock"}}
	f.ready = errors.New("dataplane iptables: no lock")
	return f
}

// askWith is an answer of an agent that enforces by that dataplane.
func askWith(t *testing.T, s *agent.Snapshot, dp Dataplane, path string) (int, []byte) {
	t.Helper()
	server := NewServer(Config{Self: self(), Now: noon, Dataplane: dp}, fixed{s}, quiet())
	w := httptest.NewRecorder()
	server.socketHandler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.Bytes()
}
