package selector

import (
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// Subject is an endpoint in the one key space (see the keys in pkg/model): its
// own labels as they are, everything else under reserved keys. It is used by
// pointer.
type Subject struct {
	Labels model.Labels // the endpoint's own
	// Namespace is its namespace's labels; of pods only.
	Namespace model.Labels
	// NamespaceUnknown says that the Namespace object is not known: then even
	// PrefixNamespace + KeyNamespaceName, which every Namespace has, is absent.
	// A requirement that something is not there demands it, lest it be
	// fulfilled by ignorance.
	NamespaceUnknown bool
	Cluster          model.Labels // its cluster's
	ClusterName      string
	NamespaceName    string // of a pod
	ServiceAccount   string // of a pod
	Kind             model.Kind
}

// Get is the value under a key. A reserved key is never answered by a label of
// its name, an unknown one not at all. What is empty is absent.
func (s *Subject) Get(key string) (string, bool) {
	if !model.ReservedLabel(key) {
		return s.Labels.Get(key)
	}
	if rest, ok := strings.CutPrefix(key, model.PrefixNamespace); ok {
		return s.namespaceLabel(rest)
	}
	if rest, ok := strings.CutPrefix(key, model.PrefixCluster); ok {
		return s.Cluster.Get(rest)
	}
	value, pod := "", s.Kind == model.KindPod
	switch {
	case key == model.KeyCluster:
		value = s.ClusterName
	case key == model.KeyKind && (pod || s.Kind == model.KindNode):
		value = s.Kind.String()
	case key == model.KeyNamespace && pod:
		value = s.NamespaceName
	case key == model.KeyServiceAccount && pod:
		value = s.ServiceAccount
	}
	return value, value != ""
}

func (s *Subject) namespaceLabel(key string) (string, bool) {
	switch {
	case s.Kind != model.KindPod || s.NamespaceUnknown || model.ReservedLabel(key):
		return "", false
	case key == model.KeyNamespaceName:
		return s.NamespaceName, s.NamespaceName != ""
	}
	return s.Namespace.Get(key)
}
