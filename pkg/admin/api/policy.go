package api

// The directions of policies.
const (
	Ingress = "Ingress"
	Egress  = "Egress"
)

// The scopes of peers that name no cluster.
const (
	ScopeLocal = "local"
	ScopeMesh  = "mesh"
)

// PolicyList lists NetworkPolicies of the local cluster, by namespace and name.
type PolicyList struct {
	Header
	Items []Policy `json:"items"`
}

// Policy is a NetworkPolicy, as this node sees it.
type Policy struct {
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
	Generation int64  `json:"generation,omitempty"`
	// Directions are those in which it isolates its pods: Ingress, Egress.
	Directions []string `json:"directions"`
	// Scope is what a peer that names no cluster means: ScopeLocal or ScopeMesh.
	Scope string `json:"scope"`
	// Pods are the pods of this node that it applies to, by name: none, and
	// nothing of it is enforced here.
	Pods []string `json:"pods"`
	// Problems are those that this node knows.
	Problems []Problem `json:"problems,omitempty"`
}

// PolicyDetails is what a policy selects and admits, by rule.
type PolicyDetails struct {
	Header
	Policy Policy `json:"policy"`
	// Selector says which pods of its namespace it applies to, in canonical form.
	Selector string       `json:"selector"`
	Rules    []PolicyRule `json:"rules"` // of the directions that it isolates
}

// PolicyRule is a rule of a policy: it admits what matches one of its peers and
// one of its ports.
type PolicyRule struct {
	Direction string       `json:"direction"`
	Field     string       `json:"field"`           // spec.ingress[0]
	AnyPeer   bool         `json:"anyPeer"`         // all addresses
	Peers     []PolicyPeer `json:"peers,omitempty"` // else
	AnyPort   bool         `json:"anyPort"`         // all ports of all protocols
	Ports     []PolicyPort `json:"ports,omitempty"` // else
}

// The kinds of peers.
const (
	PeerPods  = "Pods"
	PeerNodes = "Nodes"
	PeerBlock = "Block"
)

// PolicyPeer is one peer of a rule.
type PolicyPeer struct {
	Field string `json:"field"` // spec.ingress[0].from[1]
	Kind  string `json:"kind"`  // PeerPods, PeerNodes or PeerBlock
	// Selector is what it selects, over all clusters, in canonical form.
	Selector string `json:"selector,omitempty"`
	// Block and Except are those of a PeerBlock.
	Block  string   `json:"block,omitempty"`
	Except []string `json:"except,omitempty"`
	// Members is how many addresses it has now, of each cluster as in Clusters.
	Members  int           `json:"members"`
	Clusters []PeerCluster `json:"clusters,omitempty"`
	// InForce: some pod of this node has a rule because of it. A peer of a policy
	// that selects no pod here, or that is past a limit, has none.
	InForce bool `json:"inForce"`
}

// PeerCluster is what a peer selects in one cluster.
type PeerCluster struct {
	Name      string `json:"name"`
	Endpoints int    `json:"endpoints"` // pods or nodes
	Addresses int    `json:"addresses"`
}

// PolicyPort is a port of a rule, or a range.
type PolicyPort struct {
	Field    string `json:"field"` // spec.ingress[0].ports[1]
	Protocol string `json:"protocol"`
	// Name is that of a named port; else First to Last are the ports, both 0: all
	// of the protocol.
	Name  string `json:"name,omitempty"`
	First uint16 `json:"first,omitempty"`
	Last  uint16 `json:"last,omitempty"`
}

// Enforcement is what policies do to a pod of the local cluster.
type Enforcement struct {
	// Node is where policies are enforced on it, Here that this is that node.
	Node string `json:"node"`
	Here bool   `json:"here"`
	// InForce: what follows is applied in this node's kernel. If not, Reason says
	// why.
	InForce bool   `json:"inForce"`
	Reason  string `json:"reason,omitempty"`
	// Interface is the node's end of the pod's link; absent until it is found.
	Interface *Interface `json:"interface,omitempty"`
	// Policies are those that select it, as NAMESPACE/NAME.
	Policies []string `json:"policies"`
	// Sides has the directions, ingress first, each isolated or not.
	Sides []Side `json:"sides,omitempty"`
}

// Interface is a pod interface of this node.
type Interface struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	// Addresses are those that the node routes to it: the pod may send from these.
	Addresses []string `json:"addresses"`
	// Exceptions are ranges that it may send from beside them.
	Exceptions []string `json:"exceptions,omitempty"`
}

// Side is one direction of a pod.
type Side struct {
	Direction string `json:"direction"`
	// Isolated: only what matches one of Rules passes, else everything.
	Isolated bool `json:"isolated"`
	// Policies are those that isolate it, as NAMESPACE/NAME.
	Policies []string `json:"policies,omitempty"`
	Rules    []Rule   `json:"rules,omitempty"`
}

// Rule is a rule as it is enforced: what several policies say alike is one.
type Rule struct {
	// Text is the rule in canonical form.
	Text string `json:"text"`
	// Set is the set of addresses that it asks; SetText is what that means, and
	// Members is how many it has now.
	Set     string `json:"set,omitempty"`
	SetText string `json:"setText,omitempty"`
	Members int    `json:"members,omitempty"`
	// Origins are the parts of policies that it comes from, such as
	// shop/allow-web spec.ingress[0].from[1].ports[0].
	Origins []string `json:"origins"`
}
