package netprobe

import (
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func flowCommand() *cobra.Command {
	var opts FlowOptions
	cmd := &cobra.Command{
		Use:   "flow MODE://ADDRESS:PORT...",
		Short: "Send flows that last, and print a line of JSON for each when they end",
		Long: `Send flows that last, all at once, to ports of "serve --flow", and print a line
of JSON for each when they end: after --for, or at SIGTERM.

Modes: tcp-push and udp-push (the client sends), tcp-bulk, tcp-slow and udp-pull
(the server sends), tcp-new and udp-new (a connection for every exchange).`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.check(); err != nil {
				return err
			}
			var flows []Flow
			for _, arg := range args {
				f, err := ParseFlow(arg)
				if err != nil {
					return err
				}
				flows = append(flows, f)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			if err := RunFlows(ctx, flows, opts, cmd.OutOrStdout()); err != nil {
				return &runError{err}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&opts.For, "for", 30*time.Second, "how long to send")
	flags.DurationVar(&opts.Interval, "interval", 10*time.Millisecond, "time between two sendings")
	flags.DurationVar(&opts.Every, "every", 0, "time between two reports; 0: at the end alone")
	return cmd
}
