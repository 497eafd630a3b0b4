package agent

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/store"
)

// storage is what the agent needs of this node's store.
type storage interface {
	Load(cluster string) (store.Image, bool)
	Clusters() []string
	Append(cluster string, uid model.UID, contact time.Time, changes []model.Change) error
	Rewrite(cluster string, uid model.UID, contact time.Time, facts iter.Seq[model.Fact]) error
	NeedsRewrite(cluster string) bool
	Remove(cluster string) error
}

// retryInterval is how long a cluster is kept without a store after an error. A
// full disk is not helped by trying more often.
const retryInterval = time.Minute

// keeper keeps the store in step with the core. It belongs to the loop. Reading
// and rewriting a remote cluster's file, which takes long if it is large, is done
// beside the loop; that cluster's mail waits meanwhile, and no other's.
type keeper struct {
	disk  storage // nil: nothing is stored
	core  *Core
	local string
	log   *logrus.Entry
	mail  *mailbox

	// asked are the remote clusters whose file was read, or is to be. waiting
	// are those to be read, one at a time, reading is the one being read.
	asked   map[string]bool
	waiting []string
	reading *reading
	images  map[string]Image

	rewriting map[string]chan error
	broken    map[string]failure
}

type reading struct {
	cluster string
	done    chan struct{}
	image   store.Image
	ok      bool
}

// failure is why a cluster has no store, and when that is to be tried again.
type failure struct {
	message string
	retry   time.Time
}

func newKeeper(disk storage, core *Core, local string, log *logrus.Entry, mail *mailbox) *keeper {
	return &keeper{
		disk: disk, core: core, local: local, log: log, mail: mail,
		asked: map[string]bool{local: true}, images: map[string]Image{},
		rewriting: map[string]chan error{}, broken: map[string]failure{},
	}
}

// restoreLocal reads what is stored of the local cluster and, in its file, of
// what remote clusters there are; theirs are read next. It tells whether there
// is something.
func (k *keeper) restoreLocal() bool {
	if k.disk == nil {
		return false
	}
	image, ok := k.disk.Load(k.local)
	if !ok {
		return false
	}
	k.images[k.local] = Image(image)
	for _, change := range image.Facts {
		if remote, ok := change.Value.(*model.Cluster); ok && !remote.Local {
			k.mail.know(remote.Name, remote.UID)
			k.ask(remote.Name)
		}
	}
	return true
}

func (k *keeper) ask(cluster string) {
	if !k.asked[cluster] {
		k.asked[cluster] = true
		k.waiting = append(k.waiting, cluster)
	}
}

// holds tells whether the mail of a cluster has to wait for the disk. The first
// that is heard of a RemoteCluster makes its file be read.
func (k *keeper) holds(cluster string, m *Mail) bool {
	if k.disk == nil || cluster == k.local {
		return false
	}
	if m.Changes[model.ClusterKey(cluster)] != nil {
		k.ask(cluster)
	}
	return k.rewriting[cluster] != nil || k.isReading(cluster)
}

func (k *keeper) isReading(cluster string) bool {
	return slices.Contains(k.waiting, cluster) || (k.reading != nil && k.reading.cluster == cluster)
}

// busyReading tells whether files are still to be read.
func (k *keeper) busyReading() bool { return k.reading != nil || len(k.waiting) > 0 }

// load begins to read the next file.
func (k *keeper) load() {
	if k.reading != nil || len(k.waiting) == 0 {
		return
	}
	r := &reading{cluster: k.waiting[0], done: make(chan struct{})}
	k.waiting, k.reading = k.waiting[1:], r
	go func() {
		r.image, r.ok = k.disk.Load(r.cluster)
		close(r.done)
		k.mail.wake()
	}()
}

// collect takes what was done beside the loop.
func (k *keeper) collect(now time.Time) {
	if r := k.reading; r != nil {
		select {
		case <-r.done:
			k.reading = nil
			if r.ok {
				k.images[r.cluster] = Image(r.image)
			}
		default:
		}
	}
	for cluster, done := range k.rewriting {
		select {
		case err := <-done:
			k.rewritten(cluster, err, now)
		default:
		}
	}
}

func (k *keeper) takeImages() map[string]Image {
	images := k.images
	k.images = map[string]Image{}
	return images
}

// write writes what the core wants stored, and nothing of clusters that a list of
// them lacks. It says when a failed store is to be tried again, and whether the
// Problems have changed.
func (k *keeper) write(work []StoreWork, listed map[string]bool, now time.Time) (retry time.Time, changed bool) {
	if k.disk == nil {
		return time.Time{}, false
	}
	before := k.problems()
	k.sweep(listed, now)
	for _, w := range work {
		k.do(w, now)
	}
	for cluster, f := range k.broken {
		if !now.Before(f.retry) && k.rewriting[cluster] == nil {
			k.repair(cluster, now)
		}
	}
	for _, f := range k.broken {
		retry = earlier(retry, f.retry)
	}
	return retry, !slices.Equal(before, k.problems())
}

// sweep removes files of RemoteClusters that were removed while nobody looked.
func (k *keeper) sweep(listed map[string]bool, now time.Time) {
	if listed == nil {
		return
	}
	for _, cluster := range k.disk.Clusters() {
		if cluster != k.local && !listed[cluster] {
			k.do(StoreWork{Cluster: cluster, Remove: true}, now)
		}
	}
}

// do writes for one cluster. One that is broken is left until it is tried again:
// what its file would lack is all in the core.
func (k *keeper) do(w StoreWork, now time.Time) {
	only := w.Remove && !w.Rewrite && !w.Append
	if done := k.rewriting[w.Cluster]; done != nil {
		if !w.Remove && len(w.Changes) == 0 && !w.Rewrite {
			return // the contact alone can wait
		}
		k.rewritten(w.Cluster, <-done, now)
	}
	if _, broken := k.broken[w.Cluster]; broken && !only {
		return
	}
	var err error
	if w.Remove {
		err = k.disk.Remove(w.Cluster)
	}
	switch {
	case err != nil:
	case w.Rewrite:
		err = k.disk.Rewrite(w.Cluster, w.UID, w.Contact, k.core.Facts(w.Cluster))
	case w.Append:
		err = k.disk.Append(w.Cluster, w.UID, w.Contact, w.Changes)
	}
	switch {
	case err != nil:
		k.fail(w.Cluster, err, now)
	case only:
		delete(k.broken, w.Cluster)
	case k.disk.NeedsRewrite(w.Cluster) && !k.core.Busy(w.Cluster):
		k.compact(w, now)
	}
}

// compact writes a file anew because it has grown long: the local one at once, a
// remote one beside the loop.
func (k *keeper) compact(w StoreWork, now time.Time) {
	facts := k.core.Facts(w.Cluster)
	if w.Cluster == k.local {
		if err := k.disk.Rewrite(w.Cluster, w.UID, w.Contact, facts); err != nil {
			k.fail(w.Cluster, err, now)
		}
		return
	}
	done := make(chan error, 1)
	k.rewriting[w.Cluster] = done
	go func() {
		done <- k.disk.Rewrite(w.Cluster, w.UID, w.Contact, facts)
		k.mail.wake()
	}()
}

func (k *keeper) rewritten(cluster string, err error, now time.Time) {
	delete(k.rewriting, cluster)
	if err != nil {
		k.fail(cluster, err, now)
	}
}

// fail gives up a cluster's file for now, and removes it: half of the truth must
// not be taken for the whole at the next start.
func (k *keeper) fail(cluster string, err error, now time.Time) {
	_, again := k.broken[cluster]
	if removal := k.disk.Remove(cluster); removal != nil {
		err = errors.Join(err, removal)
	}
	k.broken[cluster] = failure{message: err.Error(), retry: now.Add(retryInterval)}
	if !again {
		k.log.WithField(fieldCluster, cluster).WithError(err).Warn("cannot store what is known of the cluster: running on without")
	}
}

// repair tries to write a broken cluster's file anew, whole.
func (k *keeper) repair(cluster string, now time.Time) {
	uid, contact, wanted := k.core.StoreState(cluster)
	if k.core.Busy(cluster) {
		// What is still to be restored is in no file any more, and must be in this.
		k.broken[cluster] = failure{message: k.broken[cluster].message, retry: now.Add(time.Second)}
		return
	}
	err := k.disk.Remove(cluster)
	if err == nil && wanted {
		err = k.disk.Rewrite(cluster, uid, contact, k.core.Facts(cluster))
	}
	if err != nil {
		k.fail(cluster, err, now)
		return
	}
	delete(k.broken, cluster)
	k.log.WithField(fieldCluster, cluster).Info("what is known of the cluster is stored again")
}

// problems are sorted by cluster.
func (k *keeper) problems() []model.Problem {
	var problems []model.Problem
	for cluster, f := range k.broken {
		problems = append(problems, model.Problem{
			Kind: model.ProblemStore, Object: model.ClusterKey(cluster),
			Message: fmt.Sprintf("a restart of this node's agent in an outage would lose what it knows: %s", f.message),
		})
	}
	slices.SortFunc(problems, func(a, b model.Problem) int { return strings.Compare(a.Object.Cluster, b.Object.Cluster) })
	return problems
}

// close waits for what is done beside the loop.
func (k *keeper) close() {
	if k.reading != nil {
		<-k.reading.done
	}
	for cluster, done := range k.rewriting {
		if err := <-done; err != nil {
			k.log.WithField(fieldCluster, cluster).WithError(err).Warn("cannot store what is known of the cluster")
		}
	}
}
