package plan

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/overland-net/overland/pkg/model"
)

func TestSlicesAreGroupedByClusterFamilyAndPorts_4_6(t *testing.T) {
	w := twoClusters(t)
	w.set(sliceOf(canada, "v6", "fd00:1::1"), podAt(canada, redis, "fd00:1::1"))
	other := sliceOf(canada, "other", "10.1.0.7")
	other.Ports[0].Port = 7
	w.set(other, podAt(canada, redis, "10.1.0.7"))
	w.settle(fed())
	var got []string
	for _, s := range w.api.have(fed()).Slices {
		got = append(got, fmt.Sprint(s.Labels[LabelSourceCluster], s.AddressType, *s.Ports[0].Port))
	}
	slices.Sort(got)
	wantEqual(t, "groups", got, []string{"canadaIPv411069", "canadaIPv47", "canadaIPv611069", "westIPv411069"})
}

func TestSliceMetadata_4_6(t *testing.T) {
	w := newWorld(t)
	w.serve(canada, "10.1.0.1")
	w.set(federatedService(func(s *model.Service) {
		s.Labels = model.NewLabels(map[string]string{"team": "a", "endpointslice.kubernetes.io/managed-by": "me", "kubernetes.io/service-name": "x"})
	}))
	w.settle(fed())
	_, s := w.endpointAt("10.1.0.1")
	wantEqual(t, "labels", s.Labels, map[string]string{
		"team": "a", "kubernetes.io/service-name": "testdb-federated",
		"endpointslice.kubernetes.io/managed-by": "federation.overland.dev", "federation.overland.dev/source-cluster": "canada",
	})
	wantEqual(t, "format", s.Annotations["federation.overland.dev/format"], "1")
	o := s.OwnerReferences[0]
	wantEqual(t, "owner", fmt.Sprint(len(s.OwnerReferences), o.APIVersion, o.Kind, o.Name, o.UID, *o.Controller, *o.BlockOwnerDeletion),
		fmt.Sprint(1, "v1", "Service", "testdb-federated", "11111111-1111-1111-1111-111111111111", true, false))
	w.set(federatedService(func(s *model.Service) { s.Labels = model.NewLabels(map[string]string{"team": "b"}) }))
	w.settle(fed())
	_, s = w.endpointAt("10.1.0.1")
	wantEqual(t, "a label changed", s.Labels["team"], "b")
}

func TestOnlyLocalEndpointsNameNodeAndPod_4_6(t *testing.T) {
	w := twoClusters(t)
	w.settle(fed())
	local, _ := w.endpointAt("10.0.0.40")
	wantEqual(t, "local node", value(local.NodeName), "node-1")
	wantEqual(t, "local target", *local.TargetRef, corev1.ObjectReference{Kind: "Pod", Namespace: redis, Name: "p10-0-0-40", UID: "u-10.0.0.40"})
	remote, _ := w.endpointAt("10.1.0.131")
	if remote.NodeName != nil || remote.TargetRef != nil {
		t.Errorf("a remote endpoint has node %v and target %v", remote.NodeName, remote.TargetRef)
	}
}

func TestOneEndpointChangedIsOneSliceWritten_4_6(t *testing.T) {
	w := newWorld(t)
	w.set(federatedService())
	w.off = true
	list := addresses(1, 5000)
	for i := range 50 {
		w.set(sliceOf(canada, fmt.Sprintf("testdb-%02d", i), list[100*i:100*i+100]...))
	}
	w.serve(canada, list[0])
	w.gone(model.EndpointSliceKey(canada, redis, "testdb-1"))
	for _, a := range list {
		w.set(podAt(canada, redis, a))
	}
	w.settle(fed())
	wantEqual(t, "slices", len(w.api.slices), 50)
	steps := []struct {
		name string
		edit func(s *model.EndpointSlice)
		want string
	}{
		{"one changes", func(s *model.EndpointSlice) { s.Endpoints[3].Ready = model.False }, "update"},
		{"one goes", func(s *model.EndpointSlice) { s.Endpoints = slices.Delete(s.Endpoints, 5, 6) }, "update"},
		{"one comes, into the hole", func(s *model.EndpointSlice) {
			s.Endpoints = append(s.Endpoints, sliceOf(canada, "", list[2005]).Endpoints...)
		}, "update"},
		{"one too many comes", func(s *model.EndpointSlice) {
			s.Endpoints = append(s.Endpoints, sliceOf(canada, "", "10.1.200.1").Endpoints...)
		}, "create"},
		{"it goes", func(s *model.EndpointSlice) { s.Endpoints = s.Endpoints[:100] }, "delete"},
	}
	w.set(podAt(canada, redis, "10.1.200.1"))
	for _, step := range steps {
		s := *w.slices[model.EndpointSliceKey(canada, redis, "testdb-20")]
		s.Endpoints = slices.Clone(s.Endpoints)
		step.edit(&s)
		w.set(&s)
		r := w.settle(fed())
		if len(r.Changes) != 1 || !strings.HasPrefix(describe(r.Changes), step.want) {
			t.Errorf("%s: %s", step.name, describe(r.Changes))
		}
	}
	for _, s := range w.api.slices {
		if len(s.Endpoints) > 100 {
			t.Errorf("%d endpoints in %s", len(s.Endpoints), s.Name)
		}
	}
}

// TestNewEndpointGoesWhereIsWrittenAnyway_4_6 has two slices with room, of which
// the one with less has a change.
func TestNewEndpointGoesWhereIsWrittenAnyway_4_6(t *testing.T) {
	w := newWorld(t)
	w.set(federatedService())
	w.off = true
	list := addresses(1, 200)
	w.serve(canada, list...)
	w.settle(fed())
	less := slices.Concat(list[:95], list[100:180])
	w.set(sliceOf(canada, "testdb-1", less...))
	w.settle(fed())
	s := sliceOf(canada, "testdb-1", append(less, "10.1.200.1", "10.1.200.2")...)
	s.Endpoints[0].Ready = model.False
	w.set(s, podAt(canada, redis, "10.1.200.1"), podAt(canada, redis, "10.1.200.2"))
	if r := w.settle(fed()); len(r.Changes) != 1 || r.Changes[0].Op != Update || len(r.Changes[0].Slice.Endpoints) != 97 {
		t.Errorf("writes: %s", describe(r.Changes))
	}
}

func TestNamesAreValidAndDeterministic_4_6(t *testing.T) {
	long := strings.Repeat("s", 63)
	w := newWorld(t)
	w.clusters[1].Name = strings.Repeat("c", 63)
	w.index.Apply(model.Set(&model.Cluster{Name: w.clusters[1].Name, InContact: true}))
	w.serve(w.clusters[1].Name, "10.1.0.1")
	w.set(federatedService(func(s *model.Service) { s.Key.Name = long }))
	k := model.ServiceKey(west, redis, long)
	name := w.plan(k).Changes[0].Slice.Name
	if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
		t.Errorf("%s: %v", name, errs)
	}
	wantEqual(t, "again", w.plan(k).Changes[0].Slice.Name, name)
	squatter := sliceOf(west, name)
	squatter.Service = "other"
	w.set(squatter)
	if again := w.plan(k).Changes[0].Slice.Name; again == name {
		t.Error("the name of a foreign object is used")
	}
	w.settle(k)
}

func TestForeignSlicesAreNamedAndNotTouched_4_6(t *testing.T) {
	w := twoClusters(t)
	foreign := sliceOf(west, "testdb-federated-abc", "10.9.9.9")
	foreign.Service = fed().Name
	w.set(foreign)
	r := w.settle(fed())
	wantEqual(t, "reason", r.Condition.Reason, ReasonForeignEndpoints)
	wantEqual(t, "status", r.Condition.Status(), "False")
	if want := "kubectl delete endpointslice --namespace redis testdb-federated-abc"; !strings.Contains(r.Condition.Message, want) {
		t.Errorf("%q does not say %q", r.Condition.Message, want)
	}
	wantEqual(t, "ours are published", w.published(), []string{"canada 10.1.0.131", "west 10.0.0.40"})
	w.gone(foreign.Key)
	wantEqual(t, "reason", w.settle(fed()).Condition.Reason, ReasonInSync)
}

func TestForeignEndpointsAreLeftUnlessAdopted_4_6(t *testing.T) {
	w := twoClusters(t)
	theirs := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Namespace: redis, Name: fed().Name, ResourceVersion: "7", Labels: map[string]string{"endpoints.kubernetes.io/managed-by": "x"},
		Annotations: map[string]string{"note": "kept"},
	}}
	w.api.endpoints["redis/testdb-federated"] = theirs
	mirror := sliceOf(west, "mirror", "10.9.9.9")
	mirror.Service, mirror.ManagedBy = fed().Name, mirroring
	w.set(mirror)
	r := w.settle(fed())
	wantEqual(t, "foreign", r.Report.Foreign, []Foreign{{"Endpoints", "testdb-federated", "kubectl delete endpoints --namespace redis testdb-federated"}})
	wantEqual(t, "theirs", w.api.endpoints["redis/testdb-federated"] == theirs, true)
	w.set(federatedService(annotate(model.AnnotationAdopt, "true")))
	w.gone(mirror.Key)
	wantEqual(t, "reason", w.settle(fed()).Condition.Reason, ReasonInSync)
	e := w.api.endpoints["redis/testdb-federated"]
	wantEqual(t, "taken over", fmt.Sprint(countAddresses(e), e.Labels, " ", e.Annotations["note"]), "2 map[endpointslice.kubernetes.io/skip-mirror:true] kept")
	w.set(federatedService())
	wantEqual(t, "and ours without the annotation", w.settle(fed()).Condition.Reason, ReasonInSync)
}

func TestUnreadEndpointsAreLeftAlone_4_6(t *testing.T) {
	w := twoClusters(t)
	for _, c := range Plan(w.world(), fed(), Have{}).Changes {
		if c.Endpoints != nil {
			t.Error("Endpoints are written that have not been read")
		}
	}
}

func TestEndpointsAreTheCoreControllersWhileThereIsASelector_4_6(t *testing.T) {
	w := twoClusters(t)
	w.settle(fed())
	w.set(federatedService(func(s *model.Service) { s.Selecting = true }))
	w.settle(fed())
	e := w.api.endpoints["redis/testdb-federated"].DeepCopy()
	e.Labels, e.Subsets = map[string]string{"endpoints.kubernetes.io/managed-by": "endpoint-controller"}, nil
	w.api.endpoints["redis/testdb-federated"] = e
	wantEqual(t, "writes", describe(w.plan(fed()).Changes), "")
	w.set(federatedService())
	r := w.settle(fed())
	wantEqual(t, "writes", describe(r.Changes), "update Endpoints testdb-federated")
	e = w.api.endpoints["redis/testdb-federated"]
	wantEqual(t, "taken back", fmt.Sprint(countAddresses(e), e.Labels), "2 map[endpointslice.kubernetes.io/skip-mirror:true]")
}

func TestLastGoodExpressionIsEvaluatedLive_4_8(t *testing.T) {
	w := twoClusters(t)
	w.settle(fed())
	w.set(federatedService(func(s *model.Service) {
		s.Annotations = map[string]string{model.AnnotationServiceSelector: `federation = "yes"`}
	}))
	// Another leader: it knows the last good expression from the objects only.
	w.facts = w.permuted(newGenerator(t, 1).r)
	r := w.settle(fed())
	wantEqual(t, "reason", r.Condition.Reason, ReasonInvalidExpression)
	wantEqual(t, "status", r.Condition.Status(), "False")
	if !strings.Contains(r.Condition.Message, "11") {
		t.Errorf("no position in %q", r.Condition.Message)
	}
	wantEqual(t, "published", w.published(), []string{"canada 10.1.0.131", "west 10.0.0.40"})
	affected := w.set(sliceOf(canada, "testdb-1", "10.1.0.131", "10.1.0.132"), podAt(canada, redis, "10.1.0.132"))
	wantEqual(t, "affected", slices.Contains(affected, fed()), true)
	w.settle(fed())
	wantEqual(t, "live", w.published(), []string{"canada 10.1.0.131", "canada 10.1.0.132", "west 10.0.0.40"})
	w.gone(backing(canada).Key, backing(west).Key)
	w.settle(fed())
	wantEqual(t, "all gone", w.published(), "[]")
	w.set(backing(canada))
	w.settle(fed())
	wantEqual(t, "and back", w.published(), []string{"canada 10.1.0.131", "canada 10.1.0.132"})
}

func TestInvalidFromTheStartWritesNothing_4_8(t *testing.T) {
	w := twoClusters(t, annotate(model.AnnotationServiceSelectorTigeraWWW, "("))
	wantEqual(t, "reason", w.settle(fed()).Condition.Reason, ReasonInvalidExpression)
	wantEqual(t, "writes", w.api.writes, 0)
}

func TestConditionPrecedence_4_8(t *testing.T) {
	w := twoClusters(t, func(s *model.Service) { s.External, s.Selecting = true, true }, annotate(model.AnnotationServiceSelector, "("))
	foreign := sliceOf(west, "foreign", "10.9.9.9")
	foreign.Service = fed().Name
	w.set(foreign)
	for _, step := range []struct {
		want string
		edit func(*model.Service)
	}{
		{ReasonExternalName, func(s *model.Service) {
			s.External, s.Selecting = true, true
			annotate(model.AnnotationServiceSelector, "(")(s)
		}},
		{ReasonSelectorSet, func(s *model.Service) { s.Selecting = true; annotate(model.AnnotationServiceSelector, "(")(s) }},
		{ReasonInvalidExpression, annotate(model.AnnotationServiceSelector, "(", model.AnnotationServiceSelectorTigera, "x == 'y'")},
		{ReasonAnnotationsDisagree, annotate(model.AnnotationServiceSelector, "x == 'y'")},
		{ReasonForeignEndpoints, annotate()},
	} {
		w.set(federatedService(step.edit))
		wantEqual(t, "reason", w.settle(fed()).Condition.Reason, step.want)
	}
}

func TestConditionStands_4_8(t *testing.T) {
	c := &Condition{True: true, Reason: ReasonInSync, Message: "m"}
	has := func(all ...model.ServiceCondition) *model.Service { return &model.Service{Conditions: all} }
	ours := model.ServiceCondition{Type: ConditionFederated, Status: "True", Reason: ReasonInSync, Message: "m"}
	other := ours
	other.Status = "False"
	wantEqual(t, "same", c.Stands(has(ours)), true)
	wantEqual(t, "another status", c.Stands(has(other)), false)
	wantEqual(t, "none", c.Stands(has()), false)
	var none *Condition
	wantEqual(t, "none and none", none.Stands(has()), true)
	wantEqual(t, "one too many", none.Stands(has(ours)), false)
}

func TestLostAnnotationRemovesObjects_4_10(t *testing.T) {
	w := twoClusters(t)
	w.settle(fed())
	w.set(federatedService(func(s *model.Service) { s.Annotations = nil }))
	r := w.settle(fed())
	wantEqual(t, "left", fmt.Sprint(len(w.api.slices), len(w.api.endpoints)), "0 0")
	wantEqual(t, "condition", r.Condition == nil, true)
}

func TestLostAnnotationLeavesTheCoreControllersEndpoints_4_10(t *testing.T) {
	w := twoClusters(t)
	w.settle(fed())
	w.set(federatedService(func(s *model.Service) { s.Annotations, s.Selecting = nil, true }))
	w.settle(fed())
	wantEqual(t, "left", fmt.Sprint(len(w.api.slices), len(w.api.endpoints)), "0 1")
}

func TestUnknownServiceIsLeftToItsOwner_4_10(t *testing.T) {
	w := twoClusters(t)
	w.settle(fed())
	w.gone(fed())
	r := w.settle(fed())
	wantEqual(t, "writes", len(r.Changes), 0)
	wantEqual(t, "condition", r.Condition == nil, true)
}

func TestUnlinkedClusterIsRemoved_4_10(t *testing.T) {
	w := twoClusters(t)
	w.settle(fed())
	wantEqual(t, "affected", w.facts.Drain(canada), []model.Key{fed()})
	w.clusters = slices.Delete(w.clusters, 1, 2)
	w.settle(fed())
	wantEqual(t, "published", w.published(), []string{"west 10.0.0.40"})
}

func TestNewerFormatsAreLeftAlone_5_1(t *testing.T) {
	w := twoClusters(t)
	w.settle(fed())
	for key, s := range w.api.slices {
		if s.Labels[LabelSourceCluster] == canada {
			s = s.DeepCopy()
			s.Annotations[AnnotationFormat], s.Labels["new"] = "2", "form"
			w.api.slices[key] = s
		}
	}
	e := w.api.endpoints["redis/testdb-federated"].DeepCopy()
	e.Annotations[AnnotationFormat], e.Subsets = "2", nil
	w.api.endpoints["redis/testdb-federated"] = e
	wantEqual(t, "writes", describe(w.plan(fed()).Changes), "")
	w.serve(canada, "10.1.0.131", "10.1.0.132")
	r := w.settle(fed())
	wantEqual(t, "what is new is published", len(r.Changes), 1)
	wantEqual(t, "published", w.published(), []string{"canada 10.1.0.131", "canada 10.1.0.132", "west 10.0.0.40"})
	w.set(federatedService(func(s *model.Service) { s.Annotations = nil }))
	w.settle(fed())
	wantEqual(t, "left", fmt.Sprint(len(w.api.slices), len(w.api.endpoints)), "1 1")
}

func TestTamperingIsRepaired_4_6(t *testing.T) {
	for name, edit := range map[string]func(*discoveryv1.EndpointSlice){
		"label":      func(s *discoveryv1.EndpointSlice) { s.Labels["x"] = "y" },
		"owner":      func(s *discoveryv1.EndpointSlice) { s.OwnerReferences[0].UID = "other" },
		"annotation": func(s *discoveryv1.EndpointSlice) { delete(s.Annotations, AnnotationApplied) },
		"ready":      func(s *discoveryv1.EndpointSlice) { *s.Endpoints[0].Conditions.Ready = false },
		"node":       func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].NodeName = new("x") },
		"hints": func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z"}}}
		},
		"target":  func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].TargetRef = &corev1.ObjectReference{Name: "x"} },
		"address": func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = []string{"10.3.3.3"} },
		"twice":   func(s *discoveryv1.EndpointSlice) { s.Endpoints = append(s.Endpoints, s.Endpoints[0]) },
		"ports":   func(s *discoveryv1.EndpointSlice) { *s.Ports[0].Port = 1 },
		"cluster": func(s *discoveryv1.EndpointSlice) { s.Labels[LabelSourceCluster] = "nowhere" },
	} {
		w := newWorld(t)
		w.serve(canada, "10.1.0.131")
		w.set(federatedService())
		w.settle(fed())
		_, s := w.endpointAt("10.1.0.131")
		s = s.DeepCopy()
		edit(s)
		w.api.slices["redis/"+s.Name] = s
		if len(w.plan(fed()).Changes) == 0 {
			t.Errorf("%s: not seen", name)
		}
		w.settle(fed())
		wantEqual(t, name, w.published(), []string{"canada 10.1.0.131"})
	}
}
