package model

import "strings"

// The reserved label keys (semantics 2.2, and those of `overland eval`). They
// are part of the one key space in which selectors are written: an endpoint's
// own labels as they are, everything else under these.
const (
	KeyCluster        = "overland.dev/cluster"         // the cluster's name
	KeyKind           = "overland.dev/kind"            // Pod or Node
	KeyServiceAccount = "overland.dev/service-account" // the pod's service account
	KeyNamespace      = "overland.dev/namespace"       // the namespace's name
	// PrefixCluster + KEY is the value of KEY in the cluster's labels.
	PrefixCluster = "cluster.overland.dev/"
	// PrefixNamespace + KEY is the value of KEY in the namespace's labels.
	PrefixNamespace = "namespace.overland.dev/"

	// KeyNamespaceName is the label that always has the namespace's own name,
	// whatever the object says (semantics 1.4).
	KeyNamespaceName = "kubernetes.io/metadata.name"

	// AnnotationClusterName is on the agent's namespace: the name that the
	// cluster gives itself (semantics 1.1).
	AnnotationClusterName = "overland.dev/cluster-name"
	// AnnotationPeerScope is on a policy or a namespace (semantics 2.3).
	AnnotationPeerScope = "overland.dev/peer-scope"

	reservedDomain = "overland.dev"
)

// ReservedLabel tells whether a label of that key on an object of any cluster
// is to be dropped (semantics 1.4).
func ReservedLabel(key string) bool {
	switch key {
	case "federation.tigera.io/remoteClusterName", "federation.www.tigera.io/remoteClusterName":
		return true
	}
	return ReservedKey(key)
}

// ReservedKey tells whether a key in a selector is one of ours: known or not.
func ReservedKey(key string) bool {
	domain, _, slash := strings.Cut(key, "/")
	return slash && (domain == reservedDomain || strings.HasSuffix(domain, "."+reservedDomain))
}
