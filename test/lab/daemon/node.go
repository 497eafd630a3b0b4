package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/overland-net/overland/test/lab/control"
	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/topology"
)

// node is one node: its first process, which holds its namespaces, and the
// programs that run on it.
type node struct {
	topology.Node
	daemon  *Daemon
	cluster *control.Cluster
	dir     string

	rebooting sync.Mutex // one reboot at a time

	mu        sync.Mutex
	init      *exec.Cmd // nil while the node is down
	kubelet   *component
	kubeProxy *component
}

func (d *Daemon) newNode(c *control.Cluster, t topology.Node) *node {
	n := &node{Node: t, daemon: d, cluster: c, dir: d.dir.Node(t.Cluster, t.Name)}
	n.kubelet = n.newComponent("kubelet", c.Kubelet(), "lab", "kubelet")
	proxy := c.KubeProxy(t)
	n.kubeProxy = n.newComponent(proxy.Name, proxy, "kube-proxy")
	return n
}

func (n *node) newComponent(name string, p control.Process, program ...string) *component {
	full := n.Path() + "/" + name
	argv := append([]string{filepath.Join(nodeBin, program[0])}, program[1:]...)
	return &component{
		name: full, healthz: p.Healthz, guarded: p.Guarded, argv: append(argv, p.Args...),
		env: []string{
			"PATH=" + nodeBin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"HOME=/root", "NODE_NAME=" + n.Name,
		},
		logPath: n.daemon.dir.Log(full), log: n.daemon.log.WithField("component", full),
	}
}

func (n *node) components() []*component { return []*component{n.kubelet, n.kubeProxy} }

// bootNode wires a node to the network and starts its first process.
func (d *Daemon) bootNode(n *node) error {
	if err := n.writeFiles(); err != nil {
		return fmt.Errorf("node %s: %w", n.Path(), err)
	}
	d.building.Lock()
	err := d.fabric.AttachNode(n.Node)
	d.building.Unlock()
	if err != nil {
		return err
	}
	return n.boot()
}

func (n *node) boot() error {
	if err := os.WriteFile(n.bootIDFile(), []byte(newBootID()+"\n"), 0o644); err != nil {
		return fmt.Errorf("node %s: %w", n.Path(), err)
	}
	root, err := n.root()
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Path(), err)
	}
	net := ns.Net(n.daemon.fabric.Path(n.Namespace))
	spec := initSpec{Hostname: n.Name, Root: &root}
	cmd, err := startInit(filepath.Join(n.daemon.dir.Bin(), "lab"), spec, net, os.Stdout)
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Path(), err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.init = cmd
	for _, c := range n.components() {
		c.place(ns.OfProcess("/proc", cmd.Process.Pid))
	}
	return nil
}

// startPrograms starts what runs on the node. With first, the other program
// waits until kube-proxy has written its rules, or until the kubelet has every
// host-network pod ready; if that does not come about in time, it is started
// all the same and the error says so.
func (n *node) startPrograms(ctx context.Context, first string) error {
	order, wait := []*component{n.kubeProxy, n.kubelet}, n.awaitServiceRules
	switch first {
	case FirstAgent:
		order, wait = []*component{n.kubelet, n.kubeProxy}, n.awaitHostPods
	case "":
		wait = func(context.Context) error { return nil }
	}
	if err := order[0].start(); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	waited := wait(limit)
	return errors.Join(waited, order[1].start())
}

// orderTimeout bounds the wait for the program that is to be first.
const orderTimeout = 30 * time.Second

// awaitServiceRules waits until kube-proxy has written the rules of the API
// server's Service. A pod that calls it before would go on sending to nowhere
// until it gives up, after half a minute. Health endpoints do not tell: they are
// content before the first rules, too.
func (n *node) awaitServiceRules(ctx context.Context) error {
	n.mu.Lock()
	where := ns.OfProcess("/proc", n.init.Process.Pid)
	n.mu.Unlock()
	rule := "-A KUBE-SERVICES -d " + n.cluster.APIService.String() + "/32 "
	for {
		var out bytes.Buffer
		// By its name on the node, which decides the backend.
		cmd := exec.Command("/usr/sbin/iptables-save", "-t", "nat")
		cmd.Stdout, cmd.Dir = &out, "/"
		err := where.Start(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		if err == nil && strings.Contains(out.String(), rule) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s: kube-proxy has not written its rules: %w", n.Path(), errors.Join(ctx.Err(), err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// awaitHostPods waits until the kubelet answers and every host-network pod of
// the node, an agent's among them, has become ready since.
func (n *node) awaitHostPods(ctx context.Context) error {
	since := time.Now()
	if err := n.kubelet.healthy(ctx); err != nil {
		return err
	}
	client, err := n.daemon.client(n.cluster.Cluster)
	if err != nil {
		return err
	}
	for {
		ready, err := hostPodsRunning(ctx, client, n.Name, since)
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s: its host-network pods are not ready: %w", n.Path(), errors.Join(ctx.Err(), err))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// reboot ends everything on the node at once, as a power cut does, and starts
// it again with new namespaces and a new boot id. What is under /etc, /opt and
// /var stays.
func (n *node) reboot(ctx context.Context, first string) error {
	for _, c := range n.components() {
		if err := c.stop(0); err != nil {
			return err
		}
	}
	n.shutDown()
	d := n.daemon
	d.building.Lock()
	err := d.fabric.DetachNode(n.Node)
	if err == nil {
		err = d.fabric.AttachNode(n.Node)
	}
	d.building.Unlock()
	if err != nil {
		return err
	}
	if err := n.boot(); err != nil {
		return err
	}
	return n.startPrograms(ctx, first)
}

// shutDown kills the node's first process, and with it the kernel ends every
// process of the node and of its pods, and drops its mounts: its bpffs too, so
// that what is pinned there does not outlive the network namespace.
func (n *node) shutDown() {
	n.mu.Lock()
	cmd := n.init
	n.init = nil
	n.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill() // it may be gone already
	_ = cmd.Wait()         // its status is that of a killed process
}

func (n *node) bootIDFile() string { return filepath.Join(n.dir, "boot-id") }

func (n *node) status() NodeStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := NodeStatus{Name: n.Name}
	for _, a := range topology.Addrs(n.Addresses) {
		s.Addresses = append(s.Addresses, a.String())
	}
	if n.init != nil {
		s.PID = n.init.Process.Pid
	}
	// An unreadable file shows as an empty id.
	text, _ := os.ReadFile(n.bootIDFile())
	s.BootID = strings.TrimSpace(string(text))
	for _, c := range n.components() {
		s.Components = append(s.Components, c.status())
	}
	return s
}

// newBootID makes a random id of the form of the kernel's.
func newBootID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
