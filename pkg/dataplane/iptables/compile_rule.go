package iptables

import (
	"net/netip"
	"strconv"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// The protocols that rules name beside those of model.
const (
	icmp4 model.Protocol = 1
	icmp6 model.Protocol = 58
)

// rule is a rule of a chain in parts, so that Trace can ask them. The zero
// value of a part asks nothing.
type rule struct {
	src, dst     netip.Prefix
	in, out      ifMatch
	protocol     model.Protocol
	sport, dport portRange
	icmp6Type    uint8
	hopLimit255  bool
	set          setMatch
	state        ctMatch
	current      bool // the connection's mark is of this generation
	spoofed      bool // the way back to the source is not where it comes from

	does  action
	chain string // of jump and goto
}

// ifMatch asks for an interface by name or, wild, by how its name begins.
type ifMatch struct {
	name      string
	wild, not bool
}

type portRange struct {
	first, last uint16
}

// setMatch asks whether the address of a side is in a set; of hash:ip,port,
// with the port of a side.
type setMatch struct {
	id            desired.SetID
	not           bool
	address, port side
	kindOf        desired.SetKind
	elements      model.Protocol // of hash:ip,port: that of the ports in it
}

// side is one of the two of a packet.
type side uint8

const (
	noSide side = iota
	source
	destination
)

func (s side) String() string {
	if s == source {
		return "src"
	}
	return "dst"
}

func (s side) other() side {
	switch s {
	case source:
		return destination
	case destination:
		return source
	}
	return noSide
}

// ctMatch asks what connection tracking says of the packet.
type ctMatch uint8

const (
	anyState ctMatch = iota
	related
	reply
)

// action is what a rule does: nothing else is ever done.
type action uint8

const (
	returns action = iota
	drops
	marks // sets the connection's mark to this generation
	jumps
	goesTo
)

// mirrored is the rule about the packets of the other direction: at FORWARD
// these are the exact reverse, because translation is undone elsewhere.
func (r rule) mirrored() rule {
	r.src, r.dst = r.dst, r.src
	r.in, r.out = r.out, r.in
	r.sport, r.dport = r.dport, r.sport
	r.set.address, r.set.port = r.set.address.other(), r.set.port.other()
	return r
}

// asksNothing: it is for every packet.
func (r rule) asksNothing() bool {
	return r == rule{does: r.does, chain: r.chain}
}

// text is the rule exactly as iptables-save of 1.8.9 prints it, on both
// backends, so that what is read back can be compared as text.
func (r rule) text(m mark) string {
	b := make([]byte, 0, 128)
	b = appendAddress(b, " -s ", r.src)
	b = appendAddress(b, " -d ", r.dst)
	b = r.in.append(b, " -i ")
	b = r.out.append(b, " -o ")
	if r.protocol != 0 {
		b = append(append(b, " -p "...), protocolName(r.protocol)...)
	}
	b = r.appendMatches(b, m)
	switch r.does {
	case returns:
		b = append(b, " -j RETURN"...)
	case drops:
		b = append(b, " -j DROP"...)
	case marks:
		b = append(b, " -j CONNMARK --set-xmark "...)
		b = appendHex(append(appendHex(b, m.value), '/'), m.mask)
	case jumps:
		b = append(append(b, " -j "...), r.chain...)
	case goesTo:
		b = append(append(b, " -g "...), r.chain...)
	}
	return string(b[1:])
}

// appendMatches writes protocol and ports before sets: they cost a twentieth.
func (r rule) appendMatches(b []byte, m mark) []byte {
	if r.sport != (portRange{}) || r.dport != (portRange{}) {
		b = append(append(b, " -m "...), protocolName(r.protocol)...)
		b = r.sport.append(b, " --sport ")
		b = r.dport.append(b, " --dport ")
	}
	if r.icmp6Type != 0 {
		b = append(b, " -m icmp6 --icmpv6-type "...)
		b = strconv.AppendUint(b, uint64(r.icmp6Type), 10)
	}
	if r.hopLimit255 {
		b = append(b, " -m hl --hl-eq 255"...)
	}
	if r.set.id != "" {
		b = r.set.append(b)
	}
	switch r.state {
	case related:
		b = append(b, " -m conntrack --ctstate RELATED"...)
	case reply:
		b = append(b, " -m conntrack --ctstate ESTABLISHED --ctdir REPLY"...)
	}
	if r.current {
		b = appendHex(append(b, " -m connmark --mark "...), m.value)
		if m.mask != 0xffffffff {
			b = appendHex(append(b, '/'), m.mask)
		}
	}
	if r.spoofed {
		b = append(b, " -m rpfilter --invert"...)
	}
	return b
}

func (i ifMatch) append(b []byte, option string) []byte {
	if i.name == "" {
		return b
	}
	if i.not {
		b = append(b, " !"...)
	}
	b = append(append(b, option...), i.name...)
	if i.wild {
		b = append(b, '+')
	}
	return b
}

func (p portRange) append(b []byte, option string) []byte {
	if p == (portRange{}) {
		return b
	}
	b = strconv.AppendUint(append(b, option...), uint64(p.first), 10)
	if p.last != p.first {
		b = strconv.AppendUint(append(b, ':'), uint64(p.last), 10)
	}
	return b
}

func (s setMatch) append(b []byte) []byte {
	b = append(b, " -m set"...)
	if s.not {
		b = append(b, " !"...)
	}
	b = append(append(b, " --match-set "...), s.id...)
	b = append(append(b, ' '), s.address.String()...)
	if s.port != noSide {
		b = append(append(b, ','), s.port.String()...)
	}
	return b
}

func protocolName(p model.Protocol) string {
	switch p {
	case model.TCP:
		return "tcp"
	case model.UDP:
		return "udp"
	case model.SCTP:
		return "sctp"
	case icmp4:
		return "icmp"
	case icmp6:
		return "ipv6-icmp"
	}
	return strconv.Itoa(int(p))
}

func appendHex(b []byte, n uint32) []byte {
	return strconv.AppendUint(append(b, "0x"...), uint64(n), 16)
}

// appendAddress writes a prefix in the way of inet_ntop(3). That differs from
// netip in one thing: of ::a.b.c.d the last four bytes are decimal.
func appendAddress(b []byte, option string, p netip.Prefix) []byte {
	if !p.IsValid() {
		return b
	}
	b = append(b, option...)
	a := p.Addr()
	if bytes := a.As16(); a.Is6() && isV4Compatible(bytes) {
		b = append(b, "::"...)
		b = netip.AddrFrom4([4]byte(bytes[12:])).AppendTo(b)
	} else {
		b = a.AppendTo(b)
	}
	return strconv.AppendInt(append(b, '/'), int64(p.Bits()), 10)
}

func isV4Compatible(a [16]byte) bool {
	return [12]byte(a[:12]) == [12]byte{} && (a[12] != 0 || a[13] != 0)
}
