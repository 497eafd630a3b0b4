package source

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// feedState is how a feed is doing.
type feedState struct {
	// done: a list has been handed on in this session.
	done bool
	// notReadable: the credentials may not read it, and it is optional.
	notReadable bool
	// over: not all that is there fits into the budget.
	over bool
	// listErr and watchErr are the newest failures; nil after a success.
	listErr, watchErr *Failure
	// listFailures and watchFailures count them in a row.
	listFailures, watchFailures int
	// notBefore is when the server may be asked again.
	notBefore time.Time

	refused  map[model.RefusalReason]int
	reserved int
}

// failure is what keeps the feed from being in sync; nil if nothing does. One
// failure of what has been listed is for the reflector to get over: an API
// server that restarts is not worth a change of state.
func (s *feedState) failure() *Failure {
	switch {
	case s.listErr != nil && (!s.done || s.listFailures > 1 || s.listErr.Reason == model.ReasonTooLarge):
		return s.listErr
	case s.watchErr != nil && (!s.done || s.watchFailures > 1):
		return s.watchErr
	}
	return nil
}

// turn changes the state and tells the session.
func (f *feed) turn(change func(s *feedState)) {
	f.mu.Lock()
	change(&f.state)
	f.mu.Unlock()
	f.events.turned(f)
}

// count puts the numbers of what is odd into the state. The session looks at
// them now and then: a cluster that has its objects refused one after another
// must not cost more than that.
func (f *feed) count() {
	refused := maps.Clone(f.odd.refused)
	if n := len(f.over); n > 0 {
		refused[model.RefusedLimit] = n
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.refused, f.state.reserved = refused, f.odd.reserved
}

// listed takes how a list went.
func (f *feed) listed(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.As(err, &notBeforeErr{}) {
		return
	}
	if err == nil {
		f.turn(func(s *feedState) { s.listErr, s.listFailures = nil, 0 })
		return
	}
	why := f.explain(err, "list")
	f.turn(func(s *feedState) {
		s.listErr = why
		s.listFailures++
		f.failed(s, why)
	})
}

// watched takes how the start of a watch went. A watch that cannot be started is
// told by the list that follows, unless it is not allowed.
func (f *feed) watched(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.As(err, &notBeforeErr{}) {
		return
	}
	var why *Failure
	if err != nil {
		why = f.explain(err, "watch")
		if why.Reason != model.ReasonForbidden && why.Reason != model.ReasonUnauthorized && why.Reason != model.ReasonTokenExpired {
			return
		}
	}
	if why == nil && f.current().watchErr == nil {
		return
	}
	f.turn(func(s *feedState) {
		if s.watchErr = why; why == nil {
			s.watchFailures = 0
			return
		}
		s.watchFailures++
		f.failed(s, why)
	})
}

// explain says what a failure means and, where a right is missing that the rights
// of an earlier version did not have, what grants it.
func (f *feed) explain(err error, verb string) *Failure {
	why := f.events.explain(err, verb+" "+f.what())
	if why.Reason != model.ReasonForbidden || f.kind != model.KindService && f.kind != model.KindEndpointSlice {
		return why
	}
	from := "overland connect, run again, grants it"
	if f.local {
		from = "apply the manifests of this version, whose ClusterRole overland-agent has it"
	}
	return &Failure{why.Reason, why.Message + ". Federated Services need get, list and watch of services and of endpointslices in discovery.k8s.io: " + from, why.cause}
}

func (f *feed) what() string {
	if f.namespace != "" {
		return f.resource + " in namespace " + f.namespace
	}
	return f.resource
}

// failed takes a failure of either.
func (f *feed) failed(s *feedState, why *Failure) {
	switch {
	case why.Reason == model.ReasonTooLarge:
		s.notBefore = time.Now().Add(f.timing.RetryTooLarge)
	case why.Reason == model.ReasonForbidden && f.optional:
		// What was read of it before is kept: permissions come and go while API
		// servers restart.
		s.done, s.notReadable = true, true
		s.listErr, s.watchErr = nil, nil
		s.notBefore = time.Now().Add(f.timing.RetryMax)
	}
}

// current is a copy of the state.
func (f *feed) current() feedState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// notBeforeErr is of a question that is not asked yet.
type notBeforeErr struct{}

func (notBeforeErr) Error() string { return "it is too early to ask again" }

// mayAsk fails while it is of no use to ask.
func (f *feed) mayAsk() error {
	if time.Now().Before(f.current().notBefore) {
		return notBeforeErr{}
	}
	return nil
}

// oddity is what people should know of an object. The zero value is nothing.
type oddity struct {
	refused  model.RefusalReason
	reserved bool
}

// maxOddities bounds what is remembered of refused objects of one kind, which the
// feeds of an import list share: a hostile cluster may have any number of them.
const maxOddities = 50_000

// oddities counts the objects with an oddity.
type oddities struct {
	most     int
	of       map[uint64]oddity
	refused  map[model.RefusalReason]int
	reserved int
}

func newOddities(most int) oddities {
	return oddities{most: most, of: map[uint64]oddity{}, refused: map[model.RefusalReason]int{}}
}

// note takes what an object has, and tells whether that is new.
func (o *oddities) note(h uint64, i *item) bool {
	return o.set(h, oddity{i.refused, i.reserved})
}

func (o *oddities) set(h uint64, now oddity) bool {
	was := o.of[h]
	if was == now || was == (oddity{}) && len(o.of) >= o.most {
		return false
	}
	o.add(was, -1)
	o.add(now, 1)
	if now == (oddity{}) {
		delete(o.of, h)
	} else {
		o.of[h] = now
	}
	return true
}

func (o *oddities) add(what oddity, n int) {
	if what.refused != "" {
		if o.refused[what.refused] += n; o.refused[what.refused] == 0 {
			delete(o.refused, what.refused)
		}
	}
	if what.reserved {
		o.reserved += n
	}
}
