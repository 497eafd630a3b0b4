package source

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/overland-net/overland/pkg/api/client"
	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/model"
)

// MeshConfig is what a Mesh is told.
type MeshConfig struct {
	// Cluster is the local cluster's name.
	Cluster string
	// Config connects to the local API server, which has the RemoteClusters and,
	// in Namespace, their Secrets. No other Secret is ever asked for.
	Config *rest.Config
	// Namespace is the agent's, here and in the linked clusters; empty for
	// DefaultNamespace.
	Namespace string
	// Services: of the linked clusters, Services and EndpointSlices are read, and
	// nothing else. In sync, both have been listed.
	Services bool
	Timing   Timing
}

// Mesh is the linked clusters: it runs a Cluster for every RemoteCluster of the
// local API server, and says their Cluster facts.
type Mesh struct {
	cfg      MeshConfig
	sink     Sink
	log      *logrus.Entry
	registry *registry
	wake     chan struct{}
	running  sync.WaitGroup

	// The loop's own.
	remotes   map[string]*remote
	facts     map[string]*model.Cluster
	listed    bool // all RemoteClusters have been told to the sink once
	conflicts map[string]bool

	mu       sync.Mutex
	clusters map[string]*v1alpha1.RemoteCluster
	complete bool // RemoteClusters have been listed
	secrets  secrets
}

// NewMesh makes a Mesh; nothing is connected before Run.
func NewMesh(cfg MeshConfig, sink Sink, log *logrus.Entry) *Mesh {
	if cfg.Namespace == "" {
		cfg.Namespace = DefaultNamespace
	}
	cfg.Timing = cfg.Timing.withDefaults()
	return &Mesh{
		cfg: cfg, sink: sink, log: log, registry: newRegistry(), wake: make(chan struct{}, 1),
		remotes: map[string]*remote{}, facts: map[string]*model.Cluster{}, conflicts: map[string]bool{},
		clusters: map[string]*v1alpha1.RemoteCluster{}, secrets: secrets{namespace: cfg.Namespace, byName: map[string]*corev1.Secret{}},
	}
}

// Run follows the RemoteClusters until ctx ends; then it returns nil, and what is
// known of all clusters stays known. An error is of the configuration. It is
// called once.
func (m *Mesh) Run(ctx context.Context) error {
	links, err := client.New(m.cfg.Config)
	if err != nil {
		return fmt.Errorf("read RemoteClusters: %w", err)
	}
	core, err := corev1client.NewForConfig(m.cfg.Config)
	if err != nil {
		return fmt.Errorf("read Secrets: %w", err)
	}
	ctx, cancel := context.WithCancel(quietly(ctx))
	defer m.running.Wait()
	defer cancel()
	m.watchLocal(ctx, links, core)
	if !m.identify(ctx, core) {
		return nil
	}
	for {
		m.reconcile(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		}
	}
}

// identify reads the uid of the local cluster, so that a link to itself is known
// as one; false: ctx has ended. The local API server is all that it waits for,
// and without that there are no RemoteClusters either.
func (m *Mesh) identify(ctx context.Context, core corev1client.NamespacesGetter) bool {
	pause := m.cfg.Timing.RetryFirst
	for {
		n, err := ask(ctx, m.cfg.Timing, func(ctx context.Context) (*corev1.Namespace, error) {
			return core.Namespaces().Get(ctx, systemNamespace, metav1.GetOptions{})
		})
		switch {
		case err == nil:
			m.registry.setLocal(model.ParseUID(string(n.UID)).String())
			return true
		case apierrors.IsForbidden(err):
			m.log.WithError(err).Warn("the local cluster's uid cannot be read: a link to itself will not be noticed as such")
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
			pause = min(2*pause, m.cfg.Timing.RetryMax)
		}
	}
}

func (m *Mesh) changed() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// reconcile makes what runs what the objects say.
func (m *Mesh) reconcile(ctx context.Context) {
	m.mu.Lock()
	clusters, complete, s := maps.Clone(m.clusters), m.complete, m.secrets
	s.byName = maps.Clone(s.byName)
	m.mu.Unlock()
	if !complete {
		return
	}
	if rc := clusters[m.cfg.Cluster]; rc != nil {
		m.conflict(rc)
		delete(clusters, m.cfg.Cluster)
	}
	for name, r := range m.remotes {
		if rc := clusters[name]; rc == nil || model.ParseUID(string(rc.UID)) != r.object {
			m.remove(name, r)
		}
	}
	plans := map[string]plan{}
	for name, rc := range clusters {
		plans[name] = planOf(rc, s, m.facts[name])
	}
	m.tell(plans)
	for _, name := range slices.Sorted(maps.Keys(plans)) {
		r := m.remotes[name]
		if r == nil {
			r = m.add(ctx, clusters[name], plans[name])
		}
		m.registry.put(clusters[name], r.again)
		r.follow(plans[name])
	}
}

// conflict says once that a RemoteCluster has the local cluster's name. It has no
// status of its own here: under that name the local cluster's is found.
func (m *Mesh) conflict(rc *v1alpha1.RemoteCluster) {
	if uid := string(rc.UID); !m.conflicts[uid] {
		m.conflicts[uid] = true
		m.log.WithFields(logrus.Fields{"cluster": rc.Name, "reason": model.ReasonNameConflict}).
			Warn("a RemoteCluster has the name of the local cluster and is ignored: remove it, and make it anew under another name")
	}
}

// tell hands the Cluster facts over: all of them the first time, so that what an
// earlier agent knew of clusters that are gone is dropped, then what changes.
func (m *Mesh) tell(plans map[string]plan) {
	var changes []model.Change
	for _, name := range slices.Sorted(maps.Keys(plans)) {
		fact := plans[name].fact
		if r := plans[name].refused; r != nil && r.Reason == model.ReasonInvalidName {
			continue
		}
		if !m.listed || !sameFact(m.facts[name], fact) {
			changes = append(changes, model.Set(fact))
			m.facts[name] = fact
		}
	}
	switch {
	case !m.listed:
		m.listed = true
		m.sink.Facts(model.Batch{Replace: model.KindCluster, Changes: changes})
	default:
		for _, c := range changes {
			m.sink.Facts(model.Batch{Cluster: c.Key.Cluster, Changes: []model.Change{c}})
		}
	}
}

func (m *Mesh) add(ctx context.Context, rc *v1alpha1.RemoteCluster, p plan) *remote {
	ctx, cancel := context.WithCancel(ctx)
	log := m.log.WithField("cluster", rc.Name)
	g := newGate(m.sink)
	r := &remote{
		object: model.ParseUID(string(rc.UID)), mesh: &m.cfg, gate: g, registry: m.registry, log: log,
		report: newReporter(rc.Name, m.cfg.Timing, g), cancel: cancel, wake: make(chan struct{}, 1), plan: p,
	}
	m.remotes[rc.Name] = r
	m.running.Go(func() { r.run(ctx) })
	return r
}

// remove ends a link, and what is known of the cluster with it (semantics 3.3).
func (m *Mesh) remove(name string, r *remote) {
	r.stop()
	m.registry.remove(name)
	delete(m.remotes, name)
	delete(m.facts, name)
	m.sink.Facts(model.Batch{Cluster: name, Changes: []model.Change{model.Gone(model.ClusterKey(name))}})
	m.log.WithField("cluster", name).Info("the link is removed, and what was known of the cluster with it")
}

// watchLocal keeps RemoteClusters and Secrets up to date.
func (m *Mesh) watchLocal(ctx context.Context, links client.Reader, core corev1client.SecretsGetter) {
	m.follow(ctx, "RemoteClusters", m.clustersOf(links), &v1alpha1.RemoteCluster{}, &table[*v1alpha1.RemoteCluster]{
		replace: func(all map[string]*v1alpha1.RemoteCluster) { m.clusters, m.complete = all, true },
		put:     func(rc *v1alpha1.RemoteCluster) { m.clusters[rc.Name] = rc },
		remove:  func(name string) { delete(m.clusters, name) },
		lock:    &m.mu, changed: m.changed,
	})
	m.follow(ctx, "Secrets", m.secretsOf(core), &corev1.Secret{}, &table[*corev1.Secret]{
		replace: func(all map[string]*corev1.Secret) { m.secrets.byName, m.secrets.listed = all, true },
		put:     func(s *corev1.Secret) { m.secrets.byName[s.Name] = s },
		remove:  func(name string) { delete(m.secrets.byName, name) },
		lock:    &m.mu, changed: m.changed,
	})
}

func (m *Mesh) follow(ctx context.Context, what string, lw cache.ListerWatcher, object runtime.Object, store cache.ReflectorStore) {
	t := m.cfg.Timing
	m.running.Go(func() { runReflector(ctx, what, lw, object, store, t) })
}
