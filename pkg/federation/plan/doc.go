// Package plan is what a federated Service is to have (semantics 4): from facts
// about Services and EndpointSlices of all clusters, the owners of addresses, the
// objects that are there and the time, to the objects to write, a condition and a
// report.
//
// # Parts
//
// Facts is the index: which Services back which federated Service, and which
// addresses they name, kept under any order of changes at a cost that follows the
// change. Plan answers for one federated Service. Nothing is remembered elsewhere
// than in the objects written: the next leader, or the same one after a failed
// write, plans from them.
//
// # Objects
//
// Each EndpointSlice of ours is one of three:
//   - published: endpoints of one cluster, family and list of ports;
//   - parked (LabelParked instead of the label of the Service's name): endpoints
//     of a cluster that is out of contact and not published. Nobody routes to
//     them. They are there for a leader that starts while the cluster is silent;
//   - the state: no endpoints and no source cluster, only annotations. It is
//     there while nothing is published, or a preference has to be remembered.
//
// It is pure and may import pkg/model, pkg/selector and pkg/index, and the types
// of the Kubernetes API.
package plan
