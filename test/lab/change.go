//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/overland-net/overland/test/lab/daemon"
	"github.com/overland-net/overland/test/lab/fabric"
)

func (l *lab) cut() *cobra.Command {
	var oneWay, api bool
	cmd := &cobra.Command{
		Use: "cut CLUSTER CLUSTER", Short: "cut the peering of two clusters: packets vanish",
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.impair(cmd, args, oneWay, fabric.Impairment{Cut: !api, CutAPI: api})
		},
	}
	cmd.Flags().BoolVar(&oneWay, "one-way", false, "only packets from the first cluster to the second")
	cmd.Flags().BoolVar(&api, "api", false, "only packets to the other cluster's API server")
	return cmd
}

func (l *lab) delay() *cobra.Command {
	var oneWay bool
	var loss float64
	var rate int64
	cmd := &cobra.Command{
		Use: "delay CLUSTER CLUSTER TIME", Short: "hold every packet of a peering for TIME, such as 40ms, each way",
		Args: exactly(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			hold, err := time.ParseDuration(args[2])
			if err != nil {
				return usageError{fmt.Errorf("delay: a time such as 40ms expected: %w", err)}
			}
			return l.impair(cmd, args[:2], oneWay, fabric.Impairment{Delay: hold, Loss: loss / 100, Rate: rate})
		},
	}
	cmd.Flags().BoolVar(&oneWay, "one-way", false, "only packets from the first cluster to the second")
	cmd.Flags().Float64Var(&loss, "loss", 0, "share of packets to lose, in percent")
	cmd.Flags().Int64Var(&rate, "rate", 0, "limit in bytes a second")
	return cmd
}

func (l *lab) impair(cmd *cobra.Command, clusters []string, oneWay bool, state fabric.Impairment) error {
	if _, err := l.running(); err != nil {
		return err
	}
	return l.client.Impair(cmd.Context(), daemon.ImpairRequest{
		From: clusters[0], To: clusters[1], OneWay: oneWay, Impairment: state,
	})
}

func (l *lab) heal() *cobra.Command {
	return &cobra.Command{
		Use: "heal [CLUSTER CLUSTER]", Short: "make a peering, or all of them, healthy again",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return exactly(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := l.running(); err != nil {
				return err
			}
			if len(args) == 0 {
				return l.client.Heal(cmd.Context(), "", "")
			}
			return l.client.Heal(cmd.Context(), args[0], args[1])
		},
	}
}

func (l *lab) stop() *cobra.Command {
	var kill bool
	cmd := &cobra.Command{
		Use: "stop CLUSTER[/NODE] PROGRAM", Short: "stop one program, such as `west kube-apiserver` or `west/node-1 kubelet`",
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := l.running(); err != nil {
				return err
			}
			return l.client.Stop(cmd.Context(), daemon.ComponentRequest{Name: args[0] + "/" + args[1], Kill: kill})
		},
	}
	cmd.Flags().BoolVar(&kill, "kill", false, "with SIGKILL at once")
	return cmd
}

func (l *lab) start() *cobra.Command {
	return &cobra.Command{
		Use: "start CLUSTER[/NODE] PROGRAM", Short: "start a program that was stopped",
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := l.running(); err != nil {
				return err
			}
			return l.client.Start(cmd.Context(), daemon.ComponentRequest{Name: args[0] + "/" + args[1]})
		},
	}
}

func (l *lab) reboot() *cobra.Command {
	var first string
	cmd := &cobra.Command{
		Use: "reboot CLUSTER/NODE", Short: "end a node and its pods at once and start it again",
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := l.running(); err != nil {
				return err
			}
			return l.client.Reboot(cmd.Context(), daemon.RebootRequest{Node: args[0], First: first})
		},
	}
	cmd.Flags().StringVar(&first, "first", "", "what has to work before the other starts: kube-proxy, or agent (the kubelet and host-network pods)")
	return cmd
}
