package podstatus

import (
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
	"github.com/overland-net/overland/test/lab/kubelet/probe"
	"github.com/overland-net/overland/test/lab/runtime"
)

// IDPrefix begins the container ids in a status, as it names the runtime.
const IDPrefix = "lab://"

// containers computes the statuses of the containers, sorted by name, or of the
// init containers, in their order.
func containers(in Input, specs []v1.Container, before []v1.ContainerStatus, init bool) []v1.ContainerStatus {
	var out []v1.ContainerStatus
	for i := range specs {
		spec := &specs[i]
		status := state(in, spec, find(before, spec.Name), init)
		started := status.State.Running != nil
		if c, ok := in.Seen.Latest(spec.Name); ok && started {
			started = in.Seen.Started(spec, c)
			status.Ready = started && ready(in, spec, c)
		}
		status.Started = &started
		if init && !podspec.IsSidecar(spec) {
			end := status.State.Terminated
			status.Ready = end != nil && end.ExitCode == 0
		}
		out = append(out, status)
	}
	if !init {
		slices.SortFunc(out, func(a, b v1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) })
	}
	return out
}

func ready(in Input, spec *v1.Container, c runtime.Container) bool {
	return spec.ReadinessProbe == nil || in.Seen.Probes[probe.Key{ContainerID: c.ID, Kind: probe.Readiness}] == probe.Success
}

func state(in Input, spec *v1.Container, before *v1.ContainerStatus, init bool) v1.ContainerStatus {
	newest, ok := in.Seen.Latest(spec.Name)
	if !ok {
		return unseen(in, spec, before, init)
	}
	out := v1.ContainerStatus{
		Name: spec.Name, Image: newest.Image, ImageID: newest.ImageID, ContainerID: IDPrefix + newest.ID,
		RestartCount: int32(newest.Attempt), State: stateOf(newest),
	}
	if earlier, ok := in.Seen.Previous(spec.Name); ok {
		out.LastTerminationState = stateOf(earlier)
	} else if before != nil && before.ContainerID != out.ContainerID && before.State.Terminated != nil {
		out.LastTerminationState = before.State
	} else if before != nil {
		out.LastTerminationState = before.LastTerminationState
	}
	waiting, ok := in.Waiting[spec.Name]
	if !ok || in.Final || out.State.Terminated == nil || !in.Seen.ShouldRun(in.Pod, spec) {
		return out
	}
	out.LastTerminationState = out.State
	out.State = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: waiting.Reason, Message: waiting.Message}}
	return out
}

// unseen is the status of a container without a record: it was not started yet,
// or what ran is lost (the node was rebooted).
func unseen(in Input, spec *v1.Container, before *v1.ContainerStatus, init bool) v1.ContainerStatus {
	out := v1.ContainerStatus{Name: spec.Name, Image: spec.Image, State: waitingState(in, spec.Name)}
	if before == nil {
		return out
	}
	out.RestartCount, out.LastTerminationState = before.RestartCount, before.LastTerminationState
	switch {
	case before.State.Terminated != nil && (in.Final || init ||
		!podspec.RestartsAfter(in.Pod, spec, int(before.State.Terminated.ExitCode))):
		return *before
	case before.State.Terminated != nil:
		out.LastTerminationState = before.State
	case before.State.Running != nil:
		out.LastTerminationState = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
			Reason: "ContainerStatusUnknown", ExitCode: 137,
			Message:     "The container was running when it was last seen, and is gone.",
			StartedAt:   before.State.Running.StartedAt,
			ContainerID: before.ContainerID,
		}}
		if in.Pod.DeletionTimestamp == nil {
			out.RestartCount++
		}
	}
	return out
}

func waitingState(in Input, name string) v1.ContainerState {
	waiting := v1.ContainerStateWaiting{Reason: "ContainerCreating"}
	if len(in.Pod.Spec.InitContainers) > 0 {
		waiting.Reason = "PodInitializing"
	}
	if why, ok := in.Waiting[name]; ok {
		waiting.Reason, waiting.Message = why.Reason, why.Message
	}
	return v1.ContainerState{Waiting: &waiting}
}

func stateOf(c runtime.Container) v1.ContainerState {
	if c.State == runtime.Running {
		return v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: *stamp(c.StartedAt)}}
	}
	end := &v1.ContainerStateTerminated{
		ExitCode: int32(c.ExitCode), Reason: c.Reason, Message: c.Message, ContainerID: IDPrefix + c.ID,
		StartedAt: *stamp(c.StartedAt), FinishedAt: *stamp(c.FinishedAt),
	}
	if end.Reason == "" {
		end.Reason = "Error"
		if c.ExitCode == 0 {
			end.Reason = "Completed"
		}
	}
	return v1.ContainerState{Terminated: end}
}
