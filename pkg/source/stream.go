package source

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// hiddenError keeps a reflector from looking into the cause of a streamed list's
// failure: for some it waits, where nothing can stop it, before it falls back.
type hiddenError struct{ text string }

func (e hiddenError) Error() string { return e.text }

// longestWatch is for a watch that was asked for without a timeout: reflectors
// ask for 5 to 10 minutes.
const longestWatch = 10 * time.Minute

// WatchWithContext starts a watch, or a streamed list, for a reflector.
func (f *feed) WatchWithContext(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	initial := opts.SendInitialEvents != nil && *opts.SendInitialEvents
	if err := f.mayAsk(); err != nil {
		return nil, hiddenError{err.Error()}
	}
	if initial {
		if err := f.imports.wait(ctx, f); err != nil {
			return nil, hiddenError{err.Error()}
		}
		f.listedAt.Store(f.imports.generation())
	}
	opts.Watch, opts.FieldSelector = true, f.fieldSelector
	// The server ends the watch in time; one that does not is not waited for.
	timeout := f.timing.PageTimeout + longestWatch
	if opts.TimeoutSeconds != nil {
		timeout = f.timing.PageTimeout + time.Duration(*opts.TimeoutSeconds)*time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	w, err := f.open(ctx, opts)
	if !initial {
		f.watched(ctx, err)
	}
	if err != nil {
		cancel()
		if initial {
			return nil, hiddenError{err.Error()}
		}
		return nil, err
	}
	s := &stream{feed: f, ctx: ctx, cancel: cancel, source: w, out: make(chan watch.Event), initial: initial}
	go s.run()
	return s, nil
}

// open waits for the answer's head no longer than for a page.
func (f *feed) open(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(f.timing.PageTimeout, cancel)
	w, err := f.client.Get().NamespaceIfScoped(f.namespace, f.scoped()).Resource(f.resource).
		VersionedParams(&opts, scheme.ParameterCodec).MaxRetries(0).Watch(ctx)
	intime := late.Stop()
	switch {
	case err != nil && !intime:
		err = context.DeadlineExceeded
		fallthrough
	case err != nil:
		cancel()
		return nil, fmt.Errorf("watch %s: %w", f.resource, err)
	}
	// The parent ends the context of a watch that goes on.
	context.AfterFunc(ctx, cancel)
	return w, nil
}

// stream passes on the events of a watch. Between a hostile server and the
// reflector's memory it is what counts.
type stream struct {
	feed    *feed
	ctx     context.Context //nolint:containedctx // of the one request that the stream is
	cancel  context.CancelFunc
	source  watch.Interface
	out     chan watch.Event
	stopped sync.Once

	initial bool // until the bookmark that ends a streamed list
	total   cost // of a streamed list
	events  int
}

// ResultChan gives the events.
func (s *stream) ResultChan() <-chan watch.Event { return s.out }

// Stop ends the stream. It may be called at any time, from any goroutine.
func (s *stream) Stop() {
	s.stopped.Do(func() {
		s.cancel()
		s.source.Stop()
	})
}

func (s *stream) run() {
	defer close(s.out)
	defer s.Stop()
	defer func() {
		if s.initial {
			s.feed.budget.release(s.feed)
		}
	}()
	idle := time.NewTimer(s.feed.timing.PageTimeout)
	defer idle.Stop()
	changed := s.feed.imports.changed()
	for {
		if !s.initial && s.feed.outdated() {
			s.fail(http.StatusGone, metav1.StatusReasonExpired, "what is imported has changed")
			return
		}
		select {
		case <-s.ctx.Done():
			return
		case <-changed:
			changed = s.feed.imports.changed()
		case <-s.feed.relist:
			s.fail(http.StatusGone, metav1.StatusReasonExpired, "there is room again for what was left out")
			return
		case <-idle.C:
			if s.initial {
				s.fail(http.StatusGatewayTimeout, metav1.StatusReasonTimeout, "the streamed list stands still")
				return
			}
		case e, ok := <-s.source.ResultChan():
			if !ok || !s.pass(e) {
				return
			}
			idle.Reset(s.feed.timing.PageTimeout)
		}
	}
}

// pass hands an event on, if it is wanted; false: the stream has ended.
func (s *stream) pass(e watch.Event) bool {
	f := s.feed
	i, ok := e.Object.(*item)
	if f.events.throttle(s.ctx, weightOf(i)) != nil {
		return false
	}
	if !ok {
		return s.send(e) // a Status
	}
	if i.kind != f.kind {
		return true // nobody asked for it
	}
	f.events.heard(time.Now())
	if !s.initial {
		return s.send(e)
	}
	s.events++
	switch {
	case i.initialEventsEnd:
		s.initial = false
		f.watched(s.ctx, nil)
		return s.send(e)
	case s.events > s.most():
		return s.tooMany()
	case e.Type == watch.Added && !f.wanted(i):
		return true
	case e.Type == watch.Added, e.Type == watch.Modified:
		// The reflector keeps both. A change of what was sent before counts once
		// more: there are few while a list is streamed.
		s.total = s.total.plus(costOf(i.fact))
		if !f.budget.reserve(f, f.cost(), s.total) {
			return s.tooMany()
		}
	}
	return s.send(e)
}

// weightOf is how many events one counts for: what an EndpointSlice costs to
// read, and to look at, grows with its endpoints. i may be nil.
func weightOf(i *item) int {
	const endpoints = 50 // as much as a pod
	if i == nil || i.fact == nil {
		return 1
	}
	return 1 + costOf(i.fact).objects/endpoints
}

// most is how many events a streamed list may have.
func (s *stream) most() int { return s.feed.maxPages(pageSize) * pageSize }

func (s *stream) tooMany() bool {
	err := s.feed.budget.failure()
	s.feed.listed(s.ctx, err)
	s.fail(http.StatusInsufficientStorage, metav1.StatusReasonUnknown, err.Message)
	return false
}

func (s *stream) fail(code int32, reason metav1.StatusReason, message string) {
	s.send(watch.Event{Type: watch.Error, Object: &metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	}})
}

func (s *stream) send(e watch.Event) bool {
	select {
	case s.out <- e:
		return true
	case <-s.ctx.Done():
		return false
	}
}
