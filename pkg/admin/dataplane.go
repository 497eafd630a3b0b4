package admin

import (
	"cmp"
	"slices"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// enforcing is how enforcement is doing at one moment.
type enforcing struct {
	status dataplane.Status
	// notReady is why policies are not enforced yet; empty once they are.
	notReady string
}

// enforcing asks the dataplane; nil if there is none.
func (s *Server) enforcing() *enforcing {
	dp := s.config.Dataplane
	if dp == nil {
		return nil
	}
	e := &enforcing{status: dp.Status()}
	if err := dp.Ready(); err != nil {
		e.notReady = err.Error()
	}
	return e
}

// notReady says why the agent is not ready; empty if it is.
func notReady(s *agent.Snapshot, e *enforcing) string {
	if why := unknownYet(s); why != "" {
		return why
	}
	if e != nil && e.notReady != "" {
		return "starting: " + e.notReady
	}
	return ""
}

// problems are all that this node has: what it knows, and how enforcement is
// doing. One of the dataplane that names no object is about this node.
func problems(s *agent.Snapshot, e *enforcing) []model.Problem {
	if e == nil || len(e.status.Problems) == 0 {
		return s.Problems
	}
	all := slices.Clone(s.Problems)
	for _, p := range e.status.Problems {
		if p.Object == (model.Key{}) {
			p.Object = model.NodeKey(s.Self.Cluster, s.Self.Node)
		}
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(a, b model.Problem) int { return cmp.Compare(a.Kind, b.Kind) })
	return all
}

// tally is what a State enforces, in numbers.
type tally struct{ endpoints, isolated, unknown, grandfathered, sets int }

func tallyOf(s *desired.State) (t tally) {
	if s == nil || s.Rules == nil {
		return t
	}
	t.endpoints, t.unknown, t.sets = len(s.Rules.Endpoints), len(s.Rules.Unknown), len(s.Rules.Sets)
	for i := range s.Rules.Endpoints {
		if e := &s.Rules.Endpoints[i]; e.Ingress != nil || e.Egress != nil {
			t.isolated++
		}
	}
	for _, u := range s.Rules.Unknown {
		if u.Grandfathered {
			t.grandfathered++
		}
	}
	return t
}

// dataplane is nil if nothing enforces.
func (r request) dataplane() *api.Dataplane {
	if r.enforcing == nil {
		return nil
	}
	s := &r.enforcing.status
	t := tallyOf(s.State)
	d := &api.Dataplane{
		Name: s.Name, Backend: s.Backend, InForce: s.InForce, Wanted: s.Wanted, Applied: s.Applied,
		Error: s.Error, Failures: s.Failures, Repaired: s.Repaired,
		Endpoints: t.endpoints, Isolated: t.isolated, UnknownInterfaces: t.unknown, Grandfathered: t.grandfathered, Sets: t.sets,
		Totals: totals(s.Totals),
	}
	d.BehindSince, d.BehindSeconds = r.moment(s.WantedSince)
	d.AppliedAt, d.AppliedAgeSeconds = r.moment(s.AppliedAt)
	d.ErrorSince, d.ErrorAgeSeconds = r.moment(s.ErrorSince)
	d.RepairedAt, d.RepairedAgeSeconds = r.moment(s.RepairedAt)
	return d
}

func totals(t dataplane.Totals) api.DataplaneTotals {
	return api.DataplaneTotals{
		Applies: t.Applies, Failures: t.Failures, Transactions: t.Transactions,
		SetsCreated: t.SetsCreated, SetsRemoved: t.SetsRemoved, MembersAdded: t.Added, MembersDeleted: t.Deleted,
		Sweeps: t.Sweeps, FlowsReset: t.FlowsReset, FlowsDeleted: t.FlowsDeleted, Raises: t.Raises, Repairs: t.Repairs,
		SweepSeconds: seconds(t.SweepTime), LastSweepSeconds: seconds(t.LastSweep), LongestSweepSeconds: seconds(t.LongestSweep),
		LastApplySeconds: seconds(t.LastApply), LongestApplySeconds: seconds(t.LongestApply),
	}
}

// seconds are rounded to microseconds: the rest is noise.
func seconds(d time.Duration) float64 { return d.Round(time.Microsecond).Seconds() }
