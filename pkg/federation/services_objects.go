package federation

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/overland-net/overland/pkg/federation/plan"
)

// recheckPeriod is how often an Endpoints object is read that no watch shows: one
// of somebody else.
const recheckPeriod = time.Minute

// ownObjects are the local EndpointSlices and Endpoints objects that federation has
// to do with, as far as they are known. Informers, writers and the loop share it.
type ownObjects struct {
	// changed has one token while there is a change that was not looked at.
	changed chan struct{}

	mu        sync.Mutex
	slices    owned[*discoveryv1.EndpointSlice]
	endpoints owned[*corev1.Endpoints]
	// unwatched are the Services whose Endpoints object the watch does not show,
	// and when it was last read.
	unwatched map[types.NamespacedName]time.Time
	dirty     map[types.NamespacedName]bool
	// listed are the kinds that have been listed; refused is why one cannot be:
	// it is not served, or it is forbidden.
	listed  map[kind]bool
	refused map[kind]string
}

// kind is a kind of object that is written, as people call it.
type kind string

const (
	kindSlice     kind = "EndpointSlice"
	kindEndpoints kind = "Endpoints"
	kindCondition kind = "Service" // its status
)

func newOwnObjects() *ownObjects {
	return &ownObjects{
		changed: make(chan struct{}, 1),
		slices: newOwned(func(s *discoveryv1.EndpointSlice) string {
			name, _ := plan.ServiceOf(s)
			return name
		}),
		endpoints: newOwned(func(e *corev1.Endpoints) string { return e.Name }),
		unwatched: map[types.NamespacedName]time.Time{}, dirty: map[types.NamespacedName]bool{},
		listed: map[kind]bool{}, refused: map[kind]string{},
	}
}

// run follows both kinds until ctx ends.
func (o *ownObjects) run(ctx context.Context, client kubernetes.Interface) {
	slices := client.DiscoveryV1().EndpointSlices(metav1.NamespaceAll)
	endpoints := client.CoreV1().Endpoints(metav1.NamespaceAll)
	var running sync.WaitGroup
	running.Go(func() {
		follow(ctx, o, kindSlice, discoveryv1.LabelManagedBy+"="+plan.ManagedBy, &discoveryv1.EndpointSlice{}, &lists{
			list: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
				return slices.List(ctx, opts)
			},
			watch: slices.Watch,
		}, o.sawSlice, func(s *discoveryv1.EndpointSlice, version string) { o.mark(o.slices.vanished(s, version)) })
	})
	running.Go(func() {
		follow(ctx, o, kindEndpoints, discoveryv1.LabelSkipMirror+"=true", &corev1.Endpoints{}, &lists{
			list: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
				return endpoints.List(ctx, opts)
			},
			watch: endpoints.Watch,
		}, o.sawEndpoints, func(e *corev1.Endpoints, version string) { o.mark(o.endpoints.vanished(e, version)) })
	})
	running.Wait()
}

// lists is how a kind is read.
type lists struct {
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// follow hands over, under the lock, what an informer shows of the objects with a
// label, until ctx ends.
func follow[T metav1.Object](ctx context.Context, o *ownObjects, k kind, label string, example runtime.Object, from *lists, saw func(T), vanished func(T, string)) {
	put := func(x any) {
		if object, ok := x.(T); ok {
			o.lock(func() { saw(object) })
		}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
				opts.LabelSelector = label
				all, err := from.list(ctx, opts)
				if ctx.Err() == nil {
					o.lock(func() { o.answered(k, err) })
				}
				return all, err
			},
			WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
				opts.LabelSelector = label
				w, err := from.watch(ctx, opts)
				if apierrors.IsForbidden(err) && ctx.Err() == nil {
					o.lock(func() { o.answered(k, err) })
				}
				return w, err
			},
		},
		ObjectType: example,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: put, UpdateFunc: func(_, x any) { put(x) },
			DeleteFunc: func(x any) {
				version := ""
				if missed, ok := x.(cache.DeletedFinalStateUnknown); ok {
					x = missed.Obj
				} else if object, ok := x.(T); ok {
					version = object.GetResourceVersion()
				}
				if object, ok := x.(T); ok {
					o.lock(func() { vanished(object, version) })
				}
			},
		},
	})
	var running sync.WaitGroup
	running.Go(func() { informer.RunWithContext(ctx) })
	if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		o.lock(func() { o.listed[k] = true })
	}
	running.Wait()
}

// lock makes a change.
func (o *ownObjects) lock(change func()) {
	o.mu.Lock()
	change()
	o.mu.Unlock()
	poke(o.changed)
}

// answered notes whether a kind can be read.
func (o *ownObjects) answered(k kind, err error) {
	switch {
	case apierrors.IsForbidden(err):
		o.refused[k] = "the agent may not list and watch " + string(k) + " objects: apply the manifests' ClusterRole again"
	case apierrors.IsNotFound(err):
		o.refused[k] = "the API server does not serve " + string(k) + " objects"
	case err == nil:
		delete(o.refused, k)
	}
}

func (o *ownObjects) mark(services []types.NamespacedName) {
	for _, s := range services {
		o.dirty[s] = true
	}
}

func (o *ownObjects) sawSlice(s *discoveryv1.EndpointSlice) { o.mark(o.slices.saw(s)) }

func (o *ownObjects) sawEndpoints(e *corev1.Endpoints) {
	if e.Labels[discoveryv1.LabelSkipMirror] == "true" {
		delete(o.unwatched, nameOf(e))
	}
	o.mark(o.endpoints.saw(e))
}

// readEndpoints takes the answer to a request for the Endpoints object of a
// Service; nil: there is none.
func (o *ownObjects) readEndpoints(now time.Time, service types.NamespacedName, e *corev1.Endpoints) {
	if e == nil {
		delete(o.unwatched, service)
		o.mark(o.endpoints.remove(service))
		return
	}
	if e.Labels[discoveryv1.LabelSkipMirror] != "true" {
		o.unwatched[service] = now
	}
	o.sawEndpoints(e)
}

// takeDirty hands over the Services of which an object has changed.
func (o *ownObjects) takeDirty() map[types.NamespacedName]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	dirty := o.dirty
	o.dirty = map[types.NamespacedName]bool{}
	return dirty
}

// have is what there is for a Service, and when its Endpoints object is to be read
// again: zero: never.
func (o *ownObjects) have(service types.NamespacedName) (plan.Have, time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	have := plan.Have{Slices: o.slices.of(service), EndpointsKnown: o.listed[kindEndpoints]}
	if have.EndpointsKnown {
		have.Endpoints = o.endpoints.objects[service]
	}
	if at, unwatched := o.unwatched[service]; unwatched {
		return have, at.Add(recheckPeriod)
	}
	return have, time.Time{}
}

// access is whether a kind has been listed, and why it cannot be, if so.
type access struct {
	listed  bool
	refused string
}

func (o *ownObjects) state(k kind) access {
	o.mu.Lock()
	defer o.mu.Unlock()
	return access{o.listed[k], o.refused[k]}
}

// published counts the endpoints of the EndpointSlices by cluster.
func (o *ownObjects) published() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	count := map[string]int{}
	for _, s := range o.slices.objects {
		if cluster := s.Labels[plan.LabelSourceCluster]; cluster != "" && s.Labels[discoveryv1.LabelServiceName] != "" {
			count[cluster] += len(s.Endpoints)
		}
	}
	return count
}

// sight takes what the answers to writes of one object show.
type sight[T metav1.Object] struct {
	wrote func(T)             // what is there by an own write
	saw   func(T) (ours bool) // what somebody else has put there
	gone  func(own bool)      // that it is not there, by an own write or somebody's
}

// slicesOf takes what is seen while an EndpointSlice of a Service is written. What
// was written is no reason to plan anew; what was found there is one.
func (o *ownObjects) slicesOf(service types.NamespacedName, s *discoveryv1.EndpointSlice) sight[*discoveryv1.EndpointSlice] {
	return sight[*discoveryv1.EndpointSlice]{
		wrote: func(is *discoveryv1.EndpointSlice) { o.lock(func() { o.slices.saw(is) }) },
		saw: func(is *discoveryv1.EndpointSlice) bool {
			name, ours := plan.ServiceOf(is)
			if ours {
				o.lock(func() { o.sawSlice(is) })
			} else {
				o.lock(func() { o.mark(o.slices.vanished(is, is.ResourceVersion)) })
			}
			return name == service.Name
		},
		gone: func(own bool) {
			o.lock(func() {
				if affected := o.slices.deleted(time.Now(), nameOf(s), s.UID); !own {
					o.mark(affected)
				}
			})
		},
	}
}

// endpointsOf takes what is seen while the Endpoints object of a Service is
// written. Whose it is, the plan tells.
func (o *ownObjects) endpointsOf(service types.NamespacedName, e *corev1.Endpoints) sight[*corev1.Endpoints] {
	return sight[*corev1.Endpoints]{
		wrote: func(is *corev1.Endpoints) {
			o.lock(func() {
				delete(o.unwatched, service)
				o.endpoints.saw(is)
			})
		},
		saw: func(is *corev1.Endpoints) bool {
			o.lock(func() { o.readEndpoints(time.Now(), service, is) })
			return true
		},
		gone: func(own bool) {
			o.lock(func() {
				delete(o.unwatched, service)
				if affected := o.endpoints.deleted(time.Now(), service, e.UID); !own {
					o.mark(affected)
				}
			})
		},
	}
}
