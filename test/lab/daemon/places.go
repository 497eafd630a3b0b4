package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/topology"
)

// root is the lab's root folder as the machine sees it: by way of the lab's
// first process.
func (c *Client) root() (string, error) {
	p, ok, err := c.dir.Recorded()
	if err != nil {
		return "", err
	}
	if !ok || !p.Alive() {
		return "", fmt.Errorf("no lab is up in %s", c.dir)
	}
	return filepath.Join("/proc", strconv.Itoa(p.PID), "root"), nil
}

// NetworkNamespace is a network namespace of the lab by its name, for processes
// of the machine. A process started there belongs to the lab and ends with it.
func (c *Client) NetworkNamespace(name string) (ns.Set, error) {
	root, err := c.root()
	if err != nil {
		return ns.Set{}, err
	}
	path := filepath.Join(root, netnsDir, name)
	if _, err := os.Stat(path); err != nil {
		return ns.Set{}, fmt.Errorf("no network namespace %q in this lab: %w", name, err)
	}
	return ns.Set{Net: path, PID: filepath.Join(root, "proc/1/ns/pid")}, nil
}

// NodeNamespaces is all namespaces of a node, named CLUSTER/NODE.
func (c *Client) NodeNamespaces(ctx context.Context, path string) (ns.Set, error) {
	status, err := c.Status(ctx)
	if err != nil {
		return ns.Set{}, err
	}
	want, err := topology.New(status.Options).Node(path)
	if err != nil {
		return ns.Set{}, err
	}
	root, err := c.root()
	if err != nil {
		return ns.Set{}, err
	}
	for _, cluster := range status.Clusters {
		for _, n := range cluster.Nodes {
			if cluster.Name == want.Cluster && n.Name == want.Name && n.PID != 0 {
				return ns.OfProcess(filepath.Join(root, "proc"), n.PID), nil
			}
		}
	}
	return ns.Set{}, fmt.Errorf("node %s is down", path)
}
