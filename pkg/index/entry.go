package index

import (
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/model"
)

// Entry is an endpoint and what came of its claims on addresses. It is
// immutable: a change makes another one.
type Entry struct {
	*model.Endpoint
	// Refused are the addresses that it does not own, in the order of its
	// Addresses.
	Refused []Refusal

	slot uint32
	// pending: its cluster is not known yet, so it owns nothing, and nothing is
	// refused either.
	pending bool
}

// Refusal is an address that an endpoint claims and does not own.
type Refusal struct {
	Address netip.Addr
	Reason  model.RefusalReason
	// By is the endpoint that has the address, if that is the reason. It is
	// zero where more than maxNamed endpoints claim one address: else a cluster
	// could make each change of its own cost as much as it has endpoints.
	By model.Key
}

// maxNamed is how many endpoints may claim an address while those that lose are
// still told who has it. By mistake it is two or three.
const maxNamed = 16

// Owns tells whether the endpoint owns an address, and hence is in the sets that
// it matches with it.
func (e *Entry) Owns(a netip.Addr) bool {
	return !e.pending && slices.Contains(e.Addresses, a) && !e.refused(a)
}

func (e *Entry) refused(a netip.Addr) bool {
	return slices.ContainsFunc(e.Refused, func(r Refusal) bool { return r.Address == a })
}

// owned are the addresses that it owns: a slice that must not be written to,
// made in buffer if need be. e may be nil.
func (e *Entry) owned(buffer *[]netip.Addr) []netip.Addr {
	switch {
	case e == nil || e.pending:
		return nil
	case len(e.Refused) == 0:
		return e.Addresses
	}
	some := (*buffer)[:0]
	for _, a := range e.Addresses {
		if !e.refused(a) {
			some = append(some, a)
		}
	}
	*buffer = some
	return some
}

// id is an endpoint in its cluster and kind.
type id struct{ namespace, name string }

func idOf(k model.Key) id { return id{k.Namespace, k.Name} }

func sameEndpoint(a, b *model.Endpoint) bool {
	return a == b || a.UID == b.UID && a.Labels == b.Labels && a.ServiceAccount == b.ServiceAccount &&
		a.Node == b.Node && a.Created == b.Created && a.Terminating == b.Terminating &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Ports, b.Ports)
}

func sameNamespace(a, b *model.Namespace) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func sameCluster(a, b *model.Cluster) bool {
	return a == b || a.Local == b.Local && a.UID == b.UID && a.Created == b.Created && a.Labels == b.Labels &&
		sameRanges(a, b) && a.Suspended == b.Suspended && a.StaleAfter == b.StaleAfter &&
		a.EndpointLimit == b.EndpointLimit && a.InContact == b.InContact &&
		a.SpareAfter == b.SpareAfter && a.ServicesStaleAfter == b.ServicesStaleAfter && a.ExternalAddresses == b.ExternalAddresses
}

func sameRanges(a, b *model.Cluster) bool {
	return slices.Equal(a.PodCIDRs, b.PodCIDRs) && slices.Equal(a.NodeCIDRs, b.NodeCIDRs)
}
