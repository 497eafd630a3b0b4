package policy

import (
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// place is where a requirement stands: what its key means depends on it.
type place uint8

const (
	ownPods        place = iota // spec.podSelector
	peerPods                    // podSelector of a peer
	peerNodes                   // podSelector of a peer that means nodes (semantics 2.6)
	peerNamespaces              // namespaceSelector of a peer
)

// clusterKey tells the keys that make a peer range over all clusters.
func clusterKey(key string) bool {
	if key == model.KeyCluster {
		return true
	}
	// The labels of clusters have keys without a slash (semantics 1.2).
	rest, ok := strings.CutPrefix(key, model.PrefixCluster)
	return ok && rest != "" && !strings.Contains(rest, "/")
}

// translate maps a key at a place into the key space of selectors. Not known: a
// reserved key that is unknown or does not belong here (semantics 2.2).
func (at place) translate(key string) (translated string, known bool) {
	switch {
	case clusterKey(key):
		return key, true
	case key == model.KeyKind:
		return key, at != peerNamespaces
	case key == model.KeyServiceAccount:
		return key, at == ownPods || at == peerPods
	case model.ReservedLabel(key):
		return "", false
	case at != peerNamespaces:
		return key, true
	case key == model.KeyNamespaceName:
		return model.KeyNamespace, true
	}
	return model.PrefixNamespace + key, true
}

// expected says which reserved keys belong at the place.
func (at place) expected() string {
	keys := model.KeyCluster + " or " + model.PrefixCluster + "KEY"
	switch at {
	case ownPods, peerPods:
		return model.KeyKind + ", " + model.KeyServiceAccount + ", " + keys
	case peerNodes:
		return model.KeyKind + ", " + keys
	}
	return keys
}
