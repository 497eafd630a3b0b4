package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/overland-net/overland/pkg/connect"
)

// connectCommands are the commands that link clusters, from wherever a person
// has a kubeconfig for both.
func connectCommands() []*cobra.Command {
	return []*cobra.Command{newConnectCommand(), newDisconnectCommand(), newReachCommand()}
}

// sideFlags are the flags about one of the two clusters.
type sideFlags struct {
	name, server, tlsServerName, caFile string
	pods, nodes                         []string
}

func (f *sideFlags) bind(flags *pflag.FlagSet, letter string) {
	of := "CONTEXT_" + strings.ToUpper(letter)
	flags.StringVar(&f.name, "name-"+letter, "", "name of the cluster of "+of+" (default: what it calls itself)")
	flags.StringVar(&f.server, "server-"+letter, "", "URL of its API server as the other cluster's nodes reach it (default: that of "+of+")")
	flags.StringVar(&f.tlsServerName, "tls-server-name-"+letter, "", "name in its API server's certificate, if it is not that of the URL")
	flags.StringVar(&f.caFile, "ca-"+letter, "", "file with the CA of its API server, PEM (default: that of "+of+")")
	flags.StringSliceVar(&f.pods, "pod-cidrs-"+letter, nil, "address ranges that its pods may claim (default: those of its agents' configuration)")
	flags.StringSliceVar(&f.nodes, "node-cidrs-"+letter, nil, "address ranges that its nodes may claim (default: likewise)")
}

// options reads what the flags name.
func (f *sideFlags) options(letter string) (connect.SideOptions, error) {
	o := connect.SideOptions{Name: f.name, Server: f.server, TLSServerName: f.tlsServerName}
	var err error
	if o.Pods, err = flagRanges("--pod-cidrs-"+letter, f.pods); err != nil {
		return o, err
	}
	if o.Nodes, err = flagRanges("--node-cidrs-"+letter, f.nodes); err != nil {
		return o, err
	}
	if f.server != "" && !strings.HasPrefix(f.server, "https://") {
		return o, usageError("--server-%s %q: a URL that begins with https:// is expected", letter, f.server)
	}
	if f.caFile != "" {
		if o.CA, err = os.ReadFile(f.caFile); err != nil {
			return o, usageError("--ca-%s: %w", letter, err)
		}
	}
	return o, nil
}

func flagRanges(flag string, texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			return nil, usageError("%s %q: an address range such as 10.1.0.0/16 is expected", flag, text)
		}
		all = append(all, p)
	}
	return all, nil
}

// connectFlags are all flags of connect.
type connectFlags struct {
	kubeconfig     string
	a, b           sideFlags
	oneWay, dryRun bool
	wait           bool
	timeout        time.Duration
	token          connect.TokenOptions
	skip           []string
}

func newConnectCommand() *cobra.Command {
	f := &connectFlags{}
	cmd := &cobra.Command{
		Use:   "connect CONTEXT_A CONTEXT_B",
		Short: "Link two clusters, from two contexts of the kubeconfig",
		Long: `Link two clusters: the pods and nodes of each become known to the other.

On each cluster an account is made that may read pods, namespaces and nodes and
nothing else, and on the other one a Secret with its token and a RemoteCluster.
Before that, a preflight checks whether the link can work; --dry-run only checks
and prints the manifests. The command can be repeated: it finishes what is
unfinished, and leaves what people have changed.

Exit status: 0 linked and Ready; 1 an error, or not Ready in time; 2 a wrong call.`,
		Example: `  overland connect west canada
  overland connect west canada --dry-run > link.yaml
  overland connect west canada --token-ttl 720h   # again, to renew the token
  overland connect west canada --one-way          # only west learns canada`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig with both contexts; several files are separated by ':' (default: $KUBECONFIG, or that of kubectl)")
	flags.BoolVar(&f.oneWay, "one-way", false, "only the cluster of CONTEXT_A learns the other one")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check, and print the manifests and the policies that the link would widen; change nothing")
	flags.BoolVar(&f.wait, "wait", true, "wait until the link is Ready")
	flags.DurationVar(&f.timeout, "timeout", 2*time.Minute, "how long to wait for that")
	flags.DurationVar(&f.token.TTL, "token-ttl", 0, "use tokens that expire after so long (at least 10m); 0: tokens that do not")
	flags.BoolVar(&f.token.Rotate, "rotate", false, "replace the tokens in use")
	flags.StringSliceVar(&f.skip, "skip-preflight", nil, "checks that may fail: "+strings.Join(connect.Checks(), ", "))
	f.a.bind(flags, "a")
	f.b.bind(flags, "b")
	return cmd
}

// options checks the flags.
func (f *connectFlags) options() (connect.Options, error) {
	o := connect.Options{OneWay: f.oneWay, DryRun: f.dryRun, Token: f.token, SkipPreflight: f.skip}
	for _, name := range f.skip {
		if !slices.Contains(connect.Checks(), name) {
			return o, usageError("--skip-preflight %q: one of %s is expected", name, strings.Join(connect.Checks(), ", "))
		}
	}
	// Kubernetes gives no token for less.
	if f.token.TTL != 0 && f.token.TTL < 10*time.Minute {
		return o, usageError("--token-ttl %s: at least 10m is expected", f.token.TTL)
	}
	if f.wait {
		if f.timeout <= 0 {
			return o, usageError("--timeout %s: a time above 0 is expected (or --wait=false)", f.timeout)
		}
		o.Wait = f.timeout
	}
	var err error
	if o.A, err = f.a.options("a"); err != nil {
		return o, err
	}
	o.B, err = f.b.options("b")
	return o, err
}

func (f *connectFlags) run(cmd *cobra.Command, args []string) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	out := connect.Output{Out: cmd.OutOrStdout(), Log: cmd.OutOrStdout()}
	if f.dryRun {
		out.Log = cmd.ErrOrStderr() // the manifests alone are on standard output
	}
	return withClusters(cmd.Context(), f.kubeconfig, args, func(ctx context.Context, a, b *connect.Cluster) error {
		return connect.Connect(ctx, a, b, o, out)
	})
}

// withClusters opens the clusters of two contexts.
func withClusters(ctx context.Context, kubeconfig string, contexts []string, do func(ctx context.Context, a, b *connect.Cluster) error) error {
	var clusters [2]*connect.Cluster
	for i, name := range contexts {
		c, err := connect.Open(kubeconfig, name)
		if err != nil {
			return err
		}
		clusters[i] = c
	}
	err := do(ctx, clusters[0], clusters[1])
	if errors.Is(err, connect.ErrPartly) {
		return &exit{exitPartial, err}
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", err)
	}
	return err
}
