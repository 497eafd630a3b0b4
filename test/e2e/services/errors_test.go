package services

import (
	"context"
	"fmt"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

func annotate(t *testing.T, n *labtest.Namespace, service, annotation string) {
	t.Helper()
	if out := n.Kubectl(t, "annotate", "--overwrite", "service", service, "-n", n.Name, annotation); out.Code != 0 {
		t.Fatal(out)
	}
}

func TestServicesATypoInTheExpressionEmptiesNothing_4_8(t *testing.T) {
	s := onScene(t, "typo", "")
	publishes(s.west, t, "fed", s.here, s.there)
	annotate(t, s.west, "fed", `federation.overland.dev/serviceSelector=federation = 'yes'`)
	c := condition(t, s.west, "fed", metav1.ConditionFalse, "InvalidExpression")
	if !strings.Contains(c.Message, "expected") {
		t.Errorf("the message does not say what was expected: %s", c.Message)
	}
	// The last good expression goes on being evaluated, live.
	s.canada.Apply(server("more", "web"))
	publishes(s.west, t, "fed", s.here, s.there, s.canada.Pod("more"))
	// Also by a leader that has never seen it.
	node, pod := leader(t, west())
	kill(t, node)
	labtest.Until(t, "another leader", func(ctx context.Context) (string, bool) {
		now, seen := holder(ctx, t)
		return seen, now != pod && now != ""
	})
	// The kubelet stays away till the end: one that begins takes its pods for not
	// ready until it has probed them.
	if err := s.canada.Client.CoreV1().Pods(s.canada.Name).Delete(t.Context(), "more", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	publishes(s.west, t, "fed", s.here, s.there)
	annotate(t, s.west, "fed", `federation.tigera.io/serviceSelector=federation == 'no'`)
	annotate(t, s.west, "fed", `federation.overland.dev/serviceSelector=federation == "yes"`)
	condition(t, s.west, "fed", metav1.ConditionFalse, "AnnotationsDisagree")
	stays(t, s.west, "fed", addressesOf(s.here, s.there), 2e9)
	annotate(t, s.west, "fed", `federation.tigera.io/serviceSelector=( federation == 'yes' )`)
	condition(t, s.west, "fed", metav1.ConditionTrue, "InSync")
}

func TestServicesASelectorAddedByHandIsSaidAndTakenBack_4_6_4_8(t *testing.T) {
	s := onScene(t, "selector", "")
	publishes(s.west, t, "fed", s.here, s.there)
	patch := func(selector string) {
		t.Helper()
		if out := s.west.Kubectl(t, "patch", "service", "fed", "-n", s.west.Name, "--type=merge", "-p", `{"spec":{"selector":`+selector+`}}`); out.Code != 0 {
			t.Fatal(out)
		}
	}
	patch(`{"app":"nobody"}`)
	condition(t, s.west, "fed", metav1.ConditionFalse, "SelectorSet")
	// The cluster's own controller fills the Service now, and leaves what it has
	// written behind when the selector goes.
	const theirs = "kubernetes.io/service-name=fed,endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io"
	labtest.Until(t, "the slices of the cluster's own controller", func(ctx context.Context) (string, bool) {
		list, err := s.west.Client.DiscoveryV1().EndpointSlices(s.west.Name).List(ctx, metav1.ListOptions{LabelSelector: theirs})
		return fmt.Sprint(err), err == nil && len(list.Items) > 0
	})
	patch(`null`)
	condition(t, s.west, "fed", metav1.ConditionFalse, "ForeignEndpoints")
	if out := s.west.Kubectl(t, "delete", "endpointslices", "-n", s.west.Name, "-l", theirs); out.Code != 0 {
		t.Fatal(out)
	}
	condition(t, s.west, "fed", metav1.ConditionTrue, "InSync")
	publishes(s.west, t, "fed", s.here, s.there)
	reaches(t, s.client, s.host, "here", "there")
	labtest.Until(t, "the Endpoints object to be ours again", func(ctx context.Context) (string, bool) {
		e, err := endpointsOf(ctx, s.west, "fed")
		if err != nil || e == nil || len(e.Subsets) == 0 {
			return fmt.Sprint(e, err), false
		}
		return fmt.Sprint(e.Subsets), len(e.Subsets[0].Addresses) == 2
	})
}

func TestServicesWhatIsSomebodyElsesIsNeverTouched_4_6(t *testing.T) {
	s := onScene(t, "foreign", "")
	publishes(s.west, t, "fed", s.here, s.there)
	name, ready, port := "web", true, int32(8080)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "by-hand", Labels: map[string]string{"kubernetes.io/service-name": "fed"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{s.client.Address(4).String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	made, err := s.west.Client.DiscoveryV1().EndpointSlices(s.west.Name).Create(t.Context(), slice, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := condition(t, s.west, "fed", metav1.ConditionFalse, "ForeignEndpoints")
	if !strings.Contains(c.Message, "kubectl") || !strings.Contains(c.Message, "by-hand") {
		t.Errorf("the message does not tell what to do: %s", c.Message)
	}
	stays(t, s.west, "fed", addressesOf(s.here, s.there), 2e9)
	now, err := s.west.Client.DiscoveryV1().EndpointSlices(s.west.Name).Get(t.Context(), "by-hand", metav1.GetOptions{})
	if err != nil || now.ResourceVersion != made.ResourceVersion {
		t.Errorf("the foreign slice was touched: %v, %v", now, err)
	}
	if err := s.west.Client.DiscoveryV1().EndpointSlices(s.west.Name).Delete(t.Context(), "by-hand", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	condition(t, s.west, "fed", metav1.ConditionTrue, "InSync")
}

// TestServicesMissingRightsAreSaidAndEmptyNothing_4_8 takes the right to write
// EndpointSlices away from the agents for a while.
func TestServicesMissingRightsAreSaidAndEmptyNothing_4_8(t *testing.T) {
	s := onScene(t, "rights", "")
	publishes(s.west, t, "fed", s.here, s.there)
	roles := west().Client.RbacV1().ClusterRoles()
	role, err := roles.Get(t.Context(), "overland-agent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := role.Rules
	set := func(rules []rbacv1.PolicyRule) {
		ctx := context.WithoutCancel(t.Context())
		now, err := roles.Get(ctx, "overland-agent", metav1.GetOptions{})
		if err == nil {
			now.Rules = rules
			_, err = roles.Update(ctx, now, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { set(all) })
	var fewer []rbacv1.PolicyRule
	for _, rule := range all {
		if strings.Contains(strings.Join(rule.Resources, " "), "endpointslices") {
			rule.Verbs = []string{"get", "list", "watch"}
		}
		fewer = append(fewer, rule)
	}
	set(fewer)
	s.canada.Apply(server("more", "web"))
	more := s.canada.Pod("more")
	c := condition(t, s.west, "fed", metav1.ConditionFalse, "WriteForbidden")
	if !strings.Contains(c.Message, "ndpointslices") {
		t.Errorf("the message does not name the right: %s", c.Message)
	}
	stays(t, s.west, "fed", addressesOf(s.here, s.there), 2e9)
	set(all)
	publishes(s.west, t, "fed", s.here, s.there, more)
	condition(t, s.west, "fed", metav1.ConditionTrue, "InSync")
}
