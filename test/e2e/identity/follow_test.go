package identity

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
)

const twoPods = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, overland.dev/cluster: forged, cluster.overland.dev/region: forged}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: agnhost
        args: [pause]
        ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]
`

// deployed are the pods of a Deployment in a new namespace of the cluster.
func deployed(t *testing.T, c *labtest.Cluster) (*labtest.Namespace, []*labtest.Pod) {
	t.Helper()
	n := c.NewNamespace(t, "identity")
	n.Apply(twoPods)
	return n, n.Pods("app=web", 2)
}

func TestIdentityEveryAgentKnowsEveryEndpointOfBothClusters(t *testing.T) {
	for _, c := range []*labtest.Cluster{west(), canada()} {
		deployed(t, c)
	}
	untilTruth(t)
}

func TestIdentityFollowsEveryChange_1_3(t *testing.T) {
	n, pods := deployed(t, canada())
	untilTruth(t)
	pod := pods[0]
	ctx := t.Context()
	patch := func(text string) {
		t.Helper()
		_, err := n.Client.CoreV1().Pods(n.Name).Patch(ctx, pod.Name, types.MergePatchType, []byte(text), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		untilTruth(t)
	}
	patch(`{"metadata":{"labels":{"tier":"gold"}}}`)
	patch(`{"metadata":{"labels":{"tier":"silver","x":""}}}`)
	patch(`{"metadata":{"labels":{"tier":null,"x":null}}}`)
	if err := n.Client.CoreV1().Pods(n.Name).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n.Wait("the deleted pod to be gone", gone(n, pod.Name))
	n.Pods("app=web", 2)
	untilTruth(t)
}

func gone(n *labtest.Namespace, pod string) labtest.Condition {
	return func(ctx context.Context) (string, bool, error) {
		pods, err := n.Client.CoreV1().Pods(n.Name).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + pod})
		return fmt.Sprintf("%d of that name", len(pods.Items)), len(pods.Items) == 0, err
	}
}

func TestIdentityFollowsNamespaceLabels_1_4(t *testing.T) {
	n, _ := deployed(t, canada())
	matching := func(expression string, want int) {
		t.Helper()
		until(t, fmt.Sprintf("%d endpoints of %s", want, expression), func(ctx context.Context) (string, bool) {
			list, err := evaluate(ctx, "west/node-1", expression)
			if err != nil {
				return err.Error(), false
			}
			return fmt.Sprintf("%d endpoints", len(list.Items)), len(list.Items) == want
		})
	}
	label := func(text string) {
		t.Helper()
		if _, err := n.Client.CoreV1().Namespaces().Patch(t.Context(), n.Name, types.MergePatchType, []byte(text), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	own := fmt.Sprintf("overland.dev/namespace == '%s'", n.Name)
	matching(own, 2)
	matching(own+" && namespace.overland.dev/team == 'blue'", 0)
	label(`{"metadata":{"labels":{"team":"blue"}}}`)
	matching(own+" && namespace.overland.dev/team == 'blue'", 2)
	label(`{"metadata":{"labels":{"team":"red"}}}`)
	matching(own+" && namespace.overland.dev/team == 'blue'", 0)
	matching(own+" && namespace.overland.dev/team in {'red'} && overland.dev/cluster == 'canada'", 2)
	matching(own+" && overland.dev/cluster == 'west'", 0)
	// Labels under the reserved prefixes are not the pod's to bear.
	matching(own+" && overland.dev/cluster == 'forged'", 0)
	matching(own+" && cluster.overland.dev/region == 'forged'", 0)
	matching(own+" && cluster.overland.dev/region == 'canada'", 2) // of its configuration, by way of connect
	matching(own+" && overland.dev/service-account == 'default'", 2)
	matching(own+" && overland.dev/kind == 'Node'", 0)
	matching("overland.dev/kind == 'Node' && overland.dev/cluster == 'canada'", 2)
}

func TestIdentityReservedLabelsAreCounted_1_4(t *testing.T) {
	deployed(t, canada())
	until(t, "objects with reserved labels to be counted", func(ctx context.Context) (string, bool) {
		c, err := clusterOn(ctx, "west/node-1", "canada")
		if err != nil {
			return err.Error(), false
		}
		return fmt.Sprint(c.ReservedLabels), c.ReservedLabels >= 2
	})
}

// The time that it takes is a benchmark's matter; it is told here for the log.
func TestIdentityNewRemotePodsAppearOnEveryNode(t *testing.T) {
	n := canada().NewNamespace(t, "fresh")
	n.Apply(twoPods)
	for _, pod := range n.Pods("app=web", 2) {
		name := fmt.Sprintf("Pod canada/%s/%s", n.Name, pod.Name)
		began := time.Now()
		for _, node := range nodes() {
			until(t, name+" on "+node, func(ctx context.Context) (string, bool) {
				w, err := snapshot(ctx, node)
				if err != nil {
					return err.Error(), false
				}
				_, ok := w[name]
				return fmt.Sprintf("%d endpoints without it", len(w)), ok
			})
		}
		t.Logf("%s was known on all nodes %.0f ms after it was Ready", name, time.Since(began).Seconds()*1000)
	}
}

func evaluate(ctx context.Context, node, expression string) (api.EndpointList, error) {
	return labtest.AskAgent[api.EndpointList](ctx, lab, node, api.PathEvaluate+"?"+query(api.ParamExpression, expression))
}
