package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

// create asks for a RemoteCluster as a user writes it, so that fields of any
// type can be tried. It gives what would be stored; nothing is.
func create(t *testing.T, name, spec string) (*v1alpha1.RemoteCluster, error) {
	t.Helper()
	text := "apiVersion: overland.dev/v1alpha1\nkind: RemoteCluster\nmetadata: {name: '" + name + "'}\nspec: " + spec
	body, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := &v1alpha1.RemoteCluster{}
	err = remoteClusters(t).GetClient().Post().Resource(v1alpha1.Resource).
		Param("dryRun", "All").Param("fieldValidation", "Strict").Body(body).Do(t.Context()).Into(r)
	return r, err
}

const secret = "credentials: {secretRef: {name: canada}}"

func TestDefaultsOfARemoteClusterAreFilledIn_1_2(t *testing.T) {
	t.Parallel()
	got, err := create(t, "canada", "{"+secret+"}")
	if err != nil {
		t.Fatal(err)
	}
	want := v1alpha1.RemoteClusterSpec{
		Credentials: v1alpha1.Credentials{SecretRef: v1alpha1.SecretRef{Name: "canada", Key: "kubeconfig"}},
		Services:    v1alpha1.Services{SpareAfter: &metav1.Duration{Duration: time.Minute}},
		Limits:      v1alpha1.Limits{Endpoints: 250_000, LabelBytes: 16384},
	}
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	inGo := &v1alpha1.RemoteCluster{Spec: v1alpha1.RemoteClusterSpec{
		Credentials: v1alpha1.Credentials{SecretRef: v1alpha1.SecretRef{Name: "canada"}},
	}}
	inGo.Default()
	if diff := cmp.Diff(got.Spec, inGo.Spec); diff != "" {
		t.Errorf("the defaults of Go are others: -schema +go:\n%s", diff)
	}
}

func TestEveryFieldOfARemoteClusterIsTaken_1_2(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	tests := map[string]string{
		"empty selector":      "{SECRET, import: {namespaceSelector: {}}}",
		"names, no selector":  "{SECRET, import: {namespaces: [redis, shop]}}",
		"empty names":         "{SECRET, import: {namespaces: [], namespaceSelector: {matchLabels: {a: b}}}}",
		"import of all":       "{SECRET, import: {}}",
		"expressions":         "{SECRET, import: {namespaceSelector: {matchExpressions: [{key: a, operator: In, values: [b]}, {key: c, operator: Exists}, {key: d, operator: DoesNotExist}, {key: e, operator: NotIn, values: [f, g]}]}}}",
		"ranges":              "{SECRET, podCIDRs: [10.2.0.0/16, 'fd00:2::/48', '::/0', 0.0.0.0/0, 10.9.9.9/32], nodeCIDRs: ['2001:DB8::/32']}",
		"longest range":       "{SECRET, podCIDRs: ['1111:2222:3333:4444:5555:6666:7777:8888/128']}",
		"labels":              "{SECRET, clusterLabels: {region: canada-central, Env_1.x: '', " + long + ": " + long + "}}",
		"durations":           "{SECRET, identities: {staleAfter: 24h}, services: {spareAfter: 1m30s, staleAfter: 1.5h}}",
		"no waiting":          "{SECRET, identities: {staleAfter: 0s}, services: {spareAfter: '0'}}",
		"limits":              "{SECRET, limits: {endpoints: 1, labelBytes: 1024}}",
		"suspended, external": "{SECRET, suspend: true, services: {allowExternalAddresses: true}}",
	}
	for name, spec := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := create(t, "canada", strings.ReplaceAll(spec, "SECRET", secret))
			if err != nil {
				t.Fatal(err)
			}
			if errs := got.Validate(); len(errs) > 0 {
				t.Errorf("Validate finds something: %v", errs.ToAggregate())
			}
		})
	}
}

// A spec that is refused, and what the message has to name.
type refused struct{ spec, field, expected string }

func badSpecs() map[string]refused {
	return map[string]refused{
		"no credentials":     {"{}", "spec.credentials", "Required"},
		"no secretRef":       {"{credentials: {}}", "spec.credentials.secretRef", "Required"},
		"no secret name":     {"{credentials: {secretRef: {key: k}}}", "spec.credentials.secretRef.name", "Required"},
		"empty secret name":  {"{credentials: {secretRef: {name: ''}}}", "spec.credentials.secretRef.name", "at least 1"},
		"bad secret name":    {"{credentials: {secretRef: {name: A_b}}}", "spec.credentials.secretRef.name", "should match"},
		"bad secret key":     {"{credentials: {secretRef: {name: a, key: 'a/b'}}}", "spec.credentials.secretRef.key", "should match"},
		"unknown field":      {"{SECRET, podCidrs: []}", "podCidrs", "unknown field"},
		"not a range":        {"{SECRET, podCIDRs: [everything]}", "spec.podCIDRs[0]", "cidr"},
		"an address":         {"{SECRET, nodeCIDRs: [10.0.0.0/8, 10.1.2.3]}", "spec.nodeCIDRs[1]", "cidr"},
		"range too long":     {"{SECRET, podCIDRs: [10.0.0.0/33]}", "spec.podCIDRs[0]", "cidr"},
		"mapped range":       {"{SECRET, podCIDRs: ['::ffff:10.0.0.0/104']}", "spec.podCIDRs[0]", "should match"},
		"length with zero":   {"{SECRET, podCIDRs: [10.0.0.0/08]}", "spec.podCIDRs[0]", "should match"},
		"range twice":        {"{SECRET, podCIDRs: [10.0.0.0/8, 10.0.0.0/8]}", "spec.podCIDRs[1]", "Duplicate"},
		"257 ranges":         {"{SECRET, podCIDRs: [" + many(257, "10.%d.%d.0/24") + "]}", "spec.podCIDRs", "at most 256"},
		"label with slash":   {"{SECRET, clusterLabels: {example.com/region: x}}", "spec.clusterLabels", "no '/'"},
		"label name":         {"{SECRET, clusterLabels: {-region: x}}", "spec.clusterLabels", "keys are label names"},
		"long label name":    {"{SECRET, clusterLabels: {" + strings.Repeat("a", 64) + ": x}}", "spec.clusterLabels", "at most 63"},
		"empty label name":   {"{SECRET, clusterLabels: {'': x}}", "spec.clusterLabels", "keys are label names"},
		"label value":        {"{SECRET, clusterLabels: {region: 'a b'}}", "spec.clusterLabels.region", "should match"},
		"long label value":   {"{SECRET, clusterLabels: {region: " + strings.Repeat("a", 64) + "}}", "spec.clusterLabels.region", "63"},
		"33 labels":          {"{SECRET, clusterLabels: {" + many(33, "k%d-%d: v") + "}}", "spec.clusterLabels", "at most 32"},
		"names and selector": {"{SECRET, import: {namespaces: [redis], namespaceSelector: {}}}", "spec.import", "not both"},
		"namespace name":     {"{SECRET, import: {namespaces: [Redis]}}", "spec.import.namespaces[0]", "should match"},
		"namespace twice":    {"{SECRET, import: {namespaces: [redis, redis]}}", "spec.import.namespaces[1]", "Duplicate"},
		"operator":           {"{SECRET, import: {namespaceSelector: {matchExpressions: [{key: a, operator: Is, values: [b]}]}}}", "spec.import", "operator"},
		"In without values":  {"{SECRET, import: {namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}}", "spec.import", "values"},
		"Exists with values": {"{SECRET, import: {namespaceSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}}", "spec.import", "values"},
		"negative duration":  {"{SECRET, identities: {staleAfter: '-1s'}}", "spec.identities.staleAfter", "should match"},
		"days":               {"{SECRET, identities: {staleAfter: 1d}}", "spec.identities.staleAfter", "should match"},
		"number of seconds":  {"{SECRET, services: {spareAfter: 60}}", "spec.services.spareAfter", "must be of type string"},
		"no unit":            {"{SECRET, services: {staleAfter: '60'}}", "spec.services.staleAfter", "should match"},
		"huge duration":      {"{SECRET, services: {staleAfter: 9999999h}}", "spec.services.staleAfter", "should match"},
		"no endpoints":       {"{SECRET, limits: {endpoints: 0}}", "spec.limits.endpoints", "greater than or equal to 1"},
		"endless endpoints":  {"{SECRET, limits: {endpoints: 5000001}}", "spec.limits.endpoints", "less than or equal to 5000000"},
		"label bytes":        {"{SECRET, limits: {labelBytes: 10}}", "spec.limits.labelBytes", "greater than or equal to 1024"},
		"suspend is text":    {"{SECRET, suspend: 'yes'}", "spec.suspend", "must be of type boolean"},
	}
}

// many is a list of n texts that differ in two numbers.
func many(n int, format string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i/256, i%256)
	}
	return strings.Join(all, ", ")
}

func TestEveryBadFieldIsRefusedAndNamed_1_2(t *testing.T) {
	t.Parallel()
	for name, tt := range badSpecs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := create(t, "canada", strings.ReplaceAll(tt.spec, "SECRET", secret))
			if err == nil {
				t.Fatalf("it was taken: %+v", got.Spec)
			}
			for _, want := range []string{tt.field, tt.expected} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in the message: %v", want, err)
				}
			}
		})
	}
}

func TestANameThatNoClusterCanHaveIsRefused_1_1(t *testing.T) {
	t.Parallel()
	for name, expected := range map[string]string{
		"local":                 "'local' and 'any' are reserved",
		"any":                   "'local' and 'any' are reserved",
		"canada.central":        "expected a DNS label",
		strings.Repeat("a", 64): "expected a DNS label",
	} {
		_, err := create(t, name, "{"+secret+"}")
		if err == nil || !strings.Contains(err.Error(), "metadata.name") || !strings.Contains(err.Error(), expected) {
			t.Errorf("%s: expected a refusal with metadata.name and %q, got %v", name, expected, err)
		}
	}
	for _, name := range []string{"a", "1", "anything", "local-1", strings.Repeat("a", 63)} {
		if _, err := create(t, name, "{"+secret+"}"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStatusIsASubresource(t *testing.T) {
	t.Parallel()
	c := remoteClusters(t)
	r := &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: "status"}}
	r.Spec.Credentials.SecretRef.Name = "status"
	r.Status.State = "InSync"
	r, err := c.Create(t.Context(), r, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Status.State != "" || r.Generation != 1 {
		t.Errorf("a creation has set the status: %+v", r.Status)
	}
	r.Status = fullStatus()
	r.Spec.Suspend = true
	if r, err = c.UpdateStatus(t.Context(), r, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if r.Spec.Suspend || r.Generation != 1 {
		t.Error("an update of the status has changed the spec")
	}
	if diff := cmp.Diff(fullStatus(), r.Status); diff != "" {
		t.Errorf("the status is not what was written: -want +got:\n%s", diff)
	}
	r.Status, r.Spec.Suspend = v1alpha1.RemoteClusterStatus{}, true
	if r, err = c.Update(t.Context(), r, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if r.Status.State != "InSync" || !r.Spec.Suspend || r.Generation != 2 {
		t.Errorf("an update has changed the status: %+v", r.Status)
	}
	r.Status.Conditions = append(r.Status.Conditions, r.Status.Conditions[0])
	if _, err := c.UpdateStatus(t.Context(), r, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a condition twice: %v", err)
	}
}

func fullStatus() v1alpha1.RemoteClusterStatus {
	then := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	condition := func(kind, reason string, is metav1.ConditionStatus) metav1.Condition {
		return metav1.Condition{Type: kind, Status: is, Reason: reason, LastTransitionTime: then, ObservedGeneration: 1}
	}
	return v1alpha1.RemoteClusterStatus{
		State: "InSync",
		Conditions: []metav1.Condition{
			condition(v1alpha1.ConditionReady, "InSync", metav1.ConditionTrue),
			condition(v1alpha1.ConditionSynced, "Listed", metav1.ConditionTrue),
		},
		ClusterUID: "2f1a7f9c-5a0e-4b0a-9b8e-000000000000", Endpoints: 12345, Namespaces: 12, Services: 3,
		RejectedEndpoints: map[string]int32{"OutsideRanges": 7}, LastContactTime: &then,
		KubernetesVersion: "v1.37.1", ObservedBy: "node-1", ObservedGeneration: 1,
	}
}
