package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/admin/client"
)

// target says which agent is asked.
type target struct {
	socket string
	node   string
	kube   *genericclioptions.ConfigFlags
	// kubeFlags are the names of the flags that say how to reach the API server.
	kubeFlags []string
}

// agentCommand makes cmd one that asks an agent: ask does so over the socket.
// With --node the same command is run on that node, by its agent's copy of this
// program.
func agentCommand(cmd *cobra.Command, io streams, ask func(ctx context.Context, c *client.Client, args []string) error) *cobra.Command {
	t := &target{}
	t.bind(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if t.node != "" {
			return t.execute(cmd.Context(), io, t.command(cmd, args))
		}
		for _, name := range t.kubeFlags {
			if cmd.Flags().Changed(name) {
				return usageError("--%s: it says how to reach another node, and none is named: add --node NAME", name)
			}
		}
		return ask(cmd.Context(), client.New(t.socket), args)
	}
	return cmd
}

func (t *target) bind(flags *pflag.FlagSet) {
	flags.StringVar(&t.socket, "socket", api.DefaultSocket, "path of the agent's socket")
	flags.StringVar(&t.node, "node", "", "ask the agent of this node, through the API server")
	all := genericclioptions.NewConfigFlags(true)
	// Only what chooses a cluster and an account: the others are for who has no
	// kubeconfig, and --cluster and --namespace mean something else here.
	t.kube = &genericclioptions.ConfigFlags{
		KubeConfig: all.KubeConfig, Context: all.Context, AuthInfoName: all.AuthInfoName,
		Impersonate: all.Impersonate, ImpersonateUID: all.ImpersonateUID, ImpersonateGroup: all.ImpersonateGroup,
		Timeout: all.Timeout,
	}
	kube := pflag.NewFlagSet("kube", pflag.ContinueOnError)
	t.kube.AddFlags(kube)
	kube.VisitAll(func(f *pflag.Flag) {
		f.Usage = "with --node: " + f.Usage
		flags.AddFlag(f)
		t.kubeFlags = append(t.kubeFlags, f.Name)
	})
}

// command is the command line for the node: this one, without what says how to
// get there.
func (t *target) command(cmd *cobra.Command, args []string) []string {
	line := []string{remoteProgram, cmd.Name()}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "node" && !slices.Contains(t.kubeFlags, f.Name) {
			line = append(line, "--"+f.Name+"="+f.Value.String())
		}
	})
	return append(append(line, "--"), args...)
}
