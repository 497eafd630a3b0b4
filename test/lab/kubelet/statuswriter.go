package kubelet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
)

// statusWriters is how many statuses are written at a time.
const statusWriters = 4

// statusWriter writes pods' statuses to the API server, the newest of each pod,
// for as long as it takes, and removes pods that have ended.
type statusWriter struct {
	client kubernetes.Interface
	log    *logrus.Entry
	queue  workqueue.TypedRateLimitingInterface[types.UID]

	mu   sync.Mutex
	want map[types.UID]wanted
}

type wanted struct {
	namespace, name string
	status          v1.PodStatus
	final           bool // nothing of the pod runs
	written         bool
}

func newStatusWriter(client kubernetes.Interface, log *logrus.Entry) *statusWriter {
	limit := workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](100*time.Millisecond, 5*time.Second)
	return &statusWriter{
		client: client, log: log, want: map[types.UID]wanted{}, queue: workqueue.NewTypedRateLimitingQueue(limit),
	}
}

// set has the status written, and if it is final the object removed if that was
// asked for.
func (s *statusWriter) set(pod *v1.Pod, status v1.PodStatus, final bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.want[pod.UID]
	if ok && old.written && !final && equality.Semantic.DeepEqual(old.status, status) && equality.Semantic.DeepEqual(pod.Status, status) {
		return
	}
	s.want[pod.UID] = wanted{namespace: pod.Namespace, name: pod.Name, status: status, final: final}
	s.queue.Add(pod.UID)
}

func (s *statusWriter) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.want, uid)
}

func (s *statusWriter) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for range statusWriters {
		group.Go(func() error {
			for s.next(ctx) {
			}
			return nil
		})
	}
	<-ctx.Done()
	s.queue.ShutDown()
	return group.Wait()
}

func (s *statusWriter) next(ctx context.Context) bool {
	uid, shutdown := s.queue.Get()
	if shutdown {
		return false
	}
	defer s.queue.Done(uid)
	s.mu.Lock()
	want, ok := s.want[uid]
	s.mu.Unlock()
	if !ok {
		s.queue.Forget(uid)
		return true
	}
	if err := s.write(ctx, uid, want); err != nil {
		if ctx.Err() == nil && !apierrors.IsConflict(err) {
			s.log.WithError(err).WithField("pod", want.namespace+"/"+want.name).Debug("cannot write the status, trying again")
		}
		s.queue.AddRateLimited(uid)
		return true
	}
	s.queue.Forget(uid)
	return true
}

func (s *statusWriter) write(ctx context.Context, uid types.UID, want wanted) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pods := s.client.CoreV1().Pods(want.namespace)
	pod, err := pods.Get(ctx, want.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && pod.UID != uid {
		return nil // it is gone, and its worker will hear of it
	}
	if err != nil {
		return fmt.Errorf("get pod: %w", err)
	}
	status := mergeForeign(want.status, pod.Status)
	if !equality.Semantic.DeepEqual(pod.Status, status) {
		pod.Status = status
		if pod, err = pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("update status: %w", err)
		}
	}
	s.mu.Lock()
	if now, ok := s.want[uid]; ok && equality.Semantic.DeepEqual(now.status, want.status) {
		now.written = true
		s.want[uid] = now
	}
	s.mu.Unlock()
	if !want.final || pod.DeletionTimestamp == nil {
		return nil
	}
	zero := int64(0)
	err = pods.Delete(ctx, want.name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &uid},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

// mergeForeign takes from the API server's status what others write there: their
// conditions, and fields that the lab's kubelet does not compute.
func mergeForeign(own, api v1.PodStatus) v1.PodStatus {
	out := *api.DeepCopy()
	out.ObservedGeneration, out.Phase, out.Reason, out.Message = own.ObservedGeneration, own.Phase, own.Reason, own.Message
	out.HostIP, out.HostIPs, out.PodIP, out.PodIPs = own.HostIP, own.HostIPs, own.PodIP, own.PodIPs
	out.StartTime = own.StartTime
	out.ContainerStatuses, out.InitContainerStatuses = own.ContainerStatuses, own.InitContainerStatuses
	out.Conditions = nil
	mine := map[v1.PodConditionType]bool{
		v1.PodReadyToStartContainers: true, v1.PodInitialized: true, v1.PodReady: true,
		v1.ContainersReady: true, v1.PodScheduled: true,
	}
	for _, c := range own.Conditions {
		if mine[c.Type] {
			out.Conditions = append(out.Conditions, c)
		}
	}
	for _, c := range api.Conditions {
		if !mine[c.Type] {
			out.Conditions = append(out.Conditions, c)
		}
	}
	return out
}
