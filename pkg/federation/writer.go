package federation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/api/client"
	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/model"
)

const (
	// requestLimit bounds one request: a server that does not answer must not
	// keep the other objects waiting for longer.
	requestLimit = 5 * time.Second
	// conflictTries is how often a write is planned anew on what somebody else
	// has written meanwhile, before it waits like after any failure.
	conflictTries = 3
	// restPeriod is the shortest time between two passes: snapshots come up to
	// fifty times a second.
	restPeriod = 100 * time.Millisecond
	// namePeriod is how often the published name is looked after.
	namePeriod = 10 * time.Minute
)

// Snapshots is where the newest snapshot comes from: an *agent.Agent.
type Snapshots interface {
	Snapshot() (*agent.Snapshot, <-chan struct{})
}

// RemoteClusters is what a StatusWriter needs of the API server.
type RemoteClusters interface {
	client.Reader
	UpdateStatus(ctx context.Context, r *v1alpha1.RemoteCluster, opts metav1.UpdateOptions) (*v1alpha1.RemoteCluster, error)
}

// WriterConfig is what a StatusWriter needs to know.
type WriterConfig struct {
	Node      string // this agent's node: status.observedBy
	Cluster   string // the local cluster's name
	Namespace string // the agent's, which gets the annotation with that name
	// Backing, if not nil, counts the Services of each cluster that back federated
	// ones; it gives nil as long as that is not known.
	Backing func() map[string]int
}

// StatusWriter writes the status of every RemoteCluster, and the cluster's name
// on the agent's namespace. It is for the leader: run it as body of Leader.Run.
type StatusWriter struct {
	cfg        WriterConfig
	clusters   RemoteClusters
	namespaces corev1client.NamespaceInterface
	snapshots  Snapshots
	log        *logrus.Entry
	contacts   atomic.Pointer[map[string]time.Time]
}

// NewStatusWriter does nothing yet.
func NewStatusWriter(cfg WriterConfig, clusters RemoteClusters, namespaces corev1client.NamespaceInterface, snapshots Snapshots, log *logrus.Entry) *StatusWriter {
	return &StatusWriter{cfg: cfg, clusters: clusters, namespaces: namespaces, snapshots: snapshots, log: log}
}

// LastContact is status.lastContactTime of each RemoteCluster, by name, as read in
// this term; nil as long as they have not been. It may be called from any
// goroutine.
func (w *StatusWriter) LastContact() map[string]time.Time {
	if all := w.contacts.Load(); all != nil {
		return *all
	}
	return nil
}

// noteContacts is for LastContact.
func (w *StatusWriter) noteContacts(all []*v1alpha1.RemoteCluster) {
	contacts := make(map[string]time.Time, len(all))
	for _, r := range all {
		if at := r.Status.LastContactTime; at != nil {
			contacts[r.Name] = at.Time
		}
	}
	w.contacts.Store(&contacts)
}

// Run writes until ctx ends. It may be called again after that.
func (w *StatusWriter) Run(ctx context.Context) {
	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: client.ListWatch(w.clusters), ObjectType: &v1alpha1.RemoteCluster{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }, DeleteFunc: func(any) { poke() },
		},
	})
	var others sync.WaitGroup
	others.Go(func() { informer.RunWithContext(ctx) })
	others.Go(func() { w.publishName(ctx) })
	defer others.Wait()
	defer w.contacts.Store(nil)
	p := &passes{StatusWriter: w, pace: newPace(), own: map[types.UID]ownWrite{}, told: map[types.UID]string{}}
	for ctx.Err() == nil {
		snapshot, newer := w.snapshots.Snapshot()
		all := objects(store)
		if informer.HasSynced() {
			w.noteContacts(all)
		}
		timer := time.NewTimer(p.pass(ctx, snapshot, all))
		select {
		case <-ctx.Done():
		case <-newer:
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		sleep(ctx, restPeriod)
	}
}

func objects(store cache.Store) []*v1alpha1.RemoteCluster {
	var all []*v1alpha1.RemoteCluster
	for _, o := range store.List() {
		if r, ok := o.(*v1alpha1.RemoteCluster); ok {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *v1alpha1.RemoteCluster) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// passes is the state of one term; it belongs to one goroutine.
type passes struct {
	*StatusWriter
	pace *pace
	own  map[types.UID]ownWrite
	// told is the failure last logged of each object.
	told map[types.UID]string
}

// ownWrite bridges the time until the informer shows what was written: it was
// planned on resource version from.
type ownWrite struct {
	from   string
	result *v1alpha1.RemoteCluster
}

// pass writes what may be written now and gives the time until more may be.
func (p *passes) pass(ctx context.Context, snapshot *agent.Snapshot, all []*v1alpha1.RemoteCluster) time.Duration {
	next := driftPeriod // staleness and expiry come by time alone
	uids := make(map[string]bool, len(all))
	for _, r := range all {
		uids[string(r.UID)] = true
		base := r
		if own, ok := p.own[r.UID]; ok {
			if own.from == r.ResourceVersion {
				base = own.result
			} else {
				delete(p.own, r.UID)
			}
		}
		now := time.Now()
		d := compare(base.Status, p.plan(now, snapshot, base))
		if d == same {
			continue
		}
		wait := p.pace.wait(now, string(r.UID), d)
		if wait == 0 && ctx.Err() == nil {
			p.pace.tried(now, string(r.UID), d)
			p.settle(ctx, r, p.write(ctx, snapshot, r.ResourceVersion, base))
			wait = restPeriod // what is still due shows in the next pass
		}
		next = min(next, wait)
	}
	p.pace.keep(uids)
	for uid := range p.own {
		if !uids[string(uid)] {
			delete(p.own, uid)
		}
	}
	for uid := range p.told {
		if !uids[string(uid)] {
			delete(p.told, uid)
		}
	}
	return max(next, restPeriod)
}

// plan is the status that an object is to have.
func (p *passes) plan(now time.Time, snapshot *agent.Snapshot, r *v1alpha1.RemoteCluster) v1alpha1.RemoteClusterStatus {
	want := PlanStatus(now, snapshot, r, p.cfg.Node)
	if p.cfg.Backing == nil || r.Name == p.cfg.Cluster {
		return want
	}
	if backing := p.cfg.Backing(); backing != nil {
		want.Services = count(backing[r.Name])
	}
	return want
}

// write updates the status of exactly the object that was read; on a conflict it
// reads it again and plans anew.
func (p *passes) write(ctx context.Context, snapshot *agent.Snapshot, from string, base *v1alpha1.RemoteCluster) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	uid := base.UID
	for try := 1; ; try++ {
		want := p.plan(time.Now(), snapshot, base)
		if compare(base.Status, want) == same {
			p.own[uid] = ownWrite{from, base}
			return nil
		}
		update := base.DeepCopy()
		update.Status = want
		result, err := p.clusters.UpdateStatus(ctx, update, metav1.UpdateOptions{})
		if err == nil {
			p.own[uid] = ownWrite{from, result}
			return nil
		}
		if !apierrors.IsConflict(err) || try == conflictTries {
			return err
		}
		if base, err = p.clusters.Get(ctx, base.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		if base.UID != uid {
			return nil // another object of that name: the informer will show it
		}
	}
}

// settle takes account of what came of a write, and tells a failure once.
func (p *passes) settle(ctx context.Context, r *v1alpha1.RemoteCluster, err error) {
	if err == nil || apierrors.IsNotFound(err) {
		p.pace.succeeded(string(r.UID))
		delete(p.told, r.UID)
		return
	}
	p.pace.failed(time.Now(), string(r.UID))
	reason := string(apierrors.ReasonForError(err))
	if ctx.Err() != nil || p.told[r.UID] == reason && reason != "" {
		return
	}
	p.told[r.UID] = reason
	entry := p.log.WithError(err).WithField("remotecluster", r.Name)
	if apierrors.IsForbidden(err) {
		entry.Error("may not write the status of the RemoteCluster: apply the manifests' ClusterRole again")
		return
	}
	entry.Warn("cannot write the status of the RemoteCluster: tries again")
}

// publishName keeps the cluster's name on the agent's namespace (semantics 1.1).
func (w *StatusWriter) publishName(ctx context.Context) {
	retry, told := firstRetry, false
	for ctx.Err() == nil {
		err := w.annotate(ctx)
		if err == nil {
			retry, told = firstRetry, false
			sleep(ctx, namePeriod)
			continue
		}
		if !told && ctx.Err() == nil {
			told = true
			w.log.WithError(err).Warn("cannot publish the cluster's name: tries again")
		}
		sleep(ctx, jitter(retry))
		retry = min(lastRetry, 2*retry)
	}
}

func (w *StatusWriter) annotate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	ns, err := w.namespaces.Get(ctx, w.cfg.Namespace, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read namespace %s: %w", w.cfg.Namespace, err)
	}
	if ns.Annotations[model.AnnotationClusterName] == w.cfg.Cluster {
		return nil
	}
	// With uid and resourceVersion it is refused if the object is another one by
	// now, or somebody else changes it at the same time.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": ns.UID, "resourceVersion": ns.ResourceVersion,
		"annotations": map[string]string{model.AnnotationClusterName: w.cfg.Cluster},
	}})
	if err != nil {
		return fmt.Errorf("annotate namespace %s: %w", w.cfg.Namespace, err)
	}
	if _, err := w.namespaces.Patch(ctx, w.cfg.Namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("annotate namespace %s with %s: %w", w.cfg.Namespace, model.AnnotationClusterName, err)
	}
	w.log.WithField("cluster", w.cfg.Cluster).Info("publishes the cluster's name on the agent's namespace")
	return nil
}
