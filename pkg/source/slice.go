package source

import (
	"github.com/overland-net/overland/pkg/model"
)

// Bounds of what is read of one EndpointSlice: those of API servers but for the
// ports, of which these allow many more than any Service has.
const (
	maxSliceEndpoints = 1000
	maxSlicePorts     = 1000
	maxSliceAddresses = 100
	maxAddressLength  = maxNameLength // a host name is one too
	maxAddressType    = 16
	maxProtocol       = 16
)

// The labels of an EndpointSlice that are read, and the value of the second one
// on those that a leader of federated Services has written (semantics 4.6).
const (
	labelServiceName  = "kubernetes.io/service-name"
	labelManagedBy    = "endpointslice.kubernetes.io/managed-by"
	managedFederation = "federation.overland.dev"
)

// sliceLabel keeps the labels that matter; all others are copies of the Service's.
func (m *rawMeta) sliceLabel(key, value []byte) {
	switch string(key) {
	case labelServiceName, labelManagedBy:
		if m.labels == nil {
			m.labels = map[string]string{}
		}
		m.labels[string(key)] = cut(value, maxLabelValueLength)
	}
}

// slice makes the item of an EndpointSlice. What it says of one endpoint is not
// judged here: one that is not valid is left out alone, by who takes it (semantics
// 4.5). A text that is longer than it may be is cut, and still longer than that.
func (c converter) slice(message []byte) *item {
	s := &model.EndpointSlice{}
	m, err := c.sliceFields(s, message)
	i := c.itemOf(m)
	switch {
	case i.initialEventsEnd:
		return i
	case err != nil || !dnsSubdomain(m.name) || !dnsLabel(m.namespace) || len(m.uid) > maxNameLength || !labelsWellFormed(m.labels):
		i.refused = model.RefusedMalformed
		return i
	}
	s.Key, s.UID = i.key(c.kind, c.cluster), model.ParseUID(m.uid)
	s.Service, s.ManagedBy = c.names.one(m.labels[labelServiceName]), c.names.one(m.labels[labelManagedBy])
	if s.Service == "" || !c.local && s.ManagedBy == managedFederation {
		// Of no Service, or what another leader made of other clusters' endpoints.
		return i
	}
	i.fact = s
	return i
}

// sliceFields reads an EndpointSlice. What has too many endpoints or ports is
// refused before any of them is read.
func (c converter) sliceFields(s *model.EndpointSlice, message []byte) (*rawMeta, error) {
	m, endpoints, ports := &rawMeta{}, 0, 0
	for f, err := range fields(message) {
		if err != nil {
			return m, err
		}
		switch f.id {
		case 1:
			err = c.meta(m, f.bytes)
		case 2:
			endpoints++
		case 3:
			ports++
		case 4:
			s.AddressType = c.names.text(f.bytes[:min(len(f.bytes), maxAddressType+1)])
		}
		if err != nil {
			return m, err
		}
	}
	switch {
	case endpoints > maxSliceEndpoints || ports > maxSlicePorts:
		return m, errAbsurd
	case endpoints+ports == 0:
		return m, nil
	}
	s.Endpoints, s.Ports = make([]model.SliceEndpoint, 0, endpoints), make([]model.EndpointPort, 0, ports)
	for f, err := range fields(message) {
		if err != nil {
			return m, err
		}
		switch f.id {
		case 2:
			s.Endpoints = append(s.Endpoints, model.SliceEndpoint{})
			err = c.sliceEndpoint(&s.Endpoints[len(s.Endpoints)-1], f.bytes)
		case 3:
			s.Ports = append(s.Ports, model.EndpointPort{})
			err = c.slicePort(&s.Ports[len(s.Ports)-1], f.bytes)
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

func (c converter) sliceEndpoint(e *model.SliceEndpoint, message []byte) error {
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			if len(e.Addresses) == maxSliceAddresses {
				return errAbsurd
			}
			e.Addresses = append(e.Addresses, cut(f.bytes, maxAddressLength))
		case 2:
			err = sliceConditions(e, f.bytes)
		case 3:
			e.Hostname = cut(f.bytes, maxLabelNameLength)
		case 4:
			err = c.target(&e.Target, f.bytes)
		case 6:
			e.Node = c.shared(f.bytes)
		case 7:
			e.Zone = c.shared(f.bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shared is for texts that many endpoints have alike.
func (c converter) shared(b []byte) string {
	return c.names.text(b[:min(len(b), maxNameLength+1)])
}

func sliceConditions(e *model.SliceEndpoint, message []byte) error {
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		value := model.False
		if f.number != 0 {
			value = model.True
		}
		switch f.id {
		case 1:
			e.Ready = value
		case 2:
			e.Serving = value
		case 3:
			e.Terminating = value
		}
	}
	return nil
}

func (c converter) target(t *model.TargetRef, message []byte) error {
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			t.Kind = c.shared(f.bytes)
		case 2:
			t.Namespace = c.shared(f.bytes)
		case 3:
			t.Name = cut(f.bytes, maxNameLength)
		case 4:
			t.UID = cut(f.bytes, maxNameLength)
		}
	}
	return nil
}

func (c converter) slicePort(p *model.EndpointPort, message []byte) error {
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			p.Name = c.shared(f.bytes)
		case 2:
			p.Protocol = c.names.text(f.bytes[:min(len(f.bytes), maxProtocol+1)])
		case 3:
			p.Port = int32(f.number) //nolint:gosec // two's complement is how protobuf has negative numbers
		case 4:
			p.AppProtocol = cut(f.bytes, maxLabelKeyLength)
		}
	}
	return nil
}
