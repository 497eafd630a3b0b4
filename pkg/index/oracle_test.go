package index

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// oracle is what an Index should say, worked out anew from all facts each time:
// slow and obvious.
type oracle struct {
	facts map[model.Key]model.Fact
}

// answer is all that a View says, in plain maps.
type answer struct {
	Owners     map[netip.Addr]owner
	Refused    map[model.Key][]Refusal
	Members    map[selector.Selector]map[netip.Addr]bool
	Ports      map[PortQuery]map[netip.AddrPort]bool
	Counts     map[string]Counts
	Namespaces map[model.Key]*model.Namespace
	Clusters   map[string]*model.Cluster
	Endpoints  map[model.Key]*model.Endpoint
}

// owner is an endpoint, and which one of that name.
type owner struct {
	key model.Key
	uid model.UID
}

// asked is what an Index is told to track.
type asked struct {
	selectors map[selector.Selector]bool
	queries   map[PortQuery]bool
}

func newAsked(selectors []selector.Selector, queries []PortQuery) asked {
	a := asked{map[selector.Selector]bool{}, map[PortQuery]bool{}}
	for _, s := range selectors {
		a.selectors[s] = true
	}
	for _, q := range queries {
		a.queries[q] = true
	}
	return a
}

func newAnswer() answer {
	return answer{
		map[netip.Addr]owner{},
		map[model.Key][]Refusal{},
		map[selector.Selector]map[netip.Addr]bool{},
		map[PortQuery]map[netip.AddrPort]bool{},
		map[string]Counts{},
		map[model.Key]*model.Namespace{},
		map[string]*model.Cluster{},
		map[model.Key]*model.Endpoint{},
	}
}

func newOracle() *oracle { return &oracle{map[model.Key]model.Fact{}} }

func (o *oracle) apply(c model.Change) {
	if c.Value != nil {
		o.facts[c.Key] = c.Value
		return
	}
	delete(o.facts, c.Key)
	if c.Key.Kind == model.KindCluster {
		maps.DeleteFunc(o.facts, func(k model.Key, _ model.Fact) bool { return k.Cluster == c.Key.Cluster })
	}
}

func (o *oracle) cluster(name string) *model.Cluster {
	c, _ := o.facts[model.ClusterKey(name)].(*model.Cluster)
	return c
}

// declared is the ranges that an endpoint's cluster declares for its kind, or for
// the other one if there are none.
func (o *oracle) declared(e *model.Endpoint) []netip.Prefix {
	c := o.cluster(e.Key.Cluster)
	first, second := c.PodCIDRs, c.NodeCIDRs
	if e.Key.Kind == model.KindNode {
		first, second = second, first
	}
	if len(first) == 0 {
		return second
	}
	return first
}

func within(a netip.Addr, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ownReason is why a claim of a known cluster is refused whoever else claims the
// address.
func (o *oracle) ownReason(e *model.Endpoint, a netip.Addr, localNode *model.Endpoint) (model.RefusalReason, model.Key) {
	if a.IsUnspecified() {
		return model.RefusedReservedAddress, model.Key{}
	}
	if o.cluster(e.Key.Cluster).Local {
		return "", model.Key{}
	}
	for _, p := range []string{"0.0.0.0/32", "::/128", "127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "168.63.129.16/32"} {
		if netip.MustParsePrefix(p).Contains(a) {
			return model.RefusedReservedAddress, model.Key{}
		}
	}
	if localNode != nil {
		return model.RefusedLocalNode, localNode.Key
	}
	for _, f := range o.facts {
		if c, ok := f.(*model.Cluster); ok && c.Local && (within(a, c.PodCIDRs) || within(a, c.NodeCIDRs)) {
			return model.RefusedLocalRange, model.Key{}
		}
	}
	if d := o.declared(e); len(d) > 0 && !within(a, d) {
		return model.RefusedOutsideRanges, model.Key{}
	}
	return "", model.Key{}
}

// holds tells whether a remote declares a range with the address.
func (o *oracle) holds(c *model.Cluster, a netip.Addr) bool {
	return !c.Local && (within(a, c.PodCIDRs) || within(a, c.NodeCIDRs))
}

// better tells whether the claim of e on an address comes before that of f.
func (o *oracle) better(a netip.Addr, e, f *model.Endpoint) bool {
	c, d := o.cluster(e.Key.Cluster), o.cluster(f.Key.Cluster)
	switch {
	case c.Local != d.Local:
		return c.Local
	case o.holds(c, a) != o.holds(d, a):
		return o.holds(c, a)
	case e.Key.Kind != f.Key.Kind:
		return e.Key.Kind == model.KindNode
	case !c.Local && c.InContact != d.InContact:
		return c.InContact
	case e.Terminating != f.Terminating:
		return f.Terminating
	case c.Created != d.Created:
		return c.Created < d.Created
	case c.Name != d.Name:
		return c.Name < d.Name
	case e.Created != f.Created:
		return e.Created > f.Created
	case e.UID != f.UID:
		return slices.Compare(e.UID[:], f.UID[:]) < 0
	}
	return cmp.Or(strings.Compare(e.Key.Namespace, f.Key.Namespace), strings.Compare(e.Key.Name, f.Key.Name)) < 0
}

// judge gives the owner of an address, nil if there is none, and who is refused.
func (o *oracle) judge(a netip.Addr, claims []*model.Endpoint) (owner *model.Endpoint, refused map[model.Key]Refusal) {
	best := func(of []*model.Endpoint) *model.Endpoint {
		var first *model.Endpoint
		for _, e := range of {
			if first == nil || o.better(a, e, first) {
				first = e
			}
		}
		return first
	}
	var localNodes, valid []*model.Endpoint
	for _, e := range claims {
		if c := o.cluster(e.Key.Cluster); c != nil && c.Local && e.Key.Kind == model.KindNode {
			localNodes = append(localNodes, e)
		}
	}
	refused = map[model.Key]Refusal{}
	for _, e := range claims {
		if o.cluster(e.Key.Cluster) == nil {
			continue
		}
		if reason, by := o.ownReason(e, a, best(localNodes)); reason != "" {
			refused[e.Key] = Refusal{a, reason, by}
		} else {
			valid = append(valid, e)
		}
	}
	owner = best(valid)
	for _, e := range valid {
		if e == owner {
			continue
		}
		r := Refusal{a, model.RefusedDuplicate, owner.Key}
		switch {
		case len(claims) > maxNamed:
			r.By = model.Key{}
		case owner.Key.Kind == model.KindNode && e.Key.Kind == model.KindPod:
			r.Reason = model.RefusedNodeAddress
		}
		refused[e.Key] = r
	}
	return owner, refused
}

func (o *oracle) subject(e *model.Endpoint) *selector.Subject {
	s := &selector.Subject{
		Labels: e.Labels, ClusterName: e.Key.Cluster, NamespaceName: e.Key.Namespace,
		ServiceAccount: e.ServiceAccount, Kind: e.Key.Kind,
	}
	if c := o.cluster(e.Key.Cluster); c != nil {
		s.Cluster = c.Labels
	}
	n, ok := o.facts[model.NamespaceKey(e.Key.Cluster, e.Key.Namespace)].(*model.Namespace)
	if s.NamespaceUnknown = !ok; ok {
		s.Namespace = n.Labels
	}
	return s
}

func (o *oracle) answer(of asked) answer {
	a := newAnswer()
	claims := map[netip.Addr][]*model.Endpoint{}
	for k, f := range o.facts {
		count := a.Counts[k.Cluster]
		if count.Refused == nil {
			count.Refused = map[model.RefusalReason]int{}
		}
		switch f := f.(type) {
		case *model.Endpoint:
			a.Endpoints[k] = f
			if k.Kind == model.KindPod {
				count.Pods++
			} else {
				count.Nodes++
			}
			for _, address := range f.Addresses {
				claims[address] = append(claims[address], f)
			}
		case *model.Namespace:
			count.Namespaces++
			a.Namespaces[k] = f
		case *model.Cluster:
			a.Clusters[k.Cluster] = f
		}
		a.Counts[k.Cluster] = count
	}
	matchers := map[selector.Selector]*selector.Matcher{}
	for s := range of.selectors {
		a.Members[s], matchers[s] = map[netip.Addr]bool{}, s.Compile()
	}
	for q := range of.queries {
		a.Ports[q] = map[netip.AddrPort]bool{}
	}
	refused := map[model.Key]map[netip.Addr]Refusal{}
	for address, by := range claims {
		best, losers := o.judge(address, by)
		for k, r := range losers {
			if refused[k] == nil {
				refused[k] = map[netip.Addr]Refusal{}
			}
			refused[k][address] = r
			a.Counts[k.Cluster].Refused[r.Reason]++
		}
		if best == nil {
			continue
		}
		a.Owners[address] = owner{best.Key, best.UID}
		for s, m := range matchers {
			if m.Matches(o.subject(best)) {
				a.Members[s][address] = true
			}
		}
		for q := range of.queries {
			for _, p := range best.Ports {
				if best.Key.Kind == model.KindPod && p.Name == q.Port && p.Protocol == q.Protocol && q.Selector.Compile().Matches(o.subject(best)) {
					a.Ports[q][netip.AddrPortFrom(address, p.Port)] = true
				}
			}
		}
	}
	for k, by := range refused {
		for _, address := range a.Endpoints[k].Addresses {
			if r, ok := by[address]; ok {
				a.Refused[k] = append(a.Refused[k], r)
			}
		}
	}
	return a
}

// read is what a View says.
func read(v View) answer {
	a := newAnswer()
	for e := range v.Endpoints() {
		a.Endpoints[e.Key] = e.Endpoint
		if len(e.Refused) > 0 {
			a.Refused[e.Key] = e.Refused
		}
		for _, address := range e.Addresses {
			if e.Owns(address) {
				a.Owners[address] = owner{e.Key, e.UID}
			}
		}
	}
	for s := range v.Tracked() {
		m, _ := v.Members(s)
		a.Members[s] = map[netip.Addr]bool{}
		for address := range m.V4.All() {
			a.Members[s][address] = true
		}
		for address := range m.V6.All() {
			a.Members[s][address] = true
		}
	}
	for q := range v.TrackedPorts() {
		m, _ := v.PortMembers(q)
		a.Ports[q] = map[netip.AddrPort]bool{}
		for pair := range m.V4.All() {
			a.Ports[q][pair] = pair.Addr().Is4()
		}
		for pair := range m.V6.All() {
			a.Ports[q][pair] = pair.Addr().Is6()
		}
	}
	for n := range v.Namespaces() {
		a.Namespaces[n.Key] = n
	}
	for c := range v.Clusters() {
		a.Clusters[c.Name] = c
	}
	for name := range v.now().clusters.All() {
		a.Counts[name] = v.Counts(name)
		if a.Counts[name].Refused == nil {
			c := a.Counts[name]
			c.Refused = map[model.RefusalReason]int{}
			a.Counts[name] = c
		}
	}
	return a
}
