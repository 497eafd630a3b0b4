package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// streams are the program's standard streams.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run is the program: it returns the exit status. Errors go to standard error
// in one line each, those of a wrong call with where to read on.
func run(ctx context.Context, args []string, io streams) int {
	root := newRoot(io)
	started := false
	markStart(root, &started)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !started {
		// Whatever fails before a command runs is a wrong call.
		err = &exit{exitUsage, err}
	}
	status := exitStatus(err)
	if text := message(err); text != "" {
		for line := range strings.Lines(text) {
			_, _ = fmt.Fprintf(io.err, "overland: %s\n", printable(strings.TrimRight(line, "\n")))
		}
		if status == exitUsage {
			_, _ = fmt.Fprintf(io.err, "See '%s --help'.\n", cmd.CommandPath())
		}
	}
	return status
}

// newRoot is the command with all commands below it.
func newRoot(io streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "overland",
		Short: "Look at the clusters that this node knows and at what it enforces, and link clusters",
		Long: `overland shows what the agent of a node knows, of its own cluster and of every
linked one, and which policies it enforces. It asks the agent of this node over its socket, as root; with --node
it asks that of another node through the API server, which needs the right to
exec into the agent's pod.

Exit status: 0 all is well; 1 an error; 2 a wrong call; 3 what is printed may
lack what is new in some cluster, and standard error says in which; 4 denied, of
explain.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.AddCommand(
		newStatusCommand(io),
		newClustersCommand(io),
		newEndpointsCommand(io),
		newEndpointCommand(io),
		newEvalCommand(io),
		newPoliciesCommand(io),
		newExplainCommand(io),
		newServicesCommand(io),
		newVersionCommand(io),
	)
	root.AddCommand(connectCommands()...)
	return root
}

// markStart notes when a command begins to run, that is, when the call was
// right.
func markStart(cmd *cobra.Command, started *bool) {
	if original := cmd.RunE; original != nil {
		cmd.RunE = func(c *cobra.Command, args []string) error {
			*started = true
			return original(c, args)
		}
	}
	for _, child := range cmd.Commands() {
		markStart(child, started)
	}
}
