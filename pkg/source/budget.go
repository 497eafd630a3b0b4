package source

import (
	"sync"

	"github.com/overland-net/overland/pkg/model"
)

// cost is what objects take of a budget.
type cost struct{ objects, bytes int }

func (c cost) plus(d cost) cost { return cost{c.objects + d.objects, c.bytes + d.bytes} }

func (c cost) minus(d cost) cost { return cost{c.objects - d.objects, c.bytes - d.bytes} }

// costOf is what a fact takes beyond its fixed size, and one object.
func costOf(f model.Fact) cost {
	const address, port, text = 24, 24, 16 // sizes in memory
	c := cost{objects: 1}
	switch f := f.(type) {
	case *model.Endpoint:
		c.bytes = len(f.Key.Name) + len(f.Labels.Encoded()) + address*len(f.Addresses) + port*len(f.Ports)
	case *model.Namespace:
		c.bytes = len(f.Key.Name) + len(f.Labels.Encoded())
	case *model.Service:
		c.bytes = len(f.Key.Name) + len(f.Labels.Encoded())
		for _, p := range f.Ports {
			c.bytes += port + text + len(p.Name) + len(p.AppProtocol)
		}
		for key, value := range f.Annotations {
			c.bytes += 2*text + len(key) + len(value)
		}
	case *model.EndpointSlice:
		// Each of its endpoints counts: slices may have one or a thousand.
		c.objects = max(1, len(f.Endpoints))
		c.bytes = len(f.Key.Name) + len(f.Service) + len(f.ManagedBy) + len(f.AddressType)
		for _, p := range f.Ports {
			c.bytes += port + 2*text + len(p.Name) + len(p.Protocol) + len(p.AppProtocol)
		}
		for i := range f.Endpoints {
			c.bytes += bytesOf(&f.Endpoints[i])
		}
	}
	return c
}

// bytesOf is what an endpoint of an EndpointSlice takes.
func bytesOf(e *model.SliceEndpoint) int {
	const endpoint, text = 144, 16 // sizes in memory
	n := endpoint + len(e.Hostname) + len(e.Node) + len(e.Zone) +
		len(e.Target.Kind) + len(e.Target.Namespace) + len(e.Target.Name) + len(e.Target.UID)
	for _, a := range e.Addresses {
		n += text + len(a)
	}
	return n
}

// budget bounds what one cluster may have known of it. It is safe for concurrent
// use.
type budget struct {
	limit cost // objects 0: no limit
	// objects and bytes are words for people: of what there is a limit.
	objects, bytes string

	mu   sync.Mutex
	used cost
	// listing is what lists that are being read have beyond what was taken of the
	// same before; pending is all of it.
	listing map[*feed]cost
	pending cost
}

func newBudget(c *config, objects, bytes string) *budget {
	return &budget{limit: cost{c.limit, c.bytesLimit()}, objects: objects, bytes: bytes}
}

// swap takes want in the place of what have took; false, and nothing is changed,
// if that does not fit.
func (b *budget) swap(have, want cost) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := b.used.minus(have).plus(want)
	if !b.holds(next) && (want.objects > have.objects || want.bytes > have.bytes) {
		return false
	}
	b.used = next
	return true
}

// reserve takes note that a list has come to want, of a feed that has taken have
// so far; false if that does not fit beside all that is being read: as many lists
// as there are namespaces in an import list are read at a time.
func (b *budget) reserve(f *feed, have, want cost) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listing == nil {
		b.listing = map[*feed]cost{}
	}
	more := cost{max(0, want.objects-have.objects), max(0, want.bytes-have.bytes)}
	b.pending = b.pending.minus(b.listing[f]).plus(more)
	b.listing[f] = more
	return b.holds(b.used.plus(b.pending))
}

// release takes note that a feed reads no list any more.
func (b *budget) release(f *feed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = b.pending.minus(b.listing[f])
	delete(b.listing, f)
}

// fits tells whether swap would take it now.
func (b *budget) fits(have, want cost) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.holds(b.used.minus(have).plus(want))
}

func (b *budget) holds(c cost) bool {
	return b.limit.objects == 0 || c.objects <= b.limit.objects && c.bytes <= b.limit.bytes
}

func (b *budget) failure() *Failure {
	return failure(model.ReasonTooLarge,
		"it has more than the %d %s, or %d MiB of %s, that spec.limits.endpoints allows: raise it, or import fewer namespaces",
		b.limit.objects, b.objects, b.limit.bytes>>20, b.bytes)
}
