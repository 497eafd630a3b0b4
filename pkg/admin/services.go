package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/federation"
)

// lateReports is how old what the leader published may be: it publishes again in
// time, so that nobody leads if it is older.
const lateReports = 2*federation.ReportsPeriod + time.Minute

// services lists the federated Services.
func (s *Server) services(ctx context.Context, r request) (*api.ServiceList, error) {
	if err := r.parameters(api.ParamNamespace); err != nil {
		return nil, err
	}
	all, origin := s.reports(ctx, r.now)
	l := &api.ServiceList{Header: r.header(api.KindServiceList, ""), Origin: origin, Items: []api.Service{}}
	l.Partial = l.Partial || origin.Problem != ""
	namespace := r.query.Get(api.ParamNamespace)
	for i := range all {
		if namespace == "" || namespace == all[i].Namespace {
			l.Items = append(l.Items, all[i])
		}
	}
	return l, nil
}

// service is one federated Service.
func (s *Server) service(ctx context.Context, r request) (*api.ServiceDetails, error) {
	if err := r.parameters(); err != nil {
		return nil, err
	}
	all, origin := s.reports(ctx, r.now)
	for i := range all {
		if all[i].Namespace == r.namespace && all[i].Name == r.name {
			d := &api.ServiceDetails{Header: r.header(api.KindServiceDetails, ""), Origin: origin, Service: all[i]}
			d.Partial = d.Partial || origin.Problem != ""
			return d, nil
		}
	}
	if origin.Problem != "" {
		return nil, notFound("no federated Service %s/%s is known: %s", r.namespace, r.name, origin.Problem)
	}
	return nil, notFound("no federated Service %s/%s: there is no such Service, or it has no annotation with a service selector", r.namespace, r.name)
}

// reports is what is known of federated Services: from memory where this agent
// leads, and else what the leader has published.
func (s *Server) reports(ctx context.Context, now time.Time) ([]api.Service, api.ServiceOrigin) {
	if s.config.Services == nil {
		return nil, api.ServiceOrigin{Problem: "this agent has no part in federation"}
	}
	own, _ := s.config.Services.Snapshot()
	if own.Whole {
		return own.Reports, written(now, api.ServiceOrigin{Leader: own.Leader, Own: true}, own.At)
	}
	published, err := s.config.Services.Published(ctx)
	if err != nil {
		return nil, api.ServiceOrigin{Problem: fmt.Sprintf("what the leader knows cannot be read: %v", err)}
	}
	origin := written(now, api.ServiceOrigin{Leader: published.Leader, LeftOut: published.LeftOut}, published.Written)
	switch {
	case own.Leading && own.Waits != "":
		origin.Problem = "this agent leads and has not planned anything yet: " + own.Waits
	case own.Leading:
		origin.Problem = "this agent has just begun to lead: ask again in a moment"
	case now.Sub(published.Written) > lateReports:
		origin.Problem = "nobody has published anything newer: no agent leads, or the leader cannot write"
	case published.LeftOut > 0:
		origin.Problem = fmt.Sprintf("%d federated Services are not in what the leader publishes, for want of room: ask the agent that leads, %s", published.LeftOut, published.Leader)
	}
	return published.Services, origin
}

func written(now time.Time, o api.ServiceOrigin, at time.Time) api.ServiceOrigin {
	o.Written, o.WrittenAgeSeconds = request{now: now}.moment(at)
	return o
}
