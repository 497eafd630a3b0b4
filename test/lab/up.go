//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/daemon"
	"github.com/overland-net/overland/test/lab/kubebin"
	"github.com/overland-net/overland/test/lab/preflight"
	"github.com/overland-net/overland/test/lab/topology"
)

// endTimeout is how long the kernel may take to end everything in a lab.
const endTimeout = time.Minute

func (l *lab) buildKube() *cobra.Command {
	return &cobra.Command{
		Use: "build-kube", Short: "build the Kubernetes programs into the user's cache folder, unless they are there",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := l.kube(cmd.Context())
			return err
		},
	}
}

// kube is the folder of the built Kubernetes programs.
func (l *lab) kube(ctx context.Context) (string, error) {
	root, err := checkout()
	if err != nil {
		return "", err
	}
	return kubebin.Build(ctx, filepath.Join(root, "test", "lab", "kube"), l.out)
}

func (l *lab) up() *cobra.Command {
	options := topology.Options{}
	cmd := &cobra.Command{
		Use: "up", Short: "start the lab and wait until every node is Ready",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := options.Validate(); err != nil {
				return usageError{err}
			}
			return l.doUp(cmd.Context(), options)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&options.Clusters, "clusters", []string{"west", "canada"}, "the clusters' names")
	flags.IntVar(&options.Nodes, "nodes", 2, "nodes in each cluster")
	flags.BoolVar(&options.DualStack, "dual-stack", false, "IPv6 beside IPv4")
	flags.StringVar(&options.Iptables, "iptables", "nft", "the iptables backend of the nodes: nft or legacy")
	return cmd
}

func (l *lab) doUp(ctx context.Context, options topology.Options) error {
	if err := preflight.Check(options.Iptables); err != nil {
		return err
	}
	unlock, up, err := l.claim(ctx, options)
	if err != nil || up {
		return err
	}
	defer unlock()
	if err := l.launch(ctx, options); err != nil {
		// Nothing runs yet that could tell more.
		return errors.Join(err, l.end())
	}
	err = l.follow(ctx)
	if ctx.Err() != nil {
		l.say("interrupted: removing what was started")
		return errors.Join(ctx.Err(), l.end())
	}
	return err
}

// launch prepares the state folder and starts the lab's first process.
func (l *lab) launch(ctx context.Context, options topology.Options) error {
	kube, err := l.kube(ctx)
	if err != nil {
		return err
	}
	if err := l.prepare(kube, options); err != nil {
		return err
	}
	log, err := os.OpenFile(l.dir.Log("daemon"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the lab's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the lab has its own copy
	return daemon.Launch(l.dir, log)
}

// claim makes the state folder this call's own. It tells what it finds there:
// the same lab, up already, is fine and ends the call; a dead one is removed.
func (l *lab) claim(ctx context.Context, options topology.Options) (unlock func(), up bool, err error) {
	p, recorded, err := l.dir.Recorded()
	switch {
	case err != nil:
		return nil, false, err
	case recorded && p.Alive():
		return nil, true, l.alreadyUp(ctx, options)
	case l.dir.Exists():
		unlock, err := l.lock()
		if err != nil {
			return nil, false, err
		}
		l.say("found the remains of a lab that is not running in %s: removing them", l.dir)
		err = l.dir.Remove()
		unlock()
		if err != nil {
			return nil, false, err
		}
	}
	if err := l.dir.Create(); err != nil {
		return nil, false, err
	}
	unlock, err = l.lock()
	return unlock, false, err
}

// lock keeps two calls from preparing the same state folder.
func (l *lab) lock() (unlock func(), err error) {
	folder, err := os.Open(string(l.dir))
	if err != nil {
		return nil, fmt.Errorf("lock the state folder: %w", err)
	}
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another `lab up` is at work in %s: %w", l.dir, err), folder.Close())
	}
	return func() { _ = folder.Close() }, nil // closing unlocks
}

func (l *lab) alreadyUp(ctx context.Context, options topology.Options) error {
	status, err := l.client.Status(ctx)
	if err != nil {
		return fmt.Errorf("a lab runs in %s but does not answer (`lab down` removes it): %w", l.dir, err)
	}
	if !reflect.DeepEqual(status.Options, options) {
		return fmt.Errorf("a lab with other options is up in %s (%s); `lab down` first", l.dir, describe(status.Options))
	}
	l.say("the lab is up already in %s (%s): nothing to do", l.dir, describe(options))
	return l.follow(ctx)
}

func describe(o topology.Options) string {
	text := fmt.Sprintf("clusters %v, %d nodes each, iptables %s", o.Clusters, o.Nodes, o.Iptables)
	if o.DualStack {
		text += ", dual-stack"
	}
	return text
}

// prepare puts the lab's programs and options into the state folder, where they
// stay the same whatever is built meanwhile.
func (l *lab) prepare(kube string, options topology.Options) error {
	for _, dir := range []string{l.dir.Bin(), filepath.Dir(l.dir.Log("daemon"))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the lab's program: %w", err)
	}
	bin := l.dir.Bin()
	if err := copyFile(self, filepath.Join(bin, "lab")); err != nil {
		return err
	}
	for _, name := range []string{kubebin.Kube, kubebin.Portmap} {
		if err := shareFile(filepath.Join(kube, name), filepath.Join(bin, name)); err != nil {
			return err
		}
	}
	links := map[string][]string{kubebin.Kube: kubebin.Programs(), "lab": {"netprobe"}}
	for target, names := range links {
		for _, name := range names {
			if err := os.Symlink(target, filepath.Join(bin, name)); err != nil {
				return fmt.Errorf("link program: %w", err)
			}
		}
	}
	text, err := json.Marshal(options)
	if err != nil {
		return fmt.Errorf("encode the options: %w", err)
	}
	if err := os.WriteFile(l.dir.Options(), text, 0o644); err != nil {
		return fmt.Errorf("write the options: %w", err)
	}
	return nil
}

// shareFile links a file where the file system allows it, else copies it.
func shareFile(from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	return copyFile(from, to)
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	defer func() { _ = source.Close() }() // only read
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	_, err = io.Copy(target, source)
	if err := errors.Join(err, target.Close()); err != nil {
		return fmt.Errorf("copy program %s: %w", from, err)
	}
	return nil
}

// follow tells how the start goes until it is over.
func (l *lab) follow(ctx context.Context) error {
	told := ""
	silent := time.Now()
	for ctx.Err() == nil {
		status, err := l.client.Status(ctx)
		switch {
		case err != nil && l.gone():
			return fmt.Errorf("the lab ended; its log is %s", l.dir.Log("daemon"))
		case err != nil && time.Since(silent) > 15*time.Second:
			return fmt.Errorf("the lab does not answer; its log is %s: %w", l.dir.Log("daemon"), err)
		case err != nil: // its socket is not there yet
		case status.Phase == daemon.PhaseFailed:
			return fmt.Errorf("the lab did not come up (logs: %s; `lab down` removes it): %s",
				filepath.Dir(l.dir.Log("daemon")), status.Error)
		case status.Phase == daemon.PhaseReady:
			l.say("the lab is up: %s", describe(status.Options))
			l.say("all nodes Ready after %.1f s; %d MiB of memory in use", status.Took.Seconds(), status.Memory>>20)
			return nil
		default:
			silent = time.Now()
			if status.Doing != told {
				told = status.Doing
				l.say("%5.1f s  %s", time.Since(status.Started).Seconds(), told)
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	return ctx.Err()
}

// gone reports whether the lab's first process was there and has ended.
func (l *lab) gone() bool {
	p, recorded, err := l.dir.Recorded()
	return err == nil && recorded && !p.Alive()
}

func (l *lab) down() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "end the lab, whatever state it is in, and remove all that it has left",
		Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			if os.Geteuid() != 0 {
				return errors.New("needs root: the lab runs as root")
			}
			if !l.dir.Exists() {
				// A folder of something else is not ours to remove, nor to be
				// passed over in silence: the name is probably wrong.
				if err := l.dir.Refuse(); err != nil {
					return err
				}
				l.say("no lab in %s: nothing to do", l.dir)
				return nil
			}
			if err := l.end(); err != nil {
				return err
			}
			l.say("the lab in %s is gone", l.dir)
			return nil
		},
	}
}

// end ends the lab's first process, and so everything, and removes the files.
func (l *lab) end() error {
	p, recorded, err := l.dir.Recorded()
	if err != nil {
		return err
	}
	if recorded {
		if err := p.Kill(endTimeout); err != nil {
			return err
		}
	}
	return l.dir.Remove()
}
