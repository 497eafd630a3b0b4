package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/model"
)

const (
	// debounce is how long a change waits for those that come with it: a pod's
	// link is made in some ten steps, all within a few milliseconds.
	debounce = 5 * time.Millisecond
	// listGap is the least time between two lists, which take some milliseconds
	// each, when changes come that only a list makes certain.
	listGap = 100 * time.Millisecond
	// listInterval is how often all is listed without need, to be sure.
	listInterval = time.Minute
	// retryInterval is when a list that failed is made again.
	retryInterval = time.Second
	// listTimeout is how long the kernel may take to answer.
	listTimeout = 5 * time.Second
	// listTries is how often a list is begun anew that changes interrupt.
	listTries = 5
	// bufferBytes holds some ten thousand events, a second of them and more.
	bufferBytes = 8 << 20
)

// Watcher tells which pod interfaces there are in one network namespace. It is
// for one goroutine.
type Watcher struct {
	deliver func([]model.Interface)
	log     *logrus.Entry
	events  *nl.NetlinkSocket
	asking  asker

	table    *table
	told     bool
	last     []model.Interface
	dirtyAt  time.Time // since when a change waits; zero: none does
	listedAt time.Time
	stale    bool // the table must be filled anew
	overrun  bool // what waits to be read is old, and the kernel drops what is newer
	failing  bool
}

// NewWatcher subscribes to the links and routes of the network namespace of the
// calling thread. The Watcher gives deliver the whole truth, sorted by name,
// first as it is and then whenever it has changed; it does not change the slices
// afterwards. Close or Run frees what it holds.
func NewWatcher(deliver func([]model.Interface), log *logrus.Entry) (*Watcher, error) {
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("subscribe to network links and routes: %w", err)
	}
	// Beyond the system's limit with NET_ADMIN; without, up to it. An overrun
	// is noticed, and only costs a list.
	if events.SetReceiveBufferSize(bufferBytes, true) != nil {
		_ = events.SetReceiveBufferSize(bufferBytes, false)
	}
	asking, err := newAsker()
	if err != nil {
		events.Close()
		return nil, err
	}
	return &Watcher{deliver: deliver, log: log, events: events, asking: asking, table: newTable(), stale: true}, nil
}

// Close frees what the Watcher holds. It need not be called after Run.
func (w *Watcher) Close() {
	w.events.Close()
	w.asking.Close()
}

// Run watches until ctx ends, and returns nil. It is called once.
func (w *Watcher) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, w.events.Close)
	defer w.asking.Close()
	defer func() {
		if stop() {
			w.events.Close()
		}
	}()
	for ctx.Err() == nil {
		now := time.Now()
		if !now.Before(w.listDue()) {
			w.relist(now)
		}
		if !w.stale && !w.dirtyAt.IsZero() && now.Sub(w.dirtyAt) >= debounce {
			w.tell()
		}
		if err := w.receive(time.Until(w.due())); err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch network links and routes: %w", err)
		}
	}
	return nil
}

// List is what is there now.
func (w *Watcher) List() ([]model.Interface, error) {
	t, err := w.asking.list()
	if err != nil {
		return nil, err
	}
	return t.interfaces(), nil
}

func (w *Watcher) listDue() time.Time {
	switch {
	case w.listedAt.IsZero():
		return time.Time{}
	case w.failing:
		return w.listedAt.Add(retryInterval)
	case w.stale || w.table.doubtful:
		return w.listedAt.Add(listGap)
	}
	return w.listedAt.Add(listInterval)
}

// due is when there is something to do though nothing comes in. While events are
// missing nothing is told but a list.
func (w *Watcher) due() time.Time {
	due := w.listDue()
	if !w.stale && !w.dirtyAt.IsZero() {
		if told := w.dirtyAt.Add(debounce); told.Before(due) {
			return told
		}
	}
	return due
}

// relist fills the table anew. Events that are older than the list are still to
// come: each key's last one says what the list says, or what is newer. Not so in
// an overrun: then nothing but a list counts until all of them are read.
func (w *Watcher) relist(now time.Time) {
	w.listedAt = now
	t, err := w.asking.list()
	if err != nil {
		if !w.failing {
			w.log.WithError(err).Warn("cannot list the network interfaces and routes: trying again every second")
		}
		w.failing = true
		return
	}
	if w.failing {
		w.log.Info("network interfaces and routes are listed again")
	}
	w.table, w.stale, w.failing = t, w.overrun, false
	w.tell()
}

// tell delivers what has changed.
func (w *Watcher) tell() {
	w.dirtyAt = time.Time{}
	list := w.table.interfaces()
	if w.told && slices.EqualFunc(w.last, list, equal) {
		return
	}
	w.told, w.last = true, list
	w.deliver(list)
}

// receive takes what comes within wait.
func (w *Watcher) receive(wait time.Duration) error {
	timeout := unix.NsecToTimeval(max(wait, 10*time.Microsecond).Nanoseconds())
	if err := w.events.SetReceiveTimeout(&timeout); err != nil {
		return err
	}
	messages, from, err := w.events.Receive()
	switch {
	case errors.Is(err, unix.EAGAIN):
		w.overrun = false // all is read: from now on the kernel keeps what comes
		return nil
	case errors.Is(err, unix.EINTR):
		return nil
	case errors.Is(err, unix.ENOBUFS):
		w.stale, w.overrun = true, true // events are lost
		return nil
	case err != nil:
		return err
	case from.Pid != nl.PidKernel:
		return nil
	}
	for _, m := range messages {
		w.event(m.Header.Type, m.Header.Flags, m.Data)
	}
	return nil
}

// event takes one event. One that cannot be read makes a list necessary.
func (w *Watcher) event(kind, flags uint16, data []byte) {
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, ok, err := parseLink(data)
		if err != nil {
			w.stale = true
		}
		if err != nil || !ok {
			return
		}
		w.table.setLink(l, kind == unix.RTM_NEWLINK)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r, ok, err := parseRoute(data)
		if err != nil {
			w.stale = true
		}
		if err != nil || !ok {
			return
		}
		if kind == unix.RTM_NEWROUTE {
			w.table.setRoute(r, flags&unix.NLM_F_REPLACE != 0)
		} else {
			w.table.removeRoute(r)
		}
	default:
		return
	}
	if w.dirtyAt.IsZero() {
		w.dirtyAt = time.Now()
	}
}
