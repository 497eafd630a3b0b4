package dataplanetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

func membersOnly(t *testing.T, open Factory) {
	n, length := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, -1)
		states := NewStates(s.rng)
		old := states.Next()
		s.settle(old)
		for range length {
			s.connect(8)
			states.gen++
			states.shuffleMembers(1 + s.rng.IntN(8))
			now := states.publish(old.Rules)
			r := s.settle(now)
			added, deleted := moved(old, now)
			if r.Transactions > 0 || r.Raised || r.Added != added || r.Deleted != deleted {
				s.fatalf("a change of %d and %d members: %+v", added, deleted, r)
			}
			old = now
		}
	}
}

// moved counts the members that differ.
func moved(old, now *desired.State) (added, deleted int) {
	count := func(add bool) {
		if add {
			added++
		} else {
			deleted++
		}
	}
	for c := range pset.DiffMap(old.Sets, now.Sets) {
		for _, add := range pset.Diff(c.Old.Addrs, c.New.Addrs) {
			count(add)
		}
		for _, add := range pset.Diff(c.Old.Ports, c.New.Ports) {
			count(add)
		}
	}
	return added, deleted
}

// service has connections through virtual addresses to two backends, of which
// one is then denied: by a member that leaves, and by a rule that goes.
func service(t *testing.T, open Factory) {
	for _, byRule := range []bool{false, true} {
		s := newSubject(t, open, 1, -1)
		w := newFixed(s)
		denied, allowed := remoteAddrs()[0], remoteAddrs()[2]
		w.member(0, allowed, denied)
		w.member(1, denied)
		rules := append(fromApp(0, model.TCP, 80), fromApp(0, model.UDP, 80)...)
		also := append(fromApp(1, model.TCP, 80), fromApp(1, model.UDP, 80)...)
		if byRule {
			w.member(0, allowed)
			w.slots[0].egress = side(append(rules, also...)...)
		} else {
			w.slots[0].egress = side(rules...)
		}
		s.settle(w.state(true, false))
		packets := map[netip.Addr][]Packet{}
		for i, backend := range []netip.Addr{denied, allowed} {
			for _, p := range []model.Protocol{model.TCP, model.UDP} {
				vip := netip.AddrPortFrom(address("10.9.0.%d", 1+i), 8)
				s.k.Translate(p, vip, netip.AddrPortFrom(backend, 80))
				there := packet(pairOf(s.k, localAddrs(0)[0], backend, p, 80))
				there.Dst, there.DstPort = vip.Addr(), vip.Port()
				back := packet(pairOf(s.k, localAddrs(0)[0], backend, p, 80)).Reverse()
				packets[backend] = append(packets[backend], there, back)
			}
		}
		s.passing("before", true, packets[denied])
		s.passing("before", true, packets[allowed])
		if byRule {
			w.slots[0].egress = side(rules...)
			s.settle(w.state(true, false))
		} else {
			w.member(0, allowed)
			if r := s.settle(w.again()); r.Transactions > 0 {
				s.fatalf("a member that leaves: %+v", r)
			}
		}
		s.passing("after", false, packets[denied])
		s.passing("after", true, packets[allowed])
		for _, c := range s.k.Connections() {
			if c.Real == c.Dst {
				s.fatalf("the translation is lost: %+v", c)
			}
		}
	}
}

func (s *subject) passing(when string, want bool, packets []Packet) {
	s.t.Helper()
	for range 2 {
		for _, p := range packets {
			if fate := s.k.Send(p); fate.Passed != want {
				s.fatalf("%s: %+v passes %t, want %t\n%s", when, p, fate.Passed, want, fate)
			}
		}
	}
}

// lostAnswers has changes that are done and said to have failed, connections that
// come about by them, and then a change that denies these.
func lostAnswers(t *testing.T, open Factory) {
	for _, byRule := range []bool{false, true} {
		for lost := range 10 {
			s := newSubject(t, open, 1, -1)
			s.name = fmt.Sprintf("by rule %t, %d answers are lost", byRule, lost)
			w := newFixed(s)
			addr := remoteAddrs()[0]
			w.member(0, addr)
			both := side(append(fromApp(0, model.TCP, 80), fromApp(1, model.TCP, 80)...)...)
			one := side(fromApp(1, model.TCP, 80)...)
			w.slots[0].ingress, w.slots[1].ingress = one, both
			s.settle(w.state(true, false))
			change := func(allow bool) *desired.State {
				if byRule {
					// The other pod is tightened at the same time: a generation is raised.
					w.slots[0].ingress, w.slots[1].ingress = one, one
					if allow {
						w.slots[0].ingress = both
					}
					return w.state(true, false)
				}
				w.member(1)
				if allow {
					w.member(1, addr)
				}
				return w.again()
			}
			for range lost {
				s.k.FailNext(OpRestore, All, nil)
				s.k.FailNext(OpChange, All, nil)
			}
			_, _, _ = s.try(change(true))
			s.k.forgive()
			f := pairOf(s.k, addr, localAddrs(0)[0], model.TCP, 80)
			if !s.k.Send(packet(f)).Passed || !s.k.Send(packet(f).Reverse()).Passed {
				continue // not done, for as much as was lost
			}
			s.live = append(s.live, live{flow: f})
			s.settle(change(false)) // ends it
		}
	}
}

// newOwners has addresses change their owners: one that leaves a set and enters
// another is for a moment in none, and never in both (dataplane.md 3.1).
func newOwners(t *testing.T, open Factory) {
	s := newSubject(t, open, 1, -1)
	w := newFixed(s)
	w.slots[0].ingress = side(append(fromApp(0, model.TCP, 80), fromApp(1, model.TCP, 80)...)...)
	addr := remoteAddrs()[0]
	w.member(0, addr)
	s.settle(w.state(true, false))
	for i := range 6 {
		from, to := i%2, 1-i%2
		w.member(from)
		w.member(to, addr)
		released := i < 4
		if released {
			w.released = w.released.With(addr, w.gen+1)
		}
		now := w.again()
		s.prepare(now)
		both, none := false, false
		s.k.Watch(func(string) {
			in := 0
			for app := range 2 {
				if s.k.isMember(fixedSet(app), addr) {
					in++
				}
			}
			both, none = both || in == 2, none || in == 0
		})
		if _, err := s.dp.Apply(t.Context(), now); err != nil {
			s.fatalf("%v", err)
		}
		s.k.Watch(nil)
		if both && released || none && !released {
			s.fatalf("released %t: in both sets %t, in none %t", released, both, none)
		}
		s.settle(now)
	}
}

func fixedSet(i int) string { return string(app(desired.IPv4, i)) }

func (k *Kernel) isMember(set string, a netip.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sets[set].holds(a, 0, 0)
}

func removes(t *testing.T, open Factory) {
	n, _ := walks(t)
	for seed := range uint64(n) {
		s := newSubject(t, open, seed, 0)
		others := s.preload()
		states := NewStates(s.rng)
		s.settle(states.Next())
		s.settle(states.Next())
		for range 2 {
			var err error
			for range 100 {
				if err = s.dp.Remove(context.Background()); err == nil {
					break
				}
			}
			if err != nil {
				s.fatalf("remove: %v", err)
			}
			if left := s.k.Ours(); len(left) > 0 {
				s.fatalf("left over: %q", left)
			}
			if now := s.k.Foreign(); now != others {
				s.fatalf("foreign things have changed from\n%s\nto\n%s", others, now)
			}
			if v := s.k.Violations(); len(v) > 0 {
				s.fatalf("touched what is not its own: %q", v)
			}
		}
		// And it can begin again, with the same instance.
		s.pending, s.live = nil, nil
		s.settle(states.Next())
	}
}

func generations(t *testing.T, open Factory) {
	s := newSubject(t, open, 1, -1)
	w := newFixed(s)
	peer := remoteAddrs()[0]
	w.member(0, peer)
	open80 := side(append(fromApp(0, model.TCP, 80), fromApp(0, model.UDP, 80)...)...)
	open443 := side(fromApp(0, model.TCP, 80)...)
	w.slots[0].ingress = open80
	s.settle(w.state(true, false))
	lives := pairOf(s.k, peer, localAddrs(0)[0], model.TCP, 80)
	dies := pairOf(s.k, peer, localAddrs(0)[0], model.UDP, 80)
	for _, f := range []desired.Flow{lives, dies} {
		s.establish(f, false)
	}
	s.live = nil // no packets in between: they would be judged again
	w.slots[0].ingress = open443
	s.settle(w.state(true, false))
	raised := 0
	for i := range 600 {
		s.brief = i%50 != 0
		w.slots[1].ingress = []*desired.Side{open80, open443}[i%2]
		if r := s.settle(w.state(true, false)); r.Raised {
			raised++
		}
		for _, p := range []Packet{packet(dies), packet(dies).Reverse()} {
			if fate := s.k.Probe(p); fate.Passed {
				s.fatalf("after %d generations a denied connection lives again: %+v\n%s", raised, p, fate)
			}
		}
		for _, p := range []Packet{packet(lives), packet(lives).Reverse()} {
			if fate := s.k.Probe(p); !fate.Passed {
				s.fatalf("after %d generations an allowed connection is cut: %+v\n%s", raised, p, fate)
			}
		}
	}
	const all = 255
	if raised <= all {
		s.fatalf("600 changes, half of which tighten, have raised the generation %d times, want more than %d", raised, all)
	}
}

func truth(t *testing.T, open Factory) {
	errs := []error{ErrInjected, iptables.ErrLocked, errors.New("cannot allocate memory")}
	seed := uint64(0)
	for _, op := range []Op{OpTables, OpRestore, OpSets, OpElements, OpChange, OpFlows} {
		for _, effect := range []Effect{Nothing, Part, All} {
			injected := errs[seed%uint64(len(errs))]
			s := newSubject(t, open, seed, -1)
			s.name = fmt.Sprintf("seed %d, operation %d, effect %d, %v", seed, op, effect, injected)
			states := NewStates(s.rng)
			s.settle(states.Next())
			s.connect(8)
			s.truthful(states, op, effect, injected)
			s.settle(states.Next())
			s.clean()
			seed++
		}
		seed++ // so that the errors are not always with the same effects
	}
}

// truthful lets an operation fail in some Applies, and checks what they say.
func (s *subject) truthful(states *States, op Op, effect Effect, injected error) {
	s.t.Helper()
	for range 6 {
		want := states.Next()
		s.remember()
		for range 1 + s.rng.IntN(6) {
			s.k.FailNext(op, effect, injected)
		}
		if s.rng.IntN(2) == 0 {
			s.dp.Forget()
		}
		r, _, err := s.try(want)
		switch {
		case err != nil && !errors.Is(err, injected):
			s.fatalf("the error is not what went wrong: %v", err)
		case err != nil && r.Applied && op != OpSets && op != OpChange && op != OpRestore && op != OpFlows:
			s.fatalf("in force, with the error %v", err)
		}
		s.k.forgive()
		if err != nil {
			s.traffic(want)
		}
		if s.rng.IntN(2) == 0 {
			s.settle(want)
			s.connect(4)
		}
	}
}
