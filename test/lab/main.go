//go:build linux

// Command lab runs real Kubernetes clusters on one Linux machine, for
// end-to-end tests, for the demo and for whoever wants to try something. It is
// also every program of the lab that is not Kubernetes' own: which one is
// decided by the name it is called by or by its first argument. It may import
// everything below test/lab but the helpers for tests.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/azurecni"
	"github.com/overland-net/overland/test/lab/daemon"
	"github.com/overland-net/overland/test/lab/kubelet"
	"github.com/overland-net/overland/test/lab/netprobe"
	"github.com/overland-net/overland/test/lab/runtime"
	"github.com/overland-net/overland/test/lab/state"
)

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	switch filepath.Base(args[0]) {
	case azurecni.PluginType:
		azurecni.Main()
		return 0
	case "netprobe":
		return execute(netprobe.Command(), args[1:])
	}
	if len(args) > 1 {
		switch args[1] {
		case daemon.InitRole:
			return daemon.InitMain()
		case daemon.Role:
			return daemonMain(args[2:])
		case "container-shim":
			return runtime.ShimMain(args[2:])
		case "container-init":
			return runtime.InitMain(args[2:])
		case "container-exec":
			return runtime.ExecMain(args[2:])
		case "kubelet":
			return execute(kubelet.Command(), args[2:])
		case "netprobe":
			return execute(netprobe.Command(), args[2:])
		}
	}
	return execute(command(), args[1:])
}

func daemonMain(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "lab daemon: one argument expected: the state folder")
		return 2
	}
	return daemon.Main(state.Dir(args[0]))
}

// execute runs a command until it ends or is interrupted. Errors go to standard
// error in one line; those of a wrong call have exit status 2.
func execute(cmd *cobra.Command, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(ctx)
	var exit *exec.ExitError
	var status interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode() // a command that was run on a node; it has said why
	case errors.As(err, &status):
		fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.Name(), err)
		return status.ExitCode()
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.Name(), err)
	return 1
}

// usageError is an error of the call itself.
type usageError struct{ error }

// ExitCode is the usual one of a wrong call.
func (usageError) ExitCode() int { return 2 }

func command() *cobra.Command {
	l := &lab{out: os.Stdout}
	root := &cobra.Command{
		Use:   "lab",
		Short: "Real Kubernetes clusters on one Linux machine",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("no command %q; `lab --help` lists them", args[0])}
			}
			return nil
		},
		PersistentPreRunE: func(*cobra.Command, []string) error { return l.resolve() },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&l.state, "state", "",
		"the lab's state folder (default: $OVERLAND_LAB, else .lab in the checkout)")
	root.AddCommand(l.buildKube(), l.up(), l.down(), l.status(), l.kubeconfig(), l.env(), l.exec(), l.netns(),
		l.cut(), l.heal(), l.delay(), l.stop(), l.start(), l.reboot(), l.overland())
	return root
}

// exactly refuses any other number of arguments.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return usageError{fmt.Errorf("%s: %w", cmd.Use, err)}
		}
		return nil
	}
}
