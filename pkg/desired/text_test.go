package desired

import (
	"os"
	"strings"
	"testing"
)

func TestTextIsCanonical(t *testing.T) {
	want, err := os.ReadFile("testdata/state.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := world().Text(); got != string(want) {
		t.Errorf("testdata/state.txt is not what Text is:\n%s", got)
	}
	if !strings.Contains(world().Text(), world().Rules.Text()) {
		t.Error("the text of the State does not have that of the Rules")
	}
}

func TestTextDoesNotDependOnHistory(t *testing.T) {
	a, b := world(), world()
	m, _ := b.Sets.Get(friends4().ID)
	m.Addrs = m.Addrs.Without(addr(friend)).With(addr(stranger)).With(addr(friend)).Without(addr(stranger))
	b.Sets = b.Sets.Without(friends4().ID).With(friends4().ID, m)
	b.Rules.Endpoints[1].Egress = b.Rules.Endpoints[1].Ingress // equal, and shared
	if a.Text() != b.Text() {
		t.Errorf("%s\nand\n%s", a.Text(), b.Text())
	}
}

func TestTextOfASetIsOneLine(t *testing.T) {
	s := &State{Rules: &Rules{Sets: []SetSpec{{ID: "x", Text: "a\nset y", Family: IPv4}}}}
	if got, want := s.Text(), "state v1 generation 0\nrules v1\nset x IPv4 addresses: \"a\\nset y\"\n"; got != want {
		t.Errorf("got %s", got)
	}
}

func TestSkeletonIsValid(t *testing.T) {
	if err := Skeleton().Validate(); err != nil {
		t.Error(err)
	}
	if got, want := Skeleton().Text(), "state v1 generation 0\nrules v1\nprotected\n"; got != want {
		t.Errorf("got %s", got)
	}
}
