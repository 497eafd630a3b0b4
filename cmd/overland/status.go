package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/admin/client"
)

func newStatusCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show this node at a glance: its agent, each cluster, and what is wrong",
		Example: `  overland status
  overland status --node aks-pool1-0 -o json`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(cmd, formatWide, formatJSON, formatYAML)
	return agentCommand(cmd, io, func(ctx context.Context, c *client.Client, _ []string) error {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if output.value == formatTable || output.value == formatWide {
			err = printStatus(io.out, s, output.value == formatWide)
		} else {
			err = printObject(io.out, output.value, s)
		}
		if err != nil {
			return err
		}
		return partialData(io, s.Header)
	})
}

func printStatus(out io.Writer, s *api.Status, wide bool) error {
	agent := s.Version
	if s.Started != nil {
		agent += ", up " + human(s.UptimeSeconds)
	}
	head := [][2]string{
		{"Node", s.Node + " of cluster " + s.Cluster},
		{"Agent", agent},
		{"State", s.State},
		{"Ready", readiness(s)},
		{"Endpoints", strconv.Itoa(s.Endpoints)},
		{"Problems", strconv.Itoa(len(s.Problems))},
	}
	if s.Dataplane != nil {
		head = append(head, dataplaneLines(s.Dataplane, wide)...)
	}
	for _, line := range head {
		if _, err := fmt.Fprintf(out, "%-12s%s\n", line[0]+":", printable(line[1])); err != nil {
			return err
		}
	}
	if err := printStatusClusters(out, s, wide); err != nil || len(s.Problems) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	t, err := newTable(out, "PROBLEM", "OBJECT", "MESSAGE")
	if err != nil {
		return err
	}
	for _, p := range s.Problems {
		if err := t.row(p.Kind, p.Object.String(), p.Message); err != nil {
			return err
		}
	}
	return t.end()
}

func readiness(s *api.Status) string {
	if s.Ready {
		return "yes"
	}
	return "no: " + s.NotReady
}

func printStatusClusters(out io.Writer, s *api.Status, wide bool) error {
	if len(s.Clusters) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	header := []string{"CLUSTER", "STATE", "ENDPOINTS", "AGE", "PROBLEMS"}
	if wide {
		header = append(header, "REASON", "SINCE", "MESSAGE")
	}
	t, err := newTable(out, header...)
	if err != nil {
		return err
	}
	problems := make(map[string]int)
	for _, p := range s.Problems {
		problems[p.Object.Cluster]++
	}
	for _, c := range s.Clusters {
		cells := []string{
			c.Name, state(c), strconv.Itoa(c.Pods + c.Nodes), age(c.LastContactAgeSeconds), strconv.Itoa(problems[c.Name]),
		}
		if wide {
			cells = append(cells, c.Reason, age(c.SinceSeconds), c.Message)
		}
		if err := t.row(cells...); err != nil {
			return err
		}
	}
	return t.end()
}

// state is a cluster's state in a cell.
func state(c api.Cluster) string {
	if c.Restored {
		return c.State + ",Restored"
	}
	return c.State
}

func newClustersCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clusters",
		Short: "Show the links to other clusters: state, reason, endpoints, refusals, credentials",
		Args:  cobra.NoArgs,
	}
	output := outputFlag(cmd, formatWide, formatJSON, formatYAML)
	return agentCommand(cmd, io, func(ctx context.Context, c *client.Client, _ []string) error {
		l, err := c.Clusters(ctx)
		if err != nil {
			return err
		}
		if output.value == formatTable || output.value == formatWide {
			err = printClusters(io.out, l.Items, output.value == formatWide)
		} else {
			err = printObject(io.out, output.value, l)
		}
		if err != nil {
			return err
		}
		return partialData(io, l.Header)
	})
}

func printClusters(out io.Writer, all []api.Cluster, wide bool) error {
	header := []string{"NAME", "STATE", "REASON", "ENDPOINTS", "REFUSED", "LAST-CONTACT", "CREDENTIALS-EXPIRE"}
	if wide {
		header = append(header, "PODS", "NODES", "NAMESPACES", "VERSION", "LABELS", "POD-CIDRS", "NODE-CIDRS", "REFUSALS", "MESSAGE")
	}
	t, err := newTable(out, header...)
	if err != nil {
		return err
	}
	for _, c := range all {
		cells := []string{
			c.Name, state(c), c.Reason, strconv.Itoa(c.Pods + c.Nodes), strconv.Itoa(c.RefusedTotal),
			age(c.LastContactAgeSeconds), expiry(c.CredentialsExpireInSeconds),
		}
		if wide {
			cells = append(cells,
				strconv.Itoa(c.Pods), strconv.Itoa(c.Nodes), strconv.Itoa(c.Namespaces), c.KubernetesVersion,
				pairs(c.Labels), strings.Join(c.PodCIDRs, ","), strings.Join(c.NodeCIDRs, ","), counts(c.Refused), c.Message)
		}
		if err := t.row(cells...); err != nil {
			return err
		}
	}
	return t.end()
}

// pairs is a map as kubectl prints labels.
func pairs(m map[string]string) string {
	var all []string
	for k, v := range m {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

func counts(m map[string]int) string {
	texts := make(map[string]string, len(m))
	for k, n := range m {
		texts[k] = strconv.Itoa(n)
	}
	return pairs(texts)
}
