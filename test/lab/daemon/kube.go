package daemon

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/overland-net/overland/test/lab/kubeclient"
	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/topology"
)

// applyAddons applies the cluster's manifests with the real kubectl.
func (d *Daemon) applyAddons(ctx context.Context, c *cluster) error {
	var err error
	// The first requests may meet an API server whose own objects, namespaces
	// among them, are still being made.
	for ctx.Err() == nil {
		var out bytes.Buffer
		cmd := exec.Command(filepath.Join(d.dir.Bin(), "kubectl"), "--kubeconfig", c.Kubeconfig(),
			"apply", "--server-side", "-f", "-")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.Addons()), &out, &out
		cmd.Env = []string{"HOME=" + d.dir.Cluster(c.Name)}
		if err = ns.Net(d.fabric.Path(c.ControlPlane.Namespace)).Start(cmd); err != nil {
			return err
		}
		if err = cmd.Wait(); err == nil {
			return nil
		}
		err = fmt.Errorf("apply the add-ons of cluster %s: %w: %s", c.Name, err, strings.TrimSpace(out.String()))
		time.Sleep(200 * time.Millisecond)
	}
	return err
}

func (d *Daemon) client(t topology.Cluster) (*kubernetes.Clientset, error) {
	kubeconfig := filepath.Join(d.dir.Cluster(t.Name), "kubeconfig")
	config, err := kubeclient.Config(kubeconfig, d.fabric.Path(t.ControlPlane.Namespace))
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// awaitReady waits until every node is Ready and cluster DNS is available.
func (d *Daemon) awaitReady(ctx context.Context, t topology.Cluster) error {
	client, err := d.client(t)
	if err != nil {
		return err
	}
	for {
		missing := notReady(ctx, client, t)
		if missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cluster %s is not ready: %s", t.Name, missing)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// notReady says what a cluster still lacks, or nothing.
func notReady(ctx context.Context, client *kubernetes.Clientset, t topology.Cluster) string {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	for _, want := range t.Nodes {
		i := slices.IndexFunc(nodes.Items, func(n corev1.Node) bool { return n.Name == want.Name })
		if i < 0 {
			return fmt.Sprintf("node %s has not registered", want.Name)
		}
		if reason := nodeNotReady(nodes.Items[i]); reason != "" {
			return fmt.Sprintf("node %s: %s", want.Name, reason)
		}
	}
	dns, err := client.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	if dns.Status.ReadyReplicas < *dns.Spec.Replicas {
		return fmt.Sprintf("DNS: %d of %d pods ready", dns.Status.ReadyReplicas, *dns.Spec.Replicas)
	}
	return ""
}

func nodeNotReady(n corev1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				return ""
			}
			return c.Reason + ": " + c.Message
		}
	}
	return "it has not reported its state"
}

// hostPodsRunning reports whether every host-network pod of a node is ready and
// was started since: until the kubelet reports again, the API server tells what
// was so before a reboot.
func hostPodsRunning(ctx context.Context, client *kubernetes.Clientset, node string, since time.Time) (bool, error) {
	pods, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return false, fmt.Errorf("list the pods of node %s: %w", node, err)
	}
	return !slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool {
		return p.Spec.HostNetwork && p.DeletionTimestamp == nil && !readySince(p, since)
	}), nil
}

func readySince(p corev1.Pod, since time.Time) bool {
	ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	// The API tells times in whole seconds.
	since = since.Truncate(time.Second)
	return ready && !slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.State.Running == nil || c.State.Running.StartedAt.Time.Before(since)
	})
}

func joinSorted(names []string) string {
	slices.Sort(names)
	return strings.Join(names, ", ")
}
