package delta

import (
	"net/netip"
	"testing"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

func TestTightenedOfLists_2_11(t *testing.T) {
	tcp80 := ports(from(friends()), model.TCP, 80, 80)
	tcp80to90 := ports(from(friends()), model.TCP, 80, 90)
	tcp := ports(from(friends()), model.TCP, 0, 0)
	all := desired.Rule{}
	networks := desired.NewNetworks(desired.IPv4, []desired.Network{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}})
	not := from(networks)
	not.Peer.Not = true
	for _, c := range []struct {
		name     string
		old, now *desired.Side
		want     bool
	}{
		{"isolated from now on", nil, side(), true},
		{"isolated by a rule", nil, side(tcp80), true},
		{"isolated, and all allowed", nil, side(all), false},
		{"isolated, and all of both families allowed", nil, side(block("0.0.0.0/0"), block("::/0")), true}, // not sure: cheap
		{"isolated no more", side(tcp80), nil, false},
		{"the last rule goes", side(tcp80), side(), true},
		{"the first rule comes", side(), side(tcp80), false},
		{"a rule more", side(tcp80), side(tcp80, from(foes())), false},
		{"a rule less", side(tcp80, from(foes())), side(tcp80), true},
		{"the same rules in another value", side(tcp80), side(tcp80), false},
		{"more ports", side(tcp80), side(tcp80to90), false},
		{"fewer ports", side(tcp80to90), side(tcp80), true},
		{"all ports", side(tcp80), side(tcp), false},
		{"no longer all ports", side(tcp), side(tcp80), true},
		{"all protocols", side(tcp80), side(from(friends())), false},
		{"no longer all protocols", side(from(friends())), side(tcp), true},
		{"another protocol", side(tcp80), side(ports(from(friends()), model.UDP, 80, 80)), true},
		{"any peer", side(tcp80), side(ports(all, model.TCP, 80, 80)), false},
		{"any peer, other port", side(tcp80), side(ports(all, model.TCP, 81, 81)), true},
		{"any address of the family", side(tcp80), side(block("0.0.0.0/0")), false},
		{"any address of the other family", side(tcp80), side(block("::/0")), true},
		{"a block by any of its family", side(block("10.0.0.0/8")), side(block("0.0.0.0/0")), false},
		{"no longer any peer", side(ports(all, model.TCP, 80, 80)), side(tcp80), true},
		{"any peer to a whole family", side(all), side(block("0.0.0.0/0")), true},
		{"another set", side(tcp80), side(ports(from(foes()), model.TCP, 80, 80)), true},
		{"a set with ports by any peer", side(from(webs())), side(ports(all, model.TCP, 0, 0)), false},
		{"not in, to in", side(not), side(from(networks)), true},
		{"in, to not in", side(from(networks)), side(not), true},
	} {
		old := rules(pod(1, c.old, nil), pod(2, nil, nil))
		now := rules(pod(1, c.now, nil), pod(2, nil, nil))
		if got := tightened(old, now); got != c.want {
			t.Errorf("ingress: %s: got %v", c.name, got)
		}
		if got := tightened(rules(pod(1, nil, c.old)), rules(pod(1, nil, c.now))); got != c.want {
			t.Errorf("egress: %s: got %v", c.name, got)
		}
	}
}

func TestTightenedOfInterfaces_2_11(t *testing.T) {
	open := func(r *desired.Rules) *desired.Rules {
		r.Protected = false
		return r
	}
	ownNode := func(r *desired.Rules) *desired.Rules {
		r.OwnNodeEgress = true
		return r
	}
	with := func(u ...desired.Unknown) *desired.Rules {
		r := rules()
		r.Unknown = u
		return r
	}
	isolated, free := pod(1, side(), side()), pod(1, nil, nil)
	successor := free
	successor.Interface.Index++
	successor.UID = model.UID{9}
	successor.Ingress = side()
	gateway := func(r *desired.Rules) *desired.Rules {
		r.Exceptions = []desired.Exception{{Interface: "azv1", Prefix: netip.MustParsePrefix("172.16.0.0/12")}}
		return r
	}
	for _, c := range []struct {
		name     string
		old, now *desired.Rules
		want     bool
	}{
		{"a new pod with policy", rules(), rules(isolated), false},
		{"a new pod with policy, while nothing was dropped", open(rules()), rules(isolated), true},
		{"the same, unprotected before and after", open(rules()), open(rules(isolated)), true},
		{"a new pod without policy, unprotected", open(rules()), open(rules(free)), false},
		{"a pod is gone", rules(isolated), rules(), false},
		{"another pod on an interface of the same name", rules(free), rules(successor), false},
		{"the skeleton, then what is known", desired.Skeleton().Rules, rules(isolated), false},
		{"protection", open(rules(free)), rules(free), true},
		{"protection no more", rules(free), open(rules(free)), false},
		{"egress to the own node", rules(free), ownNode(rules(free)), true},
		{"no more", ownNode(rules(free)), rules(free), false},
		{"a pod is not known any more", rules(free), with(unknown(1, false)), true},
		{"whatever its rules", rules(isolated), with(unknown(1, false)), true}, // it may reach itself
		{"but grandfathered", rules(free), with(unknown(1, true)), false},
		{"not known, unprotected", open(rules(free)), open(with(unknown(1, false))), false},
		{"not grandfathered any more", with(unknown(1, true)), with(unknown(1, false)), true},
		{"unknown as before", with(unknown(1, false)), with(unknown(1, false)), false},
		{"an unknown one more", rules(), with(unknown(1, false)), false},
		{"a grandfathered one becomes known", with(unknown(1, true)), rules(free), false},
		{"and isolated", with(unknown(1, true)), rules(isolated), true},
		{"an unknown one becomes known", with(unknown(1, false)), rules(isolated), false},
		{"and was not dropped", open(with(unknown(1, false))), open(rules(isolated)), true},
		{"an exception comes", rules(free), gateway(rules(free)), false},
		{"an exception goes", gateway(rules(free)), rules(free), false},
		{"who had exceptions goes", gateway(rules(free)), rules(), true},
		{"who had exceptions has a successor", gateway(rules(free)), gateway(rules(successor)), true},
	} {
		if got := tightened(c.old, c.now); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}
