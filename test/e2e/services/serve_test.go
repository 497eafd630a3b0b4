package services

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

// scene is a federated Service "fed" in west, backed by a pod in each cluster.
type scene struct {
	pair
	client, here, there *labtest.Pod
	host                string // the Service's name in DNS
}

// onScene makes it, with more annotations on the federated Service.
func onScene(t *testing.T, prefix, more string) *scene {
	t.Helper()
	p := newPair(t, prefix)
	p.west.Apply(server("here", "web") + backing("web", "web") + server("client", "client"))
	p.canada.Apply(server("there", "web") + backing("web", "web"))
	s := &scene{pair: p, client: p.west.Pod("client"), here: p.west.Pod("here"), there: p.canada.Pod("there"), host: "fed." + p.west.Name}
	p.west.Apply(federated("fed", more))
	return s
}

// unready makes a server not ready, or ready again.
func unready(t *testing.T, p *labtest.Pod, n *labtest.Namespace, is bool) {
	t.Helper()
	// The probe asks port 8081; what drops its packets is in the pod.
	action := "-D"
	if is {
		action = "-I"
	}
	for _, tool := range []string{"iptables-nft", "ip6tables-nft"} {
		if out := p.NetworkExec(t, tool, action, "INPUT", "-p", "tcp", "--dport", "8081", "-j", "REJECT"); out.Code != 0 {
			t.Fatal(out)
		}
	}
	labtest.Until(t, fmt.Sprintf("%s to be ready: %v", p, !is), func(ctx context.Context) (string, bool) {
		now, err := n.Client.CoreV1().Pods(n.Name).Get(ctx, p.Name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		for _, c := range now.Status.Conditions {
			if c.Type == "Ready" {
				return string(c.Status), (c.Status == "True") == !is
			}
		}
		return "no condition", false
	})
}

func TestServicesOneNameIsBackedByTheReadyPodsOfEveryCluster_4_5(t *testing.T) {
	s := onScene(t, "every", "")
	publishes(s.west, t, "fed", s.here, s.there)
	condition(t, s.west, "fed", metav1.ConditionTrue, "InSync")
	reaches(t, s.client, s.host, "here", "there")

	// The local one is not ready any more: nobody is sent there.
	unready(t, s.here, s.west, true)
	reaches(t, s.client, s.host, "there")
	unready(t, s.here, s.west, false)
	reaches(t, s.client, s.host, "here", "there")

	// The local one goes: no request fails once its endpoint is gone.
	if err := s.west.Client.CoreV1().Pods(s.west.Name).Delete(t.Context(), "here", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	publishes(s.west, t, "fed", s.there)
	reaches(t, s.client, s.host, "there")
	for range 10 {
		if got, err := answers(t.Context(), s.client, s.host); err != nil || len(got) != 1 || got["there"] == 0 {
			t.Fatalf("after the endpoint was gone, these answered: %v, %v", got, err)
		}
	}
	// It is back, with another address: both serve.
	s.west.Apply(server("here", "web"))
	publishes(s.west, t, "fed", s.west.Pod("here"), s.there)
	reaches(t, s.client, s.host, "here", "there")
}

func TestServicesSlicesSayWhatTheyShould_4_6(t *testing.T) {
	s := onScene(t, "form", "")
	publishes(s.west, t, "fed", s.here, s.there)
	service, err := s.west.Client.CoreV1().Services(s.west.Name).Get(t.Context(), "fed", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := ours(t.Context(), s.west, "fed")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 4 {
		t.Errorf("one slice a cluster and family makes 4, got %d", len(all))
	}
	for _, slice := range all {
		cluster := slice.Labels["federation.overland.dev/source-cluster"]
		if len(slice.OwnerReferences) != 1 || slice.OwnerReferences[0].UID != service.UID || slice.OwnerReferences[0].Controller == nil ||
			!*slice.OwnerReferences[0].Controller || slice.OwnerReferences[0].BlockOwnerDeletion != nil && *slice.OwnerReferences[0].BlockOwnerDeletion {
			t.Errorf("%s: the owners are %+v", slice.Name, slice.OwnerReferences)
		}
		if slice.Annotations["federation.overland.dev/format"] == "" {
			t.Errorf("%s: the annotations are %v", slice.Name, slice.Annotations)
		}
		for _, e := range slice.Endpoints {
			if local := cluster == "west"; local != (e.NodeName != nil) || local != (e.TargetRef != nil) {
				t.Errorf("%s: an endpoint of %s has node %v and target %+v", slice.Name, cluster, e.NodeName, e.TargetRef)
			}
		}
		if len(slice.Ports) != 1 || *slice.Ports[0].Name != "web" || *slice.Ports[0].Port != 8080 {
			t.Errorf("%s: the ports are %+v", slice.Name, slice.Ports)
		}
	}
	// They go with the Service; the annotation alone does it too.
	if out := s.west.Kubectl(t, "annotate", "service", "fed", "-n", s.west.Name, "federation.overland.dev/serviceSelector-"); out.Code != 0 {
		t.Fatal(out)
	}
	s.untilNothing("fed")
	labtest.Until(t, "the condition to be gone", func(ctx context.Context) (string, bool) {
		now, err := s.west.Client.CoreV1().Services(s.west.Name).Get(ctx, "fed", metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		return fmt.Sprint(now.Status.Conditions), len(now.Status.Conditions) == 0
	})
	s.west.Apply(federated("other", ""))
	publishes(s.west, t, "other", s.here, s.there)
	if err := s.west.Client.CoreV1().Services(s.west.Name).Delete(t.Context(), "other", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.untilNothing("other")
}

// untilNothing waits until nothing of ours is left of a Service.
func (p pair) untilNothing(name string) {
	p.t.Helper()
	labtest.Until(p.t, "nothing to be left of "+name, func(ctx context.Context) (string, bool) {
		all, err := ours(ctx, p.west, name)
		if err != nil {
			return err.Error(), false
		}
		e, err := endpointsOf(ctx, p.west, name)
		return fmt.Sprintf("%d slices, Endpoints %v, %v", len(all), e, err), len(all) == 0 && e == nil && err == nil
	})
}

func TestServicesLocalOnesArePreferredUntilTheyAreGone_4_7(t *testing.T) {
	s := onScene(t, "prefer", `federation.overland.dev/preference: local, federation.overland.dev/settle: 3s`)
	publishes(s.west, t, "fed", s.here)
	reaches(t, s.client, s.host, "here")
	unready(t, s.here, s.west, true)
	reaches(t, s.client, s.host, "there")
	unready(t, s.here, s.west, false)
	publishes(s.west, t, "fed", s.here)
	reaches(t, s.client, s.host, "here")
}

func TestServicesAHeadlessOneGivesAllAddressesInDNS_4_4(t *testing.T) {
	s := onScene(t, "headless", "")
	s.west.Apply(`
apiVersion: v1
kind: Service
metadata:
  name: all
  annotations: {federation.overland.dev/serviceSelector: "federation == 'yes'"}
spec:
  clusterIP: None
  ipFamilyPolicy: RequireDualStack
`)
	publishes(s.west, t, "all", s.here, s.there)
	s.west.Apply("apiVersion: v1\nkind: Pod\nmetadata: {name: resolver}\nspec: {terminationGracePeriodSeconds: 1, " +
		"containers: [{name: busybox, image: busybox, command: [sleep, '3600']}]}\n")
	resolver := s.west.Pod("resolver")
	labtest.Until(t, "DNS to give all addresses", func(context.Context) (string, bool) {
		out := resolver.Exec(t, "nslookup", "all."+s.west.Name+".svc.cluster.local")
		for _, p := range []*labtest.Pod{s.here, s.there} {
			for _, a := range p.Addresses {
				if !strings.Contains(out.Stdout, a.String()) {
					return out.String(), false
				}
			}
		}
		return "", true
	})
	all, err := ours(t.Context(), s.west, "all")
	if err != nil {
		t.Fatal(err)
	}
	for _, slice := range all {
		if _, ok := slice.Labels["service.kubernetes.io/headless"]; !ok || len(slice.Ports) > 0 {
			t.Errorf("%s: labels %v, ports %v", slice.Name, slice.Labels, slice.Ports)
		}
	}
}

func TestServicesOneChangedEndpointIsOneSliceWritten_4_6(t *testing.T) {
	s := onScene(t, "minimal", "")
	publishes(s.west, t, "fed", s.here, s.there)
	versions := func() map[string]string {
		all, err := ours(t.Context(), s.west, "fed")
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, slice := range all {
			found[slice.Labels["federation.overland.dev/source-cluster"]+" "+string(slice.AddressType)] = slice.ResourceVersion
		}
		return found
	}
	before := versions()
	unready(t, s.there, s.canada, true)
	labtest.Until(t, "the change", func(ctx context.Context) (string, bool) {
		got, err := published(ctx, s.west, "fed")
		return fmt.Sprint(got), err == nil && slices.Contains(got, "canada "+s.there.Address(4).String()+" not ready") &&
			slices.Contains(got, "canada "+s.there.Address(6).String()+" not ready")
	})
	after := versions()
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		if k := "west " + string(family); before[k] != after[k] || before[k] == "" {
			t.Errorf("%s was written: %s, now %s", k, before[k], after[k])
		}
		if k := "canada " + string(family); before[k] == after[k] {
			t.Errorf("%s was not written: %s", k, before[k])
		}
	}
	unready(t, s.there, s.canada, false)
	publishes(s.west, t, "fed", s.here, s.there)
}
