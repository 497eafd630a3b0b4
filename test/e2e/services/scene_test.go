//lint:file-ignore SA1019 Endpoints are written for those who still read them

package services

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

// pair is a namespace of one name in both clusters.
type pair struct {
	t            *testing.T
	west, canada *labtest.Namespace
}

func newPair(t *testing.T, prefix string) pair {
	t.Helper()
	w := west().NewNamespace(t, prefix)
	return pair{t, w, canada().NewNamespaceNamed(t, w.Name)}
}

// server is a pod that tells its name over TCP and UDP on port 8080, and is ready
// as long as there is no file /tmp/unready.
func server(name, app string) string {
	return strings.NewReplacer("NAME", name, "APP", app).Replace(`
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: APP}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: netprobe
    image: netprobe
    args: [serve, --name, NAME, --tcp, "8080", --udp, "8080", --http, "8081"]
    ports: [{name: web, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /healthz, port: 8081}, periodSeconds: 1}
---
`)
}

// backing is a Service of both families for the pods of an app, with the label
// that federated asks for.
func backing(name, app string) string {
	return strings.NewReplacer("NAME", name, "APP", app).Replace(`
apiVersion: v1
kind: Service
metadata: {name: NAME, labels: {federation: "yes"}}
spec:
  selector: {app: APP}
  ipFamilyPolicy: RequireDualStack
  ports: [{name: web, port: 80, targetPort: 8080}]
---
`)
}

// federated is a federated Service with more annotations, in YAML's flow style.
func federated(name, more string) string {
	return strings.NewReplacer("NAME", name, "MORE", more).Replace(`
apiVersion: v1
kind: Service
metadata:
  name: NAME
  annotations: {federation.overland.dev/serviceSelector: "federation == 'yes'", MORE}
spec:
  ipFamilyPolicy: RequireDualStack
  ports: [{name: web, port: 80}]
---
`)
}

const managedBy = "endpointslice.kubernetes.io/managed-by=federation.overland.dev"

// ours are our EndpointSlices of a Service, in order of their names.
func ours(ctx context.Context, n *labtest.Namespace, service string) ([]discoveryv1.EndpointSlice, error) {
	list, err := n.Client.DiscoveryV1().EndpointSlices(n.Name).List(ctx, metav1.ListOptions{
		LabelSelector: managedBy + ",kubernetes.io/service-name=" + service,
	})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// published are the addresses of a federated Service as its slices have them, each
// with the cluster that it is of: CLUSTER ADDRESS, and "not ready" if it is not.
func published(ctx context.Context, n *labtest.Namespace, service string) ([]string, error) {
	all, err := ours(ctx, n, service)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, s := range all {
		for _, e := range s.Endpoints {
			for _, a := range e.Addresses {
				text := s.Labels["federation.overland.dev/source-cluster"] + " " + a
				if e.Conditions.Ready == nil || !*e.Conditions.Ready {
					text += " not ready"
				}
				found = append(found, text)
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

// publishes waits until a federated Service has exactly these pods, ready.
func publishes(n *labtest.Namespace, t *testing.T, service string, pods ...*labtest.Pod) {
	t.Helper()
	want := addressesOf(pods...)
	labtest.Until(t, fmt.Sprintf("Service %s/%s to have %v", n.Name, service, want), func(ctx context.Context) (string, bool) {
		got, err := published(ctx, n, service)
		return fmt.Sprint(got, err), err == nil && slices.Equal(got, want)
	})
}

// addressesOf is what published gives for ready pods.
func addressesOf(pods ...*labtest.Pod) []string {
	var want []string
	for _, p := range pods {
		for _, a := range p.Addresses {
			want = append(want, p.Cluster.Name+" "+a.String())
		}
	}
	slices.Sort(want)
	return want
}

// condition waits until a Service's condition has that status and reason.
func condition(t *testing.T, n *labtest.Namespace, service string, status metav1.ConditionStatus, reason string) metav1.Condition {
	t.Helper()
	var last metav1.Condition
	labtest.Until(t, fmt.Sprintf("condition %s, %s of %s/%s", status, reason, n.Name, service), func(ctx context.Context) (string, bool) {
		s, err := n.Client.CoreV1().Services(n.Name).Get(ctx, service, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		for _, c := range s.Status.Conditions {
			if c.Type == "overland.dev/Federated" {
				last = c
				return fmt.Sprintf("%s, %s: %s", c.Status, c.Reason, c.Message), c.Status == status && c.Reason == reason
			}
		}
		return fmt.Sprintf("%+v", s.Status.Conditions), false
	})
	return last
}

// leader is the node whose agent leads a cluster, and the agent's pod.
func leader(t *testing.T, c *labtest.Cluster) (node, pod string) {
	t.Helper()
	labtest.Until(t, "a leader of "+c.Name, func(ctx context.Context) (string, bool) {
		lease, err := c.Client.CoordinationV1().Leases("overland-system").Get(ctx, "overland-leader", metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
			return "nobody holds the Lease", false
		}
		pod = *lease.Spec.HolderIdentity
		p, err := c.Client.CoreV1().Pods("overland-system").Get(ctx, pod, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		node = c.Name + "/" + p.Spec.NodeName
		return "", true
	})
	return node, pod
}

// answers are the servers that answer a client who asks a name often: who, and how
// many times; "" stands for no answer.
func answers(ctx context.Context, client *labtest.Pod, host string) (map[string]int, error) {
	const times = 24
	results, err := labtest.Ask(ctx, labtest.FromPod(client), slices.Repeat([]string{labtest.Target("tcp", host, 80)}, times)...)
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for _, r := range results {
		found[r.Server]++
	}
	return found, nil
}

// reaches waits until exactly these servers answer a client, and nothing fails.
func reaches(t *testing.T, client *labtest.Pod, host string, servers ...string) {
	t.Helper()
	slices.Sort(servers)
	labtest.Until(t, fmt.Sprintf("%s to be answered by %v", client, servers), func(ctx context.Context) (string, bool) {
		got, err := answers(ctx, client, host)
		return fmt.Sprint(got, err), err == nil && slices.Equal(slices.Sorted(maps.Keys(got)), servers)
	})
}

// endpointsOf is the Endpoints object of a Service, nil if there is none.
func endpointsOf(ctx context.Context, n *labtest.Namespace, name string) (*corev1.Endpoints, error) {
	e, err := n.Client.CoreV1().Endpoints(n.Name).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return e, err
}
