package node

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

const (
	// prefix begins the names of the node's ends of pods' links: Azure CNI names
	// them azv and the first 11 hexadecimal digits of a SHA-1.
	prefix     = "azv"
	nameDigits = 11
	// peerSuffix is added to that for the pod's end, until it is in the pod.
	peerSuffix = "2"
)

// isPodInterface tells whether an interface of the node is its end of a pod's
// link, by name.
func isPodInterface(name string) bool {
	digits, ok := strings.CutPrefix(name, prefix)
	return ok && (len(digits) != nameDigits+len(peerSuffix) || !strings.HasSuffix(digits, peerSuffix))
}

// link is what is told of a network interface.
type link struct {
	index int
	name  string
	up    bool
}

// route is a host route of the main table.
type route struct {
	addr   netip.Addr
	metric uint32
	link   int // index; 0: it goes over several links
}

// routeKey tells routes apart: of one address the one with the lowest metric
// counts.
type routeKey struct {
	addr   netip.Addr
	metric uint32
}

// table is the node's pod interfaces and host routes, kept by what the kernel
// tells of changes. What it cannot follow for certain makes it doubtful, and then
// it has to be filled anew.
type table struct {
	names    map[int]string
	routes   map[routeKey]int
	doubtful bool
	// double: the kernel has routes of the same key, as appending them makes.
	double bool
}

func newTable() *table {
	return &table{names: map[int]string{}, routes: map[routeKey]int{}}
}

// fill is a table of all links and all routes, each in the kernel's order.
func fill(links []link, routes []route) *table {
	t := newTable()
	for _, l := range links {
		if isPodInterface(l.name) {
			t.names[l.index] = l.name
		}
	}
	for _, r := range routes {
		key := routeKey{r.addr, r.metric}
		if _, ok := t.routes[key]; ok {
			t.double = true // the first one counts
			continue
		}
		t.routes[key] = r.link
	}
	return t
}

// setLink takes that a link is there, or is there no more.
func (t *table) setLink(l link, there bool) {
	if there && isPodInterface(l.name) {
		t.names[l.index] = l.name
	} else {
		delete(t.names, l.index)
	}
	if there && l.up {
		return
	}
	// The kernel drops the routes of a link that goes down, those of IPv4
	// without a word.
	for key, index := range t.routes {
		if index == l.index {
			delete(t.routes, key)
		}
	}
}

// setRoute takes that a route is there, in place of one of the same key or not.
func (t *table) setRoute(r route, replaces bool) {
	key := routeKey{r.addr, r.metric}
	old, known := t.routes[key]
	if known && old != r.link && !replaces {
		t.doubtful = true // appended or put before: which one counts is not said
	}
	t.routes[key] = r.link
}

// removeRoute takes that a route is gone.
func (t *table) removeRoute(r route) {
	key := routeKey{r.addr, r.metric}
	if t.double || (t.routes[key] != r.link) {
		t.doubtful = true
	}
	delete(t.routes, key)
}

// interfaces is the whole truth about pod interfaces, sorted by name.
func (t *table) interfaces() []model.Interface {
	best := make(map[netip.Addr]routeKey, len(t.routes))
	for key := range t.routes {
		if other, ok := best[key.addr]; !ok || key.metric < other.metric {
			best[key.addr] = key
		}
	}
	addrs := map[int][]netip.Addr{}
	for addr, key := range best {
		if index := t.routes[key]; t.names[index] != "" {
			addrs[index] = append(addrs[index], addr)
		}
	}
	list := make([]model.Interface, 0, len(t.names))
	for index, name := range t.names {
		slices.SortFunc(addrs[index], netip.Addr.Compare)
		list = append(list, model.Interface{Name: name, Index: index, Addrs: addrs[index]})
	}
	slices.SortFunc(list, func(a, b model.Interface) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func equal(a, b model.Interface) bool {
	return a.Name == b.Name && a.Index == b.Index && slices.Equal(a.Addrs, b.Addrs)
}
