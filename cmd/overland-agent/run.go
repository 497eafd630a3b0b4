package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/overland-net/overland/pkg/admin"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/node"
	"github.com/overland-net/overland/pkg/policy"
	"github.com/overland-net/overland/pkg/source"
	"github.com/overland-net/overland/pkg/store"
)

const mebibyte = 1 << 20

// run puts the agent together and runs it until ctx ends.
//
//	source.Cluster (local) ─┐                       ┌─ admin.Server
//	source.Mesh (remotes)  ─┼─► agent ─► Snapshot ──┼─ federation (leader only)
//	node.Watcher           ─┘     └─► store         └─ dataplane.Loop ─► kernel
//	conflist.Installer ─► CNI's folders
func run(ctx context.Context, cfg Config, log *logrus.Entry) error {
	log.WithFields(logrus.Fields{"version": version(), "cluster": cfg.ClusterName, "node": cfg.NodeName}).Info("the agent starts")
	group, ctx := errgroup.WithContext(ctx)
	installer, err := newInstaller(cfg, log)
	if err != nil {
		return err
	}
	own, err := openNode(cfg, log)
	if err != nil {
		return err
	}
	ag, closeStore, err := newAgent(cfg, own.grandfathered(), log)
	if err != nil {
		own.watcher.Close()
		return err
	}
	defer closeStore()
	enforce, dp := newDataplane(cfg, own.start, ag, log)
	pods := &podReader{cluster: cfg.ClusterName}
	attachments := newAttachments(cfg, own, ag, enforce, pods, log)
	own.deliver = func(list []model.Interface) {
		attachments.Interfaces(list)
		ag.Interfaces(list)
	}
	services := new(services)
	self := agent.Self{Cluster: cfg.ClusterName, Node: cfg.NodeName, Version: version(), Started: time.Now()}
	alone := make(chan struct{}) // closed once no other agent can run on this node
	server := admin.NewServer(admin.Config{
		Socket: cfg.AdminSocket, Listen: cfg.MetricsAddress, Self: self, Dataplane: withCNI{dp, installer}, Services: services, CNI: attachments,
		Opened: func() { close(alone) },
	}, ag, log)
	group.Go(func() error { return server.Run(ctx) })
	group.Go(func() error { return ag.Run(ctx) })
	group.Go(func() error { return own.watcher.Run(ctx) })
	group.Go(func() error { return attachments.Run(ctx) })
	group.Go(func() error { return own.remember(ctx, ag.Snapshot) })
	group.Go(func() error { return giveBack(ctx, ag.Snapshot) })
	group.Go(func() error { return after(ctx, alone, installer.Run) })
	startEnforcer(ctx, group, enforce, own.start, alone)
	local, err := restConfig(cfg)
	if err == nil {
		err = pods.connect(local)
	}
	if err != nil {
		return stopWith(group, err)
	}
	startSources(ctx, group, cfg, local, ag, log)
	if err := startUntainter(ctx, group, cfg, local, dp.Ready, installer, log); err != nil {
		return stopWith(group, err)
	}
	if err := startFederation(ctx, group, cfg, local, ag, services, log); err != nil {
		return stopWith(group, err)
	}
	return group.Wait()
}

// startEnforcer starts enforcement once no other agent can run on this node. After
// a reboot it returns when the kernel has been told what to drop: pods may be
// starting, and what protects them comes before all else.
func startEnforcer(ctx context.Context, group *errgroup.Group, e *enforcer, start node.Start, alone <-chan struct{}) {
	if e == nil {
		return
	}
	group.Go(func() error { return after(ctx, alone, e.Run) })
	if start != node.Reboot && start != node.Unknown {
		return
	}
	select {
	case <-e.tried:
	case <-ctx.Done():
	}
}

// after runs something once a channel is closed, unless ctx ends before.
func after(ctx context.Context, start <-chan struct{}, run func(context.Context) error) error {
	select {
	case <-start:
		return run(ctx)
	case <-ctx.Done():
		return nil
	}
}

// stopWith ends what was started because of an error.
func stopWith(group *errgroup.Group, err error) error {
	group.Go(func() error { return err })
	return group.Wait()
}

// newDataplane is what enforces, nil if nothing does, and what says how that is
// going.
func newDataplane(cfg Config, start node.Start, ag *agent.Agent, log *logrus.Entry) (*enforcer, admin.Dataplane) {
	if cfg.Dataplane == dataplaneNone {
		log.Warn("--dataplane=none: NetworkPolicies are watched and not enforced on this node")
		return nil, observer{}
	}
	e := newEnforcer(cfg.Dataplane, start, openIptables(cfg, log), desiredSource{ag.Snapshot}, log)
	return e, e
}

func newAgent(cfg Config, grandfathered []model.Interface, log *logrus.Entry) (*agent.Agent, func(), error) {
	var st *store.Store
	closeStore := func() {}
	if cfg.StoreDir != "" {
		var err error
		if st, err = store.Open(cfg.StoreDir, cfg.StoreLimitMiB*mebibyte, log); err != nil {
			return nil, nil, err
		}
		closeStore = func() {
			if err := st.Close(); err != nil {
				log.WithError(err).Warning("the store was not closed cleanly")
			}
		}
	}
	// Validate has accepted all of these.
	pods, _ := prefixes(cfg.PodCIDRs)
	nodes, _ := prefixes(cfg.NodeCIDRs)
	override, _ := policy.ParseOverride(cfg.PeerScopeOverride)
	return agent.New(agent.Config{
		Cluster: cfg.ClusterName, Node: cfg.NodeName, Version: version(),
		ClusterLabels: model.NewLabels(cfg.ClusterLabels), PodCIDRs: pods, NodeCIDRs: nodes,
		Mesh: cfg.PeerScope == "mesh", ScopeOverride: override,
		Limits: policy.Limits{
			Selectors: cfg.MaxSelectorsPerNamespace, Members: cfg.MaxMembersPerNamespace, Rules: cfg.MaxRulesPerNamespace,
		},
		Protected: cfg.Protected, Grandfathered: grandfathered,
		OwnNodeEgress: cfg.OwnNodeEgress == "policy", Exceptions: cfg.exceptions(),
	}, st, log), closeStore, nil
}

// restConfig is how to reach the local API server.
func restConfig(cfg Config) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if cfg.Kubeconfig != "" {
		config, err = clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	} else {
		config, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("find the local API server: %w", err)
	}
	config.UserAgent = "overland-agent/" + version()
	return config, nil
}

func startSources(ctx context.Context, group *errgroup.Group, cfg Config, local *rest.Config, ag *agent.Agent, log *logrus.Entry) {
	cluster := source.NewLocal(cfg.ClusterName, cfg.NodeName, local, ag)
	mesh := source.NewMesh(source.MeshConfig{Cluster: cfg.ClusterName, Namespace: cfg.Namespace, Config: local}, ag, log)
	group.Go(func() error { return cluster.Run(ctx) })
	group.Go(func() error { return mesh.Run(ctx) })
}

// identity is unique among agents and their starts: the pod's name, which the
// manifest sets.
func identity(cfg Config) string {
	if pod := os.Getenv("POD_NAME"); pod != "" {
		return pod
	}
	return cfg.NodeName
}
