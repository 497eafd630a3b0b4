package plan

import (
	"iter"
	"net/netip"

	"github.com/overland-net/overland/pkg/model"
)

// Facts are the Services and EndpointSlices of all clusters, and which of them
// concern which federated Service. It is for one goroutine, that of Plan.
type Facts struct {
	local string
}

// NewFacts is the index of the cluster of that name, which knows nothing.
func NewFacts(local string) *Facts { return &Facts{local: local} }

// Apply takes facts of Services and EndpointSlices; others are ignored. It gives
// the federated Services whose plan may differ now, each once, in no order: also
// those that no longer are federated.
func (f *Facts) Apply(model.Batch) (affected []model.Key) { return nil }

// Drain forgets a cluster.
func (f *Facts) Drain(string) (affected []model.Key) { return nil }

// Federated gives the local Services that are declared federated, in no order.
func (f *Facts) Federated() iter.Seq[*model.Service] { return func(func(*model.Service) bool) {} }

// Naming gives the federated Services of whose backing services one names an
// address, each once, in no order.
func (f *Facts) Naming(netip.Addr) []model.Key { return nil }
