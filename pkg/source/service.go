package source

import (
	"math"
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// Bounds of what is read of one Service. API servers have none for ports, but for
// the size of an object; of conditions of one kind of type there are a few.
const (
	maxServicePorts = 1000
	maxConditions   = 16
	maxFamilies     = 2
	// maxExpression is selector.MaxLength: a text of one byte more is no valid
	// expression, and that it is not can still be seen.
	maxExpression      = 64 << 10
	maxConditionReason = 1 << 10
	maxMessage         = 32 << 10
)

// ownConditions is how the types of our conditions begin (semantics 4.8).
const ownConditions = "overland.dev/"

// rawService is what is needed of a Service.
type rawService struct {
	rawMeta
	kind, clusterIP    string
	selecting, publish bool
	families           []string
	clusterIPs         []string
	distribution       string
	ports              []rawServicePort
	conditions         []model.ServiceCondition
}

// rawServicePort is a port of a Service.
type rawServicePort struct {
	name, protocol, appProtocol string
	port                        uint64
}

// federation keeps the annotations of federated Services. Of a remote one, all
// that matters is that they are there.
func (d decoder) federation(m *rawMeta, key, value []byte) {
	switch string(key) {
	case model.AnnotationServiceSelector, model.AnnotationServiceSelectorTigera, model.AnnotationServiceSelectorTigeraWWW,
		model.AnnotationPreference, model.AnnotationMinReady, model.AnnotationSettle, model.AnnotationAdopt:
	default:
		return
	}
	if !d.local {
		value = nil
	}
	if m.annotations == nil {
		m.annotations = map[string]string{}
	}
	m.annotations[string(key)] = cut(value, maxExpression)
}

// rawService reads a Service.
func (d decoder) rawService(message []byte) (*rawService, error) {
	s := &rawService{}
	for f, err := range fields(message) {
		if err != nil {
			return s, err
		}
		switch {
		case f.id == 1:
			err = d.meta(&s.rawMeta, f.bytes)
		case f.id == 2:
			err = s.spec(f.bytes)
		case f.id == 3 && d.local:
			err = s.status(f.bytes)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *rawService) spec(message []byte) error {
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			err = s.port(f.bytes)
		case 2:
			s.selecting = true
		case 3:
			s.clusterIP = cut(f.bytes, maxNameLength)
		case 4:
			s.kind = cut(f.bytes, maxNameLength)
		case 13:
			s.publish = f.number != 0
		case 18:
			if len(s.clusterIPs) == maxFamilies {
				return errAbsurd
			}
			s.clusterIPs = append(s.clusterIPs, cut(f.bytes, maxNameLength))
		case 19:
			if len(s.families) == maxFamilies {
				return errAbsurd
			}
			s.families = append(s.families, cut(f.bytes, maxNameLength))
		case 23:
			s.distribution = cut(f.bytes, maxNameLength)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *rawService) port(message []byte) error {
	if len(s.ports) == maxServicePorts {
		return errAbsurd
	}
	var p rawServicePort
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			p.name = cut(f.bytes, maxLabelNameLength)
		case 2:
			p.protocol = cut(f.bytes, maxLabelNameLength)
		case 3:
			p.port = f.number
		case 6:
			p.appProtocol = cut(f.bytes, maxLabelKeyLength)
		}
	}
	s.ports = append(s.ports, p)
	return nil
}

// status takes the conditions that are ours.
func (s *rawService) status(message []byte) error {
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		if f.id != 2 {
			continue
		}
		c, err := conditionOf(f.bytes)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(c.Type, ownConditions) {
			continue
		}
		if len(s.conditions) == maxConditions {
			return errAbsurd
		}
		s.conditions = append(s.conditions, c)
	}
	return nil
}

func conditionOf(message []byte) (c model.ServiceCondition, err error) {
	for f, err := range fields(message) {
		if err != nil {
			return c, err
		}
		switch f.id {
		case 1:
			c.Type = cut(f.bytes, maxLabelKeyLength)
		case 2:
			c.Status = cut(f.bytes, maxLabelNameLength)
		case 3:
			c.ObservedGeneration = int64(f.number) //nolint:gosec // two's complement is how protobuf has negative numbers
		case 4:
			if c.LastTransition, err = seconds(f.bytes); err != nil {
				return c, err
			}
		case 5:
			c.Reason = cut(f.bytes, maxConditionReason)
		case 6:
			c.Message = cut(f.bytes, maxMessage)
		}
	}
	return c, nil
}

// service makes the item of a Service.
func (c converter) service(message []byte) *item {
	s, err := c.rawService(message)
	i := c.itemOf(&s.rawMeta)
	if i.initialEventsEnd {
		return i
	}
	ports, portsOK := servicePorts(s.ports)
	families, familiesOK := familiesOf(s.families)
	switch {
	case err != nil || !dnsLabel(s.name) || !dnsLabel(s.namespace) || len(s.uid) > maxNameLength || !portsOK ||
		!labelsWellFormed(s.labels) || c.local && !familiesOK:
		i.refused = model.RefusedMalformed
		return i
	case c.labelBytes > 0 && s.labelBytes > c.labelBytes:
		i.refused = model.RefusedLabelsTooLarge
		return i
	}
	fact := &model.Service{
		Key:             i.key(c.kind, c.cluster),
		UID:             model.ParseUID(s.uid),
		Labels:          model.NewLabels(s.labels),
		Created:         s.created,
		Annotations:     s.annotations,
		Selecting:       s.selecting,
		External:        s.kind == "ExternalName",
		Headless:        s.clusterIP == "None",
		PublishNotReady: s.publish,
		Ports:           ports,
		Conditions:      s.conditions,
	}
	if c.local {
		fact.ResourceVersion, fact.Families, fact.TrafficDistribution = s.version, families, s.distribution
		for _, text := range s.clusterIPs { // "None" is one, too
			if a, ok := parseAddress(text); ok {
				fact.ClusterIPs = append(fact.ClusterIPs, a)
			}
		}
	} else if fact.External || fact.Federated() {
		return i // it backs nothing (semantics 4.2)
	} else {
		fact.Annotations = nil
	}
	i.fact = fact
	return i
}

// servicePorts gives the ports in their order.
func servicePorts(raw []rawServicePort) ([]model.ServicePort, bool) {
	if len(raw) == 0 {
		return nil, true
	}
	ports := make([]model.ServicePort, 0, len(raw))
	for _, p := range raw {
		protocol, ok := protocolOf(p.protocol)
		if !ok || p.name != "" && !dnsLabel(p.name) || p.appProtocol != "" && !labelKey(p.appProtocol) ||
			p.port == 0 || p.port > math.MaxUint16 {
			return nil, false
		}
		ports = append(ports, model.ServicePort{Name: p.name, Protocol: protocol, Port: uint16(p.port), AppProtocol: p.appProtocol})
	}
	return ports, true
}

// familiesOf gives the families in their order.
func familiesOf(names []string) (families []uint8, ok bool) {
	for _, name := range names {
		switch name {
		case "IPv4":
			families = append(families, 4)
		case "IPv6":
			families = append(families, 6)
		default:
			return nil, false
		}
	}
	return families, true
}
