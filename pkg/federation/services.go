package federation

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/kubernetes"

	"github.com/overland-net/overland/pkg/model"
)

// maxWriters is for how many Services objects are written at once.
const maxWriters = 8

// Sink takes what the sources of Services and EndpointSlices learn: a source.Sink.
type Sink interface {
	Facts(b model.Batch)
	Status(cluster string, s model.ClusterStatus)
	Drain(cluster string)
}

// ServicesConfig is what Services need to know.
type ServicesConfig struct {
	Cluster   string // the local cluster's name
	Namespace string // the agent's, where the leader publishes what it knows
	Identity  string // this agent, as in the Lease
	// Endpoints: Endpoints objects are written too (semantics 4.6).
	Endpoints bool
	// Sources runs the sources of Services and EndpointSlices of all clusters,
	// until ctx ends.
	Sources func(ctx context.Context, sink Sink)
}

// Services federates Services (semantics 4): it writes what plan.Plan says. It is
// for the leader: run it as part of the body of Leader.Run. Snapshot and Published
// may be called by any agent, from any goroutine.
//
// What sources say, what informers show of the own objects and what the agent
// knows of identities come together in one goroutine (round), which plans the
// Services that something has changed for, each at a bounded rate. A few others
// write what was planned. Nothing is kept from one term to the next but counters.
type Services struct {
	cfg       ServicesConfig
	client    kubernetes.Interface
	snapshots Snapshots
	contacts  Contacts
	log       *logrus.Entry

	totals totals // of the goroutine that runs

	mu        sync.Mutex
	published *ServicesSnapshot
	newer     chan struct{}
	asked     answerOfLeader
}

// NewServices does nothing yet.
func NewServices(cfg ServicesConfig, client kubernetes.Interface, snapshots Snapshots, contacts Contacts, log *logrus.Entry) *Services {
	return &Services{
		cfg: cfg, client: client, snapshots: snapshots, contacts: contacts, log: log,
		totals: newTotals(), published: &ServicesSnapshot{}, newer: make(chan struct{}),
	}
}

// Snapshot is what this agent knows of federated Services as the leader, and a
// channel that is closed when there is something newer. Unless it leads, it knows
// counters only.
func (s *Services) Snapshot() (*ServicesSnapshot, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.published, s.newer
}

func (s *Services) publish(now *ServicesSnapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = now
	close(s.newer)
	s.newer = make(chan struct{})
}

// Run federates until ctx ends. It may be called again after that.
func (s *Services) Run(ctx context.Context) {
	r := newRound(s)
	r.publish(time.Now())
	var others sync.WaitGroup
	others.Go(func() { s.cfg.Sources(ctx, r.mail) })
	others.Go(func() { r.objects.run(ctx, s.client) })
	others.Go(func() { s.publishReports(ctx) })
	r.run(ctx)
	others.Wait()
	s.publish(&ServicesSnapshot{Totals: s.totals.copy()})
}
