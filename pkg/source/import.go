package source

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/overland-net/overland/pkg/model"
)

// imports says which namespaces of a cluster pods, or Services and EndpointSlices,
// are taken of. Only with a selector can that change, with the labels of
// Namespaces: they are then listed anew, which is rare enough, and keeps nothing of
// what is in other namespaces in memory. That is also so if there are fewer: what
// goes makes room, and what was just being taken goes too. It is safe for
// concurrent use.
type imports struct {
	selector labels.Selector // nil: all that is listed

	mu      sync.Mutex
	known   chan struct{} // closed once Namespaces have been listed
	listed  bool
	current map[string]bool
	count   int64
	wake    chan struct{} // closed, and made anew, at every change
}

func newImports(selector labels.Selector) *imports {
	return &imports{selector: selector, known: make(chan struct{}), wake: make(chan struct{}), current: map[string]bool{}}
}

// wait waits until it is known what is imported of f's kind.
func (m *imports) wait(ctx context.Context, f *feed) error {
	if !f.selective() {
		return nil
	}
	select {
	case <-m.known:
		return nil
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // nobody reads it
	}
}

func (m *imports) generation() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// changed is closed at the next change.
func (m *imports) changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wake
}

// takes tells whether a namespace is imported.
func (m *imports) takes(namespace string) bool {
	if m.selector == nil {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current[namespace]
}

// selects tells whether a Namespace is imported, by its labels.
func (m *imports) selects(n *model.Namespace) bool {
	return m.selector == nil || m.selector.Matches(labelLookup{n.Labels})
}

// replace says which namespaces there are that are imported, and tells which were
// until now and are no more.
func (m *imports) replace(now map[string]bool) (dropped []string) {
	if m.selector == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.current {
		if !now[name] {
			dropped = append(dropped, name)
		}
	}
	changed := len(dropped) > 0 || len(now) != len(m.current)
	m.current = now
	if !m.listed {
		m.listed = true
		close(m.known)
	}
	if changed {
		m.bump()
	}
	return dropped
}

// set says whether one namespace is imported, and tells whether it was.
func (m *imports) set(name string, now bool) (was bool) {
	if m.selector == nil {
		return now
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	was = m.current[name]
	if now == was {
		return was
	}
	if now {
		m.current[name] = true
	} else {
		delete(m.current, name)
	}
	m.bump()
	return was
}

func (m *imports) bump() {
	m.count++
	close(m.wake)
	m.wake = make(chan struct{})
}

// labelLookup is model.Labels for apimachinery's selectors.
type labelLookup struct{ set model.Labels }

func (l labelLookup) Has(key string) bool { _, ok := l.set.Get(key); return ok }

func (l labelLookup) Get(key string) string { v, _ := l.set.Get(key); return v }

func (l labelLookup) Lookup(key string) (string, bool) { return l.set.Get(key) }
