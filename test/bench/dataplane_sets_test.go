package bench

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/dataplane/conntrack"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
	"github.com/overland-net/overland/pkg/desired"
)

const (
	setMembers = 100_000
	setRounds  = 7
	setChanges = 300
)

// BenchmarkDataplaneSet is a set of 100,000 members, as Apply writes it: loaded,
// beside the ipset program that loads the same; one member added and one
// taken out, with the search for its connections. No change of members may touch
// the rules: transactions counts those of all changes.
func BenchmarkDataplaneSet(b *testing.B) {
	s := newSpace(b)
	kernel := s.open(iptables.BackendLegacy, false)
	script := ipsetScript()
	var load, program, add, remove []time.Duration
	transactions, swept := 0, 0
	once(b, func() {
		for range setRounds {
			d := newDataplane(kernel, false)
			few, all, id := setStates()
			s.apply(d, few)
			before := kernel.count
			began := time.Now()
			s.apply(d, all)
			load = append(load, time.Since(began))
			now := all
			for i := range setChanges / setRounds {
				a := numberedAddress(1<<22 + i)
				now = withMember(now, id, a, true)
				began = time.Now()
				s.apply(d, now)
				add = append(add, time.Since(began))
				if i%20 > 0 {
					continue
				}
				now = withMember(now, id, a, false)
				time.Sleep(250 * time.Millisecond) // sweeps keep a distance of three times as long as they take
				began = time.Now()
				if r := s.apply(d, now); r.Sweep > 0 {
					swept++
					remove = append(remove, time.Since(began))
				}
			}
			transactions += kernel.count - before
			s.do(func() {
				if err := d.Remove(b.Context()); err != nil {
					b.Fatal(err)
				}
				began = time.Now()
				nfnltest.Run(b, script, "ipset", "restore")
				program = append(program, time.Since(began))
				nfnltest.Run(b, "", "ipset", "destroy")
			})
		}
	})
	b.ReportMetric(ms(median(load)), "ms-load")
	b.ReportMetric(ms(slices.Min(load)), "ms-load-least")
	b.ReportMetric(ms(median(program)), "ms-load-ipset-program")
	b.ReportMetric(median(load).Seconds()/median(program).Seconds(), "load/ipset-program")
	b.ReportMetric(ms(median(add))*1000, "µs-add-one")
	if swept > 0 {
		b.ReportMetric(ms(median(remove)), "ms-remove-one-with-sweep")
	}
	b.ReportMetric(float64(transactions), "transactions")
	b.ReportMetric(float64(swept), "sweeps")
}

func ipsetScript() string {
	var text strings.Builder
	fmt.Fprintf(&text, "create other hash:ip hashsize %d maxelem 1000000\n", setMembers)
	for i := range setMembers {
		fmt.Fprintf(&text, "add other %s\n", numberedAddress(i))
	}
	return text.String()
}

// setStates is a State with an empty set, and the same with all members.
func setStates() (few, all *desired.State, id desired.SetID) {
	h := &handmade{rules: desired.Rules{Protected: true}}
	id = h.set("many").Peer.Set
	few = h.state()
	members := make([]netip.Addr, setMembers)
	for i := range members {
		members[i] = numberedAddress(i)
	}
	full := &handmade{}
	full.set("many", members...)
	return few, &desired.State{Gen: 2, Rules: few.Rules, Sets: full.sets}, id
}

func withMember(s *desired.State, id desired.SetID, a netip.Addr, in bool) *desired.State {
	m, _ := s.Sets.Get(id)
	if in {
		m.Addrs = m.Addrs.With(a)
	} else {
		m.Addrs = m.Addrs.Without(a)
	}
	return &desired.State{Gen: s.Gen + 1, Rules: s.Rules, Sets: s.Sets.With(id, m)}
}

// BenchmarkDataplaneSweep has connections judged again, among 100,000 that are
// tracked: those of one address and those of three, with 3,840 connections each,
// and all of them; beside the conntrack program, which only counts those of one
// address.
func BenchmarkDataplaneSweep(b *testing.B) {
	const (
		flows  = 100_000
		each   = batch * firsts
		mask   = 0xff000000
		mark   = "0x1000000/0xff000000"
		passes = 5
	)
	c := &track{name: "sweep", backend: iptables.BackendLegacy}
	c.build(b)
	c.space.run("iptables-legacy -t mangle -A FORWARD -j CONNMARK --set-xmark " + mark)
	some := []netip.Addr{netip.MustParseAddr("10.1.1.20"), netip.MustParseAddr("10.1.1.21"), netip.MustParseAddr("10.1.1.22")}
	sources := append([]netip.Addr{netip.MustParseAddr("10.1.1.23"), netip.MustParseAddr("10.1.1.24"), c.ends.client}, some...)
	reset := func(f conntrack.Filter) (int, time.Duration) {
		began := time.Now()
		n, err := c.conns.ResetMarks(b.Context(), f, mask)
		if err != nil {
			b.Fatal(err)
		}
		return n, time.Since(began)
	}
	took, found := map[string][]float64{}, map[string]int{}
	once(b, func() {
		for range passes {
			for i, a := range sources {
				count := flows / 3
				if i >= 3 {
					count = each
				}
				c.fill(b, a, count, uint16(1024+i))
			}
			c.space.do(func() {
				began := time.Now()
				nfnltest.Run(b, "", "conntrack", "-L", "-s", some[0].String(), "-o", "id")
				took["conntrack-program-one-address"] = append(took["conntrack-program-one-address"], ms(time.Since(began)))
			})
			for _, what := range []struct {
				name   string
				filter conntrack.Filter
			}{
				{"one-address", conntrack.Filter{Addrs: some[:1]}},
				{"three-addresses", conntrack.Filter{Addrs: some}},
				{"nothing-left", conntrack.Filter{Addrs: some}},
				{"all", conntrack.Filter{All: true}},
			} {
				n, d := reset(what.filter)
				took[what.name], found[what.name] = append(took[what.name], ms(d)), n
			}
		}
	})
	for name, all := range took {
		b.ReportMetric(median(all), "ms-"+name)
	}
	for _, name := range []string{"one-address", "three-addresses", "all"} {
		b.ReportMetric(float64(found[name]), "flows-"+name)
	}
}

// fill makes so many flows at least, of an address.
func (c *track) fill(b *testing.B, from netip.Addr, count int, port uint16) {
	e := c.ends
	e.client, e.port, e.packets = from, port, nil
	e.prepare()
	for range (count + batch*firsts - 1) / (batch * firsts) {
		if _, err := e.first(); err != nil {
			b.Fatal(err)
		}
	}
}
