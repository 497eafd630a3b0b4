package e2e

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

// link, route and neighbour are parts of what `ip -json` prints.
type link struct {
	Name    string   `json:"ifname"`
	Address string   `json:"address"`
	Flags   []string `json:"flags"`
}

type route struct {
	Destination string `json:"dst"`
	Gateway     string `json:"gateway"`
	Device      string `json:"dev"`
	Protocol    string `json:"protocol"`
}

type neighbour struct {
	Address string   `json:"dst"`
	MAC     string   `json:"lladdr"`
	State   []string `json:"state"`
}

func decode[T any](t *testing.T, text string) []T {
	t.Helper()
	var all []T
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return all
}

// hostVeth is the name of a pod's interface on its node, by Azure's rule.
func hostVeth(namespace, pod string) string {
	sum := sha1.Sum([]byte(namespace + "." + pod))
	return "azv" + hex.EncodeToString(sum[:])[:11]
}

// lastingPods are pods on networks of their own that stay while tests run. Of
// cluster DNS only west's: after the reboots of canada's nodes, CoreDNS is Ready
// late, as it meets a node without kube-proxy's rules there.
func lastingPods(t *testing.T) []*labtest.Pod {
	t.Helper()
	deployment, err := west().Client.AppsV1().Deployments("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dns := west().In(t, "kube-system").Pods("k8s-app=kube-dns", int(*deployment.Spec.Replicas))
	return slices.Concat(worldPods(t, "a"), worldPods(t, "b"), dns)
}

func TestANodeHasAzuresInterfaceAndRoutesForEachPod(t *testing.T) {
	t.Parallel()
	pods := lastingPods(t)
	for _, c := range lab.Clusters {
		for _, node := range c.Nodes {
			links := decode[link](t, lab.MustNodeExec(t, node.Path(), "ip", "-json", "link"))
			routes := slices.Concat(
				decode[route](t, lab.MustNodeExec(t, node.Path(), "ip", "-json", "-4", "route")),
				decode[route](t, lab.MustNodeExec(t, node.Path(), "ip", "-json", "-6", "route")))
			settings := lab.MustNodeExec(t, node.Path(), "sh", "-c",
				"grep . /proc/sys/net/ipv4/conf/azv*/proxy_arp /proc/sys/net/ipv6/conf/azv*/accept_ra")
			for _, p := range pods {
				if p.NodePath() == node.Path() {
					checkHostEnd(t, p, links, routes, settings)
				}
			}
		}
	}
}

// checkHostEnd compares a pod's traces on its node with those of the real plugin.
func checkHostEnd(t *testing.T, p *labtest.Pod, links []link, routes []route, settings string) {
	t.Helper()
	name := hostVeth(p.Namespace, p.Name)
	i := slices.IndexFunc(links, func(l link) bool { return l.Name == name })
	if i < 0 {
		t.Errorf("%s: %s has no interface %s", p, p.NodePath(), name)
		return
	}
	if links[i].Address != "aa:aa:aa:aa:aa:aa" || !slices.Contains(links[i].Flags, "UP") {
		t.Errorf("%s: %s is %+v", p, name, links[i])
	}
	// Of a host route, ip leaves /32 and /128 out.
	var have, want []netip.Addr
	for _, r := range routes {
		if a, err := netip.ParseAddr(r.Destination); err == nil && r.Device == name && r.Protocol == "static" && r.Gateway == "" {
			have = append(have, a)
		}
	}
	want = slices.SortedFunc(slices.Values(p.Addresses), netip.Addr.Compare)
	slices.SortFunc(have, netip.Addr.Compare)
	if len(want) != len(families()) || !slices.Equal(have, want) {
		t.Errorf("%s has the addresses %v, and its node routes to %v", p, want, have)
	}
	for _, want := range []string{"ipv4/conf/" + name + "/proxy_arp:1\n", "ipv6/conf/" + name + "/accept_ra:0\n"} {
		if !strings.Contains(settings, want) {
			t.Errorf("%s: its node has not set %s", p, strings.TrimSpace(want))
		}
	}
}

func TestAPodHasAzuresGatewayAndNeighbour(t *testing.T) {
	t.Parallel()
	const mac = "aa:aa:aa:aa:aa:aa"
	for _, p := range worldPods(t, "a") {
		for _, family := range []struct{ option, gateway string }{
			{"-4", "169.254.1.1"}, {"-6", "fe80::1234:5678:9abc"},
		} {
			routes := decode[route](t, p.Exec(t, "ip", "-json", family.option, "route").Stdout)
			for _, want := range []route{{Destination: "default", Gateway: family.gateway}, {Destination: family.gateway}} {
				if !slices.ContainsFunc(routes, func(r route) bool {
					return r.Destination == want.Destination && r.Gateway == want.Gateway && r.Device == "eth0"
				}) {
					t.Errorf("%s has no route %+v but %+v", p, want, routes)
				}
			}
			neighbours := decode[neighbour](t, p.Exec(t, "ip", "-json", family.option, "neigh").Stdout)
			if !slices.ContainsFunc(neighbours, func(n neighbour) bool {
				return n.Address == family.gateway && n.MAC == mac && slices.Equal(n.State, []string{"PERMANENT"})
			}) {
				t.Errorf("%s has no permanent neighbour %s but %+v", p, family.gateway, neighbours)
			}
		}
	}
}

func TestAPodsInterfaceIsGoneWithIt(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "gone")
	manifest := server("brief", "node-1")
	n.Apply(manifest)
	pod := n.Pod("brief")
	name := hostVeth(n.Name, "brief")
	lab.MustNodeExec(t, pod.NodePath(), "ip", "link", "show", name)
	kubectl(t, n, "delete", "pod", "brief")
	if out := lab.NodeExec(t, pod.NodePath(), "ip", "link", "show", name); out.Code == 0 {
		t.Errorf("the pod is gone but its interface is not: %s", out)
	}
	for _, address := range pod.Addresses {
		if got := lab.MustNodeExec(t, pod.NodePath(), "ip", "route", "show", "to", "exact", address.String()); got != "" {
			t.Errorf("the pod is gone but its route is not: %s", got)
		}
	}
}
