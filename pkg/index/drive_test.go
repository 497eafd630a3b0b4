package index

import (
	"iter"
	"maps"
	"net/netip"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

// driven is an index and the oracle that are given the same.
type driven struct {
	x       *Index
	o       *oracle
	tracked asked
	// earlier are the last few Views, and what they said then.
	earlier []said
	last    map[netip.Addr]owner // at the last TakeReleased
}

type said struct {
	view   View
	answer answer
}

// drive feeds changes that chance draws to an index and the oracle, and compares
// them after each few.
func drive(t *testing.T, c chance, steps int, done func() bool) {
	t.Helper()
	d := &driven{x: New(), o: newOracle(), tracked: newAsked(nil, nil)}
	for step := 0; step < steps && !done(); step++ {
		d.step(c)
		if c.IntN(3) == 0 {
			d.check(t, c.IntN(2) == 0)
		}
	}
	d.end(t)
}

// step makes one change, or asks for something more or less.
func (d *driven) step(c chance) {
	switch c.IntN(10) {
	case 0:
		s := pick(c, someSelectors()...)
		d.x.Track(s)
		d.tracked.selectors[s] = true
	case 1:
		if c.IntN(2) == 0 {
			s := pick(c, someSelectors()...)
			d.x.Untrack(s)
			delete(d.tracked.selectors, s)
		}
	case 2:
		q := pick(c, someQueries()...)
		d.x.TrackPorts(q)
		d.tracked.queries[q] = true
	case 3:
		if c.IntN(2) == 0 {
			q := pick(c, someQueries()...)
			d.x.UntrackPorts(q)
			delete(d.tracked.queries, q)
		}
	default:
		change := someChange(c)
		if variant, ok := someVariant(c, d.o.facts); ok && c.IntN(3) == 0 {
			change = variant
		}
		d.x.Apply(change)
		d.o.apply(change)
		if c.IntN(4) == 0 {
			d.x.Apply(change)
		}
	}
}

// check compares what the index says now, and may take what is released.
func (d *driven) check(t *testing.T, take bool) {
	t.Helper()
	want := d.o.answer(d.tracked)
	v := d.x.View()
	checkView(t, "a view", v, want)
	checkInside(t, d.x)
	if d.x.View() != v {
		t.Fatal("a view without a change is another one")
	}
	if take {
		checkReleased(t, d.x, d.last, want.Owners)
		d.last = want.Owners
	}
	for _, e := range d.earlier {
		checkChanged(t, e, said{v, want})
	}
	if d.earlier = append(d.earlier, said{v, want}); len(d.earlier) > 3 {
		checkView(t, "an earlier view", d.earlier[0].view, d.earlier[0].answer)
		d.earlier = d.earlier[1:]
	}
}

// end takes everything back: nothing may be left, and no View may change.
func (d *driven) end(t *testing.T) {
	t.Helper()
	for s := range d.tracked.selectors {
		d.x.Untrack(s)
	}
	for q := range d.tracked.queries {
		d.x.UntrackPorts(q)
	}
	for k := range d.o.facts {
		d.x.Apply(model.Gone(k))
	}
	d.x.View()
	checkInside(t, d.x)
	checkReleased(t, d.x, d.last, nil)
	for _, e := range d.earlier {
		checkView(t, "a view of the past", e.view, e.answer)
	}
}

// checkReleased compares TakeReleased with the owners at the last call and now.
func checkReleased(t *testing.T, x *Index, last, now map[netip.Addr]owner) {
	t.Helper()
	want := map[netip.Addr]int{}
	for a, o := range last {
		if now[a] != o {
			want[a] = 1
		}
	}
	got := map[netip.Addr]int{}
	for _, a := range x.TakeReleased() {
		got[a]++
	}
	if !maps.Equal(got, want) {
		t.Fatalf("released are %v, want %v", got, want)
	}
	if again := x.TakeReleased(); len(again) > 0 {
		t.Fatalf("%v are released twice", again)
	}
}

// checkChanged compares Changed, ChangedPorts and ChangedOwners with what two
// Views said.
func checkChanged(t *testing.T, old, now said) {
	t.Helper()
	owners := map[netip.Addr]int{}
	for a, o := range old.answer.Owners {
		if n, ok := now.answer.Owners[a]; !ok || n != o {
			owners[a] = 1
		}
	}
	for a := range now.answer.Owners {
		if _, ok := old.answer.Owners[a]; !ok {
			owners[a] = 1
		}
	}
	for a := range ChangedOwners(old.view, now.view) {
		if owners[a]--; owners[a] != 0 {
			t.Fatalf("owner of %v: a change too many", a)
		}
		delete(owners, a)
	}
	if len(owners) > 0 {
		t.Fatalf("changes of the owners of %v are missing", owners)
	}
	checkDifference(t, Changed(old.view, now.view), old.answer.Members, now.answer.Members)
	checkDifference(t, ChangedPorts(old.view, now.view), old.answer.Ports, now.answer.Ports)
}

func checkDifference[K, M comparable](t *testing.T, changed iter.Seq[K], old, now map[K]map[M]bool) {
	t.Helper()
	want := map[K]int{}
	for _, side := range []map[K]map[M]bool{old, now} {
		for k := range side {
			if (old[k] == nil) != (now[k] == nil) || !maps.Equal(old[k], now[k]) {
				want[k] = 1
			}
		}
	}
	got := map[K]int{}
	for k := range changed {
		got[k]++
	}
	if !maps.Equal(got, want) {
		t.Fatalf("changed are %v, want %v", got, want)
	}
	for range changed {
		break // it must be possible
	}
}
