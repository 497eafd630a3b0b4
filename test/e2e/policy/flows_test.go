package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/netprobe"
)

// pace is the time between two sendings of a flow.
const pace = 25 * time.Millisecond

// lasting are the five flows of the specification of the dataplane, modes both
// these and those that open a connection each time.
func lasting() []netprobe.Mode {
	return []netprobe.Mode{netprobe.TCPPush, netprobe.TCPBulk, netprobe.TCPSlow, netprobe.UDPPush, netprobe.UDPPull}
}

func allModes() []netprobe.Mode { return append(lasting(), netprobe.TCPNew, netprobe.UDPNew) }

// flowPort is a port for each mode, so that packets tell which flow they are of.
func flowPort(m netprobe.Mode) int { return 7001 + slices.Index(allModes(), m) }

func protocolOf(m netprobe.Mode) string { return string(m)[:3] }

// flow is a flow from the client to an address of a server: its own, or that of
// its Service.
type flow struct {
	server  string
	mode    netprobe.Mode
	address netip.Addr
}

func (f flow) url() string {
	return fmt.Sprintf("%s://%s", f.mode, netip.AddrPortFrom(f.address, uint16(flowPort(f.mode))))
}

func (f flow) family() int {
	if f.address.Is4() {
		return 4
	}
	return 6
}

func (f flow) String() string { return fmt.Sprintf("%s to %s, IPv%d", f.mode, f.server, f.family()) }

func urls(flows []flow) []string {
	list := make([]string, len(flows))
	for i, f := range flows {
		list[i] = f.url()
	}
	return list
}

// meters counts packets where they arrive at pods: in the table raw of each one's
// own network namespace, before anything there could drop them.
type meters struct {
	t    *testing.T
	pods []*labtest.Pod
}

// count begins to count what matches at each pod, by name, and forgets all that
// was counted before. IPv6 addresses make a match one of IPv6.
func (m meters) count(matches map[*labtest.Pod]map[string]string) {
	m.t.Helper()
	for _, pod := range m.pods {
		text := map[string]string{"iptables": "*raw\n", "ip6tables": "*raw\n"}
		for name, match := range matches[pod] {
			tool := "iptables"
			if strings.Contains(match, ":") {
				tool = "ip6tables"
			}
			text[tool] += fmt.Sprintf("-A PREROUTING -m comment --comment %q %s\n", name, match)
		}
		script := ""
		for tool, rules := range text {
			script += fmt.Sprintf("%s-nft-restore <<'END' && ", tool) + "\n" + rules + "COMMIT\nEND\n"
		}
		script = strings.ReplaceAll(script, " && \n", "\n")
		if out := pod.NetworkExec(m.t, "sh", "-ec", script); out.Code != 0 {
			m.t.Fatalf("count at %s: %s\n%s", pod, out, script)
		}
	}
}

// read is what was counted, by name.
func (m meters) read() map[string]uint64 {
	m.t.Helper()
	rule := regexp.MustCompile(`(?m)^\[(\d+):\d+\] -A PREROUTING .*--comment (?:"([^"]*)"|(\S+))`)
	texts := make([]string, len(m.pods))
	var reading sync.WaitGroup
	for i, pod := range m.pods {
		reading.Go(func() {
			out := pod.NetworkExec(m.t, "sh", "-c", "iptables-nft-save -c -t raw; ip6tables-nft-save -c -t raw")
			texts[i] = out.Stdout
			if out.Code != 0 {
				m.t.Errorf("read the counters of %s: %s", pod, out)
			}
		})
	}
	reading.Wait()
	counts := map[string]uint64{}
	for _, text := range texts {
		for _, found := range rule.FindAllStringSubmatch(text, -1) {
			n, err := strconv.ParseUint(found[1], 10, 64)
			if err != nil {
				m.t.Fatal(err)
			}
			counts[found[2]+found[3]] += n
		}
	}
	return counts
}

// measure counts the packets of flows in both directions, each where it arrives.
func (s *scene) measure(flows []flow) meters {
	s.t.Helper()
	matches := map[*labtest.Pod]map[string]string{s.client: {}}
	for _, f := range flows {
		server, protocol, port := s.servers[f.server], protocolOf(f.mode), flowPort(f.mode)
		if matches[server] == nil {
			matches[server] = map[string]string{}
		}
		matches[server][f.url()+">"] = fmt.Sprintf("-s %s -p %s --dport %d", s.client.Address(f.family()), protocol, port)
		matches[s.client][f.url()+"<"] = fmt.Sprintf("-s %s -p %s --sport %d", f.address, protocol, port)
	}
	m := meters{s.t, slices.Collect(maps.Keys(matches))}
	m.count(matches)
	return m
}

// directions are those in which a flow has packets.
func directions(m netprobe.Mode) []string {
	if m == netprobe.UDPPush {
		return []string{">"}
	}
	return []string{">", "<"}
}

// steady are the directions in which a flow has packets again and again.
func steady(m netprobe.Mode) []string {
	if m == netprobe.UDPPull {
		return []string{"<"}
	}
	return directions(m)
}

// tracked are the connections to Services and pods as the client's node tracks
// them, by protocol, source port, destination and its port: a source port serves
// again, for another destination, while an old connection is in TIME_WAIT.
func (s *scene) tracked() map[string]tracking {
	s.t.Helper()
	found := map[string]tracking{}
	entry := regexp.MustCompile(`(?m)^(\w+) .*?dst=(\S+) sport=(\d+) dport=(\d+) .*\bid=(\d+).*`)
	for family, name := range map[int]string{4: "ipv4", 6: "ipv6"} {
		out := lab.MustNodeExec(s.t, s.client.NodePath(), "conntrack", "-L", "-o", "id", "-f", name, "--orig-src", s.client.Address(family).String())
		for _, e := range entry.FindAllStringSubmatch(out, -1) {
			found[connection(e[1], e[3], e[2], e[4])] = tracking{e[5], e[0]}
		}
	}
	return found
}

// tracking is how the kernel tracks a connection: its number, and all it says. A
// connection that was lost and found again has another number.
type tracking struct{ id, text string }

// settled are the tracked connections once none of them is another one than a
// moment before: those that began before kube-proxy knew their Service are
// tracked anew.
func (s *scene) settled() map[string]tracking {
	s.t.Helper()
	const moment, attempts = 1500 * time.Millisecond, 10
	before := s.tracked()
	for range attempts {
		time.Sleep(moment)
		now := s.tracked()
		same := true
		for c, was := range before {
			same = same && (now[c].id == was.id || now[c].id == "")
		}
		if same {
			return now
		}
		s.t.Logf("connections are tracked anew: %d before, %d now", len(before), len(now))
		before = now
	}
	s.t.Fatal("the tracked connections do not settle")
	return nil
}

func connection(protocol, sourcePort, destination, port string) string {
	return protocol + " from port " + sourcePort + " to " + destination + " port " + port
}
