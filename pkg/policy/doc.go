// Package policy is what NetworkPolicies mean over the mesh (semantics 2): the
// peers of a policy as selectors over all endpoints of all clusters, which
// policies concern the pods of one node, and what that node must enforce.
//
//	policies, Namespaces, pods of the node ──Apply──┐
//	interfaces and configuration ───────────Node────┤
//	                                                Set ──Update──► what the index is to track
//	view of the index, released addresses ──State───┴────────────► desired.State
//
// Inside, a policy that selects a pod of the node is translated into units: what
// one of its rules allows to one of its peers. Units are admitted by the limits of
// their namespace and give terms: rules, but for the number of a named port. The
// terms of all policies that isolate a pod in one direction, merged, are its
// Side. All of this is kept, and made again only where its facts have changed.
//
// It is pure and may import pkg/model, pkg/pset, pkg/selector, pkg/index and
// pkg/desired only.
package policy
