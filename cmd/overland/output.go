package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/pkg/admin/api"
)

// The output formats; none is the table.
const (
	formatTable   = ""
	formatWide    = "wide"
	formatJSON    = "json"
	formatYAML    = "yaml"
	formatCalicoq = "calicoq"
)

// jsonIndent is kubectl's.
const jsonIndent = "    "

// format is the value of -o.
type format struct {
	value   string
	allowed []string
}

// String is the value.
func (f *format) String() string { return f.value }

// Type is what the help calls it.
func (f *format) Type() string { return "FORMAT" }

// Set takes one of the allowed values.
func (f *format) Set(value string) error {
	if !slices.Contains(f.allowed, value) {
		return fmt.Errorf("expected one of %s", strings.Join(f.allowed, ", "))
	}
	f.value = value
	return nil
}

func outputFlag(cmd *cobra.Command, allowed ...string) *format {
	f := &format{allowed: allowed}
	cmd.Flags().VarP(f, "output", "o", "output format: "+strings.Join(allowed, ", "))
	return f
}

// printObject prints one value of the API, as it is.
func printObject(out io.Writer, format string, value any) error {
	text, err := marshal(format, value)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

func marshal(format string, value any) ([]byte, error) {
	if format == formatYAML {
		return yaml.Marshal(value)
	}
	text, err := marshalJSON(value, "")
	return append(text, '\n'), err
}

// marshalJSON is indented JSON, without a newline at its end.
func marshalJSON(value any, prefix string) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent(prefix, jsonIndent)
	err := e.Encode(value)
	return []byte(strings.TrimSuffix(b.String(), "\n")), err
}

// partialData says on standard error of which clusters the answer may lack
// something, and is an error then: scripts must be able to tell.
func partialData(io streams, h api.Header) error {
	if !h.Partial {
		return nil
	}
	for _, p := range h.PartialClusters {
		if _, err := fmt.Fprintln(io.err, printable(trailer(p))); err != nil {
			return err
		}
	}
	return &exit{status: exitPartial}
}

func trailer(p api.PartialCluster) string {
	why := p.Reason
	if why == "" {
		why = p.State
	}
	line := fmt.Sprintf("partial: cluster %s: %s", p.Name, why)
	if p.SinceSeconds != nil {
		line += " for " + human(*p.SinceSeconds)
	}
	switch {
	case p.Restored:
		line += ", known from this node's store as of " + age(p.LastContactAgeSeconds) + " ago"
	case p.LastContactAgeSeconds == nil:
		line += ", never in contact"
	}
	if p.Message != "" {
		line += ": " + p.Message
	}
	return line
}
