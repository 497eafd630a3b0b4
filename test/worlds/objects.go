package worlds

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// HealthPort is where the servers of a lab's pods say that they are ready. No
// rule of a World is about this port alone.
const HealthPort = 18081

// List is objects to create, in this order.
type List struct {
	Namespaces []*corev1.Namespace
	Accounts   []*corev1.ServiceAccount
	Pods       []*corev1.Pod
	Policies   []*networkingv1.NetworkPolicy
	// Nodes are not created: a node of that name gets the labels.
	Nodes []*corev1.Node
}

// Objects is what makes the World's cluster out of an empty one of the lab whose
// nodes have the same names. A pod that is live serves every port of Ports for
// TCP, UDP and SCTP, whatever its containers declare, and is bound to its node.
func Objects(w World, cluster string) (List, error) {
	c := w.Cluster(cluster)
	if c == nil {
		return List{}, fmt.Errorf("objects of cluster %q: the world has none of that name", cluster)
	}
	l := List{Nodes: c.Nodes}
	for _, n := range c.Namespaces {
		l.Namespaces = append(l.Namespaces, &corev1.Namespace{ObjectMeta: fresh(n.ObjectMeta)})
		names := accounts()
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if name != "default" { // that one is there by itself
				l.Accounts = append(l.Accounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: n.Name, Name: name}})
			}
		}
	}
	for _, p := range c.Pods {
		l.Pods = append(l.Pods, labPod(p))
	}
	for _, p := range c.Policies {
		l.Policies = append(l.Policies, &networkingv1.NetworkPolicy{ObjectMeta: fresh(p.ObjectMeta), Spec: p.Spec})
	}
	return l, nil
}

// fresh is metadata without what an API server gives.
func fresh(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, Labels: m.Labels, Annotations: m.Annotations}
}

// labPod is a pod as the lab can run it. One that has finished runs a program
// that ends; one on the node's network does not serve, as two of these would
// meet there.
func labPod(p *corev1.Pod) *corev1.Pod {
	v := &corev1.Pod{ObjectMeta: fresh(p.ObjectMeta)}
	v.Spec = corev1.PodSpec{
		NodeName: p.Spec.NodeName, ServiceAccountName: p.Spec.ServiceAccountName, HostNetwork: p.Spec.HostNetwork,
		TerminationGracePeriodSeconds: ptr(int64(1)),
	}
	for i, c := range p.Spec.Containers {
		lab := corev1.Container{Name: c.Name, Ports: c.Ports, Image: "busybox", Command: []string{"sleep", "86400"}}
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			lab.Command = []string{"true"}
		case p.Status.Phase == corev1.PodFailed:
			lab.Command = []string{"false"}
		case i == 0 && !p.Spec.HostNetwork:
			lab.Image, lab.Command, lab.Args = "netprobe", nil, serve()
			lab.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(HealthPort)},
			}}
		}
		v.Spec.Containers = append(v.Spec.Containers, lab)
	}
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		v.Spec.RestartPolicy = corev1.RestartPolicyNever
	}
	return v
}

func serve() []string {
	args := []string{"serve", "--http", fmt.Sprint(HealthPort)}
	for _, protocol := range []string{"--tcp", "--udp", "--sctp"} {
		for _, port := range Ports() {
			args = append(args, protocol, fmt.Sprint(port))
		}
	}
	return args
}

// Observed is what a cluster has, as its API server says it.
type Observed struct {
	Namespaces []corev1.Namespace
	Nodes      []corev1.Node
	Pods       []corev1.Pod
	// PodCIDRs and NodeCIDRs are what its agents and the other cluster's are
	// configured to let it claim.
	PodCIDRs, NodeCIDRs []netip.Prefix
	Labels              map[string]string
	Agent               Agent
}

// Bind is the World with what a cluster of the lab really has instead of what was
// made up: all its namespaces, nodes and pods, also those that are not of the
// World. Policies stay.
func Bind(w World, cluster string, o Observed) World {
	w = w.clone()
	c := w.Cluster(cluster)
	if c == nil {
		return w
	}
	c.PodCIDRs, c.NodeCIDRs, c.Labels, c.Agent = o.PodCIDRs, o.NodeCIDRs, o.Labels, o.Agent
	c.Namespaces, c.Nodes, c.Pods = pointers(o.Namespaces), pointers(o.Nodes), pointers(o.Pods)
	return w
}

func pointers[T any](list []T) []*T {
	all := make([]*T, 0, len(list))
	for i := range list {
		all = append(all, &list[i])
	}
	return all
}

// Probes are all that pods of the given namespaces, if they are live, can send to
// each other on the World's ports, in every family that both have.
func Probes(w World, inNamespace func(string) bool) []Probe {
	pods, _, _ := w.ends()
	pods = slices.DeleteFunc(pods, func(e End) bool { return !inNamespace(e.Namespace) })
	var all []Probe
	for _, from := range pods {
		for _, to := range pods {
			if from.Addr.Is4() != to.Addr.Is4() || from.Addr == to.Addr {
				continue
			}
			for _, protocol := range protocols() {
				for _, port := range Ports() {
					all = append(all, Probe{from, to, protocol, port})
				}
			}
		}
	}
	return all
}
