package v1alpha1

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func good() *RemoteCluster {
	r := &RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: "canada"}, Spec: RemoteClusterSpec{
		Credentials:   Credentials{SecretRef: SecretRef{Name: "canada"}},
		ClusterLabels: map[string]LabelValue{"region": "canada-central", "Env_1.x": ""},
		PodCIDRs:      []string{"10.2.0.0/16", "fd00:2::/48"},
		NodeCIDRs:     []string{"0.0.0.0/0"},
		Import:        &Import{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}},
	}}
	r.Default()
	return r
}

func TestValidateTakesAGoodObject_1_2(t *testing.T) {
	if errs := good().Validate(); len(errs) > 0 {
		t.Error(errs.ToAggregate())
	}
}

func TestValidateNamesFieldAndWhatWasExpected_1_2(t *testing.T) {
	negative := metav1.Duration{Duration: -time.Second}
	tests := map[string]struct {
		spoil func(*RemoteCluster)
		want  []string
	}{
		"reserved name":      {func(r *RemoteCluster) { r.Name = "local" }, []string{"metadata.name", "reserved"}},
		"any":                {func(r *RemoteCluster) { r.Name = "any" }, []string{"metadata.name", "reserved"}},
		"dotted name":        {func(r *RemoteCluster) { r.Name = "a.b" }, []string{"metadata.name", "a DNS label"}},
		"no secret":          {func(r *RemoteCluster) { r.Spec.Credentials.SecretRef.Name = "" }, []string{"spec.credentials.secretRef.name", "name of a Secret"}},
		"secret key":         {func(r *RemoteCluster) { r.Spec.Credentials.SecretRef.Key = "a/b" }, []string{"spec.credentials.secretRef.key", "a key of that Secret"}},
		"label prefix":       {func(r *RemoteCluster) { r.Spec.ClusterLabels["a/b"] = "" }, []string{"spec.clusterLabels[a/b]", "no '/'"}},
		"label name":         {func(r *RemoteCluster) { r.Spec.ClusterLabels["-"] = "" }, []string{"spec.clusterLabels[-]", "label names"}},
		"label value":        {func(r *RemoteCluster) { r.Spec.ClusterLabels["a"] = "b c" }, []string{"spec.clusterLabels[a]", "value of a label"}},
		"no range":           {func(r *RemoteCluster) { r.Spec.PodCIDRs[1] = "x" }, []string{"spec.podCIDRs[1]", "such as 10.1.0.0/16"}},
		"host bits":          {func(r *RemoteCluster) { r.Spec.NodeCIDRs[0] = "10.1.2.3/16" }, []string{"spec.nodeCIDRs[0]", "expected 10.1.0.0/16"}},
		"host bits, IPv6":    {func(r *RemoteCluster) { r.Spec.PodCIDRs[1] = "fd00:2::1/48" }, []string{"spec.podCIDRs[1]", "expected fd00:2::/48"}},
		"mapped range":       {func(r *RemoteCluster) { r.Spec.PodCIDRs[0] = "::ffff:a00:0/104" }, []string{"spec.podCIDRs[0]", "not mapped into IPv6"}},
		"range with a zone":  {func(r *RemoteCluster) { r.Spec.PodCIDRs[0] = "fe80::%eth0/64" }, []string{"spec.podCIDRs[0]", "such as"}},
		"names and selector": {func(r *RemoteCluster) { r.Spec.Import.Namespaces = []string{"a"} }, []string{"spec.import", "not both"}},
		"namespace name":     {func(r *RemoteCluster) { r.Spec.Import = &Import{Namespaces: []string{"a", "B"}} }, []string{"spec.import.namespaces[1]", "name of a namespace"}},
		"operator": {func(r *RemoteCluster) {
			r.Spec.Import.NamespaceSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}
		}, []string{"spec.import.namespaceSelector.matchExpressions[0].operator", "not a valid"}},
		"identities":  {func(r *RemoteCluster) { r.Spec.Identities.StaleAfter = negative }, []string{"spec.identities.staleAfter", "0s or more"}},
		"spare":       {func(r *RemoteCluster) { r.Spec.Services.SpareAfter = &negative }, []string{"spec.services.spareAfter", "0s or more"}},
		"stale":       {func(r *RemoteCluster) { r.Spec.Services.StaleAfter = negative }, []string{"spec.services.staleAfter", "0s or more"}},
		"endpoints":   {func(r *RemoteCluster) { r.Spec.Limits.Endpoints = -1 }, []string{"spec.limits.endpoints", "from 1 to 5000000"}},
		"label bytes": {func(r *RemoteCluster) { r.Spec.Limits.LabelBytes = 1 }, []string{"spec.limits.labelBytes", "from 1024 to 1048576"}},
		"257 ranges":  {func(r *RemoteCluster) { r.Spec.PodCIDRs = make257("10.0.0.0/8") }, []string{"spec.podCIDRs", "256"}},
		"257 names":   {func(r *RemoteCluster) { r.Spec.Import = &Import{Namespaces: make257("a")} }, []string{"spec.import.namespaces", "256"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := good()
			tt.spoil(r)
			errs := r.Validate()
			if len(errs) != 1 {
				t.Fatalf("one finding expected, got %v", errs)
			}
			for _, want := range tt.want {
				if !strings.Contains(errs[0].Error(), want) {
					t.Errorf("%q is not in %q", want, errs[0])
				}
			}
		})
	}
}

func make257(text string) []string { return strings.Fields(strings.Repeat(text+" ", 257)) }

func TestDefaultLeavesWhatIsSet(t *testing.T) {
	r := good()
	r.Spec.Credentials.SecretRef.Key = "k"
	r.Spec.Services.SpareAfter = &metav1.Duration{}
	r.Spec.Limits = Limits{Endpoints: 7, LabelBytes: 2048}
	want := r.DeepCopy()
	r.Default()
	if got := r.Spec; *got.Services.SpareAfter != *want.Spec.Services.SpareAfter || got.Limits != want.Spec.Limits || got.Credentials != want.Spec.Credentials {
		t.Errorf("changed to %+v", got)
	}
}
