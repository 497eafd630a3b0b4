package federation

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

// leases is an API server's one Lease, with the rule that matters: a write must
// be of the version that was read.
type leases struct {
	mu      sync.Mutex
	lease   *coordinationv1.Lease
	version int
}

// client is a client of it that is cut off while cut returns true.
func (s *leases) client(cut func() bool, objects ...runtime.Object) *fake.Clientset {
	c := fake.NewClientset(objects...)
	c.PrependReactor("*", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if cut() {
			return true, nil, apierrors.NewServiceUnavailable("cut off")
		}
		o, err := s.handle(a)
		return true, o, err
	})
	c.PrependReactor("*", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		if cut() {
			return true, nil, apierrors.NewServiceUnavailable("cut off")
		}
		return false, nil, nil
	})
	return c
}

func (s *leases) handle(a clienttesting.Action) (runtime.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource := schema.GroupResource{Group: coordinationv1.GroupName, Resource: "leases"}
	switch a := a.(type) {
	case clienttesting.CreateAction: // an update is one, too
		given, ok := a.GetObject().(*coordinationv1.Lease)
		if !ok {
			return nil, apierrors.NewBadRequest("not a lease")
		}
		if a.GetVerb() == "create" && s.lease != nil {
			return nil, apierrors.NewAlreadyExists(resource, given.Name)
		}
		if a.GetVerb() == "update" && (s.lease == nil || given.ResourceVersion != s.lease.ResourceVersion) {
			return nil, apierrors.NewConflict(resource, given.Name, fmt.Errorf("another version"))
		}
		s.version++
		s.lease = given.DeepCopy()
		s.lease.ResourceVersion = fmt.Sprint(s.version)
		return s.lease.DeepCopy(), nil
	case clienttesting.GetAction:
		if s.lease == nil {
			return nil, apierrors.NewNotFound(resource, a.GetName())
		}
		return s.lease.DeepCopy(), nil
	}
	return nil, apierrors.NewBadRequest("not served: " + a.GetVerb())
}

func (s *leases) holder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil || s.lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *s.lease.Spec.HolderIdentity
}

// remotes is an API server's RemoteClusters, with optimistic locking, status as a
// subresource, watches, and faults.
type remotes struct {
	mu      sync.Mutex
	objects map[string]*v1alpha1.RemoteCluster
	version int
	watches []*watch.RaceFreeFakeWatcher
	// fault is asked before each UpdateStatus; an error is answered instead. If
	// late, the write happens and the error is answered all the same.
	fault func() (err error, late bool)
	// statusWrites are the times of those that were let through.
	statusWrites []time.Time
}

func newRemotes() *remotes { return &remotes{objects: map[string]*v1alpha1.RemoteCluster{}} }

func remotesResource() schema.GroupResource { return v1alpha1.GroupVersionResource().GroupResource() }

// store puts an object there and tells the watches.
func (s *remotes) store(o *v1alpha1.RemoteCluster, event watch.EventType) {
	s.version++
	o = o.DeepCopy()
	o.ResourceVersion = fmt.Sprint(s.version)
	s.objects[o.Name] = o
	for _, w := range s.watches {
		w.Action(event, o.DeepCopy())
	}
}

// edit is what a person does.
func (s *remotes) edit(name string, change func(*v1alpha1.RemoteCluster)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[name]
	if o == nil {
		o = &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(fmt.Sprintf("uid-of-%s-%d", name, s.version)), Generation: 1}}
		change(o)
		s.store(o, watch.Added)
		return
	}
	o = o.DeepCopy()
	o.Generation++
	change(o)
	s.store(o, watch.Modified)
}

func (s *remotes) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	for _, w := range s.watches {
		w.Action(watch.Deleted, s.objects[name].DeepCopy())
	}
	delete(s.objects, name)
}

// close ends the watches, as connections end with their context.
func (s *remotes) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watches {
		w.Stop()
	}
}

func (s *remotes) now(name string) *v1alpha1.RemoteCluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[name].DeepCopy()
}

func (s *remotes) written() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.statusWrites)
}

func (s *remotes) Get(_ context.Context, name string, _ metav1.GetOptions) (*v1alpha1.RemoteCluster, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[name]; o != nil {
		return o.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(remotesResource(), name)
}

func (s *remotes) List(context.Context, metav1.ListOptions) (*v1alpha1.RemoteClusterList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := &v1alpha1.RemoteClusterList{}
	list.ResourceVersion = fmt.Sprint(s.version)
	for _, o := range s.objects {
		list.Items = append(list.Items, *o.DeepCopy())
	}
	return list, nil
}

func (s *remotes) Watch(_ context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	if opts.SendInitialEvents != nil && *opts.SendInitialEvents {
		return nil, apierrors.NewInvalid(v1alpha1.GroupVersionKind().GroupKind(), "", nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if opts.ResourceVersion != fmt.Sprint(s.version) {
		return nil, apierrors.NewResourceExpired("too old: list again")
	}
	w := watch.NewRaceFreeFake()
	s.watches = append(s.watches, w)
	return w, nil
}

func (s *remotes) UpdateStatus(ctx context.Context, r *v1alpha1.RemoteCluster, _ metav1.UpdateOptions) (*v1alpha1.RemoteCluster, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var fault error
	late := false
	if s.fault != nil {
		if fault, late = s.fault(); fault != nil && !late {
			return nil, fault
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.objects[r.Name]
	switch {
	case have == nil:
		return nil, apierrors.NewNotFound(remotesResource(), r.Name)
	case have.ResourceVersion != r.ResourceVersion || have.UID != r.UID:
		return nil, apierrors.NewConflict(remotesResource(), r.Name, fmt.Errorf("another version"))
	}
	next := have.DeepCopy()
	next.Status = *r.Status.DeepCopy()
	s.store(next, watch.Modified)
	s.statusWrites = append(s.statusWrites, time.Now())
	if fault != nil {
		return nil, fault
	}
	return s.objects[r.Name].DeepCopy(), nil
}

// faulty fails one write in so many, in all ways.
func faulty(random *rand.Rand, in int) func() (error, bool) {
	return func() (error, bool) {
		if random.IntN(in) != 0 {
			return nil, false
		}
		late := random.IntN(2) == 0
		switch random.IntN(4) {
		case 0:
			return apierrors.NewConflict(remotesResource(), "x", fmt.Errorf("another version")), false
		case 1:
			return apierrors.NewInternalError(fmt.Errorf("etcd is gone")), late
		case 2:
			return apierrors.NewTooManyRequests("later", 1), false
		}
		return context.DeadlineExceeded, late
	}
}

// snapshots publishes snapshots as an agent does.
type snapshots struct {
	mu    sync.Mutex
	now   *agent.Snapshot
	newer chan struct{}
}

func newSnapshots(s *agent.Snapshot) *snapshots {
	return &snapshots{now: s, newer: make(chan struct{})}
}

func (s *snapshots) Snapshot() (*agent.Snapshot, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.newer
}

func (s *snapshots) publish(now *agent.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
	close(s.newer)
	s.newer = make(chan struct{})
}
