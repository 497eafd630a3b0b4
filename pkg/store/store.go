package store

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/overland-net/overland/pkg/model"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// DefaultLimit is how many bytes the file of a cluster may have: ten times what
// 100,000 pods with six labels each take, so that what reaches it is no cluster
// that was planned.
const DefaultLimit int64 = 256 << 20

var (
	// ErrInUse: another agent has the folder.
	ErrInUse = errors.New("in use by another process")
	// ErrTooLarge: the facts of a cluster do not fit into the limit.
	ErrTooLarge = errors.New("larger than the limit")
)

// Image is what a file says.
type Image struct {
	// ClusterUID is that of the RemoteCluster object; zero for the local cluster.
	ClusterUID  model.UID
	LastContact time.Time // zero: never
	// Facts are one change a key, all of them sets. Clusters are not InContact.
	Facts []model.Change
}

// Store is a folder of files, one a cluster. Its methods may be called by any
// goroutine: those for one cluster wait for each other, and for no other cluster.
// The order in which they are called is the caller's to keep, so that a cluster
// is best left to one goroutine at a time.
type Store struct {
	dir    string
	folder *os.File // holds the lock
	limit  int64
	boot   string // the id of this boot; empty if the system does not tell
	codec  codec
	log    *logrus.Entry
	disk   disk

	mu    sync.Mutex
	files map[string]*file // never deleted from
}

// file is the store of one cluster.
type file struct {
	mu sync.Mutex
	state
}

// state is what is known of a file that is there to append to, unless f is nil.
type state struct {
	f           *os.File
	uid         model.UID
	boot        string // in which its last bytes were written
	image, size int64  // the end of the image, and of all that is good
	chain       uint32
	missed      []missed // accepted by no disk so far, oldest first
	// unusable says why only a Rewrite helps; nil if all is well.
	unusable  error
	failures  int // of Rewrite, in a row
	notBefore time.Time
	known     bool // the disk has been looked at
}

// missed is a batch that could not be written.
type missed struct {
	contact int64
	changes []model.Change
}

// Open takes a folder, which is made if it is not there. limit is the size of a
// file in bytes. The error wraps ErrInUse if another process has the folder.
func Open(dir string, limit int64, log *logrus.Entry) (*Store, error) {
	if limit <= 0 {
		return nil, fmt.Errorf("open store %s: a limit of %d bytes", dir, limit)
	}
	c, err := newCodec()
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	folder, err := openFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	s := &Store{dir: dir, folder: folder, limit: limit, codec: c, log: log, files: map[string]*file{}, disk: realDisk()}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err != nil {
		log.WithError(err).Warn("the id of this boot is unknown: stored facts with a cut-off end will be discarded")
	} else {
		s.boot = strings.TrimSpace(string(id))
	}
	// What a rewrite was at when its process was killed.
	for _, name := range s.names(temporarySuffix) {
		if err := os.Remove(s.path(name, temporarySuffix)); err != nil {
			return nil, errors.Join(fmt.Errorf("open store %s: remove what a rewrite left: %w", dir, err), folder.Close())
		}
	}
	return s, nil
}

func openFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	folder, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open the folder: %w", err)
	}
	err = lockFolder(folder)
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return folder, nil
}

func lockFolder(folder *os.File) error {
	info, err := folder.Stat()
	if err != nil {
		return fmt.Errorf("look at the folder: %w", err)
	}
	if err := ownedByUs(info); err != nil {
		return fmt.Errorf("the folder: %w", err)
	}
	if info.Mode().Perm() != 0o700 {
		if err := folder.Chmod(0o700); err != nil {
			return fmt.Errorf("close the folder to others: %w", err)
		}
	}
	err = unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("the folder is %w", ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("lock the folder: %w", err)
	}
	return nil
}

// Close syncs the files and gives the folder free. Nothing may follow it.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for name, c := range s.files {
		c.mu.Lock()
		if c.f != nil {
			if err := errors.Join(c.f.Sync(), c.f.Close()); err != nil {
				errs = append(errs, fmt.Errorf("close the store of cluster %s: %w", name, err))
			}
		}
		c.state = state{}
		c.mu.Unlock()
	}
	return errors.Join(append(errs, s.folder.Close())...)
}

// lock gives the store of a cluster to its caller, who has to unlock it.
func (s *Store) lock(cluster string) *file {
	s.mu.Lock()
	c := s.files[cluster]
	if c == nil {
		c = &file{}
		s.files[cluster] = c
	}
	s.mu.Unlock()
	c.mu.Lock()
	return c
}

const (
	fileSuffix      = ".store"
	temporarySuffix = ".tmp"
)

func (s *Store) path(cluster, suffix string) string { return filepath.Join(s.dir, cluster+suffix) }

// names are the clusters that have a file with a suffix.
func (s *Store) names(suffix string) []string {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.log.WithError(err).Warn("the folder of the store cannot be listed")
		return nil
	}
	var all []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && validCluster(name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// Clusters are those that have a file, by name. Load may find it unusable.
func (s *Store) Clusters() []string { return s.names(fileSuffix) }

// Load reads what is kept of a cluster, and comes before all else that is done
// with it. If it is not usable, a warning says why, the file is removed, and the
// answer is false, as it is without a file.
func (s *Store) Load(cluster string) (Image, bool) {
	if !validCluster(cluster) {
		return Image{}, false // it has no file
	}
	c := s.lock(cluster)
	defer c.mu.Unlock()
	found, ok := s.load(cluster, c)
	if !ok {
		return Image{}, false
	}
	return Image{ClusterUID: found.uid, LastContact: fromContact(found.contact), Facts: found.facts.sets()}, true
}

func (s *Store) load(cluster string, c *file) (*contents, bool) {
	s.close(cluster, c)
	c.state = state{known: true}
	log := s.log.WithField("cluster", cluster)
	path := s.path(cluster, fileSuffix)
	f, found, err := s.read(path, cluster)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		log.Debug("no facts are stored")
		return nil, false
	case err != nil:
		if removed := os.Remove(path); removed != nil {
			err = errors.Join(err, removed)
		}
		log.WithError(err).Warn("the stored facts are discarded")
		return nil, false
	}
	c.f, c.uid, c.boot, c.image, c.size, c.chain = f, found.uid, found.boot, found.image, found.good, found.chain
	return found, true
}

// read opens and reads a file, and cuts off what is not whole at its end.
func (s *Store) read(path, cluster string) (*os.File, *contents, error) {
	// Not blocking: it could be a pipe.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, nil, errors.New("it is a symbolic link")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open: %w", err)
	}
	found, err := s.readFile(f, cluster)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, found, nil
}

func (s *Store) readFile(f *os.File, cluster string) (*contents, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("look at the file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("it is no regular file but %s", info.Mode().Type())
	case info.Mode().Perm()&^0o600 != 0:
		return nil, fmt.Errorf("others may open it: its mode is %#o", info.Mode().Perm())
	case info.Size() > s.limit:
		return nil, fmt.Errorf("%w: %d bytes, %d are allowed", ErrTooLarge, info.Size(), s.limit)
	}
	if err := ownedByUs(info); err != nil {
		return nil, err
	}
	found, err := parse(s.codec, f, info.Size(), cluster, s.boot)
	if err != nil {
		return nil, err
	}
	if found.cut {
		if err := f.Truncate(found.good); err != nil {
			return nil, fmt.Errorf("cut off an incomplete batch: %w", err)
		}
	}
	return found, nil
}

// close closes a cluster's file, if it is open.
func (s *Store) close(cluster string, c *file) {
	if c.f == nil {
		return
	}
	if err := c.f.Close(); err != nil {
		s.log.WithError(err).WithField("cluster", cluster).Warn("the file of stored facts cannot be closed")
	}
	c.f = nil
}

// Remove drops what is kept of a cluster. To have nothing is no error.
func (s *Store) Remove(cluster string) error {
	if !validCluster(cluster) {
		return nil // it has no file
	}
	c := s.lock(cluster)
	defer c.mu.Unlock()
	err := s.discard(cluster, c)
	c.state = state{}
	if err != nil {
		err = fmt.Errorf("remove the store of cluster %s: %w", cluster, err)
		c.known, c.unusable = true, err // what is there must not be appended to
	}
	return err
}

// discard closes and removes a cluster's file, if it has one.
func (s *Store) discard(cluster string, c *file) error {
	var errs []error
	if c.f != nil {
		// If it cannot be removed it must not be read either.
		errs = append(errs, s.disk.truncate(c.f, 0))
		s.close(cluster, c)
	}
	err := os.Remove(s.path(cluster, fileSuffix))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(append(errs, err)...)
}

// Rewrite replaces what is kept of a cluster by facts, which are all there is to
// know: after it the file is as short as can be, and usable again if it was not.
// It syncs, and so takes the time of the disk. After an error of the disk the old
// file, if there is one for this uid, goes on as it was; after any other one
// there is none.
func (s *Store) Rewrite(cluster string, uid model.UID, contact time.Time, facts iter.Seq[model.Fact]) error {
	if !validCluster(cluster) {
		return fmt.Errorf("store facts: %q is not a cluster's name", cluster)
	}
	c := s.lock(cluster)
	defer c.mu.Unlock()
	next, err := s.replace(cluster, uid, toContact(contact), facts)
	if err == nil {
		s.close(cluster, c)
		c.state = next
		return nil
	}
	err = fmt.Errorf("rewrite the store of cluster %s: %w", cluster, err)
	c.failed(s.disk.now())
	var disk *diskError
	switch {
	case !errors.As(err, &disk):
		c.uid = uid
		return s.spoil(cluster, c, err)
	case c.f == nil || c.uid != uid:
		// What was to be written is nowhere: appends alone would not be all.
		s.close(cluster, c)
		c.uid, c.missed, c.unusable, c.known = uid, nil, err, true
	}
	return err
}
