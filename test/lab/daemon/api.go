// Package daemon is the process that holds a lab: it builds the network, keeps
// the clusters' programs running, and answers the command line over a unix
// socket. It may import the lab's topology, fabric, control, kubeclient, ns,
// rootfs, state, azurecni, runtime and kubelet packages.
//
// The lab's first process makes namespaces of its own, for processes, mounts
// and the network, and everything else runs inside them. So nothing of a lab is
// to be seen in the machine's own namespaces, and ending that one process ends
// all: the kernel sees to it, whatever state the lab is in.
package daemon

import (
	"time"

	"github.com/overland-net/overland/test/lab/fabric"
	"github.com/overland-net/overland/test/lab/topology"
)

// Phases of a lab.
const (
	PhaseStarting = "starting"
	PhaseReady    = "ready"
	PhaseFailed   = "failed"
)

// Status is all there is to know about a lab.
type Status struct {
	Phase   string           `json:"phase"`
	Doing   string           `json:"doing,omitempty"` // the step at hand, while starting
	Error   string           `json:"error,omitempty"`
	Started time.Time        `json:"started"`
	Took    time.Duration    `json:"took,omitempty"` // from the start until ready, nanoseconds
	Options topology.Options `json:"options"`
	// Memory is what the lab's processes use, in bytes: the sum of their
	// proportional set sizes, so that shared pages count once. To add them up is
	// work, so it is not done while the lab starts.
	Memory   int64           `json:"memory"`
	Clusters []ClusterStatus `json:"clusters"`
	Peerings []PeeringStatus `json:"peerings,omitempty"`
}

// ClusterStatus is one cluster's part.
type ClusterStatus struct {
	Name       string            `json:"name"`
	Kubeconfig string            `json:"kubeconfig"`
	Server     string            `json:"server"`
	Components []ComponentStatus `json:"components"`
	Nodes      []NodeStatus      `json:"nodes"`
}

// NodeStatus is one node's part.
type NodeStatus struct {
	Name       string            `json:"name"`
	Addresses  []string          `json:"addresses"`
	PID        int               `json:"pid"` // its first process, in the lab's PID namespace
	BootID     string            `json:"bootID"`
	Components []ComponentStatus `json:"components"`
}

// ComponentStatus is one program's part.
type ComponentStatus struct {
	Name     string `json:"name"`
	State    string `json:"state"` // running, restarting or stopped
	PID      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts,omitempty"`
	Last     string `json:"last,omitempty"` // how it ended last
	Log      string `json:"log"`
}

// PeeringStatus is one direction of a peering.
type PeeringStatus struct {
	From string `json:"from"`
	To   string `json:"to"`
	fabric.Impairment
}

// ImpairRequest changes one direction of a peering, or both.
type ImpairRequest struct {
	From       string            `json:"from"`
	To         string            `json:"to"`
	OneWay     bool              `json:"oneWay"`
	Impairment fabric.Impairment `json:"impairment"`
}

// ComponentRequest stops or starts a component.
type ComponentRequest struct {
	Name string `json:"name"`
	// Kill stops it without a warning.
	Kill bool `json:"kill,omitempty"`
}

// RebootRequest reboots a node.
type RebootRequest struct {
	Node string `json:"node"` // CLUSTER/NODE
	// First is what has to work before the other starts, or empty for both at
	// once.
	First string `json:"first,omitempty"`
}

// What may be first on a node that boots.
const (
	// FirstProxy: kube-proxy has written its rules before the kubelet starts.
	FirstProxy = "kube-proxy"
	// FirstAgent: the kubelet runs, and every host-network pod of the node is
	// ready, an agent's among them, before kube-proxy starts.
	FirstAgent = "agent"
)

// errorReply is the body of every answer that is not 200.
type errorReply struct {
	Error string `json:"error"`
}
