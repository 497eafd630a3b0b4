package iptables_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/dataplane/dataplanetest"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
)

// kernel is a fake one without random faults, in which looking for connections
// takes its time.
type kernel struct {
	*dataplanetest.Kernel
	sweep time.Duration
	calls []string
}

func newKernel() *kernel {
	return &kernel{Kernel: dataplanetest.NewKernel(dataplanetest.Options{OneIn: -1})}
}

func (k *kernel) Flows(ctx context.Context, c iptables.FlowChange) (int, error) {
	k.calls = append(k.calls, "flows")
	time.Sleep(k.sweep)
	return k.Kernel.Flows(ctx, c)
}

func (k *kernel) Restore(ctx context.Context, f desired.Family, script []byte) error {
	k.calls = append(k.calls, "restore")
	return k.Kernel.Restore(ctx, f, script)
}

func (k *kernel) Change(ctx context.Context, c []iptables.SetChange) error {
	k.calls = append(k.calls, "change")
	return k.Kernel.Change(ctx, c)
}

func (k *kernel) Tables(ctx context.Context, f desired.Family) (iptables.Tables, error) {
	k.calls = append(k.calls, "tables")
	return k.Kernel.Tables(ctx, f)
}

func (k *kernel) Elements(ctx context.Context, name string) ([]iptables.Element, error) {
	k.calls = append(k.calls, "elements")
	return k.Kernel.Elements(ctx, name)
}

// did are the calls since the last time.
func (k *kernel) did() string {
	calls := strings.Join(k.calls, " ")
	k.calls = nil
	return calls
}

func start(t testing.TB, k iptables.Kernel) *iptables.Dataplane {
	t.Helper()
	return iptables.New(iptables.Config{}, k, quiet())
}

func apply(t testing.TB, d dataplane.Dataplane, s *desired.State) dataplane.Report {
	t.Helper()
	r, err := d.Apply(context.Background(), s)
	if err != nil || !r.Applied {
		t.Fatalf("%+v: %v", r, err)
	}
	return r
}

// small has one pod that lets in the members of a set.
func small(members ...string) (*world, *desired.State, desired.SetID) {
	w := &world{rules: desired.Rules{Protected: true}}
	id := w.addresses(desired.IPv4, "app=web", members...)
	w.pod("aaaaaaaaaa1", side(inSet(id)), nil, "10.1.0.1")
	return w, w.state(), id
}

func TestAMemberThatLeavesIsSweptAtOnce_2_11(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		d := start(t, k)
		w, s, id := small("10.2.0.1", "10.2.0.2")
		settle(t, d, s)
		k.did()
		apply(t, d, w.members(s, id, "10.2.0.2"))
		if got := k.did(); got != "change flows" {
			t.Errorf("%s", got)
		}
	})
}

// TestSweepsTakeAQuarterOfTheTimeAtMost_3_2 has members leave one after the
// other while to look for connections takes long.
func TestSweepsTakeAQuarterOfTheTimeAtMost_3_2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		d := start(t, k)
		w, s, id := small("10.2.0.1", "10.2.0.2", "10.2.0.3", "10.2.0.4")
		settle(t, d, s)
		k.sweep = 100 * time.Millisecond
		s = w.members(s, id, "10.2.0.2", "10.2.0.3", "10.2.0.4")
		if r := apply(t, d, s); r.Sweep != k.sweep || r.Retry != 0 {
			t.Errorf("the first: %+v", r)
		}
		s = w.members(s, id, "10.2.0.3", "10.2.0.4")
		r := apply(t, d, s)
		if r.Sweep != 0 || r.Retry != 3*k.sweep || r.Raised {
			t.Errorf("the second has to wait: %+v", r)
		}
		time.Sleep(r.Retry)
		if r := apply(t, d, s); r.Sweep != k.sweep || r.Retry != 0 {
			t.Errorf("the second: %+v", r)
		}
		// With sweeps of 300 ms the next one would end 1.2 s after the last one.
		k.sweep = 300 * time.Millisecond
		time.Sleep(time.Minute)
		s = w.members(s, id, "10.2.0.4")
		if r := apply(t, d, s); r.Sweep != k.sweep || r.Raised {
			t.Errorf("the third: %+v", r)
		}
		s = w.members(s, id)
		if r := apply(t, d, s); r.Sweep != 0 || !r.Raised || r.Transactions != 1 || r.Retry != 0 {
			t.Errorf("the fourth would be too late: %+v", r)
		}
	})
}

func TestWhatCannotBeSweptIsJudgedByAnotherGeneration_3_2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		d := start(t, k)
		w, s, id := small("10.2.0.1", "10.2.0.2")
		settle(t, d, s)
		k.FailNext(dataplanetest.OpFlows, dataplanetest.Nothing, errors.New("no buffer space"))
		r := apply(t, d, w.members(s, id, "10.2.0.2"))
		if !r.Raised || r.Transactions != 1 || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Message, "no buffer space") {
			t.Errorf("%+v", r)
		}
	})
}

// TestWhileTheLockIsHeldMembersStillCount: what needs no transaction goes on,
// and what would be judged by another generation is looked for.
func TestWhileTheLockIsHeldMembersStillCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		d := start(t, k)
		w, s, id := small("10.2.0.1", "10.2.0.2")
		settle(t, d, s)
		w.rules.Endpoints[0].Ingress = side(on(6, 80, 80, inSet(id))) // tighter
		w.sets = w.sets.With(id, desired.Members{})
		tighter := w.state()
		for range 3 {
			k.did()
			k.FailNext(dataplanetest.OpRestore, dataplanetest.Nothing, iptables.ErrLocked)
			r, err := d.Apply(context.Background(), tighter)
			if !errors.Is(err, iptables.ErrLocked) || r.Applied || r.Raised {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		if held, err := k.Kernel.Elements(context.Background(), string(id)); err != nil || len(held) > 0 {
			t.Errorf("%v, %v", held, err)
		}
		if r := settle(t, d, tighter); !r.Raised || r.Added+r.Deleted > 0 {
			t.Errorf("%+v", r)
		}
	})
}

// locked is a kernel on which another program holds the lock: to write rules
// fails after as long as is waited for it.
type locked struct {
	*kernel
	held  bool
	flows []iptables.FlowChange
	at    []time.Time
}

func (k *locked) Restore(ctx context.Context, f desired.Family, script []byte) error {
	if !k.held {
		return k.kernel.Restore(ctx, f, script)
	}
	time.Sleep(10 * time.Second)
	return iptables.ErrLocked
}

func (k *locked) Flows(ctx context.Context, c iptables.FlowChange) (int, error) {
	k.flows, k.at = append(k.flows, c), append(k.at, time.Now())
	return k.kernel.Flows(ctx, c)
}

// TestWhatLeftIsJudgedAgainBeforeALockIsWaitedFor_2_11: that its rules have to be
// written too is no reason to let flows of a member that left go on meanwhile.
func TestWhatLeftIsJudgedAgainBeforeALockIsWaitedFor_2_11(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &locked{kernel: newKernel()}
		d := start(t, k)
		w, s, id := small("10.2.0.1", "10.2.0.2")
		settle(t, d, s)
		w.rules.Endpoints[0].Ingress = side(on(6, 80, 80, inSet(id))) // tighter
		w.sets = w.sets.With(id, desired.Members{})
		k.held, k.flows, k.at = true, nil, nil
		began := time.Now()
		if _, err := d.Apply(context.Background(), w.state()); !errors.Is(err, iptables.ErrLocked) {
			t.Fatal(err)
		}
		if len(k.flows) == 0 || k.flows[0].Op != iptables.ResetMarks || k.at[0].Sub(began) > time.Second {
			t.Errorf("%+v after %s", k.flows, k.at)
		}
	})
}

// TestALockIsWaitedForOnceAnApply: both families have one lock, and members that
// change meanwhile have to wait.
func TestALockIsWaitedForOnceAnApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &locked{kernel: newKernel()}
		d := iptables.New(iptables.Config{IPv6: true}, k, quiet())
		w, s, _ := small("10.2.0.1")
		settle(t, d, s)
		w.pod("bbbbbbbbbb1", side(), nil, "10.1.0.2", "fd00::2")
		next := w.state()
		k.held = true
		began := time.Now()
		if _, err := d.Apply(context.Background(), next); !errors.Is(err, iptables.ErrLocked) || time.Since(began) > 11*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		k.held = false
		settle(t, d, next)
	})
}

// TestAnAddressThatChangesHandsInheritsNothingThoughALockIsHeld_3_4: its
// connections have the mark that lets them pass by whatever rules there are.
func TestAnAddressThatChangesHandsInheritsNothingThoughALockIsHeld_3_4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &locked{kernel: newKernel()}
		d := start(t, k)
		w, s, _ := small("10.2.0.1")
		settle(t, d, s)
		w.rules.Endpoints = nil
		w.pod("bbbbbbbbbb1", side(), nil, "10.1.0.1")
		next := w.state()
		k.held, k.flows, k.at = true, nil, nil
		began := time.Now()
		for range 3 {
			if r, err := d.Apply(context.Background(), next); !errors.Is(err, iptables.ErrLocked) || r.Applied {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		if len(k.flows) != 1 || k.flows[0].Op != iptables.DeleteFlows || k.at[0].Sub(began) > time.Second {
			t.Errorf("while the lock is held: %+v after %s", k.flows, k.at)
		}
		k.held, k.flows = false, nil
		settle(t, d, next)
		if !slices.ContainsFunc(k.flows, func(c iptables.FlowChange) bool { return c.Op == iptables.DeleteFlows }) {
			t.Errorf("what older rules may have let in again: %+v", k.flows)
		}
	})
}

// refusing has a set that cannot be filled.
type refusing struct {
	*kernel
	name string
}

func (k *refusing) Change(ctx context.Context, changes []iptables.SetChange) error {
	for _, c := range changes {
		if c.Set.Name == k.name {
			return iptables.ErrSetFull
		}
	}
	return k.kernel.Change(ctx, changes)
}

// TestASetThatCannotBeFilledHoldsBackItsFamilyOnly: the other sets do not wait
// for it, nor does the other family; the family's rules stay as they were.
func TestASetThatCannotBeFilledHoldsBackItsFamilyOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &refusing{kernel: newKernel()}
		d := iptables.New(iptables.Config{IPv6: true}, k, quiet())
		w, s, id := small("10.2.0.1")
		settle(t, d, s)
		large := w.addresses(desired.IPv4, "app=large", "10.2.0.9")
		six := w.addresses(desired.IPv6, "app=six", "fd00::9")
		w.rules.Endpoints[0].Ingress = side(inSet(id), inSet(large), inSet(six))
		w.addresses(desired.IPv4, "app=web", "10.2.0.1", "10.2.0.2")
		now := w.state()
		k.name = string(large)
		for range 3 {
			r, err := d.Apply(context.Background(), now)
			if !errors.Is(err, iptables.ErrSetFull) || !strings.Contains(err.Error(), "app=large") || r.Applied {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		dump := k.Dump()
		if !strings.Contains(dump, "10.2.0.2") || !strings.Contains(dump, "--match-set "+string(six)) || strings.Contains(dump, "--match-set "+string(large)) {
			t.Error(dump)
		}
		k.name = ""
		if r := settle(t, d, now); r.Transactions != 1+1 || r.SetsCreated != 1 { // the second removes the old chain
			t.Errorf("%+v", r)
		}
	})
}

func TestTheFirstApplyOfALifeReadsAndTheNextDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		w, s, id := small("10.2.0.1")
		settle(t, start(t, k), s)
		d := start(t, k)
		k.did()
		apply(t, d, s)
		if got := k.did(); got != "tables elements restore" {
			t.Errorf("the first: %s", got)
		}
		s = w.members(s, id, "10.2.0.1", "10.2.0.2")
		apply(t, d, s)
		if got := k.did(); got != "change" {
			t.Errorf("a member: %s", got)
		}
		apply(t, d, s)
		if got := k.did(); got != "tables" {
			t.Errorf("the same again: %s", got)
		}
		time.Sleep(time.Minute)
		apply(t, d, w.members(s, id, "10.2.0.1"))
		if got := k.did(); got != "tables change flows" {
			t.Errorf("a member after some time: %s", got)
		}
	})
}

func TestChainsAndSetsGoOneTickAfterTheyAreNotUsed_3_3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		d := start(t, k)
		w, s, _ := small("10.2.0.1")
		settle(t, d, s)
		w.rules.Endpoints[0].Ingress = nil
		w.rules.Sets = nil
		open := w.state()
		r := apply(t, d, open)
		if r.Transactions != 1 || r.SetsRemoved != 0 || r.Retry == 0 || r.Raised {
			t.Errorf("not used: %+v", r)
		}
		if ours := k.Ours(); !slices.ContainsFunc(ours, func(s string) bool { return strings.Contains(s, "OVL-PI-") }) {
			t.Errorf("gone already: %q", ours)
		}
		if r := apply(t, d, open); r.Transactions != 1 || r.SetsRemoved != 1 || r.Retry != 0 {
			t.Errorf("the next tick: %+v", r)
		}
		if ours := k.Ours(); slices.ContainsFunc(ours, func(s string) bool {
			return strings.Contains(s, "OVL-PI-") || strings.HasPrefix(s, "set ")
		}) {
			t.Errorf("left over: %q", ours)
		}
	})
}

// TestASetThatIsStuckDoesNotDelayTheSweepOfOthers: what left a set is looked for
// though another set of the family cannot be changed, and what is still in its
// set is looked for again.
func TestASetThatIsStuckDoesNotDelayTheSweepOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &refusing{kernel: newKernel()}
		d := start(t, k)
		w, _, id := small("10.2.0.1", "10.2.0.2")
		other := w.addresses(desired.IPv4, "app=other", "10.2.0.3")
		w.rules.Endpoints[0].Ingress = side(inSet(id), inSet(other))
		s := w.state()
		settle(t, d, s)
		k.name = string(other)
		s = w.members(w.members(s, id, "10.2.0.2"), other)
		for range 3 {
			k.Journal()
			if r, err := d.Apply(context.Background(), s); err == nil || r.Applied || r.Raised {
				t.Fatalf("%+v, %v", r, err)
			}
			if swept := strings.Join(k.Journal(), "\n"); !strings.Contains(swept, "10.2.0.3]") {
				t.Errorf("not looked for: %s", swept)
			}
		}
		if held, err := k.Elements(context.Background(), string(id)); err != nil || len(held) != 1 {
			t.Errorf("%v, %v", held, err)
		}
		k.name = ""
		k.Journal()
		apply(t, d, s)
		if swept := strings.Join(k.Journal(), "\n"); !strings.Contains(swept, "Addrs:[10.2.0.3]") {
			t.Errorf("not looked for at last: %s", swept)
		}
	})
}

// TestLeftoversOfAnEarlierLifeGo: also a set of our name and another type, and a
// hook in the form of another version.
func TestLeftoversOfAnEarlierLifeGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		_, s, id := small("10.2.0.1")
		for _, err := range []error{
			k.EditSet(iptables.SetChange{Op: iptables.CreateSet, Set: iptables.SetHeader{Name: string(id), Type: iptables.HashNet, Family: desired.IPv4}}),
			k.EditSet(iptables.SetChange{Op: iptables.CreateSet, Set: iptables.SetHeader{Name: "ovl4-old", Type: iptables.HashIP, Family: desired.IPv4}}),
			k.EditSet(iptables.SetChange{Op: iptables.CreateSet, Set: iptables.SetHeader{Name: "KUBE", Type: iptables.HashIP, Family: desired.IPv4}}),
			k.Edit(desired.IPv4, "mangle", "-N OVL-OLD", "-A OVL-OLD -m set --match-set ovl4-old src -j DROP", "-A FORWARD -j OVL-OLD", "-A INPUT -j OVL-OLD"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		d := start(t, k)
		settle(t, d, s)
		unchanged(t, d, s)
		if dump := k.Dump(); strings.Contains(dump, "OLD") || strings.Contains(dump, "ovl4-old") || !strings.Contains(dump, "create KUBE") {
			t.Error(dump)
		}
	})
}
