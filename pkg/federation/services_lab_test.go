package federation

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/federation/plan"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// servicesLab is a cluster west with an API server, linked with canada, and the
// agents that lead there.
type servicesLab struct {
	*testing.T
	api *apiServer

	mu      sync.Mutex
	sinks   map[Sink]bool
	remote  map[model.Key]model.Fact // of canada
	status  model.ClusterStatus      // of canada
	cluster *model.Cluster           // nil: not linked
	contact map[string]time.Time
	events  chan labEvent
	index   *index.Index
	seen    *snapshots
	gen     uint64
	leaders sync.WaitGroup
	closed  chan struct{}
	// unlinked, if not nil, keeps back the list of linked clusters until it is
	// closed; unread the status of their objects.
	unlinked chan struct{}
	unread   bool
	// noEndpoints: no Endpoints objects are written.
	noEndpoints bool
}

type labEvent struct {
	at    time.Time
	batch model.Batch
}

// inLab runs a test on a clock of its own.
func inLab(t *testing.T, seed uint64, test func(l *servicesLab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &servicesLab{
			T: t, api: newAPIServer(t, seed), sinks: map[Sink]bool{}, remote: map[model.Key]model.Fact{}, contact: map[string]time.Time{},
			events: make(chan labEvent, 100000), index: index.New(), closed: make(chan struct{}),
			status:  model.ClusterStatus{State: model.StateInSync, Reason: model.ReasonInSync, LastContact: time.Now()},
			cluster: &model.Cluster{Name: "canada", UID: model.ParseUID("canada"), SpareAfter: time.Minute},
		}
		l.index.Apply(model.Set(&model.Cluster{Name: "west", Local: true, InContact: true, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}))
		l.index.Apply(model.Set(&model.Cluster{Name: "canada", UID: l.cluster.UID, InContact: true}))
		l.seen = newSnapshots(nil)
		l.look()
		l.api.changed = l.locally
		go l.deliver()
		test(l)
		l.api.cut(false)
		l.leaders.Wait()
		close(l.closed)
	})
}

// look publishes a new snapshot.
func (l *servicesLab) look() {
	l.gen++
	s := &agent.Snapshot{
		Gen: l.gen, Self: agent.Self{Cluster: "west"}, InSync: true, View: l.index.View(),
		Clusters: []agent.Cluster{{Name: "west", Local: true, Complete: true}},
	}
	if l.cluster != nil {
		s.Clusters = append(s.Clusters, agent.Cluster{Name: "canada", Fact: l.cluster, Status: l.status, Complete: true})
	}
	l.seen.publish(s)
}

// deliver hands local changes to the sources' sinks, in order and when they are due.
func (l *servicesLab) deliver() {
	for {
		select {
		case e := <-l.events:
			time.Sleep(time.Until(e.at))
			l.tell(func(s Sink) { s.Facts(e.batch) })
		case <-l.closed:
			return
		}
	}
}

func (l *servicesLab) tell(f func(Sink)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.sinks {
		f(s)
	}
}

// locally makes facts of what changes in the API server.
func (l *servicesLab) locally(resource string, is map[string]any, gone bool) {
	fact := localFact(resource, is)
	if fact == nil {
		return
	}
	c := model.Set(fact)
	if gone {
		c = model.Gone(fact.FactKey())
	}
	l.events <- labEvent{time.Now().Add(l.api.lag), model.Batch{Cluster: "west", Changes: []model.Change{c}}}
}

func localFact(resource string, is map[string]any) model.Fact {
	switch resource {
	case "services":
		s := new(corev1.Service)
		if json.Unmarshal(mustJSON(is), s) == nil {
			return serviceFact("west", s)
		}
	case "endpointslices":
		s := new(discoveryv1.EndpointSlice)
		if json.Unmarshal(mustJSON(is), s) == nil {
			return sliceFact("west", s)
		}
	}
	return nil
}

func serviceFact(cluster string, s *corev1.Service) *model.Service {
	f := &model.Service{
		Key: model.ServiceKey(cluster, s.Namespace, s.Name), UID: model.ParseUID(string(s.UID)), ResourceVersion: s.ResourceVersion,
		Labels: model.NewLabels(s.Labels), Selecting: len(s.Spec.Selector) > 0, Families: []uint8{4}, Annotations: s.Annotations,
	}
	for _, p := range s.Spec.Ports {
		f.Ports = append(f.Ports, model.ServicePort{Name: p.Name, Protocol: model.TCP, Port: uint16(p.Port)})
	}
	for _, c := range s.Status.Conditions {
		if strings.HasPrefix(c.Type, "overland.dev/") {
			f.Conditions = append(f.Conditions, model.ServiceCondition{
				Type: c.Type, Status: string(c.Status), Reason: c.Reason, Message: c.Message, LastTransition: c.LastTransitionTime.Unix(),
			})
		}
	}
	return f
}

func sliceFact(cluster string, s *discoveryv1.EndpointSlice) *model.EndpointSlice {
	f := &model.EndpointSlice{
		Key: model.EndpointSliceKey(cluster, s.Namespace, s.Name), UID: model.ParseUID(string(s.UID)),
		Service: s.Labels[discoveryv1.LabelServiceName], ManagedBy: s.Labels[discoveryv1.LabelManagedBy], AddressType: string(s.AddressType),
	}
	for _, p := range s.Ports {
		f.Ports = append(f.Ports, model.EndpointPort{Name: *p.Name, Protocol: "TCP", Port: *p.Port})
	}
	for _, e := range s.Endpoints {
		f.Endpoints = append(f.Endpoints, model.SliceEndpoint{Addresses: e.Addresses, Ready: model.True, Serving: model.True})
	}
	return f
}

// lead begins a term of an agent; it lasts until end is called.
func (l *servicesLab) lead(identity string) (s *Services, end func()) {
	ctx, cancel := context.WithCancel(l.Context())
	s = NewServices(ServicesConfig{
		Cluster: "west", Namespace: "overland-system", Identity: identity, Endpoints: !l.noEndpoints, Sources: l.sources,
	}, l.api.client(), l.seen, labContacts{l}, l.logger())
	l.leaders.Go(func() { s.Run(ctx) })
	return s, cancel
}

type labContacts struct{ *servicesLab }

// LastContact is that of the RemoteCluster objects.
func (l labContacts) LastContact() map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unread {
		return nil
	}
	return maps.Clone(l.contact)
}

// sources are those of all clusters.
func (l *servicesLab) sources(ctx context.Context, sink Sink) {
	batches := map[model.Kind]*model.Batch{}
	for _, kind := range []model.Kind{model.KindService, model.KindEndpointSlice} {
		batches[kind] = &model.Batch{Cluster: "west", Replace: kind}
	}
	l.api.do(func() {
		for key, o := range l.api.objects {
			resource, _, _ := strings.Cut(key, "/")
			if f := localFact(resource, o); f != nil {
				b := batches[f.FactKey().Kind]
				b.Changes = append(b.Changes, model.Set(f))
			}
		}
		for _, b := range batches {
			sink.Facts(*b)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.sinks[sink] = true
	})
	sink.Status("west", model.ClusterStatus{State: model.StateInSync, LastContact: time.Now()})
	if l.unlinked != nil {
		<-l.unlinked
	}
	l.mu.Lock()
	links := model.Batch{Replace: model.KindCluster}
	if l.cluster != nil {
		links.Changes = append(links.Changes, model.Set(l.cluster))
	}
	sink.Facts(links)
	if l.cluster != nil {
		if l.status.InContact() {
			for _, b := range l.batches() {
				sink.Facts(b)
			}
		}
		sink.Status("canada", l.status)
	}
	l.mu.Unlock()
	<-ctx.Done()
	l.mu.Lock()
	delete(l.sinks, sink)
	l.mu.Unlock()
}

// batches are the lists of canada.
func (l *servicesLab) batches() []model.Batch {
	var all []model.Batch
	for _, kind := range []model.Kind{model.KindService, model.KindEndpointSlice} {
		b := model.Batch{Cluster: "canada", Replace: kind}
		for k, f := range l.remote {
			if k.Kind == kind {
				b.Changes = append(b.Changes, model.Set(f))
			}
		}
		all = append(all, b)
	}
	return all
}

// canada makes facts true there; what was in a Service's EndpointSlice before is
// gone.
func (l *servicesLab) canada(facts ...model.Fact) {
	b := model.Batch{Cluster: "canada"}
	l.mu.Lock()
	for _, f := range facts {
		l.remote[f.FactKey()] = f
		b.Changes = append(b.Changes, model.Set(f))
	}
	l.mu.Unlock()
	l.tell(func(s Sink) { s.Facts(b) })
}

// reach changes how canada's API server is doing.
func (l *servicesLab) reach(s model.ClusterStatus) {
	l.mu.Lock()
	l.status = s
	again := l.batches()
	l.mu.Unlock()
	l.look()
	l.tell(func(sink Sink) {
		if s.InContact() {
			for _, b := range again {
				sink.Facts(b)
			}
		}
		sink.Status("canada", s)
	})
}

// pods have these addresses, in namespace redis of a cluster.
func (l *servicesLab) pods(cluster string, addresses ...string) {
	for _, a := range addresses {
		l.index.Apply(model.Set(&model.Endpoint{
			Key: model.PodKey(cluster, "redis", "pod-"+strings.ReplaceAll(a, ".", "-")), UID: model.ParseUID(cluster + a),
			Addresses: []netip.Addr{netip.MustParseAddr(a)},
		}))
	}
	l.look()
}

// redis is what canada has: a Service and its EndpointSlice.
func redis(cluster string, addresses ...string) []model.Fact {
	port := int32(6379)
	name := "redis"
	s := &corev1.Service{}
	s.Namespace, s.Name, s.UID, s.Labels = "redis", "testdb", "11111111-0000-4000-8000-000000000001", map[string]string{"federation": "yes"}
	s.Spec.Ports = []corev1.ServicePort{{Name: name, Port: port}}
	slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}}
	slice.Namespace, slice.Name, slice.Labels = "redis", "testdb-1", map[string]string{discoveryv1.LabelServiceName: "testdb"}
	for _, a := range addresses {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return []model.Fact{serviceFact(cluster, s), sliceFact(cluster, slice)}
}

// declare makes a Service of west federated.
func (l *servicesLab) declare(name string, annotations map[string]string) {
	l.api.edit("services", "redis", name, func(o map[string]any) map[string]any {
		all := map[string]any{}
		for k, v := range annotations {
			all[k] = v
		}
		metaOf(o)["annotations"] = all
		o["spec"] = map[string]any{"ports": []any{map[string]any{"name": "redis", "port": 6379}}, "ipFamilies": []any{"IPv4"}}
		return o
	})
}

func (l *servicesLab) declareAll(names ...string) {
	for _, n := range names {
		l.declare(n, map[string]string{model.AnnotationServiceSelector: "federation == 'yes'"})
	}
}

// world is a lab with the Services of the article: testdb in canada, with these
// addresses, and testdb-federated in west.
func (l *servicesLab) world(addresses ...string) {
	l.pods("canada", addresses...)
	l.canada(redis("canada", addresses...)...)
	l.declareAll("testdb-federated")
}

// published are the addresses of a Service, by what is written.
func (l *servicesLab) published(service string) (slices_, endpoints []string) {
	for _, s := range stored[discoveryv1.EndpointSlice](l.api, "endpointslices") {
		if s.Labels[discoveryv1.LabelServiceName] == service {
			for _, e := range s.Endpoints {
				slices_ = append(slices_, e.Addresses...)
			}
		}
	}
	if e := stored[corev1.Endpoints](l.api, "endpoints")["redis/"+service]; e != nil {
		for _, subset := range e.Subsets {
			for _, a := range subset.Addresses {
				endpoints = append(endpoints, a.IP)
			}
		}
	}
	slices.Sort(slices_)
	slices.Sort(endpoints)
	return slices_, endpoints
}

// expect checks what is published of a Service, and its condition.
func (l *servicesLab) expect(what, service, reason string, addresses ...string) {
	l.Helper()
	got, endpoints := l.published(service)
	if !slices.Equal(got, addresses) || !slices.Equal(endpoints, addresses) {
		l.Errorf("%s: EndpointSlices have %q, Endpoints %q, want %q", what, got, endpoints, addresses)
	}
	l.expectReason(what, service, reason)
}

func (l *servicesLab) expectReason(what, service, reason string) {
	l.Helper()
	got := ""
	if s := stored[corev1.Service](l.api, "services")["redis/"+service]; s != nil {
		for _, c := range s.Status.Conditions {
			if c.Type == plan.ConditionFederated {
				got = c.Reason
			}
		}
	}
	if got != reason {
		l.Errorf("%s: condition %q, want %q", what, got, reason)
	}
}

// agentAdmission is what the agent's account may do: objects with our mark only,
// and of Services only our conditions.
func agentAdmission(verb, resource string, was, is map[string]any) error {
	marked := func(o map[string]any) bool {
		annotations, _ := metaOf(o)["annotations"].(map[string]any)
		switch resource {
		case "endpointslices":
			return labelsOf(o)["endpointslice.kubernetes.io/managed-by"] == "federation.overland.dev"
		case "endpoints":
			return annotations["federation.overland.dev/format"] != nil
		}
		return true
	}
	for i, o := range []map[string]any{was, is} {
		if i == 0 && verb == "update" && resource == "endpoints" {
			continue // it may be adopted
		}
		if o != nil && !marked(o) {
			return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, fmt.Sprint(metaOf(o)["name"]), fmt.Errorf("%s of an object that does not bear the mark", verb))
		}
	}
	for _, c := range conditionsOf(is) {
		if kind, _ := c["type"].(string); resource == "services" && !strings.HasPrefix(kind, "overland.dev/") && !strings.HasPrefix(kind, "example.com/") {
			return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, fmt.Sprint(metaOf(is)["name"]), fmt.Errorf("condition %s", kind))
		}
	}
	return nil
}

// logger shows, with -v, what an operator would see.
func (l *servicesLab) logger() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(l.Output())
	return logrus.NewEntry(log)
}

// TestMain takes away what client-go does about errors beside returning them: it
// waits until the time of the last one, which another test's clock has told.
func TestMain(m *testing.M) {
	utilruntime.ErrorHandlers = nil //nolint:reassign // it is for that
	os.Exit(m.Run())
}
