// Package cni tests on a lab of one cluster that no packet passes before policy:
// that pods which connect out or are reached at once, while agents come and go,
// never get or send what policies deny; and that a node stays usable whatever
// becomes of its CNI configuration.
//
// It may import test/lab/labtest, test/lab/netprobe, test/lab/azurecni,
// pkg/admin/api and libcni.
package cni
