// Package node is this node's own part of the facts: the pod interfaces that its
// kernel has, with the addresses that it routes to them, and what the agent
// remembers of the node over restarts, by which it tells a restart from a reboot
// and from a first installation.
//
// It may import pkg/model.
package node
