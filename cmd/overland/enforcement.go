package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
)

// printEnforcement says what policies do to a pod, below what is known of it.
func printEnforcement(out io.Writer, e *api.Enforcement) error {
	enforced := "yes"
	switch {
	case !e.Here:
		enforced = "not here, but on node " + e.Node + ": ask there, with --node " + e.Node
	case !e.InForce:
		enforced = "no: " + e.Reason
	}
	fields := []struct {
		name  string
		lines []string
	}{{"Enforced", []string{enforced}}}
	if e.Here {
		var iface []string
		if i := e.Interface; i != nil {
			iface = append(iface, fmt.Sprintf("%s, index %d", i.Name, i.Index))
			for _, a := range i.Addresses {
				iface = append(iface, "routed: "+a)
			}
			for _, x := range i.Exceptions {
				iface = append(iface, "source exception: "+x)
			}
		}
		fields = append(fields, []struct {
			name  string
			lines []string
		}{{"Interface", iface}, {"Policies", e.Policies}}...)
	}
	for _, f := range fields {
		if err := printField(out, f.name, f.lines); err != nil {
			return err
		}
	}
	for i := range e.Sides {
		if err := printSide(out, &e.Sides[i]); err != nil {
			return err
		}
	}
	return nil
}

func printSide(out io.Writer, s *api.Side) error {
	if !s.Isolated {
		return printField(out, s.Direction, []string{"not isolated: everything passes"})
	}
	lines := []string{"isolated by " + strings.Join(s.Policies, ", ")}
	if len(s.Rules) == 0 {
		lines = append(lines, "no rule: nothing passes")
	}
	for i := range s.Rules {
		lines = append(lines, ruleLines(&s.Rules[i], "  ")...)
	}
	return printField(out, s.Direction, lines)
}

// dataplaneLines are the lines of a status about enforcement.
func dataplaneLines(d *api.Dataplane, wide bool) [][2]string {
	name := d.Name
	if d.Backend != "" {
		name += " (" + d.Backend + ")"
	}
	switch {
	case d.InForce:
		name += fmt.Sprintf(", generation %d in force, checked %s ago", d.Applied, age(d.AppliedAgeSeconds))
	case d.Wanted == 0:
		name += ", nothing to enforce yet"
	default:
		name += fmt.Sprintf(", BEHIND for %s: generation %d wanted, %d applied", age(d.BehindSeconds), d.Wanted, d.Applied)
	}
	enforced := fmt.Sprintf("%s, %d isolated; %s; %s",
		count(d.Endpoints, "pod"), d.Isolated, count(d.Sets, "set"), count(d.UnknownInterfaces, "unknown interface"))
	if d.Grandfathered > 0 {
		enforced += fmt.Sprintf(" (%d grandfathered)", d.Grandfathered)
	}
	lines := [][2]string{{"Dataplane", name}, {"Enforced", enforced}}
	if d.Error != "" {
		lines = append(lines, [2]string{"Error", fmt.Sprintf("for %s, %s in a row: %s", age(d.ErrorAgeSeconds), count(d.Failures, "failure"), d.Error)})
	}
	if d.RepairedAgeSeconds != nil {
		lines = append(lines, [2]string{"Repaired", fmt.Sprintf("%s ago: %s", age(d.RepairedAgeSeconds), strings.Join(d.Repaired, "; "))})
	}
	if !wide {
		return lines
	}
	t := &d.Totals
	return append(lines,
		[2]string{"Applies", fmt.Sprintf("%d, %d failed; %s; the last took %s, the longest %s",
			t.Applies, t.Failures, count(int(t.Transactions), "transaction"), took(t.LastApplySeconds), took(t.LongestApplySeconds))},
		[2]string{"Members", fmt.Sprintf("%d added, %d deleted; %d sets created, %d removed", t.MembersAdded, t.MembersDeleted, t.SetsCreated, t.SetsRemoved)},
		[2]string{"Sweeps", fmt.Sprintf("%d, the longest took %s; %d connections reset, %d deleted; %s", t.Sweeps,
			took(t.LongestSweepSeconds), t.FlowsReset, t.FlowsDeleted, count(int(t.Raises), "raise"))},
		[2]string{"Repairs", fmt.Sprint(t.Repairs)},
	)
}

// took is a short number of seconds for people.
func took(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
}
