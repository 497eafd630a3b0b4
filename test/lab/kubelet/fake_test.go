package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/runtime"
)

// fakeRuntime keeps records as the real runtime does, and enforces its rules:
// one pod's network at a time under a name, and no container without a sandbox.
type fakeRuntime struct {
	mu        sync.Mutex
	clock     time.Time
	boxes     []runtime.Sandbox
	all       []runtime.Container
	log       []string // what was asked, in order
	network   error
	failAdd   int            // so many sandboxes fail
	exits     map[string]int // containers that end at once, by name, with the code
	slowStop  time.Duration
	changes   chan struct{}
	violation error
}

func newFakeRuntime() *fakeRuntime {
	return &fakeRuntime{clock: time.Now().Add(-time.Hour), exits: map[string]int{}, changes: make(chan struct{}, 1)}
}

func (f *fakeRuntime) did(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

func (f *fakeRuntime) changed() {
	select {
	case f.changes <- struct{}{}:
	default:
	}
}

func (f *fakeRuntime) NetworkReady() error { return f.network }

func (f *fakeRuntime) RunSandbox(_ context.Context, c runtime.SandboxConfig) (runtime.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failAdd > 0 {
		f.failAdd--
		return runtime.Sandbox{}, runtime.ErrNetwork
	}
	for _, s := range f.boxes {
		if s.Ready && s.Namespace == c.Namespace && s.Name == c.Name {
			f.violation = fmt.Errorf("ADD of %s before the DEL of the earlier one", c.Name)
		}
	}
	f.clock = f.clock.Add(time.Second)
	s := runtime.Sandbox{
		ID: fmt.Sprintf("s%d", len(f.log)), Namespace: c.Namespace, Name: c.Name, UID: c.UID, Ready: true,
		CreatedAt: f.clock, IPs: []netip.Addr{netip.MustParseAddr("10.1.1.10")},
	}
	f.boxes = append(f.boxes, s)
	f.did("run %s/%s", c.Name, c.UID)
	return s, nil
}

func (f *fakeRuntime) StopSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.boxes {
		if f.boxes[i].ID == id && f.boxes[i].Ready {
			f.boxes[i].Ready = false
			f.did("stop sandbox of %s/%s", f.boxes[i].Name, f.boxes[i].UID)
		}
	}
	return nil
}

func (f *fakeRuntime) RemoveSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.boxes = slices.DeleteFunc(f.boxes, func(s runtime.Sandbox) bool { return s.ID == id })
	f.all = slices.DeleteFunc(f.all, func(c runtime.Container) bool { return c.SandboxID == id })
	return nil
}

func (f *fakeRuntime) Sandboxes() []runtime.Sandbox {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.boxes)
}

func (f *fakeRuntime) Attach(context.Context, string, runtime.ExecIO) error {
	return errors.ErrUnsupported
}

func (f *fakeRuntime) Namespaces(string) (ns.Set, error) { return ns.Set{}, errors.ErrUnsupported }

func (f *fakeRuntime) CheckImage(image string) error {
	if image == "unknown" {
		return runtime.ErrImage
	}
	return nil
}

func (f *fakeRuntime) StartContainer(_ context.Context, sandbox string, c runtime.ContainerConfig) (runtime.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.ContainsFunc(f.boxes, func(s runtime.Sandbox) bool { return s.ID == sandbox && s.Ready }) {
		return runtime.Container{}, runtime.ErrNotFound
	}
	f.clock = f.clock.Add(time.Second)
	out := runtime.Container{
		ID: fmt.Sprintf("%s-%d-%d", c.Name, c.Attempt, len(f.log)), SandboxID: sandbox, Name: c.Name, Image: c.Image,
		Attempt: c.Attempt, State: runtime.Running, StartedAt: f.clock,
	}
	f.did("start %s %d", c.Name, c.Attempt)
	if code, ok := f.exits[c.Name]; ok {
		out.State, out.ExitCode, out.FinishedAt = runtime.Exited, code, time.Now()
		defer f.changed()
	}
	f.all = append(f.all, out)
	return out, nil
}

func (f *fakeRuntime) StopContainer(ctx context.Context, id string, _ time.Duration) error {
	f.mu.Lock()
	slow := f.slowStop
	f.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(slow):
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.all {
		if f.all[i].ID == id && f.all[i].State == runtime.Running {
			f.all[i].State, f.all[i].ExitCode, f.all[i].FinishedAt = runtime.Exited, 143, time.Now()
			f.did("stop %s", f.all[i].Name)
		}
	}
	f.changed()
	return nil
}

func (f *fakeRuntime) RemoveContainer(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = slices.DeleteFunc(f.all, func(c runtime.Container) bool { return c.ID == id })
	return nil
}

func (f *fakeRuntime) Containers() []runtime.Container {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all)
}

func (f *fakeRuntime) Exec(_ context.Context, id string, command []string, _ runtime.ExecIO) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did("exec %v", command)
	return 0, nil
}

// asked is a copy of what was asked.
func (f *fakeRuntime) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

// lose is a node's loss of the pods' namespaces.
func (f *fakeRuntime) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.boxes {
		f.boxes[i].Ready = false
	}
	for i := range f.all {
		f.all[i].State, f.all[i].ExitCode, f.all[i].FinishedAt = runtime.Exited, 137, time.Now()
	}
	f.changed()
}
