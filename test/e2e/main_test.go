package e2e

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/overland-net/overland/test/lab/labtest"
)

// testsAtOnce is how many tests run in parallel: they mostly wait, so it is
// more than there are processors.
const testsAtOnce = "6"

// lab is up while the tests run. Those that disturb it are not parallel, so
// that they are alone with it.
var lab *labtest.Lab

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if err := flag.Set("test.parallel", testsAtOnce); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	up, down, err := labtest.Up("--dual-stack")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	lab = up
	code := m.Run()
	if err := down(code != 0); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	return code
}

func west() *labtest.Cluster   { return lab.Cluster("west") }
func canada() *labtest.Cluster { return lab.Cluster("canada") }

// families is what the lab has.
func families() []int { return []int{4, 6} }

// Ports of the servers that the manifests below start.
const (
	port     = 8080 // TCP, UDP and SCTP
	httpPort = 8081
	hostPort = 18080 // of servers on the nodes' own network
)

// serving are the arguments of a netprobe that serves on every port.
func serving(port, http int) string {
	return fmt.Sprintf(`["serve", "--tcp", "%d", "--udp", "%d", "--sctp", "%d", "--http", "%d"]`, port, port, port, http)
}

// fill puts values in the places of a YAML text: fill(text, "NAME", name, …).
func fill(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }

// server is a pod that serves, with the labels app=NAME.
func server(name, node string) string {
	return fill(`
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: NAME}}
spec:
  NODE
  terminationGracePeriodSeconds: 1
  containers:
  - {name: netprobe, image: netprobe, args: ARGS, readinessProbe: {httpGet: {path: /healthz, port: 8081}, periodSeconds: 1}}
---
`, "NAME", name, "NODE", onNode(node), "ARGS", serving(port, httpPort))
}

// onNode is the line of a pod's spec that binds it to a node, if one is named.
func onNode(node string) string {
	if node == "" {
		return "nodeName: ''"
	}
	return "nodeSelector: {kubernetes.io/hostname: " + node + "}"
}

// world is pods for all tests that only send packets: on each node of each
// cluster one of the DaemonSets a and b, and host, on the node's own network.
const world = "e2e-world"

const worldManifest = `
apiVersion: v1
kind: Namespace
metadata: {name: e2e-world}
`

const daemonSet = `---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: NAME}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      hostNetwork: HOST
      terminationGracePeriodSeconds: 1
      containers:
      - {name: netprobe, image: netprobe, args: ARGS, readinessProbe: {httpGet: {path: /healthz, port: HTTP}, periodSeconds: 1}}
`

// makeWorld applies the world once.
var makeWorld = sync.OnceValue(func() string {
	text := worldManifest
	for _, name := range []string{"a", "b"} {
		text += fill(daemonSet, "NAME", name, "HOST", "false", "ARGS", serving(port, httpPort), "HTTP", fmt.Sprint(httpPort))
	}
	return text + fill(daemonSet, "NAME", "host", "HOST", "true", "ARGS", serving(hostPort, hostPort+1), "HTTP", fmt.Sprint(hostPort+1))
})

// worldPods are the pods of the world's DaemonSets of that name, of both
// clusters, one for each node.
func worldPods(t *testing.T, name string) []*labtest.Pod {
	t.Helper()
	var all []*labtest.Pod
	for _, c := range lab.Clusters {
		n := c.In(t, world)
		if _, applied := worldApplied.LoadOrStore(c.Name, true); !applied {
			n.Apply(makeWorld())
		}
		n.DaemonSet(name)
		all = append(all, n.Pods("app="+name, len(c.Nodes))...)
	}
	return all
}

var worldApplied sync.Map // names of clusters
