package plan

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// The clusters of the tests: west is the local one.
const (
	west, canada, europe = "west", "canada", "europe"
	redis, elsewhere     = "redis", "elsewhere"
)

func start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// world is all that a plan depends on, and the API server that it is applied to.
type world struct {
	t        testing.TB
	now      time.Time
	clusters []Cluster
	services map[model.Key]*model.Service
	slices   map[model.Key]*model.EndpointSlice
	facts    *Facts
	index    *index.Index
	api      *fakeAPI
	off      bool // no Endpoints objects
}

// newWorld has three clusters in contact that have been listed.
func newWorld(t testing.TB) *world {
	w := &world{
		t: t, now: start(), services: map[model.Key]*model.Service{}, slices: map[model.Key]*model.EndpointSlice{},
		facts: NewFacts(west), index: index.New(), api: newFakeAPI(),
	}
	for i, name := range [...]string{west, canada, europe} {
		w.clusters = append(w.clusters, Cluster{
			Name: name, Local: i == 0, Listed: true, InContact: true, LastContact: w.now,
			SpareAfter: time.Minute, StaleAfter: time.Hour,
		})
		w.index.Apply(model.Set(&model.Cluster{Name: name, Local: i == 0, Created: int64(i), InContact: true}))
	}
	return w
}

func (w *world) cluster(name string) *Cluster {
	return &w.clusters[slices.IndexFunc(w.clusters, func(c Cluster) bool { return c.Name == name })]
}

// world is the argument of Plan.
func (w *world) world() World {
	return World{Now: w.now, Clusters: slices.Clone(w.clusters), Facts: w.facts, View: w.index.View(), Endpoints: !w.off}
}

// set makes facts true.
func (w *world) set(facts ...model.Fact) (affected []model.Key) {
	for _, f := range facts {
		switch f := f.(type) {
		case *model.Service:
			w.services[f.Key] = f
		case *model.EndpointSlice:
			w.slices[f.Key] = f
		}
		affected = append(affected, w.facts.Apply(model.Batch{Cluster: f.FactKey().Cluster, Changes: []model.Change{model.Set(f)}})...)
		w.index.Apply(model.Set(f))
	}
	return affected
}

// gone makes them untrue.
func (w *world) gone(keys ...model.Key) (affected []model.Key) {
	for _, k := range keys {
		delete(w.services, k)
		delete(w.slices, k)
		affected = append(affected, w.facts.Apply(model.Batch{Cluster: k.Cluster, Changes: []model.Change{model.Gone(k)}})...)
		w.index.Apply(model.Gone(k))
	}
	return affected
}

func (w *world) plan(k model.Key) Result { return Plan(w.world(), k, w.api.have(k)) }

// settle plans and applies, and demands that nothing is left to do.
func (w *world) settle(k model.Key) Result {
	w.t.Helper()
	r := w.plan(k)
	w.api.apply(w.t, r.Changes)
	if again := w.plan(k); len(again.Changes) != 0 {
		w.t.Fatalf("a second plan writes %s", describe(again.Changes))
	}
	return r
}

func describe(changes []Change) string {
	var parts []string
	for _, c := range changes {
		parts = append(parts, []string{"", "create", "update", "delete"}[c.Op]+" "+nameOf(c))
	}
	return strings.Join(parts, ", ")
}

// fed is the federated Service of the table tests.
func fed() model.Key { return model.ServiceKey(west, redis, "testdb-federated") }

// federatedService selects what is labelled federation=yes.
func federatedService(edit ...func(*model.Service)) *model.Service {
	s := &model.Service{
		Key: fed(), UID: model.ParseUID("11111111-1111-1111-1111-111111111111"), Families: []uint8{4, 6},
		Annotations: map[string]string{model.AnnotationServiceSelectorTigeraWWW: `federation == "yes"`},
		Ports:       []model.ServicePort{{Name: "redis", Protocol: model.TCP, Port: 11069}},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

// backing is a Service labelled federation=yes.
func backing(cluster string, edit ...func(*model.Service)) *model.Service {
	s := &model.Service{
		Key: model.ServiceKey(cluster, redis, "testdb"), Labels: model.NewLabels(map[string]string{"federation": "yes"}),
		Created: 100, Selecting: true, Ports: []model.ServicePort{{Name: "redis", Protocol: model.TCP, Port: 11069}},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

// sliceOf is a slice of a cluster's testdb with an endpoint for each address.
func sliceOf(cluster, name string, addresses ...string) *model.EndpointSlice {
	s := &model.EndpointSlice{
		Key: model.EndpointSliceKey(cluster, redis, name), Service: "testdb", ManagedBy: "endpointslice-controller.k8s.io",
		AddressType: "IPv4", Ports: []model.EndpointPort{{Name: "redis", Protocol: "TCP", Port: 11069}},
	}
	for _, a := range addresses {
		if strings.Contains(a, ":") {
			s.AddressType = "IPv6"
		}
		s.Endpoints = append(s.Endpoints, model.SliceEndpoint{
			Addresses: []string{a}, Ready: model.True, Serving: model.True, Terminating: model.False,
			Node: "node-1", Zone: "zone-1",
			Target: model.TargetRef{Kind: "Pod", Namespace: redis, Name: "p" + strings.NewReplacer(".", "-", ":", "-").Replace(a), UID: "u-" + a},
		})
	}
	return s
}

// podAt is a pod that has addresses.
func podAt(cluster, namespace string, addresses ...string) *model.Endpoint {
	name := "p" + strings.NewReplacer(".", "-", ":", "-").Replace(addresses[0])
	e := &model.Endpoint{Key: model.PodKey(cluster, namespace, name), UID: model.ParseUID(cluster + addresses[0])}
	for _, a := range addresses {
		e.Addresses = append(e.Addresses, netip.MustParseAddr(a))
	}
	return e
}

// serve gives a cluster a backing service with ready pods at addresses.
func (w *world) serve(cluster string, addresses ...string) {
	w.set(backing(cluster), sliceOf(cluster, "testdb-1", addresses...))
	for _, a := range addresses {
		w.set(podAt(cluster, redis, a))
	}
}

// permuted is what is known, told on another road: in any order, in batches of
// any size, twice, with detours that are taken back.
func (w *world) permuted(r *rand.Rand) *Facts {
	f := NewFacts(west)
	var changes []model.Change
	for _, s := range w.services {
		changes = append(changes, model.Set(s))
	}
	for _, s := range w.slices {
		changes = append(changes, model.Set(s))
	}
	changes = append(changes, changes...)
	r.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	for _, c := range changes {
		if r.IntN(4) == 0 {
			f.Apply(model.Batch{Cluster: c.Key.Cluster, Changes: []model.Change{model.Gone(c.Key)}})
			stray := *backing(c.Key.Cluster)
			stray.Key.Name, stray.Labels = "stray", model.NewLabels(map[string]string{"federation": "yes", "tier": "db"})
			f.Apply(model.Batch{Cluster: c.Key.Cluster, Changes: []model.Change{model.Set(&stray), c}})
			f.Apply(model.Batch{Cluster: c.Key.Cluster, Changes: []model.Change{model.Gone(stray.Key)}})
		}
		f.Apply(model.Batch{Cluster: c.Key.Cluster, Changes: []model.Change{c}})
	}
	for _, c := range w.clusters {
		if r.IntN(2) == 0 {
			f.Drain(c.Name)
		}
		for _, kind := range [...]model.Kind{model.KindService, model.KindEndpointSlice} {
			b := model.Batch{Cluster: c.Name, Replace: kind}
			for _, ch := range changes {
				if ch.Key.Cluster == c.Name && ch.Key.Kind == kind {
					b.Changes = append(b.Changes, ch)
				}
			}
			f.Apply(b)
		}
	}
	return f
}
