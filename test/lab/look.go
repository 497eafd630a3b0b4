//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/overland-net/overland/test/lab/daemon"
)

func (l *lab) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "show clusters, nodes, programs and peerings",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := l.running(); err != nil {
				return err
			}
			status, err := l.client.Status(cmd.Context())
			if err != nil {
				return err
			}
			return l.printStatus(status)
		},
	}
}

func (l *lab) printStatus(s daemon.Status) error {
	phase := s.Phase
	switch {
	case s.Error != "":
		phase += ": " + s.Error
	case s.Doing != "":
		phase += ": " + s.Doing
	}
	l.say("%s", phase)
	l.say("%s", describe(s.Options))
	if s.Memory > 0 {
		l.say("%d MiB of memory in use", s.Memory>>20)
	}
	w := tabwriter.NewWriter(l.out, 0, 0, 2, ' ', 0)
	row := func(columns ...string) { _, _ = fmt.Fprintln(w, strings.Join(columns, "\t")) } // Flush tells
	row("", "STATE", "PID", "RESTARTS", "ADDRESSES")
	for _, c := range s.Clusters {
		row(c.Name, "", "", "", c.Server)
		componentRows(row, "  ", c.Components)
		for _, n := range c.Nodes {
			state := "up"
			if n.PID == 0 {
				state = "down"
			}
			row("  "+n.Name, state, fmt.Sprint(n.PID), "", strings.Join(n.Addresses, " "))
			componentRows(row, "    ", n.Components)
		}
	}
	if len(s.Peerings) > 0 {
		row("peerings", "", "", "", "")
	}
	for _, p := range s.Peerings {
		row("  "+p.From+" → "+p.To, impairment(p), "", "", "")
	}
	return w.Flush()
}

func componentRows(row func(...string), indent string, all []daemon.ComponentStatus) {
	for _, c := range all {
		pid := ""
		if c.PID != 0 {
			pid = fmt.Sprint(c.PID)
		}
		row(indent+c.Name[strings.LastIndexByte(c.Name, '/')+1:], c.State, pid, fmt.Sprint(c.Restarts), "")
	}
}

func impairment(p daemon.PeeringStatus) string {
	var parts []string
	if p.Cut {
		parts = append(parts, "cut")
	}
	if p.CutAPI {
		parts = append(parts, "cut to the API server")
	}
	if p.Delay > 0 {
		parts = append(parts, "delay "+p.Delay.String())
	}
	if p.Loss > 0 {
		parts = append(parts, fmt.Sprintf("loss %g %%", p.Loss*100))
	}
	if p.Rate > 0 {
		parts = append(parts, fmt.Sprintf("limit %d B/s", p.Rate))
	}
	if len(parts) == 0 {
		return "healthy"
	}
	return strings.Join(parts, ", ")
}

// cluster checks that the lab has such a cluster.
func (l *lab) cluster(cmd *cobra.Command, name string) (daemon.ClusterStatus, error) {
	if _, err := l.running(); err != nil {
		return daemon.ClusterStatus{}, err
	}
	status, err := l.client.Status(cmd.Context())
	if err != nil {
		return daemon.ClusterStatus{}, err
	}
	for _, c := range status.Clusters {
		if c.Name == name {
			return c, nil
		}
	}
	return daemon.ClusterStatus{}, fmt.Errorf("no cluster %q in this lab; it has %s", name, strings.Join(status.Options.Clusters, ", "))
}

func (l *lab) kubeconfig() *cobra.Command {
	return &cobra.Command{
		Use: "kubeconfig CLUSTER", Short: "print the path of the administrator's kubeconfig",
		Long: "Print the path of the administrator's kubeconfig. Its server can be reached from the lab's\n" +
			"network namespaces only: `lab env` gives a kubectl that runs there.",
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := l.cluster(cmd, args[0])
			if err != nil {
				return err
			}
			l.say("%s", c.Kubeconfig)
			return nil
		},
	}
}

func (l *lab) env() *cobra.Command {
	return &cobra.Command{
		Use: "env CLUSTER", Short: `print shell lines that put the cluster's kubectl on PATH: eval "$(lab env west)"`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := l.cluster(cmd, args[0])
			if err != nil {
				return err
			}
			dir := filepath.Join(l.dir.Cluster(c.Name), "bin")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make the wrappers: %w", err)
			}
			bin := l.dir.Bin()
			for _, program := range []string{"kubectl", "overland"} {
				script := fmt.Sprintf("#!/bin/sh\nKUBECONFIG=${KUBECONFIG:-%s}; export KUBECONFIG\nexec %s --state %s netns %s-cp -- %s \"$@\"\n",
					quote(c.Kubeconfig), quote(filepath.Join(bin, "lab")), quote(string(l.dir)), c.Name, quote(filepath.Join(bin, program)))
				if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
					return fmt.Errorf("make the wrappers: %w", err)
				}
			}
			l.say("export PATH=%s:\"$PATH\"", quote(dir))
			l.say("export KUBECONFIG=%s", quote(c.Kubeconfig))
			return nil
		},
	}
}

// quote makes a word of the shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
