package connect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/pkg/model"
)

const (
	pageSize = 500
	// maxPods is about how many pods are looked at: enough to see which ranges
	// their addresses are of.
	maxPods = 2000

	masqueradeConfig = "azure-ip-masq-agent-config" // and -reconciled, which AKS owns
	masqueradeLabel  = "k8s-app=azure-ip-masq-agent"
)

// Gather finds out what preflight and plan need of a cluster. Only what they
// cannot do without is an error; of the rest, what cannot be read is noted.
func Gather(ctx context.Context, c *Cluster) (Facts, error) {
	f := Facts{Context: c.Context}
	steps := []struct {
		what string
		do   func(context.Context, *Cluster, *Facts) error
	}{
		{"its namespaces", gatherNamespaces},
		{"its version", gatherVersion},
		{"the agents' configuration", gatherConfig},
		{"its RemoteClusters", gatherLinks},
		{"the agents' pods", gatherAgents},
		{"its nodes", gatherNodes},
		{"its pods", gatherPods},
		{"its Service ranges", gatherServiceRanges},
		{"its masquerading", gatherMasquerade},
		{"its network policies", gatherPolicies},
	}
	for _, s := range steps {
		if err := s.do(ctx, c, &f); err != nil {
			return f, fmt.Errorf("context %q: read %s: %w", c.Context, s.what, err)
		}
	}
	return f, nil
}

func gatherNamespaces(ctx context.Context, c *Cluster, f *Facts) error {
	f.Scopes = map[string]string{}
	return pages(func(opts metav1.ListOptions) (string, error) {
		list, err := c.Kube.CoreV1().Namespaces().List(ctx, opts)
		if err != nil {
			return "", err
		}
		for _, ns := range list.Items {
			if scope, ok := ns.Annotations[model.AnnotationPeerScope]; ok {
				f.Scopes[ns.Name] = scope
			}
			switch ns.Name {
			case metav1.NamespaceSystem:
				f.UID = string(ns.UID)
			case Namespace:
				f.HasNamespace = true
				f.Name, f.NameFrom = ns.Annotations[model.AnnotationClusterName], "the annotation of namespace "+Namespace
			}
		}
		return list.Continue, nil
	})
}

func gatherVersion(_ context.Context, c *Cluster, f *Facts) error {
	version, err := c.Kube.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	f.Version = version.GitVersion
	return nil
}

func gatherConfig(ctx context.Context, c *Cluster, f *Facts) error {
	object, err := c.Kube.CoreV1().ConfigMaps(Namespace).Get(ctx, configMapName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// Not strict: an agent of another version may have fields that are new.
	if err := yaml.Unmarshal([]byte(object.Data[configMapKey]), &f.Config); err != nil {
		return fmt.Errorf("%s, key %s: %w", fromConfig, configMapKey, err)
	}
	if f.Config.ClusterName != "" {
		f.Name, f.NameFrom = f.Config.ClusterName, fromConfig
	}
	return nil
}

func gatherLinks(ctx context.Context, c *Cluster, f *Facts) error {
	list, err := c.Remotes.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	f.HasCRD = true
	for _, r := range list.Items {
		f.Links = append(f.Links, Link{
			Name: r.Name, ClusterUID: r.Status.ClusterUID,
			PodCIDRs: validRanges(r.Spec.PodCIDRs), NodeCIDRs: validRanges(r.Spec.NodeCIDRs),
		})
	}
	return nil
}

// validRanges leaves out what no API server should have let pass.
func validRanges(cidrs []string) []netip.Prefix {
	var all []netip.Prefix
	for _, c := range cidrs {
		if p, err := netip.ParsePrefix(c); err == nil {
			all = append(all, p.Masked())
		}
	}
	return all
}

func gatherAgents(ctx context.Context, c *Cluster, f *Facts) error {
	return pages(func(opts metav1.ListOptions) (string, error) {
		opts.LabelSelector = agentLabel
		list, err := c.Kube.CoreV1().Pods(Namespace).List(ctx, opts)
		if err != nil {
			return "", err
		}
		for _, pod := range list.Items {
			if pod.DeletionTimestamp != nil || pod.Spec.NodeName == "" {
				continue
			}
			f.Agents = append(f.Agents, AgentPod{
				Name: pod.Name, Node: pod.Spec.NodeName, Container: agentContainer(pod), Ready: podReady(pod),
			})
		}
		return list.Continue, nil
	})
}

// agentContainer is the agent among what others may inject into its pod.
func agentContainer(pod corev1.Pod) string {
	if name := pod.Annotations["kubectl.kubernetes.io/default-container"]; name != "" {
		return name
	}
	if len(pod.Spec.Containers) == 0 {
		return ""
	}
	return pod.Spec.Containers[0].Name
}

func podReady(pod corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func gatherNodes(ctx context.Context, c *Cluster, f *Facts) error {
	return pages(func(opts metav1.ListOptions) (string, error) {
		list, err := c.Kube.CoreV1().Nodes().List(ctx, opts)
		if err != nil {
			return "", err
		}
		for _, n := range list.Items {
			f.Nodes = append(f.Nodes, factNode(n))
		}
		return list.Continue, nil
	})
}

func factNode(n corev1.Node) Node {
	node := Node{Name: n.Name, Labels: n.Labels}
	for _, address := range n.Status.Addresses {
		if address.Type != corev1.NodeInternalIP {
			continue
		}
		if a, err := netip.ParseAddr(address.Address); err == nil {
			node.Addresses = append(node.Addresses, a)
		}
	}
	cidrs := n.Spec.PodCIDRs
	if len(cidrs) == 0 && n.Spec.PodCIDR != "" {
		cidrs = []string{n.Spec.PodCIDR}
	}
	for _, cidr := range cidrs {
		if p, err := netip.ParsePrefix(cidr); err == nil {
			node.PodCIDRs = append(node.PodCIDRs, p.Masked())
		}
	}
	return node
}

var errEnough = errors.New("enough")

func gatherPods(ctx context.Context, c *Cluster, f *Facts) error {
	seen := 0
	err := pages(func(opts metav1.ListOptions) (string, error) {
		list, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, opts)
		if err != nil {
			return "", err
		}
		for _, pod := range list.Items {
			if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
				continue
			}
			for _, ip := range pod.Status.PodIPs {
				if a, err := netip.ParseAddr(ip.IP); err == nil {
					f.PodAddresses = append(f.PodAddresses, a)
				}
			}
		}
		if seen += len(list.Items); seen >= maxPods {
			return "", errEnough
		}
		return list.Continue, nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// gatherServiceRanges reads the ServiceCIDR objects; API servers before 1.33 may
// not have them.
func gatherServiceRanges(ctx context.Context, c *Cluster, f *Facts) error {
	list, err := c.Kube.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return err
	}
	f.ServiceCIDRs = []netip.Prefix{}
	for _, s := range list.Items {
		for _, cidr := range s.Spec.CIDRs {
			if p, err := netip.ParsePrefix(cidr); err == nil {
				f.ServiceCIDRs = append(f.ServiceCIDRs, p.Masked())
			}
		}
	}
	return nil
}

func gatherPolicies(ctx context.Context, c *Cluster, f *Facts) error {
	return pages(func(opts metav1.ListOptions) (string, error) {
		list, err := c.Kube.NetworkingV1().NetworkPolicies(metav1.NamespaceAll).List(ctx, opts)
		if err != nil {
			return "", err
		}
		f.Policies = append(f.Policies, mentionsPeers(list.Items)...)
		return list.Continue, nil
	})
}

// mentionsPeers leaves out policies that no other cluster can play a part in.
func mentionsPeers(all []networkingv1.NetworkPolicy) []networkingv1.NetworkPolicy {
	var kept []networkingv1.NetworkPolicy
	for _, p := range all {
		if len(selectorPeers(p)) > 0 {
			kept = append(kept, p)
		}
	}
	return kept
}

// gatherMasquerade reads the ConfigMaps of Azure's masquerading agent.
func gatherMasquerade(ctx context.Context, c *Cluster, f *Facts) error {
	m := &f.Masquerade
	maps, err := c.Kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		m.NotRead = "the ConfigMaps of namespace kube-system may not be read"
		return nil
	}
	if err != nil {
		return err
	}
	for _, object := range maps.Items {
		if strings.HasPrefix(object.Name, masqueradeConfig) {
			m.Present = true
			m.add(object)
		}
	}
	if m.Present {
		return nil
	}
	pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: masqueradeLabel, Limit: 1})
	if err != nil {
		return err
	}
	m.Present = len(pods.Items) > 0
	return nil
}

// add takes over the exceptions of a ConfigMap, whose keys are files that the
// agent merges.
func (m *Masquerade) add(object corev1.ConfigMap) {
	for key, text := range object.Data {
		var config struct {
			NonMasqueradeCIDRs []string `json:"nonMasqueradeCIDRs"`
		}
		if err := yaml.Unmarshal([]byte(text), &config); err != nil {
			m.Malformed = append(m.Malformed, fmt.Sprintf("ConfigMap kube-system/%s, key %s: not YAML", object.Name, key))
			continue
		}
		for _, cidr := range config.NonMasqueradeCIDRs {
			p, err := netip.ParsePrefix(strings.TrimSpace(cidr))
			if err != nil {
				m.Malformed = append(m.Malformed, fmt.Sprintf("ConfigMap kube-system/%s, key %s: %q is no address range", object.Name, key, cidr))
				continue
			}
			m.Except = append(m.Except, p.Masked())
		}
	}
}

// pages calls list for one page after the other.
func pages(list func(metav1.ListOptions) (string, error)) error {
	opts := metav1.ListOptions{Limit: pageSize}
	for {
		next, err := list(opts)
		if err != nil || next == "" {
			return err
		}
		opts.Continue = next
	}
}
