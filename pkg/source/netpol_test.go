package source

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/overland-net/overland/pkg/model"
)

func ptr[T any](v T) *T { return &v }

func TestPolicyTypesAreDefaulted_2_1(t *testing.T) {
	egress := []networkingv1.NetworkPolicyEgressRule{{}}
	for _, tt := range []struct {
		name             string
		types            []networkingv1.PolicyType
		egress           []networkingv1.NetworkPolicyEgressRule
		ingress, egress2 bool
	}{
		{"neither", nil, nil, true, false},
		{"egress rules", nil, egress, true, true},
		{"Ingress", []networkingv1.PolicyType{"Ingress"}, egress, true, false},
		{"Egress", []networkingv1.PolicyType{"Egress"}, nil, false, true},
		{"both", []networkingv1.PolicyType{"Egress", "Ingress"}, nil, true, true},
		{"unknown", []networkingv1.PolicyType{"Sideways"}, nil, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := convertPolicy("west", &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{PolicyTypes: tt.types, Egress: tt.egress}})
			if p.Ingress != tt.ingress || p.Egress != tt.egress2 {
				t.Errorf("ingress %v, egress %v", p.Ingress, p.Egress)
			}
		})
	}
}

func TestPolicyConversion_2_1(t *testing.T) {
	p := convertPolicy("west", &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "redis", UID: "u", Generation: 3, Annotations: map[string]string{model.AnnotationPeerScope: "mesh"}},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"b": "2", "a": "1"}, MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: "c", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"x"}}, {Key: "d", Operator: metav1.LabelSelectorOpDoesNotExist},
			}},
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{},
				{
					From: []networkingv1.NetworkPolicyPeer{
						{PodSelector: &metav1.LabelSelector{}},
						{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}, PodSelector: &metav1.LabelSelector{}},
						{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.1/8", Except: []string{"10.1.2.3/16"}}},
						{IPBlock: &networkingv1.IPBlock{CIDR: "::ffff:10.0.0.0/104"}},
						{IPBlock: &networkingv1.IPBlock{CIDR: "010.000.0.1/24"}},
					},
					Ports: []networkingv1.NetworkPolicyPort{
						{},
						{Port: ptr(intstr.FromInt32(80))},
						{Port: ptr(intstr.FromString("http")), Protocol: ptr(corev1.ProtocolUDP)},
						{Port: ptr(intstr.FromInt32(1000)), EndPort: ptr(int32(2000)), Protocol: ptr(corev1.ProtocolSCTP)},
					},
				},
			},
		},
	})
	prefix := netip.MustParsePrefix
	want := &model.Policy{
		Key: model.PolicyKey("west", "demo", "redis"), UID: model.ParseUID("u"), Generation: 3, PeerScope: "mesh", Ingress: true,
		Pods: model.LabelSelector{
			{Key: "a", Operator: model.In, Values: []string{"1"}},
			{Key: "b", Operator: model.In, Values: []string{"2"}},
			{Key: "c", Operator: model.NotIn, Values: []string{"x"}},
			{Key: "d", Operator: model.DoesNotExist},
		},
		IngressRules: []model.PolicyRule{
			{AnyPeer: true, AnyPort: true},
			{
				Peers: []model.PolicyPeer{
					{Pods: &model.LabelSelector{}},
					{Pods: &model.LabelSelector{}, Namespaces: &model.LabelSelector{{Key: "team", Operator: model.In, Values: []string{"a"}}}},
					{Block: prefix("10.0.0.0/8"), Except: []netip.Prefix{prefix("10.1.0.0/16")}},
					{Block: prefix("10.0.0.0/8")},
					{Block: prefix("10.0.0.0/24")},
				},
				Ports: []model.PolicyPort{
					{Protocol: model.TCP},
					{Protocol: model.TCP, First: 80, Last: 80},
					{Protocol: model.UDP, Name: "http"},
					{Protocol: model.SCTP, First: 1000, Last: 2000},
				},
			},
		},
	}
	if diff := cmp.Diff(want, p, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

// TestMalformedPartsNeverOpen_2_12: what cannot be read is left out and named.
func TestMalformedPartsNeverOpen_2_12(t *testing.T) {
	block := func(cidr string, except ...string) networkingv1.NetworkPolicyPeer {
		return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr, Except: except}}
	}
	both := block("10.0.0.0/8")
	both.PodSelector = &metav1.LabelSelector{}
	for field, rule := range map[string]networkingv1.NetworkPolicyIngressRule{
		"spec.ingress[0].from[0].ipBlock.cidr":      {From: []networkingv1.NetworkPolicyPeer{block("10.0.0.0/33")}},
		"spec.ingress[0].from[0].ipBlock.except[0]": {From: []networkingv1.NetworkPolicyPeer{block("10.0.0.0/8", "nonsense")}},
		"spec.ingress[0].from[0]: is empty":         {From: []networkingv1.NetworkPolicyPeer{{}}},
		"spec.ingress[0].from[0]: has an ipBlock":   {From: []networkingv1.NetworkPolicyPeer{both}},
		"spec.ingress[0].ports[0].protocol":         {Ports: []networkingv1.NetworkPolicyPort{{Protocol: ptr(corev1.Protocol("ICMP"))}}},
		"spec.ingress[0].ports[0].endPort":          {Ports: []networkingv1.NetworkPolicyPort{{EndPort: ptr(int32(9))}}},
		"spec.ingress[0].ports[0].endPort: with":    {Ports: []networkingv1.NetworkPolicyPort{{Port: ptr(intstr.FromString("a")), EndPort: ptr(int32(9))}}},
		"spec.ingress[0].ports[0].port: is empty":   {Ports: []networkingv1.NetworkPolicyPort{{Port: ptr(intstr.FromString(""))}}},
		"spec.ingress[0].ports[0]: ports 9 to 8":    {Ports: []networkingv1.NetworkPolicyPort{{Port: ptr(intstr.FromInt32(9)), EndPort: ptr(int32(8))}}},
		"spec.ingress[0].ports[0]: ports 0 to 0":    {Ports: []networkingv1.NetworkPolicyPort{{Port: ptr(intstr.FromInt32(0))}}},
	} {
		t.Run(field, func(t *testing.T) {
			p := convertPolicy("west", &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{rule}}})
			if len(p.Malformed) != 1 || !strings.HasPrefix(p.Malformed[0], field) {
				t.Errorf("malformed is %q, expected it to begin with %s", p.Malformed, field)
			}
			got := p.IngressRules[0]
			if len(got.Peers) != 0 || len(got.Ports) != 0 || got.AnyPeer != (len(rule.From) == 0) || got.AnyPort != (len(rule.Ports) == 0) {
				t.Errorf("the rule is more open than written: %+v", got)
			}
		})
	}
	for _, e := range []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}, {Key: "a", Operator: "In"}, {Key: "a", Operator: "Exists", Values: []string{"b"}}} {
		p := convertPolicy("west", &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{e}}}})
		if len(p.Malformed) != 1 || len(p.Pods) != 1 || p.Pods[0].Operator != model.Impossible {
			t.Errorf("%+v becomes %+v, %q", e, p.Pods, p.Malformed)
		}
	}
}
