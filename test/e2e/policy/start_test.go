package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/netprobe"
)

// rulesOf is the whole of a node's rules and sets, without counters and times.
func rulesOf(t *testing.T, node string) string {
	t.Helper()
	text := lab.MustNodeExec(t, node, "sh", "-ec", "iptables-save; ip6tables-save; ipset save | sort")
	text = regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(text, "")
	return regexp.MustCompile(`\[\d+:\d+\]`).ReplaceAllString(text, "[0:0]")
}

func TestPolicyARestartWithNothingNewTouchesNoRules(t *testing.T) {
	s := onScene(t)
	s.policeBoth()
	before := map[string]string{}
	for _, node := range nodes() {
		before[node] = rulesOf(t, node)
	}
	killAgents(t)
	waitForces(t)
	for _, node := range nodes() {
		totals := agentStatus(t, node).Dataplane.Totals
		t.Logf("%s: %d transactions, %d raises", node, totals.Transactions, totals.Raises)
		// At most one a family: what has happened between the last state and the end
		// of the agent before is not known, so all connections are judged again.
		if totals.Transactions > 2 || totals.SetsCreated+totals.SetsRemoved+totals.MembersAdded+totals.MembersDeleted > 0 {
			t.Errorf("%s: a restart with nothing new did %+v", node, totals)
		}
		if diff := cmp.Diff(ungenerated(before[node]), ungenerated(rulesOf(t, node))); diff != "" {
			t.Errorf("%s: the rules changed:\n%s", node, diff)
		}
	}
}

// ungenerated is saved rules without the generation of verdicts.
func ungenerated(saved string) string {
	return regexp.MustCompile(`0x[0-9a-f]+000000/0xff000000`).ReplaceAllString(saved, "G")
}

// isOurs tells lines of saved rules and sets that are Overland's.
func isOurs(line string) bool {
	return strings.Contains(line, "OVL-") || strings.Contains(line, "ovl4-") || strings.Contains(line, "ovl6-")
}

func ours(saved string) string    { return pick(saved, true) }
func foreign(saved string) string { return pick(saved, false) }

func pick(saved string, mine bool) string {
	var b strings.Builder
	for line := range strings.Lines(saved) {
		if isOurs(line) == mine {
			b.WriteString(line)
		}
	}
	return b.String()
}

// rebooted are pods of the node that is rebooted: one that begins at once to send
// what it must not, one that must not be reached, and one that may.
const rebooted = `
apiVersion: v1
kind: Pod
metadata: {name: pusher, labels: {app: pusher, boot: shut}}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers:
  - {name: netprobe, image: netprobe, args: [flow, --for, 9m, --interval, 20ms, "udp-push://D4:7004", "udp-push://[D6]:7004", "udp-new://D4:7007"]}
---
apiVersion: v1
kind: Pod
metadata: {name: shut, labels: {app: shut, boot: shut}}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers: [{name: netprobe, image: netprobe, args: [serve, --flow, "7007"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: free, labels: {app: free}}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers: [{name: netprobe, image: netprobe, args: [serve, --flow, "7006"]}]
---
`

// TestPolicyNothingPassesARebootedNodeThatIsDenied: from when the agent has begun,
// which is before it knows anything of the cluster. That no pod starts before the
// agent is the matter of the CNI configuration.
func TestPolicyNothingPassesARebootedNodeThatIsDenied(t *testing.T) {
	for _, first := range []string{"agent", "kube-proxy"} {
		t.Run("with "+first+" first", func(t *testing.T) { rebootDenied(t, first) })
	}
}

func rebootDenied(t *testing.T, first string) {
	const node = "canada/node-2"
	s := onScene(t)
	n := canada().In(t, sceneNamespace)
	sink := s.servers["d"]
	text := strings.NewReplacer("D4", sink.Address(4).String(), "D6", sink.Address(6).String()).Replace(rebooted)
	t.Cleanup(func() {
		out := canada().Kubectl(t, "delete", "pod", "pusher", "shut", "free", "--namespace="+sceneNamespace, "--ignore-not-found", "--grace-period=1")
		if out.Code != 0 {
			t.Error(out)
		}
	})
	s.police(canada(), scenePolicy("boot", "{podSelector: {matchLabels: {boot: shut}}, policyTypes: [Ingress, Egress]}"))
	n.Apply(text)
	var last netip.Addr
	for _, name := range []string{"pusher", "shut", "free"} {
		if a := n.Pod(name).Address(4); last.Less(a) {
			last = a
		}
	}
	waitForces(t)
	client := n.Pod("a")
	rangeOf := netip.PrefixFrom(last, 24).Masked()
	m := meters{t, []*labtest.Pod{sink, client}}
	m.count(map[*labtest.Pod]map[string]string{
		sink: {
			"pushed":  fmt.Sprintf("-s %s -p udp --dport 7004", rangeOf),
			"pushed6": fmt.Sprintf("-s %s -p udp --dport 7004", netip.PrefixFrom(n.Pod("shut").Address(6), 64).Masked()),
			"asked":   fmt.Sprintf("-s %s -p udp --dport 7007", rangeOf),
		},
		client: {
			"shut answered": fmt.Sprintf("-s %s -p udp --sport 7007", rangeOf),
			"free answered": fmt.Sprintf("-s %s -p udp --sport 7006", rangeOf),
		},
	})
	// Whichever of the next addresses the pods get.
	var flows []string
	for range 24 {
		last = last.Next()
		flows = append(flows, fmt.Sprintf("%s://%s:7007", netprobe.UDPNew, last), fmt.Sprintf("%s://%s:7006", netprobe.UDPNew, last))
	}
	boot := lab.MustNodeExec(t, node, "cat", "/proc/sys/kernel/random/boot_id")
	sending := client.StartFlows(t, 8*pace, flows...) // each waits for its answer: not too many at once
	time.Sleep(time.Second)
	if c := m.read(); c["pushed"]+c["pushed6"]+c["asked"]+c["shut answered"] != 0 {
		t.Fatalf("before the reboot, what is denied passed: %v", c)
	}
	done := make(chan labtest.Output, 1)
	go func() { done <- lab.Command(t, "reboot", node, "--first", first) }()
	waitUntil(t, "the agent's first rules on "+node, func(context.Context) (string, bool) {
		out := lab.Command(t, "exec", node, "--", "sh", "-c", "cat /proc/sys/kernel/random/boot_id; iptables-save -t mangle; ip6tables-save -t mangle")
		return out.String(), out.Code == 0 && !strings.HasPrefix(out.Stdout, boot) && strings.Count(out.Stdout, "-j OVL-FORWARD") == 2
	})
	protected := m.read()
	if out := <-done; out.Code != 0 {
		t.Fatal(out)
	}
	waitForces(t)
	waitUntil(t, "an answer of the pod that nothing restricts", func(context.Context) (string, bool) {
		c := m.read()
		return fmt.Sprint(c), c["free answered"] > 0
	})
	time.Sleep(2 * time.Second)
	end := m.read()
	sending.Stop()
	t.Logf("before the agent had begun: %v; at the end: %v", protected, end)
	for _, name := range []string{"pushed", "pushed6", "asked", "shut answered"} {
		if late := end[name] - protected[name]; late != 0 {
			t.Errorf("%s: %d packets passed the rebooted node, which policies deny", name, late)
		}
	}
}

// addresses is the part of the lab's address state that says what comes next.
type addresses map[string]json.RawMessage

// nextAddress makes the next pod of a node get a given address of each family.
func nextAddress(t *testing.T, node string, v4, v6 netip.Addr) {
	t.Helper()
	const file = "/var/lib/azure-vnet/ipam.json"
	var state addresses
	if err := json.Unmarshal([]byte(lab.MustNodeExec(t, node, "cat", file)), &state); err != nil {
		t.Fatal(err)
	}
	state["last4"], state["last6"] = json.RawMessage(`"`+v4.Prev().String()+`"`), json.RawMessage(`"`+v6.Prev().String()+`"`)
	text, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	lab.MustNodeExec(t, node, "sh", "-ec", `printf %s "$1" >`+file, "sh", string(text))
}

func TestPolicyAnAddressReusedAtOnceInheritsNoVerdict(t *testing.T) {
	s := onScene(t)
	n := west().In(t, sceneNamespace)
	s.police(west(), scenePolicy("closed", "{podSelector: {matchLabels: {is: closed}}, policyTypes: [Ingress]}")+
		scenePolicy("open", ingressFrom("is: open", "{podSelector: {matchLabels: {role: client}}}")))
	now := int64(0)
	gone := func(name string) {
		err := n.Client.CoreV1().Pods(n.Name).Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil {
			t.Fatal(err)
		}
	}
	n.Apply(sceneServer("old", "node-2", "is: open, role: client"))
	old := n.Pod("old")
	s.servers["old"] = old
	s.reaches(api.ResultAllowed, "old", "c1")
	flows := s.directly(lasting(), "old")
	m := s.measure(flows)
	sending := s.client.StartFlows(t, pace, urls(flows)...)
	s.awaitPackets(m, flows)
	fromOld := &scene{t: t, client: old, servers: s.servers}
	outward := fromOld.directly(lasting(), "c1")
	m = fromOld.measure(outward)
	pushing := old.StartFlows(t, pace, urls(outward)...)
	fromOld.awaitPackets(m, outward)

	gone("old")
	n.Wait("the pod to be gone", func(ctx context.Context) (string, bool, error) {
		list, err := n.Client.CoreV1().Pods(n.Name).List(ctx, metav1.ListOptions{LabelSelector: "app=old"})
		return fmt.Sprint(len(list.Items)), err == nil && len(list.Items) == 0, err
	})
	nextAddress(t, "west/node-2", old.Address(4), old.Address(6))
	n.Apply(sceneServer("young", "node-2", "is: closed"))
	t.Cleanup(func() { gone("young") })
	young := n.PodWhen("young", "running", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && p.Status.PodIP != "" })
	if young.Address(4) != old.Address(4) || young.Address(6) != old.Address(6) {
		t.Fatalf("the second pod has %v, the first one had %v", young.Addresses, old.Addresses)
	}
	// The client still sends to the address, on the connections that it had.
	matches := map[*labtest.Pod]map[string]string{young: {}, s.servers["c1"]: {}}
	for _, family := range []int{4, 6} {
		matches[young][fmt.Sprint("in", family)] = fmt.Sprintf("-s %s", s.client.Address(family))
		matches[s.servers["c1"]][fmt.Sprint("out", family)] = fmt.Sprintf("-s %s", young.Address(family))
	}
	second := meters{t, []*labtest.Pod{young, s.servers["c1"]}}
	second.count(matches)
	fromYoung := young.StartFlows(t, pace, urls((&scene{t: t, client: young, servers: s.servers}).directly(allModes(), "c1"))...)
	time.Sleep(watch)
	if c := second.read(); c["in4"]+c["in6"]+c["out4"]+c["out6"] != 0 {
		t.Errorf("packets to and from a pod that has the address of another one, which was allowed: %v", c)
	}
	fromYoung.Stop()
	pushing.Stop()
	sending.Stop()
}
