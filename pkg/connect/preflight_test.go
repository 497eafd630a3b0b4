package connect

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func mustPrefixes(t *testing.T, texts ...string) []netip.Prefix {
	t.Helper()
	all, err := prefixes("test", texts)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sides are two clusters about which there is nothing to complain.
func sides(t *testing.T) (a, b Side) {
	t.Helper()
	make := func(name, net string) Side {
		s := Side{
			Facts: Facts{
				Context: "ctx-" + name, UID: "uid-" + name, Version: "v1.33.2", Name: name, NameFrom: fromConfig,
				HasNamespace: true, HasCRD: true, Agents: []AgentPod{{Name: "a", Node: name + "-1", Ready: true}},
				Nodes:        []Node{{Name: name + "-1", Addresses: []netip.Addr{netip.MustParseAddr(net + ".0.4")}}},
				ServiceCIDRs: mustPrefixes(t, strings.Replace(net, "10.", "10.10", 1)+".0.0/16"),
			},
			Name: name, Learns: true,
			Ranges: Ranges{Pods: mustPrefixes(t, net+".1.0/24"), Nodes: mustPrefixes(t, net+".0.0/24")},
		}
		s.Probes = &Probes{URL: "https://other", Results: []Reached{{OK: true, Node: name + "-1"}}}
		return s
	}
	return make("west", "10.1"), make("canada", "10.2")
}

func TestPreflightOfTwoGoodClustersPasses(t *testing.T) {
	a, b := sides(t)
	seen := map[string]bool{}
	for _, r := range Preflight(a, b, nil) {
		if r.Level != Passed {
			t.Errorf("%s", r)
		}
		seen[r.Check] = true
	}
	for _, check := range Checks() {
		if !seen[check] {
			t.Errorf("check %s says nothing", check)
		}
	}
}

func TestPreflightFinds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(a, b *Side)
		check  string
		level  Level
		says   string
	}{
		{"equal names", func(a, b *Side) { b.Name = "west" }, CheckNames, Failed, "both clusters are called west"},
		{"no name", func(a, b *Side) { b.Name = "" }, CheckNames, Failed, "it says no name"},
		{"a reserved name", func(a, b *Side) { b.Name = "local" }, CheckNames, Failed, "reserved"},
		{"no DNS label", func(a, b *Side) { b.Name = "Canada" }, CheckNames, Failed, `"Canada"`},
		{"one cluster twice", func(a, b *Side) { b.UID = a.UID }, CheckNames, Failed, "lead to the same cluster"},
		{"linked under another name", func(a, b *Side) { a.Links = []Link{{Name: "kanada", ClusterUID: b.UID}} }, CheckNames, Failed, "as kanada"},
		{"an alias", func(a, b *Side) { b.Name = "kanada" }, CheckNames, Warning, "calls itself canada"},
		{"no CRD", func(a, b *Side) { b.HasCRD = false }, CheckInstalled, Failed, "canada lacks the RemoteCluster CRD"},
		{"no agents", func(a, b *Side) { a.Agents, a.HasNamespace = nil, false }, CheckInstalled, Failed, "west lacks agents' pods, namespace overland-system"},
		{"an agent not ready", func(a, b *Side) { a.Agents[0].Ready = false }, CheckInstalled, Warning, "0 of 1 agents ready"},
		{"nodes without agents", func(a, b *Side) { a.Nodes = append(a.Nodes, Node{Name: "x"}) }, CheckInstalled, Warning, "1 of 1 agents ready on 2 nodes"},
		{"an old cluster", func(a, b *Side) { b.Version = "v1.29.9" }, CheckVersion, Failed, "needs 1.30"},
		{"an old cluster that is only linked", func(a, b *Side) { b.Version, b.Learns = "v1.24.9", false }, CheckVersion, Failed, "needs 1.25"},
		{"a version of another kind", func(a, b *Side) { b.Version = "latest" }, CheckVersion, NotChecked, `"latest"`},
		{"a node that does not reach", func(a, b *Side) {
			a.Probes.Results = append(a.Probes.Results, Reached{Node: "west-2", Error: "no answer"})
		}, CheckReachable, Failed, "1 of 2 nodes of west do not reach the API server of canada (https://other): west-2: no answer"},
		{"nobody to ask", func(a, b *Side) { b.Probes = &Probes{NotMade: "no agent"} }, CheckReachable, NotChecked, "no agent"},
		{"pods and pods", func(a, b *Side) { b.Ranges.Pods = mustPrefixes(t, "10.0.0.0/8") }, CheckRanges, Failed, "pods of west (10.1.1.0/24) and the pods of canada (10.0.0.0/8)"},
		{"pods and nodes", func(a, b *Side) { b.Ranges.Nodes = mustPrefixes(t, "10.1.1.128/25") }, CheckRanges, Failed, "nodes of canada (10.1.1.128/25)"},
		{"pods and nodes seen", func(a, b *Side) { b.Ranges.Nodes = nil; b.Ranges.Pods = mustPrefixes(t, "10.1.0.4/32") }, CheckRanges, Failed, "nodes of west"},
		{"nodes and nodes", func(a, b *Side) { b.Ranges.Nodes = a.Ranges.Nodes }, CheckRanges, Failed, "nodes of west (10.1.0.0/24) and the nodes of canada"},
		{"no ranges", func(a, b *Side) { b.Ranges = Ranges{} }, CheckRanges, Warning, "pods of canada are not known"},
		{"no node ranges", func(a, b *Side) { b.Ranges.Nodes = nil }, CheckRanges, Warning, "nodes of canada are not known"},
		{"a Service range", func(a, b *Side) { a.ServiceCIDRs = mustPrefixes(t, "10.2.1.0/28") }, CheckRanges, Warning, "overlaps the Service range 10.2.1.0/28 of west"},
		{"no Service ranges", func(a, b *Side) { a.ServiceCIDRs = nil }, CheckRanges, NotChecked, "Service ranges of west"},
		{"another link's range", func(a, b *Side) { a.Links = []Link{{Name: "fiji", PodCIDRs: mustPrefixes(t, "10.2.0.0/16")}} }, CheckRanges, Warning, "of fiji, which is linked to west"},
		{"masquerading", func(a, b *Side) {
			a.Masquerade = Masquerade{Present: true, Except: mustPrefixes(t, "10.1.0.0/16", "10.2.1.0/25")}
		}, CheckMasquerade, Failed, "Add 10.2.1.0/24 to nonMasqueradeCIDRs in ConfigMap kube-system/azure-ip-masq-agent-config of west"},
		{"masquerading without a configuration", func(a, b *Side) { a.Masquerade = Masquerade{Present: true} }, CheckMasquerade, Failed, "does not except 10.2.1.0/24"},
		{"masquerading towards the unknown", func(a, b *Side) { a.Masquerade.Present = true; b.Ranges.Pods = nil }, CheckMasquerade, NotChecked, "pods of canada are not known"},
		{"masquerading not readable", func(a, b *Side) { a.Masquerade.NotRead = "forbidden" }, CheckMasquerade, NotChecked, "forbidden"},
		{"masquerading malformed", func(a, b *Side) { a.Masquerade = Masquerade{Present: true, Malformed: []string{"x"}} }, CheckMasquerade, Warning, "x"},
		{"overlay", func(a, b *Side) {
			b.Nodes[0].Labels = map[string]string{"kubernetes.azure.com/podnetwork-type": "overlay"}
		}, CheckNetworkMode, Failed, "an overlay network"},
		{"overlay of a cluster that is only linked", func(a, b *Side) {
			b.Learns = false
			b.Nodes[0].Labels = map[string]string{"kubernetes.azure.com/podnetwork-type": "overlay"}
		}, CheckNetworkMode, Failed, "an overlay network"},
		{"host routing", func(a, b *Side) {
			a.Nodes[0].Labels = map[string]string{"kubernetes.azure.com/ebpf-host-routing": "true"}
		}, CheckNetworkMode, Failed, "eBPF host routing"},
		{"Cilium", func(a, b *Side) {
			a.Nodes[0].Labels = map[string]string{"kubernetes.azure.com/ebpf-dataplane": "cilium"}
		}, CheckNetworkMode, Failed, "Cilium"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := sides(t)
			tt.change(&a, &b)
			results := Preflight(a, b, nil)
			i := slices.IndexFunc(results, func(r Result) bool {
				return r.Check == tt.check && r.Level == tt.level && strings.Contains(r.String(), tt.says)
			})
			if i < 0 {
				t.Fatalf("not found in %v", results)
			}
			if tt.level == Failed {
				if results[i].Advice == "" {
					t.Errorf("no advice: %s", results[i])
				}
				if !failed(results) || failed(Preflight(a, b, []string{tt.check})) {
					t.Error("it does not stop connect, or cannot be overruled")
				}
			}
		})
	}
}

func TestWhatIsOnlyLinkedNeedsNothingOfOurs(t *testing.T) {
	a, b := sides(t)
	b.Learns, b.HasCRD, b.HasNamespace, b.Agents, b.Probes, b.Version = false, false, false, nil, nil, "v1.25.0"
	b.Nodes[0].Labels = map[string]string{"kubernetes.azure.com/ebpf-host-routing": "true"}
	if results := Preflight(a, b, nil); failed(results) {
		t.Errorf("got %v", results)
	}
}

func TestMasqueradeExceptionsMayCoverARangeTogether(t *testing.T) {
	a, b := sides(t)
	a.Masquerade = Masquerade{Present: true, Except: mustPrefixes(t, "10.2.1.0/25", "10.2.1.128/26", "10.2.1.192/26")}
	if results := Preflight(a, b, nil); failed(results) {
		t.Errorf("got %v", results)
	}
}

func TestRangesComeFromTheBestSource(t *testing.T) {
	node := func(cidr string) Node { return Node{PodCIDRs: mustPrefixes(t, cidr)} }
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		name  string
		facts Facts
		given Ranges
		pods  []string
		from  string
	}{
		{"a flag wins", Facts{Config: AgentConfig{PodCIDRs: []string{"10.1.0.0/16"}}}, Ranges{Pods: mustPrefixes(t, "10.9.0.0/16")}, []string{"10.9.0.0/16"}, fromFlag},
		{"then the configuration", Facts{Config: AgentConfig{PodCIDRs: []string{"10.1.2.0/24", "10.1.0.0/16", "fd00::/64"}}, Nodes: []Node{node("10.3.0.0/24")}}, Ranges{}, []string{"10.1.0.0/16", "fd00::/64"}, fromConfig},
		{"then podCIDRs that hold the pods", Facts{Nodes: []Node{node("10.3.0.0/24"), node("10.3.1.0/24")}, PodAddresses: []netip.Addr{addr("10.3.1.9")}}, Ranges{}, []string{"10.3.0.0/23"}, fromNodes},
		{"but not those that do not, as with a node subnet", Facts{Nodes: []Node{node("10.244.0.0/24")}, PodAddresses: []netip.Addr{addr("10.1.1.9")}}, Ranges{}, nil, ""},
		{"nor without pods that show it", Facts{Nodes: []Node{node("10.244.0.0/24")}}, Ranges{}, nil, ""},
		{"nothing is guessed", Facts{PodAddresses: []netip.Addr{addr("10.1.1.9")}}, Ranges{}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ranges(tt.facts, tt.given)
			if err != nil || !slices.Equal(texts(r.Pods), tt.pods) || r.PodsFrom != tt.from {
				t.Errorf("got %v from %q, %v", r.Pods, r.PodsFrom, err)
			}
		})
	}
	if _, err := ranges(Facts{Config: AgentConfig{NodeCIDRs: []string{"10.1.0.1/16"}}}, Ranges{}); err == nil || !strings.Contains(err.Error(), "10.1.0.0/16 is expected") {
		t.Errorf("host bits: %v", err)
	}
}

// TestJoinAndCoveredAgreeWithEveryAddress checks both against single addresses.
func TestJoinAndCoveredAgreeWithEveryAddress(t *testing.T) {
	var all []netip.Prefix
	for i := range 256 {
		if i%7 != 3 && i != 200 {
			all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32))
		}
	}
	joined := join(all)
	if len(joined) >= len(all) {
		t.Errorf("%d ranges of %d", len(joined), len(all))
	}
	in := func(ps []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	for i := range 256 {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		if in(all, a) != in(joined, a) {
			t.Fatalf("%s: %v before, %v joined", a, in(all, a), in(joined, a))
		}
	}
	for bits := 24; bits <= 32; bits++ {
		for i := 0; i < 256; i += 1 << (32 - bits) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), bits)
			want := true
			for j := i; j < i+1<<(32-bits); j++ {
				want = want && in(all, netip.AddrFrom4([4]byte{10, 0, 0, byte(j)}))
			}
			if covered(p, joined) != want {
				t.Fatalf("%s: covered %v, want %v", p, !want, want)
			}
		}
	}
}

func FuzzCoveredNeverExceedsItsRanges(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0, 8, 10, 128, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		var ps []netip.Prefix
		for ; len(b) >= 5; b = b[5:] {
			ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), int(b[4]%33)).Masked())
		}
		if len(ps) < 2 {
			return
		}
		p, rest := ps[0], ps[1:]
		if got, joined := covered(p, rest), covered(p, join(rest)); got != joined {
			t.Errorf("%s in %v: %v, in the joined: %v", p, rest, got, joined)
		}
		if covered(p, rest) && !slices.ContainsFunc(rest, func(r netip.Prefix) bool { return r.Contains(p.Addr()) }) {
			t.Errorf("%s in %v: its first address is not", p, rest)
		}
	})
}
