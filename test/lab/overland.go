//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/overland-net/overland/test/lab/daemon"
	"github.com/overland-net/overland/test/lab/topology"
)

// programs are what users get; the lab's image of the agent has them all.
func programs() []string { return []string{"overland-agent", "overland", "overland-cni"} }

func (l *lab) overland() *cobra.Command {
	var link bool
	var from string
	cmd := &cobra.Command{
		Use:   "overland",
		Short: "install Overland in every cluster of the running lab, and link them",
		Long: "Install Overland in every cluster of the running lab, from the manifests of the checkout and\n" +
			"the programs in --programs, then link every two clusters with `overland connect`. Run again, it\n" +
			"installs what was built since.",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := l.running(); err != nil {
				return err
			}
			root, err := checkout()
			if err != nil {
				return err
			}
			if from == "" {
				from = filepath.Join(root, "bin")
			}
			return l.installOverland(cmd.Context(), filepath.Join(root, "manifests"), from, link)
		},
	}
	cmd.Flags().BoolVar(&link, "link", true, "link every two clusters")
	cmd.Flags().StringVar(&from, "programs", "", "folder with the built programs (default bin in the checkout)")
	return cmd
}

func (l *lab) installOverland(ctx context.Context, manifests, from string, link bool) error {
	status, err := l.client.Status(ctx)
	if err != nil {
		return err
	}
	for _, name := range programs() {
		if err := l.replaceProgram(filepath.Join(from, name), name); err != nil {
			return err
		}
	}
	t := topology.New(status.Options)
	for _, c := range t.Clusters {
		if err := l.applyOverland(ctx, c, manifests); err != nil {
			return err
		}
	}
	for _, c := range t.Clusters {
		if err := l.kubectl(ctx, c.Name, "rollout", "status", "daemonset/overland-agent", "--namespace=overland-system", "--timeout=120s"); err != nil {
			return err
		}
		l.say("cluster %s: Overland runs on every node", c.Name)
	}
	if !link {
		return nil
	}
	return l.linkAll(ctx, status)
}

// replaceProgram puts a program where nodes and images find it; what runs of
// the old one goes on.
func (l *lab) replaceProgram(source, name string) error {
	if _, err := os.Stat(source); err != nil {
		return fmt.Errorf("install %s: %w (`make build` builds it)", name, err)
	}
	target := filepath.Join(l.dir.Bin(), name)
	if err := os.RemoveAll(target + ".new"); err != nil {
		return fmt.Errorf("install %s: %w", name, err)
	}
	if err := copyFile(source, target+".new"); err != nil {
		return err
	}
	if err := os.Rename(target+".new", target); err != nil {
		return fmt.Errorf("install %s: %w", name, err)
	}
	return nil
}

// applyOverland applies the manifests with what is special to the cluster: its
// name and ranges, and a mark of this installation, which makes the agents of
// an earlier one start anew.
func (l *lab) applyOverland(ctx context.Context, c topology.Cluster, manifests string) error {
	dir := filepath.Join(l.dir.Cluster(c.Name), "overland")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	base, err := filepath.Rel(dir, filepath.Join(manifests, "base"))
	if err != nil {
		return fmt.Errorf("find the manifests: %w", err)
	}
	for name, text := range map[string]string{
		"kustomization.yaml": kustomization(base, time.Now().UTC().Format(time.RFC3339Nano)),
		"config.yaml":        configuration(c),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the kustomization of cluster %s: %w", c.Name, err)
		}
	}
	return l.kubectl(ctx, c.Name, "apply", "--server-side", "--force-conflicts", "--kustomize", dir)
}

func kustomization(base, mark string) string {
	return fmt.Sprintf(`resources: [%q]
configMapGenerator:
- name: overland-config
  namespace: overland-system
  behavior: replace
  files: [config.yaml]
patches:
- target: {kind: DaemonSet, name: overland-agent}
  patch: |
    - op: add
      path: /spec/template/metadata/annotations
      value: {lab/installed: %q}
`, base, mark)
}

// configuration is the agents' config.yaml.
func configuration(c topology.Cluster) string {
	pods, nodes := ranges(c)
	return fmt.Sprintf("clusterName: %s\nclusterLabels: {region: %s}\npodCIDRs: [%s]\nnodeCIDRs: [%s]\n",
		c.Name, c.Name, join(pods), join(nodes))
}

// ranges are the cluster's pod ranges, one a node and family, and the range of
// its nodes' own addresses.
func ranges(c topology.Cluster) (pods, nodes []string) {
	prefix := func(a netip.Addr) string {
		bits := 64
		if a.Is4() {
			bits = 24
		}
		return netip.PrefixFrom(a, bits).Masked().String()
	}
	for _, n := range c.Nodes {
		for _, p := range []topology.Range{n.Pods.V4, n.Pods.V6} {
			if p.First.IsValid() {
				pods = append(pods, prefix(p.First))
			}
		}
		for _, a := range topology.Addrs(n.Addresses) {
			if text := prefix(a); !slices.Contains(nodes, text) {
				nodes = append(nodes, text)
			}
		}
	}
	return pods, nodes
}

// join is the elements of a YAML list; an IPv6 range needs the quotes.
func join(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(quoted, ", ")
}

// linkAll links every two clusters with the command that users have. It runs
// beside the first cluster's API server: from the machine itself none can be
// reached.
func (l *lab) linkAll(ctx context.Context, status daemon.Status) error {
	merged := clientcmdapi.NewConfig()
	for _, c := range status.Clusters {
		one, err := clientcmd.LoadFromFile(c.Kubeconfig)
		if err != nil {
			return fmt.Errorf("read the kubeconfig of cluster %s: %w", c.Name, err)
		}
		current := one.Contexts[one.CurrentContext]
		merged.Clusters[c.Name] = one.Clusters[current.Cluster]
		merged.AuthInfos[c.Name] = one.AuthInfos[current.AuthInfo]
		merged.Contexts[c.Name] = &clientcmdapi.Context{Cluster: c.Name, AuthInfo: c.Name}
	}
	path := filepath.Join(string(l.dir), "kubeconfig")
	if err := clientcmd.WriteToFile(*merged, path); err != nil {
		return fmt.Errorf("write the kubeconfig of all clusters: %w", err)
	}
	for i, a := range status.Clusters {
		for _, b := range status.Clusters[i+1:] {
			l.say("linking %s and %s: overland connect %s %s", a.Name, b.Name, a.Name, b.Name)
			if err := l.beside(ctx, a.Name, l.out, "overland", "connect", a.Name, b.Name, "--kubeconfig", path); err != nil {
				return fmt.Errorf("link clusters %s and %s: %w", a.Name, b.Name, err)
			}
		}
	}
	return nil
}

// kubectl runs a command of kubectl for a cluster; what it prints is shown only
// if it fails.
func (l *lab) kubectl(ctx context.Context, cluster string, args ...string) error {
	var out strings.Builder
	kubeconfig := filepath.Join(l.dir.Cluster(cluster), "kubeconfig")
	err := l.beside(ctx, cluster, &out, "kubectl", append([]string{"--kubeconfig", kubeconfig}, args...)...)
	if err != nil {
		return fmt.Errorf("cluster %s: kubectl %s: %w: %s", cluster, args[0], err, strings.TrimSpace(out.String()))
	}
	return nil
}

// beside runs one of the lab's programs in the network namespace of a cluster's
// control plane.
func (l *lab) beside(ctx context.Context, cluster string, out io.Writer, program string, args ...string) error {
	where, err := l.client.NetworkNamespace(cluster + "-cp")
	if err != nil {
		return err
	}
	command := exec.Command(filepath.Join(l.dir.Bin(), program), args...)
	command.Stdout, command.Stderr = out, out
	command.Env = append(os.Environ(), "HOME="+l.dir.Cluster(cluster))
	if err := where.Start(command); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), command.Process.Kill(), <-ended)
	}
}
