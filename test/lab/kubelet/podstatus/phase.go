package podstatus

import (
	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
)

// tally counts containers by what they do.
type tally struct {
	pendingInit, pendingSidecars, fatalInit          int
	unknown, running, waiting, ended, good, notAgain int
}

// phase is the pod's phase by its containers alone.
func phase(in Input, all []v1.ContainerStatus) v1.PodPhase {
	var t tally
	for i := range in.Pod.Spec.InitContainers {
		spec := &in.Pod.Spec.InitContainers[i]
		status := find(all, spec.Name)
		if podspec.IsSidecar(spec) {
			t.sidecar(status)
		} else {
			t.init(in.Pod, spec, status)
		}
	}
	for i := range in.Pod.Spec.Containers {
		spec := &in.Pod.Spec.Containers[i]
		t.own(in.Pod, spec, find(all, spec.Name))
	}
	switch {
	case t.fatalInit > 0:
		return v1.PodFailed
	case t.pendingInit > 0, t.pendingSidecars > 0 && !in.Seen.Initialized(in.Pod), t.waiting > 0:
		return v1.PodPending
	case t.running > 0 && t.unknown == 0:
		return v1.PodRunning
	case t.ended > 0 && t.running == 0 && t.unknown == 0:
		switch {
		case !in.Final && t.ended != t.notAgain:
			return v1.PodRunning // about to be started again
		case t.ended == t.good:
			return v1.PodSucceeded
		}
		return v1.PodFailed
	}
	return v1.PodPending
}

func (t *tally) init(pod *v1.Pod, spec *v1.Container, s *v1.ContainerStatus) {
	end := lastEnd(s)
	switch {
	case end == nil:
		t.pendingInit++
	case end.ExitCode == 0:
		if s.State.Terminated == nil {
			return // it is done, and only shown as waiting
		}
	case !podspec.RestartsAfter(pod, spec, int(end.ExitCode)):
		t.fatalInit++
	default:
		t.pendingInit++
	}
}

func (t *tally) sidecar(s *v1.ContainerStatus) {
	switch {
	case s == nil:
		t.unknown++
	case s.State.Running != nil:
		t.running++
		if s.Started == nil || !*s.Started {
			t.pendingSidecars++
		}
	case lastEnd(s) == nil:
		t.pendingSidecars++
		t.waiting++
	}
}

func (t *tally) own(pod *v1.Pod, spec *v1.Container, s *v1.ContainerStatus) {
	end := lastEnd(s)
	switch {
	case s == nil:
		t.unknown++
	case s.State.Running != nil:
		t.running++
	case end == nil:
		t.waiting++
	default:
		t.ended++
		if end.ExitCode == 0 {
			t.good++
		}
		if !podspec.RestartsAfter(pod, spec, int(end.ExitCode)) {
			t.notAgain++
		}
	}
}

// lastEnd is how the container ended, if it is not running and ever did.
func lastEnd(s *v1.ContainerStatus) *v1.ContainerStateTerminated {
	switch {
	case s == nil || s.State.Running != nil:
		return nil
	case s.State.Terminated != nil:
		return s.State.Terminated
	}
	return s.LastTerminationState.Terminated
}

func find(all []v1.ContainerStatus, name string) *v1.ContainerStatus {
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	return nil
}
