package conflist

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/cni"
)

const (
	// Drain is how long after our list the plugin's program has to stay, for pods
	// that are just being started with it.
	Drain = 5 * time.Second

	lookInterval  = 30 * time.Second
	retryInterval = 5 * time.Second
	// grace is how long ours stays when Azure's list is gone or is not valid. Both
	// of Azure's installers move the old one away before the new one is there, and
	// one of them then writes it in place, in some milliseconds: were ours removed
	// meanwhile, pods would start without our plugin right after every such write.
	// The longer it is, the longer a node looks ready whose network is not: pods
	// then fail to start, as Azure's plugin does, and are tried again.
	grace = 2 * time.Second
	// quarrel is how soon what somebody else has undone is done again, for it may
	// be an agent of another version that is just ending.
	quarrel = time.Second
	// blindInterval is how often folders are looked at that cannot be watched.
	blindInterval = 2 * time.Second
)

// Config is what an Installer works with.
type Config struct {
	ConfDir string // CNI's folder of lists
	BinDir  string // CNI's folder of programs
	Plugin  string // path of our plugin's program
	Conf    cni.Conf
	// Off: no list of ours is to be there.
	Off bool
}

// timing is shorter in tests.
type timing struct{ look, retry, grace, quarrel, blind time.Duration }

// Installer keeps our list and our plugin where the runtime finds them. Its
// methods may be called from any goroutine, Run once.
type Installer struct {
	cfg    Config
	entry  json.RawMessage
	list   string // path of our list
	log    *logrus.Entry
	timing timing
	writer writer

	mu      sync.Mutex
	status  Status
	changed chan struct{}

	// Of Run's goroutine: the plugin; since when Azure's list is missing or not
	// valid; what was written last, when, and from what; when the plugin was.
	plugin    plugin
	lostSince time.Time
	wrote     []byte
	wroteAt   time.Time
	source    string
	copiedAt  time.Time
}

// New makes an Installer; the error is that of a configuration that cannot be
// written.
func New(cfg Config, log *logrus.Entry) (*Installer, error) {
	cfg.Conf.Type = cni.PluginType
	entry, err := json.Marshal(cfg.Conf)
	if err != nil {
		return nil, fmt.Errorf("write the CNI plugin's configuration: %w", err)
	}
	return &Installer{
		cfg: cfg, entry: entry, list: filepath.Join(cfg.ConfDir, FileName), log: log,
		timing:  timing{look: lookInterval, retry: retryInterval, grace: grace, quarrel: quarrel, blind: blindInterval},
		status:  Status{Off: cfg.Off},
		changed: make(chan struct{}),
		plugin:  plugin{source: cfg.Plugin, dir: cfg.BinDir, name: cni.PluginType},
	}, nil
}

// Run works until ctx ends, and returns nil. What is installed stays then: with
// no agent, pods do not start, but for those of the fail-open namespaces.
func (i *Installer) Run(ctx context.Context) error {
	i.plugin.writer = i.writer
	var watch *fsnotify.Watcher
	defer func() {
		if watch != nil {
			_ = watch.Close() // nothing is lost
		}
	}()
	for {
		var wait time.Duration
		watch = i.watch(watch)
		if ctx.Err() == nil {
			wait = i.look()
		}
		var events <-chan fsnotify.Event
		var errs <-chan error
		if watch != nil {
			events, errs = watch.Events, watch.Errors
		} else if !i.cfg.Off {
			wait = min(wait, i.timing.blind)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case _, ok := <-events:
			if !ok {
				watch = nil
			}
			drain(events)
		case err := <-errs:
			// Mostly events that were lost: we look in any case.
			i.log.WithError(err).Debug("watch CNI's folders")
		}
		timer.Stop()
	}
}

// drain takes what is there: one look answers all of it.
func drain(events <-chan fsnotify.Event) {
	for {
		select {
		case _, ok := <-events:
			if !ok {
				return
			}
		default:
			return
		}
	}
}

// watch sees to it that the folders are watched: one may have been made or
// replaced since. Nil: they cannot be.
func (i *Installer) watch(watch *fsnotify.Watcher) *fsnotify.Watcher {
	if i.cfg.Off {
		return nil
	}
	var err error
	if watch == nil {
		if watch, err = fsnotify.NewWatcher(); err != nil {
			i.log.WithError(err).Debug("CNI's folders cannot be watched: looking at them every few seconds")
			return nil
		}
	}
	for _, dir := range []string{i.cfg.ConfDir, i.cfg.BinDir} {
		if err := watch.Add(dir); err != nil {
			i.log.WithError(err).WithField("folder", dir).Debug("it cannot be watched: looking at it every few seconds")
			_ = watch.Close() // nothing is lost
			return nil
		}
	}
	return watch
}

// look does what is to be done now, and says when to look again at the latest.
func (i *Installer) look() time.Duration {
	if i.cfg.Off {
		return i.removed(nil)
	}
	// What an interrupted write has left may be what fills the disk.
	swept := errors.Join(sweep(i.cfg.ConfDir), sweep(i.cfg.BinDir))
	text, source, err := derive(i.cfg.ConfDir, i.entry)
	refusal, refused := errors.AsType[*Refusal](err)
	if !refused {
		i.lostSince = time.Time{}
	}
	switch {
	case refused:
		return i.refused(refusal)
	case err != nil:
		// The runtime may well be able to read it: ours stays.
		i.publish(exists(i.list), i.source, advice(err))
		return i.timing.retry
	}
	wait, err := i.install(text, source)
	if err == nil && swept != nil {
		err = fmt.Errorf("remove what an interrupted write has left: %w", swept)
	}
	if err != nil {
		err, wait = advice(err), min(wait, i.timing.retry)
	}
	i.publish(exists(i.list), i.source, err)
	return wait
}

// refused removes ours, unless what is wrong may be over in a moment.
func (i *Installer) refused(why *Refusal) time.Duration {
	if why.Cause == Foreign || !exists(i.list) {
		i.lostSince = time.Time{}
		return i.removed(why)
	}
	if i.lostSince.IsZero() {
		i.lostSince = time.Now()
	}
	if left := i.timing.grace - time.Since(i.lostSince); left > 0 {
		i.publish(true, i.source, why)
		return left
	}
	return i.removed(why)
}

// removed removes our list. why, if not nil, is why there is none.
func (i *Installer) removed(why error) time.Duration {
	wait := i.timing.look
	if _, err := RemoveList(i.cfg.ConfDir); err != nil {
		why, wait = errors.Join(why, advice(err)), i.timing.retry
	}
	there := exists(i.list)
	if !there {
		i.source, i.wrote = "", nil
	}
	i.publish(there, i.source, why)
	return wait
}

// install puts the plugin in its place and then our list in its. It says when to
// look again at the latest.
func (i *Installer) install(text []byte, source string) (time.Duration, error) {
	program := filepath.Join(i.cfg.BinDir, cni.PluginType)
	wait, err := i.installPlugin(program)
	if err != nil && !runnable(program) {
		// With our list no pod at all could start on this node.
		_, gone := RemoveList(i.cfg.ConfDir)
		return wait, errors.Join(fmt.Errorf("pods start without Overland's plugin: %w", err), gone)
	}
	if err != nil {
		err = fmt.Errorf("pods start with an older plugin: %w", err)
	}
	if holds(i.list, listMode, text) {
		i.source = source
		return wait, err
	}
	if bytes.Equal(text, i.wrote) {
		if left := i.timing.quarrel - time.Since(i.wroteAt); left > 0 {
			return min(wait, left), err
		}
	}
	written := i.writer.replace(i.cfg.ConfDir, FileName, listMode, func(to io.Writer) error {
		_, err := to.Write(text)
		return err
	})
	if written != nil {
		return wait, errors.Join(err, fmt.Errorf("write our list: %w", written))
	}
	i.source, i.wrote, i.wroteAt = source, text, time.Now()
	return wait, err
}

func (i *Installer) installPlugin(path string) (time.Duration, error) {
	if left := i.timing.quarrel - time.Since(i.copiedAt); left > 0 && runnable(path) {
		return left, nil // looked at then
	}
	copied, err := i.plugin.install(path)
	if copied {
		i.copiedAt = time.Now()
	}
	return i.timing.look, err
}
