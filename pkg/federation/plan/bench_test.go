package plan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

// bench makes services federated Services, each backed by one Service in each of
// the three clusters with so many endpoints.
func benchWorld(b *testing.B, services, endpoints int) (*world, []model.Key) {
	w := newWorld(b)
	var keys []model.Key
	for i := range services {
		name := fmt.Sprintf("svc-%d", i)
		f := federatedService()
		f.Key = model.ServiceKey(west, redis, "fed-"+name)
		f.Annotations = map[string]string{model.AnnotationServiceSelector: fmt.Sprintf("app == '%s'", name)}
		w.set(f)
		keys = append(keys, f.Key)
		for c, cluster := range [...]string{west, canada, europe} {
			s := backing(cluster)
			s.Key, s.Labels = model.ServiceKey(cluster, redis, name), model.NewLabels(map[string]string{"app": name})
			w.set(s)
			benchSlices(w, c, cluster, name, i, endpoints)
		}
	}
	return w, keys
}

// benchSlices are slices of 100 endpoints, of pods that look as pods do.
func benchSlices(w *world, c int, cluster, name string, service, endpoints int) {
	for first := 0; first < endpoints; first += 100 {
		var addresses []string
		for j := first; j < min(first+100, endpoints); j++ {
			n := service*endpoints + j
			a := netip.AddrFrom4([4]byte{10, byte(c*64 + n>>16), byte(n >> 8), byte(n)}).String()
			addresses = append(addresses, a)
			pod := podAt(cluster, redis, a)
			w.index.Apply(model.Set(pod))
		}
		s := sliceOf(cluster, fmt.Sprintf("%s-%d", name, first/100), addresses...)
		s.Service = name
		for j := range s.Endpoints {
			e := &s.Endpoints[j]
			e.Node, e.Zone = "aks-nodepool1-20240168-vmss000004", "eastus-1"
			e.Target.Name, e.Target.UID = fmt.Sprintf("demo-clusterb-7d4b9c6f5d-%05d", j), "f1e3630d-fffa-4475-8893-d6f1aacb74f6"
		}
		w.set(s)
	}
}

// written is how many bytes of JSON a plan sends, and of which objects.
func written(b *testing.B, changes []Change) (slices, slice, endpoints int) {
	for _, c := range changes {
		if c.Slice != nil {
			text, err := json.Marshal(c.Slice)
			if err != nil {
				b.Fatal(err)
			}
			slices, slice = slices+1, slice+len(text)
			continue
		}
		text, err := json.Marshal(c.Endpoints)
		if err != nil {
			b.Fatal(err)
		}
		endpoints += len(text)
	}
	return slices, slice, endpoints
}

// BenchmarkPlanCold is what a new leader computes: 1,000 federated Services, three
// clusters, 50 endpoints each. facts-ms is the index, plan-ms all plans.
func BenchmarkPlanCold(b *testing.B) {
	w, keys := benchWorld(b, 1000, 50)
	world := w.world()
	for b.Loop() {
		f := NewFacts(west)
		for _, s := range w.services {
			f.Apply(model.Batch{Cluster: s.Key.Cluster, Changes: []model.Change{model.Set(s)}})
		}
		for _, s := range w.slices {
			f.Apply(model.Batch{Cluster: s.Key.Cluster, Changes: []model.Change{model.Set(s)}})
		}
		world.Facts = f
		n := 0
		for _, k := range keys {
			n += len(Plan(world, k, Have{EndpointsKnown: true}).Changes)
		}
		if n != 4000 {
			b.Fatalf("%d writes", n)
		}
	}
}

// BenchmarkPlanUnchanged is what it computes if all is as it should be.
func BenchmarkPlanUnchanged(b *testing.B) {
	w, keys := benchWorld(b, 1000, 50)
	world := w.world()
	haves := make([]Have, len(keys))
	for _, k := range keys {
		w.api.apply(b, Plan(world, k, Have{EndpointsKnown: true}).Changes)
	}
	for _, s := range w.api.slices {
		name, _ := ServiceOf(s)
		for i, k := range keys {
			if k.Name == name {
				haves[i].Slices = append(haves[i].Slices, s)
				haves[i].Endpoints, haves[i].EndpointsKnown = w.api.endpoints[k.Namespace+"/"+k.Name], true
			}
		}
	}
	for b.Loop() {
		for i, k := range keys {
			if r := Plan(world, k, haves[i]); len(r.Changes) > 0 {
				b.Fatal(describe(r.Changes))
			}
		}
	}
}

// BenchmarkPlanOneChange is a pod of one of those Services that turns ready or not.
func BenchmarkPlanOneChange(b *testing.B) {
	w, keys := benchWorld(b, 1000, 50)
	benchChange(b, w, keys[500], model.EndpointSliceKey(canada, redis, "svc-500-0"))
}

// BenchmarkPlanOneOf5000 is the same in a Service of 5,000 endpoints of one linked
// cluster.
func BenchmarkPlanOneOf5000(b *testing.B) {
	w, keys := benchWorld(b, 1, 5000)
	for k := range w.services {
		if k.Cluster != canada && k.Name == "svc-0" {
			w.gone(k)
		}
	}
	benchChange(b, w, keys[0], model.EndpointSliceKey(canada, redis, "svc-0-17"))
}

// BenchmarkPlanOneOf5000Local is the same with local endpoints, which name their
// node and pod.
func BenchmarkPlanOneOf5000Local(b *testing.B) {
	w, keys := benchWorld(b, 1, 5000)
	for k := range w.services {
		if k.Cluster != west && k.Name == "svc-0" {
			w.gone(k)
		}
	}
	benchChange(b, w, keys[0], model.EndpointSliceKey(west, redis, "svc-0-17"))
}

func benchChange(b *testing.B, w *world, k, slice model.Key) {
	w.api.apply(b, w.plan(k).Changes)
	have := w.api.have(k)
	world := w.world()
	var states [2]*model.EndpointSlice
	for i, ready := range [...]model.Tristate{model.False, model.True} {
		s := *w.slices[slice]
		s.Endpoints = append([]model.SliceEndpoint(nil), s.Endpoints...)
		s.Endpoints[0].Ready, s.Endpoints[0].Serving = ready, ready
		states[i] = &s
	}
	var changes []Change
	n := 0
	for b.Loop() {
		// Against what there was: the change is planned each second time.
		affected := w.facts.Apply(model.Batch{Cluster: slice.Cluster, Changes: []model.Change{model.Set(states[n%2])}})
		if len(affected) != 1 {
			b.Fatalf("%v are affected", affected)
		}
		if r := Plan(world, k, have); n%2 == 0 {
			changes = r.Changes
		}
		n++
	}
	slices, slicesBytes, endpointsBytes := written(b, changes)
	b.ReportMetric(float64(slices), "slices")
	b.ReportMetric(float64(slicesBytes), "slice-bytes")
	b.ReportMetric(float64(endpointsBytes), "endpoints-bytes")
	b.ReportMetric(float64(changes[0].Slice.Size()), "slice-protobuf-bytes")
	if slices != 1 {
		b.Fatalf("one endpoint changed and %d slices are written", slices)
	}
}
