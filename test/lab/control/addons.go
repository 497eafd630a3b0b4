package control

import _ "embed"

// coreDNS is the manifest of cluster DNS, with {{…}} for what differs between
// clusters.
//
//go:embed coredns.yaml
var coreDNS string
