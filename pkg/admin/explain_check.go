package admin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

const (
	// mostNear is how many rules are shown that would match another port, and
	// mostProbed how many are tried: it is for people, and they wait.
	mostNear   = 5
	mostProbed = 10_000
)

// wireCheck is one check of a Verdict in words.
func wireCheck(s *desired.State, f desired.Flow, c desired.Check) api.Check {
	a := api.Check{Kind: c.Kind.String(), Interface: c.Interface, Allowed: c.Allowed}
	if c.Endpoint != nil {
		pod := reference(c.Endpoint.Pod)
		a.Pod = &pod
	}
	switch c.Kind {
	case desired.CheckSource:
		a.Reason = sourceReason(s, f, c)
	case desired.CheckSelf:
		a.Reason = "source and destination are the same pod: always allowed"
	case desired.CheckOwnNode:
		if f.From.Node {
			a.Reason = "it comes from the pod's own node (kubelet probes): always allowed, whatever its address is"
		} else {
			a.Reason = "it goes to the pod's own node: allowed, unless the agent runs with --own-node-egress=policy"
		}
	case desired.CheckUnknown:
		a.Reason = unknownReason(s, c)
	case desired.CheckEgress:
		side(&a, s, f, c, api.Egress)
	case desired.CheckIngress:
		side(&a, s, f, c, api.Ingress)
	}
	return a
}

func sourceReason(s *desired.State, f desired.Flow, c desired.Check) string {
	var routed []string
	if c.Endpoint != nil {
		routed = texts(c.Endpoint.Interface.Addrs)
	} else if u := s.Rules.UnknownAt(c.Interface); u != nil {
		routed = texts(u.Addrs)
	}
	switch {
	case !c.Allowed && len(routed) == 0:
		return fmt.Sprintf("no address is routed to %s: nothing passes from there", c.Interface)
	case !c.Allowed:
		return fmt.Sprintf("%s is not routed to %s: only %s may be sent from there", f.Src, c.Interface, strings.Join(routed, ", "))
	case slices.Contains(routed, f.Src.String()):
		return fmt.Sprintf("%s is routed to %s", f.Src, c.Interface)
	}
	return fmt.Sprintf("%s is in a source exception of %s, or good on the link only", f.Src, c.Interface)
}

func unknownReason(s *desired.State, c desired.Check) string {
	u := s.Rules.UnknownAt(c.Interface)
	switch {
	case u != nil && u.Grandfathered:
		return "nothing is known of the pod behind it, which was there before this agent was first installed: it passes until its pod is known"
	case !c.Allowed && u == nil:
		return "the node has no such interface with a route to the pod's address (yet): packets of unknown pod interfaces are dropped"
	case !c.Allowed:
		return "nothing is known of the pod behind it: packets of unknown pod interfaces are dropped"
	}
	return "nothing is known of the pod behind it: it passes, as the agent runs with --protected=false"
}

// side tells how policies judge a pod's egress or ingress.
func side(a *api.Check, s *desired.State, f desired.Flow, c desired.Check, direction string) {
	if c.Side == nil {
		a.Reason = "no policy isolates it in this direction"
		return
	}
	a.Isolated = true
	for _, p := range c.Side.Policies {
		a.Policies = append(a.Policies, policyName(p))
	}
	if c.Rule >= 0 {
		rule := wireRule(s, direction, c.Side, c.Rule)
		a.Rule = &rule
		a.Reason = "a rule matches"
		return
	}
	n := len(c.Side.List.Rules)
	a.Reason = fmt.Sprintf("isolated by %s, and none of %s matches", counted(len(a.Policies), "policy", "policies"), counted(n, "rule", "rules"))
	a.Near = near(s, f, c.Side, direction)
	if len(a.Near) > 0 {
		a.Reason += ", but for other ports or protocols"
	}
}

// near finds rules that would match if it were not for protocol and port.
func near(s *desired.State, f desired.Flow, of *desired.Side, direction string) []api.Rule {
	const iface = "probe"
	var found []api.Rule
	for i, rule := range of.List.Rules[:min(len(of.List.Rules), mostProbed)] {
		if spec, ok := s.Rules.Spec(rule.Peer.Set); ok && spec.Kind == desired.AddressPorts {
			continue // its members have ports
		}
		rule.Protocol, rule.First, rule.Last = 0, 0, 0
		// Judged as ingress of a pod with this one rule, from the peer.
		flow := desired.Flow{To: desired.Place{Interface: iface}, Src: f.Src, Dst: f.Dst, Protocol: f.Protocol, DstPort: f.DstPort}
		if direction == api.Egress {
			flow.Src, flow.Dst = f.Dst, f.Src
		}
		probe := desired.State{Sets: s.Sets, Rules: &desired.Rules{Sets: s.Rules.Sets, Endpoints: []desired.Endpoint{{Ingress: &desired.Side{
			List: &desired.List{Rules: []desired.Rule{rule}},
		}}}}}
		probe.Rules.Endpoints[0].Interface.Name = iface
		if !probe.Verdict(flow).Allowed {
			continue
		}
		found = append(found, wireRule(s, direction, of, i))
		if len(found) == mostNear {
			break
		}
	}
	return found
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// notes say what else there is to know, and whom to ask.
func (r request) notes(from, to *party) []string {
	var notes []string
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	command := fmt.Sprintf("overland explain %s %s %s", from.Asked, to.Asked, r.query.Get(api.ParamPort))
	for _, x := range []struct {
		*party
		what string
	}{{from, "egress"}, {to, "ingress"}} {
		switch {
		case x.Here || x.Kind != api.KindPod:
		case x.cluster == r.snapshot.Self.Cluster:
			add("%s of %s is decided on its node: %s --node %s", x.what, x.name(), command, x.Node)
		default:
			add("%s of %s is decided in cluster %s, by the policies there: ask the agent of its node %s in that cluster", x.what, x.name(), x.cluster, x.Node)
		}
	}
	for _, p := range []*party{from, to} {
		if p.Kind == api.PartyOutside {
			add("no endpoint of a linked cluster has %s: it is judged as an address outside, which ipBlocks match and selectors never", p.addrs[0])
		}
		if p.entry != nil && p.entry.Terminating {
			add("%s is terminating", p.name())
		}
		if p.entry != nil && p.Kind == api.KindNode {
			add("%s stands for its pods with hostNetwork too", p.name())
		}
		if p.Here && p.Kind == api.KindPod && endpointOf(r.snapshot.Desired.Rules, keyOf(p)) == nil {
			add("%s runs on this node, and no interface of its own is known yet: it is starting or ending, or its link was not made by Azure CNI", p.name())
		}
	}
	if to.Kind == api.PartyOutside {
		add("if %s is the address of a Service or a load balancer: egress is judged on the address that it is translated to, so ask about the pod behind it", to.addrs[0])
	}
	if to.Kind == api.KindNode {
		add("a NodePort of %s leads to a pod: ingress is judged at that pod's node, so ask about the pod", to.name())
	}
	if to.Kind == api.KindPod && (from.Kind == api.PartyOutside || from.Kind == api.KindNode && !from.Here) {
		add("a client behind a NodePort or load balancer is seen with the source that arrives at the pod's node, which may be another node's address; " +
			"only the pod's own node is always allowed")
	}
	return notes
}

// keyOf is the pod that a party is.
func keyOf(p *party) model.Key {
	return model.PodKey(p.Endpoint.Cluster, p.Endpoint.Namespace, p.Endpoint.Name)
}
