package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/overland-net/overland/pkg/federation"
)

// federationDescs are the metrics of what the leader does for federated Services.
type federationDescs struct {
	leader, services, endpoints, writes, bytes, plans, planTime, longest *prometheus.Desc
}

func newFederationDescs() federationDescs {
	return federationDescs{
		leader:    desc("leader", "1 while this agent leads."),
		services:  desc("federated_services", "Federated Services by the reason of their condition; of the leader only.", "reason"),
		endpoints: desc("federation_endpoints", "Endpoints published in EndpointSlices of federated Services, by cluster; of the leader only.", "cluster"),
		writes:    desc("federation_writes_total", "Writes for federated Services, by kind of object, operation and result.", "kind", "operation", "result"),
		bytes:     desc("federation_sent_bytes_total", "Bytes of objects that these writes sent, by kind of object.", "kind"),
		plans:     desc("federation_plans_total", "Plans of federated Services."),
		planTime:  desc("federation_plan_seconds_total", "How long these took, together."),
		longest:   desc("federation_longest_plan_duration_seconds", "How long the longest took."),
	}
}

func (d federationDescs) describe(out chan<- *prometheus.Desc) {
	for _, x := range []*prometheus.Desc{d.leader, d.services, d.endpoints, d.writes, d.bytes, d.plans, d.planTime, d.longest} {
		out <- x
	}
}

func (d federationDescs) collect(out chan<- prometheus.Metric, s *federation.ServicesSnapshot) {
	give := func(x *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(x, kind, value, labels...)
	}
	give(d.leader, prometheus.GaugeValue, number(s.Leading))
	reasons := map[string]int{}
	for i := range s.Reports {
		reasons[s.Reports[i].Federated.Reason]++
	}
	for reason, n := range reasons {
		give(d.services, prometheus.GaugeValue, float64(n), reason)
	}
	for cluster, n := range s.Published {
		give(d.endpoints, prometheus.GaugeValue, float64(n), cluster)
	}
	for w, n := range s.Totals.Writes {
		give(d.writes, prometheus.CounterValue, float64(n), w.Kind, w.Op, string(w.Result))
	}
	for kind, n := range s.Totals.Bytes {
		give(d.bytes, prometheus.CounterValue, float64(n), kind)
	}
	give(d.plans, prometheus.CounterValue, float64(s.Totals.Plans))
	give(d.planTime, prometheus.CounterValue, s.Totals.PlanTime.Seconds())
	give(d.longest, prometheus.GaugeValue, s.Totals.LongestPlan.Seconds())
}
