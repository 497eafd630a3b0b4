package identity

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
)

// patience is how long agents may take to learn the truth after whatever
// happened. A lost connection is noticed, and tried again, within 20 s each.
const patience = 90 * time.Second

// known is what an agent should know, or knows, of an endpoint.
type known struct {
	UID, Node, ServiceAccount string
	Labels                    map[string]string
	Addresses, Ports, Refused []string
	Terminating               bool
}

// world is all endpoints, by kind, cluster, namespace and name.
type world map[string]known

// truth is what the API servers of the clusters say, in the plainest way.
func truth(ctx context.Context, clusters ...*labtest.Cluster) (world, error) {
	all := world{}
	for _, c := range clusters {
		pods, err := c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list the pods of cluster %s: %w", c.Name, err)
		}
		for _, p := range pods.Items {
			if p.Spec.HostNetwork || len(p.Status.PodIPs) == 0 || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue
			}
			all[fmt.Sprintf("Pod %s/%s/%s", c.Name, p.Namespace, p.Name)] = podTruth(p)
		}
		nodes, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list the nodes of cluster %s: %w", c.Name, err)
		}
		for _, n := range nodes.Items {
			k := known{UID: string(n.UID), Node: n.Name, Labels: own(n.Labels)}
			for _, a := range n.Status.Addresses {
				if a.Type == corev1.NodeInternalIP {
					k.Addresses = append(k.Addresses, a.Address)
				}
			}
			slices.Sort(k.Addresses)
			all[fmt.Sprintf("Node %s/%s", c.Name, n.Name)] = k
		}
	}
	return all, nil
}

func podTruth(p corev1.Pod) known {
	k := known{
		UID: string(p.UID), Node: p.Spec.NodeName, ServiceAccount: p.Spec.ServiceAccountName,
		Labels: own(p.Labels), Terminating: p.DeletionTimestamp != nil,
	}
	for _, ip := range p.Status.PodIPs {
		k.Addresses = append(k.Addresses, ip.IP)
	}
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			if port.Name != "" {
				k.Ports = append(k.Ports, fmt.Sprintf("%s %s %d", port.Name, port.Protocol, port.ContainerPort))
			}
		}
	}
	slices.Sort(k.Addresses)
	slices.Sort(k.Ports)
	return k
}

// own is labels less reserved ones (semantics 1.4).
func own(labels map[string]string) map[string]string {
	kept := maps.Clone(labels)
	maps.DeleteFunc(kept, func(k, _ string) bool {
		return strings.HasPrefix(k, "overland.dev/") || strings.Contains(k, ".overland.dev/") ||
			k == "federation.tigera.io/remoteClusterName" || k == "federation.www.tigera.io/remoteClusterName"
	})
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// snapshot is what the agent of a node knows.
func snapshot(ctx context.Context, node string) (world, error) {
	list, err := labtest.AskAgent[api.EndpointList](ctx, lab, node, api.PathEndpoints)
	if err != nil {
		return nil, err
	}
	all := world{}
	for _, e := range list.Items {
		k := known{
			UID: e.UID, Node: e.Node, ServiceAccount: e.ServiceAccount, Labels: e.Labels,
			Addresses: e.Addresses, Terminating: e.Terminating,
		}
		if len(k.Addresses) == 0 {
			k.Addresses = nil
		}
		slices.Sort(k.Addresses)
		for _, p := range e.Ports {
			k.Ports = append(k.Ports, fmt.Sprintf("%s %s %d", p.Name, p.Protocol, p.Port))
		}
		slices.Sort(k.Ports)
		for _, r := range e.Refused {
			k.Refused = append(k.Refused, r.Address+" "+r.Reason)
		}
		name := fmt.Sprintf("%s %s/%s/%s", e.Kind, e.Cluster, e.Namespace, e.Name)
		if e.Kind == api.KindNode {
			name = fmt.Sprintf("%s %s/%s", e.Kind, e.Cluster, e.Name)
		}
		all[name] = k
	}
	return all, nil
}

// until polls for a condition, which says what it saw as long as it does not
// hold.
func until(t *testing.T, what string, condition func(ctx context.Context) (seen string, ok bool)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		seen, ok := condition(t.Context())
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s; last seen: %s", patience, what, seen)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// untilTruth waits until each of the nodes' agents knows exactly what the API
// servers of both clusters say.
func untilTruth(t *testing.T, of ...string) {
	t.Helper()
	if len(of) == 0 {
		of = nodes()
	}
	for _, node := range of {
		until(t, "the truth on "+node, func(ctx context.Context) (string, bool) {
			have, err := snapshot(ctx, node)
			if err != nil {
				return err.Error(), false
			}
			want, err := truth(ctx, west(), canada())
			if err != nil {
				return err.Error(), false
			}
			diff := cmp.Diff(want, have)
			return "(-API servers, +agent)\n" + diff, diff == ""
		})
	}
}

// clusterOn is what a node's agent says of a cluster.
func clusterOn(ctx context.Context, node, cluster string) (api.Cluster, error) {
	list, err := labtest.AskAgent[api.ClusterList](ctx, lab, node, api.PathClusters)
	if err != nil {
		return api.Cluster{}, err
	}
	for _, c := range list.Items {
		if c.Name == cluster {
			return c, nil
		}
	}
	return api.Cluster{}, fmt.Errorf("the agent on %s knows no cluster %s", node, cluster)
}

// untilReason waits until an agent gives that reason for the state of a cluster.
func untilReason(t *testing.T, node, cluster, reason string) api.Cluster {
	t.Helper()
	var last api.Cluster
	until(t, fmt.Sprintf("reason %s of cluster %s on %s", reason, cluster, node), func(ctx context.Context) (string, bool) {
		c, err := clusterOn(ctx, node, cluster)
		if err != nil {
			return err.Error(), false
		}
		last = c
		return fmt.Sprintf("%s, %s: %s", c.State, c.Reason, c.Message), c.Reason == reason
	})
	return last
}
