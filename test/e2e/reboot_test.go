package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

// onThe are the world's pods on a node, the host-network one last.
func onThe(t *testing.T, node string) []*labtest.Pod {
	t.Helper()
	var pods []*labtest.Pod
	for _, name := range []string{"a", "b", "host"} {
		for _, p := range worldPods(t, name) {
			if p.NodePath() == node {
				pods = append(pods, p)
			}
		}
	}
	return pods
}

// bootID is what a node's object says of its boot.
func bootID(t *testing.T, c *labtest.Cluster, node string) string {
	t.Helper()
	object, err := c.Client.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return object.Status.NodeInfo.BootID
}

func TestARebootedNodeKeepsItsPodsWhichGetNewAddresses(t *testing.T) {
	for _, tt := range []struct{ node, first string }{{"node-1", "kube-proxy"}, {"node-2", "agent"}} {
		t.Run("with "+tt.first+" first", func(t *testing.T) { reboot(t, tt.node, tt.first) })
	}
}

func reboot(t *testing.T, name, first string) {
	c := canada()
	node := c.Name + "/" + name
	before, boot := onThe(t, node), bootID(t, c, name)
	lab.MustNodeExec(t, node, "sh", "-c", "touch /run/mark /tmp/mark /etc/mark /opt/mark /var/lib/mark")

	lab.Reboot(t, node, first)

	after := awaitRestarted(t, before)
	for i, p := range after {
		if p.UID != before[i].UID {
			t.Errorf("%s has the uid %s, which was %s", p, p.UID, before[i].UID)
		}
		if p.Object.Spec.HostNetwork {
			continue
		}
		for _, family := range families() {
			if a := p.Address(family); !a.IsValid() || a == before[i].Address(family) {
				t.Errorf("%s has the address %s, which was %s", p, a, before[i].Address(family))
			}
		}
	}
	if now := bootID(t, c, name); now == boot || now == "" {
		t.Errorf("the boot id is %q, which was %q", now, boot)
	}
	marks := lab.NodeExec(t, node, "sh", "-c", "ls /run/mark /tmp/mark /etc/mark /opt/mark /var/lib/mark 2>/dev/null").Stdout
	if got := strings.Fields(marks); !slices.Equal(got, []string{"/etc/mark", "/opt/mark", "/var/lib/mark"}) {
		t.Errorf("of the files before, the node has %v", got)
	}
	checkOldInterfaces(t, node, after)
	others := worldPods(t, "b")
	labtest.Eventually(t, betweenPods(after[:1], others)...)
	labtest.Eventually(t, betweenPods(others, after[:1])...)
	checkServices(t, after[0])
}

// awaitRestarted waits until every container of the pods was started again and
// all are Ready.
func awaitRestarted(t *testing.T, before []*labtest.Pod) []*labtest.Pod {
	t.Helper()
	n := before[0].Cluster.In(t, before[0].Namespace)
	n.Wait(fmt.Sprintf("the pods of %s to run again", before[0].NodePath()), func(ctx context.Context) (string, bool, error) {
		for _, p := range before {
			object, err := n.Client.CoreV1().Pods(n.Name).Get(ctx, p.Name, metav1.GetOptions{})
			if err != nil {
				return "", false, err
			}
			s, old := object.Status.ContainerStatuses[0], p.Object.Status.ContainerStatuses[0]
			if !s.Ready || s.RestartCount == old.RestartCount || s.ContainerID == old.ContainerID {
				return fmt.Sprintf("%s is not restarted and Ready", p), false, nil
			}
		}
		return "all", true, nil
	})
	var after []*labtest.Pod
	for _, p := range before {
		after = append(after, n.Pod(p.Name))
	}
	return after
}

// checkOldInterfaces tells interfaces of pods that are not there any more.
func checkOldInterfaces(t *testing.T, node string, pods []*labtest.Pod) {
	t.Helper()
	list, err := pods[0].Cluster.Client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + pods[0].Node})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range list.Items {
		names = append(names, hostVeth(p.Namespace, p.Name))
	}
	for _, l := range decode[link](t, lab.MustNodeExec(t, node, "ip", "-json", "link")) {
		if strings.HasPrefix(l.Name, "azv") && !slices.Contains(names, l.Name) {
			t.Errorf("%s has the interface %s of no pod", node, l.Name)
		}
	}
}

// checkServices asks for the API server by the name of its Service, which takes
// kube-proxy's rules on the pod's node, for cluster DNS too.
func checkServices(t *testing.T, client *labtest.Pod) {
	t.Helper()
	labtest.Eventually(t, labtest.Probe{
		From: labtest.FromPod(client), To: labtest.Target("tcp", "kubernetes.default", 443),
		// What is asked is not TLS: the server ends the connection.
		Want: labtest.Want{Kind: "closed"},
	})
}
