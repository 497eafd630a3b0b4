package index

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// drive feeds changes that chance draws to an index and the oracle, and compares
// them after each few.
func drive(t *testing.T, c chance, steps int, done func() bool) {
	t.Helper()
	x, o := New(), newOracle()
	candidates := someSelectors()
	tracked := map[selector.Selector]bool{}
	type taken struct {
		view View
		said answer
	}
	var earlier []taken
	for step := 0; step < steps && !done(); step++ {
		switch c.IntN(8) {
		case 0:
			s := candidates[c.IntN(len(candidates))]
			x.Track(s)
			tracked[s] = true
		case 1:
			if c.IntN(2) == 0 {
				s := candidates[c.IntN(len(candidates))]
				x.Untrack(s)
				delete(tracked, s)
			}
		default:
			change := someChange(c)
			x.Apply(change)
			o.apply(change)
			if c.IntN(4) == 0 {
				x.Apply(change)
			}
		}
		if c.IntN(3) == 0 {
			want := o.answer(tracked)
			v := x.View()
			checkView(t, "a view", v, want)
			checkInside(t, x)
			if x.View() != v {
				t.Fatal("a view without a change is another one")
			}
			if earlier = append(earlier, taken{v, want}); len(earlier) > 3 {
				checkView(t, "an earlier view", earlier[0].view, earlier[0].said)
				earlier = earlier[1:]
			}
		}
	}
	for s := range tracked {
		x.Untrack(s)
	}
	for k := range o.facts {
		x.Apply(model.Gone(k))
	}
	x.View()
	checkInside(t, x)
	for _, e := range earlier {
		checkView(t, "a view of the past", e.view, e.said)
	}
}

func never() bool { return false }

func TestIndexSaysWhatTheOracleSays(t *testing.T) {
	for seed := range uint64(30) {
		drive(t, rand.New(rand.NewPCG(seed, 1)), 200, never)
	}
}

func FuzzIndex(f *testing.F) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 2))
		data := make([]byte, 400)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			return // what is slow finds little
		}
		c := bytesChance(data)
		drive(t, &c, len(data), func() bool { return len(c) == 0 })
	})
}

// TestOutputDependsOnPresentFactsOnly takes a history of changes over other
// roads to the same facts.
func TestOutputDependsOnPresentFactsOnly(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 3))
		o := newOracle()
		for range 60 {
			o.apply(someChange(random))
		}
		selectors := someSelectors()
		tracked := map[selector.Selector]bool{}
		for _, s := range selectors {
			tracked[s] = true
		}
		want := o.answer(tracked)
		facts := func() []model.Change {
			var changes []model.Change
			for _, f := range o.facts {
				changes = append(changes, model.Set(f))
			}
			random.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
			return changes
		}
		roads := map[string]func(x *Index){
			"in any order, selectors first": func(x *Index) {
				trackAll(x, selectors)
				applyAll(x, facts())
			},
			"in any order, selectors last": func(x *Index) {
				applyAll(x, facts())
				trackAll(x, selectors)
			},
			"every change twice, a view after each": func(x *Index) {
				for i, c := range facts() {
					x.Track(selectors[i%len(selectors)])
					x.Apply(c)
					x.View()
					x.Apply(c)
				}
				trackAll(x, selectors)
			},
			"over another world": func(x *Index) {
				trackAll(x, selectors)
				other := newOracle()
				for range 60 {
					c := someChange(random)
					other.apply(c)
					x.Apply(c)
				}
				for k := range other.facts {
					if o.facts[k] == nil {
						x.Apply(model.Gone(k))
					}
				}
				applyAll(x, facts())
			},
			"with each fact reverted once": func(x *Index) {
				trackAll(x, selectors)
				changes := facts()
				applyAll(x, changes)
				for _, c := range changes {
					if c.Key.Kind == model.KindCluster {
						continue // it would take all others with it
					}
					x.Apply(model.Gone(c.Key))
					x.Apply(c)
				}
			},
			"selectors come and go": func(x *Index) {
				trackAll(x, selectors)
				changes := facts()
				applyAll(x, changes[:len(changes)/2])
				for _, s := range slices.Backward(selectors) {
					x.Untrack(s)
				}
				trackAll(x, selectors)
				applyAll(x, changes[len(changes)/2:])
			},
		}
		for what, road := range roads {
			x := New()
			road(x)
			checkView(t, what, x.View(), want)
			checkInside(t, x)
		}
	}
}

func trackAll(x *Index, selectors []selector.Selector) {
	for _, s := range selectors {
		x.Track(s)
	}
}

func applyAll(x *Index, changes []model.Change) {
	for _, c := range changes {
		x.Apply(c)
	}
}
