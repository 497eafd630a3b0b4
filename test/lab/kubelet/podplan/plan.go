package podplan

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
	"github.com/overland-net/overland/test/lab/kubelet/probe"
	"github.com/overland-net/overland/test/lab/runtime"
)

// Kill is a running container to be killed.
type Kill struct {
	Container runtime.Container
	Message   string // why, for the event
}

// Plan is what to do next, in this order: end all that runs if EndPod, make a
// sandbox if NewSandbox, kill, start. Starting comes to a halt at the first
// init container that is no sidecar; the next plan goes on from there.
type Plan struct {
	EndPod     bool
	NewSandbox bool
	Changed    bool // an earlier sandbox is replaced
	Kill       []Kill
	StartInit  []int // indexes into spec.initContainers
	Start      []int // indexes into spec.containers
}

// Make plans the next steps of a pod that should run.
func Make(pod *v1.Pod, seen Seen) Plan {
	if _, ok := seen.Sandbox(); !ok {
		return fresh(pod, seen)
	}
	var plan Plan
	if !plan.initialize(pod, seen) {
		return plan
	}
	kept := 0
	for i := range pod.Spec.Containers {
		kept += plan.consider(pod, seen, i)
	}
	if kept == 0 && len(plan.Start) == 0 {
		// Sidecars must not keep a pod alive.
		plan.EndPod, plan.StartInit = true, nil
	}
	return plan
}

// fresh plans for a pod without a sandbox that can be used.
func fresh(pod *v1.Pod, seen Seen) Plan {
	plan := Plan{EndPod: true, NewSandbox: true, Changed: len(seen.Sandboxes) > 0}
	if pod.Spec.RestartPolicy == v1.RestartPolicyNever && len(seen.Containers) > 0 {
		plan.NewSandbox = false
		return plan
	}
	var start []int
	for i := range pod.Spec.Containers {
		spec := &pod.Spec.Containers[i]
		if last, ok := seen.Latest(spec.Name); ok && last.State != runtime.Running &&
			!podspec.RestartsAfter(pod, spec, last.ExitCode) {
			continue
		}
		start = append(start, i)
	}
	switch {
	case len(start) == 0 && seen.everBegan(pod):
		plan.NewSandbox = false
	case len(pod.Spec.InitContainers) > 0:
		plan.StartInit = []int{0}
	default:
		plan.Start = start
	}
	return plan
}

// consider plans for one of the pod's own containers and returns 1 if it is
// left running.
func (p *Plan) consider(pod *v1.Pod, seen Seen, i int) int {
	spec := &pod.Spec.Containers[i]
	c, ok := seen.active(spec.Name)
	if !ok || c.State != runtime.Running {
		if seen.ShouldRun(pod, spec) {
			p.Start = append(p.Start, i)
		}
		return 0
	}
	message, restart := seen.unfit(spec, c), podspec.RestartsWhenKilled(pod, spec)
	if message == "" {
		return 1
	}
	restart = restart || c.Image != spec.Image
	if restart {
		message += ", will be restarted"
		p.Start = append(p.Start, i)
	}
	p.Kill = append(p.Kill, Kill{Container: c, Message: message})
	return 0
}

// unfit says why a running container has to be killed, or nothing.
func (s Seen) unfit(spec *v1.Container, c runtime.Container) string {
	switch {
	case c.Image != spec.Image:
		return fmt.Sprintf("Container %s definition changed", spec.Name)
	case s.Probes[probe.Key{ContainerID: c.ID, Kind: probe.Liveness}] == probe.Failure:
		return fmt.Sprintf("Container %s failed liveness probe", spec.Name)
	case s.Probes[probe.Key{ContainerID: c.ID, Kind: probe.Startup}] == probe.Failure:
		return fmt.Sprintf("Container %s failed startup probe", spec.Name)
	}
	return ""
}

// initialize plans for the init containers and says whether all are done. It
// looks from the last to the first: the last one that has any record shows how
// far the pod came, also where records of earlier ones are gone.
func (p *Plan) initialize(pod *v1.Pod, seen Seen) (done bool) {
	inits := pod.Spec.InitContainers
	if len(inits) == 0 {
		return true
	}
	done = seen.Initialized(pod)
	passed := done // some later one has been reached
	for i, spec := range slices.Backward(inits) {
		c, ok := seen.active(spec.Name)
		sidecar := podspec.IsSidecar(&spec)
		if !ok {
			if passed && sidecar {
				p.StartInit = append(p.StartInit, i)
			}
			continue
		}
		if passed && !sidecar {
			continue
		}
		ready := p.initContainer(pod, seen, i, c)
		if p.EndPod {
			return false
		}
		if ready && !passed {
			if i == len(inits)-1 {
				done = true
			} else {
				p.StartInit = append(p.StartInit, i+1)
			}
		}
		passed = true
	}
	if !passed {
		p.StartInit = append(p.StartInit, 0)
	}
	slices.Sort(p.StartInit)
	return done
}

// initContainer plans for an init container that has a record, and says whether
// the next one may start.
func (p *Plan) initContainer(pod *v1.Pod, seen Seen, i int, c runtime.Container) (ready bool) {
	spec := &pod.Spec.InitContainers[i]
	if c.State != runtime.Running {
		switch {
		case podspec.IsSidecar(spec):
			p.StartInit = append(p.StartInit, i)
		case c.ExitCode == 0:
			return true
		case podspec.RestartsAfter(pod, spec, c.ExitCode):
			p.StartInit = append(p.StartInit, i)
		default:
			p.EndPod, p.StartInit = true, nil
		}
		return false
	}
	if !podspec.IsSidecar(spec) {
		return false
	}
	if message := seen.unfit(spec, c); message != "" {
		p.Kill = append(p.Kill, Kill{Container: c, Message: "Init c" + message[1:]})
		p.StartInit = append(p.StartInit, i)
		return false
	}
	return seen.Started(spec, c)
}
