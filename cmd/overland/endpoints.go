package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/admin/client"
)

func newEndpointsCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "endpoints",
		Aliases: []string{"ep"},
		Short:   "List the pods and nodes that this node knows, of all clusters",
		Example: `  overland endpoints --cluster canada
  overland endpoints -n redis -l app=redis,overland.dev/cluster!=west
  overland endpoints --kind Node -o calicoq`,
		Args: cobra.NoArgs,
	}
	var filter client.Filter
	flags := cmd.Flags()
	flags.StringVar(&filter.Cluster, "cluster", "", "only those of this cluster")
	flags.StringVarP(&filter.Namespace, "namespace", "n", "", "only those of namespaces of this name")
	flags.StringVarP(&filter.LabelSelector, "selector", "l", "",
		"only those with these labels: their own, and overland.dev/cluster, overland.dev/namespace, overland.dev/service-account, cluster.overland.dev/KEY, namespace.overland.dev/KEY")
	flags.StringVar(&filter.Kind, "kind", "", "only Pod or Node")
	output := outputFlag(cmd, formatWide, formatJSON, formatYAML, formatCalicoq)
	return agentCommand(cmd, io, func(ctx context.Context, c *client.Client, _ []string) error {
		filter.Kind = kind(filter.Kind)
		l, err := c.Endpoints(ctx, filter)
		if err != nil {
			return err
		}
		defer l.Close()
		return printList(io, l, output.value)
	})
}

func newEvalCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval EXPRESSION",
		Short: "List the endpoints that a federation expression selects",
		Long: `eval lists the pods, of all clusters, that a federation expression selects; nodes
too if it mentions overland.dev/kind. It sees a pod's own labels and

  overland.dev/cluster           the cluster's name
  overland.dev/namespace         the namespace's name
  overland.dev/service-account   the pod's service account
  cluster.overland.dev/KEY       a label of the cluster
  namespace.overland.dev/KEY     a label of the namespace`,
		Example: `  overland eval "app == 'redis' && overland.dev/cluster in {'canada', 'west'}"
  overland eval "has(namespace.overland.dev/team) && !(tier starts with 'front')"`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(cmd, formatWide, formatJSON, formatYAML, formatCalicoq)
	return agentCommand(cmd, io, func(ctx context.Context, c *client.Client, args []string) error {
		l, err := c.Evaluate(ctx, args[0])
		if err != nil {
			return err
		}
		defer l.Close()
		return printList(io, l, output.value)
	})
}

// kind takes the names that kubectl takes.
func kind(name string) string {
	switch strings.ToLower(name) {
	case "pod", "pods", "po":
		return api.KindPod
	case "node", "nodes", "no":
		return api.KindNode
	}
	return name
}

// listPrinter prints a list as it arrives.
type listPrinter interface {
	begin(head api.EndpointList) error
	item(e *api.Endpoint) error
	end() error
}

func printList(io streams, l *client.List, format string) error {
	var p listPrinter
	switch format {
	case formatJSON:
		p = &jsonList{out: io.out}
	case formatYAML:
		p = &yamlList{out: io.out}
	case formatCalicoq:
		p = &lines{out: io.out}
	default:
		p = &tableList{out: io.out, wide: format == formatWide}
	}
	if err := p.begin(l.Head); err != nil {
		return err
	}
	n := 0
	for e, err := range l.Items() {
		if err != nil {
			return err
		}
		if err := p.item(e); err != nil {
			return err
		}
		n++
	}
	if err := p.end(); err != nil {
		return err
	}
	if _, people := p.(*tableList); people && n == 0 {
		if _, err := fmt.Fprintln(io.err, "No endpoints found."); err != nil {
			return err
		}
	}
	return partialData(io, l.Head.Header)
}

type tableList struct {
	out  io.Writer
	wide bool
	rows *table
}

func (t *tableList) begin(api.EndpointList) error { return nil }

func (t *tableList) item(e *api.Endpoint) error {
	if t.rows == nil {
		header := []string{"CLUSTER", "KIND", "NAMESPACE", "NAME", "ADDRESSES", "NODE", "AGE"}
		if t.wide {
			header = append(header, "SERVICE-ACCOUNT", "LABELS", "REFUSED")
		}
		var err error
		if t.rows, err = newTable(t.out, header...); err != nil {
			return err
		}
	}
	cells := []string{e.Cluster, e.Kind, e.Namespace, e.Name, addresses(e), e.Node, endpointAge(e)}
	if t.wide {
		var refused []string
		for _, r := range e.Refused {
			refused = append(refused, r.Address+":"+r.Reason)
		}
		cells = append(cells, e.ServiceAccount, pairs(e.Labels), strings.Join(refused, ","))
	}
	return t.rows.row(cells...)
}

func (t *tableList) end() error {
	if t.rows == nil {
		return nil
	}
	return t.rows.end()
}

// addresses are those that it is known by; if it has none, why.
func addresses(e *api.Endpoint) string {
	if len(e.Addresses) > 0 || len(e.Refused) == 0 {
		return strings.Join(e.Addresses, ",")
	}
	var reasons []string
	for _, r := range e.Refused {
		if !slices.Contains(reasons, r.Reason) {
			reasons = append(reasons, r.Reason)
		}
	}
	return "<refused: " + strings.Join(reasons, ",") + ">"
}

func endpointAge(e *api.Endpoint) string {
	if e.AgeSeconds == nil {
		return "<unknown>"
	}
	return human(*e.AgeSeconds)
}

// lines prints the seed system's form.
type lines struct{ out io.Writer }

func (p *lines) begin(api.EndpointList) error { return nil }

func (p *lines) item(e *api.Endpoint) error {
	cluster := e.Cluster + "/"
	if e.Local {
		cluster = ""
	}
	line := "Host endpoint " + cluster + e.Name + "/eth0"
	if e.Kind == api.KindPod {
		line = "Workload endpoint " + cluster + e.Node + "/k8s/" + e.Namespace + "." + e.Name + "/eth0"
	}
	_, err := fmt.Fprintln(p.out, printable(line))
	return err
}

func (p *lines) end() error { return nil }

// jsonList prints an api.EndpointList as printObject would, item by item.
type jsonList struct {
	out   io.Writer
	items int
}

func (p *jsonList) begin(head api.EndpointList) error {
	head.Items = []api.Endpoint{}
	text, err := marshalJSON(head, "")
	if err != nil {
		return err
	}
	_, err = io.WriteString(p.out, strings.TrimSuffix(string(text), "]\n}"))
	return err
}

func (p *jsonList) item(e *api.Endpoint) error {
	text, err := marshalJSON(e, jsonIndent+jsonIndent)
	if err != nil {
		return err
	}
	separator := "\n"
	if p.items++; p.items > 1 {
		separator = ",\n"
	}
	_, err = io.WriteString(p.out, separator+jsonIndent+jsonIndent+string(text))
	return err
}

func (p *jsonList) end() error {
	text := "]\n}\n"
	if p.items > 0 {
		text = "\n" + jsonIndent + text
	}
	_, err := io.WriteString(p.out, text)
	return err
}

// yamlList prints an api.EndpointList, items last, item by item.
type yamlList struct {
	out   io.Writer
	items int
}

func (p *yamlList) begin(head api.EndpointList) error {
	head.Items = []api.Endpoint{}
	text, err := yaml.Marshal(head)
	if err != nil {
		return err
	}
	_, err = io.WriteString(p.out, strings.Replace(string(text), "\nitems: []\n", "\n", 1)+"items:")
	return err
}

func (p *yamlList) item(e *api.Endpoint) error {
	text, err := yaml.Marshal(e)
	if err != nil {
		return err
	}
	separator := ""
	if p.items++; p.items == 1 {
		separator = "\n"
	}
	body := strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", "\n  ")
	_, err = io.WriteString(p.out, separator+"- "+body+"\n")
	return err
}

func (p *yamlList) end() error {
	if p.items > 0 {
		return nil
	}
	_, err := io.WriteString(p.out, " []\n")
	return err
}
