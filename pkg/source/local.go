package source

import (
	"context"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/overland-net/overland/pkg/api/client"
)

// table takes the objects of one kind from a reflector, under a lock.
type table[T metav1.Object] struct {
	replace func(all map[string]T)
	put     func(object T)
	remove  func(name string)
	lock    sync.Locker
	changed func()
}

// Replace takes a list.
func (t *table[T]) Replace(objects []any, _ string) error {
	all := map[string]T{}
	for _, o := range objects {
		if object, ok := o.(T); ok {
			all[object.GetName()] = object
		}
	}
	return t.do(func() { t.replace(all) })
}

// Add takes a new object.
func (t *table[T]) Add(o any) error { return t.Update(o) }

// Update takes a changed object.
func (t *table[T]) Update(o any) error {
	object, ok := o.(T)
	if !ok {
		return nil
	}
	return t.do(func() { t.put(object) })
}

// Delete takes that an object is gone.
func (t *table[T]) Delete(o any) error {
	object, ok := o.(T)
	if !ok {
		return nil
	}
	return t.do(func() { t.remove(object.GetName()) })
}

// Resync is there for cache.ReflectorStore.
func (*table[T]) Resync() error { return nil }

func (t *table[T]) do(change func()) error {
	t.lock.Lock()
	change()
	t.lock.Unlock()
	t.changed()
	return nil
}

// runReflector keeps a store up to date until ctx ends, quietly.
func runReflector(ctx context.Context, name string, lw cache.ListerWatcher, object runtime.Object, store cache.ReflectorStore, t Timing) {
	var quiet klog.Logger // its zero value says nothing
	const steps = 16      // until the cap
	cache.NewReflectorWithOptions(lw, object, store, cache.ReflectorOptions{
		Name: name, TypeDescription: name, Logger: &quiet,
		Backoff: &wait.Backoff{Duration: t.RetryFirst, Cap: t.RetryMax, Factor: 2, Jitter: 0.5, Steps: steps},
	}).RunWithContext(ctx)
}

// clustersOf lists and watches the RemoteClusters, and says once why that fails:
// without them there is no cluster that could have it in its status.
func (m *Mesh) clustersOf(links client.Reader) *cache.ListWatch {
	told := "" // belongs to the reflector's goroutine
	lw := client.ListWatch(links)
	list := lw.ListWithContextFunc
	lw.ListWithContextFunc = func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		all, err := list(ctx, opts)
		switch {
		case err == nil:
			told = ""
		case ctx.Err() == nil:
			why := Explain(err, "list RemoteClusters", time.Time{}, time.Now())
			if why.Reason != told {
				m.log.WithField("reason", why.Reason).Warn("links to clusters stay as they are: " + why.Message)
			}
			told = why.Reason
		}
		return all, err
	}
	return lw
}

// secretsOf lists and watches the Secrets of the agent's namespace, and keeps why
// that is not allowed, if so.
func (m *Mesh) secretsOf(core corev1client.SecretsGetter) *cache.ListWatch {
	secrets := core.Secrets(m.cfg.Namespace)
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			list, err := secrets.List(ctx, opts)
			var why *Failure
			if apierrors.IsForbidden(err) {
				why = Explain(err, "list Secrets", time.Time{}, time.Now())
			}
			m.mu.Lock()
			m.secrets.failed = why
			m.mu.Unlock()
			if why != nil {
				m.changed()
			}
			return list, err
		},
		WatchFuncWithContext: secrets.Watch,
	}
}
