package fabric

import (
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/topology"
)

// impair sets one direction of the peering of the first two clusters.
func impair(t *testing.T, f *Fabric, from, to topology.Cluster, state Impairment) {
	t.Helper()
	if err := f.Impair(from.Name, to.Name, state); err != nil {
		t.Fatal(err)
	}
	if got, ok := f.Impairment(from.Name, to.Name); !ok || got != state {
		t.Errorf("the state is %+v, want %+v", got, state)
	}
}

func TestAPeeringIsCutOneWayOrBothAndHealed(t *testing.T) {
	lab := twoClusters()
	f := build(t, lab)
	west, canada := lab.Clusters[0], lab.Clusters[1]
	a, b := west.Nodes[0], canada.Nodes[0]
	steps := []struct {
		name                string
		there, back         Impairment
		thereWant, backWant bool
	}{
		{"healthy", Impairment{}, Impairment{}, true, true},
		{"cut there", Impairment{Cut: true}, Impairment{}, false, true},
		{"cut back", Impairment{}, Impairment{Cut: true}, true, false},
		{"cut both", Impairment{Cut: true}, Impairment{Cut: true}, false, false},
		{"healed", Impairment{}, Impairment{}, true, true},
		{"all lost there", Impairment{Loss: 1}, Impairment{}, false, true},
		{"slow there, all lost back", Impairment{Delay: time.Millisecond}, Impairment{Loss: 1}, true, false},
		{"cut although slow", Impairment{Delay: time.Millisecond, Cut: true}, Impairment{}, false, true},
		{"limited", Impairment{Rate: 1 << 20}, Impairment{Rate: 1 << 20}, true, true},
		{"healed again", Impairment{}, Impairment{}, true, true},
	}
	for _, step := range steps {
		impair(t, f, west, canada, step.there)
		impair(t, f, canada, west, step.back)
		if got := arrives(t, f, a, b); got != step.thereWant {
			t.Errorf("%s: packets from west to canada arrive: %t, want %t", step.name, got, step.thereWant)
		}
		if got := arrives(t, f, b, a); got != step.backWant {
			t.Errorf("%s: packets from canada to west arrive: %t, want %t", step.name, got, step.backWant)
		}
		both := step.thereWant && step.backWant
		expect(t, f, a.Namespace, both, b.Addresses.V6, b.Pods.V4.First, canada.ControlPlane.Addresses.V4)
	}
	// What is within a VNet or comes from outside never minds.
	impair(t, f, west, canada, Impairment{Cut: true})
	expect(t, f, a.Namespace, true, west.Nodes[1].Addresses.V4, lab.Outside.Addresses.V4)
	expect(t, f, lab.Outside.Namespace, true, b.Addresses.V4)
}

func TestCuttingTheAPIPathSparesNodesAndPods(t *testing.T) {
	lab := twoClusters()
	f := build(t, lab)
	west, canada := lab.Clusters[0], lab.Clusters[1]
	from, to := west.Nodes[0].Namespace, canada.Nodes[0]
	for range 2 { // as it was, it can be cut and healed again
		impair(t, f, west, canada, Impairment{CutAPI: true})
		expect(t, f, from, false, topology.Addrs(canada.ControlPlane.Addresses)...)
		expect(t, f, from, true, to.Addresses.V4, to.Addresses.V6, to.Pods.V4.First, to.Pods.V6.First)
		// Answers of west's API server still find their way.
		expect(t, f, to.Namespace, true, topology.Addrs(west.ControlPlane.Addresses)...)
		impair(t, f, west, canada, Impairment{})
		expect(t, f, from, true, topology.Addrs(canada.ControlPlane.Addresses)...)
	}
}

func TestADelayIsAddedEachWay(t *testing.T) {
	lab := twoClusters()
	f := build(t, lab)
	west, canada := lab.Clusters[0], lab.Clusters[1]
	const delay = 30 * time.Millisecond
	impair(t, f, west, canada, Impairment{Delay: delay})
	impair(t, f, canada, west, Impairment{Delay: delay})
	for _, r := range probe(t, f, west.Nodes[0].Namespace, icmp(topology.Addrs(canada.Nodes[0].Addresses)...)...) {
		if least := float64(2*delay) / float64(time.Millisecond); !r.OK || r.Milliseconds < least {
			t.Errorf("%s: answered %t after %g ms, want at least %g ms", r.Target, r.OK, r.Milliseconds, least)
		}
	}
}

func TestAnImpossibleImpairmentIsRefusedAndChangesNothing(t *testing.T) {
	lab := twoClusters()
	f := build(t, lab)
	tests := []struct {
		from, to string
		state    Impairment
		want     string
	}{
		{"west", "east", Impairment{}, `no peering from "west" to "east" in this lab`},
		{"west", "west", Impairment{}, `no peering from "west" to "west" in this lab`},
		{"west", "canada", Impairment{Delay: -1}, "delay: 0 to 1m expected, got -1ns"},
		{"west", "canada", Impairment{Delay: time.Hour}, "delay: 0 to 1m expected"},
		{"west", "canada", Impairment{Loss: 1.1}, "loss: 0 to 1 expected, got 1.1"},
		{"west", "canada", Impairment{Rate: -5}, "rate: bytes a second expected, got -5"},
	}
	for _, tt := range tests {
		if err := f.Impair(tt.from, tt.to, tt.state); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s → %s %+v: want %q, got %v", tt.from, tt.to, tt.state, tt.want, err)
		}
	}
	if state, ok := f.Impairment("west", "canada"); !ok || state != (Impairment{}) {
		t.Errorf("the peering is now %+v", state)
	}
}

func TestAdmitDecidesWhenAPacketIsDue(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	after := func(d time.Duration) time.Time { return now.Add(d) }
	type packet struct {
		size   int
		at     time.Duration // when it comes
		want   time.Duration // when it is due
		isLost bool
	}
	tests := []struct {
		name    string
		state   Impairment
		packets []packet
	}{
		{"healthy: at once", Impairment{}, []packet{{1500, 0, 0, false}, {1500, 0, 0, false}}},
		{"delay: each for itself", Impairment{Delay: 40 * time.Millisecond}, []packet{
			{1500, 0, 40 * time.Millisecond, false},
			{100, 10 * time.Millisecond, 50 * time.Millisecond, false},
		}},
		{"loss of all", Impairment{Loss: 1, Delay: time.Second}, []packet{{1, 0, 0, true}, {1500, 0, 0, true}}},
		// 1,000 bytes at 10,000 a second take 100 ms on the link.
		{"rate: one after the other", Impairment{Rate: 10_000}, []packet{
			{1000, 0, 100 * time.Millisecond, false},
			{500, 0, 150 * time.Millisecond, false},
			{1000, 120 * time.Millisecond, 250 * time.Millisecond, false},
			// The link has been idle meanwhile, which is no credit.
			{1000, time.Second, 1100 * time.Millisecond, false},
		}},
		{"rate and delay add up", Impairment{Rate: 10_000, Delay: time.Second}, []packet{
			{1000, 0, 1100 * time.Millisecond, false},
			{1000, 0, 1200 * time.Millisecond, false},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			link := &tun{}
			link.shape(tt.state)
			for i, p := range tt.packets {
				due, lost := link.admit(p.size, after(p.at))
				if lost != p.isLost || (!lost && !due.Equal(after(p.want))) {
					t.Errorf("packet %d: due after %s, lost %t; want %s, %t", i, due.Sub(now), lost, p.want, p.isLost)
				}
			}
		})
	}
}

func TestAShareOfPacketsIsLost(t *testing.T) {
	link := &tun{}
	link.shape(Impairment{Loss: 0.5})
	const all = 10_000
	count := 0
	for range all {
		if _, lost := link.admit(100, time.Now()); lost {
			count++
		}
	}
	// Ten standard deviations of a fair coin.
	if count < all/2-500 || count > all/2+500 {
		t.Errorf("%d of %d lost at a loss of one half", count, all)
	}
}
