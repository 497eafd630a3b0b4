package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/overland-net/overland/pkg/connect"
)

// maxCA bounds what is read as a CA: bundles of all public ones are smaller.
const maxCA = 4 << 20

// newReachCommand is for connect's preflight, which runs it in agents' pods, and
// for people who want to know why a link is Unreachable.
func newReachCommand() *cobra.Command {
	var serverName string
	cmd := &cobra.Command{
		Use:   "reach URL < CA",
		Short: "Try whether this node reaches an API server",
		Long: `Try whether this node reaches an API server, whose CA (PEM) is read from standard
input. Prints one JSON object. No credentials are sent, and any answer of the
right server is success.

Exit status: 0 reached; 1 not; 2 a wrong call.`,
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ca, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxCA))
			if err != nil {
				return usageError("read the CA from standard input: %w", err)
			}
			result := connect.Reach(cmd.Context(), args[0], serverName, ca)
			if err := result.Print(cmd.OutOrStdout()); err != nil {
				return err
			}
			if !result.OK {
				return &exit{status: exitError} // the output says why
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&serverName, "tls-server-name", "", "name in the server's certificate, if it is not that of the URL")
	return cmd
}
