package iptables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

// open opens the real thing in namespaces of the test's own.
func open(t testing.TB, cfg SystemConfig) *System {
	t.Helper()
	s, err := Open(context.Background(), cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// onBackends runs a test with each backend.
func onBackends(t *testing.T, f func(t *testing.T, s *System)) {
	for _, backend := range []string{BackendLegacy, BackendNFT} {
		t.Run(backend, func(t *testing.T) {
			nfnltest.Isolate(t)
			f(t, open(t, SystemConfig{Backend: backend, IPv6: true, LockTimeout: time.Second}))
		})
	}
}

// ruleset is all that both backends and ipset hold, without counters and dates,
// and without tables in which there is nothing.
func ruleset(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, command := range []string{"iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save", "ipset save"} {
		table := ""
		for line := range strings.Lines(nfnltest.Run(t, "", strings.Fields(command)...)) {
			switch {
			case strings.HasPrefix(line, "*"):
				table = strings.TrimSpace(line)
			case strings.HasPrefix(line, "#"), strings.HasPrefix(line, "COMMIT"), strings.HasSuffix(line, " ACCEPT [0:0]\n"):
			default:
				fmt.Fprintf(&b, "%s %s: %s", command, table, line)
			}
		}
	}
	return b.String()
}

// others are the rules and sets of other programs.
func others(t testing.TB, backend string) {
	t.Helper()
	nfnltest.Run(t, "create KUBE-SRC hash:ip\nadd KUBE-SRC 10.1.1.1\n", "ipset", "restore")
	for program, icmp := range map[string]string{"iptables": "icmp", "ip6tables": "ipv6-icmp"} {
		script := `*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals; \"quoted\" 'too'" -j KUBE-SERVICES
-A KUBE-SERVICES -p tcp -m tcp --dport 80 -j RETURN
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
*mangle
:KUBE-IPTABLES-HINT - [0:0]
:FOREIGN - [0:0]
-A FORWARD -p ` + icmp + ` -j FOREIGN
-A INPUT -p ` + icmp + ` -m comment --comment "a b" -j FOREIGN
COMMIT
*raw
-A PREROUTING -p ` + icmp + ` -m comment --comment x -j ACCEPT
COMMIT
`
		nfnltest.Run(t, script, program+"-"+backend+"-restore", "--noflush")
	}
}

func TestOpenLeavesNothingBehind(t *testing.T) {
	for _, backend := range []string{BackendLegacy, BackendNFT} {
		t.Run(backend, func(t *testing.T) {
			nfnltest.Isolate(t)
			others(t, backend)
			before := ruleset(t)
			s := open(t, SystemConfig{IPv6: true})
			info := s.Info()
			if info.Backend != backend || !info.IPv6 || len(info.Missing) != 0 || len(info.Warnings) != 0 ||
				info.Why != "it has the chains KUBE-IPTABLES-HINT, KUBE-SERVICES" || !strings.Contains(info.Version, "tables-") {
				t.Errorf("%+v", info)
			}
			if after := ruleset(t); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

func TestTheBackendIsThatOfKubernetes(t *testing.T) {
	hint, canary := "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n", "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"
	services := "*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n"
	for _, test := range []struct {
		name, configured string
		legacy, nft      string
		want, why        string
		warnings         []string
	}{
		{name: "nothing there", want: BackendNFT, why: "neither"},
		{name: "others only", legacy: "*mangle\n:FOO - [0:0]\nCOMMIT\n", want: BackendNFT, why: "neither"},
		{name: "canary of legacy", legacy: canary, want: BackendLegacy, why: "KUBE-KUBELET-CANARY"},
		{name: "hint of nft", nft: hint, want: BackendNFT, why: "KUBE-IPTABLES-HINT"},
		{name: "kube-proxy of legacy", legacy: services, want: BackendLegacy, why: "KUBE-SERVICES"},
		{name: "both, hint of legacy", legacy: hint, nft: canary, want: BackendLegacy, warnings: []string{"both backends"}},
		{name: "both, kube-proxy of legacy", legacy: canary + services, nft: hint, want: BackendLegacy, warnings: []string{"both backends"}},
		{name: "both alike", legacy: hint + services, nft: hint + services, want: BackendNFT, warnings: []string{"both backends"}},
		{name: "configured", configured: BackendLegacy, want: BackendLegacy, why: "configured"},
		{name: "configured otherwise", configured: BackendLegacy, nft: hint, want: BackendLegacy, warnings: []string{"legacy is configured, but Kubernetes uses nft"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			nfnltest.Isolate(t)
			for backend, script := range map[string]string{"legacy": test.legacy, "nft": test.nft} {
				if script != "" {
					nfnltest.Run(t, script, "iptables-"+backend+"-restore", "--noflush")
				}
			}
			before := ruleset(t)
			info := open(t, SystemConfig{Backend: test.configured}).Info()
			if info.Backend != test.want || !strings.Contains(info.Why, test.why) || len(info.Warnings) != len(test.warnings) {
				t.Fatalf("%+v", info)
			}
			for i, w := range test.warnings {
				if !strings.Contains(info.Warnings[i], w) {
					t.Errorf("%q", info.Warnings)
				}
			}
			if after := ruleset(t); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			// The tables of legacy cost each packet something once they are there.
			if test.want == BackendNFT && test.legacy == "" && (populated(BackendLegacy, desired.IPv4, "mangle") || populated(BackendLegacy, desired.IPv4, "raw")) {
				t.Error("tables of legacy were made")
			}
		})
	}
}

func TestABackendThatIsUnknownIsRefused(t *testing.T) {
	if _, err := Open(context.Background(), SystemConfig{Backend: "nftables"}, quiet()); err == nil || !strings.Contains(err.Error(), "expected auto, legacy or nft") {
		t.Errorf("%v", err)
	}
}

func TestOurRulesComeBackAndThoseOfOthersStay(t *testing.T) {
	ctx := context.Background()
	onBackends(t, func(t *testing.T, s *System) {
		others(t, s.Info().Backend)
		before := ruleset(t)
		for _, f := range []desired.Family{desired.IPv4, desired.IPv6} {
			script := `*mangle
:OVL-FORWARD - [0:0]
:OVL-EMPTY - [0:0]
-A OVL-FORWARD -m connmark --mark 0x1000000/0xff000000 -j RETURN
-A OVL-FORWARD -i azv+ -m comment --comment "two words" -j DROP
-I FORWARD 1 -m comment --comment overland-0 -j OVL-FORWARD
COMMIT
*raw
:OVL-SOURCE - [0:0]
-A OVL-SOURCE -i azv+ -m rpfilter --invert -j DROP
-I PREROUTING 1 -j OVL-SOURCE
COMMIT
`
			if err := s.Restore(ctx, f, []byte(script)); err != nil {
				t.Fatal(err)
			}
			got, err := s.Tables(ctx, f)
			if err != nil {
				t.Fatal(err)
			}
			icmp := map[desired.Family]string{desired.IPv4: "icmp", desired.IPv6: "ipv6-icmp"}[f]
			for chain, want := range map[string][]string{
				"FORWARD":     {"-m comment --comment overland-0 -j OVL-FORWARD", "-p " + icmp + " -j FOREIGN"},
				"INPUT":       {"-p " + icmp + ` -m comment --comment "a b" -j FOREIGN`},
				"OVL-EMPTY":   nil,
				"OVL-FORWARD": {"-m connmark --mark 0x1000000/0xff000000 -j RETURN", `-i azv+ -m comment --comment "two words" -j DROP`},
			} {
				if rules, ok := got.Mangle[chain]; !ok || !slices.Equal(rules, want) {
					t.Errorf("%s: %q, want %q", chain, rules, want)
				}
			}
			if want := []string{"-j OVL-SOURCE", "-p " + icmp + " -m comment --comment x -j ACCEPT"}; !slices.Equal(got.Raw["PREROUTING"], want) {
				t.Errorf("%q", got.Raw)
			}
			if len(got.Mangle) != 4 || len(got.Raw) != 2 || len(got.Foreign) != 0 {
				t.Errorf("%q", got)
			}
			script = `*mangle
-D FORWARD -m comment --comment overland-0 -j OVL-FORWARD
-F OVL-FORWARD
-X OVL-FORWARD
-X OVL-EMPTY
COMMIT
*raw
-D PREROUTING -j OVL-SOURCE
-F OVL-SOURCE
-X OVL-SOURCE
COMMIT
`
			if err := s.Restore(ctx, f, []byte(script)); err != nil {
				t.Fatal(err)
			}
		}
		if after := ruleset(t); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

func TestAFailedRestoreChangesNothingAndQuotesItsLine(t *testing.T) {
	ctx := context.Background()
	onBackends(t, func(t *testing.T, s *System) {
		before := ruleset(t)
		for _, test := range []struct{ line, want string }{
			{"-A OVL-A -m set --match-set ovl4-gone src -j RETURN", `line 3 is "-A OVL-A -m set --match-set ovl4-gone`},
			{"-A OVL-A -m nonsense -j RETURN", `line 3 is "-A OVL-A -m nonsense`},
			{"-X OVL-GONE", `line 3 is "-X OVL-GONE"`},
			{"-A OVL-A -g OVL-GONE", "OVL-GONE"},
			{"-N OVL-" + strings.Repeat("X", 25), "X"},
			{"-A OVL-A -m comment --comment " + strings.Repeat("x", 5000) + " -j RETURN", "…"},
		} {
			err := s.Restore(ctx, desired.IPv4, []byte("*mangle\n:OVL-A - [0:0]\n"+test.line+"\nCOMMIT\n"))
			if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 3000 {
				t.Errorf("%s: %v", test.line, err)
			}
		}
		if after := ruleset(t); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

func TestALockThatAnotherHoldsIsErrLocked(t *testing.T) {
	nfnltest.Isolate(t)
	s := open(t, SystemConfig{Backend: BackendLegacy, LockTimeout: time.Second})
	lock, err := os.OpenFile("/run/xtables.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	script := []byte("*mangle\n:OVL-A - [0:0]\nCOMMIT\n")
	if err := s.Restore(context.Background(), desired.IPv4, script); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "for 1 s") {
		t.Errorf("%v", err)
	}
	if _, err := Open(context.Background(), SystemConfig{Backend: BackendLegacy, LockTimeout: time.Second}, quiet()); !errors.Is(err, ErrLocked) {
		t.Errorf("open: %v", err)
	}
	// Reading does not take the lock.
	if tables, err := s.Tables(context.Background(), desired.IPv4); err != nil || len(tables.Mangle) != 2 {
		t.Errorf("%q, %v", tables, err)
	}
	// A caller who is gone does not wait for it.
	patient := open2(t, s, time.Hour)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := patient.Restore(ctx, desired.IPv4, script); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(context.Background(), desired.IPv4, script); err != nil {
		t.Error(err)
	}
}

// open2 is s with another patience.
func open2(t *testing.T, s *System, timeout time.Duration) *System {
	t.Helper()
	return &System{cfg: SystemConfig{LockTimeout: timeout}, log: s.log, info: s.info, programs: s.programs}
}

func TestSetsAreMadeFilledReadAndRemoved(t *testing.T) {
	ctx := context.Background()
	nfnltest.Isolate(t)
	s := open(t, SystemConfig{IPv6: true})
	nfnltest.Run(t, "", "ipset", "create", "KUBE-X", "hash:ip")
	for _, test := range []struct {
		set      SetHeader
		elements []Element
	}{
		{SetHeader{"ovl4-a", HashIP, desired.IPv4, 2}, []Element{{Addr: netip.MustParseAddr("10.0.0.1")}, {Addr: netip.MustParseAddr("10.0.0.2")}}},
		{SetHeader{"ovl6-a", HashIP, desired.IPv6, 1}, []Element{{Addr: netip.MustParseAddr("fd00::1")}}},
		{SetHeader{"ovl4-n", HashNet, desired.IPv4, 2}, []Element{
			{Addr: netip.MustParseAddr("10.0.0.0"), Bits: 8},
			{Addr: netip.MustParseAddr("10.1.0.0"), Bits: 16, NoMatch: true},
			{Addr: netip.MustParseAddr("10.1.2.3"), Bits: 32},
		}},
		{SetHeader{"ovl6-p", HashIPPort, desired.IPv6, 1}, []Element{{Addr: netip.MustParseAddr("fd00::1"), Protocol: model.SCTP, Port: 65535}}},
	} {
		header := test.set
		made := []SetChange{
			{Op: CreateSet, Set: header},
			{Op: CreateSet, Set: header},
			{Op: DeleteElements, Set: header, Elements: slices.Values(test.elements)},
			{Op: AddElements, Set: header, Elements: slices.Values(test.elements)},
			{Op: AddElements, Set: header, Elements: slices.Values(test.elements)},
		}
		if err := s.Change(ctx, made); err != nil {
			t.Fatal(err)
		}
		got, err := s.Elements(ctx, header.Name)
		if err != nil || len(got) != len(test.elements) {
			t.Fatalf("%v, %v", got, err)
		}
		for _, e := range test.elements {
			if !slices.Contains(got, e) {
				t.Errorf("%v is not among %v", e, got)
			}
		}
		header.Size = len(test.elements)
		if list, err := s.Sets(ctx); err != nil || len(list) != 1 || list[0] != header {
			t.Errorf("%+v, %v", list, err)
		}
		if err := s.Change(ctx, []SetChange{{Op: DestroySet, Set: SetHeader{Name: header.Name}}, {Op: DestroySet, Set: SetHeader{Name: header.Name}}}); err != nil {
			t.Error(err)
		}
	}
}

func TestErrorsOfSetsHaveNames(t *testing.T) {
	ctx := context.Background()
	nfnltest.Isolate(t)
	s := open(t, SystemConfig{Backend: BackendNFT})
	nfnltest.Run(t, "", "ipset", "create", "ovl4-small", "hash:ip", "maxelem", "1")
	a := SetHeader{Name: "ovl4-a", Type: HashIP, Family: desired.IPv4}
	small := SetHeader{Name: "ovl4-small", Type: HashIP, Family: desired.IPv4}
	many := func(yield func(Element) bool) {
		for i := range 5000 {
			if !yield(Element{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}) {
				return
			}
		}
	}
	if err := s.Change(ctx, []SetChange{{Op: CreateSet, Set: a}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(ctx, desired.IPv4, []byte("*mangle\n:OVL-A - [0:0]\n-A OVL-A -m set --match-set ovl4-a src -j DROP\nCOMMIT\n")); err != nil {
		t.Fatal(err)
	}
	six := a
	six.Family = desired.IPv6
	for _, test := range []struct {
		change SetChange
		is     error
		want   string
	}{
		{SetChange{Op: AddElements, Set: small, Elements: many}, ErrSetFull, "add to set ovl4-small, element 10.0."},
		{SetChange{Op: DestroySet, Set: a}, ErrSetUsed, "destroy set ovl4-a"},
		{SetChange{Op: CreateSet, Set: six}, ErrSetKind, "create set ovl4-a"},
		{SetChange{Op: AddElements, Set: SetHeader{Name: "ovl4-gone", Type: HashIP, Family: desired.IPv4}, Elements: many}, ErrNoSet, "ovl4-gone"},
		{SetChange{Op: 99, Set: a}, nil, "unknown operation"},
	} {
		// The change after it is not made.
		err := s.Change(ctx, []SetChange{test.change, {Op: CreateSet, Set: SetHeader{Name: "ovl4-next", Type: HashIP, Family: desired.IPv4}}})
		if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %v: %s", err, test.is, test.want)
		}
	}
	if _, err := s.Elements(ctx, "ovl4-next"); !errors.Is(err, ErrNoSet) {
		t.Errorf("%v", err)
	}
}

func TestForeignRulesThatInterfereAreTold(t *testing.T) {
	ctx := context.Background()
	onBackends(t, func(t *testing.T, s *System) {
		backend := s.Info().Backend
		nfnltest.Run(t, `*mangle
:OVL-A - [0:0]
-A OVL-A -j CONNMARK --set-xmark 0x1000000/0xff000000
-A PREROUTING -j CONNMARK --set-mark 7
-A PREROUTING -j CONNMARK --set-xmark 0x80/0x80
-A POSTROUTING -j CONNMARK --save-mark
COMMIT
*raw
-A PREROUTING -s 10.0.0.0/8 -j CT --notrack
-A PREROUTING -d 169.254.20.10/32 -j CT --notrack
COMMIT
*nat
-A PREROUTING -j CONNMARK --set-xmark 0x1000000/0x1000000
COMMIT
`, "iptables-"+backend+"-restore", "--noflush")
		got, err := s.Tables(ctx, desired.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"mangle -A POSTROUTING -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
			"mangle -A PREROUTING -j CONNMARK --set-xmark 0x7/0xffffffff",
			"raw -A PREROUTING -s 10.0.0.0/8 -j CT --notrack",
			"nat -A PREROUTING -j CONNMARK --set-xmark 0x1000000/0x1000000",
		}
		if !slices.Equal(got.Foreign, want) {
			t.Errorf("%s", strings.Join(got.Foreign, "\n"))
		}
	})
}

func TestModesAreRefusedByName(t *testing.T) {
	nfnltest.Isolate(t)
	s := open(t, SystemConfig{Backend: BackendNFT})
	if found, err := s.Modes(context.Background()); err != nil || len(found) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
	nfnltest.Run(t, "", "ip", "link", "add", "kube-ipvs0", "type", "bridge")
	nfnltest.Run(t, "", "ip", "link", "add", "azure0", "type", "bridge")
	found, err := s.Modes(context.Background())
	if err != nil || len(found) != 2 || found[0].Name != "kube-proxy-ipvs" || found[1].Name != "azure-cni-bridge" || !found[0].Refused ||
		!strings.Contains(found[1].Message, "azure0") {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestANodeWithoutIPv6DoesWithoutItsRules(t *testing.T) {
	nfnltest.Isolate(t)
	if err := unix.Mount("tmpfs", "/proc/sys/net", "tmpfs", 0, ""); err != nil { // as with ipv6.disable=1
		t.Fatal(err)
	}
	s := open(t, SystemConfig{IPv6: true, Backend: BackendNFT})
	if info := s.Info(); info.IPv6 || !strings.Contains(info.NoIPv6, "ipv6.disable") {
		t.Errorf("%+v", info)
	}
	if err := s.Restore(context.Background(), desired.IPv6, []byte("*mangle\nCOMMIT\n")); err == nil || !strings.Contains(err.Error(), "ipv6.disable") {
		t.Errorf("%v", err)
	}
	if tables, err := s.Tables(context.Background(), desired.IPv6); err != nil || len(tables.Mangle) != 0 {
		t.Errorf("%v, %v", tables, err)
	}
}

func TestConnectionsAreSwept(t *testing.T) {
	ctx := context.Background()
	nfnltest.Isolate(t)
	s := open(t, SystemConfig{Backend: BackendNFT})
	client := netip.MustParseAddr("10.1.1.1")
	for range 2 {
		nfnltest.Run(t, "", "conntrack", "-I", "-p", "udp", "-s", client.String(), "-d", "10.1.1.2", "--sport", "1", "--dport", "2", "-t", "60", "-m", fmt.Sprint(0x05001234))
		for _, c := range []struct {
			change FlowChange
			want   int
		}{
			{FlowChange{Op: ResetMarks, Family: desired.IPv6, All: true, Mask: DefaultMask}, 0},
			{FlowChange{Op: ResetMarks, Family: desired.IPv4, Addrs: []netip.Addr{client}, Mask: DefaultMask}, 1},
			{FlowChange{Op: ResetMarks, Family: desired.IPv4, All: true, Mask: DefaultMask}, 0},
			{FlowChange{Op: DeleteFlows, Family: desired.IPv4, Addrs: []netip.Addr{client}}, 1},
		} {
			if n, err := s.Flows(ctx, c.change); err != nil || n != c.want {
				t.Errorf("%+v: %d, %v", c.change, n, err)
			}
		}
	}
	for _, c := range []FlowChange{{Op: DeleteFlows, All: true}, {Op: 9, Family: desired.IPv4}} {
		if _, err := s.Flows(ctx, c); err == nil {
			t.Errorf("%+v", c)
		}
	}
}
