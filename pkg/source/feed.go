package source

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"github.com/overland-net/overland/pkg/model"
)

// events is what a feed tells the session that it is part of.
type events interface {
	// heard says that the API server said something.
	heard(at time.Time)
	// throttle waits until so many more events may be taken.
	throttle(ctx context.Context, events int) error
	// turned says that the state of the feed has changed.
	turned(f *feed)
	// namespace says what a Namespace is now; nil: there is none of that name.
	namespace(name string, n *model.Namespace)
	// explain says what a failure means.
	explain(err error, asked string) *Failure
}

// feed is one kind of one cluster, or of one namespace of it. It lists and
// watches for a reflector, and takes what the reflector brings: of that it keeps
// no object and no fact, only, by hashes of keys, what it has handed on.
type feed struct {
	kind    model.Kind
	cluster string
	// namespace is the one it reads; empty: all. For KindNamespace it is the name
	// of the only one.
	namespace     string
	resource      string
	fieldSelector string
	// optional: the cluster can do without it.
	optional bool
	// quiet: what it reads is for the session alone, and not handed on.
	quiet bool
	local bool
	// dependent are the kinds that the session takes of the imported namespaces.
	dependent []model.Kind

	client  rest.Interface
	timing  Timing
	budget  *budget
	imports *imports
	events  events
	sink    Sink
	gather  *gather // nil unless a namespace is read

	seed     maphash.Seed
	listedAt atomic.Int64  // the generation of imports that was listed
	relist   chan struct{} // asks for a new list

	// These belong to the reflector's goroutine.
	taken map[uint64]size // what has been handed on
	over  map[uint64]cost // what did not fit
	// missing is all that did not fit, as far as it is in over.
	missing cost
	odd     oddities // what is refused, or noticed

	mu    sync.Mutex
	state feedState
	total cost // of what is taken
}

// size is the cost of what has been handed on, in few bytes.
type size struct{ bytes, objects uint32 }

// sizeOf is bounded by what one object may have.
func sizeOf(c cost) size { return size{uint32(c.bytes), uint32(c.objects)} } //nolint:gosec // as the comment says

// selective tells whether it is a selector's matter what is taken.
func (f *feed) selective() bool {
	return f.imports.selector != nil && slices.Contains(f.dependent, f.kind)
}

// scoped tells whether requests are for one namespace; a single Namespace is
// found by a field selector instead.
func (f *feed) scoped() bool { return f.namespace != "" && f.kind != model.KindNamespace }

func (f *feed) hash(i *item) uint64 {
	type key struct{ namespace, name string }
	return maphash.Comparable(f.seed, key{i.namespace, i.name})
}

// wanted tells whether a list should keep the object.
func (f *feed) wanted(i *item) bool {
	if i.refused != "" {
		return true
	}
	return i.fact != nil && f.imported(i)
}

func (f *feed) imported(i *item) bool {
	if !f.asked(i) {
		return false
	}
	// Namespaces that are not imported are wanted for what they say of the
	// cluster, and left out later.
	return !f.selective() || f.imports.takes(i.namespace)
}

// asked tells whether the object is in what the feed reads: a server may answer
// with more.
func (f *feed) asked(i *item) bool {
	return f.namespace == "" || f.namespace == i.namespace || f.kind == model.KindNamespace && f.namespace == i.name
}

// outdated tells whether more is imported than was listed.
func (f *feed) outdated() bool {
	return f.selective() && f.listedAt.Load() != f.imports.generation()
}

// Replace takes a list.
func (f *feed) Replace(objects []any, _ string) error {
	changes := make([]model.Change, 0, len(objects))
	taken, odd, total := make(map[uint64]size, len(objects)), newOddities(f.odd.most), cost{}
	namespaces := map[string]bool{}
	for _, o := range objects {
		i, ok := o.(*item)
		if !ok {
			continue
		}
		h := f.hash(i)
		odd.note(h, i)
		n, isNamespace := i.fact.(*model.Namespace)
		if isNamespace {
			f.events.namespace(n.Key.Name, n)
		}
		if i.fact == nil || !f.imported(i) || isNamespace && !f.imports.selects(n) {
			continue
		}
		if isNamespace {
			namespaces[n.Key.Name] = true
		}
		c := costOf(i.fact)
		taken[h] = sizeOf(c)
		total = total.plus(c)
		changes = append(changes, model.Set(i.fact))
	}
	f.budget.release(f)
	if !f.budget.swap(f.cost(), total) {
		err := f.budget.failure()
		f.listed(context.Background(), err)
		return err
	}
	f.taken, f.over, f.missing, f.odd = taken, nil, cost{}, odd
	f.addCost(total.minus(f.cost()))
	f.publish(changes)
	if f.kind == model.KindNamespace {
		f.drop(f.imports.replace(namespaces)...)
	}
	f.count()
	f.turn(func(s *feedState) {
		s.done, s.notReadable, s.over = true, false, false
		s.listErr, s.listFailures = nil, 0
	})
	return nil
}

// publish hands a whole list on.
func (f *feed) publish(changes []model.Change) {
	switch {
	case f.quiet:
	case f.gather != nil:
		f.gather.replace(f.namespace, changes)
	default:
		f.sink.Facts(model.Batch{Cluster: f.cluster, Replace: f.kind, Changes: changes})
	}
}

// drop forgets what was taken of namespaces that are imported no more.
func (f *feed) drop(namespaces ...string) {
	for _, n := range namespaces {
		for _, kind := range f.dependent {
			f.sink.Facts(model.Batch{Cluster: f.cluster, Replace: kind, Namespace: n})
		}
	}
}

func (f *feed) hand(c model.Change) {
	switch {
	case f.quiet:
	case f.gather != nil:
		f.gather.change(c)
	default:
		f.sink.Facts(model.Batch{Cluster: f.cluster, Changes: []model.Change{c}})
	}
}

// Add takes a new object.
func (f *feed) Add(o any) error { return f.Update(o) }

// Update takes a changed object.
func (f *feed) Update(o any) error {
	i, ok := o.(*item)
	if !ok {
		return nil
	}
	h := f.hash(i)
	if f.odd.note(h, i) {
		f.count()
	}
	f.namespaceChanged(i.name, i.fact)
	if n, ok := i.fact.(*model.Namespace); i.fact == nil || !f.imported(i) || ok && !f.imports.selects(n) {
		f.gone(h, i)
		return nil
	}
	have, want := f.costTaken(h), costOf(i.fact)
	if !f.budget.swap(have, want) {
		// What is known is kept up to date by its going, not by its growing.
		f.gone(h, i)
		f.leaveOut(h, want)
		return nil
	}
	f.addCost(want.minus(have))
	f.taken[h] = sizeOf(want)
	f.letIn(h)
	f.hand(model.Set(i.fact))
	return nil
}

// Delete takes that an object is gone.
func (f *feed) Delete(o any) error {
	i, ok := o.(*item)
	if !ok {
		return nil
	}
	h := f.hash(i)
	if f.odd.set(h, oddity{}) {
		f.count()
	}
	f.namespaceChanged(i.name, nil)
	f.gone(h, i)
	f.letIn(h)
	return nil
}

// Resync is there for cache.ReflectorStore.
func (*feed) Resync() error { return nil }

// cost is that of all that is taken. A stream that is given up may still ask.
func (f *feed) cost() cost {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

func (f *feed) addCost(c cost) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total = f.total.plus(c)
}

func (f *feed) costTaken(h uint64) cost {
	s := f.taken[h]
	return cost{int(s.objects), int(s.bytes)}
}

// gone hands on that an object says no fact any more, if it did.
func (f *feed) gone(h uint64, i *item) {
	if _, ok := f.taken[h]; !ok {
		return
	}
	have := f.costTaken(h)
	f.budget.swap(have, cost{})
	f.addCost(cost{}.minus(have))
	delete(f.taken, h)
	f.hand(model.Gone(i.key(f.kind, f.cluster)))
}

// leaveOut remembers what did not fit, as far as it is worth it: with more than
// the limit of them no new list will help.
func (f *feed) leaveOut(h uint64, c cost) {
	if f.over == nil {
		f.over = map[uint64]cost{}
	}
	if _, known := f.over[h]; known || len(f.over) <= f.budget.limit.objects {
		f.missing = f.missing.minus(f.over[h]).plus(c)
		f.over[h] = c
	}
	f.count()
	f.turn(func(s *feedState) { s.over = true })
}

// letIn forgets that something was left out, and asks for a new list as soon as
// all the rest fits.
func (f *feed) letIn(h uint64) {
	if f.over == nil {
		return
	}
	f.missing = f.missing.minus(f.over[h])
	delete(f.over, h)
	f.count()
	if f.budget.fits(cost{}, f.missing) {
		select {
		case f.relist <- struct{}{}:
		default:
		}
	}
}

// namespaceChanged follows which namespaces are imported, by their labels.
func (f *feed) namespaceChanged(name string, fact model.Fact) {
	if f.kind != model.KindNamespace {
		return
	}
	n, _ := fact.(*model.Namespace)
	f.events.namespace(name, n)
	now := n != nil && f.imports.selects(n)
	if was := f.imports.set(name, now); was && !now {
		f.drop(name)
	}
}
