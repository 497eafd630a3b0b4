package worlds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// Mutate changes one object of a World made by Random, and says which and how.
// Size is the one that it was made with: new objects are like its own, and
// without Odd, all that is done can be asked of an API server.
func Mutate(w World, r *rand.Rand, size Size) (World, string) {
	m := maker{r, size}
	w = w.clone()
	i := m.IntN(len(w.Clusters))
	c := &w.Clusters[i]
	switch m.IntN(12) {
	case 0, 1, 2:
		return w, c.Name + ": " + m.changePolicies(w, c)
	case 3, 4, 5:
		return w, c.Name + ": " + m.relabelPod(c)
	case 6:
		return w, c.Name + ": " + m.relabelNamespace(c)
	case 7:
		return w, c.Name + ": " + m.relabelNode(c)
	case 8:
		return w, c.Name + ": " + m.addPod(c, i)
	case 9:
		return w, c.Name + ": " + m.removePod(c)
	case 10:
		return w, c.Name + ": " + m.endPod(c)
	}
	return w, c.Name + ": " + m.editPolicy(w, c)
}

const nothing = "nothing"

func (m maker) changePolicies(w World, c *Cluster) string {
	if len(c.Policies) > 0 && m.oneIn(2) {
		i := m.IntN(len(c.Policies))
		p := c.Policies[i]
		c.Policies = slices.Delete(c.Policies, i, i+1)
		return fmt.Sprintf("remove policy %s/%s", p.Namespace, p.Name)
	}
	if len(c.Pods) == 0 {
		return nothing
	}
	p := m.policy(w, c)
	c.Policies = append(c.Policies, p)
	return fmt.Sprintf("add policy %s/%s", p.Namespace, p.Name)
}

// editPolicy takes one part of another policy: its annotation, its selector, its
// types or the rules of a direction.
func (m maker) editPolicy(w World, c *Cluster) string {
	if len(c.Policies) == 0 || len(c.Pods) == 0 {
		return nothing
	}
	i := m.IntN(len(c.Policies))
	p, other := c.Policies[i].DeepCopy(), m.policy(w, c)
	p.Generation++
	what := "rules"
	switch m.IntN(4) {
	case 0:
		p.Annotations, what = m.scope(2), "annotation"
		p.Generation--
	case 1:
		p.Spec.PodSelector, what = other.Spec.PodSelector, "selector"
	case 2:
		p.Spec.PolicyTypes, what = other.Spec.PolicyTypes, "types"
	default:
		p.Spec.Ingress, p.Spec.Egress = other.Spec.Ingress, other.Spec.Egress
	}
	c.Policies[i] = p
	return fmt.Sprintf("other %s of policy %s/%s", what, p.Namespace, p.Name)
}

// relabel changes, adds or removes one label.
func (m maker) relabel(labels map[string]string, keys []string) map[string]string {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	k := pick(m, keys)
	if _, there := labels[k]; there && m.oneIn(2) {
		delete(labels, k)
	} else {
		labels[k] = pick(m, labelValues())
	}
	return labels
}

func (m maker) relabelPod(c *Cluster) string {
	if len(c.Pods) == 0 {
		return nothing
	}
	i := m.IntN(len(c.Pods))
	p := c.Pods[i].DeepCopy()
	p.Labels = m.relabel(p.Labels, labelKeys())
	c.Pods[i] = p
	return fmt.Sprintf("pod %s/%s has labels %v", p.Namespace, p.Name, p.Labels)
}

func (m maker) relabelNamespace(c *Cluster) string {
	if len(c.Namespaces) == 0 {
		return nothing
	}
	i := m.IntN(len(c.Namespaces))
	n := c.Namespaces[i].DeepCopy()
	if m.oneIn(3) {
		n.Annotations = m.scope(2)
	} else {
		n.Labels = m.relabel(n.Labels, namespaceKeys())
	}
	c.Namespaces[i] = n
	return fmt.Sprintf("namespace %s has labels %v, annotations %v", n.Name, n.Labels, n.Annotations)
}

func (m maker) relabelNode(c *Cluster) string {
	if len(c.Nodes) == 0 {
		return nothing
	}
	i := m.IntN(len(c.Nodes))
	n := c.Nodes[i].DeepCopy()
	n.Labels = m.relabel(n.Labels, nodeKeys())
	c.Nodes[i] = n
	return fmt.Sprintf("node %s has labels %v", n.Name, n.Labels)
}

// addPod adds one with a name and, unless odd, addresses that no pod of the
// cluster has. The name may be one that was there before.
func (m maker) addPod(c *Cluster, i int) string {
	j := 1
	for slices.ContainsFunc(c.Pods, func(p *corev1.Pod) bool { return p.Name == "p"+strconv.Itoa(j) }) {
		j++
	}
	if len(c.Namespaces) == 0 || len(c.Nodes) == 0 {
		return nothing
	}
	p := m.pod(c, i, j)
	c.Pods = append(c.Pods, p)
	return fmt.Sprintf("add pod %s/%s", p.Namespace, p.Name)
}

func (m maker) removePod(c *Cluster) string {
	if len(c.Pods) == 0 {
		return nothing
	}
	i := m.IntN(len(c.Pods))
	p := c.Pods[i]
	c.Pods = slices.Delete(c.Pods, i, i+1)
	return fmt.Sprintf("remove pod %s/%s", p.Namespace, p.Name)
}

// endPod lets one terminate or finish; if that cannot be asked for, it goes.
func (m maker) endPod(c *Cluster) string {
	if !m.size.Odd {
		return m.removePod(c)
	}
	if len(c.Pods) == 0 {
		return nothing
	}
	i := m.IntN(len(c.Pods))
	p := c.Pods[i].DeepCopy()
	what := "terminates"
	if m.oneIn(2) {
		deleted := p.CreationTimestamp
		p.DeletionTimestamp = &deleted
	} else {
		p.Status.Phase, what = corev1.PodSucceeded, "has finished"
	}
	c.Pods[i] = p
	return fmt.Sprintf("pod %s/%s %s", p.Namespace, p.Name, what)
}
