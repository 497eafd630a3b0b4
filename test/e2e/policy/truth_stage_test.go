package policy

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/netprobe"
	"github.com/overland-net/overland/test/lab/topology"
)

// stage is the pods that the tests of what passes have in common. They stay for
// the next test; policies never do.
type stage struct {
	t    *testing.T
	pods map[string]*labtest.Pod // CLUSTER:a/NAME
}

// hostPort is where pods on the network of their node serve.
const hostPort = 18090

// cast is all pods of a cluster: namespace, name, node, labels, service account,
// ports of its container. The namespaces are a and b, with another prefix.
func cast(cluster string) [][6]string {
	if cluster == "west" {
		return [][6]string{
			{"a", "server", "node-1", "app: server, tier: back", "default", "{name: web, containerPort: 80}, {name: dns, containerPort: 80, protocol: UDP}"},
			{"a", "other", "node-2", "app: other, tier: back", "default", "{name: web, containerPort: 81}"},
			{"a", "client", "node-1", "app: client, tier: front", "default", ""},
			{"a", "client2", "node-2", `app: client, tier: ""`, "default", ""},
			{"b", "client", "node-2", "app: client", "robot", ""},
			{"b", "bare", "node-1", "", "default", ""},
			{"a", "sidecar", "node-1", "app: sidecar", "default", "]\n  initContainers: [" + initContainers},
		}
	}
	return [][6]string{
		{"a", "client", "node-1", "app: client", "default", ""},
		{"a", "server", "node-2", "app: server", "default", "{name: web, containerPort: 82}"},
		{"b", "client", "node-2", "app: client", "robot", ""},
	}
}

const stagePod = `
apiVersion: v1
kind: Pod
metadata: {namespace: truth-%s, name: %s, labels: {%s}}
spec:
  nodeName: %s
  serviceAccountName: %s
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: netprobe
    args: [serve, --tcp, "80,81,82,8000,8080", --udp, "80,81,82,8080", --sctp, "80,81,82,8080", --http, "18081"]
    ports: [%s]
---`

// initContainers are one that has ended when the pod serves, and one that has not:
// their named ports.
const initContainers = `{name: early, image: busybox, command: ["true"], ports: [{name: early, containerPort: 81}]},
    {name: late, image: busybox, command: [sleep, "86400"], restartPolicy: Always, ports: [{name: late, containerPort: 8080}]}`

const stageHost = `
apiVersion: v1
kind: Pod
metadata: {namespace: truth-a, name: host-%[1]d, labels: {app: host}}
spec:
  nodeName: node-%[1]d
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - {name: server, image: netprobe, args: [serve, --tcp, "%[2]d"]}
---`

const stageBase = `
apiVersion: v1
kind: Namespace
metadata: {name: truth-a, labels: {team: a}}
---
apiVersion: v1
kind: Namespace
metadata: {name: truth-b, labels: {team: b}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {namespace: truth-b, name: robot}
---
apiVersion: v1
kind: Service
metadata: {namespace: truth-a, name: server}
spec:
  type: NodePort
  selector: {app: server}
  ipFamilyPolicy: RequireDualStack
  ports: [{port: 8000, targetPort: 80, nodePort: 30980}]
---`

// onStage makes what is missing of the stage, and takes away every policy that an
// earlier test has left there.
func onStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, pods: map[string]*labtest.Pod{}}
	for _, c := range lab.Clusters {
		n := c.In(t, "truth-a")
		n.Apply(stageBase)
		for _, name := range []string{"truth-a", "truth-b"} {
			n.Wait("the ServiceAccount default of "+name, func(ctx context.Context) (string, bool, error) {
				_, err := c.Client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
				return "", err == nil, err
			})
		}
		unpolice(t, c)
		var text strings.Builder
		for _, p := range cast(c.Name) {
			fmt.Fprintf(&text, stagePod, p[0], p[1], p[3], p[2], p[4], p[5])
		}
		for i := range c.Nodes {
			fmt.Fprintf(&text, stageHost, i+1, hostPort)
		}
		n.Apply(text.String())
	}
	for _, c := range lab.Clusters {
		for _, p := range cast(c.Name) {
			s.pods[c.Name+":"+p[0]+"/"+p[1]] = c.In(t, "truth-"+p[0]).Pod(p[1])
		}
		for i := range c.Nodes {
			c.In(t, "truth-a").Pod(fmt.Sprintf("host-%d", i+1))
		}
	}
	return s
}

// full is a name of an end with its cluster, west unless it says so.
func full(name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	return "west:" + name
}

func (s *stage) pod(name string) *labtest.Pod {
	s.t.Helper()
	p := s.pods[full(name)]
	if p == nil {
		s.t.Fatalf("no pod %s is on stage", name)
	}
	return p
}

// from is the source of that name: outside, a node or a pod, of west unless
// CLUSTER: is before it.
func (s *stage) from(name string) labtest.Source {
	s.t.Helper()
	if name == "outside" {
		return lab.FromOutside()
	}
	cluster, end, _ := strings.Cut(full(name), ":")
	if strings.HasPrefix(end, "node-") {
		return lab.FromNode(cluster + "/" + end)
	}
	return labtest.FromPodNetwork(s.pod(name))
}

// addresses are those of a destination: also svc/NAME, a Service of namespace a.
func (s *stage) addresses(name string) []netip.Addr {
	s.t.Helper()
	if name == "outside" {
		return topology.Addrs(lab.Topology.Outside.Addresses)
	}
	cluster, end, _ := strings.Cut(full(name), ":")
	c := lab.Cluster(cluster)
	if service, ok := strings.CutPrefix(end, "svc/"); ok {
		object, err := c.Client.CoreV1().Services("truth-a").Get(s.t.Context(), service, metav1.GetOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		var all []netip.Addr
		for _, ip := range object.Spec.ClusterIPs {
			all = append(all, netip.MustParseAddr(ip))
		}
		return all
	}
	for _, n := range c.Nodes {
		if n.Name == end {
			return topology.Addrs(n.Addresses)
		}
	}
	return s.pod(name).Addresses
}

// outcomes are the words for what becomes of a probe.
func outcomes(word string) (netprobe.Kind, bool) {
	kind, ok := map[string]netprobe.Kind{"pass": "", "deny": netprobe.KindTimeout, "refuse": netprobe.KindRefused}[word]
	return kind, ok
}

// probes reads lines of OUTCOME FROM TO SCHEME/PORT…; of every family unless 4 or
// 6 follows the scheme.
func (s *stage) probes(text string) []probe {
	s.t.Helper()
	var all []probe
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		want, ok := outcomes(words[0])
		if !ok || len(words) < 4 {
			s.t.Fatalf("what is %q", line)
		}
		for _, what := range words[3:] {
			scheme, port, _ := strings.Cut(what, "/")
			family := strings.TrimLeft(scheme, "tcpudsim")
			scheme = strings.TrimSuffix(scheme, family)
			number := 0
			if port != "" {
				var err error
				if number, err = strconv.Atoi(port); err != nil {
					s.t.Fatal(err)
				}
			}
			for _, a := range s.addresses(words[2]) {
				if family != "" && a.Is4() != (family == "4") {
					continue
				}
				all = append(all, probe{
					from: s.from(words[1]), to: labtest.Target(scheme, a.String(), number), want: want,
					text: fmt.Sprintf("%s %s %s %s (%s)", words[0], words[1], words[2], what, a),
				})
			}
		}
	}
	return all
}

// holds is the probes' text of what has to hold.
func (s *stage) holds(text string) {
	s.t.Helper()
	holds(s.t, s.probes(text))
}

var addressForm = regexp.MustCompile(`\b([46])\(([^)]+)\)`)

// fill writes addresses where the text has 4(POD) or 6(POD).
func (s *stage) fill(text string) string {
	return addressForm.ReplaceAllStringFunc(text, func(found string) string {
		parts := addressForm.FindStringSubmatch(found)
		family, _ := strconv.Atoi(parts[1])
		return s.pod(parts[2]).Address(family).String()
	})
}

// npol is a policy of namespace a, its spec in YAML's flow style. Keys of its
// metadata may follow.
func npol(name, spec string, meta ...string) string {
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: truth-a, name: %s%s}\nspec: %s\n---\n",
		name, strings.Join(append([]string{""}, meta...), ", "), spec)
}

// apply applies policies of a cluster and takes them away when the test ends.
func (s *stage) apply(c *labtest.Cluster, text string) {
	s.t.Helper()
	s.t.Cleanup(func() { unpolice(s.t, c) })
	c.In(s.t, "truth-a").Apply(s.fill(text))
}

// unpolice takes away all policies of the stage in a cluster. The test's own
// context may have ended.
func unpolice(t *testing.T, c *labtest.Cluster) {
	t.Helper()
	for _, name := range []string{"truth-a", "truth-b"} {
		err := c.Client.NetworkingV1().NetworkPolicies(name).DeleteCollection(
			context.WithoutCancel(t.Context()), metav1.DeleteOptions{}, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// with is the same stage for a subtest.
func (s *stage) with(t *testing.T) *stage { return &stage{t: t, pods: s.pods} }
