package policy

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
)

// The scene of the tests of change: in west the client a, and on each node a
// server that will be closed (b1, b2) and one that stays open (c1, c2), each
// behind a Service; in canada the servers d, which stays open, and e.
const sceneNamespace = "change"

// scene is the scene as one test sees it.
type scene struct {
	t       *testing.T
	client  *labtest.Pod
	servers map[string]*labtest.Pod
	vips    map[string]map[int]netip.Addr // of west's servers: by family
}

const scenePod = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: NAME, LABELS}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 1
  containers:
  - name: netprobe
    image: netprobe
    args: [serve, --flow, "7001,7002,7003,7004,7005,7006,7007", --http, "8081"]
    readinessProbe: {httpGet: {path: /healthz, port: 8081}, periodSeconds: 1}
---`

func sceneServer(name, node, labels string) string {
	return strings.NewReplacer("NAME", name, "NODE", node, "LABELS", labels).Replace(scenePod)
}

// sceneService is a Service with a port for every mode; with SELECTOR empty, one
// whose endpoints are written by hand.
func sceneService(name, selector string) string {
	var ports []string
	for _, m := range allModes() {
		ports = append(ports, fmt.Sprintf("{name: %s, port: %d, protocol: %s}", m, flowPort(m), strings.ToUpper(protocolOf(m))))
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s}
spec:
  ipFamilyPolicy: RequireDualStack
  %s
  ports: [%s, {name: http, port: 8081}]
---`, name, selector, strings.Join(ports, ", "))
}

// onScene makes what is missing of the scene, with no policies.
func onScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, servers: map[string]*labtest.Pod{}, vips: map[string]map[int]netip.Addr{}}
	text := map[string]string{
		"west": sceneServer("a", "node-1", "role: client") +
			sceneServer("b1", "node-1", "is: closed") + sceneServer("b2", "node-2", "is: closed") +
			sceneServer("c1", "node-1", "is: open") + sceneServer("c2", "node-2", "is: open"),
		"canada": sceneServer("d", "node-1", "is: open") + sceneServer("e", "node-1", "is: closed") + sceneServer("a", "node-1", "role: client"),
	}
	for _, name := range []string{"b1", "b2", "c1", "c2"} {
		text["west"] += sceneService(name, "selector: {app: "+name+"}")
	}
	for _, c := range lab.Clusters {
		n := c.In(t, sceneNamespace)
		n.Apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + sceneNamespace + "}\n")
		n.Wait("the ServiceAccount default", func(ctx context.Context) (string, bool, error) {
			_, err := c.Client.CoreV1().ServiceAccounts(n.Name).Get(ctx, "default", metav1.GetOptions{})
			return "", err == nil, err
		})
		s.unpolice(c)
		n.Apply(text[c.Name])
	}
	s.client = west().In(t, sceneNamespace).Pod("a")
	for _, name := range []string{"b1", "b2", "c1", "c2"} {
		s.servers[name] = west().In(t, sceneNamespace).Pod(name)
		s.vips[name] = s.service(west(), name)
	}
	for _, name := range []string{"d", "e"} {
		s.servers[name] = canada().In(t, sceneNamespace).Pod(name)
	}
	t.Cleanup(func() {
		for _, c := range lab.Clusters {
			s.unpolice(c)
		}
	})
	return s
}

// service are the addresses of a Service.
func (s *scene) service(c *labtest.Cluster, name string) map[int]netip.Addr {
	s.t.Helper()
	service, err := c.Client.CoreV1().Services(sceneNamespace).Get(s.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	found := map[int]netip.Addr{}
	for _, text := range service.Spec.ClusterIPs {
		a, err := netip.ParseAddr(text)
		if err != nil {
			s.t.Fatal(err)
		}
		family := 6
		if a.Is4() {
			family = 4
		}
		found[family] = a
	}
	return found
}

// unpolice takes away the scene's policies of a cluster. The test's own context
// may have ended.
func (s *scene) unpolice(c *labtest.Cluster) {
	s.t.Helper()
	err := c.Client.NetworkingV1().NetworkPolicies(sceneNamespace).DeleteCollection(
		context.WithoutCancel(s.t.Context()), metav1.DeleteOptions{}, metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
}

// scenePolicy is a policy of the scene's namespace, its spec in YAML's flow style.
func scenePolicy(name, spec string) string {
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s}\nspec: %s\n---\n", name, spec)
}

// ingressFrom is a spec: only these may come to the pods with these labels.
func ingressFrom(selected, peers string) string {
	return fmt.Sprintf("{podSelector: {matchLabels: {%s}}, policyTypes: [Ingress], ingress: [{from: [%s]}]}", selected, peers)
}

// police applies policies.
func (s *scene) police(c *labtest.Cluster, text string) {
	s.t.Helper()
	c.In(s.t, sceneNamespace).Apply(text)
}

// label gives a pod of the scene a label, as `kubectl label --overwrite` does.
func (s *scene) label(c *labtest.Cluster, pod, key, value string) {
	s.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, key, value)
	_, err := c.Client.CoreV1().Pods(sceneNamespace).Patch(context.WithoutCancel(s.t.Context()), pod,
		types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
}

// viaServices are flows of the modes to the Services of west's servers.
func (s *scene) viaServices(modes int, servers ...string) []flow {
	var flows []flow
	for _, name := range servers {
		for _, m := range allModes()[:modes] {
			for _, family := range []int{4, 6} {
				flows = append(flows, flow{name, m, s.vips[name][family]})
			}
		}
	}
	return flows
}

// agentStatus is the status of a node, with its dataplane.
func agentStatus(t *testing.T, node string) api.Status {
	t.Helper()
	var last api.Status
	waitUntil(t, "the status of "+node, func(ctx context.Context) (string, bool) {
		s, err := labtest.AskAgent[api.Status](ctx, lab, node, api.PathStatus)
		last = s
		return fmt.Sprint(err), err == nil && s.Dataplane != nil
	})
	return last
}

// waitUntil polls for a condition, which says what it sees as long as it does
// not hold.
func waitUntil(t *testing.T, what string, condition func(ctx context.Context) (seen string, ok bool)) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		seen, ok := condition(context.WithoutCancel(t.Context())) // a cleanup waits too
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited 90 s for %s; last seen: %s", what, seen)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// waitForces waits until every node's kernel holds what is wanted there.
func waitForces(t *testing.T) {
	t.Helper()
	for _, node := range nodes() {
		waitUntil(t, "enforcement on "+node, func(ctx context.Context) (string, bool) {
			s, err := labtest.AskAgent[api.Status](ctx, lab, node, api.PathStatus)
			if err != nil || s.Dataplane == nil {
				return fmt.Sprint(err), false
			}
			return fmt.Sprintf("%s %+v", s.State, s.Dataplane), s.State == api.AgentInSync && s.Ready && s.Dataplane.InForce
		})
	}
}

// explanations are what a node's agent says of connections from one pod to
// another, one of each family, and of what its kernel holds of that. Both are
// named by their addresses, which have a meaning without their cluster too.
func explanations(ctx context.Context, node string, from, to *labtest.Pod) ([]api.Explanation, error) {
	var all []api.Explanation
	for _, family := range []int{4, 6} {
		query := url.Values{
			api.ParamSource: {from.Address(family).String()}, api.ParamDestination: {to.Address(family).String()}, api.ParamPort: {"7001/TCP"},
		}
		x, err := labtest.AskAgent[api.Explanation](ctx, lab, node, api.PathExplain+"?"+query.Encode())
		if err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	return all, nil
}

// inForceAs is whether these say that the result is wanted and in force.
func inForceAs(all []api.Explanation, result string) bool {
	for _, x := range all {
		for _, f := range x.Flows {
			// Where nothing is enforced, the kernel has nothing of it.
			if f.Result != result || f.Kernel != nil && (!f.Kernel.Agrees || f.Kernel.Pending) {
				return false
			}
		}
		if len(x.Flows) == 0 {
			return false
		}
	}
	return true
}

// anyIsolated is whether a policy restricts one of the ends.
func anyIsolated(all []api.Explanation) bool {
	for _, x := range all {
		for _, f := range x.Flows {
			for _, c := range f.Checks {
				if c.Isolated {
					return true
				}
			}
		}
	}
	return false
}

// reaches waits until the kernels let the client reach the servers, or do not let
// it: of its own node and of theirs, whichever is to enforce it. If they are to
// let it, a policy has to be what does so.
func (s *scene) reaches(want string, servers ...string) {
	s.t.Helper()
	for _, name := range servers {
		p := s.servers[name]
		waitUntil(s.t, fmt.Sprintf("%s: %s to %s", want, s.client, p), func(ctx context.Context) (string, bool) {
			good, restricted, seen := 0, false, ""
			ends := []string{p.NodePath(), s.client.NodePath()}
			for _, node := range ends {
				all, err := explanations(ctx, node, s.client, p)
				if err != nil {
					return err.Error(), false
				}
				seen += fmt.Sprintf("%s: %+v\n", node, all)
				restricted = restricted || anyIsolated(all)
				if inForceAs(all, want) {
					good++
				}
			}
			return seen, good == len(ends) && restricted || want == api.ResultDenied && good > 0
		})
	}
}

// unlabel takes a label of a pod of west away.
func (s *scene) unlabel(pod, key string) {
	s.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, key)
	_, err := west().Client.CoreV1().Pods(sceneNamespace).Patch(context.WithoutCancel(s.t.Context()), pod,
		types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
}
