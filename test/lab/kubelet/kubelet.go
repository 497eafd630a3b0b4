package kubelet

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/overland-net/overland/test/lab/kubelet/podplan"
	"github.com/overland-net/overland/test/lab/kubelet/volume"
	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/runtime"
)

// sandboxes is the part of the runtime that keeps pods' namespaces.
type sandboxes interface {
	NetworkReady() error
	RunSandbox(ctx context.Context, c runtime.SandboxConfig) (runtime.Sandbox, error)
	StopSandbox(ctx context.Context, id string) error
	RemoveSandbox(ctx context.Context, id string) error
	Sandboxes() []runtime.Sandbox
}

// containers is the part of the runtime that runs containers.
type containers interface {
	CheckImage(image string) error
	StartContainer(ctx context.Context, sandbox string, c runtime.ContainerConfig) (runtime.Container, error)
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	RemoveContainer(id string) error
	Containers() []runtime.Container
}

// streams is the part of the runtime that connects callers with pods.
type streams interface {
	Exec(ctx context.Context, id string, command []string, io runtime.ExecIO) (int, error)
	Attach(ctx context.Context, id string, io runtime.ExecIO) error
	Namespaces(sandbox string) (ns.Set, error)
}

// Kubelet runs the pods that are bound to its node. Its workers' methods run on
// goroutines of their own; what they share is guarded by mu.
type Kubelet struct {
	cfg        Config
	log        *logrus.Entry
	client     kubernetes.Interface
	sandboxes  sandboxes
	containers containers
	streams    streams
	changed    <-chan struct{}
	volumes    *volume.Manager
	objects    *objects
	events     record.EventRecorder
	broadcast  record.EventBroadcaster
	informers  []informers.SharedInformerFactory
	pods       cache.SharedIndexInformer
	services   corelisters.ServiceLister
	haveServed cache.InformerSynced // services were listed once
	status     *statusWriter
	crash      *flowcontrol.Backoff // of restarts, by pod and container
	pull       *flowcontrol.Backoff // of unknown images

	mu      sync.Mutex
	workers map[types.UID]*worker
	names   map[string]types.UID // who uses a pod's name on this node, by namespace/name
	stopped bool
}

// New makes the kubelet of a node on top of a runtime, which is given in parts.
func New(cfg Config, client kubernetes.Interface, s sandboxes, c containers, st streams,
	changed <-chan struct{}, log *logrus.Entry,
) *Kubelet {
	k := &Kubelet{
		cfg: cfg, log: log, client: client, sandboxes: s, containers: c, streams: st, changed: changed,
		objects: newObjects(client), workers: map[types.UID]*worker{}, names: map[string]types.UID{},
		crash: flowcontrol.NewBackOff(cfg.CrashBackoff.Duration, cfg.MaxCrashBackoff.Duration),
		pull:  flowcontrol.NewBackOff(cfg.CrashBackoff.Duration, cfg.MaxCrashBackoff.Duration),
	}
	k.volumes = volume.NewManager(cfg.PodsDir, k.objects, cfg.allocatable())
	k.broadcast = record.NewBroadcaster()
	k.events = k.broadcast.NewRecorder(scheme.Scheme, v1.EventSource{Component: "kubelet", Host: cfg.NodeName})
	mine := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", cfg.NodeName).String()
	}))
	all := informers.NewSharedInformerFactory(client, 0)
	k.pods = mine.Core().V1().Pods().Informer()
	k.services = all.Core().V1().Services().Lister()
	k.haveServed = all.Core().V1().Services().Informer().HasSynced
	k.informers = []informers.SharedInformerFactory{mine, all}
	k.status = newStatusWriter(client, log)
	return k
}

// Run runs the kubelet until the context ends. Containers keep running then.
func (k *Kubelet) Run(ctx context.Context) error {
	if err := os.MkdirAll(k.cfg.PodsDir, 0o750); err != nil {
		return fmt.Errorf("make the pods' folder: %w", err)
	}
	server, err := newServer(k)
	if err != nil {
		return err
	}
	if !k.cfg.NoFirewall {
		if err := setUpFirewall(); err != nil {
			return err
		}
	}
	k.broadcast.StartRecordingToSink(&typedv1.EventSinkImpl{Interface: k.client.CoreV1().Events("")})
	defer k.broadcast.Shutdown()
	for _, factory := range k.informers {
		factory.Start(ctx.Done())
		defer factory.Shutdown()
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.run(ctx) })
	group.Go(func() error { return newNode(k).run(ctx) })
	group.Go(func() error { return k.lease(ctx) })
	group.Go(func() error { return k.status.run(ctx) })
	group.Go(func() error { return k.dispatch(ctx, group) })
	return group.Wait()
}

// dispatch hands pods to their workers. Nothing is begun or ended before the
// API server has told which pods there are.
func (k *Kubelet) dispatch(ctx context.Context, group *errgroup.Group) error {
	if !cache.WaitForCacheSync(ctx.Done(), k.pods.HasSynced) {
		return nil
	}
	start := func(w *worker) {
		group.Go(func() error { w.run(ctx); return nil })
	}
	k.adopt(start)
	_, err := k.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { k.update(o, false, start) },
		UpdateFunc: func(_, o any) { k.update(o, false, start) },
		DeleteFunc: func(o any) { k.update(o, true, start) },
	})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			k.mu.Lock()
			k.stopped = true
			k.mu.Unlock()
			return nil
		case <-k.changed:
			k.wakeChanged()
		}
	}
}

// adopt looks at what an earlier kubelet left: sandboxes whose pod is gone get
// a worker that ends them, and every sandbox holds its pod's name before any
// new pod of that name can take it.
func (k *Kubelet) adopt(start func(*worker)) {
	here := map[types.UID]bool{}
	for _, o := range k.pods.GetStore().List() {
		here[o.(*v1.Pod).UID] = true
	}
	for _, s := range k.sandboxes.Sandboxes() {
		uid, name := types.UID(s.UID), s.Namespace+"/"+s.Name
		here[uid] = here[uid] || k.worker(uid) != nil
		if s.Ready {
			k.claim(name, uid)
		}
		if here[uid] {
			continue
		}
		here[uid] = true
		k.log.WithField("pod", name).Info("ending a pod that is gone")
		grace := int64(1) // nobody waits for it
		pod := &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, UID: uid},
			Spec:       v1.PodSpec{TerminationGracePeriodSeconds: &grace, HostNetwork: s.NetNS == ""},
		}
		k.update(cache.DeletedFinalStateUnknown{Obj: pod}, true, func(w *worker) { w.orphan = true; start(w) })
	}
	k.sweep(here)
}

// update gives a worker its pod's newest object, and makes the worker if there
// is none. o is an object of the informer.
func (k *Kubelet) update(o any, gone bool, start func(*worker)) {
	if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	pod, ok := o.(*v1.Pod)
	if !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w, known := k.workers[pod.UID]
	if known {
		w.update(pod, gone)
		return
	}
	if k.stopped || gone && !k.hasSandbox(pod.UID) {
		return
	}
	w = newWorker(k, pod)
	k.workers[pod.UID] = w
	w.update(pod, gone)
	start(w)
}

func (k *Kubelet) hasSandbox(uid types.UID) bool {
	for _, s := range k.sandboxes.Sandboxes() {
		if s.UID == string(uid) {
			return true
		}
	}
	return false
}

func (k *Kubelet) worker(uid types.UID) *worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.workers[uid]
}

// wakeChanged wakes the workers of pods of which something began or ended.
func (k *Kubelet) wakeChanged() {
	sandboxes, containers := k.sandboxes.Sandboxes(), k.containers.Containers()
	k.mu.Lock()
	defer k.mu.Unlock()
	for uid, w := range k.workers {
		seen := podplan.Observe(string(uid), sandboxes, containers, nil)
		var now strings.Builder
		for _, s := range seen.Sandboxes {
			fmt.Fprintln(&now, s.ID, s.Ready)
		}
		for _, c := range seen.Containers {
			fmt.Fprintln(&now, c.ID, c.State)
		}
		if w.seen != now.String() {
			w.seen = now.String()
			w.nudge()
		}
	}
}

// claim takes a pod's name on this node, or says that another pod of that name
// is still being ended: the host's interface is named by it.
func (k *Kubelet) claim(name string, uid types.UID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	owner, taken := k.names[name]
	if !taken {
		k.names[name] = uid
	}
	return !taken || owner == uid
}

// release gives the name back and wakes whoever waits for it.
func (k *Kubelet) release(name string, uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.names[name] == uid {
		delete(k.names, name)
	}
	for _, w := range k.workers {
		if w.name == name {
			w.nudge()
		}
	}
}

// forget ends the book-keeping of a pod.
func (k *Kubelet) forget(w *worker) {
	k.mu.Lock()
	delete(k.workers, w.uid)
	k.mu.Unlock()
	k.status.forget(w.uid)
	k.release(w.name, w.uid)
}

// observe is what runs of a pod, without what its probes say.
func (k *Kubelet) observe(uid types.UID) podplan.Seen {
	return podplan.Observe(string(uid), k.sandboxes.Sandboxes(), k.containers.Containers(), nil)
}
