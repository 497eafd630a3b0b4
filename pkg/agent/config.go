package agent

import (
	"net/netip"
	"time"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

// Config is what an agent is told of itself and of its own cluster.
type Config struct {
	// Cluster is the local cluster's name, Node this node's, Version this
	// build's.
	Cluster, Node, Version string
	// ClusterLabels are the labels of the local cluster.
	ClusterLabels model.Labels
	// PodCIDRs and NodeCIDRs are the local cluster's ranges, which no remote may
	// claim (semantics 1.5). Without PodCIDRs there is a Problem.
	PodCIDRs, NodeCIDRs []netip.Prefix
	// Mesh is the default scope of peers: all clusters instead of the local one
	// (semantics 2.3). ScopeOverride says who may change it.
	Mesh          bool
	ScopeOverride policy.Override
	// Limits bound what the policies of one namespace cost (semantics 2.13).
	Limits policy.Limits
	// Protected: what comes from or goes to a pod interface that nothing is
	// known of is dropped, unless it is Grandfathered, as those are that were
	// there before the first installation, by name and index. Else it passes.
	Protected     bool
	Grandfathered []model.Interface
	// OwnNodeEgress: egress rules apply to what a pod sends to its own node, too
	// (semantics 2.8).
	OwnNodeEgress bool
	// Exceptions are source ranges that pods may send from beside their own
	// addresses, by namespace (semantics 2.14).
	Exceptions map[string][]netip.Prefix
	// StepInterval is the shortest time between two steps while changes keep
	// coming; the first one after a pause is taken at once. 0: 20 ms, a fifth of
	// the 100 ms that a change may take to be enforced.
	StepInterval time.Duration
	// ContactInterval is how often the time of last contact is stored of a
	// cluster of which nothing else has changed. 0: 5 s.
	ContactInterval time.Duration
	// ProblemLimit bounds how many Problems of one kind a snapshot lists. 0: 100.
	ProblemLimit int
}

func (c Config) withDefaults() Config {
	if c.StepInterval <= 0 {
		c.StepInterval = 20 * time.Millisecond
	}
	if c.ContactInterval <= 0 {
		c.ContactInterval = 5 * time.Second
	}
	if c.ProblemLimit <= 0 {
		c.ProblemLimit = 100
	}
	return c
}

// fact is the local cluster's.
func (c Config) fact() *model.Cluster {
	return &model.Cluster{
		Name: c.Cluster, Local: true, Labels: c.ClusterLabels,
		PodCIDRs: c.PodCIDRs, NodeCIDRs: c.NodeCIDRs,
	}
}

func (c Config) policy() policy.Config {
	return policy.Config{
		Cluster: c.Cluster, ClusterLabels: c.ClusterLabels, Mesh: c.Mesh, ScopeOverride: c.ScopeOverride,
		Limits: c.Limits,
	}
}
