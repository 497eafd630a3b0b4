package agent

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/store"
)

// Agent owns the facts. Its methods may be called from any goroutine.
type Agent struct {
	cfg     Config
	log     *logrus.Entry
	mail    *mailbox
	current atomic.Pointer[published]

	// Of the loop alone.
	core *Core
	disk *keeper
	last time.Time // when the last step began
}

// published is a snapshot and the channel that is closed when there is a newer
// one.
type published struct {
	snapshot *Snapshot
	newer    chan struct{}
}

// New is an agent that knows its configuration. A nil store: nothing is restored
// or kept. Facts, statuses and drains may be handed over before Run.
func New(cfg Config, st *store.Store, log *logrus.Entry) *Agent {
	if st == nil {
		return newAgent(cfg, nil, log)
	}
	return newAgent(cfg, st, log)
}

func newAgent(cfg Config, st storage, log *logrus.Entry) *Agent {
	cfg = cfg.withDefaults()
	now := time.Now()
	a := &Agent{cfg: cfg, log: log, mail: newMailbox(cfg.Cluster), core: NewCore(cfg, now)}
	a.disk = newKeeper(st, a.core, cfg.Cluster, log, a.mail)
	a.publish(a.core.Step(Input{Now: now}).Snapshot)
	return a
}

// Run takes steps until ctx ends, and returns nil. It is called once. What the
// newest snapshot says is then in the store, but for the times of last contact,
// which may be Config.ContactInterval old: so is it after a kill.
func (a *Agent) Run(ctx context.Context) error {
	defer a.disk.close()
	if a.disk.restoreLocal() {
		a.step()
	}
	for ctx.Err() == nil {
		more, next := a.step()
		if !more && !a.wait(ctx, next) {
			break
		}
	}
	return nil
}

// step takes the mail through the core. It tells whether there is more to do at
// once, and when there will be even if nothing comes in.
func (a *Agent) step() (more bool, next time.Time) {
	a.last = time.Now()
	a.disk.collect(a.last)
	held := false
	mail, listed := a.mail.take(func(cluster string, m *Mail) bool {
		busy := a.core.Busy(cluster)
		held = held || busy
		return busy || a.disk.holds(cluster, m)
	})
	a.disk.load()
	out := a.core.Step(Input{
		Now: a.last, Listed: listed, Images: a.disk.takeImages(), Mail: mail, StoreProblems: a.disk.problems(),
		Interfaces: a.mail.takeInterfaces(), Attachments: a.mail.takeAttachments(), Reading: a.disk.busyReading(),
	})
	retry, changed := a.disk.write(out.Store, listed, a.last)
	for _, t := range out.Transitions {
		a.logTransition(t)
	}
	if out.Snapshot != nil {
		a.publish(out.Snapshot)
	}
	return out.More || held || changed, earlier(out.Next, retry)
}

// wait waits for mail or for next, and then for the rest of the interval between
// steps. It is false when ctx has ended.
func (a *Agent) wait(ctx context.Context, next time.Time) bool {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-a.mail.filled:
	case <-due:
	}
	rest := time.NewTimer(a.cfg.StepInterval - time.Since(a.last))
	defer rest.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-rest.C:
		return true
	}
}

func (a *Agent) publish(s *Snapshot) {
	old := a.current.Swap(&published{snapshot: s, newer: make(chan struct{})})
	if old != nil {
		close(old.newer)
	}
}

// Snapshot is the newest snapshot, never nil, and a channel that is closed as
// soon as there is a newer one.
func (a *Agent) Snapshot() (*Snapshot, <-chan struct{}) {
	p := a.current.Load()
	return p.snapshot, p.newer
}

// Facts hands over what a source learnt. It does not wait for a step, and
// neither keeps nor changes the batch's slice.
func (a *Agent) Facts(b model.Batch) { a.mail.facts(b) }

// Status hands over how a cluster's source is doing.
func (a *Agent) Status(cluster string, s model.ClusterStatus) { a.mail.status(cluster, s) }

// Interfaces says which pod interfaces this node has, all of them, sorted by
// name. The slice must not be changed afterwards.
func (a *Agent) Interfaces(list []model.Interface) { a.mail.tell(list) }

// Attachments says which pods of this node are connected, all of them. The slice
// must not be changed afterwards.
func (a *Agent) Attachments(list []model.Attachment) { a.mail.attach(list) }

// Drain says that all facts of the cluster but the Cluster fact are gone.
func (a *Agent) Drain(cluster string) { a.mail.drain(cluster) }

// logTransition writes the line of a transition.
func (a *Agent) logTransition(t Transition) {
	log := a.log.WithField(fieldCluster, t.Cluster)
	old := log.WithFields(logrus.Fields{fieldEndpoints: t.Endpoints, fieldContact: moment(t.Contact), fieldAge: t.Age.Round(time.Second)})
	switch t.Kind {
	case StateChanged:
		log = log.WithFields(logrus.Fields{fieldState: t.To, fieldBefore: t.From, fieldReason: t.Reason})
		switch t.To {
		case model.StateOutOfContact, model.StateRefused:
			log.WithFields(logrus.Fields{fieldContact: moment(t.Contact), fieldEndpoints: t.Endpoints}).Warn(t.Message)
		default:
			log.Info("cluster changed state")
		}
	case Enforcing:
		log.WithField(fieldEndpoints, t.Endpoints).Info("what this node must enforce is known")
	case InSync:
		log.WithField(fieldEndpoints, t.Endpoints).Info("the local cluster is known")
	case Restored:
		old.Info("restored from this node's store")
	case ImageDiscarded:
		log.Warn("discarded what this node's store has: it is of another RemoteCluster")
	case Expired:
		old.Warn("dropped the cluster's identities: no contact for longer than spec.identities.staleAfter")
	case Forgotten:
		log.WithField(fieldEndpoints, t.Endpoints).Info("dropped the cluster: its RemoteCluster is gone")
	}
}
