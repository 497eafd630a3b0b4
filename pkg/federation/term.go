package federation

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// term is one term of leadership, as far as writes are concerned. Its context
// ends when the renew deadline has passed since the last renewal was *asked
// for*: by then nobody else can have become leader. client-go's own context ends
// later, only after it has tried to release the Lease.
type term struct {
	deadline time.Duration

	mu     sync.Mutex
	timer  *time.Timer
	cancel context.CancelFunc
}

// newTerm is a term whose context, derived from ctx, is returned with it. Until
// the first renewal it has no deadline.
func newTerm(ctx context.Context, deadline time.Duration) (*term, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	return &term{deadline: deadline, cancel: cancel}, ctx
}

// renewed extends the term to the deadline after at.
func (t *term) renewed(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := t.deadline - time.Since(at)
	if left <= 0 {
		t.cancel()
		return
	}
	if t.timer == nil {
		t.timer = time.AfterFunc(left, t.cancel)
		return
	}
	t.timer.Reset(left)
}

// end ends the term's context.
func (t *term) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
	}
	t.cancel()
}

// lease is a resource lock that tells when the own identity's record has been
// written, and lets no request take longer than limit: a connection that hangs
// must not keep a candidate out of the election.
type lease struct {
	resourcelock.Interface
	limit   time.Duration
	renewed func(asked time.Time)
}

// Get reads the record.
func (l *lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	return l.Interface.Get(ctx)
}

// Create writes the first record.
func (l *lease) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, r, l.Interface.Create)
}

// Update writes the record over the one read before.
func (l *lease) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, r, l.Interface.Update)
}

func (l *lease) write(ctx context.Context, r resourcelock.LeaderElectionRecord, do func(context.Context, resourcelock.LeaderElectionRecord) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	asked := time.Now()
	if err := do(ctx, r); err != nil {
		return err
	}
	if r.HolderIdentity == l.Identity() {
		l.renewed(asked)
	}
	return nil
}
