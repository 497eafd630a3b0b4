package admin

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

// partyForm is what a party may look like.
const partyForm = "[CLUSTER/]NAMESPACE/POD, an address, node (this one) or node:[CLUSTER/]NAME"

// nodePrefix begins the name of a node: no name of a namespace has a colon.
const nodePrefix = "node:"

// party is one side of a connection, with its addresses.
type party struct {
	api.Party
	place   desired.Place
	addrs   []netip.Addr
	entry   *index.Entry // nil if no endpoint is known
	cluster string       // empty if it is of none
}

// party finds out who is meant by the text of a parameter.
func (r request) party(parameter string) (*party, error) {
	text := r.query.Get(parameter)
	p, err := r.find(text)
	if err != nil {
		if f := (*failure)(nil); errors.As(err, &f) {
			f.body.Message = parameter + " " + f.body.Message
		}
		return nil, err
	}
	p.Asked, p.Addresses = text, texts(p.addrs)
	return p, nil
}

func (r request) find(text string) (*party, error) {
	self := r.snapshot.Self
	if name, ok := strings.CutPrefix(text, nodePrefix); ok {
		cluster, node, both := strings.Cut(name, "/")
		if !both {
			cluster, node = self.Cluster, name
		}
		if cluster == "" || node == "" || strings.Contains(node, "/") {
			return nil, invalid("%q: expected %s", text, partyForm)
		}
		return r.nodeParty(cluster, node)
	}
	if text == strings.TrimSuffix(nodePrefix, ":") {
		return r.nodeParty(self.Cluster, self.Node)
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return r.addressParty(a)
	}
	parts := strings.Split(text, "/")
	_, err := netip.ParsePrefix(text)
	if err == nil || len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return nil, invalid("%q: expected %s", text, partyForm)
	}
	if len(parts) == 2 {
		parts = append([]string{self.Cluster}, parts...)
	}
	return r.podParty(parts[0], parts[1], parts[2])
}

func (r request) nodeParty(cluster, name string) (*party, error) {
	if err := r.checkCluster(cluster); err != nil {
		return nil, err
	}
	e, ok := r.snapshot.View.Endpoint(model.NodeKey(cluster, name))
	if !ok {
		return nil, notFound("node %s of cluster %s is not known", name, cluster)
	}
	return r.endpointParty(e)
}

func (r request) podParty(cluster, namespace, name string) (*party, error) {
	if err := r.checkCluster(cluster); err != nil {
		return nil, err
	}
	e, ok := r.snapshot.View.Endpoint(model.PodKey(cluster, namespace, name))
	if !ok {
		return nil, notFound("%s/%s is no endpoint of cluster %s: there is no such pod, or it has no address yet, has finished, "+
			"or uses its node's network (then name the node: %s[CLUSTER/]NAME)", namespace, name, cluster, nodePrefix)
	}
	return r.endpointParty(e)
}

// endpointParty is that of an endpoint, with all addresses that it owns.
func (r request) endpointParty(e *index.Entry) (*party, error) {
	by := reference(e.Key)
	p := &party{entry: e, cluster: e.Key.Cluster, Party: api.Party{Kind: e.Key.Kind.String(), Endpoint: &by, Node: e.Node}}
	for _, a := range e.Addresses {
		if e.Owns(a) {
			p.addrs = append(p.addrs, a)
		}
	}
	if len(p.addrs) == 0 {
		var why []string
		for _, x := range e.Refused {
			why = append(why, fmt.Sprintf("%s: %s", x.Address, x.Reason))
		}
		return nil, notFound("%s has no address that it is known by (%s): nothing can be told of it; ask about the address itself",
			by, strings.Join(why, ", "))
	}
	if e.Key.Cluster != r.snapshot.Self.Cluster || e.Node != r.snapshot.Self.Node {
		return p, nil
	}
	if p.Here = true; e.Key.Kind == model.KindNode {
		p.place.Node = true
		return p, nil
	}
	// Without an interface of its own it is judged as behind one that is not known.
	p.place.Interface = policy.InterfaceName(e.Key.Namespace, e.Key.Name)
	if d := endpointOf(r.snapshot.Desired.Rules, e.Key); d != nil {
		p.place.Interface = d.Interface.Name
	}
	p.Interface = p.place.Interface
	return p, nil
}

// addressParty is who has an address: what this node routes to a pod interface
// is there, whatever an API server says.
func (r request) addressParty(a netip.Addr) (*party, error) {
	a = a.Unmap()
	if a.Zone() != "" || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return nil, invalid("%s is not an address between which packets are forwarded: expected one of a pod, of a node or outside", a)
	}
	rules := r.snapshot.Desired.Rules
	for i := range rules.Endpoints {
		if e := &rules.Endpoints[i]; slices.Contains(e.Interface.Addrs, a) {
			by := reference(e.Pod)
			entry, _ := r.snapshot.View.Endpoint(e.Pod)
			return &party{
				entry: entry, cluster: e.Pod.Cluster, addrs: []netip.Addr{a}, place: desired.Place{Interface: e.Interface.Name},
				Party: api.Party{Kind: api.KindPod, Endpoint: &by, Node: r.snapshot.Self.Node, Here: true, Interface: e.Interface.Name},
			}, nil
		}
	}
	for _, u := range rules.Unknown {
		if slices.Contains(u.Addrs, a) {
			return &party{
				cluster: r.snapshot.Self.Cluster, addrs: []netip.Addr{a}, place: desired.Place{Interface: u.Name},
				Party: api.Party{Kind: api.PartyInterface, Node: r.snapshot.Self.Node, Here: true, Interface: u.Name},
			}, nil
		}
	}
	if e, ok := r.snapshot.View.Owner(a); ok {
		p, err := r.endpointParty(e)
		if err == nil {
			p.addrs = []netip.Addr{a}
		}
		return p, err
	}
	return &party{addrs: []netip.Addr{a}, Party: api.Party{Kind: api.PartyOutside}}, nil
}

// of is the party's address of a family, and whether it has one.
func (p *party) of(f desired.Family) (netip.Addr, bool) {
	i := slices.IndexFunc(p.addrs, func(a netip.Addr) bool { return desired.FamilyOf(a) == f })
	if i < 0 {
		return netip.Addr{}, false
	}
	return p.addrs[i], true
}

// name is what people call it.
func (p *party) name() string {
	switch {
	case p.Endpoint != nil:
		return strings.ToLower(p.Kind) + " " + strings.TrimPrefix(p.Endpoint.String(), p.Endpoint.Kind+" ")
	case p.Kind == api.PartyInterface:
		return "interface " + p.Interface
	}
	return p.addrs[0].String()
}
