package delta

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

type members = map[desired.SetID]desired.Members

func TestOfAnUnknownPastAllIsNewAndEveryConnectionIsJudgedAgain(t *testing.T) {
	now := state(1, rules(pod(1, side(from(friends())), nil, "10.0.0.1")), members{friends().ID: addrSet("10.9.0.1")})
	want := Delta{RulesChanged: true, Tightened: true, LeftAll: true, Create: []desired.SetSpec{friends()}}
	if got := Between(nil, now); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestOfEqualStatesThereIsNoDifference(t *testing.T) {
	make := func(gen uint64) *desired.State {
		r := rules(pod(1, side(from(friends())), nil, "10.0.0.1"))
		r.Unknown = []desired.Unknown{unknown(2, true, "10.0.0.2")}
		r.Exceptions = []desired.Exception{{Interface: "azv1", Prefix: netip.MustParsePrefix("172.16.0.0/12")}}
		return state(gen, r, members{friends().ID: addrSet("10.9.0.1", "10.9.0.2")})
	}
	old, now := make(1), make(2)
	if got := Between(old, old); !reflect.DeepEqual(got, Delta{}) {
		t.Errorf("of one State: %+v", got)
	}
	if got := Between(old, now); !reflect.DeepEqual(got, Delta{}) {
		t.Errorf("of equal ones: %+v", got)
	}
}

// A part of Rules that equalRules forgets would never reach the kernel.
func TestEachPartOfRulesCounts(t *testing.T) {
	base := func() *desired.Rules {
		r := rules(pod(1, side(from(friends())), nil, "10.0.0.1"))
		r.Unknown = []desired.Unknown{unknown(2, true, "10.0.0.2")}
		r.Exceptions = []desired.Exception{{Interface: "azv1", Prefix: netip.MustParsePrefix("172.16.0.0/12")}}
		return r
	}
	for name, change := range map[string]func(*desired.Rules){
		"Protected":               func(r *desired.Rules) { r.Protected = false },
		"OwnNodeEgress":           func(r *desired.Rules) { r.OwnNodeEgress = true },
		"Endpoints":               func(r *desired.Rules) { r.Endpoints = nil },
		"Endpoint.Interface":      func(r *desired.Rules) { r.Endpoints[0].Interface.Index++ },
		"Endpoint.Interface.Name": func(r *desired.Rules) { r.Endpoints[0].Interface.Name = "azv0" },
		"Endpoint.Interface.Addr": func(r *desired.Rules) { r.Endpoints[0].Interface.Addrs = nil },
		"Endpoint.Pod":            func(r *desired.Rules) { r.Endpoints[0].Pod.Name = "other" },
		"Endpoint.UID":            func(r *desired.Rules) { r.Endpoints[0].UID = model.UID{9} },
		"Endpoint.Addrs":          func(r *desired.Rules) { r.Endpoints[0].Addrs = addrs("10.0.0.9") },
		"Endpoint.Ingress":        func(r *desired.Rules) { r.Endpoints[0].Ingress = nil },
		"Endpoint.Egress":         func(r *desired.Rules) { r.Endpoints[0].Egress = side() },
		"Side.List":               func(r *desired.Rules) { r.Endpoints[0].Ingress = side(from(foes())) },
		"Side.Policies":           func(r *desired.Rules) { r.Endpoints[0].Ingress.Policies[0].Name = "q" },
		"Side.Origins":            func(r *desired.Rules) { r.Endpoints[0].Ingress.Origins[0][0].Rule = 1 },
		"Unknown":                 func(r *desired.Rules) { r.Unknown[0].Index++ },
		"Unknown.Grandfathered":   func(r *desired.Rules) { r.Unknown[0].Grandfathered = false },
		"Exceptions":              func(r *desired.Rules) { r.Exceptions = nil },
		"Sets":                    func(r *desired.Rules) { r.Sets = nil },
	} {
		changed := base()
		change(changed)
		if got := Between(&desired.State{Rules: base()}, &desired.State{Rules: changed}); !got.RulesChanged {
			t.Errorf("%s: not seen", name)
		}
	}
}

func TestSetsComeAndGoAndMembersChange(t *testing.T) {
	old := state(1, rules(pod(1, side(from(friends()), from(webs())), nil)), members{
		friends().ID: addrSet("10.9.0.1", "10.9.0.2"), webs().ID: portSet("10.9.0.1:80"),
	})
	now := state(2, rules(pod(1, side(from(foes()), from(webs())), nil)), members{
		foes().ID: addrSet("10.9.0.1"), webs().ID: portSet("10.9.0.1:81", "10.9.0.1:82"),
	})
	d := Between(old, now)
	if !reflect.DeepEqual(d.Create, []desired.SetSpec{foes()}) || !reflect.DeepEqual(d.Remove, []desired.SetSpec{friends()}) {
		t.Errorf("create %v, remove %v", d.Create, d.Remove)
	}
	if len(d.Changes) != 1 || d.Changes[0].Spec.ID != webs().ID {
		t.Fatalf("changes %v", d.Changes)
	}
	added := slices.SortedFunc(d.Changes[0].Added(), netip.AddrPort.Compare)
	deleted := slices.Collect(d.Changes[0].Deleted())
	if !slices.Equal(added, []netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:81"), netip.MustParseAddrPort("10.9.0.1:82")}) ||
		!slices.Equal(deleted, []netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:80")}) {
		t.Errorf("added %v, deleted %v", added, deleted)
	}
	// A port that is gone is enough, whatever others the address has.
	if !slices.Equal(d.Left, addrs("10.9.0.1")) {
		t.Errorf("left %v", d.Left)
	}
}

func TestMembersAloneAreNoRuleChange(t *testing.T) {
	r := rules(pod(1, side(from(friends())), nil))
	old := state(1, r, members{friends().ID: addrSet("10.9.0.1", "10.9.0.2", "10.9.0.3")})
	now := state(2, r, members{friends().ID: addrSet("10.9.0.3", "10.9.0.4")})
	d := Between(old, now)
	if d.RulesChanged || d.Tightened || d.LeftAll || d.Taken != nil {
		t.Errorf("got %+v", d)
	}
	if !slices.Equal(d.Left, addrs("10.9.0.1", "10.9.0.2")) {
		t.Errorf("left %v", d.Left)
	}
	again := state(3, r, members{friends().ID: addrSet("10.9.0.4", "10.9.0.3")})
	if d := Between(now, again); len(d.Changes) != 0 {
		t.Errorf("equal content in another version is a change: %v", d.Changes)
	}
}

func TestReleasedAddressesAreJudgedAgain_1_5(t *testing.T) {
	r := rules(pod(1, side(from(friends()), from(webs())), nil))
	m := members{friends().ID: addrSet("10.9.0.1", "10.9.0.2"), webs().ID: portSet("10.9.0.5:80")}
	old := release(state(5, r, m), 4, "10.9.0.2")
	for name, c := range map[string]struct {
		now  *desired.State
		left []netip.Addr
		all  bool
	}{
		"in a set, and in it again":  {release(state(6, r, m), 6, "10.9.0.1"), addrs("10.9.0.1"), false},
		"in a set with ports":        {release(state(6, r, m), 6, "10.9.0.5"), addrs("10.9.0.5"), false},
		"in no set":                  {release(state(6, r, m), 6, "10.9.0.7"), nil, false},
		"once more":                  {release(state(6, r, m), 6, "10.9.0.2"), addrs("10.9.0.2"), false},
		"before what is in force":    {release(state(6, r, m), 5, "10.9.0.1"), nil, false},
		"in force already":           {release(state(6, r, m), 4, "10.9.0.2"), nil, false},
		"in a set that is new to it": {release(state(6, r, members{friends().ID: addrSet("10.9.0.1", "10.9.0.2", "10.9.0.3"), webs().ID: m[webs().ID]}), 6, "10.9.0.3"), nil, false},
		"some steps later":           {release(release(state(9, r, m), 7, "10.9.0.1"), 9, "10.9.0.2"), addrs("10.9.0.1", "10.9.0.2"), false},
		"forgotten meanwhile":        {&desired.State{Gen: 9, Rules: r, Sets: old.Sets, ReleasedFloor: 6}, nil, true},
		"forgotten what is known":    {&desired.State{Gen: 9, Rules: r, Sets: old.Sets, ReleasedFloor: 5}, nil, false},
	} {
		d := Between(old, c.now)
		if !slices.Equal(d.Left, c.left) || d.LeftAll != c.all || d.Tightened {
			t.Errorf("%s: left %v, all %v, tightened %v", name, d.Left, d.LeftAll, d.Tightened)
		}
	}
}

func TestReleasedInASetThatIsGoneIsAMatterOfTheRules(t *testing.T) {
	old := state(5, rules(pod(1, side(from(friends())), nil)), members{friends().ID: addrSet("10.9.0.1")})
	now := release(state(6, rules(pod(1, side(), nil)), nil), 6, "10.9.0.1")
	if d := Between(old, now); d.Left != nil || !d.Tightened {
		t.Errorf("got %+v", d)
	}
}

func many(n int) pset.Set[netip.Addr] {
	e := pset.Set[netip.Addr]{}.Edit()
	for i := range n {
		e.Add(nth(i))
	}
	return e.Done()
}

func nth(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24+uint32(i))
	return netip.AddrFrom4(b)
}

func TestTooManyAddressesAreAll(t *testing.T) {
	r := rules(pod(1, side(from(friends())), nil))
	old := state(1, r, members{friends().ID: {Addrs: many(LeftLimit + 1)}})
	if d := Between(old, state(2, r, nil)); !d.LeftAll || d.Left != nil || len(d.Changes) != 1 {
		t.Errorf("left %d, all %v, %d changes", len(d.Left), d.LeftAll, len(d.Changes))
	}
	kept := state(2, r, members{friends().ID: {Addrs: pset.Set[netip.Addr]{}.With(nth(0))}})
	if d := Between(old, kept); d.LeftAll || len(d.Left) != LeftLimit {
		t.Errorf("left %d, all %v", len(d.Left), d.LeftAll)
	}

	// So many that to ask for each in each set would cost too much: those that
	// may be in one are taken to be.
	released := *old
	released.Gen = 2
	e := released.Released.Edit()
	for i := range LeftLimit + 1 {
		e.Set(nth(i), 2)
	}
	released.Released = e.Done()
	if d := Between(old, &released); !d.LeftAll {
		t.Errorf("%d left of %d released", len(d.Left), LeftLimit+1)
	}
}

func TestPortsOfLargeSetsAreNotSearched(t *testing.T) {
	e := pset.Set[netip.AddrPort]{}.Edit()
	for i := range 5000 {
		e.Add(netip.AddrPortFrom(nth(i), 80))
	}
	r := rules(pod(1, side(from(webs())), nil))
	old := state(1, r, members{webs().ID: {Ports: e.Done()}})
	now := *old
	now.Gen = 2
	if d := Between(old, release(&now, 2, "192.0.2.1", "fd00::1")); !slices.Equal(d.Left, addrs("192.0.2.1")) {
		t.Errorf("left %v: want that of the set's family, to be sure", d.Left)
	}
}

func TestTakenAddresses(t *testing.T) {
	other := func(e desired.Endpoint, change func(*desired.Endpoint)) desired.Endpoint {
		change(&e)
		return e
	}
	was := pod(1, nil, nil, "10.0.0.1", "fd00::1")
	with := func(pods []desired.Endpoint, unknowns ...desired.Unknown) *desired.Rules {
		r := rules(pods...)
		r.Unknown = unknowns
		return r
	}
	both := addrs("10.0.0.1", "fd00::1")
	pods := func(all ...desired.Endpoint) []desired.Endpoint { return all }
	for name, c := range map[string]struct {
		old, now *desired.Rules
		want     []netip.Addr
	}{
		"a pod appears":               {with(nil), with(pods(was)), both},
		"a pod leaves":                {with(pods(was)), with(nil), both},
		"an unknown one appears":      {with(nil), with(nil, unknown(1, false, "10.0.0.1")), addrs("10.0.0.1")},
		"an unknown one leaves":       {with(nil, unknown(1, true, "10.0.0.1")), with(nil), addrs("10.0.0.1")},
		"an address more":             {with(pods(was)), with(pods(pod(1, nil, nil, "10.0.0.1", "10.0.0.9", "fd00::1"))), addrs("10.0.0.9")},
		"an address less":             {with(pods(was)), with(pods(pod(1, nil, nil, "10.0.0.1"))), addrs("fd00::1")},
		"to another interface":        {with(pods(was)), with(pods(pod(2, nil, nil, "10.0.0.1", "fd00::1"))), both},
		"to another of the same name": {with(pods(was)), with(pods(other(was, func(e *desired.Endpoint) { e.Interface.Index++ }))), both},
		"to another pod":              {with(pods(was)), with(pods(other(was, func(e *desired.Endpoint) { e.UID = model.UID{77} }))), both},
		"its pod becomes known":       {with(nil, unknown(1, true, "10.0.0.1", "fd00::1")), with(pods(was)), nil},
		"its pod is not known":        {with(pods(was)), with(nil, unknown(1, false, "10.0.0.1", "fd00::1")), nil},
		"policy changes":              {with(pods(was)), with(pods(pod(1, side(), nil, "10.0.0.1", "fd00::1"))), nil},
		"what the API says changes":   {with(pods(was)), with(pods(other(was, func(e *desired.Endpoint) { e.Addrs = addrs("10.0.0.7") }))), nil},
		"routed twice, one unknown": {
			with(pods(was, pod(2, nil, nil, "10.0.0.1"))),
			with(pods(pod(2, nil, nil, "10.0.0.1")), unknown(1, false, "10.0.0.1", "fd00::1")), nil,
		},
		"not routed twice any more": {with(pods(was, pod(2, nil, nil, "10.0.0.1"))), with(pods(was)), addrs("10.0.0.1")},
	} {
		d := Between(&desired.State{Rules: c.old}, &desired.State{Rules: c.now})
		if !slices.Equal(d.Taken, c.want) {
			t.Errorf("%s: got %v, want %v", name, d.Taken, c.want)
		}
	}
}
