// Package attach is the pods of this node that CNI has connected: it checks what
// the plugin says against the node's own kernel, tells the agent, and answers when
// the kernel enforces what policies say of the pod. What it knows is on the node's
// disk, so that a restart of the agent loses no pod that no API server has the
// address of yet.
//
// It may import pkg/model, pkg/agent, pkg/dataplane, pkg/policy and pkg/desired.
package attach
