package kubelet

import (
	"context"
	"fmt"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podplan"
	"github.com/overland-net/overland/test/lab/kubelet/podspec"
	"github.com/overland-net/overland/test/lab/kubelet/podstatus"
	"github.com/overland-net/overland/test/lab/kubelet/volume"
	"github.com/overland-net/overland/test/lab/runtime"
)

// live brings a pod nearer to what it should be and says when to look again.
func (w *worker) live(ctx context.Context, pod *v1.Pod) time.Duration {
	seen := w.look()
	w.overdue(pod, time.Now())
	if w.probes.sync(ctx, pod, seen, w.last, w.podIP(pod, seen)) {
		seen.Probes = w.probes.results()
	}
	if podstatus.Ended(w.report(pod, seen, false).Phase) {
		return w.beginEnd()
	}
	plan := podplan.Make(pod, seen)
	if plan.EndPod && !plan.NewSandbox {
		return w.beginEnd()
	}
	if plan.NewSandbox {
		if wait := w.newSandbox(ctx, pod, seen, plan.Changed); wait > 0 {
			return wait
		}
		seen = w.look()
		w.report(pod, seen, false) // its addresses are of use to others at once
	}
	for _, kill := range plan.Kill {
		w.kill(ctx, pod, kill.Container, podGrace(pod, kill), kill.Message)
	}
	next := w.begin(ctx, pod, plan)
	w.tidy(ctx)
	seen = w.look()
	w.probes.sync(ctx, pod, seen, w.last, w.podIP(pod, seen))
	seen.Probes = w.probes.results()
	w.report(pod, seen, false)
	if deadline := w.deadline(pod); !deadline.IsZero() {
		next = min(next, max(0, time.Until(deadline)))
	}
	if volume.Mirrors(pod) {
		next = min(next, w.k.cfg.RefreshInterval.Duration)
	}
	return next
}

func (w *worker) beginEnd() time.Duration {
	w.stage = ending
	return 0
}

func podGrace(pod *v1.Pod, kill podplan.Kill) time.Duration {
	spec := podspec.FindContainer(pod, kill.Container.Name)
	if spec != nil && spec.LivenessProbe != nil && spec.LivenessProbe.TerminationGracePeriodSeconds != nil {
		return time.Duration(*spec.LivenessProbe.TerminationGracePeriodSeconds) * time.Second
	}
	return graceOf(pod)
}

func (w *worker) deadline(pod *v1.Pod) time.Time {
	if pod.Spec.ActiveDeadlineSeconds == nil || w.last.StartTime == nil {
		return time.Time{}
	}
	return w.last.StartTime.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second)
}

func (w *worker) overdue(pod *v1.Pod, now time.Time) {
	if at := w.deadline(pod); !at.IsZero() && now.After(at) {
		w.failed = &podstatus.Reason{
			Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline",
		}
	}
}

func (w *worker) podIP(pod *v1.Pod, seen podplan.Seen) string {
	ips := podstatus.PodIPs(pod, seen, w.k.cfg.Addresses)
	if len(ips) == 0 {
		return ""
	}
	return ips[0].String()
}

// newSandbox ends what an earlier sandbox left and makes a new one. It returns
// 0, or when to try again.
func (w *worker) newSandbox(ctx context.Context, pod *v1.Pod, seen podplan.Seen, changed bool) time.Duration {
	if wait := time.Until(w.held[""]); wait > 0 {
		return wait
	}
	if changed && w.retries == 0 {
		w.k.events.Event(pod, v1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	if err := w.stopAll(ctx, pod, seen); err != nil {
		w.log.WithError(err).Warn("cannot end the earlier sandbox, trying again")
		return w.holdSandbox()
	}
	if !w.k.claim(w.name, w.uid) {
		return time.Second // woken when the name is free
	}
	if err := w.k.sandboxes.NetworkReady(); err != nil && !pod.Spec.HostNetwork {
		w.k.events.Eventf(pod, v1.EventTypeWarning, "NetworkNotReady", "network is not ready: %v", err)
		return time.Second
	}
	if err := w.setUpVolumes(ctx, pod, seen); err != nil {
		return w.holdSandbox()
	}
	config, err := w.k.sandboxConfig(pod)
	if err == nil {
		_, err = w.k.sandboxes.RunSandbox(ctx, config)
	}
	if err != nil {
		if ctx.Err() == nil {
			w.k.events.Eventf(pod, v1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
			w.log.WithError(err).Warn("cannot make the sandbox, trying again")
		}
		return w.holdSandbox()
	}
	w.retries = 0
	w.log.Info("sandbox made")
	return 0
}

// holdSandbox is when to try again to make the sandbox.
func (w *worker) holdSandbox() time.Duration {
	wait := w.retry()
	w.held[""] = time.Now().Add(wait)
	return wait
}

// setUpVolumes makes or refreshes the pod's volumes, if it is time.
func (w *worker) setUpVolumes(ctx context.Context, pod *v1.Pod, seen podplan.Seen) error {
	fresh := time.Since(w.pathsAt) < w.k.cfg.RefreshInterval.Duration/2 && w.pathsOf == pod.ResourceVersion
	if w.paths != nil && fresh {
		return nil
	}
	paths, err := w.k.volumes.Setup(ctx, pod, w.addresses(pod, seen))
	if err == nil {
		w.paths, w.pathsAt, w.pathsOf = paths, time.Now(), pod.ResourceVersion
		return nil
	}
	if ctx.Err() == nil {
		w.k.events.Eventf(pod, v1.EventTypeWarning, "FailedMount", "%v", err)
	}
	if w.paths != nil {
		return nil // what was set up before serves
	}
	return err
}

func (w *worker) addresses(pod *v1.Pod, seen podplan.Seen) podspec.Addresses {
	return podspec.Addresses{Pod: podstatus.PodIPs(pod, seen, w.k.cfg.Addresses), Host: w.k.cfg.Addresses}
}

func (k *Kubelet) sandboxConfig(pod *v1.Pod) (runtime.SandboxConfig, error) {
	node, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return runtime.SandboxConfig{}, fmt.Errorf("read the node's resolver configuration: %w", err)
	}
	host, _ := podspec.Hostname(pod, k.cfg.ClusterDomain)
	c := runtime.SandboxConfig{
		Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Hostname: host,
		ResolvConf:  podspec.ResolvConf(pod, k.cfg.ClusterDomain, k.cfg.ClusterDNS, string(node)),
		HostNetwork: pod.Spec.HostNetwork, HostPID: pod.Spec.HostPID,
	}
	if s := pod.Spec.SecurityContext; s != nil && len(s.Sysctls) > 0 {
		c.Sysctls = map[string]string{}
		for _, sysctl := range s.Sysctls {
			c.Sysctls[sysctl.Name] = sysctl.Value
		}
	}
	for _, spec := range append(append([]v1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
		for _, p := range spec.Ports {
			if p.HostPort == 0 || pod.Spec.HostNetwork {
				continue
			}
			c.PortMappings = append(c.PortMappings, runtime.PortMapping{
				HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: string(p.Protocol), HostIP: p.HostIP,
			})
		}
	}
	return c, nil
}

// tidy removes records that nobody will ask for: of each container only the two
// newest are kept, and of old sandboxes those that still have some.
func (w *worker) tidy(ctx context.Context) {
	seen := w.look()
	count, kept := map[string]int{}, map[string]bool{}
	for _, c := range seen.Containers {
		if count[c.Name]++; count[c.Name] <= 2 || c.State == runtime.Running {
			kept[c.SandboxID] = true
			continue
		}
		if err := w.k.containers.RemoveContainer(c.ID); err != nil {
			w.log.WithError(err).Warn("cannot remove an old container")
			kept[c.SandboxID] = true
		}
	}
	for i, s := range seen.Sandboxes {
		if i == 0 || s.Ready || kept[s.ID] {
			continue
		}
		if err := w.k.sandboxes.RemoveSandbox(ctx, s.ID); err != nil {
			w.log.WithError(err).Warn("cannot remove an old sandbox")
		}
	}
}
