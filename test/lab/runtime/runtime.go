package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/test/lab/ns"
)

// cleanupTimeout bounds what is undone after a failure or a crash. CNI plugins
// wait for locks of the node, so it is generous.
const cleanupTimeout = 30 * time.Second

// Runtime runs the pods of one node. All its methods are safe for concurrent
// use. What it runs does not end with it.
type Runtime struct {
	cfg     Config
	log     *logrus.Entry
	network network
	changed chan struct{}

	mu         sync.Mutex
	sandboxes  map[string]*sandbox
	containers map[string]*container
}

// New makes the runtime of the node that the calling process is in. It takes
// over the sandboxes and containers that an earlier process left running, and
// removes what that one had half made.
func New(cfg Config, log *logrus.Entry) (*Runtime, error) {
	r := &Runtime{
		cfg: cfg, log: log, network: newNetwork(cfg), changed: make(chan struct{}, 1),
		sandboxes: map[string]*sandbox{}, containers: map[string]*container{},
	}
	for _, dir := range []string{r.sandboxDir(""), r.containerDir(""), cfg.LogDir, cfg.NetNSDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("create the runtime's folder: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	if err := r.adoptSandboxes(ctx); err != nil {
		return nil, fmt.Errorf("take over sandboxes: %w", err)
	}
	if err := r.adoptContainers(ctx); err != nil {
		return nil, fmt.Errorf("take over containers: %w", err)
	}
	if err := r.removeStaleLogs(); err != nil {
		return nil, fmt.Errorf("remove stale logs: %w", err)
	}
	known := func(id string) bool { return r.sandboxes[id] != nil }
	if err := r.network.removeStale(ctx, known); err != nil {
		log.WithError(err).Warn("could not remove stale pod networks; tried again at the next start")
	}
	return r, nil
}

// adoptSandboxes reads the records of an earlier process.
func (r *Runtime) adoptSandboxes(ctx context.Context) error {
	entries, err := os.ReadDir(r.sandboxDir(""))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		id := entry.Name()
		record, err := readJSON[sandboxRecord](filepath.Join(r.sandboxDir(id), "sandbox.json"))
		if errors.Is(err, os.ErrNotExist) {
			// Nothing was made before the record.
			if err := os.RemoveAll(r.sandboxDir(id)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		s := &sandbox{rec: record}
		if record.Phase == creating {
			r.log.WithField("sandbox", id).Warn("removing a half-made sandbox")
			if err := r.discard(ctx, s); err != nil {
				// Kept as a stopped one: its owner stops it again.
				r.log.WithError(err).Warn("could not remove a half-made sandbox")
				s.rec.Ready = false
				r.sandboxes[id] = s
			}
			continue
		}
		r.sandboxes[id] = s
	}
	return nil
}

// adoptContainers reads what an earlier process left and watches what runs.
func (r *Runtime) adoptContainers(ctx context.Context) error {
	entries, err := os.ReadDir(r.containerDir(""))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := r.containerDir(entry.Name())
		spec, err := readJSON[containerSpec](filepath.Join(dir, "spec.json"))
		if err == nil && r.sandboxes[spec.SandboxID] != nil {
			err = r.adoptContainer(ctx, spec)
		} else if err == nil {
			err = os.ErrNotExist
		}
		if errors.Is(err, os.ErrNotExist) {
			err = os.RemoveAll(dir) // nothing was started yet
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeStaleLogs removes the logs of containers that are not known: of before
// a reboot, after which nobody else would.
func (r *Runtime) removeStaleLogs() error {
	known := map[string]bool{}
	for _, c := range r.containers {
		known[c.spec.LogPath], known[rotatedLog(c.spec.LogPath)] = true, true
	}
	files, err := filepath.Glob(filepath.Join(r.cfg.LogDir, "*", "*", "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if known[file] {
			continue
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	for _, level := range []string{"*/*", "*"} {
		folders, err := filepath.Glob(filepath.Join(r.cfg.LogDir, level))
		if err != nil {
			return err
		}
		for _, folder := range folders {
			removeEmpty(folder, 1)
		}
	}
	return nil
}

func (r *Runtime) sandboxDir(id string) string { return filepath.Join(r.cfg.Dir, "sandboxes", id) }

func (r *Runtime) containerDir(id string) string { return filepath.Join(r.cfg.Dir, "containers", id) }

// NetworkReady says why no pod network can be made now, or nil: the CNI
// configuration is valid and its plugins are there. The error is an ErrNetwork.
func (r *Runtime) NetworkReady() error {
	_, err := r.network.load()
	return err
}

// CheckImage says why no container of that image can run, or nil. The error is
// an ErrImage.
func (r *Runtime) CheckImage(image string) error {
	_, err := findImage(r.cfg, image)
	return err
}

// Changed has a value when some container exited since the last one was
// received. There is one channel for one receiver.
func (r *Runtime) Changed() <-chan struct{} { return r.changed }

func (r *Runtime) notify() {
	select {
	case r.changed <- struct{}{}:
	default: // the receiver has yet to see the last one
	}
}

// Sandboxes is every sandbox that was not removed, the oldest first.
func (r *Runtime) Sandboxes() []Sandbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Sandbox, 0, len(r.sandboxes))
	for _, s := range r.sandboxes {
		list = append(list, s.snapshot())
	}
	slices.SortFunc(list, func(a, b Sandbox) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return list
}

// Containers is every container that was not removed, the oldest first.
func (r *Runtime) Containers() []Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Container, 0, len(r.containers))
	for _, c := range r.containers {
		list = append(list, c.snapshot())
	}
	slices.SortFunc(list, func(a, b Container) int { return a.StartedAt.Compare(b.StartedAt) })
	return list
}

// Namespaces is where a sandbox's addresses are: only Net is set, and nothing
// for a sandbox on the node's network, where the caller is already.
func (r *Runtime) Namespaces(sandboxID string) (ns.Set, error) {
	s, err := r.findSandbox(sandboxID)
	if err != nil {
		return ns.Set{}, err
	}
	return ns.Net(s.rec.NetNS), nil // never changes
}

func (r *Runtime) findSandbox(id string) (*sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[id]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("sandbox %q: %w", id, ErrNotFound)
}

func (r *Runtime) findContainer(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %q: %w", id, ErrNotFound)
}
