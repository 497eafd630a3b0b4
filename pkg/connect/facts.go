package connect

import (
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
)

// The names of what an installed agent has, which manifests/ gives them.
const (
	Namespace     = "overland-system"
	agentLabel    = "app.kubernetes.io/name=overland-agent"
	configMapName = "overland-config"
	configMapKey  = "config.yaml"
	agentProgram  = "/overland"
)

// Facts are what is found out of one cluster before it is linked.
type Facts struct {
	Context string // the kubeconfig context by which the person reaches it
	UID     string // of its namespace kube-system
	Version string // Kubernetes, such as v1.33.2

	// Name is what the cluster calls itself; empty if it does not say.
	// NameFrom is where that was read.
	Name, NameFrom string
	// Config is its agents' configuration, as far as it concerns other clusters.
	Config AgentConfig

	HasNamespace bool // the agent's
	HasCRD       bool
	Agents       []AgentPod
	Nodes        []Node
	// PodAddresses are addresses of pods that have their own; of a large
	// cluster some thousand of them.
	PodAddresses []netip.Addr
	// ServiceCIDRs are the ranges of its Services; nil if they cannot be read.
	ServiceCIDRs []netip.Prefix
	Masquerade   Masquerade
	Links        []Link
	Policies     []networkingv1.NetworkPolicy
	// Scopes are the values of annotation overland.dev/peer-scope on namespaces.
	Scopes map[string]string
}

// AgentConfig is the part of the agents' configuration that matters here.
type AgentConfig struct {
	ClusterName       string            `json:"clusterName"`
	ClusterLabels     map[string]string `json:"clusterLabels"`
	PodCIDRs          []string          `json:"podCIDRs"`
	NodeCIDRs         []string          `json:"nodeCIDRs"`
	PeerScope         string            `json:"peerScope"`
	PeerScopeOverride string            `json:"peerScopeOverride"`
}

// AgentPod is a pod of the agents' DaemonSet.
type AgentPod struct {
	Name, Node, Container string
	Ready                 bool
}

// Node is a node.
type Node struct {
	Name      string
	Labels    map[string]string
	Addresses []netip.Addr // of type InternalIP
	PodCIDRs  []netip.Prefix
}

// Masquerade is what is known of address translation by Azure's masquerading
// agent.
type Masquerade struct {
	// NotRead says why its configuration could not be read; empty if it could.
	NotRead string
	// Present: it runs, or there is a configuration for it.
	Present bool
	// Except are the destinations towards which it keeps a pod's address.
	Except []netip.Prefix
	// Malformed are entries that cannot be read, each with its ConfigMap.
	Malformed []string
}

// Link is a RemoteCluster object that is there already.
type Link struct {
	Name       string
	ClusterUID string
	PodCIDRs   []netip.Prefix
	NodeCIDRs  []netip.Prefix
}

// Reached is what one node found when it tried to reach an API server: the
// output of `overland reach`.
type Reached struct {
	URL string `json:"url"`
	OK  bool   `json:"ok"`
	// Status is that of the HTTP answer; any answer over TLS that was verified
	// is contact.
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
	// Millis is how long it took, in milliseconds.
	Millis int64 `json:"millis"`

	Node string `json:"-"` // filled in by who asked
}

// Probes are what nodes of one cluster found of the other's API server.
type Probes struct {
	URL     string
	Results []Reached
	// NotMade says why no node could be asked.
	NotMade string
}
