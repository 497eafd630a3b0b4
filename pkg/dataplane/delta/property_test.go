package delta

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

// applied is what a dataplane has that had old and follows the Delta.
func applied(old, now *desired.State, d Delta) pset.Map[desired.SetID, desired.Members] {
	sets := old.Sets
	for _, spec := range d.Create {
		if m, ok := now.Sets.Get(spec.ID); ok {
			sets = sets.With(spec.ID, m)
		}
	}
	for _, change := range d.Changes {
		m, _ := sets.Get(change.Spec.ID)
		for p := range change.Deleted() {
			m.Addrs, m.Ports = m.Addrs.Without(p.Addr()), m.Ports.Without(p)
		}
		for p := range change.Added() {
			if change.Spec.Kind == desired.AddressPorts {
				m.Ports = m.Ports.With(p)
			} else {
				m.Addrs = m.Addrs.With(p.Addr())
			}
		}
		sets = sets.With(change.Spec.ID, m)
	}
	for _, spec := range d.Remove {
		sets = sets.Without(spec.ID)
	}
	return sets
}

// TestADataplaneThatFollowsLosesNothing_2_11 asks about every flow of small
// worlds: one that was allowed and is not is either told by Tightened, or has an
// address in Left.
func TestADataplaneThatFollowsLosesNothing_2_11(t *testing.T) {
	flips, tight, pairs, loose := 0, 0, 2500, 0
	for seed := range uint64(pairs) {
		g := random{rand.New(rand.NewPCG(seed, 9))}
		old, now := g.pair()
		for _, s := range []*desired.State{old, now} {
			if err := s.Validate(); err != nil {
				t.Fatalf("%v\n%s", err, s.Text())
			}
		}
		d := Between(old, now)
		if sets := applied(old, now, d); text(now.Rules, sets) != text(now.Rules, now.Sets) {
			t.Fatalf("seed %d: got %s\nwant %s", seed, text(now.Rules, sets), now.Text())
		}
		flips += checkFlows(t, seed, old, now, d)
		switch {
		case d.Tightened:
			tight++
		case d.RulesChanged:
			loose++
		}
	}
	t.Logf("%d pairs, %d flows cut, %d pairs tightened, %d not though rules differ", pairs, flips, tight, loose)
	if flips < pairs || tight < pairs/10 || loose < pairs/50 {
		t.Error("the worlds say little")
	}
}

func text(r *desired.Rules, sets pset.Map[desired.SetID, desired.Members]) string {
	return (&desired.State{Rules: r, Sets: sets}).Text()
}

func checkFlows(t *testing.T, seed uint64, old, now *desired.State, d Delta) (flips int) {
	t.Helper()
	for f := range everyFlow() {
		if !present(old, now, f.From) || !present(old, now, f.To) {
			continue
		}
		if !old.Verdict(f).Allowed {
			continue
		}
		v := now.Verdict(f)
		if v.Allowed || v.Trail[0].Kind == desired.CheckSource && !v.Trail[0].Allowed {
			continue // no connection goes around the source check
		}
		flips++
		if !d.Tightened && !d.LeftAll && !slices.Contains(d.Left, f.Src) && !slices.Contains(d.Left, f.Dst) {
			t.Fatalf("seed %d: %+v is cut and not told: %+v\n%s\nbecomes\n%s", seed, f, d, old.Text(), now.Text())
		}
	}
	return flips
}

// present tells whether an interface, if the place is one, is the same as it
// was, or has just become known: what is gone needs no telling.
func present(old, now *desired.State, p desired.Place) bool {
	was, is := index(old.Rules, p.Interface), index(now.Rules, p.Interface)
	return p.Interface == "" || is == was || was == 0
}

func index(r *desired.Rules, name string) int {
	if e := r.Endpoint(name); e != nil {
		return e.Interface.Index
	}
	if u := r.UnknownAt(name); u != nil {
		return u.Index
	}
	return 0
}

// everyFlow gives all flows of the universe of random.
func everyFlow() func(yield func(desired.Flow) bool) {
	return func(yield func(desired.Flow) bool) {
		places := []desired.Place{{}, {Node: true}}
		for i := range 4 {
			places = append(places, desired.Place{Interface: fmt.Sprintf("azv%d", i)})
		}
		for i, from := range places {
			for j, to := range places {
				for a := range remotes {
					f := desired.Flow{From: from, To: to, Src: ownAddr(i, a), Dst: ownAddr(j, a)}
					for _, f.Protocol = range []model.Protocol{model.TCP, model.UDP} {
						for f.DstPort = range uint16(maxPort + 2) {
							if !yield(f) {
								return
							}
						}
					}
				}
			}
		}
	}
}

// ownAddr is the address of the place, a remote one if that is no interface.
func ownAddr(place, a int) netip.Addr {
	if place < 2 {
		return remote(a)
	}
	return localAddr(place - 2)
}

// TestLeftIsNoMoreThanWhatLeft: membership alone, each address of Left lost a
// set or its owner.
func TestLeftIsNoMoreThanWhatLeft(t *testing.T) {
	for seed := range uint64(500) {
		g := random{rand.New(rand.NewPCG(seed, 10))}
		old, now := g.pair()
		for _, a := range Between(old, now).Left {
			_, released := now.Released.Get(a)
			lost := false
			for id, m := range old.Sets.All() {
				is, both := now.Sets.Get(id)
				for p := range m.All() {
					lost = lost || both && p.Addr() == a && (released || !slices.Contains(slices.Collect(is.All()), p))
				}
			}
			if !lost {
				t.Fatalf("seed %d: %s left nothing", seed, a)
			}
		}
	}
}
