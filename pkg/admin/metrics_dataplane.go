package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/overland-net/overland/pkg/dataplane"
)

// dataplaneMetric is a metric of the dataplane that has no labels.
type dataplaneMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(x *dataplaneNumbers) float64
}

// dataplaneNumbers is what metrics are made of.
type dataplaneNumbers struct {
	*dataplane.Status
	tally
	now time.Time
}

// dataplaneDescs are the metrics of the dataplane.
type dataplaneDescs struct {
	info *prometheus.Desc
	all  []dataplaneMetric
}

func newDataplaneDescs() dataplaneDescs {
	d := dataplaneDescs{info: desc("dataplane_info", "Always 1; what enforces policies on this node.", "dataplane", "backend")}
	d.all = append(gauges(), counters()...)
	return d
}

// gauges are what is so now.
func gauges() []dataplaneMetric {
	gauge := func(name, help string, value func(x *dataplaneNumbers) float64) dataplaneMetric {
		return dataplaneMetric{desc("dataplane_"+name, help), prometheus.GaugeValue, value}
	}
	return []dataplaneMetric{
		gauge("in_force", "1 while the kernel holds what is wanted.", func(x *dataplaneNumbers) float64 { return number(x.InForce) }),
		gauge("wanted_generation", "Generation of what is to be enforced; 0: nothing yet.", func(x *dataplaneNumbers) float64 { return float64(x.Wanted) }),
		gauge("applied_generation", "Generation of what is enforced; 0: nothing yet.", func(x *dataplaneNumbers) float64 { return float64(x.Applied) }),
		gauge("behind_seconds", "Seconds since what is wanted is not in force; 0 while it is.", func(x *dataplaneNumbers) float64 {
			if x.WantedSince.IsZero() {
				return 0
			}
			return max(0, x.now.Sub(x.WantedSince).Seconds())
		}),
		gauge("consecutive_failures", "Attempts to apply that have failed in a row.", func(x *dataplaneNumbers) float64 { return float64(x.Failures) }),
		gauge("endpoints", "Pods of this node that are enforced.", func(x *dataplaneNumbers) float64 { return float64(x.endpoints) }),
		gauge("isolated_endpoints", "Those of them that a policy isolates.", func(x *dataplaneNumbers) float64 { return float64(x.isolated) }),
		gauge("unknown_interfaces", "Pod interfaces of which no pod is known.", func(x *dataplaneNumbers) float64 { return float64(x.unknown) }),
		gauge("sets", "Sets of addresses that rules ask.", func(x *dataplaneNumbers) float64 { return float64(x.sets) }),
		gauge("last_apply_duration_seconds", "How long the last apply took.", func(x *dataplaneNumbers) float64 { return x.Totals.LastApply.Seconds() }),
		gauge("longest_apply_duration_seconds", "How long the longest apply took.", func(x *dataplaneNumbers) float64 { return x.Totals.LongestApply.Seconds() }),
		gauge("longest_sweep_duration_seconds", "How long the longest sweep took.", func(x *dataplaneNumbers) float64 { return x.Totals.LongestSweep.Seconds() }),
	}
}

// counters are sums since the kernel was opened.
func counters() []dataplaneMetric {
	counter := func(name, help string, value func(t *dataplane.Totals) uint64) dataplaneMetric {
		return dataplaneMetric{desc("dataplane_"+name+"_total", help), prometheus.CounterValue, func(x *dataplaneNumbers) float64 {
			return float64(value(&x.Totals))
		}}
	}
	return []dataplaneMetric{
		counter("applies", "Applies: changes, checks of the hooks and readbacks.", func(t *dataplane.Totals) uint64 { return t.Applies }),
		counter("apply_failures", "Applies that failed, in part or in whole.", func(t *dataplane.Totals) uint64 { return t.Failures }),
		counter("transactions", "Transactions of rules: a change of members needs none.", func(t *dataplane.Totals) uint64 { return t.Transactions }),
		counter("sets_created", "Sets created.", func(t *dataplane.Totals) uint64 { return t.SetsCreated }),
		counter("sets_removed", "Sets removed.", func(t *dataplane.Totals) uint64 { return t.SetsRemoved }),
		counter("members_added", "Members added to sets.", func(t *dataplane.Totals) uint64 { return t.Added }),
		counter("members_deleted", "Members deleted from sets.", func(t *dataplane.Totals) uint64 { return t.Deleted }),
		counter("sweeps", "Sweeps of connections, after members left sets.", func(t *dataplane.Totals) uint64 { return t.Sweeps }),
		{desc("dataplane_sweep_seconds_total", "How long sweeps took, together."), prometheus.CounterValue, func(x *dataplaneNumbers) float64 { return x.Totals.SweepTime.Seconds() }},
		counter("flows_reset", "Connections that sweeps have had judged again.", func(t *dataplane.Totals) uint64 { return t.FlowsReset }),
		counter("flows_deleted", "Connections deleted, because an address was released or taken.", func(t *dataplane.Totals) uint64 { return t.FlowsDeleted }),
		counter("raises", "Times that all connections were judged again.", func(t *dataplane.Totals) uint64 { return t.Raises }),
		counter("repairs", "Differences in the kernel that were found and mended.", func(t *dataplane.Totals) uint64 { return t.Repairs }),
	}
}

func (d dataplaneDescs) describe(out chan<- *prometheus.Desc) {
	out <- d.info
	for i := range d.all {
		out <- d.all[i].desc
	}
}

func (d dataplaneDescs) collect(out chan<- prometheus.Metric, s *dataplane.Status, now time.Time) {
	out <- prometheus.MustNewConstMetric(d.info, prometheus.GaugeValue, 1, s.Name, s.Backend)
	x := &dataplaneNumbers{s, tallyOf(s.State), now}
	for i := range d.all {
		m := &d.all[i]
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(x))
	}
}
