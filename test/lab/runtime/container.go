package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// container is a process in a pod, with the shim that watches it.
type container struct {
	spec containerSpec
	done chan struct{} // closed when it has exited and that is recorded
	kill func() error  // kills the shim, and with it the container

	mu    sync.Mutex
	state containerState
}

// containerState is what the shim records of its container.
type containerState struct {
	Shim, PID             int
	ShimStart, Start      uint64 // as startTime gives them
	StartedAt, FinishedAt time.Time
	Exited                bool
	ExitCode, Signal      int
	Reason, Message       string
}

func (s containerSpec) statePath() string { return filepath.Join(s.Dir, "state.json") }
func (s containerSpec) lockPath() string  { return filepath.Join(s.Dir, "lock") }

func (c *container) snapshot() Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := Running
	if c.state.Exited {
		state = Exited
	}
	return Container{
		ID: c.spec.ID, SandboxID: c.spec.SandboxID, Name: c.spec.Config.Name, Image: c.spec.Config.Image,
		ImageID: c.spec.ImageID, Attempt: c.spec.Config.Attempt, State: state, PID: c.state.PID,
		ExitCode: c.state.ExitCode, Signal: c.state.Signal, StartedAt: c.state.StartedAt,
		FinishedAt: c.state.FinishedAt, Reason: c.state.Reason, Message: c.state.Message, LogPath: c.spec.LogPath,
	}
}

// StartContainer starts a container in a sandbox and returns once its command
// was executed. A command that cannot be is no error: the container is then
// Exited with ReasonStartError and a shell's exit code, 127 or 126 (128 if
// already its root or user could not be made). The container lives on when ctx
// ends after StartContainer returned.
func (r *Runtime) StartContainer(ctx context.Context, sandboxID string, c ContainerConfig) (Container, error) {
	s, err := r.findSandbox(sandboxID)
	if err != nil {
		return Container{}, err
	}
	s.op.Lock()
	defer s.op.Unlock()
	if !s.rec.Ready {
		return Container{}, fmt.Errorf("start container %s: sandbox %s is stopped", c.Name, sandboxID)
	}
	spec, err := newContainerSpec(r.cfg, s.rec, newID(), c)
	if err != nil {
		return Container{}, fmt.Errorf("start container %s: %w", c.Name, err)
	}
	started, err := r.launch(ctx, spec)
	if err != nil {
		return Container{}, errors.Join(fmt.Errorf("start container %s: %w", c.Name, err), os.RemoveAll(spec.Dir))
	}
	r.mu.Lock()
	r.containers[spec.ID] = started
	r.mu.Unlock()
	snapshot := started.snapshot()
	r.log.WithField("container", spec.ID[:12]).WithField("name", c.Name).WithField("pid", snapshot.PID).
		WithField("state", snapshot.State).Info("container started")
	return snapshot, nil
}

// prepare makes the folders and files that the spec names.
func (r *Runtime) prepare(spec containerSpec) error {
	for _, dir := range []string{spec.Root.Dir, filepath.Dir(spec.LogPath)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, m := range spec.Config.Mounts {
		if _, err := os.Stat(m.Source); errors.Is(err, os.ErrNotExist) {
			// As containerd does for hostPaths of no type.
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return fmt.Errorf("make the volume's folder: %w", err)
			}
		}
	}
	img, err := findImage(r.cfg, spec.Config.Image)
	if err != nil {
		return err
	}
	for target, links := range img.links {
		path := linkPath(r.cfg, imageName(spec.Config.Image), target)
		if err := linkFolder(path, links); err != nil {
			return fmt.Errorf("make %s of image %s: %w", target, spec.Config.Image, err)
		}
	}
	if err := os.WriteFile(spec.MessageFile, nil, 0o666); err != nil {
		return err
	}
	// Whoever the container's user is has to write it, whatever our umask.
	if err := os.Chmod(spec.MessageFile, 0o666); err != nil {
		return err
	}
	return writeJSON(filepath.Join(spec.Dir, "spec.json"), spec)
}

// launch starts the shim of the container and waits until it has started the
// command. The shim holds the container's lock for as long as it lives.
func (r *Runtime) launch(ctx context.Context, spec containerSpec) (*container, error) {
	if err := r.prepare(spec); err != nil {
		return nil, err
	}
	lock, err := lockFile(spec.lockPath())
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }() // the shim keeps its own
	report, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = report.Close() }() // a pipe's end: nothing is lost
	trouble, err := os.Create(filepath.Join(spec.Dir, "shim.log"))
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	cmd := exec.Command(r.cfg.Self, "container-shim", spec.Dir)
	cmd.Dir, cmd.Stderr, cmd.ExtraFiles = "/", trouble, []*os.File{theirs, lock}
	// A shim only copies log lines: a small heap and one processor are plenty.
	cmd.Env = []string{"GOGC=50", "GOMAXPROCS=1", "PATH=" + standardPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	err = errors.Join(err, theirs.Close(), trouble.Close())
	if err != nil {
		return nil, fmt.Errorf("start the shim: %w", err)
	}
	c := &container{spec: spec, done: make(chan struct{}), kill: cmd.Process.Kill}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = cmd.Wait() // its state file says how the container ended
	}()
	if err := c.awaitStart(ctx, report); err != nil {
		// The shim takes its container with it.
		err = errors.Join(err, cmd.Process.Kill())
		<-gone
		return nil, err
	}
	go r.watch(c, func() { <-gone })
	return c, nil
}

// awaitStart reads the shim's report: nothing but its end when there is a
// state to read, else what went wrong.
func (c *container) awaitStart(ctx context.Context, report *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = report.SetReadDeadline(time.Now()) })
	defer stop()
	text, err := io.ReadAll(report)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("read the shim's report: %w", err)
	}
	if len(text) > 0 {
		return errors.New(strings.TrimSpace(string(text)))
	}
	state, err := readJSON[containerState](c.spec.statePath())
	if err != nil {
		return fmt.Errorf("the shim died before its container started: %w", err)
	}
	if state.PID == 0 && !state.Exited {
		return errors.New("the shim died before its container started")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
	return nil
}

// watch records the container's end once its shim is gone.
func (r *Runtime) watch(c *container, shimGone func()) {
	shimGone()
	state, err := readJSON[containerState](c.spec.statePath())
	if err != nil {
		r.log.WithError(err).WithField("container", c.spec.ID).Error("cannot read a container's state")
		state = c.lastState()
	}
	if !state.Exited {
		// The shim was killed. The kernel kills its container; make sure.
		state = lostShim(state)
		if err := writeJSON(c.spec.statePath(), state); err != nil {
			r.log.WithError(err).WithField("container", c.spec.ID).Error("cannot record a container's end")
		}
	}
	c.mu.Lock()
	c.state = state
	c.mu.Unlock()
	r.log.WithField("container", c.spec.ID[:12]).WithField("name", c.spec.Config.Name).
		WithField("exitCode", state.ExitCode).Info("container exited")
	close(c.done)
	r.notify()
}

func (c *container) lastState() containerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// lostShim kills what a dead shim ran, waits for its end, and is the state of
// a container that ended so.
func lostShim(state containerState) containerState {
	if p, err := openProcess(state.PID, state.Start); err == nil {
		defer p.close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.signal(unix.SIGKILL) // by root: it can only be gone already
		_ = p.wait(ctx)            // a process that even SIGKILL does not end cannot be helped
	}
	state.Exited, state.FinishedAt = true, time.Now()
	state.Signal, state.ExitCode = int(unix.SIGKILL), 128+int(unix.SIGKILL)
	state.Message = "the container's shim was killed"
	return state
}

// adoptContainer takes over a container of an earlier process. It returns
// os.ErrNotExist if that one was never started.
func (r *Runtime) adoptContainer(ctx context.Context, spec containerSpec) error {
	c := &container{spec: spec, done: make(chan struct{})}
	alive, state, err := awaitShim(ctx, spec)
	if err != nil {
		return err
	}
	c.state = state
	r.containers[spec.ID] = c // New is alone yet
	if state.Exited {
		close(c.done)
		return nil
	}
	shim, err := openProcess(state.Shim, state.ShimStart)
	if !alive || err != nil {
		c.kill = func() error { return nil }
		go r.watch(c, func() {})
		return nil
	}
	c.kill = func() error { return shim.signal(unix.SIGKILL) }
	go r.watch(c, func() {
		_ = shim.wait(context.Background()) // no deadline, so it can only end well
	})
	r.log.WithField("container", spec.ID[:12]).WithField("name", spec.Config.Name).Info("container taken over")
	return nil
}

// awaitShim reads a container's state; a shim that lives but has not recorded
// its container yet is just about to.
func awaitShim(ctx context.Context, spec containerSpec) (alive bool, state containerState, err error) {
	for {
		if alive, err = locked(spec.lockPath()); err != nil {
			return false, state, err
		}
		state, err = readJSON[containerState](spec.statePath())
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, state, err
		}
		if !alive || err == nil && (state.PID != 0 || state.Exited) {
			return alive, state, err
		}
		select {
		case <-ctx.Done():
			return false, state, fmt.Errorf("wait for the shim of container %s: %w", spec.ID, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// StopContainer asks the container's first process to end (SIGTERM), kills it
// after grace, and returns when it is gone. It is idempotent.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	c, err := r.findContainer(id)
	if err != nil {
		return err
	}
	return c.stop(ctx, grace)
}

// killTimeout is how long a container may take to vanish after SIGKILL before
// its shim is killed too.
const killTimeout = 10 * time.Second

func (c *container) stop(ctx context.Context, grace time.Duration) error {
	steps := []struct {
		send func() error
		wait time.Duration
	}{
		{func() error { return c.signal(unix.SIGTERM) }, grace},
		{func() error { return c.signal(unix.SIGKILL) }, killTimeout},
		{c.kill, killTimeout},
	}
	if grace <= 0 {
		steps = steps[1:]
	}
	for _, step := range steps {
		select {
		case <-c.done:
			return nil
		default:
		}
		if err := step.send(); err != nil {
			return fmt.Errorf("stop container %s: %w", c.spec.ID, err)
		}
		timer := time.NewTimer(step.wait)
		defer timer.Stop()
		select {
		case <-c.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("stop container %s: %w", c.spec.ID, ctx.Err())
		case <-timer.C:
		}
	}
	return fmt.Errorf("stop container %s: it survives SIGKILL", c.spec.ID)
}

func (c *container) signal(sig unix.Signal) error {
	state := c.lastState()
	p, err := openProcess(state.PID, state.Start)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.close()
	return p.signal(sig)
}

// RemoveContainer kills the container if need be, and forgets it and its log.
func (r *Runtime) RemoveContainer(id string) error {
	c, err := r.findContainer(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.stop(context.Background(), 0); err != nil {
		return fmt.Errorf("remove container: %w", err)
	}
	for _, path := range []string{c.spec.LogPath, rotatedLog(c.spec.LogPath)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove container %s: %w", id, err)
		}
	}
	removeEmpty(filepath.Dir(c.spec.LogPath), 2)
	if err := os.RemoveAll(c.spec.Dir); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, id)
	return nil
}
