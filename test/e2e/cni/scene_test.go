package cni

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/overland-net/overland/test/lab/labtest"
)

// Where sinks listen, and what is sprayed at pods.
const (
	sinkPort  = 7005
	sprayPort = 7007
)

// scene is a namespace in which pods labelled "is: shut" may neither be reached
// nor send, those labelled "is: friend" may use the sinks and nothing else, and
// those labelled "is: open" may do anything. There are sinks on both nodes, which
// count what arrives from pods of the near node, and one of them sprays: it sends
// all the time to every address that the next pods of the near node can get.
type scene struct {
	t     *testing.T
	n     *labtest.Namespace
	sinks []*labtest.Pod // near, far
	// before is what the near node had when all this was there.
	before string
	// aimed are the addresses, of each family, after which to spray.
	aimed [2]atomic.Value
}

const sinkText = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {is: sink, at: NAME}}
spec:
  nodeName: NODE
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers: [{name: netprobe, image: netprobe, args: [serve, --tcp, "7005"]}]
---
`

const scenePolicies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut}
spec: {podSelector: {matchLabels: {is: shut}}, policyTypes: [Ingress, Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friend}
spec:
  podSelector: {matchLabels: {is: friend}}
  policyTypes: [Ingress, Egress]
  egress: [{to: [{podSelector: {matchLabels: {is: sink}}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: sink}
spec:
  podSelector: {matchLabels: {is: sink, at: near}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchExpressions: [{key: is, operator: In, values: [friend, shut, open]}]}}]}]
---
`

func onScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, n: west().NewNamespace(t, "first")}
	for name, node := range map[string]string{"near": near, "far": far} {
		s.n.Apply(strings.NewReplacer("NAME", name, "NODE", strings.TrimPrefix(node, "west/")).Replace(sinkText))
	}
	s.n.Apply(scenePolicies)
	s.sinks = []*labtest.Pod{s.n.Pod("near"), s.n.Pod("far")}
	for _, sink := range s.sinks {
		script := ""
		for tool, source := range map[string]netip.Prefix{"iptables": nearRange(4), "ip6tables": nearRange(6)} {
			echo := "icmp --icmp-type echo-request"
			if source.Addr().Is6() {
				echo = "ipv6-icmp --icmpv6-type echo-request"
			}
			script += fmt.Sprintf("%[1]s-nft -t raw -A PREROUTING -s %[2]s -p tcp\n%[1]s-nft -t raw -A PREROUTING -s %[2]s -p %[3]s\n", tool, source, echo)
		}
		if out := sink.NetworkExec(t, "sh", "-ec", script); out.Code != 0 {
			t.Fatal(out)
		}
	}
	for _, node := range []string{near, far} {
		enforcing(t, node)
	}
	s.before = inventory(s, t.Context(), near)
	return s
}

// nearRange is the range of the near node's pods.
func nearRange(family int) netip.Prefix {
	pods := west().Nodes[0].Pods
	if family == 4 {
		return netip.PrefixFrom(pods.V4.First, 24).Masked()
	}
	return netip.PrefixFrom(pods.V6.First, 64).Masked()
}

// arrived is how many packets of the near node's pods have come to the sinks:
// counted in the sinks' own network namespaces.
func (s *scene) arrived() uint64 {
	s.t.Helper()
	var sum uint64
	for _, sink := range s.sinks {
		out := sink.NetworkExec(s.t, "sh", "-c", "iptables-nft-save -c -t raw; ip6tables-nft-save -c -t raw")
		found := regexp.MustCompile(`(?m)^\[(\d+):\d+\] -A PREROUTING`).FindAllStringSubmatch(out.Stdout, -1)
		if len(found) != 4 {
			s.t.Fatalf("read the counters of %s: %s", sink, out)
		}
		for _, f := range found {
			n, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// spray sends datagrams to the addresses that the next pods of the near node will
// get, every few milliseconds, until the test ends.
func (s *scene) spray() {
	s.t.Helper()
	const (
		ahead = 60 // addresses
		pause = 10 * time.Millisecond
		// A packet to an address that no pod has is sent around by the routers: the
		// hops are just those to the near node's pods.
		hops = 4
	)
	s.aim()
	ctx, stop := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var spraying sync.WaitGroup
	s.t.Cleanup(func() { stop(); spraying.Wait() })
	for network, family := range map[string]int{"udp4": 4, "udp6": 6} {
		conn := s.sinks[len(s.sinks)-1].UDP(s.t, network, hops)
		spraying.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(pause) {
				a := s.aimed[family/5].Load().(netip.Addr)
				for range ahead {
					if a = a.Next(); !contains(family, a) {
						a = first(family)
					}
					_, _ = conn.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(a, sprayPort)) // most are nobody's
				}
			}
		})
	}
}

// aim makes the addresses that come next those that are sprayed at, and as many that
// were given last: pods that run are to get some too.
func (s *scene) aim() {
	s.t.Helper()
	const behind = 30
	for i, family := range []int{4, 6} {
		a := lastAddress(s.t, family)
		for range behind {
			if p := a.Prev(); !p.Less(first(family)) {
				a = p
			}
		}
		s.aimed[i].Store(a)
	}
}

// shooterText is a pod that, first of all, connects to both sinks, in both families,
// listens, and at last tells what its network namespace has counted since it was
// made.
const shooterText = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {is: IS, wave: WAVE}}
spec:
  nodeName: node-1
  restartPolicy: RESTART
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox
    command:
    - sh
    - -c
    - |
      nc -w 1 FAR4 7005 </dev/null >/dev/null 2>&1 & a=$!
      nc -w 1 NEAR4 7005 </dev/null >/dev/null 2>&1 & b=$!
      nc -w 1 FAR6 7005 </dev/null >/dev/null 2>&1 & c=$!
      ping -6 -c 1 -W 1 NEAR6 >/dev/null 2>&1 & d=$!
      nc -ll -p 7007 -e cat &
      cat /proc/net/snmp /proc/net/snmp6
      echo began
      wait $a; a=$?; wait $b; b=$?; wait $c; c=$?; wait $d; d=$?
      cat /proc/net/snmp /proc/net/snmp6
      echo done $a $b $c $d
      LINGER
---
`

// shooter is a pod, in YAML, with restart Always or Never.
func (s *scene) shooter(name, wave, is, restart string) string {
	linger := ""
	if restart == "Always" {
		linger = "exec sleep 3600"
	}
	return strings.NewReplacer(
		"NAME", name, "IS", is, "WAVE", wave, "RESTART", restart, "LINGER", linger,
		"NEAR4", s.sinks[0].Address(4).String(), "NEAR6", s.sinks[0].Address(6).String(),
		"FAR4", s.sinks[len(s.sinks)-1].Address(4).String(), "FAR6", s.sinks[len(s.sinks)-1].Address(6).String(),
	).Replace(shooterText)
}

// shooters makes a wave of them.
func (s *scene) shooters(wave, is, restart string, count int) {
	s.t.Helper()
	var text strings.Builder
	for i := range count {
		text.WriteString(s.shooter(fmt.Sprintf("%s-%d", wave, i), wave, is, restart))
	}
	s.n.Apply(text.String())
}

// shot is what a shooter has told.
type shot struct {
	pod string
	// sent and heard are packets of IPv4, and echo requests and datagrams and
	// segments of IPv6.
	sent, heard uint64
	// early is what of heard came before the container could read the counters for the
	// first time, after its first act: what its network namespace got before it ran.
	early uint64
	// again are segments that were sent again for want of an answer.
	again uint64
	// sprayed are datagrams that nobody had asked for.
	sprayed uint64
	status  string // of the four attempts, 0 for success
}

// shots waits until count shooters of a wave have told, and gives what.
func (s *scene) shots(wave string, count int) []shot {
	s.t.Helper()
	var all []shot
	selector := labels.Set{"wave": wave}.String()
	labtest.Until(s.t, fmt.Sprintf("%d pods %s to have ended", count, wave), func(ctx context.Context) (string, bool) {
		list, err := s.n.Client.CoreV1().Pods(s.n.Name).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err.Error(), false
		}
		all = nil
		s.aim()
		for _, p := range list.Items {
			if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodRunning {
				continue
			}
			text, err := s.n.Client.CoreV1().Pods(s.n.Name).GetLogs(p.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
			if err != nil || !strings.Contains(string(text), "\ndone ") {
				continue
			}
			all = append(all, parseShot(s.t, p.Name, string(text)))
		}
		return fmt.Sprintf("%d of %d", len(all), count), len(all) == count
	})
	return all
}

// parseShot reads what a shooter has told at its beginning and at its end.
func parseShot(t *testing.T, pod, text string) shot {
	t.Helper()
	begin, end, ok := strings.Cut(text, "\nbegan\n")
	end, status, done := strings.Cut(end, "\ndone ")
	if !ok || !done {
		t.Fatalf("%s has not told all:\n%s", pod, text)
	}
	// Segments are counted for both families together.
	heard := func(v map[string]uint64) uint64 {
		return v["Ip:InReceives"] + v["Tcp:InSegs"] + v["Udp6NoPorts"] + v["Icmp6InEchoReplies"]
	}
	values := counters(end)
	for _, name := range []string{"Ip:InReceives", "Tcp:ActiveOpens", "Udp6NoPorts", "Icmp6OutEchos"} {
		if _, there := values[name]; !there {
			t.Fatalf("%s has not told %s:\n%s", pod, name, text)
		}
	}
	return shot{
		pod: pod, status: strings.TrimSpace(status), early: heard(counters(begin)), heard: heard(values),
		sent: values["Ip:OutRequests"] + values["Icmp6OutEchos"], again: values["Tcp:RetransSegs"],
		sprayed: values["Udp:NoPorts"] + values["Udp6NoPorts"],
	}
}

// counters reads /proc/net/snmp, whose lines come in pairs, names and values, and
// /proc/net/snmp6.
func counters(text string) map[string]uint64 {
	values := map[string]uint64{}
	var names []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && !strings.HasSuffix(words[0], ":"):
			values[words[0]], _ = strconv.ParseUint(words[1], 10, 64)
		case len(names) > 0 && len(names) == len(words) && names[0] == words[0]:
			for i, n := range names[1:] {
				// Some that are not asked for are negative.
				values[words[0]+n], _ = strconv.ParseUint(words[i+1], 10, 64)
			}
			names = nil
		default:
			names = words
		}
	}
	return values
}

// reached checks that shooters reached both sinks, each time with the first packet.
func (s *scene) reached(shots []shot) {
	s.t.Helper()
	for _, shot := range shots {
		if shot.status != "0 0 0 0" || shot.again != 0 {
			s.t.Errorf("pod %s was to reach both sinks at once: its attempts ended with %s, and it sent %d segments again", shot.pod, shot.status, shot.again)
		}
	}
	s.t.Logf("%d pods reached both sinks with their first packets", len(shots))
}

// silent checks that no packet of shooters passed, in either direction, and that
// they sent. before is what had arrived at the sinks when they began.
func (s *scene) silent(shots []shot, before uint64) {
	s.t.Helper()
	s.mute(shots, before, true)
}

// mute is silent that, unless it is strict, does not mind what a network namespace
// got before a container ran there.
func (s *scene) mute(shots []shot, before uint64, strict bool) {
	s.t.Helper()
	var sent, heard, early uint64
	for _, shot := range shots {
		if shot.sent < 3 { // to the sinks: two segments and one echo request
			s.t.Errorf("pod %s sent %d packets: it was to send at least 3", shot.pod, shot.sent)
		}
		if shot.heard-shot.early != 0 || strict && shot.heard != 0 {
			s.t.Errorf("pod %s, which nothing may reach, got %d packets, %d of them before it ran (its attempts ended with %s)", shot.pod, shot.heard, shot.early, shot.status)
		}
		sent, heard, early = sent+shot.sent, heard+shot.heard, early+shot.early
	}
	passed := s.arrived() - before
	if passed != 0 {
		s.t.Errorf("%d packets arrived of pods that may send none", passed)
	}
	s.t.Logf("%d pods: %d packets sent, %d arrived, %d got, %d of these before a container ran", len(shots), sent, passed, heard, early)
}
