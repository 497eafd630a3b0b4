package federation

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
)

// updatePeriod is the shortest time between two looks at the policies: with
// 10,000 of them, each costs some milliseconds.
const updatePeriod = time.Second

// EventWriter writes Events about Problems of NetworkPolicies of the local
// cluster that every node would find, and about federated Services that are not as
// they should be (semantics 2.13). It is for the leader: run
// it as part of the body of Leader.Run.
type EventWriter struct {
	instance  string
	events    eventsclient.EventsGetter
	snapshots Snapshots
	services  ServicesSnapshots
	log       *logrus.Entry
}

// ServicesSnapshots is where the newest ServicesSnapshot comes from: a *Services.
type ServicesSnapshots interface {
	Snapshot() (*ServicesSnapshot, <-chan struct{})
}

// NewEventWriter does nothing yet. instance is who writes: the agent's pod.
func NewEventWriter(instance string, events eventsclient.EventsGetter, snapshots Snapshots, services ServicesSnapshots, log *logrus.Entry) *EventWriter {
	return &EventWriter{instance: instance, events: events, snapshots: snapshots, services: services, log: log}
}

// Run writes until ctx ends. It may be called again after that: what was written
// before is found by its name, as long as the API server keeps it.
func (w *EventWriter) Run(ctx context.Context) {
	a := newAnnouncer()
	told := ""
	for ctx.Err() == nil {
		snapshot, newer := w.snapshots.Snapshot()
		services, changed := w.services.Snapshot()
		a.update(time.Now(), snapshot, services.found)
		looked := time.Now()
		for {
			n, wait, ok := a.next(time.Now())
			if !ok {
				pause(ctx, newer, changed, wait)
				break
			}
			err := w.write(ctx, n)
			if ctx.Err() != nil {
				return
			}
			if told = w.settle(a, n, err, told); time.Since(looked) > updatePeriod {
				break
			}
		}
		sleep(ctx, updatePeriod-time.Since(looked))
	}
}

// pause waits for one of the channels or, if that is not 0, for a time.
func pause(ctx context.Context, newer, changed <-chan struct{}, wait time.Duration) {
	var due <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-newer:
	case <-changed:
	case <-due:
	}
}

func (w *EventWriter) write(ctx context.Context, n finding) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	_, err := w.events.Events(n.key.Namespace).Create(ctx, n.event(time.Now(), w.instance), metav1.CreateOptions{})
	return err
}

// settle takes account of what came of a write. It tells a failure once: told is
// the one last told.
func (w *EventWriter) settle(a *announcer, n finding, err error, told string) string {
	switch {
	case err == nil:
		a.written(n)
		return ""
	case settled(err):
		a.written(n)
		return told
	}
	a.failed(time.Now(), n)
	reason := string(apierrors.ReasonForError(err))
	if reason == "" {
		reason = "unknown"
	}
	if reason == told {
		return told
	}
	entry := w.log.WithError(err).WithFields(logrus.Fields{"kind": n.key.Kind.String(), "object": n.key.Namespace + "/" + n.key.Name})
	if apierrors.IsForbidden(err) {
		entry.Error("may not write an Event about the object: apply the manifests' ClusterRole again, or look at the namespace's quota")
	} else {
		entry.Warn("cannot write an Event about the object: tries again")
	}
	return reason
}

// settled tells the errors after which there is nothing more to do: the Event is
// there, its namespace is going or gone, or the API server will never take it.
func settled(err error) bool {
	return apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) ||
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
