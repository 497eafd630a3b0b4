package main

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestWhatIsElsewhereGoesOnceSomethingIsInItsPlace(t *testing.T) {
	k, asked, locked := &fakeKernel{broken: errors.New("locked")}, 0, errors.New("held")
	s := &successor{Dataplane: k, log: silent(), elsewhere: func(context.Context) (bool, error) {
		asked++
		return true, locked
	}}
	if _, err := s.Apply(t.Context(), state(1)); err == nil || asked != 0 {
		t.Errorf("nothing is in its place: asked %d times, %v", asked, err)
	}
	k.broken = nil
	r, err := s.Apply(t.Context(), state(1))
	if err != nil || !r.Applied || asked != 1 || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "held") {
		t.Errorf("it could not be removed: asked %d times, %+v, %v", asked, r, err)
	}
	locked = nil
	for range 2 {
		if r, err = s.Apply(t.Context(), state(1)); err != nil || asked != 2 || len(r.Problems) != 0 {
			t.Errorf("it is gone: asked %d times, %+v, %v", asked, r, err)
		}
	}
	if err := s.Remove(t.Context()); err != nil || asked != 3 || k.removed != 1 {
		t.Errorf("removed: asked %d times, %v", asked, err)
	}
}
