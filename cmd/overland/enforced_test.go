package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/admin"
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

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

func enforcedFacts() map[string][]model.Fact {
	redis := pod("west", "redis", "redis-0", "node-1", "10.1.1.11", "app", "redis")
	redis.Ports = []model.NamedPort{{Name: "redis", Protocol: model.TCP, Port: 6379}}
	return map[string][]model.Fact{
		"west": {
			&model.Namespace{Key: model.NamespaceKey("west", "shop"), Labels: labels("team", "web")},
			&model.Namespace{Key: model.NamespaceKey("west", "redis"), Labels: labels("team", "data")},
			node("west", "node-1", "10.1.0.4"), redis,
			pod("west", "shop", "cart-0", "node-1", "10.1.1.10", "app", "cart"),
			pod("west", "shop", "cart-1", "node-2", "10.1.2.10", "app", "cart"),
			pod("west", "shop", "free", "node-1", "10.1.1.12"),
			&model.Policy{
				Key: model.PolicyKey("west", "redis", "only-carts"), Generation: 3, Pods: *selecting(in("app", "redis")), Ingress: true,
				IngressRules: []model.PolicyRule{{
					Peers: []model.PolicyPeer{
						{Pods: selecting(in("app", "cart"), in(model.KeyCluster, "canada")), Namespaces: selecting(in("team", "web"))},
						{Block: netip.MustParsePrefix("10.9.0.0/16"), Except: []netip.Prefix{netip.MustParsePrefix("10.9.1.0/24")}},
						{Pods: selecting(in(model.KeyKind, "Node"), in("pool", "none"))},
						{Pods: selecting(in("overland.dev/nonsense", "x"))},
					},
					Ports: []model.PolicyPort{{Protocol: model.TCP, Name: "redis"}, {Protocol: model.UDP, First: 7000, Last: 7010}},
				}, {AnyPeer: true, Ports: []model.PolicyPort{{Protocol: model.SCTP}}}},
			},
			&model.Policy{Key: model.PolicyKey("west", "shop", "carts"), Generation: 1, Pods: *selecting(in("app", "cart")), Ingress: true, Egress: true},
			&model.Policy{Key: model.PolicyKey("west", "shop", "none-here"), Generation: 1, Pods: *selecting(in("app", "nobody")), Ingress: true},
			&model.Policy{Key: model.PolicyKey("west", "redis", "carts"), Generation: 1, Pods: *selecting(in("app", "nobody")), Ingress: true},
		},
		"canada": {
			&model.Cluster{Name: "canada", Created: 1000, InContact: true, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}},
			&model.Namespace{Key: model.NamespaceKey("canada", "shop"), Labels: labels("team", "web")},
			pod("canada", "shop", "cart-0", "node-1", "10.2.1.10", "app", "cart"),
		},
	}
}

// enforced is the snapshot of an agent that enforces: of a real Core.
func enforced(t *testing.T) *agent.Snapshot {
	t.Helper()
	core := agent.NewCore(agent.Config{
		Cluster: "west", Node: "node-1", Version: "v0.1.0", Protected: true, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		Exceptions: map[string][]netip.Prefix{"redis": {netip.MustParsePrefix("172.30.0.0/16")}},
	}, ago(50*time.Hour))
	mail := map[string]*agent.Mail{}
	for cluster, facts := range enforcedFacts() {
		m := &agent.Mail{Wiped: map[agent.Scope]bool{}, Changes: map[model.Key]model.Fact{}, Synced: true, Status: &model.ClusterStatus{
			State: model.StateInSync, Reason: model.ReasonInSync, Since: ago(2 * time.Hour), LastContact: ago(time.Second),
		}}
		for _, kind := range []model.Kind{model.KindNode, model.KindNamespace, model.KindPolicy, model.KindPod} {
			m.Wiped[agent.Scope{Kind: kind}] = true
		}
		for _, f := range facts {
			m.Changes[f.FactKey()] = f
		}
		mail[cluster] = m
	}
	var interfaces []model.Interface
	for i, p := range [][3]string{{"shop", "cart-0", "10.1.1.10"}, {"redis", "redis-0", "10.1.1.11"}, {"shop", "free", "10.1.1.12"}} {
		interfaces = append(interfaces, model.Interface{Name: policy.InterfaceName(p[0], p[1]), Index: i + 7, Addrs: addrs(p[2])})
	}
	interfaces = append(interfaces, model.Interface{Name: "azvffffffffff9", Index: 99, Addrs: addrs("10.1.1.99")})
	slices.SortFunc(interfaces, func(a, b model.Interface) int { return strings.Compare(a.Name, b.Name) })
	s := core.Step(agent.Input{Now: ago(time.Second), Mail: mail, Interfaces: interfaces}).Snapshot
	if s == nil || s.Desired == nil || len(s.Desired.Rules.Endpoints) != 3 {
		t.Fatal("the world is not enforced")
	}
	return s
}

// enforcedCut is the same while canada cannot be reached.
func enforcedCut(t *testing.T) *agent.Snapshot {
	s := enforced(t)
	c := &s.Clusters[1]
	c.Status.State, c.Status.Reason, c.Status.LastContact = model.StateOutOfContact, model.ReasonUnreachable, ago(time.Minute)
	return s
}

// fakeDataplane enforces what it is told, and finds what it is told.
type fakeDataplane struct {
	status dataplane.Status
	ready  error
	found  dataplane.Inspection
}

func (f fakeDataplane) Ready() error { return f.ready }

func (f fakeDataplane) Status() dataplane.Status { return f.status }

func (f fakeDataplane) Inspect(context.Context, *desired.State, desired.Flow) (dataplane.Inspection, error) {
	return f.found, nil
}

func working(s *agent.Snapshot) fakeDataplane {
	return fakeDataplane{
		status: dataplane.Status{
			Name: "iptables", Backend: "nft", Wanted: s.Desired.Gen, Applied: s.Desired.Gen, State: s.Desired, InForce: true, AppliedAt: ago(2 * time.Second),
			Totals: dataplane.Totals{Applies: 10, Transactions: 3, Added: 20, Deleted: 5, Sweeps: 2, FlowsReset: 6, Raises: 1, LastApply: 5 * time.Millisecond, LongestApply: 50 * time.Millisecond},
		},
		found: dataplane.Inspection{
			Agrees: true,
			Sets:   []dataplane.SetCheck{{Set: "ovl4-x", Text: "what it means", Element: "10.2.1.10", Want: true, Kernel: true}},
			Chains: []dataplane.ChainCheck{{Table: "mangle", Chain: "OVL-FORWARD", Family: desired.IPv4, Agrees: true}},
		},
	}
}

func failing(s *agent.Snapshot) fakeDataplane {
	f := working(s)
	f.ready = errors.New("dataplane iptables: no lock")
	f.status.InForce, f.status.Applied, f.status.State = false, 0, nil
	f.status.WantedSince, f.status.Error, f.status.ErrorSince, f.status.Failures = ago(90*time.Second), "no lock", ago(80*time.Second), 4
	f.status.Repaired, f.status.RepairedAt = []string{"a chain"}, ago(time.Minute)
	f.status.Problems = []model.Problem{{Kind: model.ProblemDataplane, Message: "what is wanted is not enforced: no lock"}}
	f.found = dataplane.Inspection{
		Sets:   []dataplane.SetCheck{{Set: "ovl4-x", Text: "what it means", Element: "10.2.1.10", Want: true}},
		Chains: []dataplane.ChainCheck{{Table: "mangle", Chain: "OVL-FORWARD", Family: desired.IPv4, Difference: "there is no such chain"}},
	}
	return f
}

func TestOutputAboutEnforcement(t *testing.T) {
	s, stale := enforced(t), enforcedCut(t)
	tests := []struct {
		golden   string
		snapshot *agent.Snapshot
		dp       admin.Dataplane
		args     string // separated by ;
		status   int
	}{
		{"status-enforced", s, working(s), "status;-o;wide", 0},
		{"status-failing", s, failing(s), "status", 0},
		{"policies", s, working(s), "policies", 0},
		{"policies-wide", s, working(s), "policies;--all;-o;wide", 0},
		{"policies-none", s, working(s), "policies;-n;nowhere", 0},
		{"policies-json", s, working(s), "policies;-n;shop;-o;json", 0},
		{"policy", s, working(s), "policies;redis/only-carts", 0},
		{"policy-without-rules", s, working(s), "policies;carts;-n;shop", 0},
		{"policy-by-name", s, working(s), "policies;none-here;-o;yaml", 0},
		{"policy-ambiguous", s, working(s), "policies;carts", 2},
		{"policy-unknown", s, working(s), "policies;nope", 1},
		{"policy-unknown-there", s, working(s), "policies;shop/nope", 1},
		{"policy-stale", stale, working(stale), "policies;redis/only-carts;-o;json", 3},
		{"endpoint-enforced", s, working(s), "endpoint;redis/redis-0", 0},
		{"endpoint-closed", s, working(s), "endpoint;shop/cart-0", 0},
		{"endpoint-free", s, failing(s), "endpoint;shop/free", 0},
		{"endpoint-elsewhere", s, working(s), "endpoint;shop/cart-1", 0},
		{"explain-allowed", s, working(s), "explain;canada/shop/cart-0;redis/redis-0;redis;-o;wide", 0},
		{"explain-denied", s, working(s), "explain;canada/shop/cart-0;redis/redis-0;80", 4},
		{"explain-denied-stale", stale, working(stale), "explain;canada/shop/cart-0;redis/redis-0;80", 4},
		{"explain-stale", stale, working(stale), "explain;canada/shop/cart-0;redis/redis-0;6379", 3},
		{"explain-stale-other", stale, working(stale), "explain;node;redis/redis-0;6379", 0},
		{"explain-kernel-differs", s, failing(s), "explain;canada/shop/cart-0;redis/redis-0;6379", 1},
		{"explain-no-dataplane", s, nil, "explain;canada/shop/cart-0;redis/redis-0;6379", 0},
		{"explain-elsewhere", s, working(s), "explain;shop/cart-1;canada/shop/cart-0;80", 1},
		{"explain-unknown-interface", s, working(s), "explain;10.1.1.99;10.77.0.1;icmp", 4},
		{"explain-json", s, working(s), "explain;shop/cart-0;10.77.0.1;443;-o;json", 4},
		{"explain-unknown", s, working(s), "explain;shop/cart-0;redis/redis-9;443", 1},
		{"explain-bad", s, working(s), "explain;shop;redis/redis-0;443", 2},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			socket := agentWith(t, tt.snapshot, tt.dp)
			args := strings.Split(tt.args, ";")
			stdout, stderr, status := call(t, append(args, "--socket", socket)...)
			if status != tt.status {
				t.Errorf("exit status %d, want %d", status, tt.status)
			}
			text := fmt.Sprintf("$ overland %s\n%s", strings.Join(args, " "), stdout)
			if stderr != "" {
				text += "-- standard error\n" + stderr
			}
			golden(t, tt.golden, text+fmt.Sprintf("-- exit status %d\n", status))
		})
	}
}
