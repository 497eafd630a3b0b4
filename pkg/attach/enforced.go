package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
)

// lookAgain is how often it is looked at what is in force though nothing is told.
const lookAgain = 100 * time.Millisecond

// pod waits until the local cluster is known, and makes sure that the pod is: by
// what sources say or, if these do not have it yet, by asking the API server, whose
// word it gives then. The uid is the API server's: a runtime gives that of a static
// pod, for which the API server has another one.
func (m *Manager) pod(ctx context.Context, r Request) (model.UID, *model.Endpoint, error) {
	key := model.PodKey(m.cfg.Cluster, r.Namespace, r.Pod)
	name := r.Namespace + "/" + r.Pod
	snapshot, err := m.until(ctx, func(s *agent.Snapshot) bool { return s.InSync })
	if err != nil {
		return model.UID{}, nil, fmt.Errorf("%w: the agent does not know the local cluster yet: its API server is not reached, and this node has no memory of it", ErrNotEnforced)
	}
	known, there := snapshot.Pods[key]
	if there && (known.UID == r.UID || r.UID == model.UID{}) {
		return known.UID, nil, nil
	}
	asked, static, err := m.cfg.Pod(ctx, r.Namespace, r.Pod)
	switch {
	case errors.Is(err, ErrNoPod):
		return model.UID{}, nil, fmt.Errorf("pod %s: %w", name, ErrNoPod)
	case err != nil && there:
		return model.UID{}, nil, fmt.Errorf("%w: pod %s is known with uid %s and not %s, and the API server cannot be asked: %w", ErrNotEnforced, name, known.UID, r.UID, err)
	case err != nil:
		return model.UID{}, nil, fmt.Errorf("%w: pod %s is not known, and the API server cannot be asked: %w", ErrNotEnforced, name, err)
	case asked.UID != r.UID && static != r.UID && r.UID != model.UID{}:
		return model.UID{}, nil, fmt.Errorf("pod %s has uid %s now, and not %s: %w", name, asked.UID, r.UID, ErrNoPod)
	case asked.Node != m.cfg.Node:
		return model.UID{}, nil, fmt.Errorf("%w: pod %s is one of node %q, and not of %q", ErrConflict, name, asked.Node, m.cfg.Node)
	}
	if there && known.UID == asked.UID {
		return asked.UID, nil, nil
	}
	return asked.UID, asked, nil
}

// until waits for a snapshot that is as is says.
func (m *Manager) until(ctx context.Context, is func(*agent.Snapshot) bool) (*agent.Snapshot, error) {
	for {
		s, newer := m.agent.Snapshot()
		if is(s) {
			return s, nil
		}
		select {
		case <-newer:
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// joins tells whether a snapshot's State applies the pod's policies to the link of
// an attachment.
func joins(s *agent.Snapshot, a model.Attachment) bool {
	if s.Desired == nil {
		return false
	}
	e := s.Desired.Rules.Endpoint(a.Interface)
	return e != nil && e.Interface.Index == a.Index && e.Pod == a.Pod && (e.UID == a.UID || a.UID == model.UID{})
}

// enforced waits until the kernel holds a State that applies the pod's policies to
// its link.
func (m *Manager) enforced(ctx context.Context, a model.Attachment) error {
	name := a.Pod.Namespace + "/" + a.Pod.Name
	s, err := m.until(ctx, func(s *agent.Snapshot) bool { return joins(s, a) || m.enforce == nil && s.InSync })
	if err != nil {
		return fmt.Errorf("%w: what policies say of pod %s behind %s has not been decided in time", ErrNotEnforced, name, a.Interface)
	}
	again := time.NewTicker(lookAgain) // for a dataplane that is opened anew
	defer again.Stop()
	for m.enforce != nil {
		changed := m.enforce.Changed()
		if m.enforce.Status().Applied >= s.Desired.Gen {
			return nil
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			status := m.enforce.Status()
			if status.Error != "" {
				return fmt.Errorf("%w: what policies say of pod %s is not in the kernel: %s", ErrNotEnforced, name, status.Error)
			}
			return fmt.Errorf("%w: what policies say of pod %s has not come into the kernel in time: the dataplane is at generation %d, expected %d", ErrNotEnforced, name, status.Applied, s.Desired.Gen)
		}
	}
	return nil
}

// Check tells whether a pod is connected as CNI says, and what policies say of it
// is decided; what the kernel holds is checked and repaired all the time.
func (m *Manager) Check(r Request) error {
	link, err := m.check(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	i := slices.IndexFunc(m.list, func(e *entry) bool { return e.ContainerID == r.ContainerID && e.IfName == r.IfName && !e.Ended })
	if i < 0 {
		m.mu.Unlock()
		return fmt.Errorf("%w: no ADD of container %s, %s, is known", ErrConflict, r.ContainerID, r.IfName)
	}
	a := m.list[i].Attachment
	m.mu.Unlock()
	if s, _ := m.agent.Snapshot(); m.enforce != nil && !joins(s, a) {
		return fmt.Errorf("%w: no policy is applied to pod %s/%s behind %s", ErrNotEnforced, r.Namespace, r.Pod, link.Name)
	}
	return m.Ready()
}

// Ready is why an Add could not be served now; nil if it could.
func (m *Manager) Ready() error {
	if s, _ := m.agent.Snapshot(); !s.InSync {
		return fmt.Errorf("%w: the local cluster is not known yet", ErrNotEnforced)
	}
	if m.enforce != nil {
		if err := m.enforce.Ready(); err != nil {
			return fmt.Errorf("%w: %w", ErrNotEnforced, err)
		}
	}
	return nil
}
