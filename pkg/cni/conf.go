package cni

import "github.com/overland-net/overland/pkg/admin/api"

// PluginType is the plugin's type in a list of plugins, and the name of its
// program in CNI's folder of binaries.
const PluginType = "overland-cni"

// What holds for keys that a Conf lacks.
const (
	DefaultSocket         = api.DefaultSocket
	DefaultTimeoutSeconds = 10
)

// MaxTimeoutSeconds is the longest that an ADD may be told to wait: the kubelet
// itself waits two minutes for a sandbox, of which the plugins before ours need some.
const MaxTimeoutSeconds = 100

// DefaultFailOpenNamespaces are those whose pods start even if the agent does not
// answer: without them a node could not come up, nor the agent be repaired.
func DefaultFailOpenNamespaces() []string { return []string{"kube-system", "overland-system"} }

// Conf is the plugin's entry in a list of plugins. Runtimes add fields to it.
type Conf struct {
	Type string `json:"type"` // PluginType
	// Socket is the agent's admin socket; empty: DefaultSocket.
	Socket string `json:"socket,omitempty"`
	// TimeoutSeconds is how long an ADD waits for the agent, 1 to
	// MaxTimeoutSeconds; 0: DefaultTimeoutSeconds.
	TimeoutSeconds int `json:"timeoutSeconds,omitempty"`
	// FailOpenNamespaces are those whose pods start without an answer of the
	// agent. Nil: DefaultFailOpenNamespaces; empty: none.
	FailOpenNamespaces []string `json:"failOpenNamespaces,omitzero"`
}
