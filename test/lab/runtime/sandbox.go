package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/ns"
)

// phase of a sandbox's life, as recorded.
type phase string

const (
	creating phase = "creating" // whatever is there has to be undone
	ready    phase = "ready"
	stopped  phase = "stopped"
)

// sandbox is a pod's namespaces.
type sandbox struct {
	op  sync.Mutex    // held while something of it is started or stopped
	rec sandboxRecord // Phase, Ready, IPs and NetConf change under Runtime.mu
}

// sandboxRecord is what is kept in the sandbox's folder.
type sandboxRecord struct {
	Sandbox
	Config   SandboxConfig
	Hostname string
	UTS, IPC string // where the namespaces are bound; UTS empty on the host network
	NetConf  []byte // the CNI chain that connected it; empty: not connected
	Phase    phase
}

func (s *sandbox) snapshot() Sandbox {
	copied := s.rec.Sandbox
	copied.IPs = slices.Clone(copied.IPs)
	copied.Ready = copied.Ready && isNamespace(s.rec.IPC) && (copied.NetNS == "" || isNamespace(copied.NetNS))
	return copied
}

// RunSandbox makes a pod's namespaces and connects them. On an error nothing
// is left, unless the CNI chain also refuses to take its part back: then a
// sandbox that is not Ready is, and StopSandbox tries again.
func (r *Runtime) RunSandbox(ctx context.Context, c SandboxConfig) (Sandbox, error) {
	s := &sandbox{rec: r.newRecord(c)}
	id := s.rec.ID
	if err := os.MkdirAll(r.sandboxDir(id), 0o755); err != nil {
		return Sandbox{}, fmt.Errorf("create sandbox: %w", err)
	}
	log := r.log.WithField("sandbox", id[:12]).WithField("pod", c.Namespace+"/"+c.Name)
	if err := r.build(ctx, s); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		err = fmt.Errorf("create sandbox of %s/%s: %w", c.Namespace, c.Name, err)
		if undone := r.discard(undo, s); undone != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sandboxes[id] = s
			return Sandbox{}, errors.Join(err, undone)
		}
		return Sandbox{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sandboxes[id] = s
	log.WithField("addresses", s.rec.IPs).Info("sandbox created")
	return s.snapshot(), nil
}

// newRecord plans a sandbox: everything in it is undone by discard.
func (r *Runtime) newRecord(c SandboxConfig) sandboxRecord {
	id := newID()
	rec := sandboxRecord{
		Sandbox: Sandbox{ID: id, Namespace: c.Namespace, Name: c.Name, UID: c.UID, CreatedAt: time.Now()},
		Config:  c, Phase: creating, IPC: filepath.Join(r.sandboxDir(id), "ipc"),
	}
	if c.HostNetwork {
		rec.Hostname, _ = os.Hostname() // cannot fail: it is the kernel's own
		return rec
	}
	rec.Hostname = c.Hostname
	rec.NetNS = filepath.Join(r.cfg.NetNSDir, "cni-"+newUUID())
	rec.UTS = filepath.Join(r.sandboxDir(id), "uts")
	return rec
}

// build does what the record says, which is on disk before anything else is.
func (r *Runtime) build(ctx context.Context, s *sandbox) error {
	connect := s.rec.NetNS != ""
	var chain *libcni.NetworkConfigList
	if connect {
		var err error
		if chain, err = r.network.load(); err != nil {
			return err
		}
		s.rec.NetConf = chain.Bytes
	}
	if err := r.save(s); err != nil {
		return err
	}
	if connect {
		if err := ns.CreateNet(s.rec.NetNS); err != nil {
			return err
		}
	}
	if err := bindNamespaces(s.rec); err != nil {
		return err
	}
	if err := setSysctls(s.rec); err != nil {
		return err
	}
	if connect {
		ips, err := r.network.add(ctx, chain, s.rec)
		if err != nil {
			return err
		}
		s.rec.IPs = ips
	}
	s.rec.Ready, s.rec.Phase = true, ready
	return r.save(s)
}

func (r *Runtime) save(s *sandbox) error {
	return writeJSON(filepath.Join(r.sandboxDir(s.rec.ID), "sandbox.json"), s.rec)
}

// bindNamespaces makes the pod's UTS and IPC namespaces, held by their mounts
// alone: no process has to live for them.
func bindNamespaces(rec sandboxRecord) error {
	flags := unix.CLONE_NEWIPC
	if rec.UTS != "" {
		flags |= unix.CLONE_NEWUTS
	}
	err := ns.Set{}.Do(func() error {
		if err := unix.Unshare(flags); err != nil {
			return err
		}
		if rec.UTS != "" {
			if err := unix.Sethostname([]byte(rec.Hostname)); err != nil {
				return fmt.Errorf("set hostname %q: %w", rec.Hostname, err)
			}
			if err := bindOwn("uts", rec.UTS); err != nil {
				return err
			}
		}
		return bindOwn("ipc", rec.IPC)
	})
	if err != nil {
		return fmt.Errorf("create namespaces of %s: %w", rec.ID, err)
	}
	return nil
}

func bindOwn(kind, path string) error {
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return err
	}
	return unix.Mount("/proc/thread-self/ns/"+kind, path, "", unix.MS_BIND, "")
}

// setSysctls writes the pod's sysctls in its namespaces, after those that
// containerd sets for every pod: any user may bind any port and send pings.
func setSysctls(rec sandboxRecord) error {
	values := map[string]string{}
	if rec.NetNS != "" {
		values["net.ipv4.ip_unprivileged_port_start"] = "0"
		values["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	for name, value := range rec.Config.Sysctls {
		name = strings.ReplaceAll(name, "/", ".")
		inNet := strings.HasPrefix(name, "net.") && rec.NetNS != ""
		inIPC := strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") ||
			strings.HasPrefix(name, "fs.mqueue.") || name == "kernel.sem"
		if strings.Contains(name, "..") || !inNet && !inIPC {
			return fmt.Errorf("set sysctl %s: it does not belong to the pod's own namespaces", name)
		}
		values[name] = value
	}
	return ns.Set{Net: rec.NetNS, IPC: rec.IPC}.Do(func() error {
		for name, value := range values {
			path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
			if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
				return fmt.Errorf("set sysctl %s to %q: %w", name, value, err)
			}
		}
		return nil
	})
}

// StopSandbox kills the sandbox's containers, disconnects it and removes its
// namespaces. It is idempotent. When the CNI chain fails, the sandbox is no
// longer Ready but still connected, and StopSandbox may be called again.
func (r *Runtime) StopSandbox(ctx context.Context, id string) error {
	s, err := r.findSandbox(id)
	if err != nil {
		return err
	}
	s.op.Lock()
	defer s.op.Unlock()
	if s.rec.Phase == stopped {
		return nil
	}
	r.mu.Lock()
	s.rec.Ready = false
	r.mu.Unlock()
	for _, c := range r.containersOf(id) {
		if err := c.stop(ctx, 0); err != nil {
			return fmt.Errorf("stop sandbox %s: %w", id, err)
		}
	}
	if err := r.disconnect(ctx, s); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.rec.Phase = stopped
	r.log.WithField("sandbox", id[:12]).WithField("pod", s.rec.Namespace+"/"+s.rec.Name).Info("sandbox stopped")
	return r.save(s)
}

// disconnect undoes what build did outside the sandbox's folder, in reverse.
func (r *Runtime) disconnect(ctx context.Context, s *sandbox) error {
	if len(s.rec.NetConf) > 0 {
		if err := r.network.remove(ctx, s.rec); err != nil {
			return err
		}
	}
	if s.rec.NetNS != "" {
		if err := ns.DeleteNet(s.rec.NetNS); err != nil {
			return err
		}
	}
	if s.rec.UTS != "" {
		if err := unbind(s.rec.UTS); err != nil {
			return err
		}
	}
	return unbind(s.rec.IPC)
}

// discard removes a sandbox that was never ready.
func (r *Runtime) discard(ctx context.Context, s *sandbox) error {
	if err := r.disconnect(ctx, s); err != nil {
		return err
	}
	return os.RemoveAll(r.sandboxDir(s.rec.ID))
}

// RemoveSandbox stops the sandbox if need be, and forgets it, its containers
// and their logs.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	if err := r.StopSandbox(ctx, id); err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	for _, c := range r.containersOf(id) {
		if err := r.RemoveContainer(c.spec.ID); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sandboxes, id)
	if err := os.RemoveAll(r.sandboxDir(id)); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	return nil
}

// containersOf is the containers of a sandbox, in no order.
func (r *Runtime) containersOf(id string) []*container {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*container
	for _, c := range r.containers {
		if c.spec.SandboxID == id {
			list = append(list, c)
		}
	}
	return list
}
