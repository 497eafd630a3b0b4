package agent

import (
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// TestAClusterIsCompleteOnceAllOfItWasKnown_4_9: whoever looks for an address must
// know whether it is not there, or not known yet.
func TestAClusterIsCompleteOnceAllOfItWasKnown_4_9(t *testing.T) {
	canada := remote("canada", 1)
	canada.StaleAfter = time.Hour
	s := newSteps(t, newFakeStore())
	complete := func(what string, want bool) {
		t.Helper()
		s.settle()
		if got := s.cluster("canada").Complete; got != want {
			t.Errorf("%s: complete %v", what, got)
		}
	}
	sync := func() {
		s.Facts(list("canada", model.KindPod, pod("canada", "demo", "a")))
		s.Status("canada", inState(model.StateInSync, s.now))
	}
	s.Facts(remotes(canada))
	s.Facts(list("canada", model.KindPod, pod("canada", "demo", "a")))
	s.Status("canada", inState(model.StateSyncing, s.now))
	complete("listed in part", false)
	sync()
	complete("in sync", true)
	s.Status("canada", inState(model.StateOutOfContact, s.now))
	complete("out of contact", true)
	s.Drain("canada")
	complete("drained", false)
	sync()
	complete("in sync again", true)
	s.Status("canada", inState(model.StateOutOfContact, s.now))
	s.settle()
	s.pass(time.Hour)
	complete("dropped", false)
	sync()
	complete("back", true)
	s.Facts(model.Batch{Changes: []model.Change{model.Set(remote("canada", 2))}})
	complete("another one of that name", false)
}

func TestARestoredClusterIsComplete_3_3(t *testing.T) {
	files := newFakeStore()
	s := newSteps(t, files)
	for _, kind := range kinds() {
		s.Facts(list("west", kind))
	}
	s.Facts(remotes(remote("canada", 1)))
	s.Facts(list("canada", model.KindPod, pod("canada", "demo", "a")))
	s.Status("canada", inState(model.StateInSync, s.now))
	s.settle()
	s = newSteps(t, files)
	s.Facts(remotes(remote("canada", 1)))
	s.settle()
	s.want("canada", "demo/a")
	if c := s.cluster("canada"); !c.Restored || !c.Complete {
		t.Errorf("restored %v, complete %v", c.Restored, c.Complete)
	}
}
