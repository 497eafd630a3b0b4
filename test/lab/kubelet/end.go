package kubelet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podplan"
	"github.com/overland-net/overland/test/lab/kubelet/podspec"
	"github.com/overland-net/overland/test/lab/runtime"
)

// minKill is the least time that a container has between SIGTERM and SIGKILL,
// also where its preStop hook took all of the pod's grace period.
const minKill = 2 * time.Second

// end stops all of the pod. Its last status is written when nothing runs any
// more and its network is gone.
func (w *worker) end(ctx context.Context, pod *v1.Pod) time.Duration {
	seen := w.look()
	w.probes.onlyReadiness()
	if seen.Running() {
		w.report(pod, seen, false)
	}
	if err := w.stopAll(ctx, pod, seen); err != nil {
		if ctx.Err() != nil {
			return 0 // the grace period became shorter
		}
		w.k.events.Eventf(pod, v1.EventTypeWarning, "FailedKillPod", "error killing pod: %v", err)
		w.log.WithError(err).Warn("cannot end the pod, trying again")
		return w.retry()
	}
	w.probes.stop()
	if err := w.k.volumes.Teardown(w.uid); err != nil {
		w.log.WithError(err).Warn("cannot remove the volumes, trying again")
		return w.retry()
	}
	w.retries = 0
	w.stage = ended
	w.k.release(w.name, w.uid)
	w.log.Info("pod ended")
	w.report(pod, w.look(), true)
	return 0
}

// stopAll stops the pod's containers, its sidecars after the others and in the
// reverse order, all within the grace period, and then its sandboxes.
func (w *worker) stopAll(ctx context.Context, pod *v1.Pod, seen podplan.Seen) error {
	deadline := time.Now().Add(graceOf(pod))
	left := func() time.Duration { return max(time.Second, time.Until(deadline)) }
	order := map[string]int{}
	for i := range pod.Spec.InitContainers {
		if podspec.IsSidecar(&pod.Spec.InitContainers[i]) {
			order[pod.Spec.InitContainers[i].Name] = i + 1
		}
	}
	var others sync.WaitGroup
	var sidecars []runtime.Container
	for _, c := range seen.Containers {
		if c.State != runtime.Running {
			continue
		}
		if order[c.Name] > 0 {
			sidecars = append(sidecars, c)
			continue
		}
		w.announce(pod, c)
		others.Go(func() { w.stop(ctx, pod, c, left()) })
	}
	others.Wait()
	slices.SortFunc(sidecars, func(a, b runtime.Container) int { return order[b.Name] - order[a.Name] })
	for _, c := range sidecars {
		w.announce(pod, c)
		w.stop(ctx, pod, c, left())
	}
	var errs []error
	for _, s := range seen.Sandboxes {
		if err := w.k.sandboxes.StopSandbox(ctx, s.ID); err != nil {
			errs = append(errs, fmt.Errorf("stop sandbox %.13s: %w", s.ID, err))
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

func (w *worker) announce(pod *v1.Pod, c runtime.Container) {
	w.k.events.Eventf(pod, v1.EventTypeNormal, "Killing", "Stopping container %s", c.Name)
}

// kill stops one container of a pod that goes on.
func (w *worker) kill(ctx context.Context, pod *v1.Pod, c runtime.Container, grace time.Duration, why string) {
	w.k.events.Event(pod, v1.EventTypeNormal, "Killing", why)
	w.log.WithField("container", c.Name).Info(why)
	w.stop(ctx, pod, c, grace)
}

// stop runs the container's preStop hook, once, and stops it.
func (w *worker) stop(ctx context.Context, pod *v1.Pod, c runtime.Container, grace time.Duration) {
	began := time.Now()
	spec := podspec.FindContainer(pod, c.Name)
	if spec != nil && spec.Lifecycle != nil && spec.Lifecycle.PreStop != nil && w.firstStop(c.ID) {
		hook, cancel := context.WithTimeout(ctx, grace)
		if err := w.hook(hook, pod, spec, c, spec.Lifecycle.PreStop); err != nil && ctx.Err() == nil {
			w.k.events.Eventf(pod, v1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %v", err)
		}
		cancel()
		grace = max(minKill, grace-time.Since(began))
	}
	if err := w.k.containers.StopContainer(ctx, c.ID, grace); err != nil && ctx.Err() == nil {
		w.log.WithError(err).WithField("container", c.Name).Warn("cannot stop the container")
	}
}

// firstStop says whether the container's hook was not run yet, and notes it.
func (w *worker) firstStop(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	ran := w.stoppedBy[id]
	w.stoppedBy[id] = true
	return !ran
}
