package federation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

func someNodes(n int) []NodeInfo {
	var all []NodeInfo
	for i := range n {
		all = append(all, NodeInfo{Name: fmt.Sprintf("node-%d", i), UID: model.ParseUID(fmt.Sprintf("uid-%d", i))})
	}
	return all
}

func always(string) (bool, error) { return true, nil }

func TestCandidatesAreTheSameFiveOnEveryNode_4_11(t *testing.T) {
	nodes := someNodes(40)
	want, err := candidates(nodes, always)
	if err != nil || len(want) != 5 {
		t.Fatalf("got %v, %v", want, err)
	}
	for range 20 {
		rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		if got, _ := candidates(nodes, always); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestCandidatesSkipNodesThatAreNotReady_4_11(t *testing.T) {
	nodes := someNodes(12)
	order := ranked(nodes)
	asked := 0
	got, err := candidates(nodes, func(name string) (bool, error) {
		asked++
		return name != order[0].Name && name != order[3].Name, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []NodeInfo{order[1], order[2], order[4], order[5], order[6]}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if asked != 7 {
		t.Errorf("asked about %d nodes, 7 are enough", asked)
	}
}

func TestCandidatesAreUnknownIfANodeCannotBeRead(t *testing.T) {
	if got, err := candidates(someNodes(3), func(string) (bool, error) { return false, errors.New("down") }); err == nil {
		t.Errorf("got %v without an error", got)
	}
}

func TestALeaderYieldsOnlyToAnotherCandidate(t *testing.T) {
	a, b := NodeInfo{Name: "a"}, NodeInfo{Name: "b"}
	for _, tt := range []struct {
		name    string
		leading bool
		among   []NodeInfo
		want    bool
	}{
		{"a candidate stands", false, []NodeInfo{b, a}, true},
		{"another node does not", false, []NodeInfo{b}, false},
		{"nobody is a candidate", false, nil, false},
		{"a leader that is a candidate goes on", true, []NodeInfo{b, a}, true},
		{"a leader that is none yields to one", true, []NodeInfo{b}, false},
		{"a leader that is none goes on without one", true, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := stands("a", tt.leading, tt.among); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestCandidacyIsOneOfThree(t *testing.T) {
	for text, ok := range map[string]bool{"auto": true, "always": true, "never": true, "": false, "Auto": false} {
		if _, err := ParseCandidacy(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
