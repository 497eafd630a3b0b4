// Package labtest is what end-to-end tests use of a lab: it brings one up,
// creates objects from YAML and waits for them with a trace that says what was
// seen, sends many probes at once from pods, nodes, control planes or outside,
// runs commands there, and disturbs the lab and heals it when the test ends.
//
// It may import test/lab/topology, test/lab/ns, test/lab/netprobe,
// test/lab/daemon, test/lab/kubeclient and test/lab/state.
package labtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/overland-net/overland/test/lab/daemon"
	"github.com/overland-net/overland/test/lab/kubeclient"
	"github.com/overland-net/overland/test/lab/state"
	"github.com/overland-net/overland/test/lab/topology"
)

// stateVariable names the lab's state folder, as for the lab's own commands.
const stateVariable = "OVERLAND_LAB"

// Lab is a lab that is up. It is safe for concurrent use.
type Lab struct {
	Topology topology.Lab
	Daemon   *daemon.Client
	Clusters []*Cluster // in the topology's order
	dir      state.Dir
}

// Cluster is one cluster of the lab with clients of its API server.
type Cluster struct {
	topology.Cluster
	Config     *rest.Config
	Client     kubernetes.Interface
	Dynamic    dynamic.Interface
	Mapper     meta.ResettableRESTMapper
	Kubeconfig string // a path of the machine
	lab        *Lab
}

// Connect finds the lab in $OVERLAND_LAB and makes clients of its clusters.
func Connect(ctx context.Context) (*Lab, error) {
	dir := os.Getenv(stateVariable)
	if dir == "" {
		return nil, errors.New("find the lab: $" + stateVariable + " is not set to the state folder of one that is up")
	}
	return connect(ctx, dir)
}

func connect(ctx context.Context, dir string) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the lab: %w", err)
	}
	lab := &Lab{dir: state.Dir(dir), Daemon: daemon.NewClient(state.Dir(dir))}
	status, err := lab.Daemon.Status(ctx)
	if err != nil {
		return nil, err
	}
	if status.Phase != daemon.PhaseReady {
		return nil, fmt.Errorf("the lab in %s is not ready but %s", dir, status.Phase)
	}
	lab.Topology = topology.New(status.Options)
	for i, t := range lab.Topology.Clusters {
		c, err := lab.newCluster(t, status.Clusters[i].Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("connect to cluster %s: %w", t.Name, err)
		}
		lab.Clusters = append(lab.Clusters, c)
	}
	return lab, nil
}

func (l *Lab) newCluster(t topology.Cluster, kubeconfig string) (*Cluster, error) {
	where, err := l.Daemon.NetworkNamespace(t.ControlPlane.Namespace)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Cluster: t, Kubeconfig: kubeconfig, lab: l}
	if c.Config, err = kubeclient.Config(kubeconfig, where.Net); err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return nil, err
	}
	c.Client = client
	if c.Dynamic, err = dynamic.NewForConfig(c.Config); err != nil {
		return nil, err
	}
	c.Mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	return c, nil
}

// Cluster is the cluster of that name, or nil.
func (l *Lab) Cluster(name string) *Cluster {
	for _, c := range l.Clusters {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Lab is the lab that the cluster belongs to.
func (c *Cluster) Lab() *Lab { return c.lab }

// Log is the path of a component's log, such as west/kube-apiserver,
// west/node-1/kubelet or daemon.
func (l *Lab) Log(component string) string { return l.dir.Log(component) }

// tail is the last lines of a component's log.
func (l *Lab) tail(component string, lines int) string {
	text, err := os.ReadFile(l.Log(component))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
