package federation

import (
	"container/heap"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// The rate at which one Service is planned: so often in a row, and then once more
// each so long. What happens meanwhile is in the next plan.
const (
	planBurst  = 5
	planPeriod = 250 * time.Millisecond
)

// queue says which federated Service is to be planned when. It belongs to one
// goroutine; times are given to it.
type queue struct {
	items map[model.Key]*queued
	order dueOrder // of those that are due sometime, and not busy
}

// queued is a Service in the queue.
type queued struct {
	key   model.Key
	turns bucket
	// dirty: something has changed. due is when time alone changes something; zero:
	// never.
	dirty bool
	since time.Time // dirty
	due   time.Time
	// busy: what was planned is being written.
	busy  bool
	when  time.Time // when it comes next
	index int       // in the order; -1: not there
}

func newQueue() *queue { return &queue{items: map[model.Key]*queued{}} }

func (q *queue) item(key model.Key) *queued {
	x := q.items[key]
	if x == nil {
		x = &queued{key: key, turns: bucket{burst: planBurst, period: planPeriod}, index: -1}
		q.items[key] = x
	}
	return x
}

// mark has a Service planned as soon as may be.
func (q *queue) mark(now time.Time, key model.Key) {
	x := q.item(key)
	if !x.dirty {
		x.dirty, x.since = true, now
		q.place(now, x)
	}
}

// at has a Service planned at a time, if nothing else comes before.
func (q *queue) at(now time.Time, key model.Key, due time.Time) {
	if due.IsZero() {
		return
	}
	x := q.item(key)
	if x.due.IsZero() || due.Before(x.due) {
		x.due = due
		q.place(now, x)
	}
}

// place puts a Service where it belongs in the order.
func (q *queue) place(now time.Time, x *queued) {
	when := x.due
	if x.dirty && (when.IsZero() || x.since.Before(when)) {
		when = x.since
	}
	if when.IsZero() || x.busy {
		if x.index >= 0 {
			heap.Remove(&q.order, x.index)
		}
		return
	}
	if turn := now.Add(x.turns.wait(now)); turn.After(when) {
		when = turn
	}
	x.when = when
	if x.index < 0 {
		heap.Push(&q.order, x)
		return
	}
	heap.Fix(&q.order, x.index)
}

// next takes the Service that is to be planned now. With ok false, wait is how
// long until there may be one, 0: none is to come.
func (q *queue) next(now time.Time) (key model.Key, wait time.Duration, ok bool) {
	if len(q.order) == 0 {
		return model.Key{}, 0, false
	}
	x := q.order[0]
	if wait := x.when.Sub(now); wait > 0 {
		return model.Key{}, wait, false
	}
	x.dirty, x.due = false, time.Time{}
	x.turns.take(now)
	heap.Remove(&q.order, x.index)
	return x.key, 0, true
}

// start keeps a Service out of the order until done: it is being written.
func (q *queue) start(key model.Key) { q.item(key).busy = true }

func (q *queue) done(now time.Time, key model.Key) {
	x := q.item(key)
	x.busy = false
	q.place(now, x)
}

// sweep forgets the Services of which there is nothing to remember.
func (q *queue) sweep(now time.Time) {
	for key, x := range q.items {
		if !x.busy && x.index < 0 && !x.turns.full.After(now) {
			delete(q.items, key)
		}
	}
}

// dueOrder is a heap of Services by when they come.
type dueOrder []*queued

// Len is for container/heap.
func (o dueOrder) Len() int { return len(o) }

// Less is for container/heap.
func (o dueOrder) Less(i, j int) bool { return o[i].when.Before(o[j].when) }

// Swap is for container/heap.
func (o dueOrder) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].index, o[j].index = i, j
}

// Push is for container/heap.
func (o *dueOrder) Push(x any) {
	item := x.(*queued) //nolint:forcetypeassert // nothing else is pushed
	item.index = len(*o)
	*o = append(*o, item)
}

// Pop is for container/heap.
func (o *dueOrder) Pop() any {
	last := len(*o) - 1
	x := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	x.index = -1
	return x
}
