package podstatus

import (
	"net/netip"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podplan"
	"github.com/overland-net/overland/test/lab/kubelet/probe"
	"github.com/overland-net/overland/test/lab/runtime"
)

// epoch is the tests' present.
func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC) }

func pod(policy v1.RestartPolicy, containers ...v1.Container) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Generation: 3},
		Spec:       v1.PodSpec{RestartPolicy: policy, Containers: containers},
	}
}

func named(name string) v1.Container { return v1.Container{Name: name, Image: "i"} }

func record(name string, attempt int, state runtime.State, code int) runtime.Container {
	return runtime.Container{
		ID: name + "-id", SandboxID: "s", Name: name, Image: "i", Attempt: attempt, State: state, ExitCode: code,
		StartedAt: epoch().Add(-time.Minute), FinishedAt: epoch(),
	}
}

func seenWith(containers ...runtime.Container) podplan.Seen {
	return podplan.Seen{
		Sandboxes: []runtime.Sandbox{{
			ID: "s", Ready: true, IPs: []netip.Addr{netip.MustParseAddr("fd00::5"), netip.MustParseAddr("10.1.1.5")},
		}},
		Containers: containers,
	}
}

func compute(p *v1.Pod, seen podplan.Seen, change func(*Input)) v1.PodStatus {
	in := Input{Pod: p, Before: p.Status, Seen: seen, HostIPs: []netip.Addr{netip.MustParseAddr("10.1.0.4")}, Now: epoch()}
	if change != nil {
		change(&in)
	}
	return Compute(in)
}

func TestPhases(t *testing.T) {
	final := func(in *Input) { in.Final = true }
	withInit := pod("Never", named("a"))
	withInit.Spec.InitContainers = []v1.Container{named("i")}
	for name, c := range map[string]struct {
		pod    *v1.Pod
		seen   podplan.Seen
		change func(*Input)
		want   v1.PodPhase
	}{
		"nothing yet":               {pod("Always", named("a")), podplan.Seen{}, nil, v1.PodPending},
		"running":                   {pod("Always", named("a")), seenWith(record("a", 0, runtime.Running, 0)), nil, v1.PodRunning},
		"one of two":                {pod("Always", named("a"), named("b")), seenWith(record("a", 0, runtime.Running, 0)), nil, v1.PodPending},
		"ended, restarts":           {pod("Always", named("a")), seenWith(record("a", 0, runtime.Exited, 0)), nil, v1.PodRunning},
		"ended, deleted":            {pod("Always", named("a")), seenWith(record("a", 0, runtime.Exited, 0)), final, v1.PodSucceeded},
		"failed, deleted":           {pod("Always", named("a")), seenWith(record("a", 0, runtime.Exited, 137)), final, v1.PodFailed},
		"never, failed":             {pod("Never", named("a")), seenWith(record("a", 0, runtime.Exited, 1)), nil, v1.PodFailed},
		"never, one still runs":     {pod("Never", named("a"), named("b")), seenWith(record("a", 0, runtime.Exited, 1), record("b", 0, runtime.Running, 0)), nil, v1.PodRunning},
		"on failure, good":          {pod("OnFailure", named("a")), seenWith(record("a", 0, runtime.Exited, 0)), nil, v1.PodSucceeded},
		"on failure, bad":           {pod("OnFailure", named("a")), seenWith(record("a", 0, runtime.Exited, 1)), nil, v1.PodRunning},
		"init runs":                 {withInit, seenWith(record("i", 0, runtime.Running, 0)), nil, v1.PodPending},
		"init failed for good":      {withInit, seenWith(record("i", 0, runtime.Exited, 1)), nil, v1.PodFailed},
		"init done, container runs": {withInit, seenWith(record("i", 0, runtime.Exited, 0), record("a", 0, runtime.Running, 0)), nil, v1.PodRunning},
		"ended by the kubelet":      {pod("Always", named("a")), seenWith(record("a", 0, runtime.Running, 0)), func(in *Input) { in.Failed = &Reason{"DeadlineExceeded", "late"} }, v1.PodFailed},
	} {
		if got := compute(c.pod, c.seen, c.change); got.Phase != c.want {
			t.Errorf("%s: %s, want %s", name, got.Phase, c.want)
		}
	}
}

func TestAPodThatEndedStaysEnded(t *testing.T) {
	p := pod("Always", named("a"))
	p.Status = v1.PodStatus{Phase: v1.PodFailed, Reason: "Evicted", Message: "why", PodIP: "10.1.1.9", PodIPs: []v1.PodIP{{IP: "10.1.1.9"}}}
	got := compute(p, podplan.Seen{}, func(in *Input) { in.Final = true })
	if got.Phase != v1.PodFailed || got.Reason != "Evicted" || got.PodIP != "10.1.1.9" {
		t.Errorf("%+v", got)
	}
}

func TestAddressesFollowTheNodesFamily(t *testing.T) {
	got := compute(pod("Always", named("a")), seenWith(), nil)
	if got.PodIP != "10.1.1.5" || len(got.PodIPs) != 2 || got.HostIP != "10.1.0.4" {
		t.Errorf("%+v", got)
	}
}

func TestCrashLoopShowsTheLastEnd(t *testing.T) {
	got := compute(pod("Always", named("a")), seenWith(record("a", 4, runtime.Exited, 2)), func(in *Input) {
		in.Waiting = map[string]Reason{"a": {"CrashLoopBackOff", "back-off 10s"}}
	})
	s := got.ContainerStatuses[0]
	if s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" || s.RestartCount != 4 ||
		s.LastTerminationState.Terminated == nil || s.LastTerminationState.Terminated.ExitCode != 2 || got.Phase != v1.PodRunning {
		t.Errorf("%+v", got)
	}
}

func TestAfterARebootTheRestartIsCountedOnce(t *testing.T) {
	p := pod("Always", named("a"))
	p.Status.ContainerStatuses = []v1.ContainerStatus{{
		Name: "a", RestartCount: 2, ContainerID: "lab://old", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}},
	}}
	first := compute(p, podplan.Seen{}, nil)
	second := compute(p, podplan.Seen{}, func(in *Input) { in.Before = first })
	for _, got := range []v1.PodStatus{first, second} {
		s := got.ContainerStatuses[0]
		if s.RestartCount != 3 || s.LastTerminationState.Terminated.Reason != "ContainerStatusUnknown" || s.State.Waiting == nil {
			t.Errorf("%+v", s)
		}
	}
}

func condStatus(s v1.PodStatus, kind v1.PodConditionType) v1.ConditionStatus {
	if c := condition(s.Conditions, kind); c != nil {
		return c.Status
	}
	return "absent"
}

func TestReadyFollowsProbesAndGates(t *testing.T) {
	c := named("a")
	c.ReadinessProbe, c.StartupProbe = &v1.Probe{}, &v1.Probe{}
	p := pod("Always", c)
	p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "gate"}}
	seen := seenWith(record("a", 0, runtime.Running, 0))
	seen.Probes = probe.Results{{ContainerID: "a-id", Kind: probe.Readiness}: probe.Success}
	got := compute(p, seen, nil)
	if *got.ContainerStatuses[0].Started || got.ContainerStatuses[0].Ready {
		t.Error("ready before it has started")
	}
	seen.Probes[probe.Key{ContainerID: "a-id", Kind: probe.Startup}] = probe.Success
	got = compute(p, seen, nil)
	if condStatus(got, v1.ContainersReady) != "True" || condStatus(got, v1.PodReady) != "False" {
		t.Errorf("gate: %+v", got.Conditions)
	}
	p.Status.Conditions = []v1.PodCondition{{Type: "gate", Status: v1.ConditionTrue}}
	got = compute(p, seen, nil)
	if condStatus(got, v1.PodReady) != "True" || condStatus(got, "gate") != "True" {
		t.Errorf("open gate: %+v", got.Conditions)
	}
}

func TestConditionsKeepTheTimeOfTheirChange(t *testing.T) {
	p := pod("Always", named("a"))
	seen := seenWith(record("a", 0, runtime.Running, 0))
	before := compute(p, seen, nil)
	after := compute(p, seen, func(in *Input) { in.Before, in.Now = before, epoch().Add(time.Hour) })
	for _, c := range after.Conditions {
		if !c.LastTransitionTime.Equal(stamp(epoch())) || c.ObservedGeneration != 3 {
			t.Errorf("%+v", c)
		}
	}
	seen.Containers[0].State = runtime.Exited
	later := compute(p, seen, func(in *Input) { in.Before, in.Now = before, epoch().Add(time.Hour) })
	if c := condition(later.Conditions, v1.PodReady); c.Status != v1.ConditionFalse || c.LastTransitionTime.Equal(stamp(epoch())) {
		t.Errorf("%+v", c)
	}
}

func TestInitializedFollowsInitContainers(t *testing.T) {
	p := pod("Always", named("a"))
	p.Spec.InitContainers = []v1.Container{named("i")}
	if got := compute(p, seenWith(record("i", 0, runtime.Running, 0)), nil); condStatus(got, v1.PodInitialized) != "False" ||
		got.ContainerStatuses[0].State.Waiting.Reason != "PodInitializing" {
		t.Errorf("%+v", got)
	}
	if got := compute(p, seenWith(record("i", 0, runtime.Exited, 0)), nil); condStatus(got, v1.PodInitialized) != "True" {
		t.Errorf("%+v", got)
	}
}
