package dataplanetest

import (
	"net/netip"
	"slices"

	"github.com/overland-net/overland/pkg/desired"
)

// connect has some flows go through that the State in force allows, so that
// there are connections when it changes.
func (s *subject) connect(n int) {
	s.t.Helper()
	state := s.pending[0]
	all := flows(state)
	const most = 30 // each is looked at after each step
	for len(s.live) > most {
		s.expire(s.live[0].flow)
		s.live = s.live[1:]
	}
	for range n * 20 {
		f := all[s.rng.IntN(len(all))]
		if f.To.Node || f.From == f.To && f.From.Interface == "" || !consistent(s.k, f) || !state.Verdict(f).Allowed {
			continue
		}
		if f.SrcPort != 0 {
			s.ports++
			f.SrcPort = clientPort + s.ports%1000
		}
		s.establish(f, s.rng.IntN(3) == 0)
		if n--; n == 0 {
			return
		}
	}
}

// establish sends a packet of a flow and, unless it goes one way only, the
// answer.
func (s *subject) establish(f desired.Flow, oneWay bool) {
	s.t.Helper()
	if s.known(f) {
		return
	}
	pkt := packet(f)
	if fate := s.k.Send(pkt); !fate.Passed {
		s.fatalf("an allowed connection cannot be made: %+v\n%s", f, fate)
	}
	if fate := s.k.Send(pkt.Reverse()); !oneWay && !fate.Passed {
		s.fatalf("the answer of an allowed connection is dropped: %+v\n%s", f, fate)
	}
	if oneWay {
		// The answer above was one too many: forget it.
		s.unanswer(f)
	}
	s.live = append(s.live, live{flow: f, oneWay: oneWay})
}

// traffic is packets between two tries: of connections that are there, and of
// new ones, which are checked like others from then on if they come about.
func (s *subject) traffic(want *desired.State) {
	s.noisy = true
	for _, l := range s.live {
		if s.samePlaces(l.flow) && s.rng.IntN(2) == 0 {
			s.k.Send(packet(l.flow))
			if !l.oneWay {
				s.k.Send(packet(l.flow).Reverse())
			}
		}
	}
	all := flows(want)
	for range 10 {
		f := all[s.rng.IntN(len(all))]
		if f.To.Node || f.From == f.To && f.From.Interface == "" || !consistent(s.k, f) || s.known(f) || !s.samePlaces(f) {
			continue
		}
		if s.k.Send(packet(f)).Passed {
			s.live = append(s.live, live{flow: f, oneWay: !s.k.Send(packet(f).Reverse()).Passed})
		}
	}
}

// known tells whether packets of the flow belong to a connection already, be it
// in the other direction.
func (s *subject) known(f desired.Flow) bool {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	return s.k.tracker.conns[packet(f).tuple()] != nil
}

// expire forgets the connection of a flow, as time does.
func (s *subject) expire(f desired.Flow) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if c := s.k.tracker.conns[packet(f).tuple()]; c != nil {
		delete(s.k.tracker.conns, c.original())
		delete(s.k.tracker.conns, c.answer())
	}
}

func (s *subject) unanswer(f desired.Flow) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if c := s.k.tracker.conns[packet(f).tuple()]; c != nil {
		c.Replied = false
	}
}

// tracked is the connection of a flow, and whether there is one.
func (s *subject) tracked(f desired.Flow) (Conn, bool) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	c := s.k.tracker.conns[packet(f).tuple()]
	if c == nil || c.original() != packet(f).tuple() {
		return Conn{}, false
	}
	return *c, true
}

// remember notes the marks before a change.
func (s *subject) remember() {
	for i := range s.live {
		c, _ := s.tracked(s.live[i].flow)
		s.live[i].mark = c.Mark
	}
}

// tightened checks connections after a change: those that are not allowed any
// more are dropped in both directions (2.11), the others go on. Then packets of
// some of them are sent.
func (s *subject) tightened(before []*desired.State, want *desired.State) {
	s.t.Helper()
	var kept []live
	for _, l := range s.live {
		if _, there := s.tracked(l.flow); there && len(before) > 0 && !s.reborn && newPlace(before[0], want, l.flow) {
			s.fatalf("a connection is still there though its address went to another pod: %+v", l)
		}
		if !consistent(s.k, l.flow) {
			s.expire(l.flow)
			continue // its pod is not there any more
		}
		taken := slices.ContainsFunc(append(slices.Clone(before), s.pending...), func(b *desired.State) bool {
			return placeOf(b, l.flow.Src) != placeOf(want, l.flow.Src) || placeOf(b, l.flow.Dst) != placeOf(want, l.flow.Dst)
		})
		if s.after(before, want, l, taken) {
			kept = append(kept, l)
		}
	}
	s.live = kept
}

// newPlace tells whether an end of a flow is at another interface, or nowhere.
func newPlace(old, now *desired.State, f desired.Flow) bool {
	for _, a := range []netip.Addr{f.Src, f.Dst} {
		was, is := placeOf(old, a), placeOf(now, a)
		if was.name != is.name || was.index != is.index {
			return true
		}
	}
	return false
}

// after checks one connection, and tells whether it lives on.
func (s *subject) after(before []*desired.State, want *desired.State, l live, taken bool) bool {
	s.t.Helper()
	pkt := packet(l.flow)
	allowed := want.Verdict(l.flow).Allowed
	conn, there := s.tracked(l.flow)
	forth, back := s.k.Probe(pkt), s.k.Probe(pkt.Reverse())
	switch {
	case forth.Passed != allowed:
		s.fatalf("a packet of a connection, allowed %t: %+v\n%+v\n%s", allowed, l, conn, forth)
	case !there && !taken:
		s.fatalf("a connection was deleted although nobody took its addresses: %+v", l)
	case !there || l.oneWay:
	case back.Passed != allowed:
		s.fatalf("an answer of a connection, allowed %t: %+v\n%+v\n%s", allowed, l, conn, back)
	}
	if there && !s.raised && !s.noisy && conn.Mark == l.mark && l.mark != 0 && s.reused(before, want, l.flow) {
		s.fatalf("a connection has kept the verdict of an address's former owner: %+v %+v", l, conn)
	}
	if !allowed || !there {
		s.k.Send(pkt)
		s.expire(l.flow)
		return false
	}
	if s.rng.IntN(2) == 0 {
		s.k.Send(pkt)
	}
	return true
}

// reused tells whether an end of a flow lost its owner while it was in a set
// that is still asked.
func (s *subject) reused(before []*desired.State, want *desired.State, f desired.Flow) bool {
	if len(before) == 0 {
		return false
	}
	old := before[0]
	for id, members := range old.Sets.All() {
		if _, both := want.Sets.Get(id); !both {
			continue
		}
		for m := range members.All() {
			if a := m.Addr(); (a == f.Src || a == f.Dst) && lost(want, a) > old.Gen {
				return true
			}
		}
	}
	return false
}

func lost(s *desired.State, a netip.Addr) uint64 {
	gen, _ := s.Released.Get(a)
	return gen
}
