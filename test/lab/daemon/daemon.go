package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/overland-net/overland/test/lab/control"
	"github.com/overland-net/overland/test/lab/fabric"
	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/state"
	"github.com/overland-net/overland/test/lab/topology"
)

// Role is the first argument by which the lab's program is told to be the
// daemon.
const Role = "daemon"

// upTimeout bounds the whole start; a busy machine needs a minute.
const upTimeout = 5 * time.Minute

// netnsDir is where network namespaces are named, in the lab's own mount
// namespace.
const netnsDir = "/run/netns"

// Daemon holds a lab. One goroutine brings it up; requests are served
// meanwhile.
type Daemon struct {
	dir   state.Dir
	lab   topology.Lab
	began time.Time
	log   *logrus.Entry

	// building orders what changes the network and the nodes.
	building sync.Mutex
	fabric   *fabric.Fabric

	mu       sync.Mutex
	phase    string
	doing    string
	failure  error
	took     time.Duration
	clusters map[string]*cluster
}

// cluster is what runs of one cluster.
type cluster struct {
	*control.Cluster
	components []*component
	nodes      map[string]*node
}

// Main is the daemon's role: it runs until it is killed. If it returns, it has
// failed, and the lab ends; it returns the exit status of the process.
func Main(dir state.Dir) int {
	logger := logrus.New()
	logger.SetOutput(os.Stdout)
	logger.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	log := logrus.NewEntry(logger)
	log.WithError(run(dir, log)).Error("the lab's daemon ends")
	return 1
}

// run serves until it cannot any more, and says why.
func run(dir state.Dir, log *logrus.Entry) error {
	options, err := readOptions(dir)
	if err != nil {
		return err
	}
	d := &Daemon{
		dir: dir, lab: topology.New(options), began: time.Now(), log: log,
		phase: PhaseStarting, clusters: map[string]*cluster{},
	}
	d.fabric = fabric.New(netnsDir, d.lab)
	listener, err := listen(dir)
	if err != nil {
		return err
	}
	go d.up()
	return d.serve(listener)
}

func readOptions(dir state.Dir) (topology.Options, error) {
	var options topology.Options
	text, err := os.ReadFile(dir.Options())
	if err != nil {
		return options, fmt.Errorf("read the lab's options: %w", err)
	}
	if err := json.Unmarshal(text, &options); err != nil {
		return options, fmt.Errorf("read the lab's options %s: %w", dir.Options(), err)
	}
	return options, options.Validate()
}

// up brings the lab up and notes how that went.
func (d *Daemon) up() {
	ctx, cancel := context.WithTimeout(context.Background(), upTimeout)
	defer cancel()
	err := d.bringUp(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took, d.doing = time.Since(d.began), ""
	if err != nil {
		d.phase, d.failure = PhaseFailed, err
		d.log.WithError(err).Error("the lab did not come up")
		return
	}
	d.phase = PhaseReady
	d.log.WithField("took", d.took.String()).Info("the lab is up")
}

func (d *Daemon) step(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doing = text
	d.log.Info(text)
}

func (d *Daemon) bringUp(ctx context.Context) error {
	d.step("building the network")
	d.building.Lock()
	err := d.fabric.Build()
	d.building.Unlock()
	if err != nil {
		return fmt.Errorf("build the network: %w", err)
	}
	d.step("starting the control planes")
	group, inner := errgroup.WithContext(ctx)
	for _, c := range d.lab.Clusters {
		group.Go(func() error { return d.startCluster(inner, c) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	d.step("waiting for nodes and DNS")
	group, inner = errgroup.WithContext(ctx)
	for _, c := range d.lab.Clusters {
		group.Go(func() error { return d.awaitReady(inner, c) })
	}
	return group.Wait()
}

// startCluster starts a cluster's control plane and, as soon as its API server
// answers, its nodes.
func (d *Daemon) startCluster(ctx context.Context, t topology.Cluster) error {
	made, err := control.New(d.lab, t, d.dir.Cluster(t.Name))
	if err != nil {
		return err
	}
	c := &cluster{Cluster: made, nodes: map[string]*node{}}
	for _, p := range made.Processes() {
		c.components = append(c.components, d.controlComponent(t, p))
	}
	for _, tn := range t.Nodes {
		c.nodes[tn.Name] = d.newNode(made, tn)
	}
	d.mu.Lock()
	d.clusters[t.Name] = c
	d.mu.Unlock()
	// Nodes are built while the API server starts: their programs find it when
	// it answers.
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return d.startControlPlane(inner, c) })
	for _, n := range c.nodes {
		group.Go(func() error { return d.bootNode(n) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	group, inner = errgroup.WithContext(ctx)
	for _, n := range c.nodes {
		group.Go(func() error {
			if err := n.startPrograms(inner, ""); err != nil {
				return err
			}
			return n.openNetwork(inner)
		})
	}
	return group.Wait()
}

func (d *Daemon) startControlPlane(ctx context.Context, c *cluster) error {
	for i, component := range c.components {
		if err := component.start(); err != nil {
			return err
		}
		// etcd and the API server are what the others need.
		if i < 2 {
			if err := component.healthy(ctx); err != nil {
				return err
			}
		}
	}
	return d.applyAddons(ctx, c)
}

func (d *Daemon) controlComponent(t topology.Cluster, p control.Process) *component {
	name := t.Name + "/" + p.Name
	return &component{
		name: name, healthz: p.Healthz,
		argv:    append([]string{filepath.Join(d.dir.Bin(), p.Name)}, p.Args...),
		env:     []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + d.dir.Cluster(t.Name)},
		where:   ns.Net(d.fabric.Path(t.ControlPlane.Namespace)),
		logPath: d.dir.Log(name), log: d.log.WithField("component", name),
	}
}

// component finds a component by name: CLUSTER/PROGRAM or CLUSTER/NODE/PROGRAM.
func (d *Daemon) component(name string) (*component, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for _, c := range d.clusters {
		all := c.components
		for _, n := range c.nodes {
			all = append(all, n.components()...)
		}
		for _, component := range all {
			if component.name == name {
				return component, nil
			}
			names = append(names, component.name)
		}
	}
	return nil, fmt.Errorf("no component %q; there are %s", name, joinSorted(names))
}

// node finds a node by CLUSTER/NODE.
func (d *Daemon) node(path string) (*node, error) {
	t, err := d.lab.Node(path)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.clusters[t.Cluster]
	if !ok {
		return nil, errors.New("the lab is still starting")
	}
	return c.nodes[t.Name], nil
}
