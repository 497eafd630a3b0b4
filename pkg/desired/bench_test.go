package desired

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

// A full node: 250 pods, each with rules about as many sets, of 1,000 members.
// The flow matches the last rule of each side.
func BenchmarkVerdict(b *testing.B) {
	for _, rules := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("rules=%d", rules), func(b *testing.B) {
			s := node250(rules)
			if err := s.Validate(); err != nil {
				b.Fatal(err)
			}
			e := &s.Rules.Endpoints[100]
			f := Flow{
				From: at(e.Interface.Name), Src: e.Interface.Addrs[0], Dst: netip.MustParseAddr("10.9.0.5"),
				Protocol: model.TCP, DstPort: 80,
			}
			if v := s.Verdict(f); !v.Allowed || v.Trail[1].Rule != rules-1 {
				b.Fatal(trail(v))
			}
			b.ReportAllocs()
			for b.Loop() {
				s.Verdict(f)
			}
		})
	}
}

func node250(rules int) *State {
	s := &State{Rules: &Rules{Protected: true}}
	var list []Rule
	for i := range rules {
		spec := dynamic(Addresses, IPv4, 0, fmt.Sprintf("v1 app == %d", i))
		var m Members
		for n := range 1000 {
			m.Addrs = m.Addrs.With(ip4(10, 9-i%9, n))
		}
		s.Rules.Sets = append(s.Rules.Sets, spec)
		s.Sets = s.Sets.With(spec.ID, m)
		port := uint16(80)
		if i > 0 {
			port = uint16(79 - i%79)
		}
		list = append(list, Rule{Family: IPv4, Protocol: model.TCP, First: port, Last: port, Peer: Peer{Set: spec.ID}})
	}
	sortSets(s.Rules.Sets)
	shared := side(list, "p")
	for i := range 250 {
		e := pod(fmt.Sprintf("azv%03d", i), fmt.Sprintf("pod-%d", i), i, ip4(10, 100, i).String())
		e.Egress = shared
		s.Rules.Endpoints = append(s.Rules.Endpoints, e)
	}
	return s
}

func ip4(a, b, n int) netip.Addr {
	ip := [4]byte{byte(a), byte(b)}
	binary.BigEndian.PutUint16(ip[2:], uint16(n))
	return netip.AddrFrom4(ip)
}
