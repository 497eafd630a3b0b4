package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/overland-net/overland/pkg/connect"
)

func newDisconnectCommand() *cobra.Command {
	var kubeconfig string
	var o connect.DisconnectOptions
	cmd := &cobra.Command{
		Use:   "disconnect CONTEXT_A CONTEXT_B",
		Short: "Unlink two clusters that connect has linked",
		Long: `Unlink two clusters: remove what connect has made on each of them for the other,
and nothing else. What it would find but has not made stays, and is named.

If one of the clusters cannot be reached, the other one's part is removed, and
the command names what is left; repeat it when both can be reached.

Exit status: 0 unlinked; 1 an error; 2 a wrong call; 3 unlinked in part.`,
		Example: `  overland disconnect west canada
  overland disconnect west canada --one-way   # only west forgets canada`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := connect.Output{Out: cmd.OutOrStdout(), Log: cmd.OutOrStdout()}
			return withClusters(cmd.Context(), kubeconfig, args, func(ctx context.Context, a, b *connect.Cluster) error {
				return connect.Disconnect(ctx, a, b, o, out)
			})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig with both contexts; several files are separated by ':' (default: $KUBECONFIG, or that of kubectl)")
	flags.BoolVar(&o.OneWay, "one-way", false, "only the cluster of CONTEXT_A forgets the other one")
	flags.BoolVar(&o.DryRun, "dry-run", false, "say what would be removed; change nothing")
	flags.StringVar(&o.NameA, "name-a", "", "name of the cluster of CONTEXT_A (default: what it calls itself)")
	flags.StringVar(&o.NameB, "name-b", "", "name of the cluster of CONTEXT_B (default: what it calls itself)")
	return cmd
}
