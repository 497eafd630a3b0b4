// Package policy is what NetworkPolicies mean over the mesh (semantics 2): the
// peers of a policy as selectors over all endpoints of all clusters, and which
// policies concern the pods of one node.
//
// It is pure and may import pkg/model, pkg/pset, pkg/selector and pkg/index only.
package policy
