package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/topology"
	"github.com/overland-net/overland/test/worlds"
)

// step is one request to an API server.
type step struct {
	what  string
	after int // steps of greater numbers come later
	do    func(context.Context) error
}

const worldPrefix = "world-"

// ofWorlds tells whether a namespace belongs to the random worlds.
func ofWorlds(namespace string) bool { return strings.HasPrefix(namespace, worldPrefix) }

// ensureNamespace makes a namespace that stays.
func ensureNamespace(t *testing.T, c *labtest.Cluster, name string) {
	t.Helper()
	n := c.In(t, name)
	n.Apply(fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot}\n", name))
	n.Wait("the ServiceAccount default", func(ctx context.Context) (string, bool, error) {
		_, err := c.Client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return "", err == nil, err
	})
}

// clearWorld takes away what a world has in a cluster, and waits until it is gone; the
// namespaces stay.
func clearWorld(c *labtest.Cluster) error {
	ctx, cancel := context.WithTimeout(context.Background(), labtest.WaitTimeout)
	defer cancel()
	now := int64(0)
	for _, name := range []string{"x", "y", "z"} {
		err := c.Client.NetworkingV1().NetworkPolicies(worldPrefix+name).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		if err == nil {
			err = c.Client.CoreV1().Pods(worldPrefix+name).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{})
		}
		if err != nil {
			return fmt.Errorf("clear namespace %s%s of %s: %w", worldPrefix, name, c.Name, err)
		}
	}
	for {
		pods, err := c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("wait for the pods of %s to be gone: %w", c.Name, err)
		}
		if !slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return ofWorlds(p.Namespace) }) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// steps are what makes a cluster what a world says.
func (g *globe) steps(c *labtest.Cluster, w worlds.World) ([]step, error) {
	ctx := g.t.Context()
	want, err := worlds.Objects(w, c.Name)
	if err != nil {
		return nil, err
	}
	podSteps, podErr := stepsOfPods(ctx, c, want.Pods)
	policySteps, policyErr := stepsOfPolicies(ctx, c, want.Policies)
	labelSteps, labelErr := stepsOfLabels(ctx, c, want, g.own[c.Name])
	return slices.Concat(podSteps, policySteps, labelSteps), errors.Join(podErr, policyErr, labelErr)
}

func stepsOfPods(ctx context.Context, c *labtest.Cluster, want []*corev1.Pod) ([]step, error) {
	have, err := c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", c.Name, err)
	}
	var all []step
	zero := int64(0)
	for _, p := range have.Items {
		if !ofWorlds(p.Namespace) || slices.ContainsFunc(want, func(v *corev1.Pod) bool { return same(&p, v) }) {
			continue
		}
		all = append(all, step{"delete pod " + p.Name, 0, func(ctx context.Context) error {
			return c.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
		}})
	}
	for _, p := range want {
		i := slices.IndexFunc(have.Items, func(v corev1.Pod) bool { return same(&v, p) })
		if i < 0 {
			all = append(all, step{"create pod " + p.Name, 1, func(ctx context.Context) error { return createPod(ctx, c, p) }})
			continue
		}
		if patch := patchOf(have.Items[i].ObjectMeta, p.ObjectMeta); patch != nil {
			all = append(all, step{"label pod " + p.Name, 0, func(ctx context.Context) error {
				_, err := c.Client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{})
				return err
			}})
		}
	}
	return all, nil
}

// createPod waits for the old pod of that name to be gone.
func createPod(ctx context.Context, c *labtest.Cluster, p *corev1.Pod) error {
	for {
		_, err := c.Client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// same tells whether a pod is the one that is wanted, labels apart.
func same(have, want *corev1.Pod) bool {
	if have.Namespace != want.Namespace || have.Name != want.Name || have.DeletionTimestamp != nil ||
		have.Spec.NodeName != want.Spec.NodeName || have.Spec.HostNetwork != want.Spec.HostNetwork ||
		have.Spec.ServiceAccountName != want.Spec.ServiceAccountName || len(have.Spec.Containers) != len(want.Spec.Containers) {
		return false
	}
	for i, c := range have.Spec.Containers {
		v := want.Spec.Containers[i]
		if len(c.Ports) != len(v.Ports) || !slices.Equal(c.Command, v.Command) {
			return false
		}
		for k, port := range c.Ports {
			if port.Name != v.Ports[k].Name || port.ContainerPort != v.Ports[k].ContainerPort || port.Protocol != v.Ports[k].Protocol {
				return false
			}
		}
	}
	return true
}

// patchOf gives an object the labels that it should have, and the annotations
// that are Overland's; nil if it has them.
func patchOf(have, want metav1.ObjectMeta) []byte {
	labels, annotations := difference(have.Labels, want.Labels), difference(overlands(have.Annotations), overlands(want.Annotations))
	if len(labels) == 0 && len(annotations) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels, "annotations": annotations}})
	if err != nil {
		panic(err) // strings always marshal
	}
	return patch
}

// difference is what to set; null for what to take away.
func difference(have, want map[string]string) map[string]*string {
	d := map[string]*string{}
	for k, v := range want {
		if old, ok := have[k]; !ok || old != v {
			d[k] = &v
		}
	}
	for k := range have {
		if _, ok := want[k]; !ok {
			d[k] = nil
		}
	}
	return d
}

func overlands(annotations map[string]string) map[string]string {
	kept := maps.Clone(annotations)
	maps.DeleteFunc(kept, func(k, _ string) bool { return !strings.HasPrefix(k, "overland.dev/") })
	return kept
}

func stepsOfPolicies(ctx context.Context, c *labtest.Cluster, want []*networkingv1.NetworkPolicy) ([]step, error) {
	have, err := c.Client.NetworkingV1().NetworkPolicies("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the policies of %s: %w", c.Name, err)
	}
	named := func(list []*networkingv1.NetworkPolicy, p *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
		for _, v := range list {
			if v.Namespace == p.Namespace && v.Name == p.Name {
				return v
			}
		}
		return nil
	}
	var all []step
	var there []*networkingv1.NetworkPolicy
	for i := range have.Items {
		p := &have.Items[i]
		there = append(there, p)
		if ofWorlds(p.Namespace) && named(want, p) == nil {
			all = append(all, step{"delete policy " + p.Name, 0, func(ctx context.Context) error {
				return c.Client.NetworkingV1().NetworkPolicies(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{})
			}})
		}
	}
	for _, p := range want {
		p = canonical(p)
		policies := c.Client.NetworkingV1().NetworkPolicies(p.Namespace)
		old := named(there, p)
		switch {
		case old == nil:
			all = append(all, step{"create policy " + p.Name, 1, func(ctx context.Context) error {
				_, err := policies.Create(ctx, p, metav1.CreateOptions{})
				return err
			}})
		case !equality.Semantic.DeepEqual(old.Spec, p.Spec) || !maps.Equal(old.Annotations, p.Annotations):
			all = append(all, step{"update policy " + p.Name, 0, func(ctx context.Context) error {
				_, err := policies.Update(ctx, p, metav1.UpdateOptions{})
				return err
			}})
		}
	}
	return all, nil
}

// canonical is a policy whose ranges have no bits beyond their length: new objects
// may not.
func canonical(p *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	p = p.DeepCopy()
	mask := func(peers []networkingv1.NetworkPolicyPeer) {
		for _, peer := range peers {
			if peer.IPBlock == nil {
				continue
			}
			peer.IPBlock.CIDR = masked(peer.IPBlock.CIDR)
			for i, e := range peer.IPBlock.Except {
				peer.IPBlock.Except[i] = masked(e)
			}
		}
	}
	for _, r := range p.Spec.Ingress {
		mask(r.From)
	}
	for _, r := range p.Spec.Egress {
		mask(r.To)
	}
	return p
}

func masked(cidr string) string {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return cidr
	}
	return p.Masked().String()
}

// stepsOfLabels are those of namespaces and nodes.
func stepsOfLabels(ctx context.Context, c *labtest.Cluster, want worlds.List, own map[string]map[string]string) ([]step, error) {
	var all []step
	for _, n := range want.Namespaces {
		have, err := c.Client.CoreV1().Namespaces().Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		if patch := patchOf(have.ObjectMeta, n.ObjectMeta); patch != nil {
			all = append(all, step{"label namespace " + n.Name, 0, func(ctx context.Context) error {
				_, err := c.Client.CoreV1().Namespaces().Patch(ctx, n.Name, types.MergePatchType, patch, metav1.PatchOptions{})
				return err
			}})
		}
	}
	for _, n := range want.Nodes {
		have, err := c.Client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		// Those that the node had before stay.
		meta := metav1.ObjectMeta{Labels: maps.Clone(own[n.Name]), Annotations: have.Annotations}
		maps.Copy(meta.Labels, n.Labels)
		if patch := patchOf(have.ObjectMeta, meta); patch != nil {
			all = append(all, step{"label node " + n.Name, 0, func(ctx context.Context) error {
				_, err := c.Client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, patch, metav1.PatchOptions{})
				return err
			}})
		}
	}
	return all, nil
}

// observe waits until the pods of a cluster are as the world wants them, and
// returns the world with what is there.
func (g *globe) observe(c *labtest.Cluster, w worlds.World) worlds.World {
	g.t.Helper()
	world := w.Cluster(c.Name)
	o := worlds.Observed{Labels: map[string]string{"region": c.Name}, Agent: worlds.Agent{ScopeOverride: "policy"}}
	for _, n := range c.Nodes {
		for _, r := range []topology.Range{n.Pods.V4, n.Pods.V6} {
			o.PodCIDRs = append(o.PodCIDRs, around(r.First))
		}
		for _, a := range topology.Addrs(n.Addresses) {
			o.NodeCIDRs = append(o.NodeCIDRs, around(a))
		}
	}
	n := c.In(g.t, worldPrefix+"x")
	n.Wait("the pods of the world", func(ctx context.Context) (string, bool, error) {
		pods, err := c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", false, err
		}
		o.Pods = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return !ofWorlds(p.Namespace) })
		if len(o.Pods) != len(world.Pods) {
			return fmt.Sprintf("%d pods", len(o.Pods)), false, nil
		}
		for _, p := range o.Pods {
			if !settled(&p, world.Pod(p.Namespace, p.Name)) {
				return fmt.Sprintf("pod %s/%s is %s", p.Namespace, p.Name, p.Status.Phase), false, nil
			}
		}
		return "", true, nil
	})
	for _, p := range o.Pods {
		if worlds.Live(&p) {
			g.pods[c.Name+"/"+p.Namespace+"/"+p.Name] = c.In(g.t, p.Namespace).PodWhen(p.Name, "there", func(*corev1.Pod) bool { return true })
		}
	}
	for i := range o.Pods {
		plain(&o.Pods[i])
	}
	list, err := c.Client.CoreV1().Namespaces().List(g.t.Context(), metav1.ListOptions{})
	if err == nil {
		o.Namespaces = slices.DeleteFunc(list.Items, func(n corev1.Namespace) bool { return world.Namespace(n.Name) == nil })
		var nodes *corev1.NodeList
		if nodes, err = c.Client.CoreV1().Nodes().List(g.t.Context(), metav1.ListOptions{}); err == nil {
			o.Nodes = nodes.Items
		}
	}
	if err != nil {
		g.t.Fatal(err)
	}
	for i := range o.Namespaces {
		o.Namespaces[i].ManagedFields = nil
	}
	for i := range o.Nodes {
		o.Nodes[i].ManagedFields = nil
	}
	return worlds.Bind(w, c.Name, o)
}

// plain takes from a pod what nobody wants to read in a counter-example.
func plain(p *corev1.Pod) {
	p.ManagedFields = nil
	p.Spec.Volumes, p.Spec.Tolerations = nil, nil
	for i := range p.Spec.Containers {
		p.Spec.Containers[i].VolumeMounts, p.Spec.Containers[i].ReadinessProbe = nil, nil
	}
	p.Status.Conditions, p.Status.ContainerStatuses = nil, nil
}

func around(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// settled tells whether a pod is what the world wants: finished, or Ready.
func settled(have, want *corev1.Pod) bool {
	if want == nil || have.DeletionTimestamp != nil {
		return false
	}
	if want.Status.Phase == corev1.PodSucceeded || want.Status.Phase == corev1.PodFailed {
		return have.Status.Phase == want.Status.Phase
	}
	return slices.ContainsFunc(have.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
