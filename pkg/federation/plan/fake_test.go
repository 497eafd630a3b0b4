package plan

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/overland-net/overland/pkg/model"
)

// fakeAPI is an API server with the objects of federated Services. It refuses what
// a real one refuses: names that are taken or gone, stale versions, an address
// type that changes, contents that are not valid.
type fakeAPI struct {
	slices    map[string]*discoveryv1.EndpointSlice // by namespace/name
	endpoints map[string]*corev1.Endpoints
	version   int
	// fail is the number of the write that fails, from 1; 0: none.
	fail, writes int
}

func newFakeAPI() *fakeAPI {
	return &fakeAPI{slices: map[string]*discoveryv1.EndpointSlice{}, endpoints: map[string]*corev1.Endpoints{}}
}

// have is what there is for a Service.
func (a *fakeAPI) have(k model.Key) Have {
	h := Have{Endpoints: a.endpoints[k.Namespace+"/"+k.Name].DeepCopy(), EndpointsKnown: true}
	for _, s := range a.slices {
		if name, ours := ServiceOf(s); ours && name == k.Name && s.Namespace == k.Namespace {
			h.Slices = append(h.Slices, s.DeepCopy())
		}
	}
	return h
}

// apply makes changes as a shell has to, and tells whether all were made.
func (a *fakeAPI) apply(t testing.TB, changes []Change) bool {
	t.Helper()
	all := true
	for _, c := range changes {
		if c.Dependent && !all {
			continue
		}
		a.writes++
		if a.writes == a.fail {
			all = false
			continue
		}
		if err := a.write(c); err != nil {
			t.Fatalf("write %d of %v: %v", c.Op, nameOf(c), err)
		}
	}
	return all
}

func nameOf(c Change) string {
	if c.Slice != nil {
		return "EndpointSlice " + c.Slice.Name
	}
	return "Endpoints " + c.Endpoints.Name
}

func (a *fakeAPI) write(c Change) error {
	if (c.Slice == nil) == (c.Endpoints == nil) {
		return fmt.Errorf("not one object")
	}
	a.version++
	if c.Slice != nil {
		return a.writeSlice(c.Op, c.Slice.DeepCopy())
	}
	return a.writeEndpoints(c.Op, c.Endpoints.DeepCopy())
}

func (a *fakeAPI) writeSlice(op Op, s *discoveryv1.EndpointSlice) error {
	key := s.Namespace + "/" + s.Name
	had := a.slices[key]
	if err := versions(op, had != nil, value(had).ResourceVersion, s.ResourceVersion); err != nil {
		return err
	}
	if op == Delete {
		delete(a.slices, key)
		return nil
	}
	if err := validSlice(s); err != nil {
		return err
	}
	if had != nil && had.AddressType != s.AddressType {
		return fmt.Errorf("address type changed")
	}
	s.ResourceVersion = fmt.Sprint(a.version)
	a.slices[key] = s
	return nil
}

func (a *fakeAPI) writeEndpoints(op Op, e *corev1.Endpoints) error {
	key := e.Namespace + "/" + e.Name
	had := a.endpoints[key]
	if err := versions(op, had != nil, value(had).ResourceVersion, e.ResourceVersion); err != nil {
		return err
	}
	if op == Delete {
		delete(a.endpoints, key)
		return nil
	}
	e.ResourceVersion = fmt.Sprint(a.version)
	a.endpoints[key] = e
	return nil
}

func versions(op Op, exists bool, has, says string) error {
	switch {
	case op == Create && (exists || says != ""):
		return fmt.Errorf("already exists")
	case op != Create && !exists:
		return fmt.Errorf("not found")
	case op != Create && has != says:
		return fmt.Errorf("conflict: has version %s, not %s", has, says)
	}
	return nil
}

// clone is the same server again.
func (a *fakeAPI) clone() *fakeAPI {
	return &fakeAPI{slices: maps.Clone(a.slices), endpoints: maps.Clone(a.endpoints), version: a.version}
}

// validSlice is what API servers demand, by their own library.
func validSlice(s *discoveryv1.EndpointSlice) error {
	var errs []string
	errs = append(errs, validation.IsDNS1123Subdomain(s.Name)...)
	for k, v := range s.Labels {
		errs = append(errs, validation.IsQualifiedName(k)...)
		errs = append(errs, validation.IsValidLabelValue(v)...)
	}
	if len(s.Endpoints) > 100 || len(s.Ports) > 100 {
		errs = append(errs, "too large")
	}
	names := map[string]bool{}
	for _, p := range s.Ports {
		if *p.Name != "" {
			errs = append(errs, validation.IsDNS1123Label(*p.Name)...)
		}
		errs = append(errs, validation.IsValidPortNum(int(*p.Port))...)
		if p.AppProtocol != nil {
			errs = append(errs, validation.IsQualifiedName(*p.AppProtocol)...)
		}
		if names[*p.Name] {
			errs = append(errs, "port name twice")
		}
		names[*p.Name] = true
	}
	for _, e := range s.Endpoints {
		errs = append(errs, validEndpoint(s.AddressType, e)...)
	}
	if len(errs) > 0 {
		return fmt.Errorf("invalid: %v", errs)
	}
	return nil
}

func validEndpoint(family discoveryv1.AddressType, e discoveryv1.Endpoint) (errs []string) {
	if len(e.Addresses) != 1 {
		return []string{"not one address"}
	}
	for _, err := range validation.IsValidIP(field.NewPath("ip"), e.Addresses[0]) {
		errs = append(errs, err.Error())
	}
	if strings.Contains(e.Addresses[0], ":") != (family == discoveryv1.AddressTypeIPv6) {
		errs = append(errs, "family of "+e.Addresses[0])
	}
	if e.Hostname != nil {
		errs = append(errs, validation.IsDNS1123Label(*e.Hostname)...)
	}
	if e.NodeName != nil {
		errs = append(errs, validation.IsDNS1123Subdomain(*e.NodeName)...)
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			errs = append(errs, validation.IsValidLabelValue(z.Name)...)
		}
	}
	return errs
}
