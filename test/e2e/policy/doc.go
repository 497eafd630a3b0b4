// Package policy tests policies with real packets: what a policy allows passes
// and what it does not allow does not, inside a cluster and from cluster to
// cluster, also in worlds made up at random, and while everything changes.
//
// It may import test/lab/labtest, test/lab/netprobe, test/lab/topology, test/worlds,
// pkg/model and pkg/admin/api.
package policy
