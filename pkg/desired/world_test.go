package desired

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

// The world of the tables: three pods of this node, one without policy, and two
// interfaces without a known pod.
const (
	cart, shop, open   = "azv1", "azv2", "azv3"
	veteran, newcomer  = "azv8", "azv9" // unknown: grandfathered, and not
	cartIP, cartIP6    = "10.0.0.1", "fd00::1"
	shopIP, openIP     = "10.0.0.2", "10.0.0.3"
	veteranIP, newIP   = "10.0.0.8", "10.0.0.9"
	friend, friend6    = "10.9.0.1", "fd09::1"
	stranger           = "10.9.0.2"
	outside            = "192.0.2.1"
	webPort, otherPort = 8080, 9090
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(all ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range all {
		out = append(out, addr(s))
	}
	return out
}

func addrSet(all ...string) Members {
	var m Members
	for _, a := range all {
		m.Addrs = m.Addrs.With(addr(a))
	}
	return m
}

func portSet(all ...string) Members {
	var m Members
	for _, a := range all {
		m.Ports = m.Ports.With(netip.MustParseAddrPort(a))
	}
	return m
}

func dynamic(kind SetKind, family Family, protocol model.Protocol, text string) SetSpec {
	return SetSpec{ID: SetIDOf(family, text), Kind: kind, Family: family, Protocol: protocol, Text: text}
}

func friends4() SetSpec { return dynamic(Addresses, IPv4, 0, `v1 mesh app == "friend"`) }
func friends6() SetSpec { return dynamic(Addresses, IPv6, 0, `v1 mesh app == "friend"`) }
func webs() SetSpec     { return dynamic(AddressPorts, IPv4, model.TCP, `v1 port web TCP all()`) }

func offices() SetSpec {
	return NewNetworks(IPv4, []Network{
		{Prefix: netip.MustParsePrefix("192.0.2.128/25"), Except: true},
		{Prefix: netip.MustParsePrefix("192.0.2.0/24")},
		{Prefix: netip.MustParsePrefix("192.0.2.192/28")},
	})
}

func forbidden() SetSpec {
	return NewNetworks(IPv4, []Network{{Prefix: netip.MustParsePrefix("198.51.100.0/24")}})
}

// side is a Side of policies default/NAME, each rule from each of them.
func side(rules []Rule, policies ...string) *Side {
	s := &Side{List: NewList(rules)}
	for _, p := range policies {
		s.Policies = append(s.Policies, model.PolicyKey("canada", "default", p))
	}
	for range s.List.Rules {
		var origins []Origin
		for _, p := range s.Policies {
			origins = append(origins, Origin{Policy: p, Rule: 0, Peer: -1, Port: 0})
		}
		s.Origins = append(s.Origins, origins)
	}
	return s
}

func pod(iface, name string, index int, ips ...string) Endpoint {
	return Endpoint{
		Interface: model.Interface{Name: iface, Index: index, Addrs: addrs(ips...)},
		Pod:       model.PodKey("canada", "default", name),
		UID:       model.UID{byte(index)},
		Addrs:     addrs(ips...),
	}
}

// world: cart admits friends on 8080 and the offices, and may send to web ports,
// and anywhere but to the forbidden network with UDP; shop is isolated and
// allows nothing; open has no policy.
func world() *State {
	c, s, o := pod(cart, "cart", 11, cartIP, cartIP6), pod(shop, "shop", 12, shopIP), pod(open, "open", 13, openIP)
	c.Ingress = side([]Rule{
		{Family: IPv4, Protocol: model.TCP, First: webPort, Last: webPort + 10, Peer: Peer{Set: friends4().ID}},
		{Family: IPv6, Protocol: model.TCP, First: webPort, Last: webPort + 10, Peer: Peer{Set: friends6().ID}},
		{Family: IPv4, Peer: Peer{Set: offices().ID}},
		{Protocol: model.SCTP},
	}, "admit", "offices")
	c.Egress = side([]Rule{
		{Family: IPv4, Protocol: model.TCP, Peer: Peer{Set: webs().ID}},
		{Family: IPv4, Protocol: model.UDP, Peer: Peer{Set: forbidden().ID, Not: true}},
		{Family: IPv6, Protocol: model.UDP, First: 53, Last: 53, Peer: Peer{Block: netip.MustParsePrefix("::/0")}},
	}, "send")
	s.Ingress, s.Egress = side(nil, "deny"), side(nil, "deny")
	sets := []SetSpec{friends4(), friends6(), webs(), offices(), forbidden()}
	sortSets(sets)
	return &State{
		Gen: 7,
		Rules: &Rules{
			Endpoints: []Endpoint{c, s, o},
			Unknown: []Unknown{
				{Interface: model.Interface{Name: veteran, Index: 8, Addrs: addrs(veteranIP)}, Grandfathered: true},
				{Interface: model.Interface{Name: newcomer, Index: 9, Addrs: addrs(newIP)}},
			},
			Protected:  true,
			Exceptions: []Exception{{open, netip.MustParsePrefix("172.16.0.0/12")}},
			Sets:       sets,
		},
		Sets: pset.Map[SetID, Members]{}.
			With(friends4().ID, addrSet(friend, openIP)).
			With(friends6().ID, addrSet(friend6)).
			With(webs().ID, portSet("10.9.0.1:8080", "10.9.0.2:9090", "10.0.0.3:80")),
		Released:      pset.Map[netip.Addr, uint64]{}.With(addr("10.9.0.7"), 6),
		ReleasedFloor: 2,
	}
}

func sortSets(sets []SetSpec) {
	slices.SortFunc(sets, func(a, b SetSpec) int { return cmp.Compare(a.ID, b.ID) })
}
