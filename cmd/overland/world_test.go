package main

import (
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/admin"
	"github.com/overland-net/overland/pkg/admin/client"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func ago(d time.Duration) time.Time { return noon().Add(-d) }

type fixed struct{ snapshot *agent.Snapshot }

func (f fixed) Snapshot() (*agent.Snapshot, <-chan struct{}) { return f.snapshot, make(chan struct{}) }

// agentOf runs an agent's admin server with that snapshot, and is its socket.
func agentOf(t *testing.T, s *agent.Snapshot) string {
	t.Helper()
	return agentWith(t, s, nil)
}

func agentWith(t *testing.T, s *agent.Snapshot, dp admin.Dataplane) string {
	t.Helper()
	return agentConfigured(t, s, admin.Config{Dataplane: dp})
}

func agentConfigured(t *testing.T, s *agent.Snapshot, config admin.Config) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root: only root may ask the socket")
	}
	dir, err := os.MkdirTemp("", "ovl") // t.TempDir's name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "a.sock")
	log := logrus.New()
	log.SetOutput(io.Discard)
	config.Socket, config.Self, config.Now = socket, self(), noon
	server := admin.NewServer(config, fixed{s}, logrus.NewEntry(log))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for {
		if _, err := client.New(socket).Status(t.Context()); err == nil {
			return socket
		}
		select {
		case err := <-done:
			done <- err
			t.Fatal("the server has ended")
		case <-time.After(time.Millisecond):
		}
	}
}

func self() agent.Self {
	return agent.Self{Cluster: "west", Node: "node-1", Version: "v0.1.0", Started: ago(50 * time.Hour)}
}

func labels(pairs ...string) model.Labels {
	m := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return model.NewLabels(m)
}

func pod(cluster, namespace, name, node, address string, pairs ...string) *model.Endpoint {
	return &model.Endpoint{
		Key: model.PodKey(cluster, namespace, name), Node: node, Labels: labels(pairs...), ServiceAccount: "default",
		Addresses: []netip.Addr{netip.MustParseAddr(address)}, Created: ago(26 * time.Hour).Unix(),
	}
}

func node(cluster, name, address string) *model.Endpoint {
	return &model.Endpoint{Key: model.NodeKey(cluster, name), Node: name, Addresses: []netip.Addr{netip.MustParseAddr(address)}, Created: ago(9 * 24 * time.Hour).Unix()}
}

// healthy is west with canada linked; all is well.
func healthy() *agent.Snapshot {
	west := &model.Cluster{Name: "west", Local: true, InContact: true, Labels: labels("region", "uswest")}
	canada := &model.Cluster{
		Name: "canada", InContact: true, Created: 1000, Labels: labels("region", "canada"),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}, NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")},
	}
	cart := pod("west", "shop", "cart-0", "node-1", "10.1.1.10", "app", "cart", "tier", "front")
	cart.Addresses = append(cart.Addresses, netip.MustParseAddr("fd00:1::10"))
	cart.Ports = []model.NamedPort{{Name: "http", Protocol: model.TCP, Port: 8080}}
	cart.UID = model.ParseUID("00000000-0000-4000-8000-000000000001")
	x := index.New()
	for _, f := range []model.Fact{
		west, canada,
		&model.Namespace{Key: model.NamespaceKey("west", "shop"), Labels: labels("team", "web")},
		&model.Namespace{Key: model.NamespaceKey("canada", "redis"), Labels: labels("team", "data")},
		cart,
		pod("canada", "redis", "demo-clusterb-0", "node-1", "10.2.1.10", "app", "redis"),
		pod("canada", "shop", "thief", "node-2", "10.1.0.4", "app", "cart"),
		node("west", "node-1", "10.1.0.4"), node("canada", "node-1", "10.2.0.4"),
	} {
		x.Apply(model.Set(f))
	}
	v := x.View()
	synced := model.ClusterStatus{
		State: model.StateInSync, Reason: model.ReasonInSync, Since: ago(2 * time.Hour), LastContact: ago(time.Second),
		KubernetesVersion: "v1.37.1",
	}
	remote := synced
	remote.CredentialsExpire = noon().Add(29 * 24 * time.Hour)
	return &agent.Snapshot{
		Gen: 7, At: ago(time.Second), Self: self(), View: v, InSync: true,
		Clusters: []agent.Cluster{
			{Name: "west", Local: true, Fact: west, Status: synced, Counts: v.Counts("west"), Refused: v.Counts("west").Refused},
			{Name: "canada", Fact: canada, Status: remote, Counts: v.Counts("canada"), Refused: v.Counts("canada").Refused},
		},
		Problems: []model.Problem{{Kind: model.ProblemAddressRefused, Object: model.PodKey("canada", "shop", "thief"), Message: "its address is refused"}},
	}
}

// cut is the same once canada cannot be reached; its error has been made to
// look like an instruction to the terminal.
func cut() *agent.Snapshot {
	s := healthy()
	c := &s.Clusters[1]
	c.Status.State, c.Status.Reason = model.StateOutOfContact, model.ReasonUnreachable
	c.Status.Since, c.Status.LastContact = ago(42*time.Second), ago(45*time.Second)
	c.Status.Message = "no answer from 10.2.0.4:6443: \x1b[31mcheck the peering\nand more"
	s.Problems = append(s.Problems, model.Problem{Kind: model.ProblemCluster, Object: model.ClusterKey("canada"), Message: "Unreachable"})
	return s
}

// restored is the same after a restart.
func restored() *agent.Snapshot {
	s := cut()
	s.Clusters[1].Restored = true
	s.Clusters[1].Status.Message = ""
	return s
}

// empty knows no endpoint.
func empty() *agent.Snapshot {
	s := healthy()
	s.View = index.New().View()
	s.Problems = nil
	return s
}
