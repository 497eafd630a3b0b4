package iptables

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/desired"
)

func TestHookIsPutFirstAndIsThereOnce(t *testing.T) {
	h := hook{tableMangle, "FORWARD", chainForward}
	const other = "-j KUBE-FORWARD"
	old := "-m comment --comment old -j " + chainForward // of another version
	for _, tt := range []struct {
		name string
		have []string
		want []string
	}{
		{"nothing there", nil, []string{"-I FORWARD 1 " + h.text()}},
		{"in its place", []string{h.text(), other}, nil},
		{"moved", []string{other, h.text()}, []string{"-D FORWARD " + h.text(), "-I FORWARD 1 " + h.text()}},
		{"twice", []string{h.text(), other, h.text()}, []string{
			"-D FORWARD " + h.text(), "-D FORWARD " + h.text(), "-I FORWARD 1 " + h.text(),
		}},
		{"an older form", []string{old, other}, []string{"-D FORWARD " + old, "-I FORWARD 1 " + h.text()}},
		{"behind an older form", []string{old, h.text()}, []string{
			"-D FORWARD " + old, "-D FORWARD " + h.text(), "-I FORWARD 1 " + h.text(),
		}},
		{"another chain of ours", []string{h.text(), "-g OVL-GONE"}, []string{"-D FORWARD -g OVL-GONE"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Ruleset{hooks: []hook{h}}
			ch := r.changes(Tables{Mangle: Table{"FORWARD": tt.have}}, 1)
			var got []string
			for line := range strings.Lines(string(ch.script())) {
				if strings.HasPrefix(line, "-") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			after := ch.applied(Tables{Mangle: Table{"FORWARD": tt.have}})
			if rules := after.Mangle["FORWARD"]; rules[0] != h.text() || !r.changes(after, 1).empty() {
				t.Errorf("afterwards: %q", rules)
			}
		})
	}
}

func TestForeignRulesAreNoHooks(t *testing.T) {
	for _, line := range []string{"-j KUBE-FORWARD", "-m comment --comment OVL-FORWARD -j DROP", "-p tcp", "", "-j OVERLAND"} {
		if leadsToOurs(line) {
			t.Errorf("%q is taken for ours", line)
		}
	}
}

func TestChainsThatAreLedToAreUsed(t *testing.T) {
	have := Table{
		"FORWARD": {"-j OVL-FORWARD"}, "OVL-FORWARD": {"-j OVL-FROM"}, "OVL-FROM": nil,
		"OVL-A": {"-j OVL-B"}, "OVL-B": {"-g OVL-A"}, // of each other only
		"OVL-C": {"-j DROP"}, "INPUT": {"-p tcp -j OVL-C"},
		"OVL-D": {"-j OVL-C"},
	}
	wanted := chains{"OVL-FORWARD": {}, "OVL-FROM": {}}
	if got := unused(have, wanted); !slices.Equal(got, []string{"OVL-A", "OVL-B", "OVL-D"}) {
		t.Error(got)
	}
}

// own is the chains of mangle.
func (r *Ruleset) own(generation uint8) Table { return r.lines(r.mangle, generation) }

func TestGenerationIsReadBackOnlyIfAllRulesAgree_3_5(t *testing.T) {
	cfg := Config{}.withDefaults()
	p := Compile(&desired.State{Rules: &desired.Rules{OwnNodeEgress: true}}, cfg)
	table := p.IPv4.own
	for _, g := range []uint8{1, 2, 254, 255} {
		if got := cfg.generationOf(table(g)); got != g {
			t.Errorf("%d is read as %d", g, got)
		}
	}
	for name, have := range map[string]Table{
		"nothing":         {},
		"an empty chain":  {chainForward: {}},
		"another mask":    Compile(p.State, Config{Mask: 0xff}).IPv4.own(3),
		"generation zero": table(0),
		"another setter": func() Table {
			have := table(3)
			have[chainReply] = table(4)[chainReply]
			return have
		}(),
		"another first rule": func() Table {
			have := table(3)
			have[chainForward] = have[chainForward][1:]
			return have
		}(),
	} {
		if got := cfg.generationOf(have); got != 0 {
			t.Errorf("%s: %d", name, got)
		}
	}
	have := table(1)
	have[chainReply] = table(2)[chainReply]
	if got := cfg.unusedGeneration(have); got != 3 {
		t.Errorf("1 and 2 are still given, and the next one is %d", got)
	}
	if got := cfg.unusedGeneration(table(255)); got != 1 {
		t.Errorf("after 255 comes %d", got)
	}
}

func TestAddressesAreWrittenAsTheToolsDo(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "::1/128": "::1/128", "::/64": "::/64", "::1.2.3.0/120": "::1.2.3.0/120",
		"::0.1.0.0/112": "::0.1.0.0/112", "::ffff:1.2.3.0/120": "::ffff:1.2.3.0/120", "::1:0:0/96": "::1:0:0/96",
		"1:0:2:0:3:0:4:0/128": "1:0:2:0:3:0:4:0/128", "fd00::1:0/112": "fd00::1:0/112",
	} {
		if got := string(appendAddress(nil, "", netip.MustParsePrefix(text))); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// FuzzAddressesAreReadAsTheSame holds the text form against another reader.
func FuzzAddressesAreReadAsTheSame(f *testing.F) {
	f.Add([]byte{15: 1}, uint8(128))
	f.Add([]byte{12: 1, 13: 2, 14: 3, 15: 4}, uint8(120))
	f.Add([]byte{10: 0xff, 11: 0xff, 15: 4}, uint8(128))
	f.Fuzz(func(t *testing.T, b []byte, bits uint8) {
		if len(b) != 16 || bits > 128 {
			return
		}
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte(b)), int(bits)).Masked()
		text, length, ok := strings.Cut(string(appendAddress(nil, "", p)), "/")
		if !ok || !net.ParseIP(text).Equal(p.Addr().AsSlice()) || length != fmt.Sprint(p.Bits()) {
			t.Errorf("%s is written as %s", p, text)
		}
	})
}

func TestNamesThatRulesCannotSayAreRefused(t *testing.T) {
	for name, want := range map[string]bool{
		"azv0123456789a": true, "eth0": true, "a.b-c_d": true,
		"": false, "azv+": false, "azv 1": false, "azv\"": false, "azvé": false, "sixteencharacter": false, "!azv": false,
	} {
		if nameable(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
}

// TestTwoListsNeverShareAChainByAccident: a digest that is taken by other rules
// is not used (corner case 44).
func TestTwoListsNeverShareAChainByAccident(t *testing.T) {
	state := &desired.State{Rules: &desired.Rules{}}
	p := &Program{State: state, cfg: Config{}.withDefaults()}
	c := compiler{Program: p, Ruleset: p.compile(desired.IPv4, nil)}
	c.mangle.put("", []rule{{protocol: 6, does: returns}, {does: drops}})
	rules := c.mangle[""]
	first := c.policyName(true, rules)
	c.mangle.put(first, []rule{{does: drops}})
	second := c.policyName(true, rules)
	c.mangle[second] = rules
	if second == first || c.policyName(true, rules) != second {
		t.Errorf("%s and %s", first, second)
	}
	if n := len(second + mirrorSuffix); n > 28 {
		t.Errorf("%d characters", n)
	}
}
