//lint:file-ignore SA1019 Endpoints are written for those who still read them

package api

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// asAgent is a client with a token of the agents' own account.
func asAgent(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	return agentWith(t, &authenticationv1.TokenRequest{})
}

func agentWith(t *testing.T, request *authenticationv1.TokenRequest) *kubernetes.Clientset {
	t.Helper()
	token, err := kube(t).CoreV1().ServiceAccounts("overland-system").CreateToken(t.Context(), "overland-agent",
		request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(api.config)
	config.Dial, config.BearerToken, config.WarningHandler = api.config.Dial, token.Status.Token, rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

const (
	managedByLabel   = "endpointslice.kubernetes.io/managed-by"
	formatAnnotation = "federation.overland.dev/format"
)

func marked(more map[string]string) map[string]string {
	labels := map[string]string{managedByLabel: "federation.overland.dev"}
	maps.Copy(labels, more)
	return labels
}

// expectForbidden fails unless the error is the admission policy's.
func expectForbidden(t *testing.T, what string, err error) {
	t.Helper()
	if !apierrors.IsForbidden(err) {
		t.Errorf("%s: expected to be forbidden, got %v", what, err)
	}
}

func expectDone(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// admitted waits until the policies are in force: an API server compiles them some
// moments after they are made.
func admitted(t *testing.T, agent *kubernetes.Clientset, namespace string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for n := 0; ; n++ {
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("early-", n)}, AddressType: discoveryv1.AddressTypeIPv4}
		endpoints := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("early-", n)}}
		_, err := agent.DiscoveryV1().EndpointSlices(namespace).Create(t.Context(), slice, metav1.CreateOptions{})
		_, other := agent.CoreV1().Endpoints(namespace).Create(t.Context(), endpoints, metav1.CreateOptions{})
		if apierrors.IsForbidden(err) && apierrors.IsForbidden(other) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the policies are not in force: %v, %v", err, other)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// asAgentOn is a client with the token that a pod of the agents' account has on a
// node.
func asAgentOn(t *testing.T, node string) *kubernetes.Clientset {
	t.Helper()
	pods := kube(t).CoreV1().Pods("overland-system")
	pod, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "agent-"},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: "overland-agent", Containers: []corev1.Container{{Name: "agent", Image: "agent"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return agentWith(t, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}})
}

func namespaceFor(t *testing.T, name string) {
	t.Helper()
	_, err := kube(t).CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheAgentsAccountWritesOnlyEndpointSlicesOfFederatedServices(t *testing.T) {
	t.Parallel()
	const ns = "admission-slices"
	namespaceFor(t, ns)
	agent, ctx := asAgent(t), t.Context()
	admitted(t, agent, ns)
	foreign := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "foreign", Labels: map[string]string{managedByLabel: "endpointslice-controller.k8s.io"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	foreign, err := kube(t).DiscoveryV1().EndpointSlices(ns).Create(ctx, foreign, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slices := agent.DiscoveryV1().EndpointSlices(ns)
	own := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "own", Labels: marked(nil)}, AddressType: discoveryv1.AddressTypeIPv4}
	own, err = slices.Create(ctx, own, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	own.Labels = marked(map[string]string{"more": "yes"})
	own, err = slices.Update(ctx, own, metav1.UpdateOptions{})
	expectDone(t, "update an own slice", err)

	stripped := own.DeepCopy()
	stripped.Labels = nil
	_, err = slices.Update(ctx, stripped, metav1.UpdateOptions{})
	expectForbidden(t, "take the mark off an own slice", err)
	claimed := foreign.DeepCopy()
	claimed.Labels = marked(nil)
	_, err = slices.Update(ctx, claimed, metav1.UpdateOptions{})
	expectForbidden(t, "put the mark on a foreign slice", err)
	_, err = slices.Update(ctx, foreign.DeepCopy(), metav1.UpdateOptions{})
	expectForbidden(t, "update a foreign slice", err)
	expectForbidden(t, "delete a foreign slice", slices.Delete(ctx, "foreign", metav1.DeleteOptions{}))
	expectDone(t, "delete an own slice", slices.Delete(ctx, "own", metav1.DeleteOptions{}))
	_, err = kube(t).DiscoveryV1().EndpointSlices(ns).Update(ctx, foreign, metav1.UpdateOptions{})
	expectDone(t, "others are not concerned: update a foreign slice as administrator", err)
}

func TestTheAgentsAccountWritesOnlyEndpointsOfFederatedServices(t *testing.T) {
	t.Parallel()
	const ns = "admission-endpoints"
	namespaceFor(t, ns)
	agent, ctx := asAgent(t), t.Context()
	admitted(t, agent, ns)
	make := func(name string, annotations map[string]string) *corev1.Endpoints {
		t.Helper()
		e, err := kube(t).CoreV1().Endpoints(ns).Create(ctx, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	endpoints := agent.CoreV1().Endpoints(ns)
	take := func(e *corev1.Endpoints) error {
		e = e.DeepCopy()
		e.Annotations = map[string]string{formatAnnotation: "1"}
		_, err := endpoints.Update(ctx, e, metav1.UpdateOptions{})
		return err
	}
	foreign := make("foreign", map[string]string{"a": "b"})
	expectForbidden(t, "take over an object of somebody else's", take(foreign))
	expectForbidden(t, "delete an object of somebody else's", endpoints.Delete(ctx, "foreign", metav1.DeleteOptions{}))
	expectDone(t, "take over an object of another federation controller", take(make("seed", map[string]string{"federation.tigera.io/serviceSelector": "all()"})))
	expectDone(t, "take over one of its other spelling", take(make("seed-www", map[string]string{"federation.www.tigera.io/serviceSelector": "all()"})))
	expectDone(t, "take over a released object", take(make("released", map[string]string{"federation.overland.dev/adopt": "true"})))
	expectForbidden(t, "take over one that is not released", take(make("kept", map[string]string{"federation.overland.dev/adopt": "false"})))
	theirs := make("theirs", map[string]string{"federation.tigera.io/serviceSelector": "all()"})
	expectForbidden(t, "delete an object of another federation controller", endpoints.Delete(ctx, "theirs", metav1.DeleteOptions{}))
	theirs.Labels = map[string]string{"x": "y"}
	_, err := endpoints.Update(ctx, theirs, metav1.UpdateOptions{})
	expectForbidden(t, "change an object without taking it over", err)

	own, err := endpoints.Create(ctx, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "own", Annotations: map[string]string{formatAnnotation: "1"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	own.Annotations = nil
	_, err = endpoints.Update(ctx, own, metav1.UpdateOptions{})
	expectForbidden(t, "take the mark off an own object", err)
	expectDone(t, "delete an own object", endpoints.Delete(ctx, "own", metav1.DeleteOptions{}))
}

func TestTheAgentsAccountChangesNothingOfAServiceButItsOwnConditions(t *testing.T) {
	t.Parallel()
	const ns = "admission-services"
	namespaceFor(t, ns)
	agent, ctx := asAgent(t), t.Context()
	admitted(t, agent, ns)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"a": "b"}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	service, err := kube(t).CoreV1().Services(ns).Create(ctx, service, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	service.Status.Conditions = []metav1.Condition{{Type: "example.com/Checked", Status: "True", Reason: "Fine", LastTransitionTime: metav1.Now()}}
	if _, err = kube(t).CoreV1().Services(ns).UpdateStatus(ctx, service, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	patch := func(pt types.PatchType, text string) error {
		opts := metav1.PatchOptions{}
		if pt == types.ApplyPatchType {
			force := true
			opts = metav1.PatchOptions{FieldManager: "overland-federation", Force: &force}
		}
		_, err := agent.CoreV1().Services(ns).Patch(ctx, "s", pt, []byte(text), opts, "status")
		return err
	}
	apply := func(conditions string) error {
		return patch(types.ApplyPatchType, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"status":{"conditions":[`+conditions+`]}}`)
	}
	one := func(of, reason string) string {
		return `{"type":"` + of + `","status":"True","reason":"` + reason + `","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}`
	}
	expectDone(t, "apply a condition of ours", apply(one("overland.dev/Federated", "InSync")))
	expectDone(t, "change it", apply(one("overland.dev/Federated", "NoReadyEndpoints")))
	expectForbidden(t, "apply a condition of others", apply(one("example.com/Other", "Fine")))
	expectForbidden(t, "change a condition of others", apply(one("example.com/Checked", "Bad")))
	for what, text := range map[string]string{
		"set a load balancer's address": `{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`,
		"label it":                      `{"metadata":{"labels":{"a":"c"}}}`,
		"annotate it":                   `{"metadata":{"annotations":{"a":"c"}}}`,
		"finalize it":                   `{"metadata":{"finalizers":["example.com/x"]}}`,
		"remove a condition of others":  `{"status":{"conditions":[]}}`,
	} {
		expectForbidden(t, what, patch(types.MergePatchType, text))
	}
	expectDone(t, "remove the own condition", apply(""))
	now, err := kube(t).CoreV1().Services(ns).Get(context.WithoutCancel(ctx), "s", metav1.GetOptions{})
	if err != nil || len(now.Status.Conditions) != 1 || now.Status.Conditions[0].Reason != "Fine" || now.Labels["a"] != "b" {
		t.Errorf("the Service is %+v, %v", now, err)
	}
	_, err = agent.CoreV1().Services(ns).Update(ctx, now, metav1.UpdateOptions{})
	expectForbidden(t, "update the Service itself", err)
}

func TestTheAgentsAccountChangesNothingOfANodeButItsOwnTaint(t *testing.T) {
	t.Parallel()
	const ns = "admission-nodes"
	namespaceFor(t, ns)
	ctx, nodes := t.Context(), kube(t).CoreV1().Nodes()
	ours := corev1.Taint{Key: "overland.dev/agent-not-ready", Value: "true", Effect: corev1.TaintEffectNoSchedule}
	other := corev1.Taint{Key: "example.com/other", Effect: corev1.TaintEffectNoSchedule}
	for _, name := range []string{"admission-a", "admission-b", "admission-c"} {
		_, err := nodes.Create(ctx, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"a": "b"}},
			Spec:       corev1.NodeSpec{Taints: []corev1.Taint{other, ours}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	anywhere, onA := asAgent(t), asAgentOn(t, "admission-a")
	admitted(t, anywhere, ns)
	patch := func(as *kubernetes.Clientset, node string, pt types.PatchType, text string, sub ...string) error {
		_, err := as.CoreV1().Nodes().Patch(ctx, node, pt, []byte(text), metav1.PatchOptions{}, sub...)
		return err
	}
	const (
		removal   = `[{"op":"test","path":"/spec/taints/1/key","value":"overland.dev/agent-not-ready"},{"op":"remove","path":"/spec/taints/1"}]`
		otherGoes = `[{"op":"remove","path":"/spec/taints/0"}]`
		allGo     = `[{"op":"remove","path":"/spec/taints"}]`
	)
	// The policy is not in force as long as this is done.
	deadline := time.Now().Add(time.Minute)
	for !apierrors.IsForbidden(patch(anywhere, "admission-c", types.MergePatchType, `{"metadata":{"labels":{"early":"yes"}}}`)) {
		if time.Now().After(deadline) {
			t.Fatal("the policy is not in force")
		}
		time.Sleep(100 * time.Millisecond)
	}
	for what, text := range map[string]string{
		"label it":            `{"metadata":{"labels":{"a":"c"}}}`,
		"annotate it":         `{"metadata":{"annotations":{"a":"c"}}}`,
		"finalize it":         `{"metadata":{"finalizers":["example.com/x"]}}`,
		"close it":            `{"spec":{"unschedulable":true}}`,
		"give it a provider":  `{"spec":{"providerID":"x"}}`,
		"give it a range":     `{"spec":{"podCIDR":"10.9.0.0/24","podCIDRs":["10.9.0.0/24"]}}`,
		"taint it":            `{"spec":{"taints":[{"key":"example.com/other","effect":"NoSchedule"},{"key":"x","effect":"NoExecute"}]}}`,
		"change another":      `{"spec":{"taints":[{"key":"example.com/other","effect":"NoExecute"}]}}`,
		"change its effect":   `{"spec":{"taints":[{"key":"example.com/other","effect":"NoSchedule"},{"key":"overland.dev/agent-not-ready","value":"true","effect":"NoExecute"}]}}`,
		"remove and label it": `{"metadata":{"labels":{"a":"c"}},"spec":{"taints":[{"key":"example.com/other","effect":"NoSchedule"}]}}`,
	} {
		expectForbidden(t, what, patch(onA, "admission-a", types.MergePatchType, text))
	}
	expectForbidden(t, "remove another taint", patch(onA, "admission-a", types.JSONPatchType, otherGoes))
	expectForbidden(t, "remove all taints", patch(onA, "admission-a", types.JSONPatchType, allGo))
	expectForbidden(t, "remove the taint of another node", patch(onA, "admission-b", types.JSONPatchType, removal))
	expectForbidden(t, "change its status", patch(onA, "admission-a", types.MergePatchType, `{"status":{"phase":"x"}}`, "status"))
	expectDone(t, "remove the taint of the own node", patch(onA, "admission-a", types.JSONPatchType, removal))
	expectForbidden(t, "put it back", patch(onA, "admission-a", types.MergePatchType,
		`{"spec":{"taints":[{"key":"example.com/other","effect":"NoSchedule"},{"key":"overland.dev/agent-not-ready","effect":"NoSchedule"}]}}`))
	expectDone(t, "with a token of no node, remove the taint of any", patch(anywhere, "admission-b", types.JSONPatchType, removal))
	for _, name := range []string{"admission-a", "admission-b"} {
		now, err := nodes.Get(context.WithoutCancel(ctx), name, metav1.GetOptions{})
		if err != nil || len(now.Spec.Taints) != 1 || now.Spec.Taints[0].Key != other.Key || now.Labels["a"] != "b" {
			t.Errorf("node %s is %+v, %v", name, now, err)
		}
	}
	now, err := nodes.Get(ctx, "admission-c", metav1.GetOptions{})
	if err == nil {
		now.Labels["a"] = "c"
		_, err = nodes.Update(ctx, now, metav1.UpdateOptions{})
	}
	expectDone(t, "others are not concerned: label a node as administrator", err)
}
