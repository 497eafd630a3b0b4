package source

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/model"
)

func converterOf(kind model.Kind) converter {
	return converter{cluster: "canada", names: &interner{}, decoder: decoder{kind: kind, labelBytes: 1 << 10}}
}

func podItem(t testing.TB, p *corev1.Pod) *item {
	t.Helper()
	data, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return converterOf(model.KindPod).convert(data)
}

// TestPodConversion_1_3 compares with the truth, made from the decoded object.
func TestPodConversion_1_3(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	for name, change := range map[string]func(p *corev1.Pod){
		"plain":                   func(*corev1.Pod) {},
		"host network":            func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		"no address":              func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil },
		"old server: podIP alone": func(p *corev1.Pod) { p.Status.PodIPs = nil },
		"dual stack":              func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.1.0.1"}, {IP: "fd00::1"}} },
		"mapped address":          func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "::ffff:10.1.0.1"}, {IP: "10.1.0.1"}} },
		"succeeded":               func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded },
		"failed":                  func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed },
		"terminating":             func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} },
		"terminating and finished": func(p *corev1.Pod) {
			p.DeletionTimestamp, p.Status.Phase = &metav1.Time{}, corev1.PodSucceeded
		},
		"ports of sidecars, not of init containers": func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{
				{Name: "init", Ports: []corev1.ContainerPort{{Name: "init", ContainerPort: 1}}},
				{Name: "side", RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 2, Protocol: corev1.ProtocolUDP}}},
			}
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Ports: []corev1.ContainerPort{
				{ContainerPort: 9}, {Name: "http", ContainerPort: 81}, {Name: "http", ContainerPort: 80}, {Name: "a", ContainerPort: 7, Protocol: corev1.ProtocolSCTP},
			}})
		},
		"reserved labels_1_4": func(p *corev1.Pod) {
			p.Labels = map[string]string{"app": "a", "overland.dev/kind": "Node", "x.overland.dev/y": "z", "federation.tigera.io/remoteClusterName": "c"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod("demo", "redis-0", "10.1.0.1", map[string]string{"app": "redis"})
			p.UID = "aaaaaaaa-0000-0000-0000-000000000001"
			change(p)
			i := podItem(t, p)
			if i.refused != "" {
				t.Fatalf("refused: %s", i.refused)
			}
			var want model.Fact
			if e := truePod("canada", p); e != nil {
				want = e
			}
			if diff := diffFacts(map[model.Key]model.Fact{{}: want}, map[model.Key]model.Fact{{}: i.fact}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMalformedObjectsAreRefused_1_6(t *testing.T) {
	ip := func(texts ...string) func(p *corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.PodIPs = nil
			for _, text := range texts {
				p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: text})
			}
		}
	}
	port := func(port corev1.ContainerPort) func(p *corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Ports = []corev1.ContainerPort{port} }
	}
	for name, change := range map[string]func(p *corev1.Pod){
		"no address":            ip("nonsense"),
		"address with a zone":   ip("fe80::1%eth0"),
		"an address and none":   ip("10.1.0.1", ""),
		"too many addresses":    ip(make([]string, maxAddresses+1)...),
		"a range":               ip("10.1.0.0/16"),
		"no name":               func(p *corev1.Pod) { p.Name = "" },
		"capital name":          func(p *corev1.Pod) { p.Name = "Redis" },
		"name with a newline":   func(p *corev1.Pod) { p.Name = "redis\n" },
		"long name":             func(p *corev1.Pod) { p.Name = string(make([]byte, 1<<16)) },
		"no namespace":          func(p *corev1.Pod) { p.Namespace = "" },
		"namespace of two":      func(p *corev1.Pod) { p.Namespace = "a.b" },
		"node with a slash":     func(p *corev1.Pod) { p.Spec.NodeName = "a/b" },
		"account with an esc":   func(p *corev1.Pod) { p.Spec.ServiceAccountName = "\x1b[2J" },
		"label key with blanks": func(p *corev1.Pod) { p.Labels = map[string]string{"a b": "c"} },
		"label key, two slashes": func(p *corev1.Pod) {
			p.Labels = map[string]string{"a/b/c": "d"}
		},
		"label value, newline": func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b\nc"} },
		"port 0":               port(corev1.ContainerPort{Name: "http"}),
		"port 65536":           port(corev1.ContainerPort{Name: "http", ContainerPort: 65536}),
		"port -1":              port(corev1.ContainerPort{Name: "http", ContainerPort: -1}),
		"port of no protocol":  port(corev1.ContainerPort{Name: "http", ContainerPort: 80, Protocol: "ICMP"}),
		"port name":            port(corev1.ContainerPort{Name: "a-name-of-more-than-15", ContainerPort: 80}),
		"too many ports": func(p *corev1.Pod) {
			for i := range maxPorts {
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Ports: []corev1.ContainerPort{{Name: fmt.Sprint("p", i), ContainerPort: 1}}})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod("demo", "redis-0", "10.1.0.1", map[string]string{"app": "redis"})
			change(p)
			if i := podItem(t, p); i.refused != model.RefusedMalformed || i.fact != nil {
				t.Errorf("refused %q, fact %v", i.refused, i.fact)
			}
		})
	}
}

func TestLabelsBeyondTheLimitAreRefused_1_2(t *testing.T) {
	p := pod("demo", "redis-0", "10.1.0.1", map[string]string{})
	for i := 0; i < 1<<10; i += 10 {
		p.Labels[fmt.Sprintf("k-%03d", i/10)] = "12345"
	}
	if i := podItem(t, p); i.refused != model.RefusedLabelsTooLarge || i.fact != nil {
		t.Errorf("refused %q, fact %v", i.refused, i.fact)
	}
}

func TestNodeAndNamespaceConversion(t *testing.T) {
	n := node("node-1", "10.0.0.4")
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "fd00::4"})
	data, err := n.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	ns := namespace("demo", "1", map[string]string{"team": "a", model.KeyNamespaceName: "kube-system", "overland.dev/x": "y"})
	ns.Annotations = map[string]string{model.AnnotationPeerScope: "mesh", model.AnnotationClusterName: "canada", "other": "x"}
	nsData, err := ns.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	nodeItem, nsItem := converterOf(model.KindNode).convert(data), converterOf(model.KindNamespace).convert(nsData)
	want := map[model.Key]model.Fact{
		model.NodeKey("canada", "node-1"):    trueNode("canada", n),
		model.NamespaceKey("canada", "demo"): trueNamespace("canada", ns),
	}
	got := map[model.Key]model.Fact{nodeItem.fact.FactKey(): nodeItem.fact, nsItem.fact.FactKey(): nsItem.fact}
	if diff := diffFacts(want, got); diff != "" {
		t.Error(diff)
	}
	if !nsItem.reserved || nodeItem.reserved {
		t.Error("reserved labels are not told")
	}
}

// TestDecoderAgreesWithGeneratedTypes: random pods come out as the truth, made
// from the generated types, says.
func TestDecoderAgreesWithGeneratedTypes(t *testing.T) {
	chance := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		p := randomPod(chance)
		i := podItem(t, p)
		var want model.Fact
		if e := truePod("canada", p); e != nil {
			want = e
		}
		if diff := diffFacts(map[model.Key]model.Fact{{}: want}, map[model.Key]model.Fact{{}: i.fact}); diff != "" || i.version != p.ResourceVersion {
			t.Fatalf("%s\n%+v", diff, p)
		}
	}
}

func randomPod(chance *rand.Rand) *corev1.Pod {
	pick := func(texts ...string) string { return texts[chance.IntN(len(texts))] }
	p := pod(pick("a", "demo"), pick("x", "redis-0"), pick("", "10.1.0.1", "fd00::1"), map[string]string{"app": pick("a", "b", "")})
	p.ResourceVersion = pick("", "1", "4711")
	p.UID = types.UID(pick("", "x", "aaaaaaaa-0000-0000-0000-000000000001"))
	p.Annotations = map[string]string{"big": pick("", "x")}
	p.Finalizers = []string{"f"}
	p.OwnerReferences = []metav1.OwnerReference{{Name: "o"}}
	p.Spec.HostNetwork = chance.IntN(8) == 0
	p.Spec.NodeName = pick("", "node-1")
	p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "B"}}
	p.Status.Phase = corev1.PodPhase(pick("Running", "Pending", "Succeeded", ""))
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady}}
	for range chance.IntN(3) {
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{
			Name: pick("", "http", "dns"), ContainerPort: 1 + chance.Int32N(65535), Protocol: corev1.Protocol(pick("", "TCP", "UDP", "SCTP")),
		})
	}
	return p
}

// FuzzDecoder: any bytes give an item or an error, and what the generated types
// understand too is understood alike.
func FuzzDecoder(f *testing.F) {
	chance := rand.New(rand.NewPCG(5, 6))
	for range 5 {
		data, err := randomPod(chance).Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("k8s\x00\x0a\x00"))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range []model.Kind{model.KindPod, model.KindNode, model.KindNamespace, model.KindPolicy} {
			i := converterOf(kind).convert(data)
			if i.fact != nil && (i.refused != "" || i.fact.FactKey().Cluster != "canada" || i.fact.FactKey().Name == "" && kind != model.KindPolicy) {
				t.Fatalf("%v gives %+v", kind, i)
			}
			if _, err := converterOf(kind).list(data); err != nil {
				continue
			}
		}
		_, _, _ = codec{usual: failingDecoder{}, convert: converterOf(0)}.Decode(data, nil, nil)
		var p corev1.Pod
		o, err := decoder{kind: model.KindPod}.object(data)
		if p.Unmarshal(data) != nil || err != nil {
			return
		}
		if o.name != p.Name || o.namespace != p.Namespace || o.node != p.Spec.NodeName || o.hostNetwork != p.Spec.HostNetwork || o.phase != string(p.Status.Phase) {
			t.Fatalf("decoded %+v, generated types have %+v", o, p)
		}
		if diff := cmp.Diff(trueLabels(p.Labels), o.labels); len(o.labels) > 0 && diff != "" {
			t.Fatal(diff)
		}
	})
}

type failingDecoder struct{ runtime.Decoder }

func TestPrintableKeepsTerminalsSafe(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a\x1b[2Jb": "a [2Jb", "a\nb\tc": "a b c", "\u202egnp.exe": "gnp.exe", "\x80\xff": "", "0123456789abc": "0123456789…",
	} {
		if got := printable(in, 10); got != want {
			t.Errorf("%q became %q, expected %q", in, got, want)
		}
	}
}
