package admin

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// portForm is what a port may look like.
const portForm = "PORT[/PROTOCOL], PORT a number or the name of a port of the destination, PROTOCOL one of TCP (if none is given), UDP and SCTP; or ICMP"

// ICMP, by IANA numbers; 0 stands for that of the flow's family.
const (
	icmp4 model.Protocol = 1
	icmp6 model.Protocol = 58
)

// target is a protocol and a port; protocol 0 is ICMP, without one.
type target struct {
	protocol model.Protocol
	port     uint16
}

// targets are what a port parameter means for a destination: several if a name
// stands for several numbers.
func targets(text string, to *party) ([]target, error) {
	if strings.EqualFold(text, "icmp") {
		return []target{{}}, nil
	}
	name, protocolText, given := strings.Cut(text, "/")
	protocol := model.TCP
	if given {
		var ok bool
		if protocol, ok = parseProtocol(protocolText); !ok {
			return nil, invalid("port %q: expected %s", text, portForm)
		}
	}
	if n, err := strconv.ParseUint(name, 10, 16); err == nil && n > 0 {
		return []target{{protocol, uint16(n)}}, nil
	}
	if name == "" || strings.Trim(name, "0123456789") == "" || strings.ContainsAny(name, "/ ") {
		return nil, invalid("port %q: expected %s", text, portForm)
	}
	if to.entry == nil || to.entry.Key.Kind != model.KindPod {
		return nil, invalid("port %q is a name, which only a pod as destination has: expected a number", name)
	}
	var found []target
	var has []string
	for _, p := range to.entry.Ports {
		has = append(has, fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol))
		if p.Name == name && (!given || p.Protocol == protocol) {
			found = append(found, target{p.Protocol, p.Port})
		}
	}
	if len(found) == 0 {
		if len(has) == 0 {
			has = []string{"none"}
		}
		return nil, notFound("%s has no such port %q: expected a number, or one of its named ports: %s", to.name(), text, strings.Join(has, ", "))
	}
	return found, nil
}

func parseProtocol(text string) (model.Protocol, bool) {
	for _, p := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
		if strings.EqualFold(text, p.String()) {
			return p, true
		}
	}
	return 0, false
}

// of is the target's protocol in packets of a family.
func (t target) of(f desired.Family) model.Protocol {
	switch {
	case t.protocol != 0:
		return t.protocol
	case f == desired.IPv4:
		return icmp4
	}
	return icmp6
}

func protocolName(p model.Protocol) string {
	switch p {
	case icmp4:
		return "ICMP"
	case icmp6:
		return "ICMPv6"
	}
	return p.String()
}

// flows are the connections that can be meant: one of each family that both
// sides have, and of each port.
func flows(from, to *party, ports []target) ([]desired.Flow, error) {
	var all []desired.Flow
	for _, family := range []desired.Family{desired.IPv4, desired.IPv6} {
		src, ok := from.of(family)
		dst, both := to.of(family)
		if !ok || !both {
			continue
		}
		for _, t := range ports {
			all = append(all, desired.Flow{
				From: from.place, To: to.place, Src: src, Dst: dst, Protocol: t.of(family), DstPort: t.port,
			})
		}
	}
	if len(all) == 0 {
		return nil, invalid("%s and %s have no address family in common: %s, %s",
			from.name(), to.name(), strings.Join(texts(from.addrs), ", "), strings.Join(texts(to.addrs), ", "))
	}
	if from.Here && to.Here && from.place == to.place && from.place.Node {
		return nil, invalid("both are this node: that is not forwarded, and no policy applies; expected a pod, or an address of another machine")
	}
	return all, nil
}

// family is that of the flow, in a word.
func family(f desired.Flow) string { return desired.FamilyOf(f.Dst).String() }

// wireFlow begins the answer about a flow.
func wireFlow(f desired.Flow) api.Flow {
	return api.Flow{
		Family: family(f), Source: f.Src.String(), Destination: f.Dst.String(),
		Protocol: protocolName(f.Protocol), Port: f.DstPort, Checks: []api.Check{},
	}
}
