package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/api/client"
	"github.com/overland-net/overland/pkg/federation"
	"github.com/overland-net/overland/pkg/source"
)

// The rate of requests for federated Services, and how many at once: what a cold
// start of a thousand of them takes is some twenty seconds, and the API server's
// own fairness comes on top.
const (
	servicesQPS   = 200
	servicesBurst = 400
)

// startFederation takes part in the election and, while this agent leads, runs
// what the leader does.
func startFederation(ctx context.Context, group *errgroup.Group, cfg Config, local *rest.Config, ag *agent.Agent, told *services, log *logrus.Entry) error {
	candidate, err := federation.ParseCandidacy(cfg.FederationCandidate)
	if err != nil {
		return err
	}
	kube, err := kubernetes.NewForConfig(local)
	if err != nil {
		return fmt.Errorf("make a client of the local API server: %w", err)
	}
	clusters, err := client.New(local)
	if err != nil {
		return fmt.Errorf("make a client of the local API server: %w", err)
	}
	leader, err := federation.NewLeader(federation.LeaderConfig{
		Namespace: cfg.Namespace, Identity: identity(cfg), Node: cfg.NodeName, Candidate: candidate,
		Nodes: func() []federation.NodeInfo {
			snapshot, _ := ag.Snapshot()
			return federation.NodesOf(snapshot)
		},
	}, kube, log)
	if err != nil {
		return err
	}
	writer := federation.NewStatusWriter(federation.WriterConfig{
		Node: cfg.NodeName, Cluster: cfg.ClusterName, Namespace: cfg.Namespace,
		Backing: func() map[string]int {
			snapshot, _ := told.Snapshot()
			return snapshot.Backing
		},
	}, clusters, kube.CoreV1().Namespaces(), ag, log)
	federated, err := newServices(cfg, local, ag, writer, log)
	if err != nil {
		return err
	}
	told.are.Store(federated)
	events := federation.NewEventWriter(identity(cfg), kube.EventsV1(), ag, federated, log)
	group.Go(func() error {
		return leader.Run(ctx, func(ctx context.Context) {
			var bodies sync.WaitGroup
			bodies.Go(func() { writer.Run(ctx) })
			bodies.Go(func() { events.Run(ctx) })
			bodies.Go(func() { federated.Run(ctx) })
			bodies.Wait()
		})
	})
	return nil
}

// newServices is what federates Services. It has connections of its own, and so
// have its sources, which read Services and EndpointSlices and nothing else.
func newServices(cfg Config, local *rest.Config, ag *agent.Agent, contacts federation.Contacts, log *logrus.Entry) (*federation.Services, error) {
	config := rest.CopyConfig(local)
	config.QPS, config.Burst = servicesQPS, servicesBurst
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.WarningHandler = rest.NoWarnings{} // that Endpoints are an old API is known
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client of the local API server: %w", err)
	}
	return federation.NewServices(federation.ServicesConfig{
		Cluster: cfg.ClusterName, Namespace: cfg.Namespace, Identity: identity(cfg), Endpoints: cfg.FederationEndpoints,
		Sources: func(ctx context.Context, sink federation.Sink) {
			cluster := source.NewLocalServices(cfg.ClusterName, local, sink)
			mesh := source.NewMesh(source.MeshConfig{
				Cluster: cfg.ClusterName, Namespace: cfg.Namespace, Config: local, Services: true,
			}, sink, log.WithField("reads", "services"))
			var running sync.WaitGroup
			for _, run := range []func(context.Context) error{cluster.Run, mesh.Run} {
				running.Go(func() {
					if err := run(ctx); err != nil {
						log.WithError(err).Error("Services and EndpointSlices cannot be read")
					}
				})
			}
			running.Wait()
		},
	}, kube, ag, contacts, log), nil
}

// services are what the admin server asks about federated Services: it listens
// before there is a way to the API server.
type services struct {
	are atomic.Pointer[federation.Services]
}

// Snapshot is what this agent knows as the leader.
func (s *services) Snapshot() (*federation.ServicesSnapshot, <-chan struct{}) {
	if are := s.are.Load(); are != nil {
		return are.Snapshot()
	}
	return &federation.ServicesSnapshot{}, nil
}

// Published is what the leader has published.
func (s *services) Published(ctx context.Context) (*federation.Reports, error) {
	if are := s.are.Load(); are != nil {
		return are.Published(ctx)
	}
	return nil, errors.New("the agent is starting")
}
