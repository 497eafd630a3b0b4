package source

import (
	"sync"

	"github.com/overland-net/overland/pkg/model"
)

// Sink takes what sources learn. Its methods are called from many goroutines and
// must not block.
type Sink interface {
	// Facts hands over facts; the batch is not changed afterwards. A batch with
	// Replace KindCluster and no Cluster is the list of all linked clusters.
	Facts(b model.Batch)
	// Status says how a cluster's source is doing, at every change.
	Status(cluster string, s model.ClusterStatus)
	// Drain says that all facts of the cluster but the Cluster fact are gone:
	// its API server is now another cluster's (semantics 1.1).
	Drain(cluster string)
}

// gate is a Sink that can be shut: nothing comes through any more from the moment
// that shut returns. So what replaces a source need not wait for it to end.
type gate struct {
	mu   sync.Mutex
	sink Sink // nil once shut
}

func newGate(sink Sink) *gate { return &gate{sink: sink} }

func (g *gate) Facts(b model.Batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sink != nil {
		g.sink.Facts(b)
	}
}

func (g *gate) Status(cluster string, s model.ClusterStatus) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sink != nil {
		g.sink.Status(cluster, s)
	}
}

func (g *gate) Drain(cluster string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sink != nil {
		g.sink.Drain(cluster)
	}
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sink = nil
}
