package index

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

func tcp(name string, port uint16) model.NamedPort {
	return model.NamedPort{Name: name, Protocol: model.TCP, Port: port}
}

func withPorts(e *model.Endpoint, ports ...model.NamedPort) *model.Endpoint {
	e.Ports = ports
	return e
}

func pairs(texts ...string) []netip.AddrPort {
	var all []netip.AddrPort
	for _, t := range texts {
		all = append(all, netip.MustParseAddrPort(t))
	}
	return all
}

// answerTo is all that answers a query, sorted.
func answerTo(t *testing.T, x *Index, q PortQuery) []netip.AddrPort {
	t.Helper()
	m, ok := x.View().PortMembers(q)
	if !ok {
		t.Fatalf("%v is not tracked", q)
	}
	return slices.SortedFunc(func(yield func(netip.AddrPort) bool) {
		for p := range m.V4.All() {
			if !yield(p) {
				return
			}
		}
		m.V6.All()(yield)
	}, netip.AddrPort.Compare)
}

func TestNamedPortIsThatOfEachPod_2_9(t *testing.T) {
	tests := []struct {
		name  string
		facts []model.Fact
		want  []netip.AddrPort
	}{
		{
			"each pod has its own number",
			[]model.Fact{withPorts(pod("canada", "p", "10.1.0.1"), tcp("web", 80)), withPorts(pod("canada", "q", "10.1.0.2"), tcp("web", 8080))},
			pairs("10.1.0.1:80", "10.1.0.2:8080"),
		},
		{
			"every number of a name that several containers use, at each address",
			[]model.Fact{withPorts(pod("canada", "p", "10.1.0.1", "fd00::1"), tcp("web", 80), tcp("web", 8080))},
			pairs("10.1.0.1:80", "10.1.0.1:8080", "[fd00::1]:80", "[fd00::1]:8080"),
		},
		{
			"another name, another protocol",
			[]model.Fact{withPorts(pod("canada", "p", "10.1.0.1"), tcp("dns", 53), model.NamedPort{Name: "web", Protocol: model.UDP, Port: 80})},
			nil,
		},
		{
			"a node has no ports",
			[]model.Fact{func() model.Fact {
				n := node("canada", "n", "10.1.0.1")
				n.Ports = []model.NamedPort{tcp("web", 80)}
				return n
			}()},
			nil,
		},
		{
			"an address that it does not own",
			[]model.Fact{west(), withPorts(pod("canada", "p", "10.0.0.1", "10.1.0.1"), tcp("web", 80))},
			pairs("10.1.0.1:80"),
		},
		{
			"the same port of who owns the address",
			[]model.Fact{
				withPorts(with(pod("canada", "old", "10.1.0.1"), func(e *model.Endpoint) { e.Created = 1 }), tcp("web", 80)),
				withPorts(with(pod("canada", "new", "10.1.0.1"), func(e *model.Endpoint) { e.Created = 2 }), tcp("web", 80)),
			},
			pairs("10.1.0.1:80"),
		},
	}
	q := PortQuery{selector.All(), "web", model.TCP}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, x := range worlds(append(tt.facts, remote("canada"))...) {
				x.TrackPorts(q)
				if got := answerTo(t, x, q); !slices.Equal(got, tt.want) {
					t.Errorf("%v, want %v", got, tt.want)
				}
			}
		})
	}
}

func TestQueryFollowsItsSelectorAndIsForgottenAlone(t *testing.T) {
	x := worlds(remote("canada"), withPorts(pod("canada", "p", "10.1.0.1"), tcp("web", 80)))[0]
	s := parse(t, "app == 'p'")
	web, dns := PortQuery{s, "web", model.TCP}, PortQuery{s, "dns", model.TCP}
	x.TrackPorts(web)
	x.TrackPorts(dns)
	if _, ok := x.View().Members(s); ok {
		t.Error("the selector is tracked, which nobody asked for")
	}
	x.Track(s)
	x.UntrackPorts(web)
	if _, ok := x.View().PortMembers(web); ok {
		t.Error("the query is tracked still")
	}
	if m, ok := x.View().Members(s); !ok || m.V4.Len() != 1 {
		t.Error("the selector went with it")
	}
	x.Untrack(s)
	x.Apply(model.Set(withPorts(pod("canada", "p", "10.1.0.1"), tcp("dns", 53))))
	if got := answerTo(t, x, dns); !slices.Equal(got, pairs("10.1.0.1:53")) {
		t.Errorf("the other query says %v", got)
	}
	if got := slices.Collect(x.View().TrackedPorts()); len(got) != 1 || got[0] != dns {
		t.Errorf("tracked are %v", got)
	}
	for range x.View().TrackedPorts() {
		break // it must be possible
	}
}

func TestReleasedIsWhatLostItsOwner(t *testing.T) {
	const a = "10.1.0.1"
	uid := func(n byte) func(*model.Endpoint) { return func(e *model.Endpoint) { e.UID = model.UID{n} } }
	p := func() *model.Endpoint { return with(pod("canada", "p", a), uid(1)) }
	gone := model.Gone(p().Key)
	tests := []struct {
		name     string
		changes  []model.Change
		released bool
	}{
		{"nothing happened", nil, false},
		{"the pod is gone", []model.Change{gone}, true},
		{"another address", []model.Change{model.Set(with(pod("canada", "p", "10.1.0.2"), uid(1)))}, true},
		{"another pod has it", []model.Change{gone, model.Set(pod("canada", "q", a))}, true},
		{"another pod of the same name", []model.Change{model.Set(with(p(), uid(2)))}, true},
		{"one that is gone before", []model.Change{gone, model.Set(with(p(), uid(2)))}, true},
		{"refused", []model.Change{model.Set(west()), model.Set(node("west", "n", a))}, true},
		{"its cluster is drained", []model.Change{model.Gone(model.ClusterKey("canada"))}, true},
		{"an address more, other labels and ports", []model.Change{
			model.Set(withPorts(with(pod("canada", "p", a, "10.1.0.2"), func(e *model.Endpoint) { uid(1)(e); e.Labels = labels("x", "y") }), tcp("web", 80))),
		}, false},
		{"gone, and the same again", []model.Change{gone, model.Set(p())}, false},
		{"what another one had meanwhile only", []model.Change{model.Set(pod("canada", "q", "10.1.0.2")), model.Gone(model.PodKey("canada", "shop", "q"))}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := worlds(remote("canada"), p())[0]
			if first := x.TakeReleased(); len(first) > 0 {
				t.Fatalf("at first: %v", first)
			}
			applyAll(x, tt.changes)
			var want []netip.Addr
			if tt.released {
				want = addrs(a)
			}
			if got := x.TakeReleased(); !slices.Equal(got, want) {
				t.Errorf("released are %v, want %v", got, want)
			}
			if got := x.TakeReleased(); len(got) > 0 {
				t.Errorf("%v once more", got)
			}
		})
	}
}

func TestChangedNamesWhatIsNewGoneOrOther(t *testing.T) {
	x := worlds(remote("canada"), withPorts(pod("canada", "p", "10.1.0.1"), tcp("web", 80)))[0]
	kept, other, came := parse(t, "app == 'p'"), parse(t, "has(other)"), parse(t, "has(came)")
	web := PortQuery{kept, "web", model.TCP}
	x.Track(kept)
	x.Track(other)
	x.TrackPorts(web)
	old := x.View()
	if got := slices.Collect(Changed(View{}, old)); len(got) != 2 {
		t.Errorf("since the zero View: %v", got)
	}
	x.Untrack(other)
	x.Track(came)
	x.Apply(model.Set(withPorts(pod("canada", "p", "10.1.0.1"), tcp("web", 81))))
	now := x.View()
	for range Changed(old, now) {
		break // it must be possible
	}
	got := slices.Collect(Changed(old, now))
	if len(got) != 2 || !slices.Contains(got, other) || !slices.Contains(got, came) {
		t.Errorf("changed are %v", got)
	}
	if got := slices.Collect(ChangedPorts(old, now)); len(got) != 1 || got[0] != web {
		t.Errorf("of queries: %v", got)
	}
	x.Apply(model.Set(withPorts(pod("canada", "p", "10.1.0.1"), tcp("web", 80))))
	if got := slices.Collect(ChangedPorts(old, x.View())); len(got) > 0 {
		t.Errorf("of what was changed and changed back: %v", got)
	}
}
