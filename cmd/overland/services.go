package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/admin/client"
)

func newServicesCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "services [NAMESPACE/NAME]",
		Aliases: []string{"service", "svc"},
		Short:   "Show the federated Services, or of one which clusters back it, what is taken and what is not",
		Long: `services lists the federated Services of the cluster. With a name it shows that one:
its expression, its condition and, of each cluster, the Services that back it, how
many of their addresses are taken and published, and why others are not.

Only the agent that leads plans them; any agent tells what it has published.`,
		Example: `  overland services
  overland services -n redis -o wide
  overland services redis/testdb-federated`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%s given: expected at most one, NAMESPACE/NAME", count(len(args), "argument"))
			}
			if len(args) == 1 && (strings.Count(args[0], "/") > 1 || strings.HasPrefix(args[0], "/") || strings.HasSuffix(args[0], "/") || args[0] == "") {
				return fmt.Errorf("%q: expected NAMESPACE/NAME", args[0])
			}
			return nil
		},
	}
	var namespace string
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only those of this namespace")
	output := outputFlag(cmd, formatWide, formatJSON, formatYAML)
	return agentCommand(cmd, io, func(ctx context.Context, c *client.Client, args []string) error {
		if len(args) == 1 {
			return showService(ctx, c, io, namespace, args[0], output.value)
		}
		l, err := c.Services(ctx, namespace)
		if err != nil {
			return err
		}
		if output.value == formatTable || output.value == formatWide {
			err = printServices(io, l, output.value == formatWide)
		} else {
			err = printObject(io.out, output.value, l)
		}
		if err != nil {
			return err
		}
		return partialServices(io, l.Header, l.Origin)
	})
}

func showService(ctx context.Context, c *client.Client, io streams, namespace, name, format string) error {
	if of, rest, ok := strings.Cut(name, "/"); ok {
		if namespace != "" && namespace != of {
			return usageError("%q is not in namespace %q of -n: expected one of the two", name, namespace)
		}
		namespace, name = of, rest
	}
	if namespace == "" {
		return usageError("%q: expected NAMESPACE/NAME, or the namespace with -n", name)
	}
	d, err := c.Service(ctx, namespace, name)
	if err != nil {
		return err
	}
	if format == formatTable || format == formatWide {
		err = printService(io.out, d, format == formatWide)
	} else {
		err = printObject(io.out, format, d)
	}
	if err != nil {
		return err
	}
	return partialServices(io, d.Header, d.Origin)
}

// partialServices says on standard error why the answer may be old, or lack
// something.
func partialServices(io streams, h api.Header, o api.ServiceOrigin) error {
	if o.Problem != "" {
		if _, err := fmt.Fprintln(io.err, printable("partial: "+o.Problem)); err != nil {
			return err
		}
	}
	return partialData(io, h)
}

func printServices(io streams, l *api.ServiceList, wide bool) error {
	if len(l.Items) == 0 {
		_, err := fmt.Fprintln(io.err, "No federated Services found.")
		return err
	}
	header := []string{"NAMESPACE", "NAME", "FEDERATED", "REASON", "READY", "PUBLISHED", "CLUSTERS"}
	if wide {
		header = append(header, "EXPRESSION", "PROBLEMS", "MESSAGE")
	}
	t, err := newTable(io.out, header...)
	if err != nil {
		return err
	}
	for i := range l.Items {
		s := &l.Items[i]
		cells := []string{
			s.Namespace, s.Name, s.Federated.Status, s.Federated.Reason, strconv.Itoa(s.Ready), strconv.Itoa(s.Published), publishedBy(s),
		}
		if wide {
			cells = append(cells, s.Expression, strings.Join(s.Problems, "; "), s.Federated.Message)
		}
		if err := t.row(cells...); err != nil {
			return err
		}
	}
	return t.end()
}

// publishedBy is how many endpoints are published of which cluster.
func publishedBy(s *api.Service) string {
	var all []string
	for _, c := range s.Clusters {
		if c.Published > 0 {
			all = append(all, fmt.Sprintf("%s=%d", c.Name, c.Published))
		}
	}
	return strings.Join(all, ",")
}

func printService(out io.Writer, d *api.ServiceDetails, wide bool) error {
	s := &d.Service
	condition := s.Federated.Status + " " + s.Federated.Reason
	if s.Federated.Message != "" {
		condition += ": " + s.Federated.Message
	}
	leader := d.Origin.Leader
	switch {
	case d.Origin.Own:
		leader += " (this agent)"
	case d.Origin.WrittenAgeSeconds != nil:
		leader += ", as of " + age(d.Origin.WrittenAgeSeconds) + " ago"
	}
	var foreign []string
	for _, f := range s.Foreign {
		foreign = append(foreign, fmt.Sprintf("%s %s, removed by: %s", f.Kind, f.Name, f.Command))
	}
	for _, field := range []struct {
		name  string
		lines []string
	}{
		{"Name", []string{s.Name}},
		{"Namespace", []string{s.Namespace}},
		{"Expression", []string{s.Expression}},
		{"Federated", []string{condition}},
		{"Leader", []string{leader}},
		{"Endpoints", []string{fmt.Sprintf("%d published, %d ready", s.Published, s.Ready)}},
		{"Foreign", foreign},
		{"Problems", s.Problems},
	} {
		if err := printField(out, field.name, field.lines); err != nil {
			return err
		}
	}
	if len(s.Clusters) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	t, err := newTable(out, "CLUSTER", "STATE", "BACKING", "TAKEN", "READY", "PUBLISHED", "REFUSED")
	if err != nil {
		return err
	}
	for i := range s.Clusters {
		c := &s.Clusters[i]
		if err := t.row(c.Name, serviceState(c), backingText(c), strconv.Itoa(c.Taken), strconv.Itoa(c.Ready), strconv.Itoa(c.Published), refusals(c)); err != nil {
			return err
		}
	}
	if err := t.end(); err != nil {
		return err
	}
	return printRefused(out, s, wide)
}

// serviceState is a cluster's state in a cell.
func serviceState(c *api.ServiceCluster) string {
	state := c.State
	if c.Stale {
		state += ",Stale"
	}
	if c.Partial {
		state += ",Partial"
	}
	return state
}

func backingText(c *api.ServiceCluster) string {
	text := strings.Join(c.Backing, ",")
	if more := c.BackingCount - len(c.Backing); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func refusals(c *api.ServiceCluster) string {
	m := make(map[string]int, len(c.Refused))
	for _, r := range c.Refused {
		m[r.Reason] = r.Count
	}
	return counts(m)
}

// printRefused shows a few of the addresses that are not taken.
func printRefused(out io.Writer, s *api.Service, wide bool) error {
	const few = 3
	title := "\nNot taken, or not published:\n"
	for i := range s.Clusters {
		for _, r := range s.Clusters[i].Refused {
			examples := r.Examples
			if !wide {
				examples = examples[:min(few, len(examples))]
			}
			line := fmt.Sprintf("  %s: %s: %d: %s", s.Clusters[i].Name, r.Reason, r.Count, strings.Join(examples, ", "))
			if r.Count > len(examples) {
				line += ", …"
			}
			if _, err := fmt.Fprintf(out, "%s%s\n", title, printable(line)); err != nil {
				return err
			}
			title = ""
		}
	}
	return nil
}
