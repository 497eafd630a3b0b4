package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/overland-net/overland/pkg/attach"
	"github.com/overland-net/overland/pkg/cni"
	"github.com/overland-net/overland/pkg/cni/conflist"
	"github.com/overland-net/overland/pkg/node"
)

// askTimeout is how long an agent may take to accept a connection.
const askTimeout = 2 * time.Second

// cleanupMain is `overland-agent cleanup`: 0 if nothing of ours is left, 1 after a
// failure, 2 if the call is not good.
func cleanupMain(args []string) int {
	cfg, force, err := loadCleanup(args, os.Getenv)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "overland-agent cleanup:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := newLog(cfg)
	if err := cleanup(ctx, cfg, force, openIptables(cfg, log), log); err != nil {
		fmt.Fprintln(os.Stderr, "overland-agent cleanup:", err)
		return 1
	}
	fmt.Println("Nothing of Overland is left in the kernel of this node and in the folders of CNI.")
	return 0
}

// loadCleanup reads the agent's own flags and file, so that one configuration
// fits both; what is of no use here need not be given.
func loadCleanup(args []string, env func(string) string) (Config, bool, error) {
	c := defaults(env)
	file, err := configFile(args, env, cleanupFlags)
	if err != nil {
		return c, false, err
	}
	if file != "" {
		if err := c.read(file); err != nil {
			return c, false, err
		}
	}
	flags := cleanupFlags(&c)
	if err := flags.Parse(args); err != nil {
		return c, false, err
	}
	if flags.NArg() > 0 {
		return c, false, fmt.Errorf("unexpected argument %q: cleanup takes flags only", flags.Arg(0))
	}
	if c.ClusterName == "" {
		c.ClusterName = "unnamed"
	}
	if c.NodeName == "" {
		c.NodeName = "unnamed"
	}
	force, err := flags.GetBool("force")
	return c, force, errors.Join(err, c.Validate())
}

func cleanupFlags(c *Config) *pflag.FlagSet {
	flags := newFlags(c)
	flags.Bool("force", false, "clean up even while an agent answers on the admin socket")
	return flags
}

// cleanup removes our list of CNI plugins, so that no more pods wait for an agent;
// all that is ours from the kernel; what is remembered of the node and its pods, so
// that the next start is a first installation; and then the CNI plugin, when pods that were
// being started no longer need it. More than once is fine.
func cleanup(ctx context.Context, cfg Config, force bool, open func(context.Context) (kernel, error), log *logrus.Entry) error {
	if !force {
		if err := nobodyAnswers(ctx, cfg.AdminSocket); err != nil {
			return err
		}
	}
	listed, err := conflist.RemoveList(cfg.CNIConfDir)
	if err != nil {
		return err
	}
	drained := time.After(conflist.Drain)
	k, err := open(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(k.Remove(ctx), k.Close()); err != nil {
		return fmt.Errorf("remove what is in the kernel: %w", err)
	}
	log.Info("nothing of ours is left in the kernel")
	if err := errors.Join(attach.Forget(cfg.StateDir), node.Forget(cfg.StateDir)); err != nil {
		return err
	}
	if listed {
		select {
		case <-drained:
		case <-ctx.Done():
			return fmt.Errorf("wait for pods that are being started, to remove the CNI plugin: %w", ctx.Err())
		}
	}
	return conflist.RemovePlugin(cfg.CNIBinDir, cni.PluginType)
}

// nobodyAnswers makes sure that no agent runs: it would put everything back.
func nobodyAnswers(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil // nobody listens
	}
	return errors.Join(
		fmt.Errorf("an agent answers on %s and would put everything back: end it first (kubectl delete the DaemonSet), or give --force", socket),
		conn.Close())
}
