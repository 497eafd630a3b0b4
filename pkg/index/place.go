package index

import (
	"strings"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// place is where a term of a cover is looked up: a key, reserved or not, with a
// value or any.
type place struct {
	in         dimension
	key, value string
	any        bool
}

// dimension is what a place is a place of, the narrowest first.
type dimension uint8

const (
	ofEndpoint     dimension = iota // labels of endpoints, and service accounts
	ofSpace                         // labels of namespaces
	ofSpaceName                     // namespaces by name, in all clusters
	ofClusterLabel                  // labels of clusters
	ofClusterName
	ofKind
)

// breadth tells how much a change of one endpoint has in common with others: a
// selector registered under a cluster or kind is looked at by all of them.
func (p place) breadth() int {
	switch {
	case p.in == ofKind, p.any && (p.in == ofClusterName || p.in == ofSpaceName):
		return 2
	case p.in == ofClusterName, p.in == ofClusterLabel:
		return 1
	}
	return 0
}

// placeOf is where a term is looked up; false for one that nothing satisfies.
func placeOf(t selector.Term) (place, bool) {
	p := place{in: ofEndpoint, key: t.Key, value: t.Value, any: t.AnyValue}
	if !model.ReservedLabel(t.Key) {
		return p, true
	}
	if rest, ok := strings.CutPrefix(t.Key, model.PrefixNamespace); ok {
		if p.in, p.key = ofSpace, rest; rest == model.KeyNamespaceName {
			p.in, p.key = ofSpaceName, model.KeyNamespace
		}
		return p, !model.ReservedLabel(rest)
	}
	if rest, ok := strings.CutPrefix(t.Key, model.PrefixCluster); ok {
		p.in, p.key = ofClusterLabel, rest
		return p, true
	}
	switch t.Key {
	case model.KeyServiceAccount:
		return p, true
	case model.KeyNamespace:
		p.in = ofSpaceName
	case model.KeyCluster:
		p.in = ofClusterName
	case model.KeyKind:
		p.in = ofKind
	default:
		return p, false
	}
	return p, true
}

// covers are the covers of a selector, without the terms that nothing satisfies.
func (x *Index) covers(m *selector.Matcher) [][]place {
	var covers [][]place
	for _, terms := range m.Covers() {
		cover := make([]place, 0, len(terms))
		for _, t := range terms {
			if p, ok := placeOf(t); ok {
				cover = append(cover, p)
			}
		}
		covers = append(covers, cover)
	}
	return covers
}

// table is where selectors are registered under a place.
func (x *Index) table(p place) *table {
	switch p.in {
	case ofSpace, ofSpaceName:
		return x.spaceLabels
	case ofClusterLabel, ofClusterName:
		return x.clusterLabels
	}
	return x.labels
}

// count is about how many endpoints are in a place. It may stop at limit.
func (x *Index) count(p place, limit int) int {
	count := 0
	switch p.in {
	case ofEndpoint:
		return x.labels.count(p)
	case ofClusterLabel, ofClusterName, ofKind:
		for _, c := range x.clusters {
			count += c.count(p)
		}
		return count
	}
	x.eachSpaceOf(p, func(s *space) bool {
		count += max(1, len(s.members)) // an empty one has its price too
		return count < limit
	})
	return count
}

// count is how many endpoints of the cluster are in a place of clusters or kinds.
func (c *cluster) count(p place) int {
	switch {
	case p.in == ofKind && !p.any && p.value == model.KindNode.String():
		return c.nodes.len()
	case p.in == ofKind && !p.any:
		return c.pods.len()
	case !c.within(p):
		return 0
	}
	return c.pods.len() + c.nodes.len()
}

// within tells whether a place of clusters or kinds has the cluster.
func (c *cluster) within(p place) bool {
	switch p.in {
	case ofClusterName:
		return p.any || c.name == p.value
	case ofClusterLabel:
		v, found := c.labels.Get(p.key)
		return found && (p.any || v == p.value)
	}
	return true
}

// each calls f with the slots of all endpoints in a place, and maybe others,
// until it returns false, and then does itself.
func (x *Index) each(p place, f func(uint32) bool) bool {
	if p.in == ofEndpoint {
		for n := range x.labels.having(p) {
			if !f(n) {
				return false
			}
		}
		return true
	}
	return x.eachSpaceOf(p, func(s *space) bool {
		for _, n := range s.members {
			if !f(n) {
				return false
			}
		}
		return true
	})
}

// eachSpaceOf calls f with the spaces in a place, and maybe others, until it
// returns false, and then does itself.
func (x *Index) eachSpaceOf(p place, f func(*space) bool) bool {
	if p.in == ofSpace {
		for n := range x.spaceLabels.having(p) {
			if s := x.spaces[n]; s != nil && !f(s) {
				return false
			}
		}
		return true
	}
	for _, c := range x.clusters {
		more := true
		switch {
		case p.in == ofSpaceName && !p.any:
			if s := c.spaces[p.value]; s != nil {
				more = f(s)
			}
		case !c.within(p):
		case p.in == ofKind && !p.any && p.value == model.KindNode.String():
			if c.hosts != nil {
				more = f(c.hosts)
			}
		default:
			more = c.eachSpace(f)
		}
		if !more {
			return false
		}
	}
	return true
}

// eachSlot calls yield with all slots, in use or not.
func (x *Index) eachSlot(yield func(uint32) bool) {
	for n := range x.slots {
		if !yield(uint32(n)) {
			return
		}
	}
}
