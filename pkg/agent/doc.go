// Package agent owns what this node knows. Sources hand it facts, statuses and
// drains; one loop puts them, step by step, through a pure Core, writes down
// what changed in this node's store, and publishes an immutable Snapshot, which
// is all that anything else in the process reads.
//
// The same loop takes the node's interfaces and gives, in the Snapshot, what the
// node must enforce.
//
// Pure by file, without goroutine, lock, clock or log: core.go and the core_*.go
// beside it. The shell is mailbox.go (what waits for the next step) and
// agent.go and persist.go (the loop and the disk).
//
// It may import pkg/model, pkg/pset, pkg/selector, pkg/index, pkg/policy,
// pkg/desired and pkg/store.
package agent
