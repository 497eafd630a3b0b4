// Package dataplanetest is what a dataplane is tested with: a Kernel that is not
// one and yet keeps a real one's rules (what it refuses, how it prints rules
// back, what a packet meets on its way, what is left after a failure), random
// States, and Conformance, the suite that every dataplane has to pass.
//
// It may import pkg/model, pkg/pset, pkg/desired, pkg/dataplane and
// pkg/dataplane/iptables.
package dataplanetest
