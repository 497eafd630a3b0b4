package admin

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// policies lists those that select pods of this node, or all.
func policies(r request) (*api.PolicyList, error) {
	if err := r.parameters(api.ParamNamespace, api.ParamName, api.ParamAll); err != nil {
		return nil, err
	}
	all, err := parseBool(api.ParamAll, r.query.Get(api.ParamAll))
	if err != nil {
		return nil, err
	}
	if !r.known {
		return nil, starting()
	}
	namespace, name := r.query.Get(api.ParamNamespace), r.query.Get(api.ParamName)
	list := &api.PolicyList{Header: r.header(api.KindPolicyList, r.snapshot.Self.Cluster), Items: []api.Policy{}}
	for _, v := range r.snapshot.Policies {
		key := v.Policy.Key
		if len(v.Selects) == 0 && !all || namespace != "" && key.Namespace != namespace || name != "" && key.Name != name {
			continue
		}
		list.Items = append(list.Items, r.policy(v))
	}
	return list, nil
}

func parseBool(parameter, text string) (bool, error) {
	switch text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, invalid("parameter %q is %q: expected true or false", parameter, text)
}

func (r request) policy(v agent.PolicyView) api.Policy {
	p := v.Policy
	a := api.Policy{
		Namespace: p.Key.Namespace, Name: p.Key.Name, UID: p.UID.String(), Generation: p.Generation,
		Directions: []string{}, Scope: api.ScopeLocal, Pods: []string{},
	}
	if mesh, _ := r.snapshot.Meaning.MeshScope(p, r.namespaceOf(p)); mesh {
		a.Scope = api.ScopeMesh
	}
	if p.Ingress {
		a.Directions = append(a.Directions, api.Ingress)
	}
	if p.Egress {
		a.Directions = append(a.Directions, api.Egress)
	}
	for _, pod := range v.Selects {
		a.Pods = append(a.Pods, pod.Name)
	}
	// Of one in whose namespace this node has no pod the agent knows no Problems.
	known := v.Problems
	if len(v.Selects) == 0 && len(known) == 0 {
		known = slices.DeleteFunc(r.snapshot.Meaning.Problems(p, r.namespaceOf(p)), func(m model.Problem) bool { return m.Object != p.Key })
	}
	if len(known) > 0 {
		a.Problems = wireProblems(known)
	}
	return a
}

// namespaceOf is a policy's Namespace; nil if it is not known.
func (r request) namespaceOf(p *model.Policy) *model.Namespace {
	ns, _ := r.snapshot.View.Namespace(model.NamespaceKey(p.Key.Cluster, p.Key.Namespace))
	return ns
}

// policyDetails is one policy, rule by rule.
func policyDetails(ctx context.Context, r request) (*api.PolicyDetails, error) {
	if err := r.parameters(); err != nil {
		return nil, err
	}
	if !r.known {
		return nil, starting()
	}
	all := r.snapshot.Policies
	i, found := slices.BinarySearchFunc(all, [2]string{r.namespace, r.name}, func(v agent.PolicyView, name [2]string) int {
		if c := strings.Compare(v.Policy.Key.Namespace, name[0]); c != 0 {
			return c
		}
		return strings.Compare(v.Policy.Key.Name, name[1])
	})
	if !found {
		return nil, notFound("no NetworkPolicy %s/%s in cluster %s", r.namespace, r.name, r.snapshot.Self.Cluster)
	}
	p := all[i].Policy
	subjects, _ := r.snapshot.Meaning.Subjects(p)
	d := &api.PolicyDetails{
		Header: r.header(api.KindPolicyDetails, ""), Policy: r.policy(all[i]),
		Selector: subjects.String(), Rules: []api.PolicyRule{},
	}
	reader := ruleReader{request: r, policy: p, force: inForce(r.snapshot.Desired, p.Key), counted: map[selector.Selector][]api.PeerCluster{}}
	for _, side := range []struct {
		isolated  bool
		direction string
		rules     []model.PolicyRule
	}{{p.Ingress, api.Ingress, p.IngressRules}, {p.Egress, api.Egress, p.EgressRules}} {
		for n := range side.rules {
			if !side.isolated {
				break
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			d.Rules = append(d.Rules, reader.rule(side.direction, n, &side.rules[n]))
		}
	}
	return d, nil
}

// place is a peer in a policy; peer -1 is the rule itself.
type place struct {
	direction  string
	rule, peer int
}

// inForce are the parts of a policy that rules of this node come from.
func inForce(s *desired.State, policy model.Key) map[place]bool {
	found := map[place]bool{}
	if s == nil {
		return found
	}
	done := map[*desired.Side]bool{nil: true}
	for i := range s.Rules.Endpoints {
		e := &s.Rules.Endpoints[i]
		if e.Pod.Namespace != policy.Namespace {
			continue
		}
		for direction, side := range map[string]*desired.Side{api.Ingress: e.Ingress, api.Egress: e.Egress} {
			if done[side] {
				continue
			}
			done[side] = true
			for _, origins := range side.Origins {
				for _, o := range origins {
					if o.Policy == policy {
						found[place{direction, o.Rule, o.Peer}] = true
					}
				}
			}
		}
	}
	return found
}

// ruleReader reads the rules of one policy.
type ruleReader struct {
	request
	policy  *model.Policy
	force   map[place]bool
	counted map[selector.Selector][]api.PeerCluster
}

// fields are what the API calls the rules of a direction and their peers.
func fields(direction string) (rules, peers string) {
	if direction == api.Ingress {
		return "spec.ingress", "from"
	}
	return "spec.egress", "to"
}

func (x *ruleReader) rule(direction string, n int, rule *model.PolicyRule) api.PolicyRule {
	rules, peers := fields(direction)
	field := fmt.Sprintf("%s[%d]", rules, n)
	a := api.PolicyRule{
		Direction: direction, Field: field,
		AnyPeer: rule.AnyPeer && len(rule.Peers) == 0, AnyPort: rule.AnyPort && len(rule.Ports) == 0,
	}
	for i, port := range rule.Ports {
		a.Ports = append(a.Ports, api.PolicyPort{
			Field:    fmt.Sprintf("%s.ports[%d]", field, i),
			Protocol: port.Protocol.String(), Name: port.Name, First: port.First, Last: port.Last,
		})
	}
	for i, peer := range rule.Peers {
		p := x.peer(peer, fmt.Sprintf("%s.%s[%d]", field, peers, i))
		p.InForce = x.force[place{direction, n, i}]
		a.Peers = append(a.Peers, p)
	}
	return a
}

func (x *ruleReader) peer(peer model.PolicyPeer, field string) api.PolicyPeer {
	if peer.Block.IsValid() {
		return api.PolicyPeer{Field: field, Kind: api.PeerBlock, Block: peer.Block.Masked().String(), Except: ranges(peer.Except)}
	}
	s, _, _ := x.snapshot.Meaning.Peer(x.policy, x.namespaceOf(x.policy), peer, field)
	a := api.PolicyPeer{Field: field, Kind: api.PeerPods, Selector: s.String(), Clusters: x.count(s)}
	nodes := selector.Term{Key: model.KeyKind, Value: model.KindNode.String()}
	if slices.ContainsFunc(s.Compile().Covers(), func(c []selector.Term) bool { return len(c) == 1 && c[0] == nodes }) {
		a.Kind = api.PeerNodes
	}
	for _, c := range a.Clusters {
		a.Members += c.Addresses
	}
	return a
}

// count is what a selector selects, by cluster. What the index tracks is at hand;
// else all endpoints are evaluated.
func (x *ruleReader) count(s selector.Selector) []api.PeerCluster {
	if known, ok := x.counted[s]; ok {
		return known
	}
	byCluster := map[string]*api.PeerCluster{}
	seen := map[*index.Entry]bool{}
	add := func(e *index.Entry, addresses int) {
		if addresses == 0 {
			return
		}
		c := byCluster[e.Key.Cluster]
		if c == nil {
			c = &api.PeerCluster{Name: e.Key.Cluster}
			byCluster[e.Key.Cluster] = c
		}
		c.Addresses += addresses
		if !seen[e] {
			seen[e] = true
			c.Endpoints++
		}
	}
	view := x.snapshot.View
	if members, tracked := view.Members(s); tracked {
		for _, a := range slices.Concat(slices.Collect(members.V4.All()), slices.Collect(members.V6.All())) {
			if e, ok := view.Owner(a); ok {
				add(e, 1)
			}
		}
	} else if s != selector.Never() {
		for e := range view.Select(s.Compile()) {
			add(e, len(slices.DeleteFunc(slices.Clone(e.Addresses), func(a netip.Addr) bool { return !e.Owns(a) })))
		}
	}
	var found []api.PeerCluster
	for _, c := range byCluster {
		found = append(found, *c)
	}
	slices.SortFunc(found, func(a, b api.PeerCluster) int { return x.compareClusters(a.Name, b.Name) })
	x.counted[s] = found
	return found
}

// compareClusters puts the local cluster first, then goes by name.
func (r request) compareClusters(a, b string) int {
	local := r.snapshot.Self.Cluster
	switch {
	case a == b:
		return 0
	case a == local:
		return -1
	case b == local:
		return 1
	}
	return strings.Compare(a, b)
}
