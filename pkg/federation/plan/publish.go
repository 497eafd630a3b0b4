package plan

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/overland-net/overland/pkg/model"
)

// output is what is to be in the objects.
type output struct {
	groups map[groupKey]*group
	// published are the endpoints to which traffic goes, in the order of clusters.
	published []outgoing
	// kept are groups of partial clusters, which stay as they are.
	kept map[groupKey]bool
	left map[*part]tally // what is not published of what is taken
}

type outgoing struct {
	part *part
	*candidate
}

// group are endpoints of which each is in one of the group's EndpointSlices.
type group struct {
	part  *part
	ports *portList
	want  []*candidate
}

// hostnames keeps a hostname that is used in more than one cluster for the local
// cluster only (semantics 4.5).
func (p *planner) hostnames() {
	user := map[string]*part{}
	shared := map[string]bool{}
	unknown := false // a cluster that may use more hostnames
	for _, c := range p.parts {
		if c.withdrawn {
			continue
		}
		unknown = unknown || c.readBack && !c.stale
		for _, e := range c.taken {
			if e.hostname == "" {
				continue
			}
			if first := user[e.hostname]; first == nil {
				user[e.hostname] = c
			} else if first != c {
				shared[e.hostname] = true
			}
		}
	}
	for _, c := range p.parts {
		if c.readBack || c.Local {
			continue
		}
		for a, e := range c.taken {
			if shared[e.hostname] || unknown && e.hostname != "" && p.writtenHostname(c, a) != e.hostname {
				e.hostname = ""
			}
		}
	}
}

// writtenHostname is the hostname that is published with an address: while a
// cluster is partial, what it might use is left as it is.
func (p *planner) writtenHostname(c *part, a netip.Addr) string {
	if p.owned.hostnames == nil {
		p.owned.hostnames = map[publishedAt]string{}
		for _, s := range p.owned.all {
			for i := range s.Endpoints {
				if e, ok := readWritten(&s.Endpoints[i]); ok && e.hostname != "" {
					p.owned.hostnames[publishedAt{s.Labels[LabelSourceCluster], e.addr}] = e.hostname
				}
			}
		}
	}
	return p.owned.hostnames[publishedAt{c.Name, a}]
}

// publishedAt is an address that is published as a cluster's.
type publishedAt struct {
	cluster string
	addr    netip.Addr
}

// publish settles which endpoints are in which group.
func (p *planner) publish() *output {
	out := &output{groups: map[groupKey]*group{}, kept: map[groupKey]bool{}, left: map[*part]tally{}}
	seen := p.writtenByNewer()
	n := 0
	for _, c := range p.parts {
		n += len(c.taken)
	}
	out.published = make([]outgoing, 0, n)
	for _, c := range p.parts {
		if c.readBack && p.keeps(c, seen, out) {
			continue
		}
		if c.state == StateServing {
			p.publishPart(c, seen, out)
		} else if !c.withdrawn && !c.Local && !c.InContact {
			p.park(c, out)
		}
	}
	return out
}

// publishPart publishes a cluster's endpoints.
func (p *planner) publishPart(c *part, seen map[netip.Addr]bool, out *output) {
	var left tally
	var notReady, again []netip.Addr
	for a, e := range c.taken {
		switch {
		case c.onlyReady && !e.ready:
			notReady = append(notReady, a)
		case seen[a]:
			again = append(again, a)
		default:
			seen[a] = true
			out.put(c, e, false)
			out.published = append(out.published, outgoing{c, e})
		}
	}
	left.addresses(NotReady, notReady)
	left.addresses(Duplicate, again)
	out.left[c] = left
}

// park keeps a silent cluster's endpoints where nobody routes to them.
func (p *planner) park(c *part, out *output) {
	for _, e := range c.taken {
		out.put(c, e, true)
	}
}

func (out *output) put(c *part, e *candidate, park bool) {
	key := groupKey{c.Name, addressTypeOf(e.addr), e.ports.key, park}
	g := out.groups[key]
	if g == nil {
		g = &group{part: c, ports: e.ports}
		out.groups[key] = g
	}
	e.group = g
	g.want = append(g.want, e)
}

// keeps leaves the objects of a partial cluster as they are, unless what was
// parked has to serve, or what was published is spare: then they move, with what
// they had (semantics 4.9). A move that was not finished goes on.
func (p *planner) keeps(c *part, seen map[netip.Addr]bool, out *output) bool {
	if c.withdrawn {
		return true // and nothing of it is wanted
	}
	published, parked := p.owned.published[c.Name], p.owned.parked[c.Name]
	serves := c.state == StateServing || published && !c.stale
	if serves && published {
		c.state = StateServing
	}
	if serves && parked || !serves && published {
		return false
	}
	for key := range p.owned.groups {
		out.kept[key] = out.kept[key] || key.cluster == c.Name
	}
	if !serves {
		return true
	}
	for a, e := range c.taken {
		out.published = append(out.published, outgoing{c, e})
		seen[a] = true
	}
	return true
}

// writtenByNewer are the addresses that a newer leader has published: they are
// there already.
func (p *planner) writtenByNewer() map[netip.Addr]bool {
	seen := map[netip.Addr]bool{}
	for _, s := range p.owned.newer {
		if parked(s) {
			continue
		}
		for i := range s.Endpoints {
			if e, ok := readWritten(&s.Endpoints[i]); ok {
				seen[e.addr] = true
			}
		}
	}
	return seen
}

// hints are those of a federated Service's own distribution of traffic, as the
// controller of Kubernetes gives them: to endpoints that are ready.
type hints struct{ zone, node bool }

func hintsOf(s *model.Service) hints {
	switch s.TrafficDistribution {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		return hints{zone: true}
	case corev1.ServiceTrafficDistributionPreferSameNode:
		return hints{zone: true, node: true}
	}
	return hints{}
}

// names are the zone and the node that an endpoint is for; empty: none.
func (h hints) names(e *candidate, local bool) (zone, node string) {
	if e.ready && h.zone {
		zone = e.zone
	}
	if e.ready && h.node && local {
		node = e.node
	}
	return zone, node
}

// write are the hints as the API has them; nil: none.
func (h hints) write(e *candidate, local bool) *discoveryv1.EndpointHints {
	zone, node := h.names(e, local)
	if zone == "" && node == "" {
		return nil
	}
	out := &discoveryv1.EndpointHints{}
	if zone != "" {
		out.ForZones = []discoveryv1.ForZone{{Name: zone}}
	}
	if node != "" {
		out.ForNodes = []discoveryv1.ForNode{{Name: node}}
	}
	return out
}

// same tells whether write would write what is there.
func (h hints) same(had *discoveryv1.EndpointHints, e *candidate, local bool) bool {
	zone, node := h.names(e, local)
	if had == nil {
		return zone == "" && node == ""
	}
	return (zone != "" || node != "") && oneName(len(had.ForZones), zone) && oneName(len(had.ForNodes), node) &&
		(zone == "" || had.ForZones[0].Name == zone) && (node == "" || had.ForNodes[0].Name == node)
}

// oneName tells whether a list is as long as a list of a name is.
func oneName(n int, name string) bool { return n == 0 && name == "" || n == 1 && name != "" }
