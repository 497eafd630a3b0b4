package policy

import (
	"fmt"

	"github.com/overland-net/overland/pkg/model"
)

// Config is the configuration that the meaning of policies depends on.
type Config struct {
	// Cluster is the local cluster's name, ClusterLabels are its labels.
	Cluster       string
	ClusterLabels model.Labels
	// Mesh makes all clusters the scope of a peer that mentions none; else it
	// is the local one (semantics 2.3).
	Mesh bool
	// ScopeOverride bounds whose annotation may widen the scope.
	ScopeOverride Override
	Limits        Limits
}

// Override says whose annotation may widen the scope of peers from the local
// cluster to the mesh. Any annotation may narrow it.
type Override uint8

// The values of --peer-scope-override.
const (
	OverridePolicy    Override = iota // the namespace's, and then the policy's
	OverrideNamespace                 // the namespace's only
	OverrideNone                      // none
)

// ParseOverride reads policy, namespace or none.
func ParseOverride(s string) (Override, error) {
	for o := OverridePolicy; o <= OverrideNone; o++ {
		if s == o.String() {
			return o, nil
		}
	}
	return OverrideNone, fmt.Errorf("peer scope override is %q: expected policy, namespace or none", s)
}

// String is the word that ParseOverride reads.
func (o Override) String() string {
	switch o {
	case OverridePolicy:
		return "policy"
	case OverrideNamespace:
		return "namespace"
	}
	return "none"
}

const (
	scopeLocal = "local"
	scopeMesh  = "mesh"
)

// MeshScope tells whether a peer of the policy that mentions no cluster key
// means all clusters (semantics 2.3). The default of the configuration is
// overridden by the annotation on the namespace, and that by the one on the
// policy: local always counts; mesh counts where ScopeOverride lets its object
// widen, else the scope stays what it is, with a Problem; anything else means
// local, with a Problem. A namespace that is not known (nil) might say local,
// so it counts as if it did: a policy's own annotation can still widen.
func (c Config) MeshScope(p *model.Policy, ns *model.Namespace) (mesh bool, problems []model.Problem) {
	if ns != nil {
		s := scope{c.Mesh, c.ScopeOverride != OverrideNone, c.ScopeOverride}
		mesh, problems = s.annotated(ns.Key, ns.PeerScope)
	}
	s := scope{mesh, c.ScopeOverride == OverridePolicy, c.ScopeOverride}
	mesh, more := s.annotated(p.Key, p.PeerScope)
	return mesh, append(problems, more...)
}

// scope is what an annotation finds.
type scope struct {
	mesh, mayWiden bool
	override       Override
}

func (s scope) annotated(object model.Key, value string) (mesh bool, problems []model.Problem) {
	switch value {
	case "":
		return s.mesh, nil
	case scopeLocal:
		return false, nil
	case scopeMesh:
		if s.mesh || s.mayWiden {
			return true, nil
		}
		return false, []model.Problem{{Kind: model.ProblemPeerScope, Object: object, Message: fmt.Sprintf(
			"metadata.annotations[%s]: mesh has no effect: with --peer-scope-override=%s this object may not widen the scope", model.AnnotationPeerScope, s.override)}}
	}
	return false, []model.Problem{{Kind: model.ProblemPeerScope, Object: object, Message: fmt.Sprintf(
		"metadata.annotations[%s]: %q means local: expected local or mesh", model.AnnotationPeerScope, value)}}
}
