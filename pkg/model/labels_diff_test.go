package model

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestDiffLabelsGivesEachKeyWhoseValueDiffers(t *testing.T) {
	old := NewLabels(map[string]string{"": "empty", "a": "1", "b": "2", "gone": "x", "nothing": ""})
	now := NewLabels(map[string]string{"": "empty", "a": "1", "b": "3", "came": "y", "z": ""})
	want := []LabelChange{
		{Key: "b", Old: "2", New: "3", HadOld: true, HasNew: true},
		{Key: "came", New: "y", HasNew: true},
		{Key: "gone", Old: "x", HadOld: true},
		{Key: "nothing", HadOld: true},
		{Key: "z", HasNew: true},
	}
	if got := slices.Collect(DiffLabels(old, now)); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := slices.Collect(DiffLabels(old, old)); len(got) > 0 {
		t.Errorf("equal sets differ by %+v", got)
	}
	for range DiffLabels(old, now) {
		break // it must be possible
	}
}

func TestDiffLabelsLeadsFromOldToNew(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	labels := func() map[string]string {
		m := map[string]string{}
		for range random.IntN(6) {
			// Long keys have lengths of two bytes.
			m[strings.Repeat(string(rune('a'+random.IntN(4))), 1+random.IntN(2)*200)] = string(rune('0' + random.IntN(2)))
		}
		return m
	}
	for range 2000 {
		old, now := labels(), labels()
		for c := range DiffLabels(NewLabels(old), NewLabels(now)) {
			v, had := old[c.Key]
			if had != c.HadOld || v != c.Old {
				t.Fatalf("%+v does not fit %v", c, old)
			}
			delete(old, c.Key)
			if c.HasNew {
				old[c.Key] = c.New
			}
		}
		if NewLabels(old) != NewLabels(now) {
			t.Fatalf("got to %v instead of %v", old, now)
		}
	}
}
