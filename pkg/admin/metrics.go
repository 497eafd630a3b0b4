package admin

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
)

// registry has everything that /metrics shows.
func (s *Server) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		newCollector(s.snapshots, s.enforcing, s.config.Services, s.config.Self, s.now),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	if s.requests != nil {
		r.MustRegister(s.requests.took, s.requests.attachments)
	}
	return r
}

// collector reads the snapshot when it is scraped: nothing has to be counted
// meanwhile, and what is gone is gone from the metrics too.
type collector struct {
	snapshots Source
	enforcing func() *enforcing
	self      agent.Self
	now       func() time.Time

	build, inSync, problems, policies                          *prometheus.Desc
	info, state, endpoints, refused, contact, expire, restored *prometheus.Desc

	dataplane  dataplaneDescs
	services   Services // nil: no part in federation
	federation federationDescs
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("overland_"+name, help, labels, nil)
}

func newCollector(snapshots Source, enforcing func() *enforcing, services Services, self agent.Self, now func() time.Time) *collector {
	return &collector{
		snapshots: snapshots, enforcing: enforcing, self: self, now: now, dataplane: newDataplaneDescs(),
		services: services, federation: newFederationDescs(),
		build:    desc("build_info", "Always 1; the agent's version, its cluster and its node.", "version", "cluster", "node"),
		inSync:   desc("in_sync", "1 once the local cluster has been listed or restored."),
		problems: desc("problems", "Findings that `overland status` shows, by kind.", "kind"),
		policies: desc("policies", "NetworkPolicies that select pods of this node."),

		info: desc("cluster_info", "Always 1; what a cluster says of itself.",
			"cluster", "local", "cluster_uid", "kubernetes_version"),
		state:     desc("cluster_state", "1 for the state that the link to a cluster is in, 0 for the others.", "cluster", "state"),
		endpoints: desc("cluster_endpoints", "Endpoints known of a cluster, by kind: Pod or Node.", "cluster", "kind"),
		refused:   desc("cluster_refused", "Addresses and objects of a cluster that are not taken, by reason.", "cluster", "reason"),
		contact:   desc("cluster_last_contact_seconds", "Seconds since a cluster's API server last said anything; absent if it never has.", "cluster"),
		expire:    desc("cluster_credentials_expire_timestamp_seconds", "When the credentials for a cluster expire, in Unix seconds; absent if they do not.", "cluster"),
		restored:  desc("cluster_restored", "1 if what is known of a cluster comes from this node's store.", "cluster"),
	}
}

// Describe lists the metrics.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.build, c.inSync, c.problems, c.policies, c.info, c.state, c.endpoints, c.refused, c.contact, c.expire, c.restored,
	} {
		out <- d
	}
	c.dataplane.describe(out)
	c.federation.describe(out)
}

// Collect reads the newest snapshot.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	snapshot, _ := c.snapshots.Snapshot()
	if snapshot == nil || snapshot.Gen == 0 {
		snapshot = &agent.Snapshot{Self: c.self}
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(c.build, 1, snapshot.Self.Version, snapshot.Self.Cluster, snapshot.Self.Node)
	gauge(c.inSync, number(snapshot.InSync))
	kinds := make(map[model.ProblemKind]int)
	enforcing := c.enforcing()
	for _, p := range problems(snapshot, enforcing) {
		kinds[p.Kind]++
	}
	for kind, n := range kinds {
		gauge(c.problems, float64(n), string(kind))
	}
	active := 0
	for i := range snapshot.Policies {
		if len(snapshot.Policies[i].Selects) > 0 {
			active++
		}
	}
	gauge(c.policies, float64(active))
	for _, cluster := range snapshot.Clusters {
		c.cluster(cluster, gauge)
	}
	if enforcing != nil {
		c.dataplane.collect(out, &enforcing.status, c.now())
	}
	if c.services != nil {
		s, _ := c.services.Snapshot()
		c.federation.collect(out, s)
	}
}

func (c *collector) cluster(of agent.Cluster, gauge func(*prometheus.Desc, float64, ...string)) {
	local := "false"
	if of.Local {
		local = "true"
	}
	gauge(c.info, 1, of.Name, local, labelValue(of.Status.ClusterUID), labelValue(of.Status.KubernetesVersion))
	for s := model.StateConnecting; s <= model.StateSuspended; s++ {
		gauge(c.state, number(s == of.Status.State), of.Name, s.String())
	}
	gauge(c.endpoints, float64(of.Counts.Pods), of.Name, model.KindPod.String())
	gauge(c.endpoints, float64(of.Counts.Nodes), of.Name, model.KindNode.String())
	for reason, n := range of.Refused {
		gauge(c.refused, float64(n), of.Name, string(reason))
	}
	if t := of.Status.LastContact; !t.IsZero() {
		gauge(c.contact, max(0, c.now().Sub(t).Seconds()), of.Name)
	}
	if t := of.Status.CredentialsExpire; !t.IsZero() {
		gauge(c.expire, float64(t.Unix()), of.Name)
	}
	gauge(c.restored, number(of.Restored), of.Name)
}

// labelValue is text of another cluster made fit for a label: its server may say
// anything, and what is not UTF-8 would break the whole page.
func labelValue(s string) string {
	const longest = 128 // a uid and a version are much shorter
	return strings.ToValidUTF8(s[:min(len(s), longest)], "?")
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
