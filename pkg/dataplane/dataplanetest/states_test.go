package dataplanetest

import (
	"math/rand/v2"
	"testing"

	"github.com/overland-net/overland/pkg/desired"
)

func TestRandomStatesAreValid(t *testing.T) {
	for seed := range uint64(100) {
		states := NewStates(rand.New(rand.NewPCG(seed, 0)))
		for range 30 {
			if err := states.Next().Validate(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}

// A walk on which nothing happens proves nothing.
func TestRandomStatesAreOfAllKinds(t *testing.T) {
	count := map[string]int{}
	for seed := range uint64(50) {
		states := NewStates(rand.New(rand.NewPCG(seed, 0)))
		old := states.Next()
		for range 20 {
			now := states.Next()
			for _, f := range flows(now) {
				switch was, is := old.Verdict(f).Allowed, now.Verdict(f).Allowed; {
				case was && is:
					count["still allowed"]++
				case was:
					count["tightened"]++
				case is:
					count["loosened"]++
				default:
					count["still denied"]++
				}
			}
			note := func(what string, is bool) {
				if is {
					count[what]++
				}
			}
			note("members only", now.Rules == old.Rules && !now.Sets.Same(old.Sets))
			note("rules", now.Rules != old.Rules)
			note("unknown interfaces", len(now.Rules.Unknown) > 0)
			note("exceptions", len(now.Rules.Exceptions) > 0)
			note("released", now.Released.Len() > old.Released.Len())
			note("ports by name", contains(kinds(now), desired.AddressPorts.String()))
			note("networks", contains(kinds(now), desired.Networks.String()))
			old = now
		}
	}
	for _, what := range []string{
		"still allowed", "tightened", "loosened", "still denied", "members only", "rules", "unknown interfaces", "exceptions",
		"released", "ports by name", "networks",
	} {
		if few := 50; count[what] < few {
			t.Errorf("%s: %d times", what, count[what])
		}
	}
	t.Log(count)
}

func kinds(s *desired.State) []string {
	var list []string
	for _, spec := range s.Rules.Sets {
		list = append(list, spec.Kind.String())
	}
	return list
}
