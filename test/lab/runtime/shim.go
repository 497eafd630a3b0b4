package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	goruntime "runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTimeout is how long the output of an exited container may take to end:
// something outside of its PID namespace could hold it open for ever.
const drainTimeout = 2 * time.Second

// ShimMain is the role container-shim of the lab's binary: it starts one
// container, writes its log, and records how it ended. It lives as long as its
// container and does not depend on the process that started it. args are those
// after the role's name; the result is the exit code.
func ShimMain(args []string) int {
	// The container is killed when the thread that started it ends, hence this
	// one must not.
	goruntime.LockOSThread()
	report := os.NewFile(3, "report")
	unix.CloseOnExec(3)
	unix.CloseOnExec(4) // the lock, held by being open
	if len(args) != 1 {
		return fail(report, errors.New("usage: container-shim FOLDER"))
	}
	// Only the runtime ends a shim, with SIGKILL. The signals are caught, not
	// ignored, because the container would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	spec, err := readJSON[containerSpec](args[0] + "/spec.json")
	if err != nil {
		return fail(report, err)
	}
	s := &shim{spec: spec, state: containerState{Shim: os.Getpid()}}
	if s.state.ShimStart, err = startTime(s.state.Shim); err != nil {
		return fail(report, err)
	}
	if err := s.start(); err != nil {
		return fail(report, err)
	}
	if err := s.record(); err != nil {
		return fail(report, err)
	}
	_ = report.Close() // the reader may be gone, and finds the record later
	debug.FreeOSMemory()
	if s.state.Exited {
		return 0
	}
	if err := s.finish(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func fail(report *os.File, err error) int {
	fmt.Fprintln(os.Stderr, err)
	_, _ = fmt.Fprintln(report, err) // the reader may be gone
	return 1
}

// shim is the process that watches one container.
type shim struct {
	spec   containerSpec
	state  containerState
	log    *logFile
	copies sync.WaitGroup
	attach *attachments
}

func (s *shim) record() error { return writeJSON(s.spec.statePath(), s.state) }

// start starts the container's init and returns when that has become the
// container's command, or says in s.state why it could not.
func (s *shim) start() error {
	var err error
	if s.log, err = openLog(s.spec.LogPath); err != nil {
		return err
	}
	if s.attach, err = listenAttach(s.spec); err != nil {
		return err
	}
	go s.attach.serve()
	if s.spec.HostPID {
		// Without a PID namespace the container's orphans come to us.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("become subreaper: %w", err)
		}
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("create socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "init")
	cmd := exec.Command("/proc/self/exe", "container-init", s.spec.Dir)
	cmd.Dir, cmd.ExtraFiles = "/", []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: unix.SIGKILL, Cloneflags: unix.CLONE_NEWNS,
	}
	if !s.spec.HostPID {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	}
	ends, err := s.connect(cmd)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the container's init: %w", err)
	}
	for _, end := range append(ends, theirs) {
		_ = end.Close() // the container's now
	}
	s.state.PID, s.state.StartedAt = cmd.Process.Pid, time.Now()
	if s.state.Start, err = startTime(s.state.PID); err != nil {
		return err
	}
	return s.listen(pair[0])
}

// connect gives the init its standard files and returns those ends that are
// only its own. A container with a terminal gets it from its init.
func (s *shim) connect(cmd *exec.Cmd) ([]*os.File, error) {
	if s.spec.Process.TTY {
		return nil, nil
	}
	var ends []*os.File
	if s.spec.Config.Stdin {
		// Until somebody attaches, reading blocks.
		ours, theirs, err := reversed(os.Pipe())
		if err != nil {
			return nil, err
		}
		cmd.Stdin = theirs
		ends = append(ends, theirs)
		s.attach.connectStdin(ours, nil)
	}
	for _, stream := range []struct {
		name string
		kind byte
		to   *io.Writer
	}{{"stdout", frameStdout, &cmd.Stdout}, {"stderr", frameStderr, &cmd.Stderr}} {
		ours, theirs, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		*stream.to = theirs
		ends = append(ends, theirs)
		s.copies.Go(func() { s.log.copy(stream.name, io.TeeReader(ours, output{s.attach, stream.kind})) })
	}
	return ends, nil
}

func reversed(r, w *os.File, err error) (*os.File, *os.File, error) { return w, r, err }

// listen receives the init's messages until it executes the command, which
// closes the socket.
func (s *shim) listen(fd int) error {
	defer func() { _ = unix.Close(fd) }()
	message, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, message, oob, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("listen to the container's init: %w", err)
		}
		if oobn > 0 {
			if err := s.takeTerminal(oob[:oobn]); err != nil {
				return err
			}
			continue
		}
		if n == 0 {
			return nil
		}
		code, text, _ := strings.Cut(string(message[:n]), " ")
		s.state.Exited, s.state.Reason, s.state.Message = true, ReasonStartError, text
		if s.state.ExitCode, err = strconv.Atoi(code); err != nil {
			return fmt.Errorf("listen to the container's init: %q", message[:n])
		}
		_, err = s.reap()
		s.state.FinishedAt = time.Now()
		return err
	}
}

func (s *shim) takeTerminal(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("receive the terminal: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return fmt.Errorf("receive the terminal: %w", err)
	}
	terminal := os.NewFile(uintptr(fds[0]), "terminal")
	if s.spec.Config.Stdin {
		s.attach.connectStdin(terminal, terminal)
	}
	s.copies.Go(func() { s.log.copy("stdout", io.TeeReader(terminal, output{s.attach, frameStdout})) })
	return nil
}

// reap waits for the container's first process, and for any other child that
// ends before.
func (s *shim) reap() (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for the container: %w", err)
		}
		if pid == s.state.PID {
			return status, nil
		}
	}
}

// finish waits for the container's end and records it.
func (s *shim) finish() error {
	status, err := s.reap()
	if err != nil {
		return err
	}
	s.state.FinishedAt, s.state.Exited = time.Now(), true
	s.state.ExitCode = status.ExitStatus()
	if status.Signaled() {
		s.state.Signal = int(status.Signal())
		s.state.ExitCode = 128 + s.state.Signal
	}
	if s.spec.HostPID {
		killChildren()
	}
	drained := make(chan struct{})
	go func() {
		s.copies.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drainTimeout):
	}
	s.attach.close()
	s.state.Message = tail(s.spec.MessageFile, 4096)
	return s.record()
}

// killChildren ends what a container without a PID namespace left behind:
// every orphan is, or becomes, a child of the shim.
func killChildren() {
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
		if err != nil {
			return // the shim itself is fine; this kernel cannot list children
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				_ = unix.Kill(pid, unix.SIGKILL) // our child: its number is not reused before we reap it
			}
		}
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return // no child left
		}
	}
}

// tail is the last bytes of a file, or nothing.
func tail(path string, limit int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		if _, err := f.Seek(-limit, io.SeekEnd); err != nil {
			return ""
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return ""
	}
	return string(text)
}
