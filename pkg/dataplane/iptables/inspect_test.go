package iptables_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

func inspect(t *testing.T, d dataplane.Inspector, s *desired.State, f desired.Flow) dataplane.Inspection {
	t.Helper()
	in, err := d.Inspect(context.Background(), s, f)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// web is a flow to the first pod of everything(), which asks a set of named ports and then one of addresses.
func web() desired.Flow {
	return desired.Flow{
		From: desired.Place{Interface: "azvf1111111111"}, To: desired.Place{Interface: "azv0123456789a"},
		Src: netip.MustParseAddr("10.1.0.6"), Dst: netip.MustParseAddr("10.1.0.1"), Protocol: model.TCP, SrcPort: 40000, DstPort: 8080,
	}
}

func TestInspectComparesWhatDecidesAboutAFlow(t *testing.T) {
	k := newKernel()
	d := iptables.New(iptables.Config{IPv6: true}, k, quiet())
	s := everything()
	settle(t, d, s)
	in := inspect(t, d, s, web())
	if !in.Agrees || len(in.Sets) < 2 {
		t.Errorf("%+v", in)
	}
	var chains []string
	for _, c := range in.Chains {
		chains = append(chains, c.Chain)
	}
	for _, want := range []string{"PREROUTING", "FORWARD", "OVL-SOURCE", "OVL-FORWARD", "OVL-FROM", "OVL-F-f", "OVL-T-0", "OVL-REPLY", "OVL-F-f-R"} {
		if !slices.Contains(chains, want) {
			t.Errorf("%s is not among %q", want, chains)
		}
	}
	named := slices.IndexFunc(in.Sets, func(c dataplane.SetCheck) bool { return c.Element == "10.1.0.1,tcp:8080" })
	if named < 0 || !in.Sets[named].Want || !in.Sets[named].Kernel {
		t.Errorf("the named port: %+v", in.Sets)
	}
}

func TestInspectFindsWhatDiffers(t *testing.T) {
	s := everything()
	var app desired.SetID
	for _, spec := range s.Rules.Sets {
		if strings.Contains(spec.Text, "IPv4 app=web") && spec.Kind == desired.Addresses {
			app = spec.ID
		}
	}
	header := iptables.SetHeader{Name: string(app), Type: iptables.HashIP, Family: desired.IPv4}
	elements := func(yield func(iptables.Element) bool) { yield(iptables.Element{Addr: web().Src}) }
	for name, tt := range map[string]struct {
		edit func(k *kernel) error
		want string
	}{
		"a hook moved": {func(k *kernel) error {
			return k.Edit(desired.IPv4, "mangle", "-I FORWARD -p tcp -j RETURN")
		}, "the rule that leads to OVL-FORWARD is at position 2, not 1"},
		"a hook gone": {func(k *kernel) error {
			return k.Edit(desired.IPv4, "mangle", "-F FORWARD")
		}, "there is no rule that leads to OVL-FORWARD"},
		"a rule more": {func(k *kernel) error {
			return k.Edit(desired.IPv4, "mangle", "-A OVL-FORWARD -j DROP")
		}, `in the kernel 1 rules too many, the first is "-j DROP"`},
		"a chain emptied": {func(k *kernel) error {
			return k.Edit(desired.IPv4, "mangle", "-F OVL-T-0")
		}, "in the kernel 5 of 5 rules were missing"},
		"a member more": {func(k *kernel) error {
			return k.EditSet(iptables.SetChange{Op: iptables.AddElements, Set: header, Elements: elements})
		}, string(app)},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernel()
			d := iptables.New(iptables.Config{IPv6: true}, k, quiet())
			settle(t, d, s)
			if err := tt.edit(k); err != nil {
				t.Fatal(err)
			}
			in := inspect(t, d, s, web())
			var found []string
			for _, c := range in.Chains {
				if !c.Agrees {
					found = append(found, c.Difference)
				}
			}
			for _, c := range in.Sets {
				if c.Want != c.Kernel {
					found = append(found, string(c.Set))
				}
			}
			if in.Agrees || !slices.Equal(found, []string{tt.want}) {
				t.Errorf("agrees %t: %q", in.Agrees, found)
			}
		})
	}
}

// TestInspectWhileApplyRuns is for the race detector.
func TestInspectWhileApplyRuns(t *testing.T) {
	k := newKernel().Kernel
	d := iptables.New(iptables.Config{}, k, quiet())
	w, s, id := small("10.2.0.1")
	settle(t, d, s)
	f := desired.Flow{Src: netip.MustParseAddr("10.2.0.1"), Dst: netip.MustParseAddr("10.1.0.1"), To: desired.Place{Interface: "azvaaaaaaaaaa1"}}
	var all sync.WaitGroup
	all.Go(func() {
		for range 50 {
			if _, err := d.Inspect(context.Background(), s, f); err != nil {
				t.Error(err)
			}
		}
	})
	now := s
	for i := range 50 {
		now = w.members(now, id, []string{"10.2.0.1", "10.2.0.2"}[i%2])
		if _, err := d.Apply(context.Background(), now); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
}
