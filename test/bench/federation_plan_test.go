package bench

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/overland-net/overland/pkg/federation/plan"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

const thirdCluster = "oslo"

// federation is a world of federated Services and what has been written of them.
type federation struct {
	facts *plan.Facts
	view  index.View
	have  map[model.Key]map[string]*discoveryv1.EndpointSlice
	// backing are the EndpointSlices of the backing services.
	backing map[model.Key]*model.EndpointSlice
	pods    int
}

// written is what the plans of some changes cost.
type written struct {
	took           time.Duration
	objects, bytes int
}

// federate makes Services services backed by a Service with endpoints pods in each
// cluster.
func federate(b *testing.B, services, endpoints int, clusters ...string) *federation {
	b.Helper()
	f := &federation{
		facts: plan.NewFacts(localCluster), have: map[model.Key]map[string]*discoveryv1.EndpointSlice{},
		backing: map[model.Key]*model.EndpointSlice{},
	}
	owners := index.New()
	byCluster := map[string][2][]model.Change{}
	owners.Apply(model.Set(&model.Cluster{Name: localCluster, Local: true, InContact: true}))
	for _, cluster := range clusters {
		if cluster != localCluster {
			owners.Apply(model.Set(&model.Cluster{Name: cluster, InContact: true}))
		}
		changes := byCluster[cluster]
		for s := range services {
			changes[0] = append(changes[0], model.Set(&model.Service{
				Key: model.ServiceKey(cluster, teamOf(s), fmt.Sprintf("web-%d", s)), UID: numberedUID(s),
				Labels: model.NewLabels(map[string]string{"federate": fmt.Sprintf("s%d", s)}),
				Ports:  []model.ServicePort{{Name: "web", Protocol: model.TCP, Port: 80}}, Families: []uint8{4},
			}))
			if cluster == localCluster {
				changes[0] = append(changes[0], model.Set(federatedService(s)))
			}
			for part := 0; part*100 < endpoints; part++ {
				changes[1] = append(changes[1], model.Set(f.slice(owners, cluster, s, part, min(100, endpoints-part*100))))
			}
		}
		byCluster[cluster] = changes
	}
	f.view = owners.View()
	for cluster, changes := range byCluster {
		f.facts.Apply(model.Batch{Cluster: cluster, Replace: model.KindService, Changes: changes[0]})
		f.facts.Apply(model.Batch{Cluster: cluster, Replace: model.KindEndpointSlice, Changes: changes[1]})
	}
	return f
}

func teamOf(service int) string { return fmt.Sprintf("team-%d", service%100) }

func federatedService(s int) *model.Service {
	return &model.Service{
		Key: model.ServiceKey(localCluster, teamOf(s), fmt.Sprintf("fed-%d", s)), UID: numberedUID(1<<40 + s),
		Annotations: map[string]string{model.AnnotationServiceSelector: fmt.Sprintf("federate == 's%d'", s)},
		Ports:       []model.ServicePort{{Name: "web", Protocol: model.TCP, Port: 80}}, Families: []uint8{4},
	}
}

// slice is an EndpointSlice of a backing service, whose pods exist.
func (f *federation) slice(owners *index.Index, cluster string, service, part, endpoints int) *model.EndpointSlice {
	s := &model.EndpointSlice{
		Key:     model.EndpointSliceKey(cluster, teamOf(service), fmt.Sprintf("web-%d-%d", service, part)),
		Service: fmt.Sprintf("web-%d", service), AddressType: "IPv4",
		Ports: []model.EndpointPort{{Name: "web", Protocol: "TCP", Port: 8080}},
	}
	for range endpoints {
		f.pods++
		address, name := numberedAddress(f.pods), fmt.Sprintf("web-%d", f.pods)
		owners.Apply(model.Set(&model.Endpoint{
			Key: model.PodKey(cluster, teamOf(service), name), UID: numberedUID(f.pods),
			Node: "node-1", Addresses: []netip.Addr{address},
		}))
		s.Endpoints = append(s.Endpoints, model.SliceEndpoint{
			Addresses: []string{address.String()}, Ready: model.True, Serving: model.True, Terminating: model.False, Node: "node-1", Zone: "1",
			Target: model.TargetRef{Kind: "Pod", Namespace: teamOf(service), Name: name, UID: numberedUID(f.pods).String()},
		})
	}
	f.backing[s.Key] = s
	return s
}

// plan plans Services and makes their changes; its time is the plans' alone.
func (f *federation) plan(b *testing.B, services ...model.Key) written {
	b.Helper()
	var w written
	now := time.Now()
	world := plan.World{Now: now, Facts: f.facts, View: f.view, Clusters: []plan.Cluster{
		{Name: localCluster, Local: true, Listed: true, InContact: true},
		{Name: remoteCluster, Listed: true, InContact: true, LastContact: now, SpareAfter: time.Minute},
		{Name: thirdCluster, Listed: true, InContact: true, LastContact: now, SpareAfter: time.Minute},
	}}
	for _, key := range services {
		have := plan.Have{EndpointsKnown: true}
		for _, s := range f.have[key] {
			have.Slices = append(have.Slices, s)
		}
		began := time.Now()
		result := plan.Plan(world, key, have)
		w.took += time.Since(began)
		for _, c := range result.Changes {
			text, err := json.Marshal(c.Slice)
			if err != nil {
				b.Fatal(err)
			}
			w.objects, w.bytes = w.objects+1, w.bytes+len(text)
			if f.have[key] == nil {
				f.have[key] = map[string]*discoveryv1.EndpointSlice{}
			}
			if f.have[key][c.Slice.Name] = c.Slice; c.Op == plan.Delete {
				delete(f.have[key], c.Slice.Name)
			}
		}
	}
	return w
}

// unready makes one endpoint of a Service in canada not ready and plans what that
// concerns.
func (f *federation) unready(b *testing.B, service int) written {
	b.Helper()
	s := f.backing[model.EndpointSliceKey(remoteCluster, teamOf(service), fmt.Sprintf("web-%d-0", service))]
	changed := *s
	changed.Endpoints = append([]model.SliceEndpoint{}, s.Endpoints...)
	changed.Endpoints[len(changed.Endpoints)/2].Ready = model.False
	began := time.Now()
	affected := f.facts.Apply(model.Batch{Cluster: s.Key.Cluster, Changes: []model.Change{model.Set(&changed)}})
	took := time.Since(began)
	if len(affected) != 1 {
		b.Fatalf("the change affects %v", affected)
	}
	w := f.plan(b, affected...)
	w.took += took
	return w
}

// BenchmarkFederationPlan is 1,000 federated Services in three clusters with 50
// endpoints in each: the plan of all of them, and that of one changed endpoint.
func BenchmarkFederationPlan(b *testing.B) {
	const services, endpoints = 1000, 50
	var cold, one written
	once(b, func() {
		f := federate(b, services, endpoints, localCluster, remoteCluster, thirdCluster)
		var all []model.Key
		for s := range f.facts.Federated() {
			all = append(all, s.Key)
		}
		cold = f.plan(b, all...)
		if again := f.plan(b, all...); again.objects != 0 {
			b.Fatalf("planned again, %d objects would be written", again.objects)
		}
		one = f.unready(b, 7)
	})
	b.ReportMetric(ms(cold.took), "ms-cold")
	b.ReportMetric(float64(cold.objects), "writes-cold")
	b.ReportMetric(float64(cold.bytes)/1e6, "MB-cold")
	b.ReportMetric(float64(one.took.Microseconds()), "us-one-change")
	b.ReportMetric(float64(one.objects), "writes-one-change")
	b.ReportMetric(float64(one.bytes), "B-one-change")
}

// BenchmarkFederationLargeService is one changed endpoint of 5,000 in one Service:
// what is written, beside the size of one object with all of them.
func BenchmarkFederationLargeService(b *testing.B) {
	const endpoints = 5000
	var one written
	whole := 0
	once(b, func() {
		f := federate(b, 1, endpoints, remoteCluster)
		f.facts.Apply(model.Batch{Cluster: localCluster, Replace: model.KindService, Changes: []model.Change{model.Set(federatedService(0))}})
		whole = f.plan(b, model.ServiceKey(localCluster, teamOf(0), "fed-0")).bytes
		one = f.unready(b, 0)
	})
	b.ReportMetric(float64(one.took.Microseconds()), "us-one-change")
	b.ReportMetric(float64(one.objects), "writes-one-change")
	b.ReportMetric(float64(one.bytes), "B-one-change")
	b.ReportMetric(float64(whole), "B-whole-service")
}
