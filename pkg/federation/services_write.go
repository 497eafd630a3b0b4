package federation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/federation/plan"
)

// errForeign: an object of that name is there, and it is somebody else's.
var errForeign = errors.New("an object of that name is there, and not one of ours for this Service")

// errUnread: a write that does not say what it was planned on would change
// whatever is there by now (semantics 4.11).
var errUnread = errors.New("planned on no uid and resourceVersion")

// Result is what came of a write; a label value of metrics.
type Result string

// The results of writes.
const (
	ResultOK        Result = "ok"
	ResultConflict  Result = "conflict" // somebody else was faster
	ResultForbidden Result = "forbidden"
	ResultError     Result = "error"
)

// resultOf is the result of a write that ended with this error.
func resultOf(err error) Result {
	switch {
	case err == nil:
		return ResultOK
	case apierrors.IsForbidden(err):
		return ResultForbidden
	case errors.Is(err, errForeign):
		return ResultError
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return ResultConflict
	}
	return ResultError
}

// written is a write that was tried.
type written struct {
	id     string // of the object, in its Service
	kind   kind
	op     string
	result Result
	err    error
	bytes  int            // sent
	told   *toldCondition // of a condition that was written
}

// broken tells whether there was no answer: it may be the same with the next
// write, which would keep a writer for as long again.
func (w *written) broken() bool {
	return w.err != nil && apierrors.ReasonForError(w.err) == metav1.StatusReasonUnknown &&
		!errors.Is(w.err, errForeign) && !errors.Is(w.err, errUnread)
}

// change is one of a plan, with what the writer needs to know of it.
type change struct {
	plan.Change
	id   string
	kind kind
}

func named(c plan.Change) change {
	if c.Slice != nil {
		return change{c, string(kindSlice) + "/" + c.Slice.Name, kindSlice}
	}
	return change{c, string(kindEndpoints), kindEndpoints}
}

func opName(op plan.Op) string {
	switch op {
	case plan.Create:
		return "create"
	case plan.Update:
		return "update"
	case plan.Delete:
		return "delete"
	}
	return "unknown"
}

// job is what is to be written for one Service.
type job struct {
	service types.NamespacedName
	changes []change
	// held are the kinds of which some change is held back after a failure: what
	// depends on it has to wait, too.
	held map[kind]bool
	// reread: somebody else's Endpoints object is to be looked at again.
	reread bool
	// condition is nil if none is to be written.
	condition *conditionWrite
}

// do writes, in the plan's order. What takes something away, or remembers what was
// done, comes after what it rests on, and is left out if some of that failed: a
// Service is never empty in between.
func (s *Services) do(ctx context.Context, j *job, known *ownObjects) []written {
	if j.reread {
		s.reread(ctx, j.service, known)
	}
	var all []written
	failed := maps.Clone(j.held)
	for _, c := range j.changes {
		if ctx.Err() != nil || failed[c.kind] && c.Dependent {
			continue
		}
		w := s.write(ctx, j.service, c, known)
		failed[c.kind] = failed[c.kind] || w.err != nil
		if all = append(all, w); w.broken() {
			return all
		}
	}
	if j.condition != nil && ctx.Err() == nil {
		if w, tried := s.writeCondition(ctx, j, all); tried {
			all = append(all, w)
		}
	}
	return all
}

// write makes one change.
func (s *Services) write(ctx context.Context, service types.NamespacedName, c change, known *ownObjects) written {
	w := written{id: c.id, kind: c.kind, op: opName(c.Op)}
	if c.kind == kindSlice {
		w.bytes = sent(c.Op, c.Slice.Size())
		w.err = writeObject(ctx, s.client.DiscoveryV1().EndpointSlices(service.Namespace), c.Op, c.Slice, known.slicesOf(service, c.Slice))
	} else {
		w.bytes = sent(c.Op, c.Endpoints.Size())
		w.err = writeObject(ctx, s.client.CoreV1().Endpoints(service.Namespace), c.Op, c.Endpoints, known.endpointsOf(service, c.Endpoints))
	}
	w.result = resultOf(w.err)
	return w
}

// sent is how many bytes of an object a write sends.
func sent(op plan.Op, size int) int {
	if op == plan.Delete {
		return 0
	}
	return size
}

// writer is what is needed of the API server for objects of one kind in one
// namespace.
type writer[T metav1.Object] interface {
	Create(ctx context.Context, object T, opts metav1.CreateOptions) (T, error)
	Update(ctx context.Context, object T, opts metav1.UpdateOptions) (T, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
}

// writeObject makes one change of one object: of exactly the one that was read. If
// that is not there any more as it was, it reads what is.
func writeObject[T metav1.Object](ctx context.Context, api writer[T], op plan.Op, object T, sees sight[T]) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	uid, version := object.GetUID(), object.GetResourceVersion()
	if op != plan.Create && (uid == "" || version == "") {
		return fmt.Errorf("%s %s/%s: %w", opName(op), object.GetNamespace(), object.GetName(), errUnread)
	}
	var result T
	var err error
	switch op {
	case plan.Create:
		result, err = api.Create(ctx, object, metav1.CreateOptions{})
	case plan.Update:
		result, err = api.Update(ctx, object, metav1.UpdateOptions{})
	case plan.Delete:
		err = api.Delete(ctx, object.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
		if err == nil || apierrors.IsNotFound(err) {
			sees.gone(err == nil)
			return nil
		}
	}
	switch {
	case err == nil:
		sees.wrote(result)
		return nil
	case op != plan.Create && apierrors.IsNotFound(err):
		sees.gone(false)
		return err
	case !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err):
		return err
	}
	is, readErr := api.Get(ctx, object.GetName(), metav1.GetOptions{})
	switch {
	case readErr == nil:
		if !sees.saw(is) && op == plan.Create {
			return fmt.Errorf("create %s/%s: %w", object.GetNamespace(), object.GetName(), errForeign)
		}
	case apierrors.IsNotFound(readErr) && op != plan.Create:
		sees.gone(false)
	}
	return err
}

// reread reads an Endpoints object that no watch shows. Failing is no matter: it
// is tried again with the next plan.
func (s *Services) reread(ctx context.Context, service types.NamespacedName, known *ownObjects) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	is, err := s.client.CoreV1().Endpoints(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{})
	switch {
	case err == nil:
		known.lock(func() { known.readEndpoints(time.Now(), service, is) })
	case apierrors.IsNotFound(err):
		known.lock(func() { known.readEndpoints(time.Now(), service, nil) })
	}
}
