package iptables_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/dataplane/dataplanetest"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
)

// golden compares with a file of testdata, or writes it if UPDATE_GOLDEN is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (UPDATE_GOLDEN=1 rewrites it; -want +got)\n%s", path, diff)
	}
}

// TestGoldenRules are whole rulesets: what they do, and the names of chains,
// which an upgrade must find again.
func TestGoldenRules(t *testing.T) {
	unprotected := *everything()
	rules := *unprotected.Rules
	rules.Protected, rules.OwnNodeEgress = false, false
	unprotected.Rules = &rules
	for name, s := range map[string]*desired.State{
		"everything": everything(), "unprotected": &unprotected,
		"skeleton": desired.Skeleton(), "nothing": {Rules: &desired.Rules{}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.Validate(); err != nil {
				t.Fatal(err)
			}
			p := iptables.Compile(s, iptables.Config{IPv6: true})
			if len(p.Problems) > 0 {
				t.Errorf("problems: %v", p.Problems)
			}
			golden(t, name+".ipv4.txt", p.IPv4.Script(1))
			golden(t, name+".ipv6.txt", p.IPv6.Script(1))
		})
	}
}

func TestWhatTheKernelLacksIsLeftOutOrSaidWithout(t *testing.T) {
	p := iptables.Compile(everything(), iptables.Config{
		IPv6: true, Missing: []iptables.Feature{iptables.FeatureSCTP, iptables.FeatureHopLimit},
	})
	script := p.IPv4.Script(1) + p.IPv6.Script(1)
	for _, lacking := range []string{"-m sctp", "-m hl"} {
		if strings.Contains(script, lacking) {
			t.Errorf("%s is there", lacking)
		}
	}
	if !strings.Contains(script, "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN") || !strings.Contains(script, "-p sctp -m set") {
		t.Error(script)
	}
	if len(p.Problems) != 2 || !strings.Contains(p.Problems[0].Message, "xt_sctp") {
		t.Errorf("%v", p.Problems)
	}
}

func TestAGenerationIsWhereTheMaskSays_3_5(t *testing.T) {
	for _, tt := range []struct {
		mask       uint32
		asks, sets string
	}{
		{0, "--mark 0x5000000/0xff000000", "--set-xmark 0x5000000/0xff000000"},
		{0x0ff0, "--mark 0x50/0xff0", "--set-xmark 0x50/0xff0"},
		{0xffffffff, "--mark 0x5 -j", "--set-xmark 0x5/0xffffffff"},
	} {
		c := iptables.Config{Mask: tt.mask}
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
		script := iptables.Compile(desired.Skeleton(), c).IPv4.Script(5)
		if !strings.Contains(script, tt.asks) || !strings.Contains(script, tt.sets) {
			t.Errorf("mask %#x: want %q and %q in\n%s", tt.mask, tt.asks, tt.sets, script)
		}
	}
	for _, mask := range []uint32{1, 0x5, 0xff0000ff, 0x80000000} {
		if err := (iptables.Config{Mask: mask}).Validate(); err == nil {
			t.Errorf("mask %#x is accepted", mask)
		}
	}
}

// TestWhatIsTakenFromTheProgramBeforeIsWhatWouldBeMade walks through States: to
// compile each after the one before it gives what it gives alone.
func TestWhatIsTakenFromTheProgramBeforeIsWhatWouldBeMade(t *testing.T) {
	cfg := iptables.Config{IPv6: true}
	for seed := range uint64(20) {
		walk := dataplanetest.NewStates(rand.New(rand.NewPCG(seed, 2)))
		var last *iptables.Program
		for range 50 {
			s := walk.Next()
			last = iptables.CompileAfter(last, s, cfg)
			alone := iptables.Compile(s, cfg)
			if diff := cmp.Diff(alone.IPv4.Script(1)+alone.IPv6.Script(1), last.IPv4.Script(1)+last.IPv6.Script(1)); diff != "" {
				t.Fatalf("-alone +after\n%s", diff)
			}
			if diff := cmp.Diff(alone.Problems, last.Problems); diff != "" {
				t.Fatalf("-alone +after\n%s", diff)
			}
		}
	}
}

func TestProblemsOfAListAreToldAgain_2_12(t *testing.T) {
	w := &world{}
	w.pod("aaaaaaaaaa1", side(desired.Rule{Protocol: 47}), nil, "10.1.0.2")
	first := iptables.Compile(w.state(), iptables.Config{})
	second := iptables.CompileAfter(first, w.state(), iptables.Config{})
	if len(first.Problems) != 1 || !cmp.Equal(first.Problems, second.Problems) {
		t.Errorf("%v, then %v", first.Problems, second.Problems)
	}
}
