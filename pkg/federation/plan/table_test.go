package plan

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/overland-net/overland/pkg/model"
)

// published is "CLUSTER ADDRESS" for each published endpoint, sorted; a state is
// given by marks: ! not ready.
func (w *world) published() []string { return w.endpointsIn(false) }

func (w *world) endpointsIn(park bool) []string {
	var out []string
	for _, s := range w.api.have(fed()).Slices {
		for _, e := range s.Endpoints {
			if parked(s) != park {
				continue
			}
			text := s.Labels[LabelSourceCluster] + " " + e.Addresses[0]
			if !*e.Conditions.Ready {
				text += "!"
			}
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// endpointAt is a published endpoint, with its slice.
func (w *world) endpointAt(address string) (discoveryv1.Endpoint, *discoveryv1.EndpointSlice) {
	for _, s := range w.api.have(fed()).Slices {
		for _, e := range s.Endpoints {
			if e.Addresses[0] == address && !parked(s) {
				return e, s
			}
		}
	}
	w.t.Fatalf("%s is not published", address)
	return discoveryv1.Endpoint{}, nil
}

// refusedOf is REASON=COUNT of a cluster.
func refusedOf(r Result, cluster string) string {
	var parts []string
	for _, c := range r.Report.Clusters {
		for _, refused := range c.Refused {
			if c.Name == cluster {
				parts = append(parts, fmt.Sprintf("%s=%d", refused.Reason, refused.Count))
			}
		}
	}
	return strings.Join(parts, " ")
}

func stateOf(r Result, cluster string) State {
	for _, c := range r.Report.Clusters {
		if c.Name == cluster {
			return c.State
		}
	}
	return 0
}

func annotate(pairs ...string) func(*model.Service) {
	return func(s *model.Service) {
		for i := 0; i < len(pairs); i += 2 {
			s.Annotations[pairs[i]] = pairs[i+1]
		}
	}
}

// twoClusters has testdb in west and canada.
func twoClusters(t *testing.T, edit ...func(*model.Service)) *world {
	w := newWorld(t)
	w.set(federatedService(edit...))
	w.serve(west, "10.0.0.40")
	w.serve(canada, "10.1.0.131")
	return w
}

func TestEachAnnotationDeclares_4_1(t *testing.T) {
	for _, key := range selectorAnnotations() {
		w := newWorld(t)
		w.serve(canada, "10.1.0.131")
		w.set(federatedService(func(s *model.Service) { s.Annotations = map[string]string{key: `federation == "yes"`} }))
		r := w.settle(fed())
		wantEqual(t, key, w.published(), []string{"canada 10.1.0.131"})
		wantEqual(t, key, r.Condition.Reason, ReasonInSync)
		if e := w.api.endpoints["redis/testdb-federated"]; e.Annotations[key] != `federation == "yes"` {
			t.Errorf("the annotation is not copied: %v", e.Annotations)
		}
	}
}

func TestSeveralAnnotationsOfOneMeaningAreFine_4_1(t *testing.T) {
	w := twoClusters(t, annotate(model.AnnotationServiceSelector, `federation=='yes'`, model.AnnotationServiceSelectorTigera, `(federation in {"yes",})`))
	wantEqual(t, "reason", w.settle(fed()).Condition.Reason, ReasonInSync)
	w.set(federatedService(annotate(model.AnnotationServiceSelector, `federation != 'yes'`)))
	r := w.settle(fed())
	wantEqual(t, "reason", r.Condition.Reason, ReasonAnnotationsDisagree)
	wantEqual(t, "status", r.Condition.Status(), "False")
	wantEqual(t, "what was applied stays", w.published(), []string{"canada 10.1.0.131", "west 10.0.0.40"})
}

func TestNotServedWithSelectorOrExternalName_4_1(t *testing.T) {
	for reason, edit := range map[string]func(*model.Service){
		ReasonSelectorSet:  func(s *model.Service) { s.Selecting = true },
		ReasonExternalName: func(s *model.Service) { s.External = true },
	} {
		w := twoClusters(t, edit)
		r := w.settle(fed())
		wantEqual(t, reason+" from the start", w.api.writes, 0)
		wantEqual(t, "reason", r.Condition.Reason, reason)

		w = twoClusters(t)
		w.settle(fed())
		w.set(federatedService(edit))
		r = w.settle(fed())
		wantEqual(t, "reason", r.Condition.Reason, reason)
		wantEqual(t, "nothing is emptied by "+reason, w.published(), []string{"canada 10.1.0.131", "west 10.0.0.40"})
		w.serve(canada, "10.1.0.132")
		w.settle(fed())
		wantEqual(t, "nor does it rot", w.published(), []string{"canada 10.1.0.132", "west 10.0.0.40"})
	}
}

func TestBackingServices_4_2(t *testing.T) {
	tests := []struct {
		name string
		edit func(*model.Service)
		want bool
	}{
		{"labels match", func(*model.Service) {}, true},
		{"labels do not match", func(s *model.Service) { s.Labels = model.Labels{} }, false},
		{"another namespace", func(s *model.Service) { s.Key.Namespace = elsewhere }, false},
		{"federated itself", func(s *model.Service) { s.Annotations = map[string]string{model.AnnotationServiceSelectorTigera: ""} }, false},
		{"ExternalName", func(s *model.Service) { s.External = true }, false},
	}
	for _, cluster := range [...]string{west, canada} {
		for _, tt := range tests {
			w := newWorld(t)
			w.serve(cluster, "10.1.0.1")
			w.gone(backing(cluster).Key)
			w.set(federatedService(), backing(cluster, tt.edit))
			r := w.settle(fed())
			wantEqual(t, cluster+": "+tt.name, len(w.published()) == 1, tt.want)
			wantEqual(t, cluster+": "+tt.name, r.Condition.Reason == ReasonNoBackingServices, !tt.want)
		}
	}
}

func TestRemoteServicesHaveTheirClusterAsLabel_4_2(t *testing.T) {
	for _, key := range []string{
		"federation.overland.dev/remoteClusterName", "federation.tigera.io/remoteClusterName", "federation.www.tigera.io/remoteClusterName",
	} {
		for expr, want := range map[string][]string{
			key + " == 'canada'": {"canada 10.1.0.131"},
			"!has(" + key + ")":  {"west 10.0.0.40"},
			key + " != 'europe'": {"canada 10.1.0.131", "west 10.0.0.40"},
			key + " == 'west'":   nil,
			"has(" + key + ")":   {"canada 10.1.0.131"},
		} {
			w := twoClusters(t)
			w.set(federatedService(func(s *model.Service) { s.Annotations = map[string]string{model.AnnotationServiceSelector: expr} }))
			w.settle(fed())
			wantEqual(t, expr, w.published(), fmt.Sprint(want))
		}
	}
}

func TestPorts_4_4(t *testing.T) {
	ep := func(name, protocol string, number int32) model.EndpointPort {
		return model.EndpointPort{Name: name, Protocol: protocol, Port: number}
	}
	sp := func(name string, protocol model.Protocol) model.ServicePort {
		return model.ServicePort{Name: name, Protocol: protocol, Port: 99}
	}
	tests := []struct {
		name   string
		served []model.ServicePort
		offers []model.EndpointPort
		want   string // name/protocol/number of what is taken; -: not taken
	}{
		{"name and protocol equal: the number is the endpoint's", []model.ServicePort{sp("redis", model.TCP)}, []model.EndpointPort{ep("redis", "TCP", 6379)}, "redis/TCP/6379"},
		{"no protocol is TCP", []model.ServicePort{sp("redis", model.TCP)}, []model.EndpointPort{ep("redis", "", 6379)}, "redis/TCP/6379"},
		{"another protocol", []model.ServicePort{sp("redis", model.TCP)}, []model.EndpointPort{ep("redis", "UDP", 6379)}, "-"},
		{"another name", []model.ServicePort{sp("redis", model.TCP)}, []model.EndpointPort{ep("web", "TCP", 6379)}, "-"},
		{"unnamed matches unnamed", []model.ServicePort{sp("", model.TCP)}, []model.EndpointPort{ep("", "TCP", 80)}, "/TCP/80"},
		{"unnamed does not match named", []model.ServicePort{sp("", model.TCP)}, []model.EndpointPort{ep("a", "TCP", 80)}, "-"},
		{"ports of the backing only are dropped", []model.ServicePort{sp("redis", model.TCP)}, []model.EndpointPort{ep("web", "TCP", 80), ep("redis", "TCP", 6379)}, "redis/TCP/6379"},
		{"several, by name", []model.ServicePort{sp("b", model.UDP), sp("a", model.SCTP)}, []model.EndpointPort{ep("b", "UDP", 2), ep("a", "SCTP", 1)}, "a/SCTP/1 b/UDP/2"},
		{"without a number", []model.ServicePort{sp("redis", model.TCP)}, []model.EndpointPort{ep("redis", "TCP", 0)}, "-"},
		{"a number that is none", []model.ServicePort{sp("redis", model.TCP)}, []model.EndpointPort{ep("redis", "TCP", 65536)}, "-"},
		{"a negative number", []model.ServicePort{sp("redis", model.TCP)}, []model.EndpointPort{ep("redis", "TCP", -1)}, "-"},
		{"a name twice", []model.ServicePort{sp("redis", model.TCP)}, []model.EndpointPort{ep("redis", "TCP", 1), ep("redis", "TCP", 2)}, "redis/TCP/1"},
	}
	for _, tt := range tests {
		w := newWorld(t)
		w.serve(canada, "10.1.0.1")
		s := sliceOf(canada, "testdb-1", "10.1.0.1")
		s.Ports = tt.offers
		w.set(federatedService(func(s *model.Service) { s.Ports = tt.served }), s)
		r := w.settle(fed())
		if tt.want == "-" {
			wantEqual(t, tt.name, w.published(), "[]")
			wantEqual(t, tt.name, r.Condition.Reason, ReasonNoMatchingPort)
			continue
		}
		_, sl := w.endpointAt("10.1.0.1")
		var got []string
		for _, p := range sl.Ports {
			got = append(got, fmt.Sprintf("%s/%s/%d", *p.Name, *p.Protocol, *p.Port))
		}
		wantEqual(t, tt.name, strings.Join(got, " "), tt.want)
	}
}

func TestAppProtocolIsCarried_4_4(t *testing.T) {
	for app, want := range map[string]bool{"http": true, "kubernetes.io/h2c": true, "a/b/c": false, "kubernetes.io/": false, "h 2": false} {
		w := newWorld(t)
		w.serve(canada, "10.1.0.1")
		s := sliceOf(canada, "testdb-1", "10.1.0.1")
		s.Ports[0].AppProtocol = app
		w.set(federatedService(), s)
		r := w.settle(fed())
		if !want {
			wantEqual(t, app, refusedOf(r, canada), "InvalidPort=1 NoMatchingPort=1")
			continue
		}
		_, sl := w.endpointAt("10.1.0.1")
		wantEqual(t, "appProtocol", value(sl.Ports[0].AppProtocol), app)
	}
}

// TestOldestBackingServiceDecides_4_4 has one address in two Services, and in the
// younger one another port.
func TestOldestBackingServiceDecides_4_4(t *testing.T) {
	for name, created := range map[string][2]int64{"older": {50, 100}, "same age, by name": {100, 100}} {
		w := newWorld(t)
		w.serve(canada, "10.1.0.1")
		old, young := backing(canada), backing(canada)
		old.Key.Name, young.Key.Name = "a", "b"
		old.Created, young.Created = created[0], created[1]
		s1, s2 := sliceOf(canada, "s2", "10.1.0.1"), sliceOf(canada, "s1", "10.1.0.1", "10.1.0.2")
		s1.Service, s2.Service = "a", "b"
		s1.Ports[0].Port, s1.Endpoints[0].Ready = 1, model.False
		s2.Ports = []model.EndpointPort{{Name: "redis", Protocol: "TCP", Port: 2}, {Name: "stats", Protocol: "TCP", Port: 3}}
		w.gone(backing(canada).Key)
		w.set(federatedService(func(s *model.Service) {
			s.Ports = append(s.Ports, model.ServicePort{Name: "stats", Protocol: model.TCP, Port: 1})
		}), old, young, s1, s2, podAt(canada, redis, "10.1.0.2"))
		r := w.settle(fed())
		wantEqual(t, name, w.published(), []string{"canada 10.1.0.1!", "canada 10.1.0.2"})
		_, sl := w.endpointAt("10.1.0.1")
		wantEqual(t, name+": united ports", fmt.Sprint(*sl.Ports[0].Port, *sl.Ports[1].Port), "1 3")
		_, sl = w.endpointAt("10.1.0.2")
		wantEqual(t, name+": its own ports", fmt.Sprint(*sl.Ports[0].Port, *sl.Ports[1].Port), "2 3")
		wantEqual(t, "refused", refusedOf(r, canada), "")
	}
}

func TestHeadlessWithoutPortsTakesAll_4_4(t *testing.T) {
	w := newWorld(t)
	w.serve(canada, "10.1.0.1")
	w.set(federatedService(func(s *model.Service) { s.Headless, s.Ports = true, nil }))
	w.settle(fed())
	_, sl := w.endpointAt("10.1.0.1")
	wantEqual(t, "ports", len(sl.Ports), 0)
	if _, ok := sl.Labels["service.kubernetes.io/headless"]; !ok {
		t.Error("not labelled headless")
	}
	w.set(federatedService(func(s *model.Service) { s.Ports = nil }))
	w.settle(fed())
	wantEqual(t, "not headless", w.published(), "[]")
}

func TestConditionsAndTopologyAreCarried_4_5(t *testing.T) {
	w := newWorld(t)
	w.serve(canada, "10.1.0.1", "10.1.0.2")
	s := sliceOf(canada, "testdb-1", "10.1.0.1", "10.1.0.2")
	e := &s.Endpoints[0]
	e.Ready, e.Serving, e.Terminating, e.Hostname = model.False, model.True, model.True, "redis-0"
	s.Endpoints[1].Ready, s.Endpoints[1].Serving, s.Endpoints[1].Terminating = model.Unset, model.Unset, model.Unset
	w.set(federatedService(), s)
	w.settle(fed())
	got, _ := w.endpointAt("10.1.0.1")
	wantEqual(t, "conditions", fmt.Sprint(*got.Conditions.Ready, *got.Conditions.Serving, *got.Conditions.Terminating), "false true true")
	wantEqual(t, "topology", *got.Hostname+" "+*got.Zone, "redis-0 zone-1")
	got, _ = w.endpointAt("10.1.0.2")
	wantEqual(t, "unset is ready", fmt.Sprint(*got.Conditions.Ready, *got.Conditions.Serving, *got.Conditions.Terminating), "true true false")
}

func TestRemoteAddressesAreItsOwn_4_5(t *testing.T) {
	const a = "10.1.0.1"
	tests := []struct {
		name            string
		setup           func(w *world)
		taken, external string // the reason otherwise, without and with external addresses allowed
	}{
		{"of its pod there", func(w *world) { w.set(podAt(canada, redis, a)) }, "", ""},
		{"of its pod elsewhere", func(w *world) { w.set(podAt(canada, elsewhere, a)) }, "NotOwned", ""},
		{"of its node", func(w *world) {
			n := podAt(canada, redis, a)
			n.Key = model.NodeKey(canada, "n")
			w.set(n)
		}, "", ""},
		{"of nobody", func(*world) {}, "NotOwned", ""},
		{"of a third cluster", func(w *world) { w.set(podAt(europe, redis, a)) }, "OwnedElsewhere", "OwnedElsewhere"},
		{"of the local cluster", func(w *world) { w.set(podAt(west, redis, a)) }, "OwnedElsewhere", "OwnedElsewhere"},
		{"of a local node", func(w *world) {
			n := podAt(west, redis, a)
			n.Key = model.NodeKey(west, "n")
			w.set(n)
		}, "LocalNodeAddress", "LocalNodeAddress"},
		{"in a local range", func(w *world) {
			w.index.Apply(model.Set(&model.Cluster{Name: west, Local: true, InContact: true, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}}))
			w.set(podAt(canada, redis, a))
		}, "LocalRange", "LocalRange"},
		{"outside of its ranges", func(w *world) {
			w.index.Apply(model.Set(&model.Cluster{Name: canada, InContact: true, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.7.0.0/24")}}))
			w.set(podAt(canada, redis, a))
		}, "OutsideRanges", "OutsideRanges"},
		{"equal to a local ClusterIP (5.3)", func(w *world) {
			w.set(podAt(canada, redis, a), &model.Service{Key: model.ServiceKey(west, elsewhere, "x"), ClusterIPs: []netip.Addr{netip.MustParseAddr(a)}})
		}, "Shadowed", "Shadowed"},
	}
	for _, tt := range tests {
		for i, want := range [...]string{tt.taken, tt.external} {
			w := newWorld(t)
			w.set(federatedService(), backing(canada), sliceOf(canada, "testdb-1", a, "10.1.0.2"), podAt(canada, redis, "10.1.0.2"))
			w.cluster(canada).External = i == 1
			tt.setup(w)
			reason := ""
			for _, r := range w.settle(fed()).Report.Clusters[1].Refused {
				if slices.Contains(r.Examples, a) {
					reason = string(r.Reason)
				}
			}
			wantEqual(t, fmt.Sprintf("%s, external %v", tt.name, i == 1), reason, want)
			wantEqual(t, tt.name, slices.Contains(w.published(), "canada "+a), want == "")
		}
	}
}

func TestLocalAddressesAreTakenAsTheyAre_4_5(t *testing.T) {
	w := newWorld(t)
	w.set(federatedService(), backing(west), sliceOf(west, "testdb-1", "192.0.2.7"))
	w.settle(fed())
	wantEqual(t, "published", w.published(), []string{"west 192.0.2.7"})
}

func TestInvalidEndpointIsDroppedAlone_4_5(t *testing.T) {
	at := func(a string) func(*model.SliceEndpoint) {
		return func(e *model.SliceEndpoint) { e.Addresses = []string{a} }
	}
	tests := map[string]struct {
		edit func(*model.SliceEndpoint)
		want string
	}{
		"no address":       {func(e *model.SliceEndpoint) { e.Addresses = nil }, "InvalidAddress=1"},
		"no number":        {at("example.org"), "InvalidAddress=1"},
		"leading zero":     {at("10.1.0.01"), "InvalidAddress=1"},
		"of other family":  {at("fd00::1"), "InvalidAddress=1"},
		"mapped":           {at("::ffff:10.1.0.1"), "InvalidAddress=1"},
		"zoned":            {at("fe80::1%eth0"), "InvalidAddress=1"},
		"loopback":         {at("127.0.0.1"), "InvalidAddress=1"},
		"link-local":       {at("169.254.169.254"), "InvalidAddress=1"},
		"unspecified":      {at("0.0.0.0"), "InvalidAddress=1"},
		"multicast":        {at("224.0.0.1"), "InvalidAddress=1"},
		"wide multicast":   {at("239.1.1.1"), "ReservedAddress=1"},
		"platform service": {at("168.63.129.16"), "ReservedAddress=1"},
		"hostname":         {func(e *model.SliceEndpoint) { e.Hostname = "Redis_0" }, "InvalidHostname=1"},
		"long hostname":    {func(e *model.SliceEndpoint) { e.Hostname = strings.Repeat("a", 64) }, "InvalidHostname=1"},
		"zone":             {func(e *model.SliceEndpoint) { e.Zone = "a b" }, "InvalidZone=1"},
		"node":             {func(e *model.SliceEndpoint) { e.Node = "Node" }, "InvalidNode=1"},
		"pod elsewhere":    {func(e *model.SliceEndpoint) { e.Target.Namespace = elsewhere }, "InvalidTarget=1"},
		"pod's name":       {func(e *model.SliceEndpoint) { e.Target.Name = "west/x" }, "InvalidTarget=1"},
		"target's kind":    {func(e *model.SliceEndpoint) { e.Target.Kind = "Po d" }, "InvalidTarget=1"},
		"target's uid":     {func(e *model.SliceEndpoint) { e.Target.UID = "a\nb" }, "InvalidTarget=1"},
	}
	for name, tt := range tests {
		w := newWorld(t)
		w.serve(canada, "10.1.0.1", "10.1.0.2")
		s := sliceOf(canada, "testdb-1", "10.1.0.1", "10.1.0.2")
		tt.edit(&s.Endpoints[0])
		w.set(federatedService(), s)
		r := w.settle(fed())
		wantEqual(t, name, refusedOf(r, canada), tt.want)
		wantEqual(t, name, w.published(), []string{"canada 10.1.0.2"})
	}
}

func TestSlicesOfNamesAndOfOursBackNothing_4_5(t *testing.T) {
	w := newWorld(t)
	w.serve(canada, "10.1.0.1", "10.1.0.2")
	names := sliceOf(canada, "names", "10.1.0.1")
	names.AddressType = "FQDN"
	ours := sliceOf(canada, "ours", "10.1.0.2")
	ours.ManagedBy = ManagedBy
	w.gone(model.EndpointSliceKey(canada, redis, "testdb-1"))
	w.set(federatedService(), names, ours)
	wantEqual(t, "refused", refusedOf(w.settle(fed()), canada), "InvalidAddress=1")
	wantEqual(t, "published", w.published(), "[]")
}

func TestHintsAreOfTheFederatedService_4_5(t *testing.T) {
	for distribution, want := range map[string]string{
		"": "/ / /", "PreferClose": "zone-1/ zone-1/ /", "PreferSameZone": "zone-1/ zone-1/ /", "PreferSameNode": "zone-1/node-1 zone-1/ /", "Other": "/ / /",
	} {
		w := newWorld(t)
		w.serve(west, "10.0.0.1")
		w.serve(canada, "10.1.0.1", "10.1.0.2")
		s := sliceOf(canada, "testdb-1", "10.1.0.1", "10.1.0.2")
		s.Endpoints[1].Ready = model.False
		w.set(federatedService(func(s *model.Service) { s.TrafficDistribution = distribution }), s)
		w.settle(fed())
		var got []string
		for _, a := range []string{"10.0.0.1", "10.1.0.1", "10.1.0.2"} {
			e, _ := w.endpointAt(a)
			zone, node := "", ""
			if e.Hints != nil && len(e.Hints.ForZones) == 1 {
				zone = e.Hints.ForZones[0].Name
			}
			if e.Hints != nil && len(e.Hints.ForNodes) == 1 {
				node = e.Hints.ForNodes[0].Name
			}
			got = append(got, zone+"/"+node)
		}
		wantEqual(t, distribution, strings.Join(got, " "), want)
	}
}

func TestAddressInTwoBackingServicesIsTakenOnce_4_5(t *testing.T) {
	w := twoClusters(t)
	second, s := backing(canada), sliceOf(canada, "second-1", "10.1.0.131")
	second.Key.Name, s.Service = "second", "second"
	w.set(second, s)
	r := w.settle(fed())
	wantEqual(t, "published", w.published(), []string{"canada 10.1.0.131", "west 10.0.0.40"})
	wantEqual(t, "refused", refusedOf(r, canada), "Duplicate=1")
	wantEqual(t, "backing", r.Report.Clusters[1].Backing, []string{"second", "testdb"})
}

func TestHostnameOfSeveralClusters_4_5(t *testing.T) {
	hosts := func(clusters ...string) string {
		w := newWorld(t)
		w.set(federatedService())
		for i, cluster := range clusters {
			a := fmt.Sprintf("10.%d.0.1", i)
			w.serve(cluster, a)
			s := sliceOf(cluster, "testdb-1", a)
			s.Endpoints[0].Hostname = "redis-0"
			w.set(s)
		}
		w.settle(fed())
		var got []string
		for i := range clusters {
			e, _ := w.endpointAt(fmt.Sprintf("10.%d.0.1", i))
			got = append(got, value(e.Hostname))
		}
		return strings.Join(got, ",")
	}
	wantEqual(t, "one cluster", hosts(canada), "redis-0")
	wantEqual(t, "with a local one", hosts(west, canada, europe), "redis-0,,")
	wantEqual(t, "without", hosts(canada, europe), ",")
}

func TestPublishNotReadyMakesAllReady_4_5(t *testing.T) {
	w := newWorld(t)
	w.serve(canada, "10.1.0.1")
	s := sliceOf(canada, "testdb-1", "10.1.0.1")
	s.Endpoints[0].Ready = model.False
	w.set(federatedService(), s)
	wantEqual(t, "reason", w.settle(fed()).Condition.Reason, ReasonNoReadyEndpoints)
	wantEqual(t, "published", w.published(), []string{"canada 10.1.0.1!"})
	w.set(federatedService(func(s *model.Service) { s.PublishNotReady = true }))
	wantEqual(t, "reason", w.settle(fed()).Condition.Reason, ReasonInSync)
	wantEqual(t, "published", w.published(), []string{"canada 10.1.0.1"})
}

func TestOtherFamiliesAreDropped_4_5(t *testing.T) {
	for families, want := range map[string]string{"[4]": "[canada 10.1.0.1]", "[6]": "[canada fd00:1::1]", "[6 4]": "[canada 10.1.0.1 canada fd00:1::1]"} {
		w := newWorld(t)
		w.serve(canada, "10.1.0.1")
		w.set(sliceOf(canada, "testdb-2", "fd00:1::1"), podAt(canada, redis, "fd00:1::1"))
		w.set(federatedService(func(s *model.Service) {
			s.Families = map[string][]uint8{"[4]": {4}, "[6]": {6}, "[6 4]": {6, 4}}[families]
		}))
		r := w.settle(fed())
		wantEqual(t, families, w.published(), want)
		if len(families) == 3 {
			wantEqual(t, families, refusedOf(r, canada), "NotServedFamily=1")
		}
		e := w.api.endpoints["redis/testdb-federated"]
		wantEqual(t, families+": Endpoints have the first", len(e.Subsets) == 1 && strings.Contains(e.Subsets[0].Addresses[0].IP, ":"), families != "[4]")
	}
}

func TestHostileClusterIsBounded_4_5(t *testing.T) {
	w := newWorld(t)
	w.cluster(canada).External = true
	w.serve(west, "10.0.0.40")
	w.set(federatedService(), backing(canada))
	n := 0
	for i := range 300 { // 300 lists of ports, 60,000 endpoints
		var addresses []string
		for range 200 {
			n++
			addresses = append(addresses, netip.AddrFrom4([4]byte{11, byte(n >> 16), byte(n >> 8), byte(n)}).String())
		}
		s := sliceOf(canada, fmt.Sprintf("s-%d", i), addresses...)
		s.Ports[0].Port = int32(1000 + i)
		w.set(s)
	}
	huge := sliceOf(canada, "huge")
	for range 5000 {
		huge.Endpoints = append(huge.Endpoints, model.SliceEndpoint{Addresses: []string{strings.Repeat("x", 10_000)}})
	}
	w.set(huge)
	r := w.settle(fed())
	if got := len(w.api.have(fed()).Slices); got > 300 {
		t.Errorf("%d EndpointSlices", got)
	}
	if got := r.Report.Clusters[1].Published; got != maxTaken {
		t.Errorf("%d endpoints", got)
	}
	if e, _ := w.endpointAt("10.0.0.40"); len(e.Addresses) != 1 {
		t.Error("the local endpoint is gone")
	}
	for _, refused := range r.Report.Clusters[1].Refused {
		if len(refused.Examples) > maxExamples || len(refused.Examples[0]) > 4*maxExample {
			t.Errorf("%s is not bounded", refused.Reason)
		}
	}
	if len(r.Condition.Message) > maxMessage {
		t.Error("the message is not bounded")
	}
}

func TestSliceLargerThanTheAPITakesIsCut_4_5(t *testing.T) {
	w := newWorld(t)
	w.set(federatedService(), backing(west), sliceOf(west, "testdb-1", addresses(9, 1001)...))
	wantEqual(t, "refused", refusedOf(w.settle(fed()), west), "TooMany=1")
	wantEqual(t, "published", len(w.published()), 1000)
}

func TestEndpointsObjectInTheSeedsForm_4_6(t *testing.T) {
	w := newWorld(t)
	w.serve(canada, "10.1.0.131")
	w.set(federatedService())
	w.settle(fed())
	e := w.api.endpoints["redis/testdb-federated"]
	a := e.Subsets[0].Addresses[0]
	wantEqual(t, "ip", a.IP, "10.1.0.131")
	wantEqual(t, "node", *a.NodeName, "node-1")
	wantEqual(t, "target", *a.TargetRef, corev1.ObjectReference{Kind: "Pod", Namespace: redis, Name: "canada/p10-1-0-131", UID: "u-10.1.0.131"})
	wantEqual(t, "ports", e.Subsets[0].Ports, []corev1.EndpointPort{{Name: "redis", Port: 11069, Protocol: "TCP"}})
	wantEqual(t, "labels", e.Labels, map[string]string{"endpointslice.kubernetes.io/skip-mirror": "true"})
	wantEqual(t, "annotations", e.Annotations, map[string]string{
		"federation.www.tigera.io/serviceSelector": `federation == "yes"`, "federation.overland.dev/format": "1",
	})
	w.serve(west, "10.0.0.40")
	w.settle(fed())
	e = w.api.endpoints["redis/testdb-federated"]
	wantEqual(t, "local pods are named as they are", e.Subsets[0].Addresses[0].TargetRef.Name, "p10-0-0-40")
}

func TestEndpointsObjectByReadiness_4_6(t *testing.T) {
	w := newWorld(t)
	w.serve(canada, "10.1.0.1", "10.1.0.2", "10.1.0.3")
	s := sliceOf(canada, "testdb-1", "10.1.0.1", "10.1.0.2", "10.1.0.3")
	s.Endpoints[1].Ready = model.False
	s.Endpoints[2].Ready, s.Endpoints[2].Terminating = model.False, model.True
	w.set(federatedService(), s)
	w.settle(fed())
	e := w.api.endpoints["redis/testdb-federated"]
	wantEqual(t, "ready", len(e.Subsets[0].Addresses), 1)
	wantEqual(t, "not ready", e.Subsets[0].NotReadyAddresses[0].IP, "10.1.0.2")
	wantEqual(t, "terminating ones are omitted", len(e.Subsets[0].NotReadyAddresses), 1)
}

func TestEndpointsObjectOff_4_6(t *testing.T) {
	w := twoClusters(t)
	w.off = true
	w.settle(fed())
	wantEqual(t, "off from the start", len(w.api.endpoints), 0)
	w.off = false
	w.settle(fed())
	wantEqual(t, "on", len(w.api.endpoints), 1)
	w.off = true
	w.settle(fed())
	wantEqual(t, "off again", len(w.api.endpoints), 0)
}

// addresses are n addresses of a cluster.
func addresses(cluster byte, n int) (out []string) {
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{10, cluster, byte(i >> 8), byte(i)}).String())
	}
	return out
}

func TestEndpointsObjectOverCapacity_4_6(t *testing.T) {
	w := newWorld(t)
	w.serve(west, addresses(9, 600)...)
	w.serve(canada, addresses(1, 600)...)
	s := sliceOf(canada, "testdb-1", addresses(1, 600)...)
	for i := range 150 {
		s.Endpoints[i].Ready = model.False
	}
	w.set(federatedService(), s)
	w.settle(fed())
	e := w.api.endpoints["redis/testdb-federated"]
	wantEqual(t, "annotation", e.Annotations["endpoints.kubernetes.io/over-capacity"], "truncated")
	local := 0
	for _, a := range e.Subsets[0].Addresses {
		if strings.HasPrefix(a.IP, "10.9.") {
			local++
		}
	}
	wantEqual(t, "ready, local, not ready", fmt.Sprint(len(e.Subsets[0].Addresses), local, len(e.Subsets[0].NotReadyAddresses)), "1000 600 0")
	wantEqual(t, "slices have all", len(w.published()), 1200)
	s2 := sliceOf(canada, "testdb-1", addresses(1, 300)...)
	w.set(s2)
	w.now = w.now.Add(time.Minute)
	w.settle(fed())
	e = w.api.endpoints["redis/testdb-federated"]
	if _, ok := e.Annotations["endpoints.kubernetes.io/over-capacity"]; ok || countAddresses(e) != 900 {
		t.Errorf("%d addresses, annotations %v", countAddresses(e), e.Annotations)
	}
}

func TestLargeEndpointsObjectIsWrittenSeldom_4_6(t *testing.T) {
	w := newWorld(t)
	w.set(federatedService())
	w.serve(canada, addresses(1, 101)...)
	w.settle(fed())
	w.now = w.now.Add(time.Second)
	w.serve(canada, addresses(1, 102)...)
	r := w.settle(fed())
	wantEqual(t, "due", r.Due.Sub(w.now), 4*time.Second)
	wantEqual(t, "Endpoints wait", countAddresses(w.api.endpoints["redis/testdb-federated"]), 101)
	wantEqual(t, "slices do not", len(w.published()), 102)
	w.now = r.Due
	r = w.settle(fed())
	wantEqual(t, "then they are written", countAddresses(w.api.endpoints["redis/testdb-federated"]), 102)
	wantEqual(t, "due", r.Due.IsZero(), true)
	w.serve(canada, addresses(1, 50)...)
	w.settle(fed())
	wantEqual(t, "many to few waits too", countAddresses(w.api.endpoints["redis/testdb-federated"]), 102)
	w.now = w.now.Add(5 * time.Second)
	w.settle(fed())
	w.serve(canada, addresses(1, 49)...)
	w.settle(fed())
	wantEqual(t, "few are written at once", countAddresses(w.api.endpoints["redis/testdb-federated"]), 49)
}

// TestEndpointsAsAPIServersCutThem_4_6 has the subsets in another order and cut
// by port instead of by address, as API servers have put them.
func TestEndpointsAsAPIServersCutThem_4_6(t *testing.T) {
	w := newWorld(t)
	two := func(s *model.Service) {
		s.Ports = append(s.Ports, model.ServicePort{Name: "stats", Protocol: model.TCP, Port: 1})
	}
	w.serve(canada, "10.1.0.1", "10.1.0.2")
	a, b := sliceOf(canada, "testdb-1", "10.1.0.1"), sliceOf(canada, "testdb-2", "10.1.0.2")
	a.Ports = append(a.Ports, model.EndpointPort{Name: "stats", Protocol: "TCP", Port: 9})
	w.set(federatedService(two), a, b)
	w.settle(fed())
	e := w.api.endpoints["redis/testdb-federated"].DeepCopy()
	var one, other corev1.EndpointAddress
	for _, s := range e.Subsets {
		if len(s.Ports) == 2 {
			one = s.Addresses[0]
		} else {
			other = s.Addresses[0]
		}
	}
	e.Subsets = []corev1.EndpointSubset{
		{Addresses: []corev1.EndpointAddress{one}, Ports: []corev1.EndpointPort{{Name: "stats", Port: 9, Protocol: "TCP"}}},
		{Addresses: []corev1.EndpointAddress{other, one}, Ports: []corev1.EndpointPort{{Name: "redis", Port: 11069, Protocol: "TCP"}}},
	}
	w.api.endpoints["redis/testdb-federated"] = e
	wantEqual(t, "writes", describe(w.plan(fed()).Changes), "")
	e.Subsets[0].Ports[0].Port = 10
	wantEqual(t, "writes", describe(w.plan(fed()).Changes), "update Endpoints testdb-federated")
}
