package source

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/overland-net/overland/pkg/model"
)

// Bounds of what is read of one object. A pod has at most one address of each
// family, a node a handful; the named ports of one pod that has this many would
// not fit on a screen either.
const (
	maxAddresses = 16
	maxPorts     = 256
)

// errAbsurd is of an object that has more of something than any real one.
var errAbsurd = errors.New("has too many addresses or named ports")

// rawMeta is what is needed of an object's metadata. Its strings are copies.
type rawMeta struct {
	namespace, name, uid, version string
	created                       int64
	terminating                   bool
	labels                        map[string]string
	labelBytes                    int
	reserved                      bool // it had reserved labels
	peerScope, clusterName        string
	annotations                   map[string]string // of a Service: those of federation
	initialEventsEnd              bool
}

// rawObject is what is needed of a pod, a node or a namespace.
type rawObject struct {
	rawMeta
	node, serviceAccount string
	hostNetwork          bool
	phase                string
	podIP                string
	addresses            []string // podIPs, or those of type InternalIP
	ports                []rawPort
}

// rawPort is a named port.
type rawPort struct {
	name, protocol string
	port           uint64
}

// decoder reads objects of one kind. It is used by one goroutine at a time.
type decoder struct {
	kind  model.Kind
	local bool // of the local cluster
	// node is the agent's own, whose pods are wanted without addresses too; empty:
	// there is none.
	node       string
	labelBytes int // above it, labels are counted but not kept; 0: no limit
}

// object reads one. The fields of later occurrences of a message are merged into
// the former, as protobuf wants it.
func (d decoder) object(message []byte) (*rawObject, error) {
	o := &rawObject{}
	for f, err := range fields(message) {
		if err != nil {
			return nil, err
		}
		switch {
		case f.id == 1:
			err = d.meta(&o.rawMeta, f.bytes)
		case f.id == 2 && d.kind == model.KindPod:
			err = o.podSpec(f.bytes)
		case f.id == 3 && d.kind == model.KindPod:
			err = o.podStatus(f.bytes)
		case f.id == 3 && d.kind == model.KindNode:
			err = o.nodeStatus(f.bytes)
		}
		if err != nil {
			return o, err
		}
	}
	return o, nil
}

func (d decoder) meta(m *rawMeta, message []byte) error {
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			m.name = cut(f.bytes, maxNameLength)
		case 3:
			m.namespace = cut(f.bytes, maxNameLength)
		case 5:
			m.uid = cut(f.bytes, maxNameLength)
		case 6:
			m.version = cut(f.bytes, maxNameLength)
		case 8:
			m.created, err = seconds(f.bytes)
		case 9:
			m.terminating = true
		case 11:
			err = d.label(m, f.bytes)
		case 12:
			err = d.annotation(m, f.bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cut is the text of b; of one that is longer than it may be, as much as shows
// that: what is refused is remembered too, and must not cost more than others.
func cut(b []byte, length int) string { return string(b[:min(len(b), length+1)]) }

// seconds reads a Time.
func seconds(message []byte) (s int64, err error) {
	for f, err := range fields(message) {
		if err != nil {
			return 0, err
		}
		if f.id == 1 {
			s = int64(f.number) //nolint:gosec // two's complement is how protobuf has negative numbers
		}
	}
	return s, nil
}

// pair reads an entry of a map.
func pair(message []byte) (key, value []byte, err error) {
	for f, err := range fields(message) {
		if err != nil {
			return nil, nil, err
		}
		switch f.id {
		case 1:
			key = f.bytes
		case 2:
			value = f.bytes
		}
	}
	return key, value, nil
}

func (d decoder) label(m *rawMeta, message []byte) error {
	key, value, err := pair(message)
	if err != nil {
		return err
	}
	if d.kind == model.KindEndpointSlice {
		m.sliceLabel(key, value)
		return nil
	}
	if model.ReservedLabel(string(key)) {
		m.reserved = true
		return nil
	}
	m.labelBytes += len(key) + len(value)
	if d.labelBytes > 0 && m.labelBytes > d.labelBytes {
		m.labels = nil
		return nil
	}
	if m.labels == nil {
		m.labels = map[string]string{}
	}
	m.labels[string(key)] = string(value)
	return nil
}

func (d decoder) annotation(m *rawMeta, message []byte) error {
	key, value, err := pair(message)
	if err != nil {
		return err
	}
	if d.kind == model.KindService {
		d.federation(m, key, value)
	}
	switch string(key) {
	case model.AnnotationPeerScope:
		m.peerScope = scopeText(bounded(value))
	case model.AnnotationClusterName:
		m.clusterName = bounded(value)
	case annotationInitialEvents:
		m.initialEventsEnd = string(value) == "true"
	}
	return nil
}

// annotationInitialEvents is on the bookmark that ends the initial events of a
// streamed list (metav1.InitialEventsAnnotationKey).
const annotationInitialEvents = "k8s.io/initial-events-end"

// bounded keeps of an annotation what is more than enough to see that it is no
// valid value.
func bounded(value []byte) string { return string(value[:min(len(value), 64)]) }

func (o *rawObject) podSpec(message []byte) error {
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		switch f.id {
		case 2:
			err = o.container(f.bytes, false)
		case 8:
			o.serviceAccount = string(f.bytes)
		case 10:
			o.node = string(f.bytes)
		case 11:
			o.hostNetwork = f.number != 0
		case 20:
			err = o.container(f.bytes, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// container takes the named ports. An init container has ended by the time that
// anybody connects, unless it is restartable: a sidecar.
func (o *rawObject) container(message []byte, init bool) error {
	before, sidecar := len(o.ports), false
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		switch f.id {
		case 6:
			err = o.port(f.bytes)
		case 24:
			sidecar = bytes.Equal(f.bytes, []byte("Always"))
		}
		if err != nil {
			return err
		}
	}
	if init && !sidecar {
		o.ports = o.ports[:before]
	}
	return nil
}

func (o *rawObject) port(message []byte) error {
	var p rawPort
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			p.name = string(f.bytes)
		case 3:
			p.port = f.number
		case 4:
			p.protocol = string(f.bytes)
		}
	}
	if p.name == "" {
		return nil
	}
	if len(o.ports) == maxPorts {
		return errAbsurd
	}
	o.ports = append(o.ports, p)
	return nil
}

func (o *rawObject) podStatus(message []byte) error {
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			o.phase = string(f.bytes)
		case 6:
			o.podIP = string(f.bytes)
		case 12:
			ip, _, err := pair(f.bytes)
			if err != nil {
				return err
			}
			if err := o.address(ip); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *rawObject) nodeStatus(message []byte) error {
	for f, err := range fields(message) {
		if err != nil {
			return err
		}
		if f.id != 5 {
			continue
		}
		kind, address, err := pair(f.bytes)
		if err != nil {
			return err
		}
		if string(kind) == "InternalIP" {
			if err := o.address(address); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *rawObject) address(text []byte) error {
	if len(o.addresses) == maxAddresses {
		return errAbsurd
	}
	o.addresses = append(o.addresses, string(text))
	return nil
}

// rawList is a list before its objects are read.
type rawList struct {
	version, next string
	items         [][]byte
}

// maxPage is how many objects a list may have at most. No answer to a request
// with a limit has more than asked for.
const maxPage = pageSize

func decodeList(message []byte) (rawList, error) {
	var l rawList
	for f, err := range fields(message) {
		if err != nil {
			return l, err
		}
		switch f.id {
		case 1:
			for m, err := range fields(f.bytes) {
				if err != nil {
					return l, err
				}
				switch m.id {
				case 2:
					l.version = string(m.bytes)
				case 3:
					l.next = string(m.bytes)
				}
			}
		case 2:
			if len(l.items) == maxPage {
				return l, fmt.Errorf("the list has more than the %d objects that were asked for", maxPage)
			}
			l.items = append(l.items, f.bytes)
		}
	}
	return l, nil
}

// envelope is how Kubernetes wraps a protobuf message.
type envelope struct {
	kind string
	raw  []byte
}

func decodeEnvelope(data []byte) (envelope, error) {
	var e envelope
	message, ok := bytes.CutPrefix(data, []byte("k8s\x00"))
	if !ok {
		return e, errors.New("not in Kubernetes' protobuf format")
	}
	for f, err := range fields(message) {
		if err != nil {
			return e, err
		}
		switch f.id {
		case 1:
			_, kind, err := pair(f.bytes)
			if err != nil {
				return e, err
			}
			e.kind = string(kind)
		case 2:
			e.raw = f.bytes
		}
	}
	return e, nil
}
