package attach

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

func uid(n byte) model.UID { return model.UID{15: n} }

// machine is a node: a real agent, and what the kernel and the API server would
// say to it.
type machine struct {
	t    *testing.T
	dir  string
	boot string

	agent   *agent.Agent
	manager *Manager
	stop    func()

	telling sync.Mutex

	mu     sync.Mutex
	links  []model.Interface
	api    map[string]*model.Endpoint
	mirror map[string]model.UID
	down   error
	asked  int
	// Of the dataplane.
	held    bool // it does not apply anything new
	applied uint64
	failing string
	changed chan struct{}
}

func newMachine(t *testing.T) *machine {
	m := &machine{
		t: t, dir: t.TempDir(), boot: "boot-1", api: map[string]*model.Endpoint{}, mirror: map[string]model.UID{}, changed: make(chan struct{}),
	}
	m.start()
	t.Cleanup(func() { m.stop() })
	return m
}

// start starts an agent that knows nothing but what the disk has.
func (m *machine) start() *machine {
	m.t.Helper()
	m.agent = agent.New(agent.Config{Cluster: "west", Node: "node-1", Protected: true, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, nil, quiet())
	var err error
	m.manager, err = NewManager(Config{
		Cluster: "west", Node: "node-1", File: filepath.Join(m.dir, FileName), BootID: m.boot, Find: m.find, Pod: m.pod,
	}, m.agent, m, quiet())
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = m.agent.Run(ctx) })
	running.Go(func() { _ = m.manager.Run(ctx) })
	running.Go(func() { m.apply(ctx) })
	m.stop = func() { cancel(); running.Wait() }
	return m
}

// apply is a dataplane in which everything is in force at once.
func (m *machine) apply(ctx context.Context) {
	for ctx.Err() == nil {
		s, newer := m.agent.Snapshot()
		m.mu.Lock()
		if s.Desired != nil && !m.held && m.applied != s.Desired.Gen {
			m.applied = s.Desired.Gen
			close(m.changed)
			m.changed = make(chan struct{})
		}
		m.mu.Unlock()
		select {
		case <-newer:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (m *machine) do(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// Status, Changed and Ready make a machine an Enforcer.
func (m *machine) Status() dataplane.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return dataplane.Status{Applied: m.applied, Error: m.failing}
}

func (m *machine) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *machine) Ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing != "" {
		return fmt.Errorf("%s", m.failing)
	}
	return nil
}

func (m *machine) find(index int) (model.Interface, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		if l.Index == index {
			return l, true, nil
		}
	}
	return model.Interface{}, false, nil
}

func (m *machine) pod(_ context.Context, namespace, name string) (*model.Endpoint, model.UID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.down != nil {
		return nil, model.UID{}, m.down
	}
	e := m.api[namespace+"/"+name]
	if e == nil {
		return nil, model.UID{}, fmt.Errorf("%w: so says the API server", ErrNoPod)
	}
	return e, m.mirror[namespace+"/"+name], nil
}

// link makes the node's end of a pod's link, in place of one of that name, and
// tells the agent.
func (m *machine) link(pod string, index int, addrs ...string) {
	namespace, name, _ := strings.Cut(pod, "/")
	l := model.Interface{Name: policy.InterfaceName(namespace, name), Index: index}
	for _, a := range addrs {
		l.Addrs = append(l.Addrs, netip.MustParseAddr(a))
	}
	m.do(func() {
		m.links = slices.DeleteFunc(m.links, func(o model.Interface) bool { return o.Name == l.Name })
		m.links = append(m.links, l)
		slices.SortFunc(m.links, func(a, b model.Interface) int { return strings.Compare(a.Name, b.Name) })
	})
	m.tell()
}

func (m *machine) unlink(index int) {
	m.do(func() { m.links = slices.DeleteFunc(m.links, func(o model.Interface) bool { return o.Index == index }) })
	m.tell()
}

// tell delivers in the order in which things happened, as a node.Watcher does.
func (m *machine) tell() {
	m.telling.Lock()
	defer m.telling.Unlock()
	var links []model.Interface
	m.do(func() { links = slices.Clone(m.links) })
	m.manager.Interfaces(links)
	m.agent.Interfaces(links)
}

// sync lists the local cluster: namespace demo, and these pods.
func (m *machine) sync(pods ...*model.Endpoint) {
	m.agent.Facts(model.Batch{Cluster: "west", Replace: model.KindNode})
	m.agent.Facts(model.Batch{Cluster: "west", Replace: model.KindPolicy})
	m.agent.Facts(model.Batch{Cluster: "west", Replace: model.KindNamespace, Changes: []model.Change{
		model.Set(&model.Namespace{Key: model.NamespaceKey("west", "demo")}),
	}})
	m.list(pods...)
	m.agent.Status("west", model.ClusterStatus{State: model.StateInSync, LastContact: time.Now()})
	m.tell()
	m.eventually("in sync", func(s *agent.Snapshot) bool { return s.InSync && s.Desired != nil })
}

// list is all pods that the API server tells of.
func (m *machine) list(pods ...*model.Endpoint) {
	b := model.Batch{Cluster: "west", Replace: model.KindPod}
	for _, p := range pods {
		b.Changes = append(b.Changes, model.Set(p))
	}
	m.agent.Facts(b)
}

func (m *machine) eventually(what string, is func(*agent.Snapshot) bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := m.manager.until(ctx, is); err != nil {
		m.t.Fatalf("%s: it is not", what)
	}
}

// knows tells whether peers know a pod by this address.
func knows(pod, address string) func(*agent.Snapshot) bool {
	namespace, name, _ := strings.Cut(pod, "/")
	return func(s *agent.Snapshot) bool {
		e, ok := s.View.Endpoint(model.PodKey("west", namespace, name))
		return ok && slices.Contains(e.Addresses, netip.MustParseAddr(address))
	}
}

func knowsNot(pod, address string) func(*agent.Snapshot) bool {
	is := knows(pod, address)
	return func(s *agent.Snapshot) bool { return !is(s) }
}

func starting(name string, id byte, addrs ...string) *model.Endpoint {
	e := &model.Endpoint{Key: model.PodKey("west", "demo", name), UID: uid(id), Node: "node-1", Created: int64(id)}
	for _, a := range addrs {
		e.Addresses = append(e.Addresses, netip.MustParseAddr(a))
	}
	return e
}

func request(container, name string, id byte, index int, addrs ...string) Request {
	r := Request{ContainerID: container, IfName: "eth0", Namespace: "demo", Pod: name, UID: uid(id), Index: index}
	for _, a := range addrs {
		r.Addrs = append(r.Addrs, netip.MustParseAddr(a))
	}
	return r
}

// add is an ADD that may take this long.
func (m *machine) add(r Request, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return m.manager.Add(ctx, r)
}

func (m *machine) mustAdd(r Request) {
	m.t.Helper()
	if err := m.add(r, 20*time.Second); err != nil {
		m.t.Fatal(err)
	}
}
