package dataplanetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// Factory makes a Dataplane over a Kernel, as a process does when it starts. It
// is called again for the next life over the same Kernel.
type Factory func(t testing.TB, k *Kernel) dataplane.Dataplane

// foreignMark is bits of marks that are others'.
const foreignMark = 0x1234

// subject is a Dataplane under test and what is known of it.
type subject struct {
	t    testing.TB
	name string // for messages: how to get here again
	k    *Kernel
	open Factory
	dp   dataplane.Dataplane
	rng  *rand.Rand

	// pending are the States of which each may be in force, or a part of it:
	// the last one that was whole, and those tried since. Empty: not known.
	pending []*desired.State
	between *between
	probes  []probe
	live    []live
	ports   uint16
	// Since the last State in force: the generation was raised; there were
	// packets; there was another instance before.
	raised, noisy, reborn bool
	brief                 bool // not all flows are looked at after each change
}

// probe is a flow and what has to become of it meanwhile.
type probe struct {
	flow      desired.Flow
	may, must bool
	answers   bool // it can be asked for its answer too
}

// live is a connection that was allowed and has gone through.
type live struct {
	flow   desired.Flow
	oneWay bool
	mark   uint32 // before the change that goes on
}

func newSubject(t testing.TB, open Factory, seed uint64, oneIn int) *subject {
	s := &subject{
		t: t, name: fmt.Sprintf("seed %d", seed), k: NewKernel(Options{Seed: seed, OneIn: oneIn}),
		open: open, rng: rand.New(rand.NewPCG(seed, 1)),
	}
	s.k.SetLocal(nodeAddrs()...)
	s.dp = open(t, s.k)
	return s
}

func (s *subject) fatalf(format string, a ...any) {
	s.t.Helper()
	s.k.Watch(nil)
	journal := s.k.Journal()
	const most = 60
	if len(journal) > most {
		journal = journal[len(journal)-most:]
	}
	for _, p := range s.pending {
		s.t.Logf("may be in force:\n%s", p.Text())
	}
	s.t.Logf("what was done last:\n%s", strings.Join(journal, "\n"))
	s.t.Fatalf("%s: "+format, append([]any{s.name}, a...)...)
}

// try calls Apply once. It tells whether the process was killed meanwhile; then
// there is a new one.
func (s *subject) try(want *desired.State) (report dataplane.Report, killed bool, err error) {
	s.t.Helper()
	s.prepare(want)
	s.k.Watch(s.look)
	defer s.k.Watch(nil)
	func() {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(Killed); !ok {
					panic(r)
				}
				killed = true
			}
		}()
		report, err = s.dp.Apply(context.Background(), want)
	}()
	if v := s.k.Violations(); len(v) > 0 {
		s.fatalf("touched what is not its own: %q", v)
	}
	if killed {
		s.dp, s.reborn = s.open(s.t, s.k), true
		return dataplane.Report{}, true, errors.New("killed")
	}
	s.raised = s.raised || report.Raised
	if err == nil && !report.Applied {
		s.fatalf("Apply has no error and yet the State is not in force: %+v", report)
	}
	if report.Applied && !s.brief {
		s.agrees(want)
	}
	return report, false, err
}

// prepare computes what has to hold while want is being put in force.
func (s *subject) prepare(want *desired.State) {
	s.k.SetRoutes(Routes(want))
	if s.pending != nil && s.pending[len(s.pending)-1] != want {
		s.pending = append(s.pending, want)
	}
	if s.pending == nil {
		s.probes, s.between = nil, nil
		return
	}
	s.between = newBetween(s.pending)
	all := flows(want)
	s.probes = s.probes[:0]
	const sample = 40
	touched := s.between.touched()
	for range sample {
		f := all[s.rng.IntN(len(all))]
		for range 20 {
			if touched[f.Src] || touched[f.Dst] {
				break
			}
			f = all[s.rng.IntN(len(all))]
		}
		answers := consistent(s.k, f) && !f.To.Node && s.samePlaces(f)
		s.probes = append(s.probes, probe{f, s.between.may(s.k, f), s.between.must(f), answers})
	}
}

// samePlaces tells whether both ends are the same pods in all pending States.
func (s *subject) samePlaces(f desired.Flow) bool {
	if len(s.pending) == 0 {
		return true
	}
	for _, p := range s.pending[1:] {
		if placeOf(s.pending[0], f.Src) != placeOf(p, f.Src) || placeOf(s.pending[0], f.Dst) != placeOf(p, f.Dst) {
			return false
		}
	}
	return true
}

// whereabouts is where an address is on the node.
type whereabouts struct {
	name  string
	index int
	uid   model.UID
}

func placeOf(s *desired.State, a netip.Addr) whereabouts {
	for _, e := range s.Rules.Endpoints {
		if slices.Contains(e.Interface.Addrs, a) {
			return whereabouts{e.Interface.Name, e.Interface.Index, e.UID}
		}
	}
	for _, u := range s.Rules.Unknown {
		if slices.Contains(u.Addrs, a) {
			return whereabouts{u.Name, u.Index, model.UID{}}
		}
	}
	return whereabouts{}
}

// look is at each moment that packets could notice.
func (s *subject) look(operation string) {
	if s.between == nil {
		return
	}
	for _, p := range s.probes {
		s.lookAt(operation, p)
	}
	for _, l := range s.live {
		if !s.samePlaces(l.flow) || !s.between.must(l.flow) {
			continue
		}
		pkt := packet(l.flow)
		if fate := s.k.Probe(pkt); !fate.Passed {
			s.fatalf("after %q: a connection that is allowed all the time is cut: %+v\n%s", operation, l, fate)
		}
		if fate := s.k.Probe(pkt.Reverse()); !l.oneWay && !fate.Passed {
			s.fatalf("after %q: answers of a connection that is allowed all the time are dropped: %+v\n%s", operation, l, fate)
		}
	}
}

func (s *subject) lookAt(operation string, p probe) {
	pkt := packet(p.flow)
	stale := connection(p.flow, 0)
	fates := []Fate{s.k.ProbeNew(pkt)}
	if p.answers {
		fates = append(fates, s.k.ProbeWith(pkt, stale), s.k.ProbeWith(pkt.Reverse(), stale))
	}
	for i, fate := range fates {
		what := []string{"a new packet", "a stale packet", "a stale answer"}[i]
		switch {
		case fate.Passed && !p.may:
			s.fatalf("after %q: %s passes that no State allows: %+v\n%s", operation, what, p.flow, fate)
		case !fate.Passed && p.must:
			s.fatalf("after %q: %s is dropped that every State allows: %+v\n%s", operation, what, p.flow, fate)
		}
	}
}

// agrees checks that the kernel does with every flow what the State means.
func (s *subject) agrees(want *desired.State) {
	s.t.Helper()
	for _, f := range flows(want) {
		allowed := want.Verdict(f).Allowed
		pkt := packet(f)
		if fate := s.k.ProbeNew(pkt); fate.Passed != allowed {
			s.disagree(want, "a new packet", f, fate)
		}
		if f.To.Node || !consistent(s.k, f) {
			continue
		}
		conn := connection(f, foreignMark)
		there, back := s.k.ProbeWith(pkt, conn), s.k.ProbeWith(pkt.Reverse(), conn)
		switch foreign := f.From.Interface == "" && f.To.Interface == ""; {
		case there.Passed != allowed:
			s.disagree(want, "a packet of a stale connection", f, there)
		case back.Passed != allowed:
			s.disagree(want, "an answer of a stale connection", f, back)
		case !allowed && (there.Mark != foreignMark || back.Mark != foreignMark):
			s.fatalf("a connection that is denied is marked: %+v: %x, %x", f, there.Mark, back.Mark)
		case allowed && !foreign && (there.Mark == foreignMark || back.Mark == foreignMark):
			s.fatalf("a connection that is allowed is not marked, so that each packet is judged: %+v: %x, %x", f, there.Mark, back.Mark)
		case foreign && (there.Mark != foreignMark || back.Mark != foreignMark):
			s.fatalf("a connection of others is marked: %+v: %x, %x", f, there.Mark, back.Mark)
		case there.Mark&0xffff != foreignMark || back.Mark&0xffff != foreignMark:
			s.fatalf("bits of the mark that are others' changed: %+v: %x, %x", f, there.Mark, back.Mark)
		}
	}
}

func (s *subject) disagree(want *desired.State, what string, f desired.Flow, fate Fate) {
	s.t.Helper()
	s.fatalf("what is in force is not what was wanted: %s of %+v\nwanted: %+v\n%s\n%s",
		what, f, want.Verdict(f), fate, want.Text())
}

// settle applies a State until it is in force and nothing is left to do. Without
// faults, what is denied has to stop within one second (2.11).
func (s *subject) settle(want *desired.State) dataplane.Report {
	s.t.Helper()
	old := s.pending
	s.remember()
	var sum dataplane.Report
	start := time.Now()
	const most = 300
	for range most {
		r, _, err := s.try(want)
		add(&sum, r)
		switch {
		case err != nil:
			s.traffic(want)
			time.Sleep(10 * time.Millisecond)
		case r.Retry > 0:
			if time.Since(start) > time.Second {
				s.tightened(old, want)
			}
			time.Sleep(r.Retry)
		default:
			s.tightened(old, want)
			s.pending, s.raised, s.noisy, s.reborn = []*desired.State{want}, false, false, false
			return sum
		}
	}
	s.fatalf("not in force after %d tries", most)
	return sum
}

func add(sum *dataplane.Report, r dataplane.Report) {
	sum.Transactions += r.Transactions
	sum.SetsCreated += r.SetsCreated
	sum.SetsRemoved += r.SetsRemoved
	sum.Added += r.Added
	sum.Deleted += r.Deleted
	sum.Swept += r.Swept
	sum.Released += r.Released
	sum.Raised = sum.Raised || r.Raised
	sum.Repaired = append(sum.Repaired, r.Repaired...)
	sum.Problems = r.Problems
}
