package plan

import (
	"cmp"
	"hash/fnv"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/model"
)

// What an object of ours bears.
const (
	// ManagedBy is the value of the label endpointslice.kubernetes.io/managed-by
	// of each EndpointSlice of ours.
	ManagedBy = "federation.overland.dev"
	// LabelSourceCluster names the cluster whose endpoints are in an
	// EndpointSlice; the state has none.
	LabelSourceCluster = "federation.overland.dev/source-cluster"
	// LabelParked has the name of the Service in an EndpointSlice whose endpoints
	// are not published.
	LabelParked = "federation.overland.dev/parked"
	// AnnotationFormat is the version of the object's form (semantics 5.1). It is
	// what marks an Endpoints object as ours.
	AnnotationFormat = "federation.overland.dev/format"
	// AnnotationApplied is the expression that an object was made by.
	AnnotationApplied = "federation.overland.dev/applied"
	// AnnotationAppliedPreference, of the state, is the preference that it was
	// made by.
	AnnotationAppliedPreference = "federation.overland.dev/applied-preference"
	// AnnotationServing, of the state, is the cluster that serves alone, or * for
	// several together.
	AnnotationServing = "federation.overland.dev/serving"
	// AnnotationSufficient, of the state, is since when clusters that are
	// preferred to what serves have been sufficient: CLUSTER=TIME, the time as
	// RFC 3339 with milliseconds, separated by commas, sorted by name.
	AnnotationSufficient = "federation.overland.dev/sufficient-since"
	// AnnotationWritten, of an Endpoints object of many addresses, is when it was
	// written.
	AnnotationWritten = "federation.overland.dev/written"

	// Format is the form that this package writes.
	Format = 1
)

// ServiceOf is the name of the federated Service that an EndpointSlice of ours is
// for, and whether it is one of ours.
func ServiceOf(s *discoveryv1.EndpointSlice) (string, bool) {
	if s.Labels[discoveryv1.LabelManagedBy] != ManagedBy {
		return "", false
	}
	name := s.Labels[discoveryv1.LabelServiceName]
	if name == "" {
		name = s.Labels[LabelParked]
	}
	return name, name != ""
}

// serviceProxyName makes kube-proxy pass an object by.
const serviceProxyName = "service.kubernetes.io/service-proxy-name"

// labels are those of an EndpointSlice of ours.
func (p *planner) labels(cluster string, park bool) map[string]string {
	out := map[string]string{}
	if park {
		out[LabelParked] = p.service.Key.Name
		out[serviceProxyName] = ManagedBy
	} else {
		for k, v := range p.service.Labels.All() {
			if !ownLabel(k) {
				out[k] = v
			}
		}
		out[discoveryv1.LabelServiceName] = p.service.Key.Name
	}
	if park || p.service.Headless {
		out[corev1.IsHeadlessService] = ""
	}
	out[discoveryv1.LabelManagedBy] = ManagedBy
	if cluster != "" {
		out[LabelSourceCluster] = cluster
	}
	return out
}

// ownLabel tells whether a label is set by us, whatever the Service has.
func ownLabel(key string) bool {
	switch key {
	case discoveryv1.LabelServiceName, discoveryv1.LabelManagedBy, corev1.IsHeadlessService:
		return true
	}
	return model.ReservedLabel(key)
}

// annotations are those of ours that an EndpointSlice has; nil: it has not. The
// object that is of no cluster is the state.
func (p *planner) annotations(cluster string) map[string]*string {
	out := map[string]*string{
		AnnotationFormat: new(strconv.Itoa(Format)), AnnotationApplied: &p.applied,
		AnnotationAppliedPreference: nil, AnnotationServing: nil, AnnotationSufficient: nil,
	}
	if cluster == "" {
		out[AnnotationAppliedPreference] = &p.pref.text
		out[AnnotationServing] = &p.serving
		out[AnnotationSufficient] = optional(writeSufficient(p.since))
	}
	return out
}

// owner is the reference to the Service (semantics 4.6).
func (p *planner) owner() metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: "v1", Kind: "Service", Name: p.service.Key.Name, UID: types.UID(p.service.UID.String()),
		Controller: new(true), BlockOwnerDeletion: new(false),
	}
}

// dressing is the metadata of some EndpointSlices of ours.
type dressing struct {
	labels      map[string]string
	annotations map[string]*string
}

// dressKey is what it depends on.
type dressKey struct {
	cluster string
	park    bool
}

func (p *planner) dressing(cluster string, park bool) dressing {
	key := dressKey{cluster, park}
	d, ok := p.dresses[key]
	if !ok {
		d = dressing{p.labels(cluster, park), p.annotations(cluster)}
		p.dresses[key] = d
	}
	return d
}

// dress gives an EndpointSlice its metadata. Annotations of others stay.
func (p *planner) dress(s *discoveryv1.EndpointSlice, cluster string, park bool) {
	d := p.dressing(cluster, park)
	s.Labels = maps.Clone(d.labels)
	s.Annotations = annotated(s.Annotations, d.annotations)
	s.OwnerReferences = []metav1.OwnerReference{p.owner()}
}

// dressed tells whether dress would change nothing.
func (p *planner) dressed(s *discoveryv1.EndpointSlice, cluster string, park bool) bool {
	d := p.dressing(cluster, park)
	return maps.Equal(s.Labels, d.labels) && hasAnnotations(s.Annotations, d.annotations) && p.ownedBy(s.OwnerReferences)
}

func (p *planner) ownedBy(had []metav1.OwnerReference) bool {
	if len(had) != 1 {
		return false
	}
	h, want := had[0], p.owner()
	return h.APIVersion == want.APIVersion && h.Kind == want.Kind && h.Name == want.Name && h.UID == want.UID &&
		value(h.Controller) && !value(h.BlockOwnerDeletion)
}

// annotated is a set of annotations with those of ours.
func annotated(had map[string]string, ours map[string]*string) map[string]string {
	out := maps.Clone(had)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range ours {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = *v
		}
	}
	return out
}

func hasAnnotations(had map[string]string, ours map[string]*string) bool {
	for k, v := range ours {
		if has, ok := had[k]; ok != (v != nil) || has != value(v) {
			return false
		}
	}
	return true
}

// names are those that an object to create cannot have.
func (p *planner) names() map[string]bool {
	taken := map[string]bool{}
	for _, s := range p.owned.all {
		taken[s.Name] = true
	}
	return taken
}

// newSlice is an object of a name that nothing has: of the Service, the cluster, a
// hash of what it is for, and a number.
func (p *planner) newSlice(key groupKey, taken map[string]bool) *discoveryv1.EndpointSlice {
	h := fnv.New64a()
	for _, part := range []string{p.service.Key.Name, key.cluster, string(key.family), key.ports, strconv.FormatBool(key.parked)} {
		h.Write([]byte(part + "\x00")) //nolint:errcheck // it never fails
	}
	base := p.service.Key.Name + "-" + cmp.Or(key.cluster, "federated") + "-" + strconv.FormatUint(h.Sum64(), 36) + "-"
	for n := 0; ; n++ {
		name := base + strconv.Itoa(n)
		if !taken[name] && !p.world.Facts.named(model.EndpointSliceKey(p.local, p.service.Key.Namespace, name)) {
			taken[name] = true
			return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: p.service.Key.Namespace, Name: name}}
		}
	}
}

// endpoint is an endpoint as the API has it: of a linked cluster without what
// readers would take for local (semantics 4.6).
func (p *planner) endpoint(e *candidate, local bool) discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{
		Addresses:  []string{e.addr.String()},
		Conditions: discoveryv1.EndpointConditions{Ready: new(e.ready), Serving: new(e.serving), Terminating: new(e.terminating)},
		Hostname:   optional(e.hostname), Zone: optional(e.zone),
		Hints: hintsOf(p.service).write(e, local),
	}
	if local {
		out.NodeName = optional(e.node)
		if t := e.target; t != (model.TargetRef{}) {
			out.TargetRef = &corev1.ObjectReference{Kind: t.Kind, Namespace: t.Namespace, Name: t.Name, UID: types.UID(t.UID)}
		}
	}
	return out
}

// sameEndpoint tells whether endpoint would write what is there, at its address.
func (p *planner) sameEndpoint(had *discoveryv1.Endpoint, e *candidate, local bool) bool {
	node, target := "", model.TargetRef{}
	if local {
		node, target = e.node, e.target
	}
	return (e.addr.Is4() || had.Addresses[0] == e.addr.String()) && is(had.Conditions.Ready, e.ready) &&
		is(had.Conditions.Serving, e.serving) && is(had.Conditions.Terminating, e.terminating) &&
		isOptional(had.Hostname, e.hostname) && isOptional(had.NodeName, node) && isOptional(had.Zone, e.zone) &&
		isTarget(had.TargetRef, target) && len(had.DeprecatedTopology) == 0 && hintsOf(p.service).same(had.Hints, e, local)
}

func is[T comparable](had *T, want T) bool { return had != nil && *had == want }

// isOptional tells whether optional would point to the same.
func isOptional(had *string, want string) bool {
	return (had == nil) == (want == "") && value(had) == want
}

func isTarget(had *corev1.ObjectReference, want model.TargetRef) bool {
	if had == nil {
		return want == model.TargetRef{}
	}
	return *had == corev1.ObjectReference{Kind: want.Kind, Namespace: want.Namespace, Name: want.Name, UID: types.UID(want.UID)}
}

func samePointers[T comparable](a, b *T) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
