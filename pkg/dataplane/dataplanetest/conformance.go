package dataplanetest

import (
	"testing"
	"testing/synctest"
)

// Conformance is what every Dataplane has to pass. Time is not real in it: what
// waits costs nothing.
func Conformance(t *testing.T, open Factory) {
	cases := []struct {
		name string
		run  func(t *testing.T, open Factory)
	}{
		{"AppliesTheSameAgainWithoutAChange", idempotent},
		{"ConvergesFromAnyStateToAnyState_2_10_2_11", converges},
		{"ConvergesWhateverFails", convergesWithFaults},
		{"ConvergesWhereverItIsKilled", convergesWhenKilled},
		{"MembersNeedNoRuleTransaction_2_11", membersOnly},
		{"GivesNothingToTheNewOwnerOfAnAddress", newOwners},
		{"TightensLiveConnectionsThroughAService_2_11", service},
		{"RestartsWithoutAGap", restarts},
		{"SweepsWhatAnEarlierLifeHasLeft", leftovers},
		{"LeavesWhatIsForeignAsItIs", foreign},
		{"PutsItsHooksBack", hooks},
		{"RemovesAllThatIsItsOwn", removes},
		{"RepairsDriftWhenItForgets", drift},
		{"OutlivesAllGenerations", generations},
		{"KnowsThatWhatFailedMayHaveBeenDone", lostAnswers},
		{"TellsTheTruthAboutFailures", truth},
		{"LetsTheNodeAndItsLinksWork_2_8", ownNode},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t, open) })
		})
	}
}

// walks is how many random walks there are, of how many States each.
func walks(t *testing.T) (n, states int) {
	if testing.Short() {
		return 4, 8
	}
	return 8, 15
}

func idempotent(t *testing.T, open Factory) {
	n, _ := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, -1)
		states := NewStates(s.rng)
		for range 3 {
			want := states.Next()
			s.settle(want)
			before := s.k.Dump()
			if r := s.settle(want); r.Transactions+r.Added+r.Deleted+r.SetsCreated+r.SetsRemoved > 0 || r.Raised {
				s.fatalf("the same State again: %+v", r)
			}
			// An equal one is another pointer after a restart of what makes them.
			equal := *want
			rules := *want.Rules
			equal.Rules, equal.Gen = &rules, states.gen
			if r := s.settle(&equal); r.Transactions+r.Added+r.Deleted+r.SetsCreated+r.SetsRemoved > 0 || r.Raised {
				s.fatalf("an equal State: %+v", r)
			}
			if after := s.k.Dump(); after != before {
				s.fatalf("the same State again has changed\n%s\nto\n%s", before, after)
			}
		}
	}
}

func converges(t *testing.T, open Factory) {
	n, length := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, -1)
		states := NewStates(s.rng)
		for range length {
			s.settle(states.Next())
			s.connect(8)
		}
		s.clean()
	}
}

// clean checks that nothing is there but what a new life would make of the State
// in force.
func (s *subject) clean() {
	s.t.Helper()
	other := newSubject(s.t, s.open, 0, -1)
	other.settle(s.pending[0])
	have, want := s.k.Ours(), other.k.Ours()
	if missing, extra := difference(want, have), difference(have, want); len(missing)+len(extra) > 0 {
		s.fatalf("missing: %q\nleft over: %q", missing, extra)
	}
}

func difference(a, b []string) []string {
	in := map[string]bool{}
	for _, s := range b {
		in[s] = true
	}
	var only []string
	for _, s := range a {
		if !in[s] {
			only = append(only, s)
		}
	}
	return only
}

func convergesWithFaults(t *testing.T, open Factory) {
	n, length := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, 0)
		states := NewStates(s.rng)
		s.settle(states.Next())
		for range length {
			// Some States are superseded before they are in force.
			for s.rng.IntN(3) == 0 {
				s.remember()
				want := states.Next()
				if _, _, err := s.try(want); err != nil {
					s.traffic(want)
				}
			}
			s.settle(states.Next())
			s.connect(4)
		}
		s.k.OneIn(0)
		s.settle(states.Next())
		s.clean()
	}
}

func convergesWhenKilled(t *testing.T, open Factory) {
	n, length := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, -1)
		states := NewStates(s.rng)
		s.settle(states.Next())
		for range length {
			want := states.Next()
			s.remember()
			for s.rng.IntN(2) == 0 {
				s.k.KillAfter(1+s.rng.IntN(14), Effect(s.rng.IntN(3)))
				_, _, _ = s.try(want)
				if s.rng.IntN(2) == 0 {
					want = states.Next()
				}
			}
			s.k.KillAfter(0, Nothing)
			s.settle(want)
			s.connect(4)
		}
		s.clean()
	}
}
