package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/admin/client"
)

func newEndpointCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "endpoint NAMESPACE/POD",
		Short: "Show everything that is known of one pod, and what policies do to it",
		Example: `  overland endpoint redis/redis-0
  overland endpoint redis/redis-0 --cluster canada -o yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s given: expected one, NAMESPACE/POD", count(len(args), "argument"))
			}
			_, _, err := splitPod(args[0])
			return err
		},
	}
	var cluster string
	cmd.Flags().StringVar(&cluster, "cluster", "", "the cluster of the pod (default: the node's own)")
	output := outputFlag(cmd, formatJSON, formatYAML)
	return agentCommand(cmd, io, func(ctx context.Context, c *client.Client, args []string) error {
		namespace, pod, err := splitPod(args[0])
		if err != nil {
			return err
		}
		d, err := c.Endpoint(ctx, cluster, namespace, pod)
		if err != nil {
			return err
		}
		if output.value == formatTable {
			err = printDetails(io.out, d)
		} else {
			err = printObject(io.out, output.value, d)
		}
		if err != nil {
			return err
		}
		return partialData(io, d.Header)
	})
}

func splitPod(name string) (namespace, pod string, err error) {
	namespace, pod, ok := strings.Cut(name, "/")
	if !ok || namespace == "" || pod == "" || strings.Contains(pod, "/") {
		return "", "", fmt.Errorf("%q: expected NAMESPACE/POD", name)
	}
	return namespace, pod, nil
}

// printDetails prints in the manner of kubectl describe.
func printDetails(out io.Writer, d *api.EndpointDetails) error {
	e := &d.Endpoint
	var refused, ports []string
	for _, r := range e.Refused {
		line := r.Address + ": " + r.Reason
		if r.By != nil {
			line += ", it belongs to " + r.By.String()
		}
		refused = append(refused, line)
	}
	for _, p := range e.Ports {
		ports = append(ports, fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol))
	}
	cluster := e.Cluster
	if e.Local {
		cluster += " (local)"
	}
	created := ""
	if e.Created != nil {
		created = fmt.Sprintf("%s (%s ago)", e.Created.Format(time.RFC3339), endpointAge(e))
	}
	namespaceLabels := labelLines(d.NamespaceLabels)
	if !d.NamespaceKnown {
		namespaceLabels = []string{"<unknown: the Namespace object has not been seen>"}
	}
	name := e.Name
	if e.Terminating {
		name += " (terminating)"
	}
	for _, field := range []struct {
		name  string
		lines []string
	}{
		{"Name", []string{name}},
		{"Namespace", []string{e.Namespace}},
		{"Cluster", []string{cluster}},
		{"Node", []string{e.Node}},
		{"UID", []string{e.UID}},
		{"Service Account", []string{e.ServiceAccount}},
		{"Created", []string{created}},
		{"Addresses", e.Addresses},
		{"Refused", refused},
		{"Named Ports", ports},
		{"Labels", labelLines(e.Labels)},
		{"Namespace Labels", namespaceLabels},
		{"Cluster Labels", labelLines(d.ClusterLabels)},
	} {
		if err := printField(out, field.name, field.lines); err != nil {
			return err
		}
	}
	if d.Enforcement == nil {
		return nil
	}
	return printEnforcement(out, d.Enforcement)
}

func printField(out io.Writer, name string, values []string) error {
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		values = []string{none}
	}
	label := name + ":"
	for _, v := range values {
		if _, err := fmt.Fprintf(out, "%-18s%s\n", label, printable(v)); err != nil {
			return err
		}
		label = ""
	}
	return nil
}

func labelLines(m map[string]string) []string {
	var all []string
	for k, v := range m {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return all
}
