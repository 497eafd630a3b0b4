package main

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/overland-net/overland/pkg/agent"
)

const (
	// collectAt is the growth of the heap, in percent, at which it is collected:
	// half of Go's default. What an agent holds changes little, so the time that
	// this costs is small, and a node has its memory for pods.
	collectAt = 50
	// A list of a large cluster needs a few times the memory that its facts take.
	// When the number of endpoints has changed by so many, and then has stayed
	// the same for so long, what was needed is given back to the kernel, which
	// costs one collection.
	manyEndpoints = 10_000
	quiet         = 5 * time.Second
)

// giveBack returns memory to the kernel after large lists, until ctx ends.
func giveBack(ctx context.Context, snapshots func() (*agent.Snapshot, <-chan struct{})) error {
	debug.SetGCPercent(collectAt)
	last, returned := 0, 0
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		snapshot, _ := snapshots()
		now := snapshot.View.Len()
		if now == last && max(now-returned, returned-now) >= manyEndpoints {
			debug.FreeOSMemory()
			returned = now
		}
		last = now
	}
}
