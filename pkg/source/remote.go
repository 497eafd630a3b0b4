package source

import (
	"context"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/model"
)

// remote is one linked cluster: it runs a Cluster as its plan says, and a new one
// when the plan changes. What it knows of the cluster's state outlives both.
type remote struct {
	object   model.UID
	mesh     *MeshConfig
	gate     *gate
	report   *reporter
	registry *registry
	log      *logrus.Entry
	cancel   context.CancelFunc
	wake     chan struct{}

	mu      sync.Mutex
	plan    plan
	cluster *Cluster // that runs; nil if none
}

// follow makes p the plan.
func (r *remote) follow(p plan) {
	r.mu.Lock()
	r.plan = p
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// again makes the running Cluster, if any, connect anew.
func (r *remote) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cluster != nil {
		r.cluster.reconnect()
	}
}

// stop ends it. Nothing of it comes through from the moment that stop returns.
func (r *remote) stop() {
	r.gate.shut()
	r.cancel()
}

func (r *remote) current() plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plan
}

// run follows the plan until ctx ends.
func (r *remote) run(ctx context.Context) {
	for ctx.Err() == nil {
		p := r.current()
		r.report.follows(p.generation)
		switch {
		case p.refused != nil:
			r.report.failed(p.refused)
		case p.suspended:
			r.report.state(model.StateSuspended, model.ReasonSuspended, "spec.suspend is set: what is known is kept, and not kept up to date")
		case p.waiting:
			r.report.state(model.StateConnecting, model.ReasonConnecting, "its Secret has not been read yet: that needs the local API server")
		default:
			r.connect(ctx, p)
			continue
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
		}
	}
}

// connect runs a Cluster until the plan needs another one, or none.
func (r *remote) connect(ctx context.Context, p plan) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	name := p.fact.Name
	cfg := p.config(r.mesh, func(uid string) verdict { return r.registry.accept(name, r.object, uid) })
	r.report.credentials(cfg.expire, cfg.issued)
	c := newCluster(cfg, r.gate, r.report)
	r.setCluster(c)
	defer r.setCluster(nil)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	for {
		select {
		case err := <-ended:
			r.over(err)
			return
		case <-r.wake:
			next := r.current()
			if next.refused != nil || next.suspended || next.waiting || next.connection != p.connection {
				cancel()
				r.over(<-ended)
				return
			}
			r.report.follows(next.generation)
		}
	}
}

// over takes that a Cluster has ended; it has no reason but to be told to.
func (r *remote) over(err error) {
	if err != nil {
		r.log.WithError(err).Error("the cluster's source has ended")
	}
}

func (r *remote) setCluster(c *Cluster) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cluster = c
}
