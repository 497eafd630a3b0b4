package services

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

// TestServicesNothingOfAHostileRemoteIsTaken_4_5: whoever writes EndpointSlices in
// canada names addresses that are not canada's to give.
func TestServicesNothingOfAHostileRemoteIsTaken_4_5(t *testing.T) {
	s := onScene(t, "hostile", "")
	publishes(s.west, t, "fed", s.here, s.there)
	other := canada().NewNamespace(t, "elsewhere")
	other.Apply(server("private", "web"))
	private := other.Pod("private")
	dns, err := west().Client.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]string{
		"a pod of the local cluster":           s.client.Address(4).String(),
		"a node of the local cluster":          nodeAddress(t),
		"a Service of the local cluster":       dns.Spec.ClusterIP,
		"a pod of another of its namespaces":   private.Address(4).String(),
		"an address outside its ranges":        "192.0.2.7",
		"a free address in the local ranges":   "10.1.1.250",
		"a free address in its own ranges":     "10.2.1.250",
		"the wire server":                      "168.63.129.16",
		"an address of IPv6 outside its range": "2001:db8::7",
	}
	s.canada.Apply("apiVersion: v1\nkind: Service\nmetadata: {name: evil, labels: {federation: \"yes\"}}\n" +
		"spec: {ipFamilyPolicy: RequireDualStack, ports: [{name: web, port: 80}]}\n")
	n := 0
	for what, address := range claims {
		n++
		family := "IPv4"
		if strings.Contains(address, ":") {
			family = "IPv6"
		}
		s.canada.Apply(fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: evil-%d, labels: {kubernetes.io/service-name: evil}, annotations: {what: %q}}
addressType: %s
endpoints: [{addresses: [%q], conditions: {ready: true}, targetRef: {kind: Pod, namespace: %s, name: there}}]
ports: [{name: web, port: 6379}]
`, n, what, family, address, s.west.Name))
	}
	// What shows that the rest works is seen after the claims.
	s.canada.Apply(server("more", "web"))
	publishes(s.west, t, "fed", s.here, s.there, s.canada.Pod("more"))
	stays(t, s.west, "fed", addressesOf(s.here, s.there, s.canada.Pod("more")), 2e9)
	// The leader tells at once, and the others some seconds later.
	for _, node := range []string{"west/node-1", "west/node-2"} {
		labtest.Until(t, node+" to show what is refused", func(context.Context) (string, bool) {
			out := lab.Overland(t, node, "services", s.west.Name+"/fed", "-o", "wide")
			for what, address := range claims {
				if out.Code != 0 || !strings.Contains(out.Stdout, address) {
					return address + ", " + what + ", is not shown: " + out.String(), false
				}
			}
			return "", true
		})
	}
}

func nodeAddress(t *testing.T) string {
	t.Helper()
	nodes, err := west().Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range nodes.Items[0].Status.Addresses {
		if a.Type == "InternalIP" && !strings.Contains(a.Address, ":") {
			return a.Address
		}
	}
	t.Fatal("no node of west has an address")
	return ""
}
