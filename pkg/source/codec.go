package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/overland-net/overland/pkg/model"
)

// kindOf tells what an object or a list is of, by its kind's name.
func kindOf(name string) (kind model.Kind, list bool) {
	switch name {
	case "Pod":
		return model.KindPod, false
	case "PodList":
		return model.KindPod, true
	case "Node":
		return model.KindNode, false
	case "NodeList":
		return model.KindNode, true
	case "Namespace":
		return model.KindNamespace, false
	case "NamespaceList":
		return model.KindNamespace, true
	case "NetworkPolicy":
		return model.KindPolicy, false
	case "NetworkPolicyList":
		return model.KindPolicy, true
	case "Service":
		return model.KindService, false
	case "ServiceList":
		return model.KindService, true
	case "EndpointSlice":
		return model.KindEndpointSlice, false
	case "EndpointSliceList":
		return model.KindEndpointSlice, true
	}
	return 0, false
}

// errNotAsked is of an answer that is neither of the kinds that are read here, in
// protobuf, nor a Status. What else the usual decoder could read is not worth the
// memory that it may take.
var errNotAsked = errors.New("the answer is not what was asked for")

// kindOfJSON is empty for what is no JSON object with a kind.
func kindOfJSON(data []byte) string {
	var typed struct {
		Kind string `json:"kind"`
	}
	if len(data) > maxErrorBody || json.Unmarshal(data, &typed) != nil {
		return ""
	}
	return typed.Kind
}

var errReadOnly = errors.New("this client only reads")

// codec decodes objects straight into items, and lists into lists of items: the
// objects themselves never exist. Everything that is not protobuf or not of a
// known kind is left to the usual decoder, but nothing but a Status is taken
// from that.
type codec struct {
	usual   runtime.Decoder
	convert converter // of any kind: the answer says which it is
}

// Decode reads a message.
func (c codec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	e, err := decodeEnvelope(data)
	if err == nil {
		if kind, list := kindOf(e.kind); kind != 0 {
			convert := c.convert
			convert.kind = kind
			gvk := &schema.GroupVersionKind{Version: "v1", Kind: e.kind}
			if !list {
				return convert.convert(e.raw), gvk, nil
			}
			l, err := convert.list(e.raw)
			return l, gvk, err
		}
	}
	kind := e.kind
	if err != nil {
		kind = kindOfJSON(data)
	}
	if kind != "Status" {
		return nil, nil, fmt.Errorf("%w: %q", errNotAsked, printable(kind, maxLabelNameLength))
	}
	o, gvk, err := c.usual.Decode(data, defaults, into)
	if err != nil {
		return nil, gvk, fmt.Errorf("decode a Status: %w", err)
	}
	return o, gvk, nil
}

// Encode is there for runtime.Serializer.
func (codec) Encode(runtime.Object, io.Writer) error { return errReadOnly }

// Identifier is there for runtime.Serializer.
func (codec) Identifier() runtime.Identifier { return "overland-items" }

func (c converter) list(raw []byte) (*itemList, error) {
	l, err := decodeList(raw)
	if err != nil {
		return nil, err
	}
	list := &itemList{Items: make([]*item, 0, len(l.items)), kind: c.kind}
	list.ResourceVersion, list.Continue = l.version, l.next
	for _, message := range l.items {
		list.Items = append(list.Items, c.convert(message))
	}
	return list, nil
}

// negotiated is what a client of this package can read: protobuf and, for errors
// only, JSON.
type negotiated struct{ types []runtime.SerializerInfo }

// newNegotiated decodes objects as c converts them.
func newNegotiated(c converter) negotiated {
	var n negotiated
	for _, info := range scheme.Codecs.SupportedMediaTypes() {
		switch info.MediaType {
		case runtime.ContentTypeProtobuf:
		case runtime.ContentTypeJSON:
			info.StreamSerializer, info.PrettySerializer = nil, nil
		default:
			continue
		}
		info.Serializer = codec{usual: info.Serializer, convert: c}
		info.StrictSerializer = info.Serializer
		n.types = append(n.types, info)
	}
	return n
}

// SupportedMediaTypes is there for runtime.NegotiatedSerializer.
func (n negotiated) SupportedMediaTypes() []runtime.SerializerInfo { return n.types }

// EncoderForVersion is there for runtime.NegotiatedSerializer.
func (negotiated) EncoderForVersion(e runtime.Encoder, _ runtime.GroupVersioner) runtime.Encoder {
	return e
}

// DecoderToVersion is there for runtime.NegotiatedSerializer.
func (negotiated) DecoderToVersion(d runtime.Decoder, _ runtime.GroupVersioner) runtime.Decoder {
	return d
}
