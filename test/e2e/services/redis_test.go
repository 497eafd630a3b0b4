package services

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

// The manifests of the Redis story: testdb is the same Service in both clusters,
// and testdb-federated what the application is pointed at.
const (
	testdb = `
apiVersion: v1
kind: Service
metadata:
  annotations:
    redis.io/last-keys: '[]'
  labels:
    app: redis-enterprise
    redis.io/bdb: "2"
    redis.io/cluster: demo-clustera
  name: testdb
  namespace: redis
spec:
  internalTrafficPolicy: Cluster
  ipFamilies:
  - IPv4
  ipFamilyPolicy: SingleStack
  ports:
  - name: redis
    port: 11069
    protocol: TCP
    targetPort: 11069
  selector:
    redis.io/bdb-2: "2"
  sessionAffinity: None
  type: ClusterIP
`
	testdbFederated = `
apiVersion: v1
kind: Service
metadata:
  name: testdb-federated
  namespace: redis
  annotations:
    federation.www.tigera.io/serviceSelector: federation == "yes"
spec:
  ports:
    - name: redis
      port: 11069
      protocol: TCP
  type: ClusterIP
`
)

// redis is a database server as the operator of the story runs it.
func redis(name string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: redis, labels: {redis.io/bdb-2: "2"}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: redis
    image: redis
    args: [--protected-mode, "no", --port, "11069"]
    readinessProbe: {tcpSocket: {port: 11069}, periodSeconds: 1}
`, name)
}

// gets waits until `kubectl get endpoints` shows those of a name.
func gets(t *testing.T, c *labtest.Cluster, name, want string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^` + name + ` +(\S+) `)
	labtest.Until(t, fmt.Sprintf("kubectl get endpoints to show %s for %s", want, name), func(context.Context) (string, bool) {
		out := c.Kubectl(t, "get", "endpoints", "-n", "redis")
		found := line.FindStringSubmatch(out.Stdout)
		return out.String(), found != nil && found[1] == want
	})
}

func TestServicesTheRedisStoryWorksUnchanged_4_1_4_6(t *testing.T) {
	w, c := west().NewNamespaceNamed(t, "redis"), canada().NewNamespaceNamed(t, "redis")
	w.Apply(redis("demo-clustera-0"))
	c.Apply(redis("demo-clusterb-0"))
	for _, n := range []*labtest.Namespace{w, c} {
		n.Apply(testdb)
		if out := n.Kubectl(t, "label", "svc", "-n", "redis", "testdb", "federation=yes"); out.Code != 0 {
			t.Fatal(out)
		}
	}
	here, there := w.Pod("demo-clustera-0"), c.Pod("demo-clusterb-0")
	gets(t, west(), "testdb", here.Address(4).String()+":11069")
	w.Apply(testdbFederated)
	both := []string{here.Address(4).String() + ":11069", there.Address(4).String() + ":11069"}
	gets(t, west(), "testdb-federated", strings.Join(both, ","))

	// The database of west goes; that of canada serves on.
	if err := w.Client.CoreV1().Pods("redis").Delete(t.Context(), here.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	gets(t, west(), "testdb", "<none>")
	gets(t, west(), "testdb-federated", both[1])
	e, err := endpointsOf(t.Context(), w, "testdb-federated")
	if err != nil || e == nil {
		t.Fatal(e, err)
	}
	if got := e.Annotations["federation.www.tigera.io/serviceSelector"]; got != `federation == "yes"` {
		t.Errorf("the annotation is %q", got)
	}
	if len(e.Subsets) != 1 || len(e.Subsets[0].Addresses) != 1 || len(e.Subsets[0].Ports) != 1 {
		t.Fatalf("the subsets are %+v", e.Subsets)
	}
	a, port := e.Subsets[0].Addresses[0], e.Subsets[0].Ports[0]
	if a.NodeName == nil || *a.NodeName != there.Node || a.TargetRef == nil || a.TargetRef.Kind != "Pod" ||
		a.TargetRef.Name != "canada/demo-clusterb-0" || a.TargetRef.Namespace != "redis" || string(a.TargetRef.UID) != there.UID {
		t.Errorf("the address is %+v, of %+v", a, a.TargetRef)
	}
	if port.Name != "redis" || port.Port != 11069 || port.Protocol != "TCP" {
		t.Errorf("the port is %+v", port)
	}

	// A client of west reaches canada's database by the Service's name.
	w.Apply("apiVersion: v1\nkind: Pod\nmetadata: {name: client}\nspec: {terminationGracePeriodSeconds: 1, " +
		"containers: [{name: redis, image: redis, command: [sleep, '3600']}]}\n")
	client := w.Pod("client")
	labtest.Until(t, "the database to answer", func(context.Context) (string, bool) {
		out := client.Exec(t, "redis-cli", "-h", "testdb-federated.redis", "-p", "11069", "set", "cart", "7 items")
		return out.String(), out.Stdout == "OK\n"
	})
	if out := there.Exec(t, "redis-cli", "-p", "11069", "get", "cart"); out.Stdout != "7 items\n" {
		t.Errorf("canada's database has %s", out)
	}
}
