//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/overland-net/overland/test/lab/ns"
)

func (l *lab) exec() *cobra.Command {
	cmd := &cobra.Command{
		Use: "exec CLUSTER/NODE -- COMMAND…", Short: "run a command on a node: in all its namespaces, with its files",
		Args: atLeast(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := l.running(); err != nil {
				return err
			}
			where, err := l.client.NodeNamespaces(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			command := exec.Command("/usr/bin/env", afterDashes(args[1:])...)
			command.Dir = "/"
			command.Env = []string{
				"PATH=/opt/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
				"HOME=/root", "TERM=" + os.Getenv("TERM"), "LANG=" + os.Getenv("LANG"),
			}
			return attach(cmd.Context(), command, where)
		},
	}
	return onlyOurFlags(cmd)
}

func (l *lab) netns() *cobra.Command {
	cmd := &cobra.Command{
		Use: "netns NAME -- COMMAND…", Short: "run a command of the machine in one network namespace of the lab",
		Long: "Run a command of the machine, with the machine's files, in one network namespace of the lab:\n" +
			"CLUSTER-NODE, CLUSTER-cp (the control plane), CLUSTER-vnet (the router) or outside.",
		Args: atLeast(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := l.running(); err != nil {
				return err
			}
			where, err := l.client.NetworkNamespace(args[0])
			if err != nil {
				return err
			}
			words := afterDashes(args[1:])
			path, err := exec.LookPath(words[0])
			if err != nil {
				return fmt.Errorf("run %s: %w", words[0], err)
			}
			return attach(cmd.Context(), exec.Command(path, words[1:]...), where)
		},
	}
	return onlyOurFlags(cmd)
}

// attach runs a command with our standard input and output. It is a process of
// the lab and ends with it. Signals reach it from the terminal as they reach us.
func attach(ctx context.Context, command *exec.Cmd, where ns.Set) error {
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := where.Start(command); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		// Ask as we were asked; its own reaction decides how it ends.
		_ = command.Process.Signal(os.Interrupt) // it may be gone
		return <-ended
	}
}

// afterDashes drops the "--" between the place and the command.
func afterDashes(words []string) []string {
	if len(words) > 1 && words[0] == "--" {
		return words[1:]
	}
	return words
}

func atLeast(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.MinimumNArgs(n)(cmd, args); err != nil {
			return usageError{fmt.Errorf("%s: %w", cmd.Use, err)}
		}
		return nil
	}
}

// onlyOurFlags leaves the flags behind the first argument to the command that
// is to be run.
func onlyOurFlags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().SetInterspersed(false)
	return cmd
}
