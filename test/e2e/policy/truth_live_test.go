package policy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

// label sets labels of an object of the stage and gives the old ones back when the
// test ends: KEY=VALUE, or KEY- to take one away.
func (s *stage) label(kind, namespace, name, set, back string) {
	s.t.Helper()
	do := func(what string) {
		s.t.Helper()
		if out := west().Kubectl(s.t, "-n", namespace, "label", "--overwrite", kind, name, what); out.Code != 0 {
			s.t.Fatalf("kubectl label: %s", out)
		}
	}
	s.t.Cleanup(func() { do(back) })
	do(set)
}

func TestPolicyFollowsLabels_24_25(t *testing.T) {
	s := onStage(t)
	s.apply(west(), server("{from: [{namespaceSelector: {matchLabels: {team: b}}}, {podSelector: {matchLabels: {app: other}}}]}"))
	s.holds(`
		pass b/client a/server tcp/80
		pass a/other a/server tcp/80
		deny a/client a/server tcp/80`)
	t.Run("of a namespace", func(t *testing.T) {
		s := s.with(t)
		s.label("namespace", "", "truth-b", "team=c", "team=b")
		s.holds(`
			deny b/client a/server tcp/80 udp/80
			deny b/bare a/server tcp/80
			pass a/other a/server tcp/80`)
	})
	s.holds("pass b/client a/server tcp/80")
	t.Run("of a peer", func(t *testing.T) {
		s := s.with(t)
		s.label("pod", "truth-a", "other", "app=none", "app=other")
		s.holds(`
			deny a/other a/server tcp/80 udp/80 sctp/80
			pass b/client a/server tcp/80`)
	})
	t.Run("of a pod that is isolated by them", func(t *testing.T) {
		s := s.with(t)
		s.label("pod", "truth-a", "server", "app=free", "app=server")
		s.holds(`
			pass a/client a/server tcp/80
			pass outside a/server tcp/80`)
	})
	s.holds(`
		pass a/other a/server tcp/80
		deny a/client a/server tcp/80`)
}

func TestPolicyThatIsDeletedOpensAtOnce_38(t *testing.T) {
	s := onStage(t)
	s.apply(west(), npol("first", "{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress, Egress]}")+
		npol("second", "{podSelector: {matchLabels: {app: server}}, ingress: [{ports: [{port: 81}]}]}"))
	s.holds(`
		pass a/client a/server tcp/81
		deny a/client a/server tcp/80
		deny a/server a/client tcp/80`)
	west().In(t, "truth-a").Delete(npol("first", "{podSelector: {}}"))
	s.holds(`
		pass a/client a/server tcp/81
		deny a/client a/server tcp/80
		pass a/server a/client tcp/80`)
	west().In(t, "truth-a").Delete(npol("second", "{podSelector: {}}"))
	s.holds(`
		pass a/client a/server tcp/80 udp/80 sctp/80 icmp
		pass outside a/server tcp/80`)
}

// A pod that has finished still shows an address, which is somebody else's by then.
func TestPolicyKnowsNoAddressOfAPodThatHasFinished_26(t *testing.T) {
	s := onStage(t)
	n := west().In(t, "truth-a")
	s.apply(west(), server("{from: [{podSelector: {matchLabels: {role: vip}}}]}"))
	finished(t, n, "finished", map[string]string{"role": "vip"}, s.pod("a/client").Addresses)
	s.label("pod", "truth-a", "other", "role=vip", "role-")
	s.holds(`
		pass a/other a/server tcp/80
		deny a/client a/server tcp/80`)
}

// finished makes a pod that no kubelet has run, with the status of one that has.
func finished(t *testing.T, n *labtest.Namespace, name string, labels map[string]string, addresses []netip.Addr) {
	t.Helper()
	zero := int64(0)
	pods := n.Client.CoreV1().Pods(n.Name)
	made, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: corev1.PodSpec{
			NodeName: "ghost", Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{Name: "none", Image: "busybox"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The collector of pods on nodes that are gone may have been faster.
		_ = pods.Delete(context.Background(), name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
	})
	made.Status.Phase = corev1.PodSucceeded
	made.Status.PodIP = addresses[0].String()
	for _, a := range addresses {
		made.Status.PodIPs = append(made.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	if _, err := pods.UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestPolicyLetsTheKubeletProbe_32(t *testing.T) {
	s := onStage(t)
	n := west().In(t, "truth-a")
	s.apply(west(), npol("deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}"))
	s.holds("deny a/client a/server tcp/80")
	const probed = `
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: netprobe
    args: [serve, --http, "18081", --tcp, "80"]
    startupProbe: {tcpSocket: {port: 80}, periodSeconds: 1, failureThreshold: 60}
    readinessProbe: {httpGet: {path: /healthz, port: 18081}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 1, failureThreshold: 3}
`
	n.Delete(probed)
	n.Apply(probed)
	t.Cleanup(func() {
		if out := west().Kubectl(t, "-n", n.Name, "delete", "pod", "probed", "--now"); out.Code != 0 {
			t.Errorf("kubectl delete: %s", out)
		}
	})
	pod := n.Pod("probed")
	for _, a := range pod.Addresses {
		holds(t, []probe{
			{from: labtest.FromPodNetwork(s.pod("a/other")), to: labtest.Target("tcp", a.String(), 80), want: "timeout"},
			{from: lab.FromNode("west/node-2"), to: labtest.Target("tcp", a.String(), 80)},
			{from: lab.FromNode("west/node-1"), to: labtest.Target("tcp", a.String(), 80), want: "timeout"},
		})
	}
}

// A router on the way that takes smaller packets only says so, and is heard by
// pods that may not be reached by anything else.
func TestPolicyLetsRoutersSayThatAPacketIsTooBig_42(t *testing.T) {
	s := onStage(t)
	server, client := s.pod("a/server"), s.pod("a/client2")
	ip := func(args ...string) string {
		t.Helper()
		out := lab.Command(t, append([]string{"netns", "west-vnet", "--", "ip"}, args...)...)
		if out.Code != 0 {
			t.Fatalf("ip %q: %s", args, out)
		}
		return strings.TrimSpace(out.Stdout)
	}
	// The lab's routers have link-local addresses only, and what these say gets no
	// farther than the next node.
	ip("address", "add", "fd00:1::fffe/128", "dev", "lo")
	defer ip("address", "delete", "fd00:1::fffe/128", "dev", "lo")
	for _, a := range server.Addresses {
		family := "-4"
		if a.Is6() {
			family = "-6"
		}
		// Of IPv6, the route is shown with words that its makers do not take.
		route := strings.Fields(strings.TrimSuffix(ip(family, "route", "show", a.String()), " pref medium"))
		if len(route) == 0 {
			t.Fatalf("the router has no route to %s", a)
		}
		replace := append([]string{family, "route", "replace"}, route...)
		defer ip(replace...)
		ip(append(slices.Clone(replace), "mtu", "lock", "1300")...)
	}
	s.apply(west(), npol("deny", "{podSelector: {matchLabels: {app: client}}, policyTypes: [Ingress]}")+
		client2Egress())
	s.holds("deny a/other a/client2 tcp/80 icmp")
	var probes []probe
	for _, a := range server.Addresses {
		for _, scheme := range []string{"udp", "tcp"} {
			probes = append(probes, probe{from: labtest.FromPodNetwork(client), to: labtest.Target(scheme, a.String(), 80, "size=20000")})
		}
	}
	holds(t, probes)
}

func client2Egress() string {
	return npol("client2", fmt.Sprintf("{podSelector: {matchExpressions: [{key: tier, operator: In, values: [%q]}]}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: server}}}]}]}", ""))
}
