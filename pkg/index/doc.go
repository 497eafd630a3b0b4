// Package index is which addresses match which selector, under any order of
// changes, at a cost that follows the change. It is given facts (pods, nodes,
// namespaces, clusters) and the selectors that somebody wants tracked, and gives
// views: immutable values that share all that did not change.
//
// # Addresses
//
// Each address has one owner at most (semantics 1.5), and an endpoint is in a
// set with the addresses that it owns. What decides is present facts only: the
// refusals of 1.5, then the order of claims (see compareClaims). The claims on
// most addresses are one, and that is then all there is to know; the others are
// in a ledger, each address with its claims in order. A cluster that comes into
// contact or loses it costs the addresses in the ledger with more than one
// claim, nothing else.
//
// # Both directions
//
// A selector is registered under one of its covers, the one least used, which
// is a list of terms such as "key app has value cart". What changes in an
// endpoint looks up its keys and values and finds the selectors registered
// there: only these can have matched it, or match it now. A new selector looks
// up the endpoints of its cheapest cover: endpoints are listed by label, by
// namespace and by cluster.
//
// Named ports go the same way: a PortQuery is kept beside the members of its
// selector, which is registered and evaluated once for both.
//
// # Differences
//
// Views share what did not change, so Changed, ChangedPorts and TakeReleased say
// what did at the cost of that.
//
// It is pure and may import pkg/model, pkg/pset and pkg/selector.
package index
