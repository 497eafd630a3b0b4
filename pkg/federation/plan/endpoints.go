package plan

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/model"
)

// The limits of an Endpoints object (semantics 4.6).
const (
	maxAddresses   = 1000
	manyAddresses  = 100 // above them it is written at most every writeInterval
	writeInterval  = 5 * time.Second
	overCapacity   = corev1.EndpointsOverCapacity
	truncatedValue = "truncated"
)

// marked tells whether an Endpoints object is ours.
func marked(e *corev1.Endpoints) bool {
	_, ok := e.Annotations[AnnotationFormat]
	return ok
}

// writeEndpoints plans the Endpoints object, for readers of the old API.
func (p *planner) writeEndpoints(out *output) {
	had := p.have.Endpoints
	switch {
	case !p.have.EndpointsKnown || p.service.Selecting: // the core controller's
		return
	case had != nil && (newer(had.Annotations) || p.foreignEndpoints()):
		return
	case !p.world.Endpoints:
		if had != nil {
			p.change(Change{Op: Delete, Endpoints: had})
		}
		return
	}
	chosen, truncated := p.chooseAddresses(out)
	subsets := subsets(chosen)
	if had != nil && p.sameEndpoints(had, subsets, truncated) {
		return
	}
	now := p.endpointsObject(subsets, truncated)
	if many := max(len(chosen), countAddresses(had)) > manyAddresses; many {
		if wait, ok := p.writtenLately(had); ok {
			p.due(wait)
			return
		}
		now.Annotations[AnnotationWritten] = p.world.Now.UTC().Format(timeFormat)
	}
	op := Create
	if had != nil {
		op = Update
	}
	p.change(Change{Op: op, Endpoints: now})
}

// writtenLately is when an object of many addresses may be written again, and
// whether that is in the future.
func (p *planner) writtenLately(had *corev1.Endpoints) (time.Time, bool) {
	if had == nil {
		return time.Time{}, false
	}
	at, err := time.Parse(timeFormat, had.Annotations[AnnotationWritten])
	if err != nil || at.After(p.world.Now) { // a clock went back
		return time.Time{}, false
	}
	next := at.Add(writeInterval)
	return next, next.After(p.world.Now)
}

func countAddresses(e *corev1.Endpoints) int {
	n := 0
	if e != nil {
		for _, s := range e.Subsets {
			n += len(s.Addresses) + len(s.NotReadyAddresses)
		}
	}
	return n
}

// chooseAddresses is what the object has room for, of the first family: ready
// ones first, then local ones, then by address.
func (p *planner) chooseAddresses(out *output) (chosen []outgoing, truncated bool) {
	family := uint8(4)
	if f := p.service.Families; len(f) > 0 {
		family = f[0]
	}
	seen := make(map[netip.Addr]bool, len(out.published))
	for _, o := range out.published {
		if familyOf(o.addr) == family && !o.terminating && !seen[o.addr] {
			seen[o.addr] = true
			chosen = append(chosen, o)
		}
	}
	slices.SortFunc(chosen, func(a, b outgoing) int {
		return cmp.Or(-compareBool(a.ready, b.ready), -compareBool(a.part.Local, b.part.Local), a.addr.Compare(b.addr))
	})
	return chosen[:min(len(chosen), maxAddresses)], len(chosen) > maxAddresses
}

// endpointsObject is the object in the seed's form. What others have annotated
// stays; a label of the core controller would make it theirs again.
func (p *planner) endpointsObject(subsets []corev1.EndpointSubset, truncated bool) *corev1.Endpoints {
	now := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: p.service.Key.Namespace, Name: p.service.Key.Name}}
	if p.have.Endpoints != nil {
		now = p.have.Endpoints.DeepCopy()
	}
	now.Labels = endpointsLabels()
	now.Annotations = annotated(now.Annotations, p.endpointsAnnotations(truncated))
	now.OwnerReferences = []metav1.OwnerReference{p.owner()}
	now.Subsets = subsets
	return now
}

func endpointsLabels() map[string]string {
	return map[string]string{discoveryv1.LabelSkipMirror: "true"}
}

func (p *planner) endpointsAnnotations(truncated bool) map[string]*string {
	out := map[string]*string{AnnotationFormat: new(strconv.Itoa(Format)), overCapacity: nil}
	for _, key := range selectorAnnotations() {
		out[key] = nil
		if text, ok := p.service.Annotations[key]; ok {
			out[key] = &text
		}
	}
	if truncated {
		out[overCapacity] = new(truncatedValue)
	}
	return out
}

// subsets are addresses by their ports, in the order in which API servers have
// them: addresses by their text.
func subsets(chosen []outgoing) []corev1.EndpointSubset {
	by := map[string]*corev1.EndpointSubset{}
	for _, o := range chosen {
		s := by[o.ports.key]
		if s == nil {
			s = &corev1.EndpointSubset{Ports: oldPorts(o.ports)}
			by[o.ports.key] = s
		}
		if a := oldAddress(o); o.ready {
			s.Addresses = append(s.Addresses, a)
		} else {
			s.NotReadyAddresses = append(s.NotReadyAddresses, a)
		}
	}
	var out []corev1.EndpointSubset
	for _, key := range slices.Sorted(maps.Keys(by)) {
		byText := func(a, b corev1.EndpointAddress) int { return cmp.Compare(a.IP, b.IP) }
		slices.SortFunc(by[key].Addresses, byText)
		slices.SortFunc(by[key].NotReadyAddresses, byText)
		out = append(out, *by[key])
	}
	return out
}

func oldPorts(l *portList) []corev1.EndpointPort {
	var out []corev1.EndpointPort
	for _, p := range l.ports {
		out = append(out, corev1.EndpointPort{Name: p.name, Protocol: corev1.Protocol(p.protocol), Port: p.number, AppProtocol: optional(p.app)})
	}
	return out
}

// oldAddress is an endpoint there: with the node, and the pod named with its
// cluster.
func oldAddress(o outgoing) corev1.EndpointAddress {
	a := corev1.EndpointAddress{IP: o.addr.String(), Hostname: o.hostname, NodeName: optional(o.node)}
	if t := o.target; t != (model.TargetRef{}) {
		name := t.Name
		if !o.part.Local {
			name = prefix(o.part.Name) + t.Name
		}
		a.TargetRef = &corev1.ObjectReference{Kind: t.Kind, Namespace: t.Namespace, Name: name, UID: types.UID(t.UID)}
	}
	return a
}

// prefix is what stands before the name of a linked cluster's pod.
func prefix(cluster string) string { return cluster + "/" }

// sameEndpoints tells whether an object says what is to be said: API servers of
// some versions put the subsets in an order, and cut, of their own.
func (p *planner) sameEndpoints(had *corev1.Endpoints, now []corev1.EndpointSubset, truncated bool) bool {
	return maps.Equal(had.Labels, endpointsLabels()) && hasAnnotations(had.Annotations, p.endpointsAnnotations(truncated)) &&
		p.ownedBy(had.OwnerReferences) &&
		(slices.EqualFunc(had.Subsets, now, sameSubset) || bytes.Equal(meaning(had.Subsets), meaning(now)))
}

func sameSubset(a, b corev1.EndpointSubset) bool {
	return slices.EqualFunc(a.Addresses, b.Addresses, sameAddress) &&
		slices.EqualFunc(a.NotReadyAddresses, b.NotReadyAddresses, sameAddress) &&
		slices.EqualFunc(a.Ports, b.Ports, samePort)
}

func sameAddress(a, b corev1.EndpointAddress) bool {
	return a.IP == b.IP && a.Hostname == b.Hostname && samePointers(a.NodeName, b.NodeName) && samePointers(a.TargetRef, b.TargetRef)
}

func samePort(a, b corev1.EndpointPort) bool {
	return a.Name == b.Name && a.Protocol == b.Protocol && a.Port == b.Port && samePointers(a.AppProtocol, b.AppProtocol)
}

// meaning is a text of subsets that is the same however they are cut: each
// address with each of its ports.
func meaning(subsets []corev1.EndpointSubset) []byte {
	var lines []string
	for _, s := range subsets {
		ports := s.Ports
		if len(ports) == 0 {
			ports = []corev1.EndpointPort{{}}
		}
		for _, p := range ports {
			for i, list := range [...][]corev1.EndpointAddress{s.Addresses, s.NotReadyAddresses} {
				for _, a := range list {
					lines = append(lines, fmt.Sprintf("%q %q %q %+v %d %q %q %d %q\n", a.IP, a.Hostname, value(a.NodeName),
						value(a.TargetRef), i, p.Name, p.Protocol, p.Port, value(p.AppProtocol)))
				}
			}
		}
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}
