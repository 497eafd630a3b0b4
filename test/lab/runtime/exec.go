package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// execRequest is what the exec role is told first.
type execRequest struct {
	PID     int
	Start   uint64 // see startTime
	Process processSpec
}

// execResult is what it answers last.
type execResult struct {
	ExitCode int
	NotRun   string // why the command could not be executed
	Trouble  string // why it was not even tried
}

// Exec runs a command in a container as its own first command runs: same
// namespaces, user, capabilities, environment and folder. It returns the
// command's exit code once that has ended and its output is copied. When ctx
// ends the command is killed. A command that cannot be executed gives a
// shell's exit code, 127 or 126, and the reason on Stderr (on Stdout with a
// terminal); err is for everything that is not the command's doing.
func (r *Runtime) Exec(ctx context.Context, id string, cmd []string, streams ExecIO) (exitCode int, err error) {
	c, err := r.findContainer(id)
	if err != nil {
		return -1, err
	}
	state := c.lastState()
	if state.Exited {
		return -1, fmt.Errorf("exec in container %s: it is not running", id)
	}
	if len(cmd) == 0 {
		return -1, fmt.Errorf("exec in container %s: no command", id)
	}
	request := execRequest{PID: state.PID, Start: state.Start, Process: c.spec.Process}
	request.Process.Args, request.Process.TTY = cmd, streams.TTY
	if streams.TTY && !c.spec.Process.TTY {
		request.Process.Env = mergeEnv([]string{"TERM=xterm"}, request.Process.Env)
	}
	result, err := runExec(ctx, r.cfg.Self, request, streams)
	if err != nil {
		return -1, fmt.Errorf("exec in container %s: %w", id, err)
	}
	if result.NotRun != "" {
		to := streams.Stderr
		if streams.TTY || to == nil {
			to = streams.Stdout
		}
		if to != nil {
			_, _ = fmt.Fprintln(to, result.NotRun) // the exit code says it too
		}
	}
	return result.ExitCode, nil
}

// runExec starts the exec role and talks to it until the command has ended.
func runExec(ctx context.Context, self string, request execRequest, streams ExecIO) (execResult, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return execResult{}, fmt.Errorf("create socket pair: %w", err)
	}
	control, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	// Closing it kills the command, wherever we leave.
	defer func() { _ = control.Close() }()
	cmd := exec.Command(self, "container-exec")
	cmd.Dir, cmd.ExtraFiles = "/", []*os.File{theirs}
	cmd.Env = []string{"PATH=" + standardPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = streams.Stdout, streams.Stderr
	// What the command leaves running may hold its output open for ever.
	cmd.WaitDelay = drainTimeout
	if streams.Stdin != nil {
		// Not cmd.Stdin, which Wait would wait for, also after the command's end.
		in, err := cmd.StdinPipe()
		if err != nil {
			return execResult{}, errors.Join(err, theirs.Close())
		}
		go func() {
			_, _ = io.Copy(in, streams.Stdin) // ends with the command or the client
			_ = in.Close()
		}()
	}
	if err := cmd.Start(); err != nil {
		return execResult{}, errors.Join(fmt.Errorf("start: %w", err), theirs.Close())
	}
	_ = theirs.Close() // the role has its own
	stop := context.AfterFunc(ctx, func() { _ = control.Close() })
	defer stop()
	result, talked := talk(ctx, control, request, streams.Resize)
	waited := cmd.Wait()
	if ctx.Err() != nil {
		return execResult{}, ctx.Err()
	}
	if talked != nil {
		return execResult{}, fmt.Errorf("the exec process failed: %w", errors.Join(talked, waited))
	}
	if result.Trouble != "" {
		return execResult{}, errors.New(result.Trouble)
	}
	// Of what Wait says only the exit code is left, which the result has, or
	// that the output was cut off.
	return result, nil
}

// talk sends the request and every change of size, and receives the result.
func talk(ctx context.Context, control *os.File, request execRequest, sizes <-chan TermSize) (execResult, error) {
	out := json.NewEncoder(control)
	if err := out.Encode(request); err != nil {
		return execResult{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel()
	if sizes != nil {
		sending.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case size, ok := <-sizes:
					if !ok || out.Encode(size) != nil {
						return
					}
				}
			}
		})
	}
	var result execResult
	err := json.NewDecoder(control).Decode(&result)
	return result, err
}

// ExecMain is the role container-exec of the lab's binary: it runs one command
// in a running container. It takes no arguments; its request comes on file
// descriptor 3, on which the result goes back, and whose end kills the command.
func ExecMain(_ []string) int {
	if err := keepDescriptors(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	control := os.NewFile(3, "control")
	in := json.NewDecoder(control)
	var request execRequest
	if err := in.Decode(&request); err != nil {
		fmt.Fprintln(os.Stderr, "container-exec is started by the lab's runtime only:", err)
		return 1
	}
	result, err := request.run(in)
	if command := (*commandError)(nil); errors.As(err, &command) {
		result = execResult{ExitCode: command.exitCode(), NotRun: err.Error()}
	} else if err != nil {
		result = execResult{Trouble: err.Error()}
	}
	if err := json.NewEncoder(control).Encode(result); err != nil {
		return 1 // nobody waits any more
	}
	return 0
}

// run executes the command and returns when it has ended.
func (q execRequest) run(in *json.Decoder) (execResult, error) {
	var command *execCommand
	started, exited := make(chan error, 1), make(chan execResult, 1)
	go func() {
		var err error
		command, err = q.start()
		started <- err
		if err == nil {
			// On the thread that started it, because its end would not matter to
			// the command, but this process waits for nothing else.
			exited <- command.wait()
		}
	}()
	if err := <-started; err != nil {
		return execResult{}, err
	}
	go func() {
		for {
			var size TermSize
			if in.Decode(&size) != nil {
				command.kill() // the runtime is gone or does not want it any more
				return
			}
			if command.terminal != nil {
				_ = resize(command.terminal, size) // a program that is just ending
			}
		}
	}()
	return <-exited, nil
}

// execCommand is a running command.
type execCommand struct {
	pid      int
	terminal *os.File // nil without one
	copied   chan struct{}
}

// start enters the container and starts the command there. It changes the
// calling thread for good, which is why it ends with its goroutine.
func (q execRequest) start() (*execCommand, error) {
	goruntime.LockOSThread()
	if err := q.enter(); err != nil {
		return nil, err
	}
	command := &execCommand{copied: make(chan struct{})}
	files := []uintptr{0, 1, 2}
	ours, theirs := -1, -1
	if q.Process.TTY {
		var err error
		if ours, theirs, err = openTerminal(); err != nil {
			return nil, err
		}
		if err := unix.Fchown(theirs, q.Process.UID, -1); err != nil {
			return nil, fmt.Errorf("hand over the terminal: %w", err)
		}
		files = slices.Repeat([]uintptr{uintptr(theirs)}, 3)
	}
	if err := unix.Chdir(q.Process.Dir); err != nil {
		return nil, fmt.Errorf("enter the working folder %s: %w", q.Process.Dir, err)
	}
	if err := q.Process.become(); err != nil {
		return nil, err
	}
	path, err := q.Process.executable()
	if err != nil {
		return nil, err
	}
	attr := &syscall.ProcAttr{
		Env: q.Process.Env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: q.Process.TTY},
	}
	if command.pid, err = syscall.ForkExec(path, q.Process.Args, attr); err != nil {
		return nil, &commandError{q.Process.Args[0], err}
	}
	if !q.Process.TTY {
		close(command.copied)
		return command, nil
	}
	_ = unix.Close(theirs) // the command's now
	command.terminal = os.NewFile(uintptr(ours), "terminal")
	go command.copy()
	return command, nil
}

// enter joins the container's namespaces with the calling thread.
func (q execRequest) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the working folder: %w", err)
	}
	p, err := openProcess(q.PID, q.Start)
	if err != nil {
		return fmt.Errorf("enter the container: %w", err)
	}
	defer p.close()
	conn, err := p.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("enter the container: %w", err)
	}
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
	var entered error
	err = conn.Control(func(fd uintptr) { entered = unix.Setns(int(fd), all) })
	if err := errors.Join(err, entered); err != nil {
		return fmt.Errorf("enter the container: %w", err)
	}
	return nil
}

// copy connects the terminal with the process's own standard files.
func (c *execCommand) copy() {
	defer close(c.copied)
	go func() {
		_, err := io.Copy(c.terminal, os.Stdin)
		if err == nil {
			// As a user would end the input: the terminal itself stays open.
			_, _ = c.terminal.Write([]byte{4}) // a program that is gone does not read it
		}
	}()
	_, _ = io.Copy(os.Stdout, c.terminal) // ends with an error when the last program has closed it
}

// wait is the command's end, after what it printed is copied.
func (c *execCommand) wait() execResult {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(c.pid, &status, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	select {
	case <-c.copied:
	case <-time.After(drainTimeout):
	}
	if status.Signaled() {
		return execResult{ExitCode: 128 + int(status.Signal())}
	}
	return execResult{ExitCode: status.ExitStatus()}
}

// kill ends the command and what it started in its session's first group.
func (c *execCommand) kill() {
	_ = unix.Kill(-c.pid, unix.SIGKILL) // gone already is fine
}
