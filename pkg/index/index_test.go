package index

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

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
		selectors, queries := someSelectors(), someQueries()
		want := o.answer(newAsked(selectors, queries))
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
				trackAll(x, selectors, queries)
				applyAll(x, facts())
			},
			"in any order, selectors last": func(x *Index) {
				applyAll(x, facts())
				trackAll(x, selectors, queries)
			},
			"every change twice, a view after each": func(x *Index) {
				for i, c := range facts() {
					x.Track(selectors[i%len(selectors)])
					x.TrackPorts(queries[i%len(queries)])
					x.Apply(c)
					x.View()
					x.Apply(c)
				}
				trackAll(x, selectors, queries)
			},
			"over another world": func(x *Index) {
				trackAll(x, selectors, queries)
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
				trackAll(x, selectors, queries)
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
				trackAll(x, selectors, queries)
				changes := facts()
				applyAll(x, changes[:len(changes)/2])
				for _, s := range slices.Backward(selectors) {
					x.Untrack(s)
				}
				x.View()
				for _, q := range slices.Backward(queries) {
					x.UntrackPorts(q)
				}
				for _, q := range queries {
					x.TrackPorts(q)
				}
				trackAll(x, selectors, queries)
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

func trackAll(x *Index, selectors []selector.Selector, queries []PortQuery) {
	for i := range max(len(selectors), len(queries)) { // some queries before their selector, some after
		if i < len(queries) {
			x.TrackPorts(queries[i])
		}
		if i < len(selectors) {
			x.Track(selectors[i])
		}
	}
}

func applyAll(x *Index, changes []model.Change) {
	for _, c := range changes {
		x.Apply(c)
	}
}
