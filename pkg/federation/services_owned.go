package federation

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// goneFor is how long it is remembered at most that an object was deleted: an
// informer that has not shown it by then has missed it.
const goneFor = 10 * time.Minute

// owned is the newest that is known of local objects of one kind: what an informer
// shows, what a request has answered, what was written. So an informer that lags
// behind own writes brings nothing old back.
type owned[T metav1.Object] struct {
	// service is the name of the Service that an object is for; empty: of none.
	service func(T) string
	objects map[types.NamespacedName]T
	// names are those of a Service's objects.
	names map[types.NamespacedName]map[types.NamespacedName]bool
	// gone are objects deleted here that the informer has not shown as such.
	gone map[types.UID]time.Time
}

func newOwned[T metav1.Object](service func(T) string) owned[T] {
	return owned[T]{
		service: service, objects: map[types.NamespacedName]T{},
		names: map[types.NamespacedName]map[types.NamespacedName]bool{}, gone: map[types.UID]time.Time{},
	}
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// newer tells whether a resource version is a later one than another. Of versions
// that are no numbers nothing can be told: what comes last is taken then.
func newer(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil && a != b || order > 0
}

// saw takes a version of an object. It gives the Services that it changes
// something for.
func (o *owned[T]) saw(x T) []types.NamespacedName {
	name := nameOf(x)
	if _, gone := o.gone[x.GetUID()]; gone {
		return nil
	}
	had, known := o.objects[name]
	if known && !newer(x.GetResourceVersion(), had.GetResourceVersion()) {
		return nil
	}
	var affected []types.NamespacedName
	if known {
		affected = o.remove(name)
	}
	o.objects[name] = x
	if s := o.service(x); s != "" {
		of := types.NamespacedName{Namespace: name.Namespace, Name: s}
		if o.names[of] == nil {
			o.names[of] = map[types.NamespacedName]bool{}
		}
		o.names[of][name] = true
		if !slices.Contains(affected, of) {
			affected = append(affected, of)
		}
	}
	return affected
}

func (o *owned[T]) remove(name types.NamespacedName) []types.NamespacedName {
	x, known := o.objects[name]
	if !known {
		return nil
	}
	delete(o.objects, name)
	s := o.service(x)
	if s == "" {
		return nil
	}
	of := types.NamespacedName{Namespace: name.Namespace, Name: s}
	if delete(o.names[of], name); len(o.names[of]) == 0 {
		delete(o.names, of)
	}
	return []types.NamespacedName{of}
}

// vanished takes from the informer that an object is gone, or is not one of ours
// any more. What is known of it may be newer: it has come back since.
func (o *owned[T]) vanished(x T, version string) []types.NamespacedName {
	delete(o.gone, x.GetUID())
	had, known := o.objects[nameOf(x)]
	if !known || had.GetUID() != x.GetUID() || version != "" && newer(had.GetResourceVersion(), version) {
		return nil
	}
	return o.remove(nameOf(x))
}

// deleted takes that the object of that uid is not there any more, by an answer of
// the API server.
func (o *owned[T]) deleted(now time.Time, name types.NamespacedName, uid types.UID) []types.NamespacedName {
	for u, at := range o.gone {
		if now.Sub(at) > goneFor {
			delete(o.gone, u)
		}
	}
	o.gone[uid] = now
	if had, known := o.objects[name]; !known || had.GetUID() != uid {
		return nil
	}
	return o.remove(name)
}

// of are the objects of a Service, by name.
func (o *owned[T]) of(service types.NamespacedName) []T {
	var all []T
	for name := range o.names[service] {
		all = append(all, o.objects[name])
	}
	slices.SortFunc(all, func(a, b T) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}
