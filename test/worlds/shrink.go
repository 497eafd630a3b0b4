package worlds

import (
	"iter"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Shrink takes away from a World what can go so that it still fails: clusters,
// policies, rules, peers, ports, requirements, pods, nodes, namespaces, labels,
// annotations. Nothing of what is left can go alone.
func Shrink(w World, fails func(World) bool) World {
	for again := true; again; {
		again = false
		for smaller := range w.smaller() {
			if fails(smaller) {
				w, again = smaller, true
				break
			}
		}
	}
	return w
}

// smaller gives each World that has one thing less, the large things first.
func (w World) smaller() iter.Seq[World] {
	return func(yield func(World) bool) {
		for i := range w.Clusters {
			if len(w.Clusters) > 1 && !yield(World{w.Seed, slices.Delete(slices.Clone(w.Clusters), i, i+1)}) {
				return
			}
		}
		for i := range w.Clusters {
			for c := range w.Clusters[i].smaller() {
				v := w.clone()
				v.Clusters[i] = c
				if !yield(v) {
					return
				}
			}
		}
	}
}

// smaller takes care that pods keep their namespace and their node.
func (c Cluster) smaller() iter.Seq[Cluster] {
	return func(yield func(Cluster) bool) {
		ok := true
		try := func(change func(*Cluster)) {
			if ok {
				smaller := c
				change(&smaller)
				ok = yield(smaller)
			}
		}
		for i := range c.Policies {
			try(func(s *Cluster) { s.Policies = slices.Delete(slices.Clone(c.Policies), i, i+1) })
		}
		for i := range c.Pods {
			try(func(s *Cluster) { s.Pods = slices.Delete(slices.Clone(c.Pods), i, i+1) })
		}
		for i, n := range c.Nodes {
			if !slices.ContainsFunc(c.Pods, func(p *corev1.Pod) bool { return p.Spec.NodeName == n.Name }) {
				try(func(s *Cluster) { s.Nodes = slices.Delete(slices.Clone(c.Nodes), i, i+1) })
			}
		}
		for i, n := range c.Namespaces {
			used := slices.ContainsFunc(c.Pods, func(p *corev1.Pod) bool { return p.Namespace == n.Name }) ||
				slices.ContainsFunc(c.Policies, func(p *networkingv1.NetworkPolicy) bool { return p.Namespace == n.Name })
			if !used {
				try(func(s *Cluster) { s.Namespaces = slices.Delete(slices.Clone(c.Namespaces), i, i+1) })
			}
		}
		c.simpler(try)
	}
}

// simpler tries what makes the parts of a cluster smaller.
func (c Cluster) simpler(try func(func(*Cluster))) {
	for i, p := range c.Policies {
		for simpler := range simplerPolicies(p) {
			try(func(s *Cluster) { s.Policies = replaced(c.Policies, i, simpler) })
		}
	}
	for i, p := range c.Pods {
		for simpler := range simplerPods(p) {
			try(func(s *Cluster) { s.Pods = replaced(c.Pods, i, simpler) })
		}
	}
	for i, n := range c.Namespaces {
		for meta := range simplerMeta(n.ObjectMeta, corev1.LabelMetadataName) {
			v := n.DeepCopy()
			v.ObjectMeta = meta
			try(func(s *Cluster) { s.Namespaces = replaced(c.Namespaces, i, v) })
		}
	}
	for i, n := range c.Nodes {
		for meta := range simplerMeta(n.ObjectMeta, "") {
			v := n.DeepCopy()
			v.ObjectMeta = meta
			try(func(s *Cluster) { s.Nodes = replaced(c.Nodes, i, v) })
		}
	}
	for labels := range without(c.Labels, "") {
		try(func(s *Cluster) { s.Labels = labels })
	}
	if c.Agent.Mesh {
		try(func(s *Cluster) { s.Agent.Mesh = false })
	}
	if c.Agent.OwnNodeEgress {
		try(func(s *Cluster) { s.Agent.OwnNodeEgress = false })
	}
}

func replaced[T any](list []T, i int, v T) []T {
	list = slices.Clone(list)
	list[i] = v
	return list
}

// without gives the map less each of its keys but one.
func without(m map[string]string, but string) iter.Seq[map[string]string] {
	return func(yield func(map[string]string) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if k == but {
				continue
			}
			less := maps.Clone(m)
			delete(less, k)
			if !yield(less) {
				return
			}
		}
	}
}

func simplerMeta(m metav1.ObjectMeta, keep string) iter.Seq[metav1.ObjectMeta] {
	return func(yield func(metav1.ObjectMeta) bool) {
		for labels := range without(m.Labels, keep) {
			v := m
			v.Labels = labels
			if !yield(v) {
				return
			}
		}
		for annotations := range without(m.Annotations, "") {
			v := m
			v.Annotations = annotations
			if !yield(v) {
				return
			}
		}
	}
}

func simplerPods(p *corev1.Pod) iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		for meta := range simplerMeta(p.ObjectMeta, "") {
			v := p.DeepCopy()
			v.ObjectMeta = meta
			if !yield(v) {
				return
			}
		}
		edits := []func(*corev1.Pod){
			func(v *corev1.Pod) { v.Spec.InitContainers = nil },
			func(v *corev1.Pod) { v.Spec.Containers = v.Spec.Containers[:1] },
			func(v *corev1.Pod) { v.DeletionTimestamp = nil },
			func(v *corev1.Pod) { v.Spec.ServiceAccountName = "default" },
		}
		for i := range p.Status.PodIPs {
			edits = append(edits, func(v *corev1.Pod) { v.Status.PodIPs = slices.Delete(v.Status.PodIPs, i, i+1) })
		}
		for i, c := range p.Spec.Containers {
			for j := range c.Ports {
				edits = append(edits, func(v *corev1.Pod) {
					v.Spec.Containers[i].Ports = slices.Delete(v.Spec.Containers[i].Ports, j, j+1)
				})
			}
		}
		edited(p, edits, yield)
	}
}

// copier is an object that can be copied.
type copier[T any] interface {
	DeepCopy() T
	Size() int
}

// edited gives a copy of an object with each of the edits that make it smaller.
func edited[T copier[T]](o T, edits []func(T), yield func(T) bool) {
	for _, edit := range edits {
		v := o.DeepCopy()
		if edit(v); v.Size() != o.Size() && !yield(v) {
			return
		}
	}
}

func simplerPolicies(p *networkingv1.NetworkPolicy) iter.Seq[*networkingv1.NetworkPolicy] {
	return func(yield func(*networkingv1.NetworkPolicy) bool) {
		edits := []func(*networkingv1.NetworkPolicy){
			func(v *networkingv1.NetworkPolicy) { v.Annotations = nil },
			func(v *networkingv1.NetworkPolicy) { v.Spec.PolicyTypes = nil },
		}
		type change = func(*networkingv1.NetworkPolicy)
		for _, edit := range simplerSelector(&p.Spec.PodSelector) {
			edits = append(edits, func(v *networkingv1.NetworkPolicy) { edit(&v.Spec.PodSelector) })
		}
		for i, r := range p.Spec.Ingress {
			edits = append(edits, func(v *networkingv1.NetworkPolicy) { v.Spec.Ingress = slices.Delete(v.Spec.Ingress, i, i+1) })
			edits = append(edits, simplerRule(r.From, r.Ports,
				func(f func(*[]networkingv1.NetworkPolicyPeer, *[]networkingv1.NetworkPolicyPort)) change {
					return func(v *networkingv1.NetworkPolicy) { f(&v.Spec.Ingress[i].From, &v.Spec.Ingress[i].Ports) }
				})...)
		}
		for i, r := range p.Spec.Egress {
			edits = append(edits, func(v *networkingv1.NetworkPolicy) { v.Spec.Egress = slices.Delete(v.Spec.Egress, i, i+1) })
			edits = append(edits, simplerRule(r.To, r.Ports,
				func(f func(*[]networkingv1.NetworkPolicyPeer, *[]networkingv1.NetworkPolicyPort)) change {
					return func(v *networkingv1.NetworkPolicy) { f(&v.Spec.Egress[i].To, &v.Spec.Egress[i].Ports) }
				})...)
		}
		edited(p, edits, yield)
	}
}

// simplerRule edits the lists of a rule, which in applies to the rule's place.
func simplerRule(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort,
	in func(func(*[]networkingv1.NetworkPolicyPeer, *[]networkingv1.NetworkPolicyPort)) func(*networkingv1.NetworkPolicy),
) []func(*networkingv1.NetworkPolicy) {
	type (
		peerList = []networkingv1.NetworkPolicyPeer
		portList = []networkingv1.NetworkPolicyPort
	)
	var edits []func(*networkingv1.NetworkPolicy)
	add := func(f func(*peerList, *portList)) { edits = append(edits, in(f)) }
	for i := range ports {
		add(func(_ *peerList, l *portList) { *l = slices.Delete(*l, i, i+1) })
		add(func(_ *peerList, l *portList) { (*l)[i].EndPort = nil })
	}
	for i, peer := range peers {
		add(func(l *peerList, _ *portList) { *l = slices.Delete(*l, i, i+1) })
		if peer.PodSelector != nil && peer.NamespaceSelector != nil {
			add(func(l *peerList, _ *portList) { (*l)[i].PodSelector = nil })
			add(func(l *peerList, _ *portList) { (*l)[i].NamespaceSelector = nil })
		}
		for _, edit := range simplerSelector(peer.PodSelector) {
			add(func(l *peerList, _ *portList) { edit((*l)[i].PodSelector) })
		}
		for _, edit := range simplerSelector(peer.NamespaceSelector) {
			add(func(l *peerList, _ *portList) { edit((*l)[i].NamespaceSelector) })
		}
		if peer.IPBlock == nil {
			continue
		}
		for j := range peer.IPBlock.Except {
			add(func(l *peerList, _ *portList) { (*l)[i].IPBlock.Except = slices.Delete((*l)[i].IPBlock.Except, j, j+1) })
		}
	}
	return edits
}

func simplerSelector(s *metav1.LabelSelector) []func(*metav1.LabelSelector) {
	if s == nil {
		return nil
	}
	var edits []func(*metav1.LabelSelector)
	for less := range without(s.MatchLabels, "") {
		edits = append(edits, func(v *metav1.LabelSelector) { v.MatchLabels = less })
	}
	for i, r := range s.MatchExpressions {
		edits = append(edits, func(v *metav1.LabelSelector) { v.MatchExpressions = slices.Delete(v.MatchExpressions, i, i+1) })
		for j := range r.Values {
			if len(r.Values) > 1 {
				edits = append(edits, func(v *metav1.LabelSelector) {
					v.MatchExpressions[i].Values = slices.Delete(v.MatchExpressions[i].Values, j, j+1)
				})
			}
		}
	}
	return edits
}
