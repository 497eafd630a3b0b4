package plan

import (
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/overland-net/overland/pkg/model"
)

// maxInSlice is how many endpoints an API server lets an EndpointSlice have.
const maxInSlice = 1000

// slice is an EndpointSlice that is somebody's.
type slice struct {
	fact *model.EndpointSlice
	seen *reading // nil until somebody needs it
}

// reading is what is good in an EndpointSlice, whoever uses it.
type reading struct {
	endpoints []endpoint
	refused   tally
}

// endpoint is an endpoint of which each field is one that the API takes.
type endpoint struct {
	addr                        netip.Addr
	ready, serving, terminating bool
	hostname, node, zone        string
	target                      model.TargetRef
}

// read is the reading of a slice.
func (s *slice) read() *reading {
	if s.seen != nil {
		return s.seen
	}
	r := &reading{endpoints: make([]endpoint, 0, min(len(s.fact.Endpoints), maxInSlice))}
	s.seen = r
	for i := range s.fact.Endpoints {
		e := &s.fact.Endpoints[i]
		if i >= maxInSlice {
			r.refused.add(TooMany, named(e))
			continue
		}
		good, reason := readEndpoint(e, s.fact.AddressType, s.fact.Key.Namespace)
		if reason != "" {
			r.refused.add(reason, named(e))
			continue
		}
		r.endpoints = append(r.endpoints, good)
	}
	return r
}

// named is how an endpoint is shown.
func named(e *model.SliceEndpoint) string {
	if len(e.Addresses) == 0 {
		return ""
	}
	return e.Addresses[0]
}

// readEndpoint is an endpoint of a slice, or why it is none. Of several addresses
// only the first means anything to who reads EndpointSlices.
func readEndpoint(e *model.SliceEndpoint, addressType, namespace string) (endpoint, Reason) {
	if len(e.Addresses) == 0 {
		return endpoint{}, InvalidAddress
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	switch {
	case err != nil || !publishable(a) || addressType != string(addressTypeOf(a)):
		return endpoint{}, InvalidAddress
	case e.Hostname != "" && !dnsLabel(e.Hostname):
		return endpoint{}, InvalidHostname
	case e.Zone != "" && !labelValue(e.Zone):
		return endpoint{}, InvalidZone
	case e.Node != "" && !dnsSubdomain(e.Node):
		return endpoint{}, InvalidNode
	case !targetRef(e.Target, namespace):
		return endpoint{}, InvalidTarget
	}
	ready := e.Ready.Or(true)
	return endpoint{
		addr: a, ready: ready, serving: e.Serving.Or(ready), terminating: e.Terminating.Or(false),
		hostname: e.Hostname, node: e.Node, zone: e.Zone, target: e.Target,
	}, ""
}

// addressTypeOf is the type of the slices in which an address may be.
func addressTypeOf(a netip.Addr) discoveryv1.AddressType {
	if a.Is4() {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// sameSlice tells whether two slices say the same of endpoints.
func sameSlice(a, b *model.EndpointSlice) bool {
	return a == b || a.Service == b.Service && a.ManagedBy == b.ManagedBy && a.AddressType == b.AddressType &&
		slices.Equal(a.Ports, b.Ports) &&
		slices.EqualFunc(a.Endpoints, b.Endpoints, func(a, b model.SliceEndpoint) bool {
			return a.Ready == b.Ready && a.Serving == b.Serving && a.Terminating == b.Terminating &&
				a.Hostname == b.Hostname && a.Node == b.Node && a.Zone == b.Zone && a.Target == b.Target &&
				slices.Equal(a.Addresses, b.Addresses)
		})
}
