package source

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/overland-net/overland/pkg/model"
)

func service(ns, name string, set map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-" + name), Labels: set, CreationTimestamp: metav1.Unix(1700000000, 0)},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name}, ClusterIP: "10.100.0.1", ClusterIPs: []string{"10.100.0.1"}, Type: corev1.ServiceTypeClusterIP,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "redis", Port: 6379, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("redis")}},
		},
	}
}

func slice(ns, name, service string, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: name, UID: types.UID("uid-" + name),
			Labels: map[string]string{labelServiceName: service, labelManagedBy: "endpointslice-controller.k8s.io", "app": service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("redis"), Port: ptr(int32(6379)), Protocol: ptr(corev1.ProtocolTCP)}},
	}
	for i, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a}, NodeName: ptr("node-1"), Zone: ptr("1"),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: fmt.Sprintf("%s-%d", service, i), UID: types.UID(fmt.Sprintf("uid-%d", i))},
		})
	}
	return s
}

func servicesConverter(kind model.Kind, local bool) converter {
	cluster := "canada"
	if local {
		cluster = "west"
	}
	return converter{cluster: cluster, names: &interner{}, decoder: decoder{kind: kind, local: local, labelBytes: 1 << 10}}
}

func itemFrom(t testing.TB, local bool, o interface{ Marshal() ([]byte, error) }) *item {
	t.Helper()
	kind := model.KindService
	if _, ok := o.(*discoveryv1.EndpointSlice); ok {
		kind = model.KindEndpointSlice
	}
	data, err := o.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return servicesConverter(kind, local).convert(data)
}

// sameAsTruth compares with what the decoded object says.
func sameAsTruth(t testing.TB, local bool, i *item, o any) {
	t.Helper()
	want, got := map[model.Key]model.Fact{}, map[model.Key]model.Fact{}
	switch o := o.(type) {
	case *corev1.Service:
		if f := trueService(servicesConverter(0, local).cluster, local, o); f != nil {
			want[f.Key] = f
		}
	case *discoveryv1.EndpointSlice:
		if f := trueSlice(servicesConverter(0, local).cluster, local, o); f != nil {
			want[f.Key] = f
		}
	}
	if i.fact != nil {
		got[i.fact.FactKey()] = i.fact
	}
	if diff := diffFacts(want, got); diff != "" || i.refused != "" {
		t.Fatalf("local=%v: refused %q (-want +got):\n%s\n%+v", local, i.refused, diff, o)
	}
}

func TestServiceConversion_4_1_4_2(t *testing.T) {
	for name, change := range map[string]func(s *corev1.Service){
		"plain":       func(*corev1.Service) {},
		"no ports":    func(s *corev1.Service) { s.Spec.Ports = nil },
		"no selector": func(s *corev1.Service) { s.Spec.Selector = nil },
		"headless":    func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone },
		"external name": func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.org"
		},
		"publishes not ready": func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true },
		"dual stack": func(s *corev1.Service) {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		},
		"traffic distribution": func(s *corev1.Service) { s.Spec.TrafficDistribution = ptr("PreferSameZone") },
		"federated, empty": func(s *corev1.Service) {
			s.Annotations = map[string]string{"federation.overland.dev/serviceSelector": ""}
		},
		"federated, old": func(s *corev1.Service) {
			s.Annotations = map[string]string{"federation.tigera.io/serviceSelector": "a == 'b'", "other": "x"}
		},
		"federated, all annotations": func(s *corev1.Service) {
			s.Annotations = map[string]string{"big": strings.Repeat("x", 1000)}
			for i, key := range federationKeys() {
				s.Annotations[key] = fmt.Sprint("value ", i)
			}
		},
		"a preference alone": func(s *corev1.Service) {
			s.Annotations = map[string]string{"federation.overland.dev/preference": "local"}
		},
		"ports": func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{
				{Port: 65535, Protocol: corev1.ProtocolUDP},
				{Name: "a-name-longer-than-15", Port: 1, Protocol: corev1.ProtocolSCTP, AppProtocol: ptr("kubernetes.io/h2c")},
				{Name: "same", Port: 80},
				{Name: "b", Port: 80, AppProtocol: ptr("http")},
			}
		},
		"reserved labels_1_4": func(s *corev1.Service) {
			s.Labels = map[string]string{"app": "a", "federation.overland.dev/remoteClusterName": "west", "federation.tigera.io/remoteClusterName": "x"}
		},
		"conditions": func(s *corev1.Service) {
			s.Status.Conditions = []metav1.Condition{
				{Type: "other.io/x", Status: "True"},
				{Type: "overland.dev/Federated", Status: "False", Reason: "InvalidExpression", Message: "at 3", ObservedGeneration: 7, LastTransitionTime: metav1.Unix(1700000000, 0)},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := service("demo", "redis", map[string]string{"federation": "yes"})
			s.ResourceVersion = "4711"
			change(s)
			for _, local := range []bool{true, false} {
				sameAsTruth(t, local, itemFrom(t, local, s), s)
			}
		})
	}
}

func TestExpressionThatIsTooLongIsCutBehindWhatMayBe_4_3(t *testing.T) {
	s := service("demo", "redis", nil)
	s.Annotations = map[string]string{model.AnnotationServiceSelector: strings.Repeat("x", 1<<17)}
	f, _ := itemFrom(t, true, s).fact.(*model.Service)
	if f == nil || len(f.Annotations[model.AnnotationServiceSelector]) != 64<<10+1 {
		t.Errorf("%v", f)
	}
}

func TestMalformedServicesAreRefused_1_6(t *testing.T) {
	port := func(p corev1.ServicePort) func(s *corev1.Service) {
		return func(s *corev1.Service) { s.Spec.Ports = []corev1.ServicePort{p} }
	}
	for name, change := range map[string]func(s *corev1.Service){
		"no name":              func(s *corev1.Service) { s.Name = "" },
		"name of two":          func(s *corev1.Service) { s.Name = "a.b" },
		"long name":            func(s *corev1.Service) { s.Name = strings.Repeat("a", 1<<20) },
		"no namespace":         func(s *corev1.Service) { s.Namespace = "" },
		"long uid":             func(s *corev1.Service) { s.UID = types.UID(strings.Repeat("a", 300)) },
		"label value, newline": func(s *corev1.Service) { s.Labels = map[string]string{"a": "b\nc"} },
		"port 0":               port(corev1.ServicePort{}),
		"port 65536":           port(corev1.ServicePort{Port: 65536}),
		"port -1":              port(corev1.ServicePort{Port: -1}),
		"port of no protocol":  port(corev1.ServicePort{Port: 80, Protocol: "ICMP"}),
		"port name":            port(corev1.ServicePort{Port: 80, Name: "a b"}),
		"long port name":       port(corev1.ServicePort{Port: 80, Name: strings.Repeat("a", 64)}),
		"application protocol": port(corev1.ServicePort{Port: 80, AppProtocol: ptr("\x1b[2J")}),
		"too many ports":       func(s *corev1.Service) { s.Spec.Ports = make([]corev1.ServicePort, maxServicePorts+1) },
		"too many families":    func(s *corev1.Service) { s.Spec.IPFamilies = make([]corev1.IPFamily, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			s := service("demo", "redis", nil)
			change(s)
			if i := itemFrom(t, false, s); i.refused != model.RefusedMalformed || i.fact != nil || len(i.name) > 254 {
				t.Errorf("refused %q, fact %v", i.refused, i.fact)
			}
		})
	}
	s := service("demo", "redis", map[string]string{})
	for i := range 100 {
		s.Labels[fmt.Sprintf("label-%03d", i)] = "0123456789"
	}
	if i := itemFrom(t, false, s); i.refused != model.RefusedLabelsTooLarge || i.fact != nil {
		t.Errorf("labels beyond the limit: refused %q, fact %v", i.refused, i.fact)
	}
	strange := service("demo", "redis", nil)
	strange.Spec.IPFamilies = []corev1.IPFamily{"IPv5"}
	if i := itemFrom(t, true, strange); i.refused != model.RefusedMalformed {
		t.Errorf("a family that there is not: %q", i.refused)
	}
}

func TestEndpointSliceConversion_4_5(t *testing.T) {
	for name, change := range map[string]func(s *discoveryv1.EndpointSlice){
		"plain":        func(*discoveryv1.EndpointSlice) {},
		"empty":        func(s *discoveryv1.EndpointSlice) { s.Endpoints, s.Ports = nil, nil },
		"of nothing":   func(s *discoveryv1.EndpointSlice) { s.Labels = nil },
		"of somebody":  func(s *discoveryv1.EndpointSlice) { delete(s.Labels, labelManagedBy) },
		"of a leader":  func(s *discoveryv1.EndpointSlice) { s.Labels[labelManagedBy] = "federation.overland.dev" },
		"much labels":  func(s *discoveryv1.EndpointSlice) { s.Labels["x"] = strings.Repeat("x", 1<<12) },
		"all reserved": func(s *discoveryv1.EndpointSlice) { s.Labels["federation.overland.dev/source-cluster"] = "west" },
		"IPv6": func(s *discoveryv1.EndpointSlice) {
			s.AddressType, s.Endpoints[0].Addresses[0] = discoveryv1.AddressTypeIPv6, "fd00::1"
		},
		"names": func(s *discoveryv1.EndpointSlice) {
			s.AddressType, s.Endpoints[0].Addresses[0] = discoveryv1.AddressTypeFQDN, "example.org"
		},
		"nonsense is not judged here": func(s *discoveryv1.EndpointSlice) {
			s.AddressType, s.Endpoints[0].Addresses[0], s.Endpoints[0].Hostname = "IPX", "\x1b[2J", ptr("A B")
		},
		"conditions unknown": func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions = discoveryv1.EndpointConditions{} },
		"not ready, serving, terminating": func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}
		},
		"ports absent": func(s *discoveryv1.EndpointSlice) {
			s.Ports = []discoveryv1.EndpointPort{{}, {Name: ptr(""), Port: nil}, {Name: ptr("x"), Port: ptr(int32(-5)), Protocol: ptr(corev1.Protocol("")), AppProtocol: ptr("http")}}
		},
		"no target": func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].TargetRef, s.Endpoints[0].NodeName = nil, nil },
		"hints and topology": func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "2"}}}
			s.Endpoints[0].DeprecatedTopology = map[string]string{"a": "b"}
		},
		"as many as there may be": func(s *discoveryv1.EndpointSlice) {
			s.Endpoints = make([]discoveryv1.Endpoint, maxSliceEndpoints)
			s.Endpoints[7].Addresses = make([]string, maxSliceAddresses)
			s.Ports = make([]discoveryv1.EndpointPort, maxSlicePorts)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := slice("demo", "redis-x1", "redis", "10.1.0.1", "10.1.0.2")
			change(s)
			for _, local := range []bool{true, false} {
				i := itemFrom(t, local, s)
				sameAsTruth(t, local, i, s)
				if i.reserved {
					t.Error("labels that are copies count as reserved")
				}
			}
		})
	}
}

func TestMalformedEndpointSlicesAreRefused_1_6(t *testing.T) {
	for name, change := range map[string]func(s *discoveryv1.EndpointSlice){
		"no name":            func(s *discoveryv1.EndpointSlice) { s.Name = "" },
		"no namespace":       func(s *discoveryv1.EndpointSlice) { s.Namespace = "" },
		"long uid":           func(s *discoveryv1.EndpointSlice) { s.UID = types.UID(strings.Repeat("a", 300)) },
		"service name":       func(s *discoveryv1.EndpointSlice) { s.Labels[labelServiceName] = strings.Repeat("a", 64) },
		"managed by":         func(s *discoveryv1.EndpointSlice) { s.Labels[labelManagedBy] = "\n" },
		"too many endpoints": func(s *discoveryv1.EndpointSlice) { s.Endpoints = make([]discoveryv1.Endpoint, maxSliceEndpoints+1) },
		"too many ports":     func(s *discoveryv1.EndpointSlice) { s.Ports = make([]discoveryv1.EndpointPort, maxSlicePorts+1) },
		"too many addresses": func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = make([]string, maxSliceAddresses+1) },
	} {
		t.Run(name, func(t *testing.T) {
			s := slice("demo", "redis-x1", "redis", "10.1.0.1")
			change(s)
			if i := itemFrom(t, false, s); i.refused != model.RefusedMalformed || i.fact != nil {
				t.Errorf("refused %q, fact %v", i.refused, i.fact)
			}
		})
	}
}

// TestTextsOfAnEndpointThatAreTooLongAreCutAndStillTooLong_4_5: the endpoint is
// left out alone, by who takes it.
func TestTextsOfAnEndpointThatAreTooLongAreCutAndStillTooLong_4_5(t *testing.T) {
	long := strings.Repeat("1", 1<<16)
	s := slice("demo", "redis-x1", "redis", long)
	s.AddressType, s.Endpoints[0].Hostname, s.Endpoints[0].NodeName, s.Endpoints[0].Zone = discoveryv1.AddressType(long), &long, &long, &long
	*s.Endpoints[0].TargetRef = corev1.ObjectReference{Kind: long, Namespace: long, Name: long, UID: types.UID(long)}
	s.Ports = []discoveryv1.EndpointPort{{Name: &long, Protocol: ptr(corev1.Protocol(long)), AppProtocol: &long}}
	f, _ := itemFrom(t, false, s).fact.(*model.EndpointSlice)
	if f == nil {
		t.Fatal("refused")
	}
	e, p := f.Endpoints[0], f.Ports[0]
	for text, most := range map[*string]int{
		&f.AddressType: 16, &e.Addresses[0]: 253, &e.Hostname: 63, &e.Node: 253, &e.Zone: 253,
		&e.Target.Kind: 253, &e.Target.Namespace: 253, &e.Target.Name: 253, &e.Target.UID: 253,
		&p.Name: 253, &p.Protocol: 16, &p.AppProtocol: 317,
	} {
		if len(*text) != most+1 {
			t.Errorf("a text has %d bytes, expected %d", len(*text), most+1)
		}
	}
}

func randomService(chance *rand.Rand) *corev1.Service {
	pick := func(texts ...string) string { return texts[chance.IntN(len(texts))] }
	s := service(pick("a", "demo"), pick("x", "redis"), map[string]string{"app": pick("a", "b", ""), pick("overland.dev/x", "y"): "z"})
	s.ResourceVersion, s.UID = pick("", "1", "4711"), types.UID(pick("", "x", "aaaaaaaa-0000-0000-0000-000000000001"))
	s.Finalizers, s.OwnerReferences = []string{"f"}, []metav1.OwnerReference{{Name: "o"}}
	s.Annotations = map[string]string{"other": "x"}
	for range chance.IntN(3) {
		s.Annotations[pick(federationKeys()...)] = pick("", "a == 'b'", "local")
	}
	if chance.IntN(3) == 0 {
		s.Spec.Selector = nil
	}
	s.Spec.Type = corev1.ServiceType(pick("", "ClusterIP", "LoadBalancer", "ExternalName"))
	s.Spec.ClusterIP = pick("", "None", "10.100.0.1")
	s.Spec.PublishNotReadyAddresses = chance.IntN(4) == 0
	for range chance.IntN(3) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
			Name: pick("", "http", "a-long-name-for-a-port"), Port: 1 + chance.Int32N(65535), NodePort: 1, Protocol: corev1.Protocol(pick("", "TCP", "UDP", "SCTP")),
			AppProtocol: []*string{nil, ptr(""), ptr("http"), ptr("kubernetes.io/ws")}[chance.IntN(4)],
		})
	}
	s.Spec.IPFamilies = [][]corev1.IPFamily{nil, {"IPv4"}, {"IPv6"}, {"IPv6", "IPv4"}}[chance.IntN(4)]
	s.Spec.ClusterIPs = [][]string{nil, {"None"}, {"10.100.0.9"}, {"fd00::9", "10.100.0.9"}, {"no address"}}[chance.IntN(5)]
	s.Spec.TrafficDistribution = []*string{nil, ptr("PreferClose")}[chance.IntN(2)]
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "1.2.3.4"}}
	for range chance.IntN(3) {
		s.Status.Conditions = append(s.Status.Conditions, metav1.Condition{
			Type: pick("x.io/y", "overland.dev/Federated"), Status: metav1.ConditionStatus(pick("True", "False")), Reason: pick("", "InSync"), Message: pick("", "m"),
			ObservedGeneration: chance.Int64N(9), LastTransitionTime: []metav1.Time{{}, metav1.Unix(5, 0)}[chance.IntN(2)],
		})
	}
	return s
}

func randomSlice(chance *rand.Rand) *discoveryv1.EndpointSlice {
	pick := func(texts ...string) string { return texts[chance.IntN(len(texts))] }
	text := func() *string { return []*string{nil, ptr(""), ptr("a"), ptr("x-1")}[chance.IntN(4)] }
	truth := func() *bool { return []*bool{nil, ptr(true), ptr(false)}[chance.IntN(3)] }
	s := slice(pick("a", "demo"), pick("x", "redis-1"), pick("", "redis"))
	s.Labels[labelManagedBy] = pick("", "endpointslice-controller.k8s.io", "federation.overland.dev")
	s.AddressType = discoveryv1.AddressType(pick("IPv4", "IPv6", "FQDN", ""))
	s.Ports = nil
	for range chance.IntN(3) {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{
			Name: text(), Port: []*int32{nil, ptr(int32(0)), ptr(int32(80)), ptr(int32(-1))}[chance.IntN(4)],
			Protocol: []*corev1.Protocol{nil, ptr(corev1.ProtocolUDP)}[chance.IntN(2)], AppProtocol: text(),
		})
	}
	for range chance.IntN(4) {
		e := discoveryv1.Endpoint{
			Hostname: text(), NodeName: text(), Zone: text(),
			Conditions: discoveryv1.EndpointConditions{Ready: truth(), Serving: truth(), Terminating: truth()},
		}
		for range chance.IntN(3) {
			e.Addresses = append(e.Addresses, pick("10.1.0.1", "fd00::1", "x"))
		}
		if chance.IntN(2) == 0 {
			e.TargetRef = &corev1.ObjectReference{Kind: pick("Pod", ""), Namespace: pick("demo", ""), Name: pick("p", ""), UID: types.UID(pick("u", "")), FieldPath: "f"}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func TestServicesAgreeWithGeneratedTypes(t *testing.T) {
	chance := rand.New(rand.NewPCG(3, 5))
	for n := range 4000 {
		local := n%2 == 0
		s, e := randomService(chance), randomSlice(chance)
		sameAsTruth(t, local, itemFrom(t, local, s), s)
		sameAsTruth(t, local, itemFrom(t, local, e), e)
	}
}

// agree tells whether any bytes give what they should: what is taken is within its
// bounds, and what the generated types understand too is understood alike.
func agree(t testing.TB, data []byte) (compared int) {
	t.Helper()
	for _, local := range []bool{true, false} {
		i := servicesConverter(model.KindService, local).convert(data)
		var s corev1.Service
		if i.fact != nil && s.Unmarshal(data) == nil && !cutService(&s) {
			compared++
			sameAsTruth(t, local, i, &s)
		}
		i = servicesConverter(model.KindEndpointSlice, local).convert(data)
		f, _ := i.fact.(*model.EndpointSlice)
		if f == nil {
			continue
		}
		if c := costOf(f); c.objects > maxSliceEndpoints || c.bytes < len(f.Endpoints)*100 {
			t.Fatalf("it costs %+v", c)
		}
		var e discoveryv1.EndpointSlice
		if e.Unmarshal(data) == nil && !cutSlice(trueSlice("canada", true, &e)) {
			compared++
			sameAsTruth(t, local, i, &e)
		}
	}
	return compared
}

// cutService tells whether there is a text that is cut.
func cutService(s *corev1.Service) bool {
	long := len(or(s.Spec.TrafficDistribution)) > 253
	for _, c := range s.Status.Conditions {
		long = long || len(c.Type) > 253 || len(c.Status) > 63 || len(c.Reason) > 1024 || len(c.Message) > 32768
	}
	for _, value := range s.Annotations {
		long = long || len(value) > 1<<16
	}
	return long
}

func cutSlice(f *model.EndpointSlice) bool {
	long := len(f.AddressType) > 16
	for _, p := range f.Ports {
		long = long || len(p.Name) > 253 || len(p.Protocol) > 16 || len(p.AppProtocol) > 253
	}
	for _, e := range f.Endpoints {
		for _, text := range append([]string{e.Node, e.Zone, e.Target.Kind, e.Target.Namespace, e.Target.Name, e.Target.UID}, e.Addresses...) {
			long = long || len(text) > 253
		}
		long = long || len(e.Hostname) > 63
	}
	return long
}

// mutate makes a few random changes.
func mutate(chance *rand.Rand, data []byte) []byte {
	for range chance.IntN(4) {
		if len(data) == 0 {
			return data
		}
		switch k := chance.IntN(len(data)); chance.IntN(3) {
		case 0:
			data[k] ^= byte(1 << chance.IntN(8))
		case 1:
			data = slices.Delete(data, k, min(len(data), k+chance.IntN(9)))
		case 2:
			data = slices.Insert(data, k, slices.Clone(data[max(0, k-chance.IntN(20)):k])...)
		}
	}
	return data
}

func TestServicesThatAreDamagedAgreeWithGeneratedTypes_1_6(t *testing.T) {
	chance, compared := rand.New(rand.NewPCG(7, 5)), 0
	for range 5000 {
		for _, o := range []interface{ Marshal() ([]byte, error) }{randomService(chance), randomSlice(chance)} {
			data, err := o.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			compared += agree(t, mutate(chance, data))
		}
	}
	if compared < 2000 {
		t.Errorf("%d were compared: the test shows nothing", compared)
	}
}

func FuzzServices(f *testing.F) {
	chance := rand.New(rand.NewPCG(5, 7))
	for range 5 {
		for _, o := range []interface{ Marshal() ([]byte, error) }{randomService(chance), randomSlice(chance)} {
			data, err := o.Marshal()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte{0x12, 0x00, 0x1a, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) { agree(t, data) })
}

// TestSmallSlicesCannotFillMemory: nothing of a slice with a million empty
// endpoints is made.
func TestSmallSlicesCannotFillMemory(t *testing.T) {
	for _, tag := range []byte{0x12, 0x1a} {
		message := lengthDelimited(0x12, bytes.Repeat([]byte{tag, 0x00}, 1<<19))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l, err := servicesConverter(model.KindEndpointSlice, false).list(message)
		runtime.ReadMemStats(&after)
		if err != nil || len(l.Items) != 1 || l.Items[0].refused != model.RefusedMalformed {
			t.Fatalf("%v, %v", l, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<16 {
			t.Errorf("%d bytes are allocated for an answer of %d", got, len(message))
		}
	}
}

func TestWhatIsRefusedIsRememberedInFewBytes_1_6(t *testing.T) {
	long := strings.Repeat("a", 1<<20)
	for _, kind := range []model.Kind{model.KindPod, model.KindNode, model.KindNamespace, model.KindService, model.KindEndpointSlice} {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: long, Namespace: long, ResourceVersion: long, UID: types.UID(long)}}
		data, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		i := servicesConverter(kind, false).convert(data)
		if n := len(i.name) + len(i.namespace) + len(i.version); i.refused != model.RefusedMalformed || n > 1000 {
			t.Errorf("%v: %q, %d bytes", kind, i.refused, n)
		}
	}
}
