package podstatus

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
)

// conditions keeps those of others and computes the kubelet's own. A condition
// that did not change keeps its time.
func conditions(in Input, out *v1.PodStatus) []v1.PodCondition {
	own := []v1.PodCondition{
		sandboxReady(in), initialized(in, out), podReady(in, out), containersReady(in, out),
		{Type: v1.PodScheduled, Status: v1.ConditionTrue},
	}
	mine := map[v1.PodConditionType]bool{}
	for i := range own {
		c := &own[i]
		mine[c.Type] = true
		c.ObservedGeneration = in.Pod.Generation
		c.LastTransitionTime = *stamp(in.Now)
		for _, earlier := range [][]v1.PodCondition{in.Before.Conditions, in.Pod.Status.Conditions} {
			if had := condition(earlier, c.Type); had != nil && had.Status == c.Status {
				c.LastTransitionTime = had.LastTransitionTime
				break
			}
		}
	}
	for _, c := range in.Pod.Status.Conditions {
		if !mine[c.Type] {
			own = append(own, c)
		}
	}
	return own
}

func condition(all []v1.PodCondition, kind v1.PodConditionType) *v1.PodCondition {
	for i := range all {
		if all[i].Type == kind {
			return &all[i]
		}
	}
	return nil
}

func sandboxReady(in Input) v1.PodCondition {
	if _, ok := in.Seen.Sandbox(); ok {
		return v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionTrue}
	}
	return v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionFalse}
}

func initialized(in Input, out *v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.PodInitialized, Status: v1.ConditionTrue}
	if out.Phase == v1.PodSucceeded {
		c.Reason = "PodCompleted"
		return c
	}
	begun := false
	for _, s := range out.ContainerStatuses {
		begun = begun || s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil
	}
	var incomplete []string
	for i := range in.Pod.Spec.InitContainers {
		spec := &in.Pod.Spec.InitContainers[i]
		s := find(out.InitContainerStatuses, spec.Name)
		if podspec.IsSidecar(spec) && !*s.Started || !podspec.IsSidecar(spec) && !s.Ready {
			incomplete = append(incomplete, spec.Name)
		}
	}
	if len(incomplete) > 0 && !begun {
		c.Status, c.Reason = v1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: %s", incomplete)
	}
	return c
}

func containersReady(in Input, out *v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.ContainersReady, Status: v1.ConditionFalse}
	switch out.Phase {
	case v1.PodSucceeded:
		c.Reason = "PodCompleted"
		return c
	case v1.PodFailed:
		c.Reason = "PodFailed"
		return c
	}
	var unready []string
	for i := range in.Pod.Spec.InitContainers {
		spec := &in.Pod.Spec.InitContainers[i]
		if podspec.IsSidecar(spec) && !find(out.InitContainerStatuses, spec.Name).Ready {
			unready = append(unready, spec.Name)
		}
	}
	for _, spec := range in.Pod.Spec.Containers {
		if !find(out.ContainerStatuses, spec.Name).Ready {
			unready = append(unready, spec.Name)
		}
	}
	if len(unready) > 0 {
		c.Reason, c.Message = "ContainersNotReady", fmt.Sprintf("containers with unready status: %s", unready)
		return c
	}
	c.Status = v1.ConditionTrue
	return c
}

func podReady(in Input, out *v1.PodStatus) v1.PodCondition {
	c := containersReady(in, out)
	c.Type = v1.PodReady
	if c.Status != v1.ConditionTrue {
		return c
	}
	var closed []string
	for _, gate := range in.Pod.Spec.ReadinessGates {
		switch had := condition(in.Pod.Status.Conditions, gate.ConditionType); {
		case had == nil:
			closed = append(closed, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case had.Status != v1.ConditionTrue:
			closed = append(closed, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %s", gate.ConditionType, had.Status))
		}
	}
	if len(closed) > 0 {
		c.Status, c.Reason, c.Message = v1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(closed, ", ")
	}
	return c
}
