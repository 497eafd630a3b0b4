package agent

import (
	"time"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

// Snapshot is everything that this node knows at one moment. It is immutable,
// maps and slices included, and may be held and read by anyone for as long as
// they like.
type Snapshot struct {
	// Gen grows by one with every snapshot; that of the first one, which knows
	// only what the configuration says, is 1.
	Gen  uint64
	At   time.Time
	Self Self
	View index.View
	// Clusters has the local cluster first, then the remote ones by name.
	Clusters []Cluster
	// Problems are sorted by kind, object and message, and their number is
	// bounded: where a kind has too many, the last of it counts the rest.
	Problems []model.Problem
	// InSync: all of the local cluster's pods, nodes, namespaces and policies
	// have been listed, by its API server or, if Clusters[0].Restored, by what
	// this node's store has of it. It never becomes false again, and no remote
	// cluster has a part in it (semantics 3.6).
	InSync bool
	// Desired is what this node must enforce. It is nil until InSync and until
	// the node's interfaces have been told once: nothing is to be changed in the
	// kernel before. Its Gen is that of the first snapshot that has it.
	Desired *desired.State
	// Pods are this node's, by what sources or the store say of them: those that
	// are starting too, which have no address, and so are not in View. What they
	// have by their attachments is in View and Desired only.
	Pods map[model.Key]*model.Endpoint
	// Policies are all of the local cluster's, sorted by namespace and name; the
	// same slice until policies, Namespaces or pods of this node change.
	Policies []PolicyView
	// Meaning is the configuration by which they are understood.
	Meaning policy.Config
	// Grandfathered are those of Config.Grandfathered that are still there and
	// of which no pod was ever known, sorted by name.
	Grandfathered []model.Interface
}

// PolicyView is a policy in a Snapshot.
type PolicyView struct {
	Policy *model.Policy
	// Selects are the pods of this node that it applies to, sorted by name: none,
	// and nothing of it is enforced here.
	Selects []model.Key
	// Problems are all of those about it, sorted; Snapshot.Problems, which is
	// bounded, has them too. Of a policy in whose namespace this node has no pod
	// nothing is known.
	Problems []model.Problem
}

// Self is what the agent says of itself.
type Self struct {
	Cluster, Node, Version string
	Started                time.Time
}

// Cluster is a cluster in a Snapshot.
type Cluster struct {
	Name  string
	Local bool
	// Fact is the cluster's fact with InContact filled in. It is nil for a
	// cluster that has a status but is not known (yet).
	Fact *model.Cluster
	// Status is what its source reports. For a restored cluster LastContact is
	// that of the restored facts until there is contact; past its endpoint limit
	// Reason is ReasonTooLarge.
	Status model.ClusterStatus
	Counts index.Counts
	// Restored: some of its facts come from this node's store, and its API
	// server has not confirmed them since the agent's start.
	Restored bool
	// Complete: all of its endpoints were known at one time, listed since the
	// agent's start or restored. What the View lacks is then not there. It ends
	// when they are dropped: a drain, staleAfter.
	Complete bool
	// Refused counts by reason: the addresses that the view refuses, the objects
	// that the source refused, the endpoints past the limit.
	Refused map[model.RefusalReason]int
}

// Cluster is the cluster of that name.
func (s *Snapshot) Cluster(name string) (Cluster, bool) {
	for _, c := range s.Clusters {
		if c.Name == name {
			return c, true
		}
	}
	return Cluster{}, false
}
