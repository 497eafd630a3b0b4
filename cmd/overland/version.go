package main

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/overland-net/overland/pkg/admin/client"
)

// versions is what `overland version -o json` prints.
type versions struct {
	Client clientVersion `json:"client"`
	// Agent is the agent's version, empty if it could not be asked; then
	// AgentError says why.
	Agent      string `json:"agent,omitempty"`
	AgentError string `json:"agentError,omitempty"`
}

type clientVersion struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
}

func newVersionCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of this program and of the agent",
		Args:  cobra.NoArgs,
	}
	var clientOnly bool
	cmd.Flags().BoolVar(&clientOnly, "client", false, "do not ask the agent")
	output := outputFlag(cmd, formatJSON, formatYAML)
	return agentCommand(cmd, io, func(ctx context.Context, c *client.Client, _ []string) error {
		v := versions{Client: ownVersion()}
		if !clientOnly {
			if s, err := c.Status(ctx); err != nil {
				v.AgentError = err.Error()
			} else {
				v.Agent = s.Version
			}
		}
		if output.value != formatTable {
			return printObject(io.out, output.value, v)
		}
		own := v.Client.Version
		if v.Client.Revision != "" {
			own += " (" + v.Client.Revision + ")"
		}
		if _, err := fmt.Fprintf(io.out, "Client: %s, %s\n", own, v.Client.Go); err != nil {
			return err
		}
		switch {
		case v.Agent != "":
			_, err := fmt.Fprintf(io.out, "Agent:  %s\n", printable(v.Agent))
			return err
		case v.AgentError != "":
			// Not an error: off the nodes there is no agent to ask.
			_, err := fmt.Fprintf(io.err, "Agent:  %s\n", printable(v.AgentError))
			return err
		}
		return nil
	})
}

// ownVersion is what the Go tools have noted in this program.
func ownVersion() clientVersion {
	v := clientVersion{Version: "unknown", Go: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version, v.Go = info.Main.Version, info.GoVersion
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}
