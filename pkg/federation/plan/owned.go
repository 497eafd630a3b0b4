package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/overland-net/overland/pkg/model"
)

// owned are the EndpointSlices of ours that a Service has, by name.
type owned struct {
	all []*discoveryv1.EndpointSlice
	// groups are those with a source cluster; states those without, newer those
	// of a newer form, which are left alone (semantics 5.1).
	groups        map[groupKey][]*discoveryv1.EndpointSlice
	states, newer []*discoveryv1.EndpointSlice
	// published and parked are the clusters with such endpoints.
	published, parked map[string]bool
	// hostnames are those that are published; nil until somebody asks.
	hostnames map[publishedAt]string
}

// groupKey is what the endpoints of one EndpointSlice have in common (semantics
// 4.6).
type groupKey struct {
	cluster string
	family  discoveryv1.AddressType
	ports   string
	parked  bool
}

// readHave sorts the objects that there are, and reads what they remember.
func (p *planner) readHave() {
	p.owned.groups = map[groupKey][]*discoveryv1.EndpointSlice{}
	p.owned.published, p.owned.parked = map[string]bool{}, map[string]bool{}
	p.owned.all = slices.SortedFunc(slices.Values(p.have.Slices), func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Compare(a.Name, b.Name)
	})
	for _, s := range p.owned.all {
		cluster := s.Labels[LabelSourceCluster]
		switch {
		case newer(s.Annotations):
			p.owned.newer = append(p.owned.newer, s)
		case cluster == "":
			p.owned.states = append(p.owned.states, s)
		default:
			key := groupKey{cluster, s.AddressType, portKey(writtenPorts(s.Ports)), parked(s)}
			p.owned.groups[key] = append(p.owned.groups[key], s)
			if len(s.Endpoints) > 0 {
				p.owned.published[cluster] = p.owned.published[cluster] || !key.parked
				p.owned.parked[cluster] = p.owned.parked[cluster] || key.parked
			}
		}
	}
	p.remember()
}

// remember reads the annotations: those of the state before those of others.
func (p *planner) remember() {
	for _, s := range slices.Concat(p.owned.states, p.owned.all) {
		if text, ok := s.Annotations[AnnotationApplied]; ok && !p.memory.hasApplied && !newer(s.Annotations) {
			p.memory.applied, p.memory.hasApplied = text, true
		}
	}
	if len(p.owned.states) > 0 {
		state := p.owned.states[0]
		p.memory.preference = state.Annotations[AnnotationAppliedPreference]
		p.memory.serving = state.Annotations[AnnotationServing]
		p.memory.sufficient = readSufficient(state.Annotations[AnnotationSufficient])
	}
}

// newer tells whether an object is of a form that this package does not know.
func newer(annotations map[string]string) bool {
	n, err := strconv.Atoi(annotations[AnnotationFormat])
	return err == nil && n > Format
}

// parked tells whether an EndpointSlice is one that nobody routes to.
func parked(s *discoveryv1.EndpointSlice) bool {
	return s.Labels[discoveryv1.LabelServiceName] == ""
}

// readBack takes what is published of a partial cluster, then what is parked
// (semantics 4.9).
func (p *planner) readBack(c *part) {
	c.readBack = true
	c.taken = map[netip.Addr]*candidate{}
	for _, park := range [...]bool{false, true} {
		for _, s := range p.owned.all {
			if s.Labels[LabelSourceCluster] != c.Name || parked(s) != park || newer(s.Annotations) {
				continue
			}
			list := p.lists.of(writtenPorts(s.Ports))
			for i := range s.Endpoints {
				if e, ok := readWritten(&s.Endpoints[i]); ok && c.taken[e.addr] == nil {
					c.taken[e.addr] = newCandidate(&e, list)
				}
			}
		}
	}
	p.readBackReferences(c)
}

// readWritten is an endpoint of an EndpointSlice of ours.
func readWritten(e *discoveryv1.Endpoint) (endpoint, bool) {
	if len(e.Addresses) != 1 {
		return endpoint{}, false
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	out := endpoint{
		addr: a, ready: value(e.Conditions.Ready), serving: value(e.Conditions.Serving), terminating: value(e.Conditions.Terminating),
		hostname: value(e.Hostname), node: value(e.NodeName), zone: value(e.Zone),
	}
	if t := e.TargetRef; t != nil {
		out.target.Kind, out.target.Namespace, out.target.Name, out.target.UID = t.Kind, t.Namespace, t.Name, string(t.UID)
	}
	return out, err == nil
}

// readBackReferences takes what EndpointSlices do not say of a linked cluster's
// endpoints from the Endpoints object, if that is ours.
func (p *planner) readBackReferences(c *part) {
	if c.Local || p.have.Endpoints == nil || !marked(p.have.Endpoints) {
		return
	}
	for _, subset := range p.have.Endpoints.Subsets {
		for _, addresses := range [...][]corev1.EndpointAddress{subset.Addresses, subset.NotReadyAddresses} {
			for _, address := range addresses {
				a, err := netip.ParseAddr(address.IP)
				e := c.taken[a]
				if err != nil || e == nil {
					continue
				}
				if t := address.TargetRef; t != nil {
					name, its := strings.CutPrefix(t.Name, prefix(c.Name))
					if !its {
						continue
					}
					e.target = model.TargetRef{Kind: t.Kind, Namespace: t.Namespace, Name: name, UID: string(t.UID)}
				}
				e.node = value(address.NodeName)
			}
		}
	}
}
