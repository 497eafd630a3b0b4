package agent

import (
	"sync"

	"github.com/overland-net/overland/pkg/model"
)

// mailbox is where sources leave what they learn until the loop takes it. It is
// bounded by the number of distinct keys, not of calls. Its lock is the only one
// of the package, and held for as long as maps take to fill.
type mailbox struct {
	// filled has one token while there is mail that was not looked at.
	filled chan struct{}

	mu   sync.Mutex
	sort *sorter
	// interfaces are the newest that were told; nil if none were since the last
	// step.
	interfaces []model.Interface
	// attachments, likewise.
	attachments []model.Attachment
}

func newMailbox(local string) *mailbox {
	return &mailbox{filled: make(chan struct{}, 1), sort: newSorter(local)}
}

func (m *mailbox) facts(b model.Batch) {
	p := m.sort.pack(b) // reads only what never changes
	m.do(func(s *sorter) { s.put(p) })
}

func (m *mailbox) status(cluster string, status model.ClusterStatus) {
	m.do(func(s *sorter) { s.status(cluster, status) })
}

func (m *mailbox) drain(cluster string) {
	m.do(func(s *sorter) { s.of(cluster).drain() })
}

func (m *mailbox) know(cluster string, uid model.UID) {
	m.do(func(s *sorter) { s.know(cluster, uid) })
}

func (m *mailbox) take(hold func(cluster string, m *Mail) bool) (mail map[string]*Mail, listed map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sort.take(hold)
}

// tell takes the whole truth about interfaces.
func (m *mailbox) tell(interfaces []model.Interface) {
	if interfaces == nil {
		interfaces = []model.Interface{}
	}
	m.mu.Lock()
	m.interfaces = interfaces
	m.mu.Unlock()
	m.wake()
}

// attach takes the whole truth about attachments.
func (m *mailbox) attach(attachments []model.Attachment) {
	if attachments == nil {
		attachments = []model.Attachment{}
	}
	m.mu.Lock()
	m.attachments = attachments
	m.mu.Unlock()
	m.wake()
}

func (m *mailbox) takeAttachments() []model.Attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.attachments
	m.attachments = nil
	return taken
}

func (m *mailbox) takeInterfaces() []model.Interface {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.interfaces
	m.interfaces = nil
	return taken
}

func (m *mailbox) do(f func(*sorter)) {
	m.mu.Lock()
	f(m.sort)
	m.mu.Unlock()
	m.wake()
}

// wake makes the loop look, without mail.
func (m *mailbox) wake() {
	select {
	case m.filled <- struct{}{}:
	default:
	}
}
