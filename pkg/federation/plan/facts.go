package plan

import (
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/model"
)

// Facts are the Services and EndpointSlices of all clusters, and which of them
// concern which federated Service. It is for one goroutine, that of Plan.
//
// A change of a Service evaluates the expressions of its namespace; one of an
// EndpointSlice finds what it concerns by its Service, which knows whom it backs.
type Facts struct {
	local      string
	namespaces map[string]*namespace
	// clusterIPs counts the local Services that have an address.
	clusterIPs map[netip.Addr]int
	// naming are the EndpointSlices of backing services, by the addresses that
	// they name.
	naming map[netip.Addr]namers
}

// namers are slices that name one address: mostly there is one.
type namers struct {
	first *slice
	more  []*slice
}

// namespace is what is known in the namespaces of one name (semantics 2.4).
type namespace struct {
	places    map[string]*place // by cluster
	federated map[string]*federated
	terms     terms
}

// place is a namespace of one cluster.
type place struct {
	services map[string]*service
	slices   map[string]*slice
	// of are the slices by the name of their Service, whether or not that is
	// known; without those that are managed by us.
	of map[string]map[string]*slice
}

// service is a Service, as a possible backing service.
type service struct {
	key   model.Key
	fact  *model.Service // nil: it is gone
	place *place
	backs map[*federated]struct{}
}

// touched are the federated Services that a change affects.
type touched map[model.Key]struct{}

// NewFacts is the index of the cluster of that name, which knows nothing.
func NewFacts(local string) *Facts {
	return &Facts{
		local:      local,
		namespaces: map[string]*namespace{},
		clusterIPs: map[netip.Addr]int{},
		naming:     map[netip.Addr]namers{},
	}
}

// Apply takes facts of Services and EndpointSlices; others are ignored. It gives
// the federated Services whose plan may differ now, each once, in no order: also
// those that no longer are federated.
func (f *Facts) Apply(b model.Batch) (affected []model.Key) {
	t := touched{}
	stays := make(map[model.Key]struct{}, len(b.Changes))
	for _, c := range b.Changes {
		if c.Key.Cluster != b.Cluster {
			continue // nobody speaks for another cluster
		}
		if c.Value != nil {
			stays[c.Key] = struct{}{}
		}
		f.change(c, t)
	}
	if b.Replace == model.KindService || b.Replace == model.KindEndpointSlice {
		f.replace(b, stays, t)
	}
	return slices.Collect(maps.Keys(t))
}

// Drain forgets a cluster.
func (f *Facts) Drain(cluster string) (affected []model.Key) {
	t := touched{}
	for _, kind := range [...]model.Kind{model.KindEndpointSlice, model.KindService} {
		f.replace(model.Batch{Cluster: cluster, Replace: kind}, nil, t)
	}
	return slices.Collect(maps.Keys(t))
}

// replace removes what a batch that is the whole truth does not have.
func (f *Facts) replace(b model.Batch, stays map[model.Key]struct{}, t touched) {
	for name, n := range f.namespaces {
		p := n.places[b.Cluster]
		if p == nil || b.Namespace != "" && b.Namespace != name {
			continue
		}
		var gone []model.Key
		if b.Replace == model.KindService {
			for s := range p.services {
				gone = append(gone, model.ServiceKey(b.Cluster, name, s))
			}
		} else {
			for s := range p.slices {
				gone = append(gone, model.EndpointSliceKey(b.Cluster, name, s))
			}
		}
		for _, k := range gone {
			if _, ok := stays[k]; !ok {
				f.change(model.Gone(k), t)
			}
		}
	}
}

// change takes one fact.
func (f *Facts) change(c model.Change, t touched) {
	switch c.Key.Kind {
	case model.KindService:
		fact, _ := c.Value.(*model.Service)
		f.setService(c.Key, fact, t)
	case model.KindEndpointSlice:
		fact, _ := c.Value.(*model.EndpointSlice)
		f.setSlice(c.Key, fact, t)
	}
}

// at is the place of a key, which is made if there is none.
func (f *Facts) at(k model.Key) (*namespace, *place) {
	n := f.namespaces[k.Namespace]
	if n == nil {
		n = &namespace{places: map[string]*place{}, federated: map[string]*federated{}, terms: newTerms()}
		f.namespaces[k.Namespace] = n
	}
	p := n.places[k.Cluster]
	if p == nil {
		p = &place{services: map[string]*service{}, slices: map[string]*slice{}, of: map[string]map[string]*slice{}}
		n.places[k.Cluster] = p
	}
	return n, p
}

// clean forgets a place and a namespace of which nothing is known.
func (f *Facts) clean(k model.Key) {
	n, p := f.at(k)
	if len(p.services) == 0 && len(p.slices) == 0 {
		delete(n.places, k.Cluster)
	}
	if len(n.places) == 0 {
		delete(f.namespaces, k.Namespace)
	}
}

// setService takes a Service, or that it is gone.
func (f *Facts) setService(k model.Key, fact *model.Service, t touched) {
	n, p := f.at(k)
	s := p.services[k.Name]
	switch {
	case s == nil && fact == nil:
		f.clean(k)
		return
	case s == nil:
		s = &service{key: k, place: p, backs: map[*federated]struct{}{}}
		p.services[k.Name] = s
	}
	old := s.fact
	s.fact = fact
	if k.Cluster == f.local {
		f.setClusterIPs(old, fact, t)
		f.declare(n, k, fact, t)
	}
	f.relink(n, s, old, t)
	if fact == nil {
		delete(p.services, k.Name)
		f.clean(k)
	}
}

// relink keeps whom a Service backs.
func (f *Facts) relink(n *namespace, s *service, old *model.Service, t touched) {
	feds := maps.Clone(s.backs)
	if old != nil {
		n.terms.removeService(s, f.subject(old))
	}
	if s.fact != nil {
		n.terms.addService(s, f.subject(s.fact))
		n.terms.matching(f.subject(s.fact), feds)
	}
	for fed := range feds {
		f.link(fed, s, t)
	}
}

// setClusterIPs keeps which addresses Services have.
func (f *Facts) setClusterIPs(old, now *model.Service, t touched) {
	var had, has []netip.Addr
	if old != nil {
		had = old.ClusterIPs
	}
	if now != nil {
		has = now.ClusterIPs
	}
	if slices.Equal(had, has) {
		return
	}
	for _, a := range has {
		f.clusterIPs[a]++
		f.touchNaming(a, t)
	}
	for _, a := range had {
		if f.clusterIPs[a]--; f.clusterIPs[a] == 0 {
			delete(f.clusterIPs, a)
		}
		f.touchNaming(a, t)
	}
}

// setSlice takes an EndpointSlice, or that it is gone.
func (f *Facts) setSlice(k model.Key, fact *model.EndpointSlice, t touched) {
	n, p := f.at(k)
	old := p.slices[k.Name]
	if old == nil && fact == nil {
		f.clean(k)
		return
	}
	if old != nil && fact != nil && sameSlice(old.fact, fact) {
		old.fact = fact
		return
	}
	if old != nil {
		f.unplace(n, p, k, old, t)
		delete(p.slices, k.Name)
	}
	if fact != nil {
		now := &slice{fact: fact}
		p.slices[k.Name] = now
		f.replaceInService(n, p, k, now, t)
		return
	}
	f.clean(k)
}

// backed is the Service that a slice is of, as far as its endpoints may be taken
// for that Service's: what a federation wrote is nobody's backing.
func (s *slice) backed() string {
	if s.fact.ManagedBy == ManagedBy {
		return ""
	}
	return s.fact.Service
}

// replaceInService puts a slice to its Service.
func (f *Facts) replaceInService(n *namespace, p *place, k model.Key, s *slice, t touched) {
	name := s.backed()
	if name == "" {
		return
	}
	if p.of[name] == nil {
		p.of[name] = map[string]*slice{}
	}
	p.of[name][k.Name] = s
	f.touchService(n, p, k, name, t)
	if svc := p.services[name]; svc != nil && len(svc.backs) > 0 {
		f.index(s)
	}
}

// unplace takes a slice from its Service.
func (f *Facts) unplace(n *namespace, p *place, k model.Key, s *slice, t touched) {
	name := s.backed()
	if name == "" {
		return
	}
	delete(p.of[name], k.Name)
	if len(p.of[name]) == 0 {
		delete(p.of, name)
	}
	f.touchService(n, p, k, name, t)
	if svc := p.services[name]; svc != nil && len(svc.backs) > 0 {
		f.unindex(s)
	}
}

// touchService notes whom a change of the slices of a Service concerns: what it
// backs and, of the local cluster, the federated Service in whose place they are.
func (f *Facts) touchService(n *namespace, p *place, k model.Key, name string, t touched) {
	if svc := p.services[name]; svc != nil {
		for fed := range svc.backs {
			t[fed.fact.Key] = struct{}{}
		}
	}
	if fed := n.federated[name]; fed != nil && k.Cluster == f.local {
		t[fed.fact.Key] = struct{}{}
	}
}

// index notes the addresses that a slice names.
func (f *Facts) index(s *slice) {
	for i := range s.read().endpoints {
		a := s.read().endpoints[i].addr
		at := f.naming[a]
		switch {
		case at.first == nil:
			at.first = s
		case at.first != s && !slices.Contains(at.more, s):
			at.more = append(at.more, s)
		}
		f.naming[a] = at
	}
}

// unindex forgets them.
func (f *Facts) unindex(s *slice) {
	for i := range s.read().endpoints {
		a := s.read().endpoints[i].addr
		at := f.naming[a]
		if j := slices.Index(at.more, s); j >= 0 {
			at.more = slices.Delete(at.more, j, j+1)
		} else if at.first == s {
			if at.first = nil; len(at.more) > 0 {
				at.first, at.more = at.more[0], at.more[1:]
			}
		}
		if f.naming[a] = at; at.first == nil {
			delete(f.naming, a)
		}
	}
}

// serviceFact is a Service; nil if it is not known.
func (f *Facts) serviceFact(k model.Key) *model.Service {
	n := f.namespaces[k.Namespace]
	if n == nil || n.places[k.Cluster] == nil || n.places[k.Cluster].services[k.Name] == nil {
		return nil
	}
	return n.places[k.Cluster].services[k.Name].fact
}

// named tells whether there is an EndpointSlice of a name, whoever manages it.
func (f *Facts) named(k model.Key) bool {
	n := f.namespaces[k.Namespace]
	return n != nil && n.places[k.Cluster] != nil && n.places[k.Cluster].slices[k.Name] != nil
}

// Federated gives the local Services that are declared federated, in no order.
func (f *Facts) Federated() iter.Seq[*model.Service] {
	return func(yield func(*model.Service) bool) {
		for _, n := range f.namespaces {
			for _, fed := range n.federated {
				if !yield(fed.fact) {
					return
				}
			}
		}
	}
}

// Naming gives the federated Services of whose backing services one names an
// address, each once, in no order.
func (f *Facts) Naming(a netip.Addr) []model.Key {
	t := touched{}
	f.touchNaming(a, t)
	return slices.Collect(maps.Keys(t))
}

// touchNaming notes them.
func (f *Facts) touchNaming(a netip.Addr, t touched) {
	at, ok := f.naming[a]
	if !ok {
		return
	}
	for _, s := range append([]*slice{at.first}, at.more...) {
		k := s.fact.Key
		n, p := f.at(k)
		f.touchService(n, p, k, s.fact.Service, t)
	}
}
