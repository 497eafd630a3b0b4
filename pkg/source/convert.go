package source

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/overland-net/overland/pkg/model"
)

// converter makes facts of the objects of one kind of one cluster. It may be used
// by many goroutines.
type converter struct {
	cluster string
	decoder
	names *interner
}

// convert makes an item of an object's protobuf message. Any message gives an
// item: one that cannot be read is refused.
func (c converter) convert(message []byte) *item {
	var i *item
	switch c.kind {
	case model.KindPolicy:
		i = c.policy(message)
	case model.KindService:
		i = c.service(message)
	case model.KindEndpointSlice:
		i = c.slice(message)
	default:
		i = c.identity(message)
	}
	i.kind = c.kind
	return i
}

// itemOf makes the item of an object whose fact is still to come.
func (c converter) itemOf(m *rawMeta) *item {
	return &item{
		namespace: c.names.one(m.namespace), name: m.name, version: m.version,
		reserved: m.reserved, initialEventsEnd: m.initialEventsEnd,
	}
}

// identity makes the item of a pod, a node or a namespace.
func (c converter) identity(message []byte) *item {
	o, err := c.object(message)
	if o == nil {
		o = &rawObject{}
	}
	i := c.itemOf(&o.rawMeta)
	if i.initialEventsEnd {
		return i
	}
	switch {
	case err != nil || !c.wellFormed(o):
		i.refused = model.RefusedMalformed
	case c.labelBytes > 0 && o.labelBytes > c.labelBytes:
		i.refused = model.RefusedLabelsTooLarge
	case c.kind == model.KindNamespace:
		i.fact = c.namespace(o)
	case c.isEndpoint(o):
		i.fact, i.refused = c.endpoint(o, i)
	}
	return i
}

func (c converter) wellFormed(o *rawObject) bool {
	named := dnsSubdomain(o.name) && o.namespace == ""
	switch c.kind {
	case model.KindPod:
		named = dnsSubdomain(o.name) && dnsLabel(o.namespace)
	case model.KindNamespace:
		named = dnsLabel(o.name) && o.namespace == ""
	}
	return named && len(o.uid) <= maxNameLength && labelsWellFormed(o.labels)
}

// isEndpoint tells whether the object is one (semantics 1.3). A terminating pod
// is one until it is gone or finished.
func (c converter) isEndpoint(o *rawObject) bool {
	if c.kind == model.KindPod && (o.hostNetwork || o.phase == "Succeeded" || o.phase == "Failed") {
		return false
	}
	return len(o.addresses) > 0 || o.podIP != "" || c.starting(o)
}

// starting tells whether the object is a pod of the agent's own node, which needs
// to be known before it has an address: it gets one, and is connected, before an
// API server hears of that.
func (c converter) starting(o *rawObject) bool {
	return c.kind == model.KindPod && c.node != "" && o.node == c.node
}

func (c converter) endpoint(o *rawObject, i *item) (model.Fact, model.RefusalReason) {
	addresses, ok := addressesOf(o)
	ports, portsOK := portsOf(o.ports)
	if !ok || !portsOK ||
		o.node != "" && !dnsSubdomain(o.node) || o.serviceAccount != "" && !dnsSubdomain(o.serviceAccount) {
		return nil, model.RefusedMalformed
	}
	e := &model.Endpoint{
		Key:            i.key(c.kind, c.cluster),
		UID:            model.ParseUID(o.uid),
		Labels:         model.NewLabels(o.labels),
		ServiceAccount: c.names.one(o.serviceAccount),
		Node:           c.names.one(o.node),
		Addresses:      addresses,
		Ports:          c.names.ports(ports),
		Created:        o.created,
		Terminating:    o.terminating,
	}
	if c.kind == model.KindNode {
		e.Node, e.Terminating = o.name, false
	}
	return e, ""
}

// addressesOf gives the addresses in their order, each once: the first is the
// one that people know the pod by.
func addressesOf(o *rawObject) ([]netip.Addr, bool) {
	texts := o.addresses
	if len(texts) == 0 && o.podIP != "" {
		texts = []string{o.podIP}
	}
	addresses := make([]netip.Addr, 0, len(texts))
	for _, text := range texts {
		a, ok := parseAddress(text)
		if !ok {
			return nil, false
		}
		if !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	return addresses, true
}

func portsOf(raw []rawPort) ([]model.NamedPort, bool) {
	if len(raw) == 0 {
		return nil, true
	}
	ports := make([]model.NamedPort, 0, len(raw))
	for _, p := range raw {
		protocol, ok := protocolOf(p.protocol)
		if !ok || !portName(p.name) || p.port == 0 || p.port > math.MaxUint16 {
			return nil, false
		}
		ports = append(ports, model.NamedPort{Name: p.name, Protocol: protocol, Port: uint16(p.port)})
	}
	slices.SortFunc(ports, func(a, b model.NamedPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return slices.Clip(slices.Compact(ports)), true
}

// protocolOf reads a protocol; an absent one is TCP.
func protocolOf(name string) (model.Protocol, bool) {
	switch name {
	case "", "TCP":
		return model.TCP, true
	case "UDP":
		return model.UDP, true
	case "SCTP":
		return model.SCTP, true
	}
	return 0, false
}

// namespace makes the fact of a Namespace. Its own name is a label of it,
// whatever the object says (semantics 1.4).
func (c converter) namespace(o *rawObject) *model.Namespace {
	labels := o.labels
	if labels == nil {
		labels = map[string]string{}
	}
	labels[model.KeyNamespaceName] = o.name
	return &model.Namespace{
		Key:         model.NamespaceKey(c.cluster, c.names.one(o.name)),
		UID:         model.ParseUID(o.uid),
		Labels:      model.NewLabels(labels),
		PeerScope:   printable(o.peerScope, len(o.peerScope)),
		ClusterName: declaredName(o.clusterName),
	}
}

// declaredName is empty for what is no name of a cluster.
func declaredName(s string) string {
	if dnsLabel(s) {
		return s
	}
	return ""
}

// policy makes the item of a NetworkPolicy. Only those of the local cluster are
// read, whose API server has checked them: hence the generated types are fine.
func (c converter) policy(message []byte) *item {
	var p networkingv1.NetworkPolicy
	if err := p.Unmarshal(message); err != nil {
		return &item{refused: model.RefusedMalformed}
	}
	i := &item{namespace: c.names.one(p.Namespace), name: p.Name, version: p.ResourceVersion}
	if p.Annotations[annotationInitialEvents] == "true" {
		i.initialEventsEnd = true
		return i
	}
	i.fact = convertPolicy(c.cluster, &p)
	return i
}
