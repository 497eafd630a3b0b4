package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
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
}

// Result is a plan.
type Result struct {
	// Changes are in the order in which they are to be made: what is new before
	// what goes. Each stands alone: if one fails, the others may still be made.
	Changes []Change
	// Condition is what is to be on the Service; nil: none of ours.
	Condition *Condition
	// Due is when to plan again though nothing changes; zero: never.
	Due    time.Time
	Report Report
}

// Plan is what a federated Service is to have. It changes nothing in World but
// what Facts remembers to find the Services that a change affects.
func Plan(w World, service model.Key, have Have) Result {
	return Result{Report: Report{Service: service}}
}
