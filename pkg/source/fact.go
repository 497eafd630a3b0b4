package source

import "github.com/overland-net/overland/pkg/model"

// Fact makes the fact of an object, given as the protobuf message that API
// servers send, just as the source of that cluster does. It is nil for an object
// that is none, such as a pod without an address; refused then says why, if it
// should be one.
func Fact(cluster string, local bool, kind model.Kind, message []byte) (fact model.Fact, refused model.RefusalReason) {
	i := converter{cluster: cluster, names: &interner{}, decoder: decoder{kind: kind, local: local}}.convert(message)
	return i.fact, i.refused
}
