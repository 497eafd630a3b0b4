package equivalence

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/test/worlds"
)

// plain is the text of a state less what depends on its history.
func plain(s *desired.State) string {
	return (&desired.State{Rules: s.Rules, Sets: s.Sets}).Text()
}

// shuffled is changes of different keys in another order, some of them twice: what
// a source may do.
func shuffled(changes []model.Change, r *rand.Rand) []model.Change {
	for range len(changes) / 8 {
		changes = append(changes, changes[r.IntN(len(changes))])
	}
	r.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	return changes
}

// differing are the lines of two texts that are not the same, for a report.
func differing(a, b string) string {
	var text strings.Builder
	in := func(line, other string) bool { return strings.Contains("\n"+other, "\n"+line+"\n") }
	for line := range strings.Lines(a) {
		if !in(strings.TrimSuffix(line, "\n"), b) {
			text.WriteString("  only the former: " + line)
		}
	}
	for line := range strings.Lines(b) {
		if !in(strings.TrimSuffix(line, "\n"), a) {
			text.WriteString("  only the latter: " + line)
		}
	}
	return text.String()
}

func TestStateDoesNotDependOnTheOrderOfFacts(t *testing.T) {
	first, n := firstSeed(t), count(t, 50)
	inParallel(n, func(i uint64) bool {
		seed := first + i
		r := rand.New(rand.NewPCG(seed, 2))
		w := worlds.Random(seed, worlds.Small())
		at := placeOf(w, r)
		want, err := stateOf(w, w, at)
		if err != nil {
			t.Error(err)
			return false
		}
		changes, err := worlds.Facts(w, at.cluster)
		if err != nil {
			t.Error(err)
			return false
		}
		a, err := newAgent(w.Cluster(at.cluster), at.node)
		if err != nil {
			t.Error(err)
			return false
		}
		changes = shuffled(changes, r)
		half := r.IntN(len(changes))
		if err := a.learn(w, changes[:half]).Validate(); err != nil {
			t.Errorf("world %d: half of the facts make a state that is not valid: %v\n%s", seed, err, w)
			return false
		}
		if got, want := plain(a.learn(w, changes[half:])), plain(want); got != want {
			t.Errorf("world %d, node %s/%s: in another order facts make another state:\n%s%s", seed, at.cluster, at.node, differing(want, got), w)
			return false
		}
		return true
	})
}

// life is an agent that lives through changes of its world.
type life struct {
	*agent
	world   worlds.World
	random  *rand.Rand
	history []string
}

// next changes one object. It is nil if all is well.
func (l *life) next(seed uint64) (score, *finding) {
	now, what := worlds.Mutate(l.world, l.random, worlds.Small())
	l.history = append(l.history, what)
	changes, err := worlds.FactsBetween(l.world, now, l.cluster)
	if err != nil {
		return score{}, &finding{text: err.Error()}
	}
	l.world = now
	before := l.state
	s := l.learn(now, shuffled(changes, l.random))
	if s != before && s.Gen != l.gen {
		return score{}, &finding{text: fmt.Sprintf("generation %d of a new state, expected %d", s.Gen, l.gen)}
	}
	j, found := judge(s)
	if found != nil {
		return score{}, found
	}
	at := place{l.cluster, l.node}
	if tried, found := probe(now, at, j, seed, probesAWorld/2); found != nil || !l.again(seed) {
		return tried, found
	}
	return score{}, l.anew()
}

// again is true now and then.
func (l *life) again(seed uint64) bool { return (seed+uint64(len(l.history)))%4 == 0 }

// anew compares with an agent that has learnt the world at once.
func (l *life) anew() *finding {
	a, err := newAgent(l.world.Cluster(l.cluster), l.node)
	if err != nil {
		return &finding{text: err.Error()}
	}
	a.links, a.gen = maps.Clone(l.links), l.gen
	changes, err := worlds.Facts(l.world, l.cluster)
	if err != nil {
		return &finding{text: err.Error()}
	}
	if got, want := plain(l.state), plain(a.learn(l.world, changes)); got != want {
		return &finding{text: "the state is not the one that an agent makes which learns all at once:\n" + differing(want, got)}
	}
	return nil
}

func TestOracleVerdictAndRulesAgreeThroughChanges(t *testing.T) {
	const steps = 16
	first, n := firstSeed(t), count(t, 100)
	var tried, allowed atomic.Int64
	inParallel(n, func(i uint64) bool {
		seed := first + i
		w := worlds.Random(seed, worlds.Small())
		r := rand.New(rand.NewPCG(seed, 3))
		at := placeOf(w, r)
		a, err := newAgent(w.Cluster(at.cluster), at.node)
		if err != nil {
			t.Error(err)
			return false
		}
		l := &life{agent: a, world: w, random: r}
		changes, err := worlds.Facts(w, at.cluster)
		if err != nil {
			t.Error(err)
			return false
		}
		l.learn(w, changes)
		for range steps {
			s, found := l.next(seed)
			tried.Add(int64(s.probes))
			allowed.Add(int64(s.allowed))
			if found != nil {
				t.Errorf("world %d, node %s/%s, after:\n  %s\n%s\n%s", seed, at.cluster, at.node, strings.Join(l.history, "\n  "), found.text, l.world)
				return false
			}
		}
		return true
	})
	t.Logf("%d worlds, %d changes each, %d probes, %d of them allowed", n, steps, tried.Load(), allowed.Load())
}
