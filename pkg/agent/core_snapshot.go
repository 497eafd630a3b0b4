package agent

import (
	"fmt"
	"maps"
	"slices"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// snapshot is what is known now. It costs as much as there are clusters and
// Problems, however many endpoints there are.
func (c *Core) snapshot() *Snapshot {
	c.gen++
	s := &Snapshot{
		Gen: c.gen, At: c.now, Self: c.self, View: c.view, InSync: c.inSync,
		Clusters: make([]Cluster, 0, len(c.order)),
		Desired:  c.enforce.desired, Policies: c.enforce.views, Grandfathered: c.enforce.grandfathered,
		Meaning: c.cfg.policy(), Pods: c.own.snapshot(),
	}
	problems := slices.Concat(c.policyProblems, c.storeProblems)
	for _, name := range c.order {
		cl := c.clusters[name]
		seen := c.seen(cl)
		s.Clusters = append(s.Clusters, seen)
		problems = append(problems, clusterProblems(seen, cl.stale)...)
	}
	s.Problems = bounded(problems, c.cfg.ProblemLimit)
	return s
}

// seen is a cluster as a snapshot has it.
func (c *Core) seen(cl *cluster) Cluster {
	counts := c.view.Counts(cl.name)
	s := Cluster{
		Name: cl.name, Local: cl.local, Fact: cl.shown, Status: cl.status, Counts: counts,
		Restored: cl.restored != 0, Complete: cl.complete, Refused: refused(cl, counts),
	}
	s.Status.LastContact = cl.contact()
	if s.Status.Reason == "" {
		s.Status.Reason = model.ReasonConnecting
	}
	if n := cl.pastLimit(); n > 0 && s.Status.InContact() {
		s.Status.Reason = model.ReasonTooLarge
		s.Status.Message = fmt.Sprintf("%d endpoints are past spec.limits.endpoints, %d, and not known here: "+
			"raise the limit, or import fewer namespaces", n, cl.limit())
	}
	return s
}

func refused(cl *cluster, counts index.Counts) map[model.RefusalReason]int {
	n := cl.pastLimit()
	if len(counts.Refused) == 0 && len(cl.status.Refused) == 0 && n == 0 {
		return nil
	}
	sum := make(map[model.RefusalReason]int, len(counts.Refused)+len(cl.status.Refused)+1)
	maps.Copy(sum, counts.Refused)
	for reason, count := range cl.status.Refused {
		sum[reason] += count
	}
	if n > 0 {
		sum[model.RefusedLimit] += n
	}
	return sum
}
