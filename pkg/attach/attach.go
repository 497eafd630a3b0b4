package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

// The kinds of failures. What is none of them is the node's own trouble, such as
// a disk that is full.
var (
	// ErrConflict: the node is not as the request says.
	ErrConflict = errors.New("the node is not as CNI says")
	// ErrNoPod: there is no such pod.
	ErrNoPod = errors.New("there is no such pod")
	// ErrNotEnforced: the kernel could not be made to enforce it in time.
	ErrNotEnforced = errors.New("not enforced")
)

// Agent is the agent's part: see agent.Agent.
type Agent interface {
	Snapshot() (*agent.Snapshot, <-chan struct{})
	Attachments(list []model.Attachment)
}

// Enforcer says what is in force. Changed is closed when Status may say something
// new, compared to what it says after the call.
type Enforcer interface {
	Status() dataplane.Status
	Changed() <-chan struct{}
	// Ready is why nothing is enforced yet; nil once it is.
	Ready() error
}

// Config is what a Manager is told.
type Config struct {
	Cluster, Node string // the local cluster's name, and this node's
	// File is where attachments are remembered, BootID that of this boot: none
	// outlives it. An empty File: they are not.
	File, BootID string
	// Find is the interface with that index as the kernel has it: node.Find.
	Find func(index int) (model.Interface, bool, error)
	// Pod asks the API server for one pod, and for the uid of the static pod that
	// it stands for, if it does. The error wraps ErrNoPod if there is none.
	Pod func(ctx context.Context, namespace, name string) (pod *model.Endpoint, static model.UID, err error)
}

// Request is an ADD, or a CHECK, of CNI.
type Request struct {
	ContainerID, IfName string
	Namespace, Pod      string
	UID                 model.UID // none: not told
	Index               int       // of the node's end
	Addrs               []netip.Addr
}

// Manager keeps the attachments of this node. Its methods may be called from any
// goroutine.
type Manager struct {
	cfg     Config
	agent   Agent
	enforce Enforcer // nil: nothing is enforced on this node
	log     *logrus.Entry

	mu    sync.Mutex
	list  []*entry
	order uint64
	links []model.Interface // as last told; nil: not yet
}

// entry is an attachment and since when it has not changed.
type entry struct {
	model.Attachment
	since time.Time
}

// NewManager reads what is remembered of this boot, and tells the agent of it. An
// error with a Manager: what was remembered is lost; it is good all the same, but
// pods that no API server has the address of are dropped.
func NewManager(cfg Config, ag Agent, enforce Enforcer, log *logrus.Entry) (*Manager, error) {
	m := &Manager{cfg: cfg, agent: ag, enforce: enforce, log: log}
	found, err := read(cfg.File, cfg.BootID)
	now := time.Now()
	for _, a := range found {
		a.Pod.Cluster = cfg.Cluster
		m.list = append(m.list, &entry{a, now})
		m.order = max(m.order, a.Order)
	}
	m.tell()
	return m, err
}

// Add takes a pod that CNI has connected, and returns when the kernel enforces
// what policies say of it, or when ctx ends: with ErrNotEnforced then. Asked again
// it is the same.
func (m *Manager) Add(ctx context.Context, r Request) error {
	link, err := m.check(r)
	if err != nil {
		return err
	}
	a := model.Attachment{
		ContainerID: r.ContainerID, IfName: r.IfName, Pod: model.PodKey(m.cfg.Cluster, r.Namespace, r.Pod),
		Interface: link.Name, Index: link.Index, Addrs: link.Addrs,
	}
	if a.UID, a.Fact, err = m.pod(ctx, r); err != nil {
		return err
	}
	if err := m.put(a); err != nil {
		return err
	}
	return m.enforced(ctx, a)
}

// check compares what CNI says with the kernel, and gives what that has.
func (m *Manager) check(r Request) (model.Interface, error) {
	want := policy.InterfaceName(r.Namespace, r.Pod)
	link, there, err := m.cfg.Find(r.Index)
	switch {
	case err != nil:
		return model.Interface{}, fmt.Errorf("look at interface %d of the node: %w", r.Index, err)
	case !there:
		return model.Interface{}, fmt.Errorf("%w: it has no pod interface with index %d: %s is expected, as azure-vnet makes it in transparent mode", ErrConflict, r.Index, want)
	case link.Name != want:
		return model.Interface{}, fmt.Errorf("%w: interface %d is %s: %s is expected for pod %s/%s", ErrConflict, r.Index, link.Name, want, r.Namespace, r.Pod)
	case len(r.Addrs) == 0:
		return model.Interface{}, fmt.Errorf("%w: the previous result gives pod %s/%s no address", ErrConflict, r.Namespace, r.Pod)
	}
	for _, a := range r.Addrs {
		if !slices.Contains(link.Addrs, a) {
			return model.Interface{}, fmt.Errorf("%w: address %s of pod %s/%s is not routed to its interface %s: a host route is expected", ErrConflict, a, r.Namespace, r.Pod, link.Name)
		}
	}
	link.Addrs = slices.SortedFunc(slices.Values(r.Addrs), netip.Addr.Compare)
	return link, nil
}

// put takes an attachment into the list, on the disk too, and tells the agent.
func (m *Manager) put(a model.Attachment) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.list, func(e *entry) bool { return e.ContainerID == a.ContainerID && e.IfName == a.IfName })
	if i >= 0 && same(m.list[i].Attachment, a) {
		return nil
	}
	m.order++
	a.Order = m.order
	list := slices.Clone(m.list)
	if i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	list = append(list, &entry{a, time.Now()})
	if err := m.write(list); err != nil {
		return err
	}
	m.list = list
	m.tell()
	m.log.WithFields(logrus.Fields{
		"pod": a.Pod.Namespace + "/" + a.Pod.Name, "interface": a.Interface, "addresses": a.Addrs,
	}).Info("a pod is connected")
	return nil
}

// same compares but for the order and the fact.
func same(a, b model.Attachment) bool {
	return a.Pod == b.Pod && a.UID == b.UID && a.Interface == b.Interface && a.Index == b.Index && a.Ended == b.Ended && slices.Equal(a.Addrs, b.Addrs)
}

// Delete ends an attachment: the pod's peers do not know its addresses any more.
// What its link may carry stays as it is until that is gone. It is fine if there
// is none.
func (m *Manager) Delete(containerID, ifName string) error {
	return m.end(func(a model.Attachment) bool { return a.ContainerID == containerID && a.IfName == ifName })
}

// Collect ends all attachments but those for which valid is true.
func (m *Manager) Collect(valid func(containerID, ifName string) bool) error {
	return m.end(func(a model.Attachment) bool { return !valid(a.ContainerID, a.IfName) })
}

// Interfaces takes which pod interfaces the node has: see node.Watcher.
func (m *Manager) Interfaces(list []model.Interface) {
	var gone []model.Attachment
	m.mu.Lock()
	m.links = list
	if list == nil {
		m.links = []model.Interface{}
	}
	for _, e := range m.list {
		if !e.Ended && m.linkless(e.Attachment) {
			gone = append(gone, e.Attachment)
		}
	}
	m.mu.Unlock()
	// The list may be older than an ADD: the kernel is asked.
	gone = slices.DeleteFunc(gone, func(a model.Attachment) bool {
		link, there, err := m.cfg.Find(a.Index)
		return err != nil || there && link.Name == a.Interface
	})
	if len(gone) == 0 {
		return
	}
	if err := m.end(func(a model.Attachment) bool {
		return slices.ContainsFunc(gone, func(g model.Attachment) bool { return g.Order == a.Order })
	}); err != nil {
		m.log.WithError(err).Warn("that links of pods are gone is not remembered")
	}
}

// linkless tells whether the link of an attachment is gone. It is called with the
// lock held.
func (m *Manager) linkless(a model.Attachment) bool {
	return m.links != nil && !slices.ContainsFunc(m.links, func(l model.Interface) bool { return l.Name == a.Interface && l.Index == a.Index })
}

// end ends the attachments that are said to be over. It does so also if that
// cannot be written down: after a restart their links tell.
func (m *Manager) end(over func(model.Attachment) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for i, e := range m.list {
		if e.Ended || !over(e.Attachment) {
			continue
		}
		now := e.Attachment
		now.Ended, changed = true, true
		m.list[i] = &entry{now, time.Now()}
		m.log.WithFields(logrus.Fields{"pod": now.Pod.Namespace + "/" + now.Pod.Name, "interface": now.Interface}).Info("a pod is not connected any more")
	}
	if !changed {
		return nil
	}
	m.tell()
	return m.write(m.list)
}

// tell hands the whole list to the agent. It is called with the lock held, so that
// the newest comes last.
func (m *Manager) tell() {
	list := make([]model.Attachment, 0, len(m.list))
	for _, e := range m.list {
		list = append(list, e.Attachment)
	}
	slices.SortFunc(list, func(a, b model.Attachment) int { return cmp.Compare(a.Order, b.Order) })
	m.agent.Attachments(list)
}

// write remembers a list. It is called with the lock held.
func (m *Manager) write(list []*entry) error {
	if m.cfg.File == "" {
		return nil
	}
	all := make([]model.Attachment, 0, len(list))
	for _, e := range list {
		all = append(all, e.Attachment)
	}
	return write(m.cfg.File, m.cfg.BootID, all)
}

// Count is how many attachments have not ended.
func (m *Manager) Count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, e := range m.list {
		if !e.Ended {
			n++
		}
	}
	return n
}
