package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
)

// endpointsOf are EndpointSlices of a Service that has no selector, with the
// addresses of a pod anywhere.
func endpointsOf(service string, pod *labtest.Pod) string {
	var text strings.Builder
	var ports []string
	for _, m := range allModes() {
		ports = append(ports, fmt.Sprintf("{name: %s, port: %d, protocol: %s}", m, flowPort(m), strings.ToUpper(protocolOf(m))))
	}
	for _, family := range []int{4, 6} {
		fmt.Fprintf(&text, `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-v%[2]d, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv%[2]d
endpoints: [{addresses: ["%[3]s"], conditions: {ready: true}}]
ports: [%[4]s, {name: http, port: 8081}]
---`, service, family, pod.Address(family), strings.Join(ports, ", "))
	}
	return text.String()
}

// fromCanada is the scene with the client in canada, which reaches the servers in
// west through Services of its own cluster.
func (s *scene) fromCanada(servers ...string) *scene {
	s.t.Helper()
	n := canada().In(s.t, sceneNamespace)
	other := &scene{t: s.t, client: n.Pod("a"), servers: map[string]*labtest.Pod{}, vips: map[string]map[int]netip.Addr{}}
	for _, name := range servers {
		n.Apply(sceneService(name, "") + endpointsOf(name, s.servers[name]))
		other.servers[name], other.vips[name] = s.servers[name], other.service(canada(), name)
	}
	return other
}

func TestPolicyADrainedClusterEndsItsFlowsWithinASecondAndNoOthers_2_11_3_3(t *testing.T) {
	s := onScene(t).fromCanada("b2", "c2")
	address := func(family int) string { return s.client.Address(family).String() }
	s.police(west(), scenePolicy("closed", ingressFrom("is: closed", "{podSelector: {matchLabels: {overland.dev/cluster: canada}}}"))+
		scenePolicy("open", ingressFrom("is: open", fmt.Sprintf("{ipBlock: {cidr: %s/32}}, {ipBlock: {cidr: \"%s/128\"}}", address(4), address(6)))))
	s.reaches(api.ResultAllowed, "b2", "c2")
	t.Cleanup(func() { link(t, "connect") })
	tighten(s, s.viaServices(5, "b2"), s.viaServices(5, "c2"), true, func() {
		if out := west().Kubectl(t, "delete", "remotecluster", "canada", "--wait=false"); out.Code != 0 {
			t.Fatal(out)
		}
		s.reaches(api.ResultDenied, "b2")
	})
	link(t, "connect")
	s.reaches(api.ResultAllowed, "b2", "c2")
}
