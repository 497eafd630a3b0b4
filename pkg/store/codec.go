package store

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/overland-net/overland/pkg/model"
)

// change is a model.Change on disk. Its cluster is that of the file. At most one
// of the facts is there; none: it is gone.
type change struct {
	_               struct{} `cbor:",toarray"`
	Kind            model.Kind
	Namespace, Name string // of a Cluster: its name
	Endpoint        *endpoint
	NamespaceObject *namespace
	Policy          *policy
	Cluster         *cluster
}

type endpoint struct {
	_              struct{} `cbor:",toarray"`
	UID            []byte
	Labels         []byte // model.Labels.Encoded: not text
	ServiceAccount string
	Node           string
	Addresses      []byte // see appendAddress
	Ports          []port
	Created        int64
	Terminating    bool
}

type port struct {
	_           struct{} `cbor:",toarray"`
	Name        string
	Protocol    model.Protocol
	First, Last uint16 // the same for a port of an endpoint
}

type namespace struct {
	_                      struct{} `cbor:",toarray"`
	UID, Labels            []byte
	PeerScope, ClusterName string
}

// cluster leaves out InContact: who reads it back is not.
type cluster struct {
	_                   struct{} `cbor:",toarray"`
	Local               bool
	UID                 []byte
	Created             int64
	Labels              []byte
	PodCIDRs, NodeCIDRs []byte
	Suspended           bool
	StaleAfter          int64
	EndpointLimit       int
}

type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func newCodec() (codec, error) {
	enc, err := cbor.EncOptions{NilContainers: cbor.NilContainerAsEmpty, IndefLength: cbor.IndefLengthForbidden}.EncMode()
	if err != nil {
		return codec{}, fmt.Errorf("prepare encoding: %w", err)
	}
	dec, err := cbor.DecOptions{
		IndefLength: cbor.IndefLengthForbidden,
		TagsMd:      cbor.TagsForbidden,
		// Deeper than a policy's rules nothing is.
		MaxNestedLevels:  16,
		MaxArrayElements: 1 << 20,
		// What a remote sends is not always UTF-8, and must come back as it was.
		UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		return codec{}, fmt.Errorf("prepare decoding: %w", err)
	}
	return codec{enc, dec}, nil
}

// toWire is for changes that check accepts.
func toWire(c model.Change) (change, error) {
	w := change{Kind: c.Key.Kind, Namespace: c.Key.Namespace, Name: c.Key.Name}
	if c.Key.Kind == model.KindCluster {
		w.Name = c.Key.Cluster
	}
	switch f := c.Value.(type) {
	case nil:
	case *model.Endpoint:
		w.Endpoint = &endpoint{
			UID: uidToWire(f.UID), Labels: []byte(f.Labels.Encoded()), ServiceAccount: f.ServiceAccount, Node: f.Node,
			Created: f.Created, Terminating: f.Terminating,
		}
		for _, a := range f.Addresses {
			w.Endpoint.Addresses = appendAddress(w.Endpoint.Addresses, a)
		}
		for _, p := range f.Ports {
			w.Endpoint.Ports = append(w.Endpoint.Ports, port{Name: p.Name, Protocol: p.Protocol, First: p.Port, Last: p.Port})
		}
	case *model.Namespace:
		w.NamespaceObject = &namespace{
			UID: uidToWire(f.UID), Labels: []byte(f.Labels.Encoded()), PeerScope: f.PeerScope, ClusterName: f.ClusterName,
		}
	case *model.Policy:
		w.Policy = policyToWire(f)
	case *model.Cluster:
		w.Cluster = &cluster{
			Local: f.Local, UID: uidToWire(f.UID), Created: f.Created, Labels: []byte(f.Labels.Encoded()),
			PodCIDRs: prefixesToWire(f.PodCIDRs), NodeCIDRs: prefixesToWire(f.NodeCIDRs),
			Suspended: f.Suspended, StaleAfter: int64(f.StaleAfter), EndpointLimit: f.EndpointLimit,
		}
	default:
		return change{}, fmt.Errorf("%s: a fact of type %T has no form on disk", c.Key, f)
	}
	return w, nil
}

// reader turns what is on disk into facts. It keeps one copy of the texts and
// labels that most facts share.
type reader struct {
	cluster string
	shared  map[string]string
	decoded map[string]model.Labels
}

func newReader(cluster string) *reader {
	return &reader{cluster, map[string]string{}, map[string]model.Labels{}}
}

func (r *reader) share(s string) string {
	if known, ok := r.shared[s]; ok {
		return known
	}
	r.shared[s] = s
	return s
}

// fromWire gives a change that check accepts, or an error.
func (r *reader) fromWire(w *change) (model.Change, error) {
	c := model.Change{Key: model.Key{Kind: w.Kind, Cluster: r.cluster, Namespace: r.share(w.Namespace), Name: w.Name}}
	if w.Kind == model.KindCluster {
		c.Key.Cluster, c.Key.Name = w.Name, ""
	}
	var err error
	facts := 0
	if w.Endpoint != nil {
		facts++
		c.Value, err = r.endpoint(c.Key, w.Endpoint)
	}
	if w.NamespaceObject != nil {
		facts++
		c.Value, err = r.namespace(c.Key, w.NamespaceObject)
	}
	if w.Policy != nil {
		facts++
		c.Value, err = policyFromWire(c.Key, w.Policy)
	}
	if w.Cluster != nil {
		facts++
		c.Value, err = r.clusterFact(c.Key, w.Cluster)
	}
	switch {
	case err != nil:
		return model.Change{}, fmt.Errorf("%s: %w", c.Key, err)
	case facts > 1:
		return model.Change{}, fmt.Errorf("%s: %d facts, want one", c.Key, facts)
	}
	return c, check(r.cluster, c)
}

func (r *reader) endpoint(key model.Key, w *endpoint) (*model.Endpoint, error) {
	e := &model.Endpoint{
		Key: key, ServiceAccount: r.share(w.ServiceAccount), Node: r.share(w.Node),
		Created: w.Created, Terminating: w.Terminating,
	}
	if key.Kind == model.KindNode && e.Node == key.Name {
		e.Node = key.Name
	}
	var errs [3]error
	e.UID, errs[0] = uidFromWire(w.UID)
	e.Labels, errs[1] = r.labels(w.Labels)
	e.Addresses, errs[2] = addressesFromWire(w.Addresses)
	for _, p := range w.Ports {
		e.Ports = append(e.Ports, model.NamedPort{Name: r.share(p.Name), Protocol: p.Protocol, Port: p.First})
	}
	return e, errors.Join(errs[:]...)
}

func (r *reader) namespace(key model.Key, w *namespace) (*model.Namespace, error) {
	n := &model.Namespace{Key: key, PeerScope: w.PeerScope, ClusterName: w.ClusterName}
	var errs [2]error
	n.UID, errs[0] = uidFromWire(w.UID)
	n.Labels, errs[1] = r.labels(w.Labels)
	return n, errors.Join(errs[:]...)
}

func (r *reader) clusterFact(key model.Key, w *cluster) (*model.Cluster, error) {
	c := &model.Cluster{
		Name: key.Cluster, Local: w.Local, Created: w.Created, Suspended: w.Suspended,
		StaleAfter: time.Duration(w.StaleAfter), EndpointLimit: w.EndpointLimit,
	}
	var errs [4]error
	c.UID, errs[0] = uidFromWire(w.UID)
	c.Labels, errs[1] = r.labels(w.Labels)
	c.PodCIDRs, errs[2] = prefixesFromWire(w.PodCIDRs)
	c.NodeCIDRs, errs[3] = prefixesFromWire(w.NodeCIDRs)
	return c, errors.Join(errs[:]...)
}

func uidToWire(u model.UID) []byte {
	if u == (model.UID{}) {
		return nil
	}
	return u[:]
}

func uidFromWire(b []byte) (model.UID, error) {
	if len(b) == 0 {
		return model.UID{}, nil
	}
	if len(b) != len(model.UID{}) {
		return model.UID{}, fmt.Errorf("a uid of %d bytes", len(b))
	}
	return model.UID(b), nil
}

func (r *reader) labels(b []byte) (model.Labels, error) {
	if known, ok := r.decoded[string(b)]; ok {
		return known, nil
	}
	l, err := model.DecodeLabels(string(b))
	if err != nil {
		return model.Labels{}, fmt.Errorf("decode labels: %w", err)
	}
	r.decoded[string(b)] = l
	return l, nil
}

// appendAddress appends an address: its length in bytes, and they.
func appendAddress(b []byte, a netip.Addr) []byte {
	raw := a.AsSlice()
	return append(append(b, byte(len(raw))), raw...)
}

var errAddress = errors.New("not an encoded list of addresses")

func cutAddress(b []byte) (a netip.Addr, rest []byte, err error) {
	if len(b) == 0 || len(b) <= int(b[0]) {
		return netip.Addr{}, nil, errAddress
	}
	a, ok := netip.AddrFromSlice(b[1 : 1+b[0]])
	if !ok {
		return netip.Addr{}, nil, errAddress
	}
	return a, b[1+b[0]:], nil
}

func addressesFromWire(b []byte) (all []netip.Addr, err error) {
	for len(b) > 0 {
		var a netip.Addr
		if a, b, err = cutAddress(b); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// prefixesToWire is addresses, each followed by its bits.
func prefixesToWire(all []netip.Prefix) (b []byte) {
	for _, p := range all {
		b = append(appendAddress(b, p.Addr()), byte(p.Bits()))
	}
	return b
}

func prefixesFromWire(b []byte) (all []netip.Prefix, err error) {
	for len(b) > 0 {
		var a netip.Addr
		if a, b, err = cutAddress(b); err != nil {
			return nil, err
		}
		if len(b) == 0 {
			return nil, errAddress
		}
		p := netip.PrefixFrom(a, int(b[0]))
		if !p.IsValid() {
			return nil, errAddress
		}
		all, b = append(all, p), b[1:]
	}
	return all, nil
}
