package federation

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/federation/plan"
	"github.com/overland-net/overland/pkg/model"
)

// ServicesSnapshot is what an agent knows of federated Services. It is immutable.
type ServicesSnapshot struct {
	// Leading: this agent leads. Else only Totals are there.
	Leading bool
	Leader  string // its identity
	At      time.Time
	// Whole: each federated Service has been planned once. Waits is what planning
	// waits for; empty: nothing.
	Whole bool
	Waits string
	// Reports are the federated Services, by namespace and name.
	Reports []api.Service
	// Backing counts the Services of each cluster that back federated ones; nil
	// until that is known.
	Backing map[string]int
	// Published counts the endpoints in EndpointSlices, by cluster.
	Published map[string]int
	Totals    ServicesTotals

	found []found // what Events are to say
}

// ServicesTotals are counters since the start of the agent.
type ServicesTotals struct {
	Writes map[Write]uint64
	// Bytes are those sent of objects, by kind.
	Bytes       map[string]uint64
	Plans       uint64
	PlanTime    time.Duration
	LongestPlan time.Duration
}

// Write is a kind of write.
type Write struct {
	Kind   string // EndpointSlice, Endpoints, or Service: its condition
	Op     string // create, update, delete or apply
	Result Result
}

// totals are counted by one goroutine.
type totals struct{ ServicesTotals }

func newTotals() totals {
	return totals{ServicesTotals{Writes: map[Write]uint64{}, Bytes: map[string]uint64{}}}
}

func (t *totals) wrote(all []written) {
	for _, w := range all {
		t.Writes[Write{string(w.kind), w.op, w.result}]++
		t.Bytes[string(w.kind)] += uint64(w.bytes) //nolint:gosec // a size
	}
}

func (t *totals) planned(d time.Duration) {
	t.Plans++
	t.PlanTime += d
	t.LongestPlan = max(t.LongestPlan, d)
}

func (t *totals) copy() ServicesTotals {
	c := t.ServicesTotals
	c.Writes, c.Bytes = maps.Clone(t.Writes), maps.Clone(t.Bytes)
	return c
}

// serviceReport is what is told of one federated Service.
type serviceReport struct {
	service *model.Service
	plan    plan.Report
	want    *plan.Condition
}

// reportOf keeps what there is to tell; nil of a Service that is not federated.
func reportOf(s *model.Service, result plan.Result) *serviceReport {
	if s == nil || !s.Federated() {
		return nil
	}
	return &serviceReport{s, result.Report, result.Condition}
}

// publish shows what is known.
func (r *round) publish(now time.Time) {
	r.shown, r.changed = now, false
	snapshot := &ServicesSnapshot{
		Leading: true, Leader: r.cfg.Identity, At: now, Whole: r.whole, Waits: r.waits, Published: r.objects.published(), Totals: r.totals.copy(),
	}
	if r.whole {
		snapshot.Backing = r.backing()
	}
	for _, x := range r.states {
		if x.report == nil {
			continue
		}
		if x.wired == nil {
			x.wired = x.wire()
		}
		snapshot.Reports = append(snapshot.Reports, *x.wired)
		snapshot.found = append(snapshot.found, x.found())
	}
	slices.SortFunc(snapshot.Reports, compareServices)
	r.Services.publish(snapshot)
}

// backing counts the Services of each cluster that back federated ones. Of those
// that a report does not name it is not known whether another one counts them.
func (r *round) backing() map[string]int {
	type service struct{ cluster, namespace, name string }
	seen, count := map[service]bool{}, map[string]int{}
	for key, x := range r.states {
		if x.report == nil {
			continue
		}
		for _, c := range x.report.plan.Clusters {
			for _, name := range c.Backing {
				if s := (service{c.Name, key.Namespace, name}); !seen[s] {
					seen[s] = true
					count[c.Name]++
				}
			}
			count[c.Name] += max(0, c.BackingCount-len(c.Backing))
		}
	}
	return count
}

// condition is what the Service is to have, as far as is known by now.
func (x *serviceState) condition() *plan.Condition {
	forbidden := map[kind]string{}
	for id, h := range x.held {
		if h.result == ResultForbidden && id != idCondition {
			forbidden[h.kind] = h.message
		}
	}
	return overruled(x.report.want, forbidden)
}

// found is what an Event is to say.
func (x *serviceState) found() found {
	f := found{subject: serviceSubject(x.report.service)}
	if c := x.condition(); c != nil && c.Reason != plan.ReasonInSync {
		f.findings = []finding{{f.subject, c.Reason, clip(c.Message, maxNote)}}
	}
	return f
}

// wire is a report as it is answered.
func (x *serviceState) wire() *api.Service {
	p, s := &x.report.plan, x.report.service
	wired := &api.Service{
		Namespace: s.Key.Namespace, Name: s.Key.Name, UID: s.UID.String(), Expression: p.Expression,
		Problems: slices.Clone(p.Problems), Clusters: make([]api.ServiceCluster, 0, len(p.Clusters)),
	}
	for _, id := range slices.Sorted(maps.Keys(x.held)) {
		wired.Problems = append(wired.Problems, "cannot be written: "+id+": "+clip(x.held[id].message, maxMessage))
	}
	if c := x.condition(); c != nil {
		wired.Federated = api.ServiceCondition{Status: c.Status(), Reason: c.Reason, Message: c.Message}
	}
	for _, f := range p.Foreign {
		wired.Foreign = append(wired.Foreign, api.ForeignObject{Kind: f.Kind, Name: f.Name, Command: f.Command})
	}
	for i := range p.Clusters {
		c := clusterReport(&p.Clusters[i])
		wired.Ready += c.Ready
		wired.Published += c.Published
		wired.Clusters = append(wired.Clusters, c)
	}
	return wired
}

func clusterReport(c *plan.ClusterReport) api.ServiceCluster {
	wired := api.ServiceCluster{
		Name: c.Name, State: c.State.String(), Stale: c.Stale, Partial: c.Partial,
		Backing: c.Backing, BackingCount: c.BackingCount, Taken: c.Taken, Ready: c.Ready, Published: c.Published,
	}
	for _, x := range c.Refused {
		wired.Refused = append(wired.Refused, api.RefusedAddresses{Reason: string(x.Reason), Count: x.Count, Examples: x.Examples})
	}
	return wired
}

func compareServices(a, b api.Service) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}
