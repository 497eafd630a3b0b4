package podplan

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/probe"
	"github.com/overland-net/overland/test/lab/runtime"
)

// epoch is when the tests' first sandbox was made.
func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func up(name string) runtime.Container {
	return runtime.Container{ID: name + "-id", SandboxID: "s1", Name: name, Image: "i", State: runtime.Running, StartedAt: epoch()}
}

func out(name string, code int) runtime.Container {
	c := up(name)
	c.State, c.ExitCode = runtime.Exited, code
	return c
}

func spec(names ...string) []v1.Container {
	var all []v1.Container
	for _, n := range names {
		all = append(all, v1.Container{Name: n, Image: "i"})
	}
	return all
}

func sidecar(name string) v1.Container {
	always := v1.ContainerRestartPolicyAlways
	return v1.Container{Name: name, Image: "i", RestartPolicy: &always}
}

func TestPlans(t *testing.T) {
	ready := []runtime.Sandbox{{ID: "s1", UID: "u", Ready: true}}
	lost := []runtime.Sandbox{{ID: "s1", UID: "u"}}
	dead := probe.Results{{ContainerID: "a-id", Kind: probe.Liveness}: probe.Failure}
	inits := append(spec("i1"), sidecar("side"))
	for name, c := range map[string]struct {
		policy v1.RestartPolicy
		inits  []v1.Container
		names  []string
		seen   Seen
		want   Plan
	}{
		"a new pod gets a sandbox":                    {"Always", nil, []string{"a", "b"}, Seen{}, Plan{EndPod: true, NewSandbox: true, Start: []int{0, 1}}},
		"a new pod begins with its first init":        {"Always", inits, []string{"a"}, Seen{}, Plan{EndPod: true, NewSandbox: true, StartInit: []int{0}}},
		"what is missing is started":                  {"Always", nil, []string{"a", "b"}, Seen{Sandboxes: ready, Containers: []runtime.Container{up("a")}}, Plan{Start: []int{1}}},
		"what runs is left alone":                     {"Always", nil, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{up("a")}}, Plan{}},
		"what ended restarts":                         {"Always", nil, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{out("a", 0)}}, Plan{Start: []int{0}}},
		"what ended well does not, on failure":        {"OnFailure", nil, []string{"a", "b"}, Seen{Sandboxes: ready, Containers: []runtime.Container{out("a", 0), up("b")}}, Plan{}},
		"all ended: the pod ends":                     {"Never", nil, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{out("a", 1)}}, Plan{EndPod: true}},
		"a dead one is killed and restarted":          {"Always", nil, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{up("a")}, Probes: dead}, Plan{Start: []int{0}, Kill: []Kill{{up("a"), "Container a failed liveness probe, will be restarted"}}}},
		"a dead one of Never is killed":               {"Never", nil, []string{"a", "b"}, Seen{Sandboxes: ready, Containers: []runtime.Container{up("a"), up("b")}, Probes: dead}, Plan{Kill: []Kill{{up("a"), "Container a failed liveness probe"}}}},
		"a lost sandbox is replaced":                  {"Always", nil, []string{"a"}, Seen{Sandboxes: lost, Containers: []runtime.Container{out("a", 137)}}, Plan{EndPod: true, NewSandbox: true, Changed: true, Start: []int{0}}},
		"a lost sandbox of Never ends the pod":        {"Never", nil, []string{"a"}, Seen{Sandboxes: lost, Containers: []runtime.Container{out("a", 137)}}, Plan{EndPod: true, Changed: true}},
		"a lost sandbox after all is done, too":       {"OnFailure", nil, []string{"a"}, Seen{Sandboxes: lost, Containers: []runtime.Container{out("a", 0)}}, Plan{EndPod: true, Changed: true}},
		"an init that runs is waited for":             {"Always", inits, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{up("i1")}}, Plan{}},
		"a done init lets the next start":             {"Always", inits, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{out("i1", 0)}}, Plan{StartInit: []int{1}}},
		"a failed init restarts":                      {"Always", inits, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{out("i1", 1)}}, Plan{StartInit: []int{0}}},
		"a failed init of Never ends the pod":         {"Never", inits, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{out("i1", 1)}}, Plan{EndPod: true}},
		"a running sidecar lets the pod start":        {"Always", inits, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{up("side"), out("i1", 0)}}, Plan{Start: []int{0}}},
		"an ended sidecar restarts beside the others": {"Always", inits, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{out("side", 0), up("a")}}, Plan{StartInit: []int{1}}},
		"sidecars do not keep a pod alive":            {"Never", inits, []string{"a"}, Seen{Sandboxes: ready, Containers: []runtime.Container{up("side"), out("a", 0)}}, Plan{EndPod: true}},
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: c.policy, InitContainers: c.inits, Containers: spec(c.names...)}}
		if diff := cmp.Diff(c.want, Make(pod, c.seen)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestSidecarWithStartupProbeHoldsThePodBack(t *testing.T) {
	side := sidecar("side")
	side.StartupProbe = &v1.Probe{}
	pod := &v1.Pod{Spec: v1.PodSpec{InitContainers: []v1.Container{side}, Containers: spec("a")}}
	seen := Seen{Sandboxes: []runtime.Sandbox{{ID: "s1", Ready: true}}, Containers: []runtime.Container{up("side")}}
	if diff := cmp.Diff(Plan{}, Make(pod, seen)); diff != "" {
		t.Error(diff)
	}
	seen.Probes = probe.Results{{ContainerID: "side-id", Kind: probe.Startup}: probe.Success}
	if diff := cmp.Diff(Plan{Start: []int{0}}, Make(pod, seen)); diff != "" {
		t.Error(diff)
	}
}

func TestObserveFindsThePodsOwnNewestFirst(t *testing.T) {
	older, newer := up("a"), up("a")
	newer.ID, newer.Attempt, newer.StartedAt = "new", 1, epoch().Add(time.Second)
	foreign := up("a")
	foreign.SandboxID = "other"
	seen := Observe("u", []runtime.Sandbox{{ID: "s1", UID: "u", Ready: true}, {ID: "other", UID: "v"}}, []runtime.Container{foreign, older, newer}, nil)
	latest, _ := seen.Latest("a")
	previous, _ := seen.Previous("a")
	if len(seen.Containers) != 2 || latest.ID != "new" || previous.ID != "a-id" {
		t.Errorf("%+v", seen)
	}
}
