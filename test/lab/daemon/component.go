package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/ns"
)

// Times of a component's life.
const (
	// stopGrace is how long a program has between SIGTERM and SIGKILL.
	stopGrace = 5 * time.Second
	// restartDelay is how long to wait before a program that ended by itself is
	// started again.
	restartDelay = time.Second
)

// component is one program that the daemon keeps running: as long as it is
// wanted, it is started again whenever it ends.
type component struct {
	name    string // such as west/kube-apiserver or west/node-1/kubelet
	healthz string
	guarded bool     // see control.Process
	argv    []string // the program's path, as it is in its namespaces, and its arguments
	env     []string
	logPath string
	log     *logrus.Entry

	changing sync.Mutex // held over a start or a stop: the other waits

	mu       sync.Mutex
	where    ns.Set
	wanted   bool
	process  *os.Process   // nil: not running
	ended    chan struct{} // closed once the loop is over; nil: no loop
	wake     chan struct{} // closed to end a wait between restarts
	restarts int
	last     string // how it ended last, if it did
}

// start makes the component wanted. Starting what is wanted already is fine.
// The first start is done when start returns; later ones are its loop's.
func (c *component) start() error {
	c.changing.Lock()
	defer c.changing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wanted {
		return nil
	}
	cmd, err := c.launch()
	if err != nil {
		return err
	}
	c.wanted, c.restarts, c.last = true, 0, ""
	c.ended, c.wake = make(chan struct{}), make(chan struct{})
	go c.keep(cmd, c.ended, c.wake)
	return nil
}

// launch starts the program once; c.mu is held.
func (c *component) launch() (*exec.Cmd, error) {
	if err := os.MkdirAll(filepath.Dir(c.logPath), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	out, err := os.OpenFile(c.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	defer func() { _ = out.Close() }() // the child has its own copy
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Env, cmd.Dir = c.env, "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.where.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	c.process = cmd.Process
	c.log.WithField("pid", cmd.Process.Pid).Info("started")
	return cmd, nil
}

// keep waits for the program and starts it again while it is wanted.
func (c *component) keep(cmd *exec.Cmd, ended, wake chan struct{}) {
	defer close(ended)
	for {
		err := cmd.Wait()
		c.mu.Lock()
		c.process = nil
		c.last = "exit status 0"
		if err != nil {
			c.last = err.Error()
		}
		wanted := c.wanted
		c.log.WithField("status", c.last).WithField("wanted", wanted).Info("ended")
		c.mu.Unlock()
		for wanted {
			select {
			case <-wake:
				return
			case <-time.After(restartDelay):
			}
			c.mu.Lock()
			if wanted = c.wanted; wanted {
				c.restarts++
				if cmd, err = c.launch(); err == nil {
					c.mu.Unlock()
					break
				}
				c.last = err.Error()
			}
			c.mu.Unlock()
		}
		if !wanted {
			return
		}
	}
}

// stop makes the component unwanted, ends its program, with SIGTERM first if it
// has grace, and waits until it is gone. Stopping what is stopped is fine.
func (c *component) stop(grace time.Duration) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	c.mu.Lock()
	if !c.wanted {
		c.mu.Unlock()
		return nil
	}
	c.wanted = false
	close(c.wake)
	process, ended := c.process, c.ended
	c.mu.Unlock()
	if process != nil && grace > 0 {
		if err := process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", c.name, err)
		}
		select {
		case <-ended:
			return nil
		case <-time.After(grace):
		}
	}
	if process != nil {
		if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", c.name, err)
		}
	}
	<-ended
	return nil
}

// place says where the program runs from its next start on.
func (c *component) place(where ns.Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.where = where
}

// healthy waits until the component answers, or ctx ends.
func (c *component) healthy(ctx context.Context) error {
	c.mu.Lock()
	netns := c.where.Net
	c.mu.Unlock()
	var last error
	for {
		err := probe(ctx, c.healthz, netns, c.guarded)
		if err == nil {
			return nil
		}
		// A probe that our own patience has ended tells less than the one before.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer at %s: %w (its log: %s)", c.name, c.healthz, last, c.logPath)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *component) status() ComponentStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ComponentStatus{Name: c.name, State: "stopped", Restarts: c.restarts, Last: c.last, Log: c.logPath}
	switch {
	case c.process != nil:
		s.State, s.PID = "running", c.process.Pid
	case c.wanted:
		s.State = "restarting"
	}
	return s
}
