// Package iptables enforces a desired.State with iptables rules and ipset sets,
// of both families.
//
//	desired.State ──compile──► Program ──diff with what is there──► phases ──► Kernel
//	                              └──trace: what the rules do with a flow
//
// Compile, diff and trace are pure, by file: compile*.go, diff*.go, trace*.go.
//
// It may import pkg/model, pkg/pset, pkg/desired, pkg/dataplane,
// pkg/dataplane/delta, pkg/dataplane/ipset and pkg/dataplane/conntrack.
package iptables
