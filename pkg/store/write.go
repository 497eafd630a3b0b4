package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/overland-net/overland/pkg/model"
	"golang.org/x/sys/unix"
)

const (
	// slack is what may be appended before it is worth to rewrite a small file.
	slack int64 = 1 << 20
	// maxMissed changes are kept in memory while the disk refuses them.
	maxMissed = 10_000
	// After a Rewrite that failed the next one is tried after firstPause, and
	// twice as long each time, up to longestPause: it is not cheap.
	firstPause   = 30 * time.Second
	longestPause = time.Hour
	// chunk is how much of an image is encoded before it is written.
	chunk = 1 << 20
)

// disk is what a test replaces to have faults.
type disk struct {
	writeAt  func(f *os.File, b []byte, at int64) (int, error)
	truncate func(f *os.File, size int64) error
	sync     func(f *os.File) error
	now      func() time.Time
}

func realDisk() disk {
	return disk{
		writeAt:  (*os.File).WriteAt,
		truncate: (*os.File).Truncate,
		sync:     (*os.File).Sync,
		now:      time.Now,
	}
}

// diskError is one that may pass, unlike facts that have no place.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

func onDisk(doing string, err error) error {
	if err == nil {
		return nil
	}
	return &diskError{fmt.Errorf("%s: %w", doing, err)}
}

// Append adds changes, and the time of last contact, to what is kept of a
// cluster; without changes it is the time alone. It returns when kill -9 can no
// longer undo it. What was kept for another uid is replaced. See the package
// comment for what an error leaves; it wraps ErrTooLarge if that is the reason.
func (s *Store) Append(cluster string, uid model.UID, contact time.Time, changes []model.Change) error {
	if !validCluster(cluster) {
		return fmt.Errorf("store facts: %q is not a cluster's name", cluster)
	}
	c := s.lock(cluster)
	defer c.mu.Unlock()
	s.prepare(cluster, uid, c)
	if c.unusable != nil {
		return c.unusable
	}
	pending := append(c.missed, missed{toContact(contact), changes})
	err := s.append(cluster, c, pending)
	if err == nil {
		c.missed = nil
		return nil
	}
	err = fmt.Errorf("store %d changes of cluster %s: %w", len(changes), cluster, err)
	var disk *diskError
	if !errors.As(err, &disk) {
		return s.spoil(cluster, c, err)
	}
	pending[len(pending)-1].changes = slices.Clone(changes)
	if len(changes) == 0 { // a later contact says more
		pending = pending[:len(pending)-1]
	}
	total := 0
	for _, m := range pending {
		total += len(m.changes)
	}
	if c.missed = pending; total > maxMissed {
		c.missed = nil
		c.unusable = fmt.Errorf("more than %d changes of cluster %s are missing in its store: %w", maxMissed, cluster, err)
	}
	return err
}

// prepare loads the file to append to, or leaves none that a new one would take
// the place of.
func (s *Store) prepare(cluster string, uid model.UID, c *file) {
	if !c.known {
		s.load(cluster, c)
	}
	if c.f == nil && c.unusable == nil && len(c.missed) == 0 {
		c.uid = uid
	}
	if c.uid != uid {
		s.log.WithField("cluster", cluster).Info("the stored facts are of an earlier RemoteCluster of this name: they are replaced")
		s.close(cluster, c)
		c.state = state{uid: uid, known: true}
	}
}

func (s *Store) append(cluster string, c *file, batches []missed) error {
	if c.f == nil {
		next, err := s.replace(cluster, c.uid, 0, func(func(model.Fact) bool) {})
		if err != nil {
			return err
		}
		next.missed = c.missed
		c.state = next
	}
	w := writer{codec: s.codec, chain: c.chain}
	if c.boot != s.boot {
		if err := encode(&w, recordBootOnly, boot{Boot: s.boot}); err != nil {
			return err
		}
	}
	for _, b := range batches {
		if err := w.batch(cluster, b.contact, b.changes); err != nil {
			return err
		}
	}
	if size := c.size + int64(len(w.buf)); size > s.limit {
		return fmt.Errorf("%w: %d bytes, %d are allowed", ErrTooLarge, size, s.limit)
	}
	if _, err := s.disk.writeAt(c.f, w.buf, c.size); err != nil {
		if cut := s.disk.truncate(c.f, c.size); cut != nil {
			// Neither whole nor to be mended: it goes.
			return fmt.Errorf("write: %w; cut it back: %w", err, cut)
		}
		return onDisk("write", err)
	}
	c.size, c.chain, c.boot = c.size+int64(len(w.buf)), w.chain, s.boot
	return nil
}

// spoil removes a cluster's file: it would be less than the truth from now on.
func (s *Store) spoil(cluster string, c *file, why error) error {
	why = errors.Join(why, s.discard(cluster, c))
	c.missed, c.unusable = nil, why
	c.image, c.size = 0, 0
	return why
}

// replace writes a new file with an image, and renames it into place.
func (s *Store) replace(cluster string, uid model.UID, contact int64, facts iter.Seq[model.Fact]) (state, error) {
	path := s.path(cluster, temporarySuffix)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return state{}, onDisk("make a temporary file", err)
	}
	next, err := s.writeImage(f, cluster, uid, contact, facts)
	if err == nil {
		err = onDisk("sync", s.disk.sync(f))
	}
	if err == nil {
		err = onDisk("put it in place", os.Rename(path, s.path(cluster, fileSuffix)))
	}
	if err != nil {
		return state{}, errors.Join(err, f.Close(), os.Remove(path))
	}
	if err := s.disk.sync(s.folder); err != nil {
		// It is in place for all but a machine crash, which finds the old one.
		s.log.WithError(err).WithField("cluster", cluster).Warn("the folder of the store cannot be synced")
	}
	return next, nil
}

func (s *Store) writeImage(f *os.File, cluster string, uid model.UID, contact int64, facts iter.Seq[model.Fact]) (state, error) {
	next := state{f: f, uid: uid, boot: s.boot, known: true}
	w := writer{codec: s.codec, buf: []byte(magic)}
	err := encode(&w, recordHeader, header{Cluster: cluster, UID: uidToWire(uid), Boot: s.boot, Nonce: rand.Text()})
	if err != nil {
		return state{}, err
	}
	flush := func() error {
		if size := next.size + int64(len(w.buf)); size > s.limit {
			return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, s.limit)
		}
		if _, err := s.disk.writeAt(f, w.buf, next.size); err != nil {
			return onDisk("write", err)
		}
		next.size += int64(len(w.buf))
		w.buf = w.buf[:0]
		return nil
	}
	changes := make([]model.Change, 0, changesARecord)
	part := func() error {
		all, err := wire(cluster, changes)
		if err != nil {
			return err
		}
		changes = changes[:0]
		return encode(&w, recordFacts, all)
	}
	for fact := range facts {
		if changes = append(changes, model.Set(fact)); len(changes) < changesARecord {
			continue
		}
		if err := part(); err != nil {
			return state{}, err
		}
		if len(w.buf) < chunk {
			continue
		}
		if err := flush(); err != nil {
			return state{}, err
		}
	}
	if len(changes) > 0 {
		if err := part(); err != nil {
			return state{}, err
		}
	}
	if err := encode(&w, recordImage, batch{Contact: contact}); err != nil {
		return state{}, err
	}
	if err := flush(); err != nil {
		return state{}, err
	}
	next.image, next.chain = next.size, w.chain
	return next, nil
}

// failed notes that a Rewrite did not work.
func (c *state) failed(now time.Time) {
	pause := min(firstPause<<min(c.failures, 10), longestPause)
	c.failures++
	c.notBefore = now.Add(pause)
}

// NeedsRewrite tells whether a Rewrite is due: more was appended than the image
// is long, or half of what is left to the limit, and it is worth the trouble; or
// only it can make the file usable again. After one that failed it waits.
func (s *Store) NeedsRewrite(cluster string) bool {
	if !validCluster(cluster) {
		return false
	}
	c := s.lock(cluster)
	defer c.mu.Unlock()
	if s.disk.now().Before(c.notBefore) {
		return false
	}
	if c.unusable != nil {
		return true
	}
	return c.size-c.image > max(slack, min(c.image, (s.limit-c.image)/2))
}

func ownedByUs(info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("its owner is unknown")
	}
	if int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("it is owned by uid %d", stat.Uid)
	}
	return nil
}
