package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podplan"
	"github.com/overland-net/overland/test/lab/kubelet/podspec"
	"github.com/overland-net/overland/test/lab/kubelet/podstatus"
	"github.com/overland-net/overland/test/lab/runtime"
)

// again is how soon a container is tried again whose configuration could not be
// made, such as for a ConfigMap that is not there yet.
const again = 2 * time.Second

// begin starts the containers that the plan names, and says when to look again.
func (w *worker) begin(ctx context.Context, pod *v1.Pod, plan podplan.Plan) time.Duration {
	next := resync
	sandbox, ok := w.look().Sandbox()
	if !ok || ctx.Err() != nil {
		return next
	}
	if err := w.setUpVolumes(ctx, pod, w.look()); err != nil {
		return w.retry()
	}
	for _, i := range plan.StartInit {
		spec := &pod.Spec.InitContainers[i]
		wait := w.start(ctx, pod, sandbox, spec)
		next = min(next, wait)
		if _, failed := w.waiting[spec.Name]; failed && !podspec.IsSidecar(spec) {
			return next
		}
	}
	for _, i := range plan.Start {
		next = min(next, w.start(ctx, pod, sandbox, &pod.Spec.Containers[i]))
	}
	return next
}

// start starts a container unless it has to wait, and says when to look again.
func (w *worker) start(ctx context.Context, pod *v1.Pod, sandbox runtime.Sandbox, spec *v1.Container) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	if wait := time.Until(w.held[spec.Name]); wait > 0 {
		return wait
	}
	if wait := w.crashLoop(pod, spec); wait > 0 {
		return wait
	}
	if wait := w.image(pod, spec); wait > 0 {
		return wait
	}
	config, err := w.containerConfig(ctx, pod, spec)
	if err != nil {
		w.hold(pod, spec, "CreateContainerConfigError", err)
		return again
	}
	c, err := w.k.containers.StartContainer(ctx, sandbox.ID, config)
	if err != nil {
		if ctx.Err() == nil {
			w.hold(pod, spec, "RunContainerError", err)
		}
		return again
	}
	delete(w.waiting, spec.Name)
	log := w.log.WithField("container", spec.Name)
	if c.Reason == runtime.ReasonStartError {
		w.k.events.Eventf(pod, v1.EventTypeWarning, "Failed", "Error: failed to start container %s: %s", spec.Name, c.Message)
		log.WithField("cause", c.Message).Warn("container did not start")
		return 0
	}
	w.k.events.Eventf(pod, v1.EventTypeNormal, "Created", "Container created")
	w.k.events.Eventf(pod, v1.EventTypeNormal, "Started", "Container started")
	log.WithField("attempt", config.Attempt).Info("container started")
	if spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil {
		w.postStart(ctx, pod, spec, c)
	}
	return resync
}

// hold notes why the container is not running.
func (w *worker) hold(pod *v1.Pod, spec *v1.Container, reason string, err error) {
	w.waiting[spec.Name] = podstatus.Reason{Reason: reason, Message: err.Error()}
	w.held[spec.Name] = time.Now().Add(again)
	w.k.events.Eventf(pod, v1.EventTypeWarning, "Failed", "Error: %v", err)
	w.log.WithError(err).WithField("container", spec.Name).Warn("cannot start the container")
}

// crashLoop returns how long the container has yet to wait after its last end.
func (w *worker) crashLoop(pod *v1.Pod, spec *v1.Container) time.Duration {
	last, ok := w.look().Latest(spec.Name)
	if !ok || last.State == runtime.Running {
		return 0
	}
	key := string(w.uid) + "/" + spec.Name + "/" + spec.Image
	if !w.k.crash.IsInBackOffSince(key, last.FinishedAt) {
		w.k.crash.Next(key, last.FinishedAt)
		return 0
	}
	span := w.k.crash.Get(key)
	w.waiting[spec.Name] = podstatus.Reason{
		Reason: "CrashLoopBackOff",
		Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			span, spec.Name, pod.Name, pod.Namespace, pod.UID),
	}
	w.k.events.Eventf(pod, v1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)",
		spec.Name, pod.Name, pod.Namespace, pod.UID)
	return max(10*time.Millisecond, time.Until(last.FinishedAt.Add(span)))
}

// image returns how long to wait for an image that the lab does not have.
func (w *worker) image(pod *v1.Pod, spec *v1.Container) time.Duration {
	key, now := string(w.uid)+"/"+spec.Image, time.Now()
	err := w.k.containers.CheckImage(spec.Image)
	switch {
	case err == nil:
		w.k.pull.DeleteEntry(key)
		return 0
	case w.k.pull.IsInBackOffSinceUpdate(key, now):
		w.waiting[spec.Name] = podstatus.Reason{
			Reason: "ImagePullBackOff", Message: fmt.Sprintf("Back-off pulling image %q: %v", spec.Image, err),
		}
		w.k.events.Eventf(pod, v1.EventTypeNormal, "BackOff", "Back-off pulling image %q", spec.Image)
	default:
		w.k.pull.Next(key, now)
		w.waiting[spec.Name] = podstatus.Reason{Reason: "ErrImagePull", Message: err.Error()}
		w.held[spec.Name] = now.Add(time.Second)
		w.k.events.Eventf(pod, v1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", spec.Image, err)
		return time.Second // shown as it is first, then as waiting
	}
	w.held[spec.Name] = now.Add(w.k.pull.Get(key))
	return w.k.pull.Get(key)
}

// attempt is the number of the container's next start.
func (w *worker) attempt(name string) int {
	if last, ok := w.look().Latest(name); ok {
		return last.Attempt + 1
	}
	for _, all := range [][]v1.ContainerStatus{w.last.InitContainerStatuses, w.last.ContainerStatuses} {
		for _, s := range all {
			if s.Name != name {
				continue
			}
			if s.State.Terminated != nil {
				return int(s.RestartCount) + 1
			}
			return int(s.RestartCount)
		}
	}
	return 0
}

// containerConfig is what the runtime is told of the container.
func (w *worker) containerConfig(ctx context.Context, pod *v1.Pod, spec *v1.Container) (runtime.ContainerConfig, error) {
	if !w.k.haveServed() {
		return runtime.ContainerConfig{}, errors.New("services have not yet been read at least once, cannot construct envvars")
	}
	at := w.addresses(pod, w.look())
	env, err := w.environment(ctx, pod, spec, at)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	mounts, err := w.k.volumes.Mounts(pod, spec, w.paths, env)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	security, err := podspec.Security(pod, spec)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	config := runtime.ContainerConfig{
		Name: spec.Name, Attempt: w.attempt(spec.Name), Image: spec.Image,
		Command: podspec.ExpandAll(spec.Command, env), Args: podspec.ExpandAll(spec.Args, env),
		Env: podspec.List(env), WorkingDir: spec.WorkingDir, Mounts: mounts, Security: security,
		Stdin: spec.Stdin, StdinOnce: spec.StdinOnce, TTY: spec.TTY, TerminationMessagePath: spec.TerminationMessagePath,
	}
	for _, m := range spec.VolumeMounts {
		if filepath.Clean(m.MountPath) == "/etc/hosts" {
			return config, nil // the pod brings its own
		}
	}
	node := []byte{}
	if pod.Spec.HostNetwork {
		if node, err = os.ReadFile("/etc/hosts"); err != nil && !os.IsNotExist(err) {
			return config, fmt.Errorf("read the node's hosts file: %w", err)
		}
	}
	config.Files = map[string]string{"/etc/hosts": podspec.HostsFile(pod, w.k.cfg.ClusterDomain, at.Pod, string(node))}
	return config, nil
}

func (w *worker) environment(ctx context.Context, pod *v1.Pod, spec *v1.Container, at podspec.Addresses) (map[string]string, error) {
	services, err := w.k.services.List(everything())
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	return podspec.Environment(pod, spec, podspec.EnvSources{
		Services: services, Addresses: at, Allocatable: w.k.cfg.allocatable(),
		ConfigMap: func(name string) (*v1.ConfigMap, error) { return w.k.objects.ConfigMap(ctx, pod.Namespace, name) },
		Secret:    func(name string) (*v1.Secret, error) { return w.k.objects.Secret(ctx, pod.Namespace, name) },
	})
}
