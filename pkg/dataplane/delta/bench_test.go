package delta

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/pset"
)

// One address leaves a set, others are as large as they are.
func BenchmarkOneMember(b *testing.B) {
	for _, size := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("members=%d", size), func(b *testing.B) {
			r := rules(pod(1, side(from(friends())), nil))
			old := state(1, r, members{friends().ID: {Addrs: many(size)}})
			m, _ := old.Sets.Get(friends().ID)
			m.Addrs = m.Addrs.Without(nth(size / 2))
			now := *old
			now.Gen, now.Sets = 2, old.Sets.With(friends().ID, m)
			now.Released = pset.Map[netip.Addr, uint64]{}.With(nth(size/2), 2)
			b.ReportAllocs()
			for b.Loop() {
				if d := Between(old, &now); len(d.Left) != 1 || d.RulesChanged {
					b.Fatal(d)
				}
			}
		})
	}
}

// One address has a new owner and stays in one of 2,000 sets of 1,000 members.
func BenchmarkOneReleased(b *testing.B) {
	r := &desired.Rules{Protected: true}
	old := &desired.State{Gen: 1, Rules: r}
	shared := many(1000)
	for i := range 2000 {
		spec := set(desired.Addresses, 0, fmt.Sprint(i))
		old.Sets = old.Sets.With(spec.ID, desired.Members{Addrs: shared.Without(nth(5))})
	}
	now := *old
	now.Gen = 2
	now.Released = now.Released.With(nth(5), 2)
	b.ReportAllocs()
	for b.Loop() {
		if d := Between(old, &now); len(d.Left) != 0 {
			b.Fatal(d)
		}
	}
}

// The rules of one of 250 pods change, each of 100 rules.
func BenchmarkOnePod(b *testing.B) {
	list := func(from int) *desired.Side {
		var all []desired.Rule
		for i := range 100 {
			all = append(all, block(fmt.Sprintf("10.%d.0.0/16", from+i)))
		}
		return side(all...)
	}
	before, after := rules(), rules()
	for i := range 250 {
		e := pod(i, list(i%100), nil, nth(i).String())
		before.Endpoints = append(before.Endpoints, e)
		if i == 100 {
			e.Ingress = side(append([]desired.Rule{block("192.0.2.0/24")}, e.Ingress.List.Rules...)...)
		}
		after.Endpoints = append(after.Endpoints, e)
	}
	old, now := &desired.State{Gen: 1, Rules: before}, &desired.State{Gen: 2, Rules: after}
	b.ReportAllocs()
	for b.Loop() {
		if d := Between(old, now); !d.RulesChanged || d.Tightened {
			b.Fatal(d)
		}
	}
}
