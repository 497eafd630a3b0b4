package kubelet

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/test/lab/kubelet/podplan"
	"github.com/overland-net/overland/test/lab/kubelet/podstatus"
)

// stage is how far a pod's life has come. It never goes back.
type stage int

const (
	living  stage = iota // to be run
	ending               // to be stopped
	ended                // nothing runs; the API object may still be there
	removed              // nothing is left
)

// resync is how often a pod is looked at when nothing happens.
const resync = time.Minute

// worker takes one pod through its life, one step at a time. Fields below mu's
// group belong to its goroutine alone.
type worker struct {
	k      *Kubelet
	log    *logrus.Entry
	uid    types.UID
	name   string // namespace/name
	orphan bool   // known from the runtime only
	wake   chan struct{}
	seen   string // what ran when the worker was last woken for it; guarded by the kubelet's mu

	mu     sync.Mutex
	pod    *v1.Pod
	gone   bool               // the API object was removed
	cancel context.CancelFunc // ends the present step, nil if none

	stage     stage
	failed    *podstatus.Reason // why the kubelet itself ended the pod
	last      v1.PodStatus
	computed  bool // last was set
	waiting   map[string]podstatus.Reason
	held      map[string]time.Time // containers not to be tried before, by name; "" is the sandbox
	probes    *probes
	stoppedBy map[string]bool // containers whose preStop hook was run
	paths     map[string]string
	pathsAt   time.Time
	pathsOf   string // resource version of the pod that paths were made for
	retries   int    // of making the sandbox or ending the pod, in a row
}

func newWorker(k *Kubelet, pod *v1.Pod) *worker {
	name := pod.Namespace + "/" + pod.Name
	w := &worker{
		k: k, uid: pod.UID, name: name, log: k.log.WithField("pod", name), wake: make(chan struct{}, 1),
		waiting: map[string]podstatus.Reason{}, stoppedBy: map[string]bool{}, held: map[string]time.Time{},
	}
	w.probes = newProbes(k, w.nudge)
	return w
}

// nudge has the worker look at its pod soon.
func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// update sets the pod's newest object. A step that is under way is cut short if
// the pod is now to be ended, or to be ended sooner.
func (w *worker) update(pod *v1.Pod, gone bool) {
	w.mu.Lock()
	old := w.pod
	hurry := old != nil && (mustEnd(pod, gone) && !mustEnd(old, w.gone) ||
		mustEnd(old, w.gone) && graceOf(pod) < graceOf(old))
	w.pod, w.gone = pod, w.gone || gone
	cancel := w.cancel
	w.mu.Unlock()
	if hurry && cancel != nil {
		cancel()
	}
	w.nudge()
}

func mustEnd(pod *v1.Pod, gone bool) bool {
	return gone || pod.DeletionTimestamp != nil || podstatus.Ended(pod.Status.Phase)
}

// graceOf is how long the pod's containers have to stop by themselves.
func graceOf(pod *v1.Pod) time.Duration {
	seconds := int64(v1.DefaultTerminationGracePeriodSeconds)
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		seconds = *pod.DeletionGracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *pod.Spec.TerminationGracePeriodSeconds
	}
	return time.Duration(max(1, seconds)) * time.Second
}

// run works until the pod is removed or the context ends.
func (w *worker) run(ctx context.Context) {
	defer w.probes.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		next := w.step(ctx)
		if w.stage == removed {
			w.k.forget(w)
			return
		}
		timer.Reset(next)
	}
}

// step does what is to be done now and says when to look again.
func (w *worker) step(ctx context.Context) time.Duration {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	pod, gone := w.pod, w.gone
	w.cancel = cancel
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.cancel = nil
		w.mu.Unlock()
	}()
	if w.stage == living && mustEnd(pod, gone) {
		w.stage = ending
	}
	switch w.stage {
	case living:
		return w.live(ctx, pod)
	case ending:
		return w.end(ctx, pod)
	}
	return w.finish(ctx, pod, gone)
}

// look is what runs of the pod, with what its probes say.
func (w *worker) look() podplan.Seen {
	seen := w.k.observe(w.uid)
	seen.Probes = w.probes.results()
	return seen
}

// report computes the pod's status and has it written.
func (w *worker) report(pod *v1.Pod, seen podplan.Seen, final bool) v1.PodStatus {
	if !w.computed {
		w.last, w.computed = pod.Status, true
	}
	w.last = podstatus.Compute(podstatus.Input{
		Pod: pod, Before: w.last, Seen: seen, Waiting: w.waiting, HostIPs: w.k.cfg.Addresses,
		Final: final, Failed: w.failed, Now: time.Now(),
	})
	if !w.orphan {
		w.k.status.set(pod, w.last, w.stage == ended)
	}
	return w.last
}

// finish waits for the API object to go, and then removes what is left.
func (w *worker) finish(ctx context.Context, pod *v1.Pod, gone bool) time.Duration {
	if !gone {
		w.report(pod, w.look(), true)
		return resync
	}
	for _, s := range w.look().Sandboxes {
		if err := w.k.sandboxes.RemoveSandbox(ctx, s.ID); err != nil {
			w.log.WithError(err).Warn("cannot remove the sandbox, trying again")
			return w.retry()
		}
	}
	if err := w.k.removeLogs(w.uid); err != nil {
		w.log.WithError(err).Warn("cannot remove the pod's logs")
	}
	w.stage = removed
	w.log.Info("pod removed")
	return 0
}

// retry is when to try again what failed: after one second, then longer.
func (w *worker) retry() time.Duration {
	w.retries++
	return min(10*time.Second, time.Second<<min(w.retries-1, 4))
}
