package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/admin/client"
)

func newExplainCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain SOURCE DESTINATION PORT[/PROTOCOL]",
		Short: "Tell whether a connection is allowed, why, and whether the kernel holds what decides",
		Long: `explain tells whether policies let a connection pass this node: egress if the source
is a pod of this node, ingress if the destination is. It names what decides, and
reads back whether the kernel holds it.

SOURCE and DESTINATION are [CLUSTER/]NAMESPACE/POD, an address, node (this one) or
node:[CLUSTER/]NAME. PORT is a number or the name of a port of the destination;
PROTOCOL is TCP if it is not given, else UDP or SCTP; ICMP stands without a port.

Policies are judged on the pod behind a Service, not on the Service's address.

Exit status: 0 allowed; 4 denied; 3 allowed by what is known, which may lack what is
new in an involved cluster; 1 not told: an error, neither side is decided on this
node, or the kernel does not hold what decides; 2 a wrong call.`,
		Example: `  overland explain shop/cart-0 canada/redis/redis-0 6379
  overland explain 192.0.2.10 shop/cart-0 http
  overland explain node shop/cart-0 8080`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 3 {
				return fmt.Errorf("%s given: expected three, SOURCE DESTINATION PORT[/PROTOCOL]", count(len(args), "argument"))
			}
			return nil
		},
	}
	output := outputFlag(cmd, formatWide, formatJSON, formatYAML)
	return agentCommand(cmd, io, func(ctx context.Context, c *client.Client, args []string) error {
		x, err := c.Explain(ctx, args[0], args[1], args[2])
		if err != nil {
			return err
		}
		if output.value == formatTable || output.value == formatWide {
			err = printExplanation(io.out, x, output.value == formatWide)
		} else {
			err = printObject(io.out, output.value, x)
		}
		if err != nil {
			return err
		}
		return explained(io, x)
	})
}

// explained is the exit status of an explanation.
func explained(io streams, x *api.Explanation) error {
	partial := partialData(io, x.Header)
	for i := range x.Flows {
		if k := x.Flows[i].Kernel; k != nil && !k.Agrees && k.Error == "" {
			return fmt.Errorf("the kernel does not hold what is wanted: see above, and overland status")
		}
	}
	switch x.Result {
	case api.ResultDenied:
		return &exit{status: exitDenied}
	case api.ResultNotHere:
		return fmt.Errorf("neither side is decided on this node: see the notes for which node to ask")
	}
	return partial
}

func printExplanation(out io.Writer, x *api.Explanation, wide bool) error {
	for _, field := range [][2]string{
		{"From", partyText(&x.Source)},
		{"To", partyText(&x.Destination)},
		{"Port", x.Port},
		{"Result", resultText(x.Result)},
	} {
		if err := printField(out, field[0], []string{field[1]}); err != nil {
			return err
		}
	}
	for i := range x.Flows {
		if err := printFlow(out, &x.Flows[i], wide); err != nil {
			return err
		}
	}
	for i, note := range x.Notes {
		if i == 0 {
			if _, err := fmt.Fprintln(out, "\nNotes:"); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(out, "  - %s\n", printable(note)); err != nil {
			return err
		}
	}
	return nil
}

func partyText(p *api.Party) string {
	var text string
	switch {
	case p.Endpoint != nil:
		text = p.Endpoint.String()
	case p.Kind == api.PartyInterface:
		text = "unknown pod behind " + p.Interface
	default:
		text = "an address outside"
	}
	text += ", " + strings.Join(p.Addresses, ", ")
	switch {
	case p.Here && p.Kind == api.KindNode:
		text += ", this node"
	case p.Here:
		text += ", on this node"
	case p.Node != "" && p.Kind == api.KindPod:
		text += ", on node " + p.Node + " of " + p.Endpoint.Cluster
	}
	return text
}

func resultText(result string) string {
	switch result {
	case api.ResultAllowed:
		return "ALLOWED, as far as this node decides"
	case api.ResultDenied:
		return "DENIED"
	case api.ResultNotHere:
		return "not decided on this node"
	}
	return result
}

func printFlow(out io.Writer, f *api.Flow, wide bool) error {
	if len(f.Checks) == 0 {
		return nil
	}
	port := f.Protocol
	if f.Port != 0 {
		port = fmt.Sprintf("%d/%s", f.Port, f.Protocol)
	}
	if _, err := fmt.Fprintf(out, "\n%s: %s -> %s %s: %s\n", f.Family, f.Source, f.Destination, port, strings.ToLower(f.Result)); err != nil {
		return err
	}
	for i := range f.Checks {
		if err := printCheck(out, &f.Checks[i]); err != nil {
			return err
		}
	}
	if f.Kernel == nil {
		return nil
	}
	return printKernel(out, f.Kernel, wide)
}

func printCheck(out io.Writer, c *api.Check) error {
	what := c.Kind
	switch {
	case c.Pod != nil:
		what += " of " + c.Pod.Namespace + "/" + c.Pod.Name
	case c.Interface != "":
		what += " " + c.Interface
	}
	verdict := "denied"
	if c.Allowed {
		verdict = "allowed"
	}
	if c.Skipped {
		verdict = "would be " + verdict
	}
	lines := []string{fmt.Sprintf("  %s: %s: %s", what, verdict, c.Reason)}
	if c.Rule != nil {
		lines = append(lines, ruleLines(c.Rule, "      ")...)
	} else if len(c.Policies) > 0 {
		lines = append(lines, "      policies: "+strings.Join(c.Policies, ", "))
	}
	for i := range c.Near {
		lines = append(lines, "      but for port or protocol:")
		lines = append(lines, ruleLines(&c.Near[i], "        ")...)
	}
	return printLines(out, lines)
}

// ruleLines is a rule, where it comes from and what its set means.
func ruleLines(r *api.Rule, indent string) []string {
	lines := []string{indent + r.Text}
	for _, o := range r.Origins {
		lines = append(lines, indent+"  from "+o)
	}
	if r.Set != "" {
		lines = append(lines, fmt.Sprintf("%s  set of %s: %s", indent, count(r.Members, "member"), r.SetText))
	}
	return lines
}

func printLines(out io.Writer, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(out, printable(line)); err != nil {
			return err
		}
	}
	return nil
}

func printKernel(out io.Writer, k *api.Kernel, wide bool) error {
	summary := fmt.Sprintf("  kernel: holds it: %s and %s read back", count(len(k.Chains), "chain"), count(len(k.Sets), "set"))
	switch {
	case k.Error != "":
		summary = "  kernel: not known: " + k.Error
	case !k.Agrees:
		summary = "  kernel: DOES NOT HOLD IT"
	}
	if k.Pending && k.Error == "" {
		summary += " (a change is on its way)"
	}
	lines := []string{summary}
	for _, s := range k.Sets {
		if s.Want != s.Kernel {
			lines = append(lines, fmt.Sprintf("      set %s: %s %s in the kernel, and %s: %s", s.Set, s.Element, isIn(s.Kernel), shouldBe(s.Want), s.Text))
		} else if wide {
			lines = append(lines, fmt.Sprintf("      set %s: %s %s, as it should be", s.Set, s.Element, isIn(s.Kernel)))
		}
	}
	for _, c := range k.Chains {
		if !c.Agrees {
			lines = append(lines, fmt.Sprintf("      %s %s %s: %s", c.Family, c.Table, c.Chain, c.Difference))
		} else if wide {
			lines = append(lines, fmt.Sprintf("      %s %s %s: as it should be", c.Family, c.Table, c.Chain))
		}
	}
	return printLines(out, lines)
}

func isIn(yes bool) string {
	if yes {
		return "is a member"
	}
	return "is no member"
}

func shouldBe(yes bool) string {
	if yes {
		return "should be"
	}
	return "should not be"
}
