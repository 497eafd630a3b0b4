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

func newPoliciesCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "policies [[NAMESPACE/]NAME]",
		Aliases: []string{"policy", "netpol"},
		Short:   "Show the NetworkPolicies that select pods of this node, or what one of them admits",
		Long: `policies lists the NetworkPolicies that select pods of this node; with --all those
that select none too. With a name it shows what that policy selects and admits, rule
by rule: each peer with how many pods or nodes it has now, of each cluster.`,
		Example: `  overland policies
  overland policies -n redis -o wide
  overland policies redis/only-carts`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%s given: expected at most one, [NAMESPACE/]NAME", count(len(args), "argument"))
			}
			if len(args) == 1 && (strings.Count(args[0], "/") > 1 || strings.HasPrefix(args[0], "/") || strings.HasSuffix(args[0], "/") || args[0] == "") {
				return fmt.Errorf("%q: expected [NAMESPACE/]NAME", args[0])
			}
			return nil
		},
	}
	var filter client.PolicyFilter
	flags := cmd.Flags()
	flags.StringVarP(&filter.Namespace, "namespace", "n", "", "only those of this namespace")
	flags.BoolVar(&filter.All, "all", false, "also those that select no pod of this node")
	output := outputFlag(cmd, formatWide, formatJSON, formatYAML)
	return agentCommand(cmd, io, func(ctx context.Context, c *client.Client, args []string) error {
		if len(args) == 1 {
			return showPolicy(ctx, c, io, filter.Namespace, args[0], output.value)
		}
		l, err := c.Policies(ctx, filter)
		if err != nil {
			return err
		}
		if output.value == formatTable || output.value == formatWide {
			err = printPolicies(io, l.Items, output.value == formatWide)
		} else {
			err = printObject(io.out, output.value, l)
		}
		if err != nil {
			return err
		}
		return partialData(io, l.Header)
	})
}

// showPolicy shows one policy. If no namespace is named, the name must be that
// of one only.
func showPolicy(ctx context.Context, c *client.Client, io streams, namespace, name, format string) error {
	if of, rest, ok := strings.Cut(name, "/"); ok {
		if namespace != "" && namespace != of {
			return usageError("%q is not in namespace %q of -n: expected one of the two", name, namespace)
		}
		namespace, name = of, rest
	}
	if namespace == "" {
		l, err := c.Policies(ctx, client.PolicyFilter{Name: name, All: true})
		if err != nil {
			return err
		}
		var in []string
		for _, p := range l.Items {
			in = append(in, p.Namespace)
		}
		switch len(in) {
		case 0:
			return fmt.Errorf("no NetworkPolicy %s in any namespace", name)
		case 1:
			namespace = in[0]
		default:
			return usageError("%q is in the namespaces %s: expected NAMESPACE/%s", name, strings.Join(in, ", "), name)
		}
	}
	d, err := c.Policy(ctx, namespace, name)
	if err != nil {
		return err
	}
	if format == formatTable || format == formatWide {
		err = printPolicy(io.out, d)
	} else {
		err = printObject(io.out, format, d)
	}
	if err != nil {
		return err
	}
	return partialData(io, d.Header)
}

func printPolicies(io streams, all []api.Policy, wide bool) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(io.err, "No policies found.")
		return err
	}
	header := []string{"NAMESPACE", "NAME", "PODS", "DIRECTIONS", "PROBLEMS"}
	if wide {
		header = append(header, "SCOPE", "GENERATION", "POD-NAMES", "MESSAGES")
	}
	t, err := newTable(io.out, header...)
	if err != nil {
		return err
	}
	for _, p := range all {
		cells := []string{
			p.Namespace, p.Name, strconv.Itoa(len(p.Pods)), strings.Join(p.Directions, ","), strconv.Itoa(len(p.Problems)),
		}
		if wide {
			var messages []string
			for _, problem := range p.Problems {
				messages = append(messages, problem.Message)
			}
			cells = append(cells, p.Scope, strconv.FormatInt(p.Generation, 10), strings.Join(p.Pods, ","), strings.Join(messages, "; "))
		}
		if err := t.row(cells...); err != nil {
			return err
		}
	}
	return t.end()
}

func printPolicy(out io.Writer, d *api.PolicyDetails) error {
	p := &d.Policy
	var found []string
	for _, problem := range p.Problems {
		found = append(found, problem.Kind+": "+problem.Message)
	}
	for _, field := range []struct {
		name  string
		lines []string
	}{
		{"Name", []string{p.Name}},
		{"Namespace", []string{p.Namespace}},
		{"Generation", []string{strconv.FormatInt(p.Generation, 10)}},
		{"Directions", []string{strings.Join(p.Directions, ", ")}},
		{"Scope", []string{p.Scope}},
		{"Selects", []string{d.Selector}},
		{"Pods Here", p.Pods},
		{"Problems", found},
	} {
		if err := printField(out, field.name, field.lines); err != nil {
			return err
		}
	}
	for i := range d.Rules {
		if err := printPolicyRule(out, &d.Rules[i], len(p.Pods) > 0); err != nil {
			return err
		}
	}
	for _, direction := range p.Directions {
		if !slices.ContainsFunc(d.Rules, func(r api.PolicyRule) bool { return r.Direction == direction }) {
			if _, err := fmt.Fprintf(out, "\n%s: no rule: nothing is admitted by this policy\n", direction); err != nil {
				return err
			}
		}
	}
	return nil
}

func printPolicyRule(out io.Writer, r *api.PolicyRule, active bool) error {
	var ports []string
	for _, p := range r.Ports {
		ports = append(ports, portText(p))
	}
	if r.AnyPort {
		ports = []string{"all ports of all protocols"}
	}
	if len(ports) == 0 {
		ports = []string{"none"}
	}
	if _, err := fmt.Fprintf(out, "\n%s\n  ports: %s\n", r.Field, printable(strings.Join(ports, ", "))); err != nil {
		return err
	}
	if r.AnyPeer {
		_, err := fmt.Fprintln(out, "  peers: all addresses")
		return err
	}
	for i := range r.Peers {
		if err := printPeer(out, &r.Peers[i], active); err != nil {
			return err
		}
	}
	return nil
}

func printPeer(out io.Writer, p *api.PolicyPeer, active bool) error {
	text := p.Selector
	if p.Kind == api.PeerBlock {
		text = "addresses in " + p.Block
		if len(p.Except) > 0 {
			text += " except " + strings.Join(p.Except, ", ")
		}
	}
	if active && !p.InForce {
		text += "   (no rule comes of it: see the problems)"
	}
	if _, err := fmt.Fprintf(out, "  %s: %s\n", p.Field, printable(text)); err != nil || p.Kind == api.PeerBlock {
		return err
	}
	what := "pod"
	if p.Kind == api.PeerNodes {
		what = "node"
	}
	var members []string
	for _, c := range p.Clusters {
		members = append(members, fmt.Sprintf("%s: %s, %s", c.Name, count(c.Endpoints, what), addressCount(c.Addresses)))
	}
	if len(members) == 0 {
		members = []string{"no " + what + " now"}
	}
	for _, line := range members {
		if _, err := fmt.Fprintf(out, "      %s\n", printable(line)); err != nil {
			return err
		}
	}
	return nil
}

func addressCount(n int) string {
	if n == 1 {
		return "1 address"
	}
	return fmt.Sprintf("%d addresses", n)
}

func portText(p api.PolicyPort) string {
	port := "all"
	switch {
	case p.Name != "":
		port = p.Name
	case p.First == 0 && p.Last == 0:
	case p.First == p.Last:
		port = strconv.Itoa(int(p.First))
	default:
		port = fmt.Sprintf("%d-%d", p.First, p.Last)
	}
	return port + "/" + p.Protocol
}
