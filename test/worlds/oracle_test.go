package worlds

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/pkg/model"
)

const (
	testNamespaces = `
- metadata: {name: x, labels: {team: a, kubernetes.io/metadata.name: x}}
- metadata: {name: z, labels: {team: b, kubernetes.io/metadata.name: lies}}
`
	testNodes = `
- metadata: {name: node-1, labels: {zone: one}}
  status: {addresses: [{type: InternalIP, address: 10.%.255.1}, {type: ExternalIP, address: 198.51.100.1}]}
- metadata: {name: node-2}
  status: {addresses: [{type: InternalIP, address: 10.%.255.2}]}
`
	testPods = `
- metadata: {namespace: x, name: a, labels: {app: a, overland.dev/cluster: forged}}
  spec: {nodeName: node-1, serviceAccountName: robot, containers: [{ports: [{name: web, containerPort: 80}]}, {ports: [{name: web, containerPort: 81, protocol: UDP}]}]}
  status: {podIPs: [{ip: 10.%.0.1}, {ip: "fd00:%::1"}]}
- metadata: {namespace: x, name: b, labels: {app: b, tier: ""}}
  spec:
    nodeName: node-2
    serviceAccountName: default
    containers: [{ports: [{name: web, containerPort: 82}]}]
    initContainers: [{ports: [{name: web, containerPort: 80}]}, {restartPolicy: Always, ports: [{name: web, containerPort: 8080}]}]
  status: {podIPs: [{ip: 10.%.0.2}]}
- metadata: {namespace: z, name: c, labels: {app: a}}
  spec: {nodeName: node-1, serviceAccountName: default}
  status: {podIPs: [{ip: 10.%.0.3}, {ip: "fd00:%::3"}]}
- metadata: {namespace: x, name: host, labels: {app: host}}
  spec: {nodeName: node-2, hostNetwork: true}
  status: {podIPs: [{ip: 10.%.255.2}]}
- metadata: {namespace: x, name: done, labels: {app: a}}
  spec: {nodeName: node-2}
  status: {phase: Succeeded, podIPs: [{ip: 10.%.0.9}]}
- metadata: {namespace: x, name: going, labels: {app: going}, deletionTimestamp: "2026-01-01T00:00:00Z"}
  spec: {nodeName: node-2}
  status: {podIPs: [{ip: 10.%.0.5}]}
- metadata: {namespace: x, name: foreign, labels: {app: foreign}}
  spec: {nodeName: node-2}
  status: {podIPs: [{ip: 172.16.%.1}]}
`
)

func read[T any](t *testing.T, text string, i int) []*T {
	t.Helper()
	var list []*T
	filled := []byte(strings.ReplaceAll(text, "%", strconv.Itoa(i+1)))
	if err := yaml.UnmarshalStrict(filled, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// testWorld is two clusters, of which the first has a policy of namespace x.
func testWorld(t *testing.T, spec, annotation string) World {
	t.Helper()
	w := World{}
	for i, name := range []string{"west", "canada"} {
		c := Cluster{Name: name, Labels: map[string]string{"region": []string{"us", "ca"}[i]}, Agent: Agent{ScopeOverride: "policy"}}
		c.PodCIDRs, c.NodeCIDRs = ranges(i)
		c.Namespaces = read[corev1.Namespace](t, testNamespaces, i)
		c.Nodes = read[corev1.Node](t, testNodes, i)
		c.Pods = read[corev1.Pod](t, testPods, i)
		w.Clusters = append(w.Clusters, c)
	}
	p := &networkingv1.NetworkPolicy{}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	p.Namespace, p.Name = "x", "p"
	if annotation != "" {
		p.Annotations = map[string]string{"overland.dev/peer-scope": annotation}
	}
	w.Clusters[0].Policies = []*networkingv1.NetworkPolicy{p}
	return w
}

// end finds a pod or a node by CLUSTER/NAMESPACE/NAME or CLUSTER/NAME, in the
// family wanted, or takes an address.
func end(t *testing.T, w World, text string, v6 bool) End {
	t.Helper()
	if a, err := netip.ParseAddr(text); err == nil {
		return End{Addr: a}
	}
	pods, nodes, _ := w.ends()
	for _, e := range append(pods, nodes...) {
		name := e.Cluster + "/" + e.Namespace + "/" + e.Name
		if e.Kind == Node {
			name = e.Cluster + "/" + e.Name
		}
		if name == text && e.Addr.Is6() == v6 {
			return e
		}
	}
	t.Fatalf("no %s in the world", text)
	return End{}
}

// places are those of which a case says who may reach west/x/a.
func places() []string {
	return []string{
		"west/x/b", "west/z/c", "west/x/going", "west/node-1", "west/node-2", "10.1.0.9", "192.0.2.1",
		"canada/x/a", "canada/x/b", "canada/z/c", "canada/node-1", "172.16.2.1",
	}
}

type oracleCase struct {
	name, spec string
	annotation string
	allowed    []string // of places; west/node-1, the pod's own, is always allowed
}

func peerCases() []oracleCase {
	from := func(peers string) string {
		return "{podSelector: {matchLabels: {app: a}}, ingress: [{from: " + peers + "}]}"
	}
	everyone := places()
	return []oracleCase{
		{"no rules: nobody (7.6)", "{podSelector: {}}", "", nil},
		{"an empty rule: everyone (7.6)", "{podSelector: {}, ingress: [{}]}", "", everyone},
		{"empty from: everyone (7.4)", from("[]"), "", everyone},
		{"policyTypes Egress does not isolate ingress (7.7)", "{podSelector: {}, policyTypes: [Egress]}", "", everyone},
		{"another pod's policy (7.1)", "{podSelector: {matchLabels: {app: b}}}", "", everyone},
		{"podSelector: own namespace, own cluster (7.1, 2.3)", from("[{podSelector: {}}]"), "", []string{"west/x/b", "west/x/going"}},
		{"podSelector in the mesh: same namespace everywhere (2.4)", from("[{podSelector: {}}]"), "mesh", []string{"west/x/b", "west/x/going", "canada/x/a", "canada/x/b"}},
		{"an invalid scope is local (2.3)", from("[{podSelector: {}}]"), "Mesh", []string{"west/x/b", "west/x/going"}},
		{"namespaceSelector {}: every namespace (7.1)", from("[{namespaceSelector: {}}]"), "", []string{"west/x/b", "west/x/going", "west/z/c"}},
		{"both selectors are AND (7.2)", from("[{namespaceSelector: {matchLabels: {team: b}}, podSelector: {matchLabels: {app: a}}}]"), "mesh", []string{"west/z/c", "canada/z/c"}},
		{"two peers are OR (7.2)", from("[{namespaceSelector: {matchLabels: {team: b}}}, {podSelector: {matchLabels: {app: b}}}]"), "", []string{"west/x/b", "west/z/c"}},
		{"a namespace's name is its own (1.4)", from("[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]"), "", []string{"west/z/c"}},
		{"an empty value is no missing label (7.45)", from("[{podSelector: {matchExpressions: [{key: tier, operator: Exists}]}}]"), "", []string{"west/x/b"}},
		{"NotIn matches what lacks the key, and no stranger (7.22, 7.23)", from("[{podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [z]}]}}]"), "", []string{"west/x/b", "west/x/going"}},
		{"a cluster by name (2.3)", from("[{podSelector: {matchLabels: {overland.dev/cluster: canada}}}]"), "", []string{"canada/x/a", "canada/x/b"}},
		{"any cluster (2.3)", from("[{podSelector: {matchExpressions: [{key: overland.dev/cluster, operator: Exists}]}}]"), "", []string{"west/x/b", "west/x/going", "canada/x/a", "canada/x/b"}},
		{"all clusters but one (2.3)", from("[{namespaceSelector: {matchExpressions: [{key: overland.dev/cluster, operator: NotIn, values: [west]}]}}]"), "", []string{"canada/x/a", "canada/x/b", "canada/z/c"}},
		{"a cluster's label (2.2)", from("[{namespaceSelector: {matchLabels: {cluster.overland.dev/region: ca}}, podSelector: {matchLabels: {app: a}}}]"), "", []string{"canada/x/a", "canada/z/c"}},
		{"a service account (2.2)", from("[{namespaceSelector: {matchLabels: {cluster.overland.dev/region: ca}}, podSelector: {matchLabels: {overland.dev/service-account: robot}}}]"), "", []string{"canada/x/a"}},
		{"an unknown reserved key (2.2)", from("[{podSelector: {matchExpressions: [{key: overland.dev/nothing, operator: DoesNotExist}]}}]"), "", nil},
		{"a reserved key in the wrong place (2.2)", from("[{namespaceSelector: {matchExpressions: [{key: overland.dev/kind, operator: Exists}]}}]"), "", nil},
		{"nodes (2.6)", from("[{podSelector: {matchLabels: {overland.dev/kind: Node}}}]"), "mesh", []string{"west/node-2", "canada/node-1"}},
		{"nodes by label and cluster (2.6)", from("[{podSelector: {matchLabels: {overland.dev/kind: Node, zone: one, cluster.overland.dev/region: ca}}}]"), "", []string{"canada/node-1"}},
		{"nodes beside namespaces (2.6)", from("[{namespaceSelector: {}, podSelector: {matchLabels: {overland.dev/kind: Node}}}]"), "", nil},
		{"any other kind means pods (2.6)", from("[{podSelector: {matchExpressions: [{key: overland.dev/kind, operator: In, values: [Node, Pod]}]}}]"), "", []string{"west/x/b", "west/x/going"}},
		{"the own podSelector is of the local cluster (2.5)", "{podSelector: {matchLabels: {overland.dev/cluster: canada}}}", "", everyone},
		{"no policy is about nodes (2.5)", "{podSelector: {matchLabels: {overland.dev/kind: Node}}}", "", everyone},
	}
}

func blockCases() []oracleCase {
	from := func(peers string) string {
		return "{podSelector: {matchLabels: {app: a}}, ingress: [{from: " + peers + "}]}"
	}
	return []oracleCase{
		{"a range holds remote pods, nodes and strangers (2.7)", from("[{ipBlock: {cidr: 10.2.0.0/16}}]"), "", []string{"canada/x/a", "canada/x/b", "canada/z/c", "canada/node-1"}},
		{"bits beyond the length (7.19)", from("[{ipBlock: {cidr: 10.1.0.3/30}}]"), "", []string{"west/x/b", "west/z/c"}},
		{"everything but (7.19)", from("[{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 172.16.0.0/12]}}]"), "", []string{"192.0.2.1"}},
		{"another peer's allow wins over an exception (7.17)", from("[{ipBlock: {cidr: 10.2.0.0/16, except: [10.2.0.0/24]}}, {ipBlock: {cidr: 10.2.0.2/32}}]"), "", []string{"canada/x/b", "canada/node-1"}},
		{"a range of IPv6 is of no IPv4 (7.21)", from("[{ipBlock: {cidr: '::/0'}}]"), "", nil},
	}
}

func TestOracleKnowsWhoMayReachAPod(t *testing.T) {
	for _, tt := range append(peerCases(), blockCases()...) {
		t.Run(tt.name, func(t *testing.T) {
			w := testWorld(t, tt.spec, tt.annotation)
			for _, from := range places() {
				want := from == "west/node-1"
				for _, name := range tt.allowed {
					want = want || name == from
				}
				p := Probe{end(t, w, from, false), end(t, w, "west/x/a", false), model.TCP, 80}
				if a := Allowed(w, p); a.Ingress != want {
					t.Errorf("%s: ingress %v, expected %v (%s)", p, a.Ingress, want, a.Reason)
				}
			}
		})
	}
}

// service is a protocol and a port.
type service struct {
	protocol model.Protocol
	port     uint16
}

func TestOracleKnowsPorts(t *testing.T) {
	const (
		ingress = "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: "
		egress  = "{podSelector: {matchLabels: {app: going}}, policyTypes: [Egress], egress: [{ports: "
	)
	tcp := func(p uint16) service { return service{model.TCP, p} }
	udp := func(p uint16) service { return service{model.UDP, p} }
	all := []service{tcp(80), tcp(81), tcp(82), tcp(8080), udp(80), udp(81), {model.SCTP, 80}, {1, 0}}
	for _, tt := range []struct {
		name, spec, from, to string
		want                 []service
	}{
		{"no ports: all, of all protocols (7.5)", ingress + "[]}]}", "west/x/going", "west/x/a", all},
		{"a number, TCP by default (7.15)", ingress + "[{port: 80}]}]}", "west/x/going", "west/x/a", []service{tcp(80)}},
		{"a protocol without a port (7.15)", ingress + "[{protocol: UDP}]}]}", "west/x/going", "west/x/a", []service{udp(80), udp(81)}},
		{"SCTP (7.16)", ingress + "[{protocol: SCTP, port: 80}]}]}", "west/x/going", "west/x/a", []service{{model.SCTP, 80}}},
		{"a range (7.14)", ingress + "[{port: 81, endPort: 8079}]}]}", "west/x/going", "west/x/a", []service{tcp(81), tcp(82)}},
		{"a range of one (7.14)", ingress + "[{port: 81, endPort: 81}]}]}", "west/x/going", "west/x/a", []service{tcp(81)}},
		{"a name, of that protocol (7.10, 7.12)", ingress + "[{port: web}]}]}", "west/x/going", "west/x/a", []service{tcp(80)}},
		{"a name that a sidecar has too (7.13)", ingress + "[{port: web}]}]}", "west/x/going", "west/x/b", []service{tcp(82), tcp(8080)}},
		{"a name that nobody has", ingress + "[{port: dns}]}]}", "west/x/going", "west/x/a", nil},
		{"a name on egress is the destination's (7.10)", egress + "[{port: web, protocol: UDP}], to: [{podSelector: {}}]}]}", "west/x/going", "west/x/a", []service{udp(81)}},
		{"a name on egress without to (7.11)", egress + "[{port: web}]}]}", "west/x/going", "west/x/b", []service{tcp(82), tcp(8080)}},
		{"a name on egress without to is of the scope (2.9)", egress + "[{port: web}]}]}", "west/x/going", "canada/x/a", nil},
		{"a name on egress with a range (7.11)", egress + "[{port: web}], to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}", "west/x/going", "west/x/a", nil},
		{"egress is of no concern to another pod", egress + "[]}]}", "west/x/a", "192.0.2.1", all},
		{"from and ports are AND (7.3)", ingress + "[{port: 80}], from: [{podSelector: {matchLabels: {app: b}}}]}]}", "west/x/going", "west/x/a", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := testWorld(t, tt.spec, "")
			for _, s := range all {
				want := false
				for _, x := range tt.want {
					want = want || x == s
				}
				p := Probe{end(t, w, tt.from, false), end(t, w, tt.to, false), s.protocol, s.port}
				if a := Allowed(w, p); (a.Egress && a.Ingress) != want {
					t.Errorf("%s: %v, expected %v (%s)", p, a.Egress && a.Ingress, want, a.Reason)
				}
			}
		})
	}
}

func TestOracleKnowsWhatIsAlwaysAllowed_2_8(t *testing.T) {
	w := testWorld(t, "{podSelector: {}, policyTypes: [Ingress, Egress]}", "")
	for _, tt := range []struct {
		name, from, to  string
		v6              bool
		egress, ingress bool
	}{
		{"itself", "west/x/a", "west/x/a", true, true, true},
		{"its own node reaches it", "west/node-1", "west/x/a", false, true, true},
		{"the address of its own node does not (7.33)", "10.1.255.1", "west/x/a", false, true, false},
		{"another node does not (7.33)", "west/node-2", "west/x/a", false, true, false},
		{"it reaches its own node", "west/x/a", "west/node-1", false, true, true},
		{"it does not reach another node", "west/x/a", "west/node-2", false, false, true},
		{"both sides decide (7.9)", "west/x/a", "west/x/b", false, false, false},
		{"the remote side has no policy", "west/x/a", "canada/x/a", true, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Probe{end(t, w, tt.from, tt.v6), end(t, w, tt.to, tt.v6), model.TCP, 80}
			if a := Allowed(w, p); a.Egress != tt.egress || a.Ingress != tt.ingress {
				t.Errorf("%s: %+v", p, a)
			}
		})
	}
	w.Clusters[0].Agent.OwnNodeEgress = true
	p := Probe{end(t, w, "west/x/a", false), end(t, w, "west/node-1", false), model.TCP, 80}
	if a := Allowed(w, p); a.Egress {
		t.Errorf("with own node egress by policy: %+v", a)
	}
}

func TestOracleKnowsOwners_1_5(t *testing.T) {
	w := testWorld(t, "{podSelector: {}}", "")
	west, canada := w.Cluster("west"), w.Cluster("canada")
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		name string
		by   *Cluster
		addr string
		want string
	}{
		{"a local pod", west, "10.1.0.1", "a"},
		{"a remote pod", west, "10.2.0.2", "b"},
		{"a finished pod (7.26)", west, "10.1.0.9", ""},
		{"a pod on its node's network (7.31)", west, "10.1.255.2", "node-2"},
		{"an external address of a node (1.3)", west, "198.51.100.1", ""},
		{"a local pod outside of the ranges", west, "172.16.1.1", "foreign"},
		{"a remote pod outside of its ranges", west, "172.16.2.1", ""},
		{"the same, by its own cluster", canada, "172.16.2.1", "foreign"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			switch e := w.owner(tt.by, addr(tt.addr)); {
			case e.pod != nil:
				got = e.pod.Name
			case e.node != nil:
				got = e.node.Name
			}
			if got != tt.want {
				t.Errorf("%s has %q, expected %q", tt.addr, got, tt.want)
			}
		})
	}
	// Of two pods the one that stays has it, else the newer one.
	w = w.clone()
	twin := west.Pod("x", "going").DeepCopy()
	twin.Name, twin.DeletionTimestamp = "stays", nil
	w.Clusters[0].Pods = append(w.Clusters[0].Pods, twin)
	if e := w.owner(west, addr("10.1.0.5")); e.pod != twin {
		t.Errorf("the pod that terminates still has the address")
	}
}
