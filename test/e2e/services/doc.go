// Package services tests federated Services on a lab of two linked clusters: what
// the elected leader writes, who is reached through it by real kube-proxy and
// CoreDNS, and what becomes of it while clusters, leaders and objects fail.
//
// It may import test/lab/labtest, pkg/admin/api and pkg/api/client.
package services
