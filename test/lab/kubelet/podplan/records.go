package podplan

import (
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
	"github.com/overland-net/overland/test/lab/kubelet/probe"
	"github.com/overland-net/overland/test/lab/runtime"
)

// Seen is what is known of one pod's sandboxes and containers.
type Seen struct {
	Sandboxes  []runtime.Sandbox   // newest first
	Containers []runtime.Container // newest first
	Probes     probe.Results
}

// Observe picks the records of one pod out of all, newest first.
func Observe(uid string, sandboxes []runtime.Sandbox, containers []runtime.Container, probes probe.Results) Seen {
	seen := Seen{Probes: probes}
	mine := map[string]bool{}
	for _, s := range sandboxes {
		if s.UID == uid {
			seen.Sandboxes = append(seen.Sandboxes, s)
			mine[s.ID] = true
		}
	}
	for _, c := range containers {
		if mine[c.SandboxID] {
			seen.Containers = append(seen.Containers, c)
		}
	}
	slices.SortStableFunc(seen.Sandboxes, func(a, b runtime.Sandbox) int { return b.CreatedAt.Compare(a.CreatedAt) })
	slices.SortStableFunc(seen.Containers, func(a, b runtime.Container) int {
		if a.Attempt != b.Attempt && a.Name == b.Name {
			return b.Attempt - a.Attempt
		}
		return b.StartedAt.Compare(a.StartedAt)
	})
	return seen
}

// Sandbox is the sandbox to use: the newest if it is ready.
func (s Seen) Sandbox() (runtime.Sandbox, bool) {
	if len(s.Sandboxes) == 0 || !s.Sandboxes[0].Ready {
		return runtime.Sandbox{}, false
	}
	return s.Sandboxes[0], true
}

// Latest is the newest instance of the named container, in any sandbox.
func (s Seen) Latest(name string) (runtime.Container, bool) {
	return s.find(name, func(runtime.Container) bool { return true })
}

// Previous is the instance before the newest.
func (s Seen) Previous(name string) (runtime.Container, bool) {
	newest, ok := s.Latest(name)
	if !ok {
		return runtime.Container{}, false
	}
	return s.find(name, func(c runtime.Container) bool { return c.ID != newest.ID })
}

// active is the newest instance in the present sandbox.
func (s Seen) active(name string) (runtime.Container, bool) {
	sandbox, ok := s.Sandbox()
	if !ok {
		return runtime.Container{}, false
	}
	return s.find(name, func(c runtime.Container) bool { return c.SandboxID == sandbox.ID })
}

func (s Seen) find(name string, ok func(runtime.Container) bool) (runtime.Container, bool) {
	for _, c := range s.Containers {
		if c.Name == name && ok(c) {
			return c, true
		}
	}
	return runtime.Container{}, false
}

// Running says whether any container of the pod runs.
func (s Seen) Running() bool {
	return slices.ContainsFunc(s.Containers, func(c runtime.Container) bool { return c.State == runtime.Running })
}

// Started says whether the running container is past its startup probe.
func (s Seen) Started(spec *v1.Container, c runtime.Container) bool {
	if c.State != runtime.Running {
		return false
	}
	return spec.StartupProbe == nil || s.Probes[probe.Key{ContainerID: c.ID, Kind: probe.Startup}] == probe.Success
}

// Initialized says whether the pod's own containers were begun in the present
// sandbox, which they are only after all init containers.
func (s Seen) Initialized(pod *v1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c v1.Container) bool {
		_, ok := s.active(c.Name)
		return ok
	})
}

// everBegan says the same of any sandbox.
func (s Seen) everBegan(pod *v1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c v1.Container) bool {
		_, ok := s.Latest(c.Name)
		return ok
	})
}

// ShouldRun says whether the container is to be started: it never was, or it
// ended in a way after which it restarts.
func (s Seen) ShouldRun(pod *v1.Pod, spec *v1.Container) bool {
	c, ok := s.Latest(spec.Name)
	if !ok {
		return true
	}
	return c.State != runtime.Running && podspec.RestartsAfter(pod, spec, c.ExitCode)
}
