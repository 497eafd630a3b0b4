package admin

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

// enforcement is what policies do to a pod of the local cluster; nil for others.
func (r request) enforcement(e *index.Entry) *api.Enforcement {
	s := r.snapshot
	if e.Key.Cluster != s.Self.Cluster {
		return nil
	}
	a := &api.Enforcement{Node: e.Node, Here: e.Node == s.Self.Node, Policies: []string{}}
	if !a.Here {
		a.Reason = "policies are enforced on its node"
		return a
	}
	for _, v := range s.Policies {
		if slices.Contains(v.Selects, e.Key) {
			a.Policies = append(a.Policies, policyName(v.Policy.Key))
		}
	}
	if s.Desired == nil {
		a.Reason = "this node does not know yet what to enforce"
		return a
	}
	d := endpointOf(s.Desired.Rules, e.Key)
	if d == nil {
		a.Reason = fmt.Sprintf("no interface %s with a route to one of its addresses: it is starting or ending, or its link was not made by Azure CNI",
			policy.InterfaceName(e.Key.Namespace, e.Key.Name))
		return a
	}
	a.Interface = &api.Interface{Name: d.Interface.Name, Index: d.Interface.Index, Addresses: texts(d.Interface.Addrs)}
	for _, x := range s.Desired.Rules.Excepted(d.Interface.Name) {
		a.Interface.Exceptions = append(a.Interface.Exceptions, x.Prefix.String())
	}
	for _, direction := range []string{api.Ingress, api.Egress} {
		a.Sides = append(a.Sides, wireSide(s.Desired, direction, sideOf(d, direction)))
	}
	a.Reason = r.notInForce(d)
	a.InForce = a.Reason == ""
	return a
}

// endpointOf is what is to be enforced for a pod; nil if it has no interface.
func endpointOf(rules *desired.Rules, pod model.Key) *desired.Endpoint {
	i := slices.IndexFunc(rules.Endpoints, func(e desired.Endpoint) bool { return e.Pod == pod })
	if i < 0 {
		return nil
	}
	return &rules.Endpoints[i]
}

// notInForce is why what is to be enforced for a pod is not; empty if it is. What
// is applied may be older than what is wanted and yet the same for this pod.
func (r request) notInForce(d *desired.Endpoint) string {
	if r.enforcing == nil {
		return "nothing enforces policies on this node"
	}
	if r.enforcing.notReady != "" {
		return r.enforcing.notReady
	}
	s := &r.enforcing.status
	if s.State == nil {
		return "nothing is in force on this node yet" + because(s.Error)
	}
	has := s.State.Rules.Endpoint(d.Interface.Name)
	if has == nil || has.Pod != d.Pod || has.Interface.Index != d.Interface.Index || has.Ingress != d.Ingress || has.Egress != d.Egress {
		return "the kernel still holds what was wanted before" + r.behind()
	}
	if !s.InForce && s.State.Gen != s.Wanted {
		return "members of sets may still be those of before" + r.behind()
	}
	return ""
}

// behind says since when what is wanted is not in force, and why.
func (r request) behind() string {
	s := &r.enforcing.status
	text := ""
	if _, age := r.moment(s.WantedSince); age != nil {
		text = fmt.Sprintf(" for %s", time.Duration(*age)*time.Second)
	}
	return text + because(s.Error)
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func sideOf(e *desired.Endpoint, direction string) *desired.Side {
	if direction == api.Ingress {
		return e.Ingress
	}
	return e.Egress
}

func wireSide(s *desired.State, direction string, side *desired.Side) api.Side {
	a := api.Side{Direction: direction, Isolated: side != nil}
	if side == nil {
		return a
	}
	for _, p := range side.Policies {
		a.Policies = append(a.Policies, policyName(p))
	}
	for i := range side.List.Rules {
		a.Rules = append(a.Rules, wireRule(s, direction, side, i))
	}
	return a
}

// wireRule is one rule of a side, with its set and where it comes from.
func wireRule(s *desired.State, direction string, side *desired.Side, i int) api.Rule {
	rule := side.List.Rules[i]
	a := api.Rule{Text: rule.String(), Set: string(rule.Peer.Set), Origins: []string{}}
	if spec, ok := s.Rules.Spec(rule.Peer.Set); ok {
		a.SetText, a.Members = spec.Text, len(spec.Networks)
		if spec.Dynamic() {
			members, _ := s.Sets.Get(spec.ID)
			a.Members = members.Len()
		}
	}
	if i < len(side.Origins) {
		for _, o := range side.Origins[i] {
			a.Origins = append(a.Origins, origin(direction, o))
		}
	}
	return a
}

// origin is the part of a policy in the names of its fields.
func origin(direction string, o desired.Origin) string {
	rules, peers := fields(direction)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s[%d]", policyName(o.Policy), rules, o.Rule)
	if o.Peer >= 0 {
		fmt.Fprintf(&b, ".%s[%d]", peers, o.Peer)
	}
	if o.Port >= 0 {
		fmt.Fprintf(&b, ".ports[%d]", o.Port)
	}
	return b.String()
}

func policyName(k model.Key) string { return k.Namespace + "/" + k.Name }

func texts[T fmt.Stringer](all []T) []string {
	found := make([]string, 0, len(all))
	for _, one := range all {
		found = append(found, one.String())
	}
	return found
}
