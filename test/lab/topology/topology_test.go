package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func valid() Options {
	return Options{Clusters: []string{"west", "canada"}, Nodes: 2, Iptables: "nft"}
}

// named is a number of cluster names of the greatest length.
func named(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("cluster-%02d", i+1)
	}
	return names
}

func TestValidateSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Options)
		want   string // empty: valid
	}{
		{"default", func(*Options) {}, ""},
		{"dual-stack, legacy", func(o *Options) { o.DualStack, o.Iptables = true, "legacy" }, ""},
		{"longest name", func(o *Options) { o.Clusters = []string{"a23456789z"} }, ""},
		{"most clusters", func(o *Options) { o.Clusters = named(MaxClusters) }, ""},
		{"most nodes", func(o *Options) { o.Nodes = MaxNodes }, ""},
		{"no cluster", func(o *Options) { o.Clusters = nil }, "clusters: 1 to 99 names expected, got 0"},
		{"too many clusters", func(o *Options) { o.Clusters = named(MaxClusters + 1) }, "clusters: 1 to 99 names expected, got 100"},
		{"no node", func(o *Options) { o.Nodes = 0 }, "nodes: 1 to 100 expected, got 0"},
		{"too many nodes", func(o *Options) { o.Nodes = 101 }, "nodes: 1 to 100 expected, got 101"},
		{"no backend", func(o *Options) { o.Iptables = "" }, `iptables: nft or legacy expected, got ""`},
		{"twice", func(o *Options) { o.Clusters = []string{"a", "b", "a"} }, `clusters: "a" is named twice`},
		{"empty name", func(o *Options) { o.Clusters = []string{""} }, `clusters: "" is not a DNS label of at most 10 characters`},
		{"long name", func(o *Options) { o.Clusters = []string{"a2345678901"} }, `"a2345678901" is not a DNS label of at most 10`},
		{"capital", func(o *Options) { o.Clusters = []string{"West"} }, `"West" is not a DNS label`},
		{"dot", func(o *Options) { o.Clusters = []string{"we.st"} }, `"we.st" is not a DNS label`},
		{"slash", func(o *Options) { o.Clusters = []string{"../x"} }, `"../x" is not a DNS label`},
		{"hyphen first", func(o *Options) { o.Clusters = []string{"-west"} }, `"-west" is not a DNS label`},
		{"hyphen last", func(o *Options) { o.Clusters = []string{"west-"} }, `"west-" is not a DNS label`},
		{"newline", func(o *Options) { o.Clusters = []string{"west\n"} }, `is not a DNS label`},
		{"reserved", func(o *Options) { o.Clusters = []string{"local"} }, `the name "local" is reserved`},
		{"reserved any", func(o *Options) { o.Clusters = []string{"any"} }, `the name "any" is reserved`},
		{"reserved outside", func(o *Options) { o.Clusters = []string{"outside"} }, `the name "outside" is reserved`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := valid()
			tt.change(&o)
			err := o.Validate()
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("want %q, got %v", tt.want, err)
			}
		})
	}
}

func TestTheDefaultLabHasTheDocumentedAddresses(t *testing.T) {
	o := valid()
	o.DualStack = true
	west := New(o).Clusters[0]
	node := west.Nodes[1]
	for _, tt := range []struct{ got, want string }{
		{JoinPrefixes(west.VNet), "10.1.0.0/16,fd00:1::/48"},
		{JoinPrefixes(west.Services), "10.101.0.0/16,fd00:101::/112"},
		{JoinAddrs(west.DNS), "10.101.0.10,fd00:101::a"},
		{JoinAddrs(west.Gateway), "10.1.0.1,fe80::1234:5678:9abc"},
		{JoinAddrs(west.ControlPlane.Addresses), "10.1.255.4,fd00:1:0:ff::4"},
		{JoinAddrs(node.Addresses), "10.1.0.5,fd00:1::5"},
		{node.Pods.V4.First.String() + "–" + node.Pods.V4.Last.String(), "10.1.2.10–10.1.2.250"},
		{node.Pods.V6.First.String(), "fd00:1:0:2::10"},
		{node.Path() + " " + node.Namespace + " " + west.Router, "west/node-2 west-node-2 west-vnet"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
	if got := JoinAddrs(New(valid()).Clusters[1].Nodes[0].Addresses); got != "10.2.0.4" {
		t.Errorf("without dual-stack a node has %s", got)
	}
}

// seen notices what comes twice.
type seen map[string]string

func (s seen) add(t *testing.T, what, owner string) {
	t.Helper()
	if before, there := s[what]; there {
		t.Errorf("%s is both %s and %s", what, before, owner)
	}
	s[what] = owner
}

func TestAllAddressesAndNamesAreDistinctAndInTheirPrefixes(t *testing.T) {
	for _, size := range []struct{ clusters, nodes int }{{1, 1}, {2, 2}, {3, MaxNodes}, {MaxClusters, 3}} {
		t.Run(fmt.Sprintf("%d clusters of %d nodes", size.clusters, size.nodes), func(t *testing.T) {
			lab := New(Options{Clusters: named(size.clusters), Nodes: size.nodes, DualStack: true, Iptables: "nft"})
			addrs, names := seen{}, seen{}
			checkHost(t, lab.Outside, "outside", addrs, names)
			var prefixes []netip.Prefix
			for _, c := range lab.Clusters {
				names.add(t, c.Router, "router of "+c.Name)
				checkHost(t, c.ControlPlane, c.Name+"'s control plane", addrs, names, Prefixes(c.VNet)...)
				checkCluster(t, c, addrs)
				for _, n := range c.Nodes {
					checkHost(t, n.Host, n.Path(), addrs, names, Prefixes(c.VNet)...)
					checkPods(t, c, n, addrs)
				}
				prefixes = append(prefixes, slices.Concat(Prefixes(c.VNet), Prefixes(c.Services))...)
			}
			for i, p := range prefixes {
				if p != p.Masked() {
					t.Errorf("prefix %s has bits beyond its length", p)
				}
				for _, q := range prefixes[i+1:] {
					if p.Overlaps(q) {
						t.Errorf("prefixes %s and %s overlap", p, q)
					}
				}
			}
		})
	}
}

func checkHost(t *testing.T, h Host, owner string, addrs, names seen, in ...netip.Prefix) {
	t.Helper()
	names.add(t, h.Namespace, owner)
	for i, a := range Addrs(h.Addresses) {
		addrs.add(t, a.String(), owner)
		if len(in) > 0 && !in[i].Contains(a) {
			t.Errorf("%s of %s is not in %s", a, owner, in[i])
		}
	}
}

func checkCluster(t *testing.T, c Cluster, addrs seen) {
	t.Helper()
	addrs.add(t, c.Gateway.V4.String(), c.Name+"'s gateway")
	if !c.VNet.V4.Contains(c.Gateway.V4) || !c.Gateway.V6.IsLinkLocalUnicast() {
		t.Errorf("the gateway of %s is %s", c.Name, JoinAddrs(c.Gateway))
	}
	if !c.Services.V4.Contains(c.DNS.V4) || !c.Services.V6.Contains(c.DNS.V6) {
		t.Errorf("DNS of %s, %s, is no Service address", c.Name, JoinAddrs(c.DNS))
	}
	if c.APIService != c.Services.V4.Addr().Next() {
		t.Errorf("the API server's Service of %s is %s", c.Name, c.APIService)
	}
	// The longest names of interfaces: the kernel takes 15 characters.
	for _, name := range []string{"peer-" + c.Name, "to-" + c.Name, "of-" + c.Name, "n-" + c.Nodes[len(c.Nodes)-1].Name} {
		if len(name) > 15 {
			t.Errorf("interface name %s is too long", name)
		}
	}
}

func checkPods(t *testing.T, c Cluster, n Node, addrs seen) {
	t.Helper()
	for _, family := range []struct {
		pods Range
		vnet netip.Prefix
	}{{n.Pods.V4, c.VNet.V4}, {n.Pods.V6, c.VNet.V6}} {
		// Those are enough for the node's 241 pods of IPv4.
		if all := family.pods.All(); len(all) != 241 {
			t.Errorf("%s has %d pod addresses, %s to %s", n.Path(), len(all), family.pods.First, family.pods.Last)
		}
		for _, a := range []netip.Addr{family.pods.First, family.pods.Last} {
			addrs.add(t, a.String(), "pod of "+n.Path())
			if !family.vnet.Contains(a) {
				t.Errorf("pod address %s of %s is not in %s", a, n.Path(), family.vnet)
			}
		}
	}
}

func TestARangeListsBothEnds(t *testing.T) {
	addr := netip.MustParseAddr
	tests := []struct {
		r    Range
		want []netip.Addr
	}{
		{Range{addr("10.0.0.255"), addr("10.0.1.1")}, []netip.Addr{addr("10.0.0.255"), addr("10.0.1.0"), addr("10.0.1.1")}},
		{Range{addr("10.0.0.1"), addr("10.0.0.1")}, []netip.Addr{addr("10.0.0.1")}},
		{Range{addr("10.0.0.2"), addr("10.0.0.1")}, nil},
		{Range{addr("255.255.255.255"), addr("255.255.255.255")}, []netip.Addr{addr("255.255.255.255")}},
		{Range{}, nil},
	}
	for _, tt := range tests {
		if got := tt.r.All(); !slices.Equal(got, tt.want) {
			t.Errorf("%s–%s: got %v, want %v", tt.r.First, tt.r.Last, got, tt.want)
		}
	}
}

func TestFindingSaysWhatThereIs(t *testing.T) {
	lab := New(valid())
	if c, err := lab.Cluster("canada"); err != nil || c.Number != 2 {
		t.Errorf("got %d, %v", c.Number, err)
	}
	if n, err := lab.Node("canada/node-2"); err != nil || n.Path() != "canada/node-2" {
		t.Errorf("got %s, %v", n.Path(), err)
	}
	for path, want := range map[string]string{
		"node-1":      `"node-1": CLUSTER/NODE expected, such as west/node-1`,
		"east/node-1": `no cluster "east" in this lab; it has west, canada`,
		"west/node-3": `no node "node-3" in cluster west; it has node-1 to node-2`,
		"west/":       `no node "" in cluster west`,
	} {
		if _, err := lab.Node(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, got %v", path, want, err)
		}
	}
}
