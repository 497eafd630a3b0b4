// Package dataplane is what enforces a desired.State on a node: the interface,
// and the loop that keeps what is enforced equal to the newest State, whatever
// fails or drifts. The dataplanes are below: iptables.
//
// It may import pkg/model, pkg/pset, pkg/desired and pkg/dataplane/delta.
package dataplane
