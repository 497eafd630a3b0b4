package admin

import (
	"context"
	"slices"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/desired"
)

const (
	// inspectTimeout bounds how long the kernel is read back: a client waits for
	// half a minute.
	inspectTimeout = 20 * time.Second
	// settleTime is how long a change that is on its way may need: a kernel that
	// disagrees meanwhile is asked once more.
	settleTime = 300 * time.Millisecond
)

// explain says whether a connection passes this node, and whether the kernel
// holds what decides about it.
func (s *Server) explain(ctx context.Context, r request) (*api.Explanation, error) {
	x, all, err := explanation(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	for i := range x.Flows {
		if x.Flows[i].Result != api.ResultNotHere {
			x.Flows[i].Kernel = s.inspect(ctx, r, all[i])
		}
	}
	return x, nil
}

// explanation is all that can be said without asking the kernel.
func explanation(r request) (*api.Explanation, []desired.Flow, error) {
	if err := r.parameters(api.ParamSource, api.ParamDestination, api.ParamPort); err != nil {
		return nil, nil, err
	}
	for _, p := range []string{api.ParamSource, api.ParamDestination, api.ParamPort} {
		if !r.query.Has(p) {
			return nil, nil, invalid("parameter %q is missing: expected %s, %s and %s", p, api.ParamSource, api.ParamDestination, api.ParamPort)
		}
	}
	if !r.known || r.snapshot.Desired == nil {
		return nil, nil, starting()
	}
	from, err := r.party(api.ParamSource)
	if err != nil {
		return nil, nil, err
	}
	to, err := r.party(api.ParamDestination)
	if err != nil {
		return nil, nil, err
	}
	ports, err := targets(r.query.Get(api.ParamPort), to)
	if err != nil {
		return nil, nil, err
	}
	all, err := flows(from, to, ports)
	if err != nil {
		return nil, nil, err
	}
	x := &api.Explanation{
		Header: r.involved(from, to), Source: from.Party, Destination: to.Party, Port: r.query.Get(api.ParamPort),
		Result: api.ResultNotHere, Notes: r.notes(from, to),
	}
	for _, f := range all {
		flow := r.flow(f)
		x.Flows = append(x.Flows, flow)
		if x.Result != api.ResultDenied {
			x.Result = flow.Result
		}
	}
	return x, all, nil
}

// involved is the header of an answer about two parties: partial if something
// may be missing of their clusters or, as an address that nobody is known to
// have may be somebody's, of any.
func (r request) involved(from, to *party) api.Header {
	h := r.header(api.KindExplanation, "")
	if from.Kind == api.PartyOutside || to.Kind == api.PartyOutside {
		return h
	}
	h.PartialClusters = slices.DeleteFunc(h.PartialClusters, func(c api.PartialCluster) bool {
		return c.Name != from.cluster && c.Name != to.cluster && c.Name != r.snapshot.Self.Cluster
	})
	h.Partial = len(h.PartialClusters) > 0
	return h
}

// flow is the verdict on a flow, with every check on the way.
func (r request) flow(f desired.Flow) api.Flow {
	a := wireFlow(f)
	if f.From.Interface == "" && f.To.Interface == "" {
		a.Result = api.ResultNotHere
		return a
	}
	state := r.snapshot.Desired
	v := state.Verdict(f)
	for _, c := range v.Trail {
		a.Checks = append(a.Checks, wireCheck(state, f, c))
	}
	if a.Result = api.ResultAllowed; v.Allowed {
		return a
	}
	a.Result = api.ResultDenied
	if last := v.Trail[len(v.Trail)-1]; f.To.Interface == "" || f.To == f.From || last.Kind == desired.CheckIngress || last.Interface == f.To.Interface {
		return a
	}
	// People want to know of both sides at once.
	outside := f
	outside.From = desired.Place{}
	for _, c := range state.Verdict(outside).Trail {
		check := wireCheck(state, f, c)
		check.Skipped = true
		a.Checks = append(a.Checks, check)
	}
	return a
}

// inspect reads back what the kernel holds of what decides about a flow.
func (s *Server) inspect(ctx context.Context, r request, f desired.Flow) *api.Kernel {
	dp := s.config.Dataplane
	if dp == nil {
		return &api.Kernel{Error: "nothing enforces policies on this node"}
	}
	want := r.snapshot.Desired
	found, err := dp.Inspect(ctx, want, f)
	status := dp.Status()
	pending := status.State == nil || status.State.Gen < want.Gen
	if err == nil && !found.Agrees && pending {
		select {
		case <-time.After(settleTime):
		case <-ctx.Done():
		}
		found, err = dp.Inspect(ctx, want, f)
		status = dp.Status()
		pending = status.State == nil || status.State.Gen < want.Gen
	}
	k := wireKernel(found)
	if err != nil {
		k.Agrees, k.Error = false, err.Error()
	}
	if pending {
		k.Pending = true
		k.PendingSince, _ = r.moment(status.WantedSince)
	}
	return k
}

func wireKernel(i dataplane.Inspection) *api.Kernel {
	k := &api.Kernel{Agrees: i.Agrees}
	for _, c := range i.Sets {
		k.Sets = append(k.Sets, api.SetCheck{Set: string(c.Set), Text: c.Text, Element: c.Element, Want: c.Want, Kernel: c.Kernel})
	}
	for _, c := range i.Chains {
		k.Chains = append(k.Chains, api.ChainCheck{
			Family: c.Family.String(), Table: c.Table, Chain: c.Chain, Agrees: c.Agrees, Difference: c.Difference,
		})
	}
	return k
}
