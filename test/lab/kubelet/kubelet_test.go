package kubelet

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/overland-net/overland/test/lab/runtime"
)

// bench is a kubelet on a fake API server and a fake runtime.
type bench struct {
	t      *testing.T
	client *fake.Clientset
	run    *fakeRuntime
	k      *Kubelet
}

func start(t *testing.T, run *fakeRuntime, pods ...*v1.Pod) *bench {
	t.Helper()
	b := &bench{t: t, run: run, client: fake.NewClientset()}
	b.client.PrependReactor("update", "pods", b.onlyStatus)
	for _, p := range pods {
		b.create(p)
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	config := Config{
		NodeName: "node-1", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.4")}, PodsDir: t.TempDir(),
		BootIDFile: "/proc/sys/kernel/random/boot_id",
	}
	config.CrashBackoff.Duration = 50 * time.Millisecond
	config.defaults()
	b.k = New(config, b.client, run, run, run, run.changes, logger.WithField("test", t.Name()))
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	for _, factory := range b.k.informers {
		factory.Start(ctx.Done())
	}
	group.Go(func() error { return b.k.status.run(ctx) })
	group.Go(func() error { return b.k.dispatch(ctx, group) })
	t.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		b.k.broadcast.Shutdown()
		if run.violation != nil {
			t.Error(run.violation)
		}
	})
	return b
}

// onlyStatus makes the fake API server write nothing but the status where only
// that is updated, as the real one does.
func (b *bench) onlyStatus(action clienttesting.Action) (bool, apiruntime.Object, error) {
	update, ok := action.(clienttesting.UpdateAction)
	if !ok || action.GetSubresource() != "status" {
		return false, nil, nil
	}
	sent := update.GetObject().(*v1.Pod)
	at := v1.SchemeGroupVersion.WithResource("pods")
	have, err := b.client.Tracker().Get(at, sent.Namespace, sent.Name)
	if err != nil {
		return true, nil, err
	}
	pod := have.DeepCopyObject().(*v1.Pod)
	pod.Status = sent.Status
	return true, pod, b.client.Tracker().Update(at, pod, sent.Namespace)
}

func newPod(uid string, change func(*v1.Pod)) *v1.Pod {
	grace := int64(5)
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: types.UID(uid)},
		Spec: v1.PodSpec{
			NodeName: "node-1", RestartPolicy: v1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace,
			Containers: []v1.Container{{Name: "c", Image: "agnhost"}},
		},
	}
	if change != nil {
		change(p)
	}
	return p
}

func (b *bench) create(p *v1.Pod) {
	b.t.Helper()
	if _, err := b.client.CoreV1().Pods(p.Namespace).Create(context.Background(), p, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// delete marks the pod as the API server does for a graceful deletion.
func (b *bench) delete() {
	b.t.Helper()
	pods := b.client.CoreV1().Pods("ns")
	p, err := pods.Get(context.Background(), "p", metav1.GetOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	now := metav1.Now()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, p.Spec.TerminationGracePeriodSeconds
	p.Finalizers = nil
	if _, err := pods.Update(context.Background(), p, metav1.UpdateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// until waits for the pod to be as asked; nil is a pod that is gone.
func (b *bench) until(what string, ok func(*v1.Pod) bool) {
	b.t.Helper()
	b.untilOf("p", what, ok)
}

func (b *bench) untilOf(name, what string, ok func(*v1.Pod) bool) {
	b.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		p, err := b.client.CoreV1().Pods("ns").Get(context.Background(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			p = nil
		}
		if ok(p) {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not in time: %s\nasked of the runtime: %s\npod: %+v", what, strings.Join(b.run.asked(), ", "), p)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func ready(p *v1.Pod) bool {
	return p != nil && slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.PodReady && c.Status == v1.ConditionTrue
	})
}

func gone(p *v1.Pod) bool { return p == nil }

func sidecarAndHook(p *v1.Pod) {
	always := v1.ContainerRestartPolicyAlways
	p.Spec.InitContainers = []v1.Container{{Name: "side", Image: "agnhost", RestartPolicy: &always}}
	p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"bye"}}}}
}

func TestPodIsRunAndRemovedInOrder(t *testing.T) {
	b := start(t, newFakeRuntime(), newPod("u1", sidecarAndHook))
	b.until("ready", ready)
	b.delete()
	b.until("gone", gone)
	want := []string{"run p/u1", "start side 0", "start c 0", "exec [bye]", "stop c", "stop side", "stop sandbox of p/u1"}
	if diff := cmp.Diff(want, b.run.asked()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestFailedSandboxIsTriedAgain(t *testing.T) {
	run := newFakeRuntime()
	run.failAdd = 1
	b := start(t, run, newPod("u1", nil))
	b.until("ready", ready)
}

func TestCrashingContainerBacksOff(t *testing.T) {
	run := newFakeRuntime()
	run.exits["c"] = 1
	b := start(t, run, newPod("u1", nil))
	b.until("in a crash loop", func(p *v1.Pod) bool {
		if p == nil || len(p.Status.ContainerStatuses) == 0 {
			return false
		}
		s := p.Status.ContainerStatuses[0]
		return s.RestartCount >= 2 && s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff" &&
			s.LastTerminationState.Terminated.ExitCode == 1
	})
}

func TestPodThatRunsOnceEnds(t *testing.T) {
	run := newFakeRuntime()
	run.exits["c"] = 0
	b := start(t, run, newPod("u1", func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }))
	b.until("succeeded", func(p *v1.Pod) bool { return p != nil && p.Status.Phase == v1.PodSucceeded })
	b.delete()
	b.until("gone", gone)
}

func TestUnknownImageWaits(t *testing.T) {
	b := start(t, newFakeRuntime(), newPod("u1", func(p *v1.Pod) { p.Spec.Containers[0].Image = "unknown" }))
	b.until("waiting for its image", func(p *v1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
			p.Status.ContainerStatuses[0].State.Waiting.Reason == "ErrImagePull"
	})
	b.delete()
	b.until("gone", gone)
}

func TestLostSandboxIsMadeAgain(t *testing.T) {
	b := start(t, newFakeRuntime(), newPod("u1", nil))
	b.until("ready", ready)
	b.run.lose()
	b.until("ready again", func(p *v1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
}

func TestSameNameWaitsForTheEarlierPodsEnd(t *testing.T) {
	run := newFakeRuntime()
	run.slowStop = 300 * time.Millisecond
	b := start(t, run, newPod("u1", nil))
	b.until("ready", ready)
	if err := b.client.CoreV1().Pods("ns").Delete(context.Background(), "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.create(newPod("u2", nil))
	b.until("ready", ready)
	want := []string{"run p/u1", "start c 0", "stop c", "stop sandbox of p/u1", "run p/u2", "start c 0"}
	if diff := cmp.Diff(want, run.asked()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestRestartedKubeletAdoptsAndEndsOrphans(t *testing.T) {
	run := newFakeRuntime()
	run.boxes = []runtime.Sandbox{
		{ID: "old", Namespace: "ns", Name: "p", UID: "u0", Ready: true, CreatedAt: run.clock},
		{ID: "kept", Namespace: "ns", Name: "q", UID: "u1", Ready: true, CreatedAt: run.clock},
	}
	run.all = []runtime.Container{
		{ID: "o", SandboxID: "old", Name: "c", Image: "agnhost", State: runtime.Running, StartedAt: run.clock},
		{ID: "k", SandboxID: "kept", Name: "c", Image: "agnhost", Attempt: 2, State: runtime.Running, StartedAt: run.clock},
	}
	b := start(t, run, newPod("u1", func(p *v1.Pod) { p.Name = "q" }), newPod("u2", nil))
	b.until("ready", ready)
	want := []string{"stop c", "stop sandbox of p/u0", "run p/u2", "start c 0"}
	if diff := cmp.Diff(want, run.asked()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	b.untilOf("q", "adopted", func(q *v1.Pod) bool { return ready(q) && q.Status.ContainerStatuses[0].RestartCount == 2 })
}

func TestRestartsAreCountedOnAfterAReboot(t *testing.T) {
	b := start(t, newFakeRuntime(), newPod("u1", func(p *v1.Pod) {
		p.Status.Phase = v1.PodRunning
		p.Status.ContainerStatuses = []v1.ContainerStatus{{
			Name: "c", RestartCount: 4, ContainerID: earlierBoot, State: v1.ContainerState{Running: &v1.ContainerStateRunning{}},
		}}
	}))
	b.until("running the fifth time", func(p *v1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 5 })
}

// earlierBoot is a container that no runtime knows.
const earlierBoot = "lab://earlier"

func TestShorterGraceEndsAPodSooner(t *testing.T) {
	run := newFakeRuntime()
	b := start(t, run, newPod("u1", nil))
	b.until("ready", ready)
	run.mu.Lock()
	run.slowStop = time.Hour
	run.mu.Unlock()
	b.delete()
	time.Sleep(100 * time.Millisecond)
	run.mu.Lock()
	run.slowStop = 0
	run.mu.Unlock()
	pods := b.client.CoreV1().Pods("ns")
	p, err := pods.Get(context.Background(), "p", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	one := int64(1)
	p.DeletionGracePeriodSeconds = &one
	if _, err := pods.Update(context.Background(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.until("gone", gone)
}
