package admin

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
)

// status answers even if nothing is known.
func status(r request) (*api.Status, error) {
	if err := r.parameters(); err != nil {
		return nil, err
	}
	s := r.snapshot
	answer := &api.Status{
		Header:    r.header(api.KindStatus, ""),
		Cluster:   s.Self.Cluster,
		Node:      s.Self.Node,
		Version:   s.Self.Version,
		State:     agentState(s),
		InSync:    s.InSync,
		Restored:  restored(s),
		Endpoints: s.View.Len(),
		Dataplane: r.dataplane(),
		Clusters:  r.clusters(),
		Problems:  wireProblems(problems(s, r.enforcing)),
	}
	answer.NotReady = notReady(s, r.enforcing)
	answer.Ready = answer.NotReady == ""
	var age *int64
	if answer.Started, age = r.moment(s.Self.Started); age != nil {
		answer.UptimeSeconds = *age
	}
	return answer, nil
}

func wireProblems(all []model.Problem) []api.Problem {
	wired := make([]api.Problem, 0, len(all))
	for _, p := range all {
		wired = append(wired, api.Problem{Kind: string(p.Kind), Object: reference(p.Object), Message: p.Message})
	}
	return wired
}

func clusters(r request) (*api.ClusterList, error) {
	if err := r.parameters(); err != nil {
		return nil, err
	}
	if !r.known {
		return nil, starting()
	}
	return &api.ClusterList{Header: r.header(api.KindClusterList, ""), Items: r.clusters()}, nil
}

// header begins an answer about one cluster, or about all if cluster is empty.
func (r request) header(kind, cluster string) api.Header {
	h := api.Header{APIVersion: api.Version, Kind: kind, Time: wire(r.now), Generation: r.snapshot.Gen}
	h.SnapshotTime, _ = r.moment(r.snapshot.At)
	local := false
	for _, c := range r.snapshot.Clusters {
		local = local || c.Local
		if (cluster == "" || cluster == c.Name) && partial(r.snapshot, c) {
			h.PartialClusters = append(h.PartialClusters, r.partialCluster(c))
		}
	}
	if self := r.snapshot.Self.Cluster; !local && !r.snapshot.InSync && (cluster == "" || cluster == self) {
		h.PartialClusters = append([]api.PartialCluster{{
			Name: self, State: model.StateConnecting.String(), Reason: api.AgentStarting,
		}}, h.PartialClusters...)
	}
	h.Partial = len(h.PartialClusters) > 0
	return h
}

// partial tells that something new in that cluster may not be known.
func partial(s *agent.Snapshot, c agent.Cluster) bool {
	return c.Restored || c.Status.State != model.StateInSync || c.Status.Reason == model.ReasonTooLarge ||
		c.Local && !s.InSync
}

func (r request) partialCluster(c agent.Cluster) api.PartialCluster {
	p := api.PartialCluster{
		Name: c.Name, State: c.Status.State.String(), Reason: c.Status.Reason, Message: c.Status.Message,
		Restored: c.Restored,
	}
	p.Since, p.SinceSeconds = r.moment(c.Status.Since)
	p.LastContact, p.LastContactAgeSeconds = r.moment(c.Status.LastContact)
	return p
}

func (r request) clusters() []api.Cluster {
	all := make([]api.Cluster, 0, len(r.snapshot.Clusters))
	for _, c := range r.snapshot.Clusters {
		all = append(all, r.cluster(c))
	}
	return all
}

func (r request) cluster(c agent.Cluster) api.Cluster {
	s := c.Status
	a := api.Cluster{
		Name: c.Name, Local: c.Local,
		State: s.State.String(), Reason: s.Reason, Message: s.Message,
		Restored: c.Restored,
		Pods:     c.Counts.Pods, Nodes: c.Counts.Nodes, Namespaces: c.Counts.Namespaces,
		ReservedLabels: s.ReservedLabels,
		ClusterUID:     s.ClusterUID, DeclaredName: s.DeclaredName, KubernetesVersion: s.KubernetesVersion,
	}
	a.Since, a.SinceSeconds = r.moment(s.Since)
	a.LastContact, a.LastContactAgeSeconds = r.moment(s.LastContact)
	if !s.CredentialsExpire.IsZero() {
		expire, left := wire(s.CredentialsExpire), int64(s.CredentialsExpire.Sub(r.now)/time.Second)
		a.CredentialsExpire, a.CredentialsExpireInSeconds = &expire, &left
	}
	for reason, n := range c.Refused {
		if n == 0 {
			continue
		}
		if a.Refused == nil {
			a.Refused = make(map[string]int, len(c.Refused))
		}
		a.Refused[string(reason)] = n
		a.RefusedTotal += n
	}
	for _, kind := range s.NotReadable {
		a.NotReadable = append(a.NotReadable, kind.String())
	}
	if f := c.Fact; f != nil {
		a.UID = f.UID.String()
		a.Labels = f.Labels.Map()
		a.PodCIDRs, a.NodeCIDRs = ranges(f.PodCIDRs), ranges(f.NodeCIDRs)
		a.StaleAfterSeconds = int64(f.StaleAfter / time.Second)
		a.EndpointLimit = f.EndpointLimit
	}
	return a
}

// unknownYet says why nothing is known yet; empty if something is.
func unknownYet(s *agent.Snapshot) string {
	if s == nil || agentState(s) == api.AgentStarting {
		why := "starting: the local cluster has not been listed yet"
		if s != nil && len(s.Clusters) > 0 && s.Clusters[0].Local {
			st := s.Clusters[0].Status
			why += fmt.Sprintf(" (%s)", st.State)
		}
		return why
	}
	return ""
}

func agentState(s *agent.Snapshot) string {
	switch {
	case restored(s):
		return api.AgentRestored
	case s.InSync:
		return api.AgentInSync
	}
	return api.AgentStarting
}

// restored tells that the local cluster is known from the store only.
func restored(s *agent.Snapshot) bool {
	return len(s.Clusters) > 0 && s.Clusters[0].Local && s.Clusters[0].Restored
}

func reference(k model.Key) api.Reference {
	return api.Reference{Kind: k.Kind.String(), Cluster: k.Cluster, Namespace: k.Namespace, Name: k.Name}
}

func ranges(all []netip.Prefix) []string {
	var texts []string
	for _, p := range all {
		texts = append(texts, p.String())
	}
	return texts
}

// moment is a time and its age in whole seconds; nil for no time. Something
// that seems to come from the future, by another machine's clock, is new.
func (r request) moment(t time.Time) (*time.Time, *int64) {
	if t.IsZero() {
		return nil, nil
	}
	at, age := wire(t), max(0, int64(r.now.Sub(t)/time.Second))
	return &at, &age
}

// wire is a time as it is written: nobody needs more than milliseconds.
func wire(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
