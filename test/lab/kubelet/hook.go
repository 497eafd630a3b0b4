package kubelet

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podstatus"
	"github.com/overland-net/overland/test/lab/kubelet/probe"
	"github.com/overland-net/overland/test/lab/runtime"
)

// hook runs a lifecycle hook of a container, within the context's time.
func (w *worker) hook(ctx context.Context, pod *v1.Pod, spec *v1.Container, c runtime.Container, h *v1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		out, code, err := w.k.execOutput(c.ID)(ctx, h.Exec.Command)
		if err != nil {
			return fmt.Errorf("run %q: %w", h.Exec.Command, err)
		}
		if code != 0 {
			return fmt.Errorf("command %q exited with %d: %s", h.Exec.Command, code, out)
		}
		return nil
	case h.HTTPGet != nil:
		status, err := probe.Get(ctx, h.HTTPGet, spec, w.podIP(pod, w.look()), "kube-lifecycle/1.37")
		if err != nil {
			return fmt.Errorf("request of the hook: %w", err)
		}
		if status < 200 || status >= 400 {
			return fmt.Errorf("request of the hook: status %d", status)
		}
		return nil
	case h.Sleep != nil:
		if !pause(ctx, time.Duration(h.Sleep.Seconds)*time.Second) {
			return ctx.Err()
		}
		return nil
	}
	return errors.New("the hook has no handler that is supported")
}

// postStart runs the container's postStart hook; if it fails the container is
// killed.
func (w *worker) postStart(ctx context.Context, pod *v1.Pod, spec *v1.Container, c runtime.Container) {
	err := w.hook(ctx, pod, spec, c, spec.Lifecycle.PostStart)
	if err == nil || ctx.Err() != nil {
		return
	}
	w.k.events.Eventf(pod, v1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed: %v", err)
	w.kill(ctx, pod, c, graceOf(pod), "FailedPostStartHook")
	w.waiting[spec.Name] = podstatus.Reason{Reason: "PostStartHookError", Message: err.Error()}
}
