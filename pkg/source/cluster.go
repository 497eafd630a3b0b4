package source

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/overland-net/overland/pkg/model"
)

// Cluster reads one API server: its pods, namespaces and nodes and, of the local
// one, its network policies; or its Services and EndpointSlices alone.
type Cluster struct {
	cfg    *config
	sink   Sink
	report *reporter
	// gathers outlive sessions: see gather. None without an import list.
	gathers map[model.Kind]*gather
	again   chan struct{}
}

// NewLocal reads the local cluster, as cfg connects to it: programs and files in
// cfg are the agent's own and fine. Pods of the named node are facts before they
// have an address. The Cluster fact of the local cluster is not this package's
// matter.
func NewLocal(name, node string, cfg *rest.Config, sink Sink) *Cluster {
	return newLocal(&config{name: name, node: node, connect: cfg}, sink)
}

// NewLocalServices reads the Services and EndpointSlices of the local cluster, and
// nothing else, likewise. In sync, both have been listed.
func NewLocalServices(name string, cfg *rest.Config, sink Sink) *Cluster {
	return newLocal(&config{name: name, connect: cfg, services: true}, sink)
}

func newLocal(c *config, sink Sink) *Cluster {
	c.local, c.agentNamespace = true, DefaultNamespace
	return newCluster(c, sink, newReporter(c.name, Timing{}.withDefaults(), sink))
}

func newCluster(cfg *config, sink Sink, report *reporter) *Cluster {
	cfg.timing = cfg.timing.withDefaults()
	c := &Cluster{cfg: cfg, sink: sink, report: report, gathers: map[model.Kind]*gather{}, again: make(chan struct{}, 1)}
	if len(cfg.namespaces) > 0 {
		for _, kind := range append(cfg.kinds(), model.KindNamespace) {
			c.gathers[kind] = newGather(sink, cfg.name, kind, cfg.namespaces)
		}
	}
	return c
}

// Run reads the cluster until ctx ends; then it returns nil, and what is known
// stays known. A failure is reported as a status, and tried again for ever. It is
// called once.
func (c *Cluster) Run(ctx context.Context) error {
	c.report.begin()
	ctx = quietly(ctx)
	attempts := 0
	for ctx.Err() == nil {
		synced, err := c.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if synced {
			attempts = 0
		}
		var why *Failure
		switch {
		case errors.Is(err, errAgain), errors.Is(err, errAnother):
			// The next session tells; but no server may make them many.
		case errors.As(err, &why):
			c.report.failed(why)
		}
		attempts++
		c.pause(ctx, attempts)
	}
	return nil
}

// quietly keeps client-go from logging: it says much and means little by it, and
// some of it at the word of the server. What matters is in the status.
func quietly(ctx context.Context) context.Context {
	return klog.NewContext(ctx, klog.Logger{}) // whose zero value says nothing
}

func (c *Cluster) session(ctx context.Context) (synced bool, err error) {
	s, err := newSession(c)
	if err != nil {
		return false, err
	}
	err = s.run(ctx)
	return s.synced, err
}

// pause waits longer after every attempt, up to a bound; a part of it at random,
// so that the agents of many nodes do not come all at once.
func (c *Cluster) pause(ctx context.Context, attempts int) {
	const doublings = 20
	pause := c.cfg.timing.RetryFirst << min(attempts-1, doublings)
	if pause > c.cfg.timing.RetryMax || pause <= 0 {
		pause = c.cfg.timing.RetryMax
	}
	timer := time.NewTimer(pause/2 + rand.N(pause/2+1)) //nolint:gosec // no secret
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.again:
	case <-timer.C:
	}
}

// reconnect begins a new session soon.
func (c *Cluster) reconnect() {
	select {
	case c.again <- struct{}{}:
	default:
	}
}
