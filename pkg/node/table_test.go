package node

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

const pod = "azv0123456789a"

func host(addr string, link int) route { return route{addr: netip.MustParseAddr(addr), link: link} }

func TestPodInterfacesAreKnownByName(t *testing.T) {
	for name, want := range map[string]bool{
		pod: true, pod + "2": false, "azv": true, "azvfoo": true, "azv01234567892": true, "azv0123456789a3": true,
		"eth0": false, "": false, "xazv": false,
	} {
		if isPodInterface(name) != want {
			t.Errorf("%s: got %v", name, !want)
		}
	}
}

func TestTableSaysWhichAddressesArriveWhere(t *testing.T) {
	table := fill([]link{{1, "lo", true}, {5, pod, true}, {6, "eth0", true}, {7, "azvother", true}},
		[]route{host("10.0.0.9", 5), host("10.0.0.8", 5), host("fd00::8", 5), host("10.0.0.1", 6)})
	want := "[{azv0123456789a 5 [10.0.0.8 10.0.0.9 fd00::8]} {azvother 7 []}]"
	if got := fmt.Sprint(table.interfaces()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTheLowestMetricOwnsAnAddress(t *testing.T) {
	worse := host("10.0.0.8", 7)
	worse.metric = 10
	table := fill([]link{{5, pod, true}, {7, "azvother", true}}, []route{worse, host("10.0.0.8", 5)})
	if got := fmt.Sprint(table.interfaces()); got != "[{azv0123456789a 5 [10.0.0.8]} {azvother 7 []}]" {
		t.Errorf("got %s", got)
	}
	table.removeRoute(host("10.0.0.8", 5))
	if got := fmt.Sprint(table.interfaces()); got != "[{azv0123456789a 5 []} {azvother 7 [10.0.0.8]}]" {
		t.Errorf("got %s", got)
	}
}

func TestALinkThatGoesDownLosesItsRoutes(t *testing.T) {
	table := fill([]link{{5, pod, true}}, []route{host("10.0.0.8", 5)})
	table.setLink(link{5, pod, false}, true)
	if got := fmt.Sprint(table.interfaces()); got != "[{azv0123456789a 5 []}]" {
		t.Errorf("got %s", got)
	}
	table.setLink(link{5, pod, false}, false)
	if got := table.interfaces(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestWhatIsNotCertainIsDoubtful(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*table)
		want   bool
	}{
		"replaced":       {func(t *table) { t.setRoute(host("10.0.0.8", 7), true) }, false},
		"told twice":     {func(t *table) { t.setRoute(host("10.0.0.8", 5), false) }, false},
		"appended":       {func(t *table) { t.setRoute(host("10.0.0.8", 7), false) }, true},
		"removed":        {func(t *table) { t.removeRoute(host("10.0.0.8", 5)) }, false},
		"another's gone": {func(t *table) { t.removeRoute(host("10.0.0.8", 7)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			table := fill([]link{{5, pod, true}}, []route{host("10.0.0.8", 5)})
			if tt.change(table); table.doubtful != tt.want {
				t.Errorf("doubtful %v", table.doubtful)
			}
		})
	}
}

// TestEventsLeadToWhatAListSays applies random events to a table and to a plain
// picture of the kernel.
func TestEventsLeadToWhatAListSays(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	links, routes := map[int]link{}, map[netip.Addr]route{}
	table := newTable()
	for range 5000 {
		index := 1 + random.IntN(8)
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(6))})
		l, there := links[index]
		switch r, routed := routes[addr]; {
		case random.IntN(4) == 0:
			l = link{index, fmt.Sprintf("azv%d", index), random.IntN(4) > 0}
			gone := there && random.IntN(2) == 0
			if links[index] = l; gone {
				delete(links, index)
			}
			table.setLink(l, !gone)
			if gone || !l.up {
				for a, r := range routes {
					if r.link == index {
						delete(routes, a)
					}
				}
			}
		case routed && random.IntN(2) == 0:
			delete(routes, addr)
			table.removeRoute(r)
		case there && l.up:
			routes[addr] = route{addr: addr, link: index}
			table.setRoute(routes[addr], true)
		}
		want := picture(links, routes)
		if got := table.interfaces(); table.doubtful || !slices.EqualFunc(got, want, equal) {
			t.Fatalf("got %v (doubtful: %v), want %v", got, table.doubtful, want)
		}
	}
}

func picture(links map[int]link, routes map[netip.Addr]route) []model.Interface {
	var ls []link
	var rs []route
	for _, l := range links {
		ls = append(ls, l)
	}
	for _, r := range routes {
		rs = append(rs, r)
	}
	return fill(ls, rs).interfaces()
}
