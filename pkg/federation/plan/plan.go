package plan

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// Cluster is what a plan has to know of a cluster.
type Cluster struct {
	Name  string
	Local bool
	// Listed: its Services and EndpointSlices have been listed by this leader.
	// Else it is partial: what is published of it stays (semantics 4.9).
	Listed bool
	// InContact: its API server answers. LastContact is when it last did, the
	// age of a cluster that is not in contact; zero if nobody knows, which makes
	// it spare and never withdrawn.
	InContact   bool
	LastContact time.Time
	// External: its addresses need not be of its pods and nodes (semantics 4.5).
	External bool
	// SpareAfter and StaleAfter are how long without contact its endpoints become
	// spare and are withdrawn; StaleAfter 0 = never, as for a suspended cluster.
	SpareAfter, StaleAfter time.Duration
}

// World is what is true.
type World struct {
	Now      time.Time
	Clusters []Cluster // the local one first, then by name
	Facts    *Facts
	View     index.View // who owns which address (semantics 1.5)
	// Endpoints: Endpoints objects are to be written too.
	Endpoints bool
}

// Have is what there is in the local cluster for one federated Service.
type Have struct {
	// Slices are those for which ServiceOf gives the Service.
	Slices []*discoveryv1.EndpointSlice
	// Endpoints is the object of the Service's name, whoever wrote it; nil if
	// there is none. Unless EndpointsKnown it has not been read, and is left
	// alone.
	Endpoints      *corev1.Endpoints
	EndpointsKnown bool
}

// Op is what to do with an object.
type Op uint8

// The values of an Op.
const (
	Create Op = iota + 1
	Update
	Delete
)

// Change is one write of one object: of Slice and Endpoints exactly one is set. An
// object to update or delete has the uid and resourceVersion of the one it was
// planned from.
type Change struct {
	Op        Op
	Slice     *discoveryv1.EndpointSlice
	Endpoints *corev1.Endpoints
	// Dependent: it takes away what the Changes before it replace, and is to be made
	// only if none of them failed.
	Dependent bool
}

// Result is a plan.
type Result struct {
	// Changes are in the order in which they are to be made: what is new before
	// what goes. If one fails, the others may still be made, but for those that are
	// Dependent; and it is planned again.
	Changes []Change
	// Condition is what is to be on the Service; nil: none of ours.
	Condition *Condition
	// Due is when to plan again though nothing changes; zero: never.
	Due    time.Time
	Report Report
}

// planner makes one plan.
type planner struct {
	world     World
	local     string
	federated *federated
	service   *model.Service
	have      Have
	parts     []*part // as World.Clusters
	lists     portLists
	dresses   map[dressKey]dressing
	owned     owned
	memory    memory
	pref      preference
	// applied is the canonical expression that is evaluated.
	applied string
	since   map[string]time.Time
	serving string // as in memory
	foreign []Foreign
	result  Result
}

// Plan is what a federated Service is to have. It changes nothing in World but
// what Facts remembers to find the Services that a change affects.
//
// Of a Service that is not known nothing is planned: what it had goes by owner
// reference (semantics 4.10), or the local cluster has not been listed.
func Plan(w World, service model.Key, have Have) Result {
	p := &planner{world: w, local: w.Facts.local, have: have, lists: portLists{}, dresses: map[dressKey]dressing{}, since: map[string]time.Time{}}
	p.result.Report.Service = service
	n := w.Facts.namespaces[service.Namespace]
	fact := w.Facts.serviceFact(service)
	if fact == nil || service.Cluster != p.local {
		return p.result
	}
	p.service = fact
	if p.federated = n.federated[service.Name]; p.federated == nil {
		p.remove()
		return p.result
	}
	p.readHave()
	p.express(n)
	p.findForeign()
	if p.federated.matcher != nil && (p.unserved() == "" || len(p.owned.all) > 0) {
		p.serve()
	}
	p.result.Report.Foreign = p.foreign
	p.result.Condition = p.condition()
	return p.result
}

// express settles which expression is evaluated: the declared one or, while it
// is not good, the last that was (semantics 4.8).
func (p *planner) express(n *namespace) {
	if p.federated.declared.reason != "" {
		var by *selector.Selector
		if p.memory.hasApplied {
			if last, err := selector.Parse(p.memory.applied); err == nil {
				by = &last
			}
		}
		p.world.Facts.evaluate(n, p.federated, by)
	}
	if p.federated.matcher != nil {
		p.applied = p.federated.matcher.Selector().String()
		p.result.Report.Expression = p.applied
	}
}

// serve plans the objects of a Service that has an expression.
func (p *planner) serve() {
	for _, c := range p.world.Clusters {
		part := &part{Cluster: c}
		p.parts = append(p.parts, part)
		p.age(part)
		if c.Listed {
			p.gather(part)
		} else {
			p.readBack(part)
		}
	}
	p.pref = p.prefers()
	for _, c := range p.parts {
		p.count(c)
	}
	p.hostnames()
	p.choose()
	out := p.publish()
	p.writeSlices(out)
	p.writeEndpoints(out)
	p.reportParts(out)
}

// part is what a cluster has; nil: there is no such cluster.
func (p *planner) part(name string) *part {
	for _, c := range p.parts {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// unserved is the reason why a Service is not served (semantics 4.1); empty if it
// is. What it had until then is kept up, so that nothing is emptied.
func (p *planner) unserved() string {
	switch {
	case p.service.External:
		return ReasonExternalName
	case p.service.Selecting:
		return ReasonSelectorSet
	}
	return ""
}

func (p *planner) change(c Change) { p.result.Changes = append(p.result.Changes, c) }
