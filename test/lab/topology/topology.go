// Package topology says what a lab consists of: clusters, their VNets, nodes
// and every address, all derived from a few options. It is pure, and it may
// import nothing of this repository.
package topology

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Limits that keep every address and interface name within its field.
const (
	// MaxClusters: the second byte of a VNet is the cluster's number and that
	// of its Services is 100 more.
	MaxClusters = 99
	// MaxNodes: the third byte of a pod address is the node's number, 255 is
	// the control plane's.
	MaxNodes = 100
	// MaxNameLength: a router's link to a peer is named peer-NAME, and an
	// interface name has at most 15 characters.
	MaxNameLength = 10
)

// Options are what a user may ask for.
type Options struct {
	Clusters  []string `json:"clusters"`
	Nodes     int      `json:"nodes"` // in each cluster
	DualStack bool     `json:"dualStack"`
	// Iptables is the backend that the nodes use: nft or legacy.
	Iptables string `json:"iptables"`
}

// Pair is an IPv4 address or prefix and, in a dual-stack lab, its IPv6 twin.
type Pair[T any] struct{ V4, V6 T }

// Lab is the whole of it.
type Lab struct {
	Options  Options
	Clusters []Cluster
	// Outside is a host in no cluster, reachable from every VNet.
	Outside Host
}

// Cluster is one Kubernetes cluster in a VNet of its own.
type Cluster struct {
	Name         string
	Number       int // from 1
	VNet         Pair[netip.Prefix]
	Services     Pair[netip.Prefix]
	DNS          Pair[netip.Addr] // the ClusterIPs of kube-dns
	APIService   netip.Addr       // the ClusterIP of the API server
	Router       string           // the VNet router's namespace
	Gateway      Pair[netip.Addr] // what nodes use as gateway
	ControlPlane Host
	Nodes        []Node
}

// Host is a network namespace with addresses.
type Host struct {
	Namespace string // name under /run/netns
	Addresses Pair[netip.Addr]
}

// Node is a host that runs pods.
type Node struct {
	Host
	Name    string
	Cluster string
	Number  int // from 1
	// Pods are the first and last pod address; the fabric has a host route for
	// each, as Azure has once the addresses are assigned to the node's NIC.
	Pods Pair[Range]
}

// Range is a run of addresses, both ends included.
type Range struct{ First, Last netip.Addr }

// All lists the addresses of the range.
func (r Range) All() []netip.Addr {
	var all []netip.Addr
	for a := r.First; a.IsValid() && !r.Last.Less(a); a = a.Next() {
		all = append(all, a)
	}
	return all
}

// labelForm is a DNS label; names become host names and interface names.
var labelForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// Validate says what is wrong with the options, if anything.
func (o Options) Validate() error {
	if len(o.Clusters) < 1 || len(o.Clusters) > MaxClusters {
		return fmt.Errorf("clusters: 1 to %d names expected, got %d", MaxClusters, len(o.Clusters))
	}
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return fmt.Errorf("nodes: 1 to %d expected, got %d", MaxNodes, o.Nodes)
	}
	if o.Iptables != "nft" && o.Iptables != "legacy" {
		return fmt.Errorf("iptables: nft or legacy expected, got %q", o.Iptables)
	}
	for i, name := range o.Clusters {
		switch {
		case !labelForm.MatchString(name) || len(name) > MaxNameLength:
			return fmt.Errorf("clusters: %q is not a DNS label of at most %d characters", name, MaxNameLength)
		case name == "local" || name == "any" || name == "outside":
			return fmt.Errorf("clusters: the name %q is reserved", name)
		case slices.Contains(o.Clusters[:i], name):
			return fmt.Errorf("clusters: %q is named twice", name)
		}
	}
	return nil
}

// New derives the lab from valid options.
func New(o Options) Lab {
	lab := Lab{Options: o, Outside: Host{
		Namespace: "outside",
		// The documentation ranges of RFC 5737 and RFC 3849: surely no VNet.
		Addresses: addrs(o, "203.0.113.10", "2001:db8::10"),
	}}
	for i, name := range o.Clusters {
		lab.Clusters = append(lab.Clusters, cluster(o, name, i+1))
	}
	return lab
}

func cluster(o Options, name string, n int) Cluster {
	c := Cluster{
		Name: name, Number: n, Router: name + "-vnet",
		VNet: prefixes(o, fmt.Sprintf("10.%d.0.0/16", n), fmt.Sprintf("fd00:%x::/48", n)),
		// /112 because the API server refuses larger IPv6 Service ranges than
		// it can keep a bitmap of.
		Services: prefixes(o, fmt.Sprintf("10.%d.0.0/16", 100+n), fmt.Sprintf("fd00:%x::/112", 0x100+n)),
		DNS:      addrs(o, fmt.Sprintf("10.%d.0.10", 100+n), fmt.Sprintf("fd00:%x::a", 0x100+n)),
		// fe80::1234:5678:9abc is the gateway that Azure uses for IPv6.
		Gateway:    addrs(o, fmt.Sprintf("10.%d.0.1", n), "fe80::1234:5678:9abc"),
		APIService: netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", 100+n)),
		ControlPlane: Host{
			Namespace: name + "-cp",
			Addresses: addrs(o, fmt.Sprintf("10.%d.255.4", n), fmt.Sprintf("fd00:%x:0:ff::4", n)),
		},
	}
	for k := 1; k <= o.Nodes; k++ {
		node := Node{Name: fmt.Sprintf("node-%d", k), Cluster: name, Number: k}
		node.Namespace = name + "-" + node.Name
		node.Addresses = addrs(o, fmt.Sprintf("10.%d.0.%d", n, 3+k), fmt.Sprintf("fd00:%x::%x", n, 3+k))
		first := addrs(o, fmt.Sprintf("10.%d.%d.10", n, k), fmt.Sprintf("fd00:%x:0:%x::10", n, k))
		last := addrs(o, fmt.Sprintf("10.%d.%d.250", n, k), fmt.Sprintf("fd00:%x:0:%x::100", n, k))
		node.Pods.V4 = Range{first.V4, last.V4}
		node.Pods.V6 = Range{first.V6, last.V6}
		c.Nodes = append(c.Nodes, node)
	}
	return c
}

func addrs(o Options, v4, v6 string) Pair[netip.Addr] {
	p := Pair[netip.Addr]{V4: netip.MustParseAddr(v4)}
	if o.DualStack {
		p.V6 = netip.MustParseAddr(v6)
	}
	return p
}

func prefixes(o Options, v4, v6 string) Pair[netip.Prefix] {
	p := Pair[netip.Prefix]{V4: netip.MustParsePrefix(v4)}
	if o.DualStack {
		p.V6 = netip.MustParsePrefix(v6)
	}
	return p
}

// Addrs lists the addresses of a pair that are there, IPv4 first.
func Addrs(p Pair[netip.Addr]) []netip.Addr {
	all := []netip.Addr{p.V4}
	if p.V6.IsValid() {
		all = append(all, p.V6)
	}
	return all
}

// Prefixes lists the prefixes of a pair that are there, IPv4 first.
func Prefixes(p Pair[netip.Prefix]) []netip.Prefix {
	all := []netip.Prefix{p.V4}
	if p.V6.IsValid() {
		all = append(all, p.V6)
	}
	return all
}

// JoinAddrs is the addresses of a pair as one comma-separated text.
func JoinAddrs(p Pair[netip.Addr]) string { return join(Addrs(p)) }

// JoinPrefixes is the prefixes of a pair as one comma-separated text.
func JoinPrefixes(p Pair[netip.Prefix]) string { return join(Prefixes(p)) }

func join[T fmt.Stringer](all []T) string {
	texts := make([]string, len(all))
	for i, a := range all {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}

// Cluster finds a cluster by name.
func (l Lab) Cluster(name string) (Cluster, error) {
	for _, c := range l.Clusters {
		if c.Name == name {
			return c, nil
		}
	}
	return Cluster{}, fmt.Errorf("no cluster %q in this lab; it has %s", name, strings.Join(l.Options.Clusters, ", "))
}

// Node finds a node by CLUSTER/NODE.
func (l Lab) Node(path string) (Node, error) {
	clusterName, nodeName, ok := strings.Cut(path, "/")
	if !ok {
		return Node{}, fmt.Errorf("%q: CLUSTER/NODE expected, such as %s/node-1", path, l.Options.Clusters[0])
	}
	c, err := l.Cluster(clusterName)
	if err != nil {
		return Node{}, err
	}
	for _, n := range c.Nodes {
		if n.Name == nodeName {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("no node %q in cluster %s; it has node-1 to node-%d", nodeName, c.Name, len(c.Nodes))
}

// Path is CLUSTER/NODE.
func (n Node) Path() string { return n.Cluster + "/" + n.Name }
