package attach

import (
	"context"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
)

const (
	// unseenLimit is how long the API server's answer about a pod counts that no
	// source tells of, though it is in contact: a watch is some milliseconds behind,
	// a list that was interrupted some seconds.
	unseenLimit = time.Minute
	// lookInterval is how often that is looked at though nothing changes.
	lookInterval = 15 * time.Second
	// maxEnded is how many ended attachments are kept at most. Each waits for an
	// API server to hear that the pod has lost its address.
	maxEnded = 4096
)

// Run forgets what has ended, and whose pods sources know by now, until ctx ends.
// It returns nil.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		s, newer := m.agent.Snapshot()
		m.reconcile(s, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-newer:
		case <-tick.C:
		}
	}
}

// reconcile compares the attachments with what an API server says by now.
func (m *Manager) reconcile(s *agent.Snapshot, now time.Time) {
	if !s.InSync {
		return
	}
	local, _ := s.Cluster(m.cfg.Cluster)
	m.mu.Lock()
	defer m.mu.Unlock()
	var kept []*entry
	changed, ended := false, 0
	for _, e := range slices.Backward(m.list) { // newest first
		pod := s.Pods[e.Pod]
		switch {
		case e.Ended && (ended == maxEnded || m.linkless(e.Attachment) && forgotten(e.Attachment, pod)):
			changed = true
			continue
		case e.Ended:
			ended++
		case e.Fact != nil && (succeeded(e.Fact, pod) || pod == nil && local.Status.InContact() && now.Sub(e.since) > unseenLimit):
			known := e.Attachment
			known.Fact = nil
			e, changed = &entry{known, now}, true
			if pod == nil {
				m.log.WithFields(logrus.Fields{"pod": e.Pod.Namespace + "/" + e.Pod.Name}).
					Warn("a connected pod is not one of this node's by the API server: what its link carries is dropped")
			}
		}
		kept = append(kept, e)
	}
	if !changed {
		return
	}
	slices.Reverse(kept)
	m.list = kept
	m.tell()
	if err := m.write(kept); err != nil {
		m.log.WithError(err).Warn("which pods are connected is not remembered")
	}
}

// forgotten tells whether the API server does not give the addresses of an ended
// attachment to its pod any more.
func forgotten(a model.Attachment, pod *model.Endpoint) bool {
	if pod == nil || (pod.UID != a.UID && a.UID != model.UID{}) {
		return true
	}
	for _, addr := range a.Addrs {
		if slices.Contains(pod.Addresses, addr) {
			return false
		}
	}
	return true
}

// succeeded tells whether sources have the pod of a fact, or a later one of its
// name.
func succeeded(fact, pod *model.Endpoint) bool {
	return pod != nil && (pod.UID == fact.UID || pod.Created > fact.Created)
}
