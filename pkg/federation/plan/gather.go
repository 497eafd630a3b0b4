package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// What a linked cluster can have in one federated Service. Each list of ports is
// at least one object of the local API server.
const (
	maxTaken     = 10_000 // endpoints
	maxPortLists = 100
)

// candidate is an endpoint of a cluster that may be published.
type candidate struct {
	*endpoint // as it was read; what follows is of this Service
	ready     bool
	hostname  string
	ports     *portList
	// group is where it is to be, if anywhere; placed: an EndpointSlice has it.
	group  *group
	placed bool
}

func newCandidate(e *endpoint, ports *portList) *candidate {
	return &candidate{endpoint: e, ready: e.ready, hostname: e.hostname, ports: ports}
}

// part is what a cluster has for a federated Service.
type part struct {
	Cluster
	backing []*model.Service // oldest first
	taken   map[netip.Addr]*candidate
	ready   int // distinct pods, as far as a preference counts them
	refused tally
	// stale: its endpoints are spare; withdrawn: they are out of question.
	stale, withdrawn bool
	// readBack are the objects that a partial cluster's taken are from.
	readBack bool
	state    State
	// onlyReady: of what it has, only ready endpoints are published.
	onlyReady bool
	// published are so many of its endpoints, and whether one of them is ready.
	published      int
	publishedReady bool
}

// gatherer takes addresses of one cluster (semantics 4.4, 4.5).
type gatherer struct {
	*planner
	part *part
	svc  served
	list portLists
}

// gather takes what the backing services of a listed cluster have.
func (p *planner) gather(c *part) {
	g := gatherer{planner: p, part: c, svc: servedPorts(p.service), list: p.lists}
	var backing []*service
	for k, s := range p.federated.backing {
		if k.Cluster == c.Name {
			backing = append(backing, s)
		}
	}
	n := 0
	for _, s := range backing {
		for _, sl := range s.place.of[s.fact.Key.Name] {
			n += len(sl.fact.Endpoints)
		}
	}
	c.taken = make(map[netip.Addr]*candidate, min(n, maxTaken))
	slices.SortFunc(backing, func(a, b *service) int {
		return cmp.Or(cmp.Compare(a.fact.Created, b.fact.Created), cmp.Compare(a.fact.Key.Name, b.fact.Key.Name))
	})
	for _, s := range backing {
		c.backing = append(c.backing, s.fact)
		g.takeService(s)
	}
	if !c.Local {
		g.limit()
	}
}

// takeService takes the addresses of one backing service: of one address in
// several of its slices a ready one counts, then the one in the slice first by
// name.
func (g *gatherer) takeService(s *service) {
	of := s.place.of[s.fact.Key.Name]
	names := slices.Sorted(maps.Keys(of))
	lists := make([]*portList, len(names))
	for i, name := range names {
		taken, bad := g.svc.take(of[name].fact.Ports)
		for _, text := range bad {
			g.part.refused.add(InvalidPort, text)
		}
		if len(taken) > 0 || g.svc.any {
			lists[i] = g.list.of(taken)
		}
		g.part.refused.all(of[name].read().refused)
	}
	for _, ready := range [...]bool{true, false} {
		for i, name := range names {
			for j := range of[name].read().endpoints {
				if e := &of[name].read().endpoints[j]; e.ready == ready {
					g.take(e, lists[i])
				}
			}
		}
	}
}

// take takes one address with a list of ports; nil: none matches.
func (g *gatherer) take(e *endpoint, ports *portList) {
	if reason := g.refuses(e.addr); reason != "" {
		g.part.refused.address(reason, e.addr)
		return
	}
	if ports == nil {
		g.part.refused.address(NoMatchingPort, e.addr)
		return
	}
	had := g.part.taken[e.addr]
	if had == nil {
		made := newCandidate(e, ports)
		made.ready = made.ready || g.service.PublishNotReady
		g.part.taken[e.addr] = made
		return
	}
	union := g.list.union(had.ports, ports)
	if union == had.ports {
		g.part.refused.address(Duplicate, e.addr)
	}
	had.ports = union
}

// refuses is why an address is not taken, whatever its ports; empty if it is.
func (g *gatherer) refuses(a netip.Addr) Reason {
	if !g.part.Local {
		if reason := g.trust(a); reason != "" {
			return reason
		}
	}
	if families := g.service.Families; len(families) > 0 && !slices.Contains(families, familyOf(a)) {
		return NotServedFamily
	}
	return ""
}

// trust is why a linked cluster is not believed that an address is its own.
func (g *gatherer) trust(a netip.Addr) Reason {
	if g.world.Facts.clusterIPs[a] > 0 {
		return Shadowed
	}
	if reason, refused := g.world.View.Refuses(g.part.Name, a); refused {
		return Reason(reason)
	}
	owner, owned := g.world.View.Owner(a)
	switch {
	case owned && owner.Key.Cluster != g.part.Name:
		return OwnedElsewhere
	case g.part.External:
		return ""
	case !owned || owner.Key.Kind == model.KindPod && owner.Key.Namespace != g.service.Key.Namespace:
		return NotOwned
	}
	return ""
}

// limit drops what is past a limit: by address, so that it does not depend on the
// order of services.
func (g *gatherer) limit() {
	lists := map[*portList]struct{}{}
	for _, c := range g.part.taken {
		lists[c.ports] = struct{}{}
	}
	if len(g.part.taken) <= maxTaken && len(lists) <= maxPortLists {
		return
	}
	clear(lists)
	n := 0
	for _, a := range slices.SortedFunc(maps.Keys(g.part.taken), netip.Addr.Compare) {
		list := g.part.taken[a].ports
		if _, known := lists[list]; n >= maxTaken || !known && len(lists) >= maxPortLists {
			delete(g.part.taken, a)
			g.part.refused.address(TooMany, a)
			continue
		}
		lists[list] = struct{}{}
		n++
	}
}

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return 4
	}
	return 6
}

// podKey is what makes two addresses the same pod's.
type podKey struct {
	key    model.Key
	target string
	addr   netip.Addr
}

// pod is the pod behind an address, as far as anybody says: the local cluster in
// the reference, a linked one by owning it.
func pod(v index.View, local bool, e *endpoint) podKey {
	if !local {
		if owner, ok := v.Owner(e.addr); ok && owner.Key.Kind == model.KindPod {
			return podKey{key: owner.Key}
		}
		return podKey{addr: e.addr}
	}
	if e.target.Kind == "Pod" {
		return podKey{target: e.target.Name}
	}
	return podKey{addr: e.addr}
}

// count counts the distinct pods that are ready, up to what suffices.
func (p *planner) count(c *part) {
	pods := map[podKey]struct{}{}
	for _, e := range c.taken {
		if e.ready {
			pods[pod(p.world.View, c.Local, e.endpoint)] = struct{}{}
		}
		if c.ready = len(pods); c.ready >= p.pref.minReady {
			return
		}
	}
}
