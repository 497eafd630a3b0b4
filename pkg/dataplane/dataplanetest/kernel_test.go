package dataplanetest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

func quiet() *Kernel {
	k := NewKernel(Options{OneIn: -1})
	k.SetLocal(nodeAddrs()...)
	k.SetRoutes(map[netip.Prefix]string{
		netip.MustParsePrefix("0.0.0.0/0"):   Uplink,
		netip.MustParsePrefix("10.1.0.1/32"): "azv1",
	})
	return k
}

func restore(t *testing.T, k *Kernel, script string) {
	t.Helper()
	if err := k.Restore(t.Context(), desired.IPv4, []byte(script)); err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, k *Kernel, op iptables.SetOp, h iptables.SetHeader, e ...iptables.Element) error {
	t.Helper()
	return k.Change(t.Context(), []iptables.SetChange{{Op: op, Set: h, Elements: slices.Values(e)}})
}

func addressSet(name string) iptables.SetHeader {
	return iptables.SetHeader{Name: name, Type: iptables.HashIP, Family: desired.IPv4}
}

func TestRestoreRefusesWhatTheToolRefuses(t *testing.T) {
	cases := []struct{ name, script, want string }{
		{"no table", "-A OVL-X -j DROP\n", "outside of a table"},
		{"unknown table", "*mangel\nCOMMIT\n", "there is no table"},
		{"no COMMIT", "*mangle\n:OVL-X - [0:0]\n", "has no COMMIT"},
		{"no end of line", "*mangle\nCOMMIT", "no end"},
		{"unknown chain", "*mangle\n-A OVL-X -j DROP\nCOMMIT\n", "no chain"},
		{"unknown target", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -j OVL-Y\nCOMMIT\n", "couldn't load target"},
		{"goto no chain", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -g DROP\nCOMMIT\n", "isn't a chain"},
		{"built-in target", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -j INPUT\nCOMMIT\n", "built-in"},
		{"unknown match", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -m nonesuch -j DROP\nCOMMIT\n", "couldn't load match"},
		{"unknown option", "*mangle\n:OVL-X - [0:0]\n-A OVL-X --nonesuch -j DROP\nCOMMIT\n", "unknown option"},
		{"unknown set", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -m set --match-set ovl4-x src -j DROP\nCOMMIT\n", "doesn't exist"},
		{"long chain", "*mangle\n:OVL-" + strings.Repeat("x", 25) + " - [0:0]\nCOMMIT\n", "29 characters"},
		{"other family", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -s fd00::/8 -j DROP\nCOMMIT\n", "another family"},
		{"long device", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -i azv4567890123456 -j DROP\nCOMMIT\n", "interface name"},
		{"ports without protocol", "*mangle\n:OVL-X - [0:0]\n-A OVL-X --dport 80 -j DROP\nCOMMIT\n", "ports need"},
		{"deleted while referenced", "*mangle\n:OVL-X - [0:0]\n:OVL-Y - [0:0]\n-A OVL-X -j OVL-Y\n-X OVL-Y\nCOMMIT\n", "too many links"},
		{"deleted while full", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -j DROP\n-X OVL-X\nCOMMIT\n", "not empty"},
		{"a loop", "*mangle\n:OVL-X - [0:0]\n:OVL-Y - [0:0]\n-A OVL-X -j OVL-Y\n-A OVL-Y -g OVL-X\n-I FORWARD -j OVL-X\nCOMMIT\n", "too many levels"},
		{"rpfilter at FORWARD", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -m rpfilter --invert -j DROP\n-I FORWARD -j OVL-X\nCOMMIT\n", "works in"},
		{"a rate limit that decides", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -m limit -j DROP\n-I FORWARD -j OVL-X\nCOMMIT\n", "rate limit"},
		{"no such rule", "*mangle\n:OVL-X - [0:0]\n-I FORWARD -j OVL-X\n-D FORWARD -i eth0 -j OVL-X\nCOMMIT\n", "bad rule"},
		{"number too big", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -j DROP\n-D OVL-X 2\nCOMMIT\n", "too big"},
		{"sixteen ports", "*mangle\n:OVL-X - [0:0]\n-A OVL-X -p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 -j DROP\nCOMMIT\n", "too many ports"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			k := quiet()
			before := k.Dump()
			err := k.Restore(t.Context(), desired.IPv4, []byte(c.script))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got the error %v, want %q", err, c.want)
			}
			if k.Dump() != before {
				t.Errorf("a refused transaction has changed\n%s\nto\n%s", before, k.Dump())
			}
			if v := k.Violations(); len(v) > 0 {
				t.Errorf("violations %q", v)
			}
		})
	}
}

func TestRestoreDoesNotLetForeignThingsBeTouched(t *testing.T) {
	for _, line := range []string{
		":FORWARD DROP [0:0]", ":KUBE - [0:0]", "-F FORWARD", "-F KUBE", "-X KUBE", "-N OTHER", "-A FORWARD -j DROP",
		"-I FORWARD -j KUBE", "-D FORWARD 1", "-D FORWARD -j KUBE", "-A KUBE -j DROP",
	} {
		t.Run(line, func(t *testing.T) {
			k := quiet()
			if err := k.Edit(desired.IPv4, "mangle", "-N KUBE", "-A FORWARD -j KUBE"); err != nil {
				t.Fatal(err)
			}
			before := k.Dump()
			if err := k.Restore(t.Context(), desired.IPv4, []byte("*mangle\n"+line+"\nCOMMIT\n")); err == nil {
				t.Error("no error")
			}
			if len(k.Violations()) != 1 || k.Dump() != before {
				t.Errorf("violations %q, and\n%s\nwas\n%s", k.Violations(), k.Dump(), before)
			}
		})
	}
}

func TestRulesArePrintedAsIptablesSaveDoes(t *testing.T) {
	k := quiet()
	if err := change(t, k, iptables.CreateSet, addressSet("ovl4-a")); err != nil {
		t.Fatal(err)
	}
	rules := [][2]string{
		{"-j DROP -s 10.0.0.1", "-s 10.0.0.1/32 -j DROP"},
		{"-s 0.0.0.0/0 -o azv+ -i azv1 -j RETURN", "-i azv1 -o azv+ -j RETURN"},
		{"! -s 10.1.2.3/8 -j RETURN", "! -s 10.0.0.0/8 -j RETURN"},
		{"-p tcp --dport 80:443 -j RETURN", "-p tcp -m tcp --dport 80:443 -j RETURN"},
		{"-p udp -m udp --sport 53 -j RETURN", "-p udp -m udp --sport 53 -j RETURN"},
		{"-p 132 -j RETURN", "-p sctp -j RETURN"},
		{"-m connmark --mark 0x01000000/0xff000000 -j RETURN", "-m connmark --mark 0x1000000/0xff000000 -j RETURN"},
		{"-m connmark --mark 5 -j RETURN", "-m connmark --mark 0x5 -j RETURN"},
		{"-j CONNMARK --set-mark 0x1/0x3", "-j CONNMARK --set-xmark 0x1/0x3"},
		{"-j CONNMARK --set-mark 0x4/0x3", "-j CONNMARK --set-xmark 0x4/0x7"},
		{"-m conntrack --ctstate ESTABLISHED,RELATED --ctdir REPLY -j RETURN", "-m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -j RETURN"},
		{"-m set ! --match-set ovl4-a src -j RETURN", "-m set ! --match-set ovl4-a src -j RETURN"},
		{"-m comment --comment \"two words\" -j RETURN", "-m comment --comment \"two words\" -j RETURN"},
		{"-m comment --comment \"one\" -j RETURN", "-m comment --comment one -j RETURN"},
		{"-j NFLOG --nflog-group 0 --nflog-prefix a", "-j NFLOG --nflog-prefix a"},
	}
	script := "*mangle\n:OVL-X - [0:0]\n"
	var want []string
	for _, r := range rules {
		script += "-A OVL-X " + r[0] + "\n"
		want = append(want, r[1])
	}
	restore(t, k, script+"COMMIT\n")
	tables, err := k.Tables(t.Context(), desired.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	if got := tables.Mangle["OVL-X"]; !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// What is printed is read as what it was.
	again := "*mangle\n:OVL-X - [0:0]\n"
	for _, r := range want {
		again += "-A OVL-X " + r + "\n"
	}
	before := k.Dump()
	restore(t, k, again+"COMMIT\n")
	if k.Dump() != before {
		t.Errorf("read again it is\n%s\nwas\n%s", k.Dump(), before)
	}
}

func TestSetsRefuseWhatTheKernelRefuses(t *testing.T) {
	k := quiet()
	a := iptables.Element{Addr: netip.MustParseAddr("10.0.0.1")}
	if err := change(t, k, iptables.AddElements, addressSet("ovl4-none"), a); !errors.Is(err, iptables.ErrNoSet) {
		t.Errorf("add to no set: %v", err)
	}
	if err := change(t, k, iptables.CreateSet, addressSet("ovl4-"+strings.Repeat("x", 27))); err == nil {
		t.Error("a name of 32 characters is taken")
	}
	if err := change(t, k, iptables.CreateSet, addressSet("ovl4-a")); err != nil {
		t.Fatal(err)
	}
	other := addressSet("ovl4-a")
	other.Type = iptables.HashNet
	if err := change(t, k, iptables.CreateSet, other); !errors.Is(err, iptables.ErrSetKind) {
		t.Errorf("create with another type: %v", err)
	}
	for _, e := range []iptables.Element{
		{Addr: netip.MustParseAddr("fd00::1")}, {Addr: netip.MustParseAddr("0.0.0.0")}, {Addr: a.Addr, Port: 80, Protocol: model.TCP}, {},
	} {
		if err := change(t, k, iptables.AddElements, addressSet("ovl4-a"), e); err == nil {
			t.Errorf("%+v is taken", e)
		}
	}
	restore(t, k, "*mangle\n:OVL-X - [0:0]\n-A OVL-X -m set --match-set ovl4-a src -j DROP\nCOMMIT\n")
	if err := change(t, k, iptables.DestroySet, addressSet("ovl4-a")); !errors.Is(err, iptables.ErrSetUsed) {
		t.Errorf("destroy what is in use: %v", err)
	}
	if err := change(t, k, iptables.DestroySet, addressSet("KUBE-X")); err == nil || len(k.Violations()) != 1 {
		t.Errorf("destroy a foreign set: %v, %q", err, k.Violations())
	}
}

func TestLongestNetworkDecides(t *testing.T) {
	k := quiet()
	h := iptables.SetHeader{Name: "ovl4-n", Type: iptables.HashNet, Family: desired.IPv4}
	network := func(text string, nomatch bool) iptables.Element {
		p := netip.MustParsePrefix(text)
		return iptables.Element{Addr: p.Addr(), Bits: uint8(p.Bits()), NoMatch: nomatch}
	}
	if err := k.Change(t.Context(), []iptables.SetChange{{Op: iptables.CreateSet, Set: h}, {
		Op: iptables.AddElements, Set: h, Elements: slices.Values([]iptables.Element{
			network("10.0.0.0/8", false), network("10.2.0.0/16", true), network("10.2.3.0/24", false),
		}),
	}}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"10.1.0.1": true, "10.2.0.1": false, "10.2.3.1": true, "11.0.0.1": false} {
		if got := k.sets["ovl4-n"].holds(netip.MustParseAddr(text), 0, 0); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	}
	if err := change(t, k, iptables.AddElements, h, iptables.Element{Addr: netip.MustParseAddr("0.0.0.0")}); err == nil {
		t.Error("a network of length 0 is taken")
	}
}

func TestReturnFromAGotoChainIsAReturnFromItsCaller(t *testing.T) {
	k := quiet()
	restore(t, k, `*mangle
:OVL-A - [0:0]
:OVL-B - [0:0]
:OVL-C - [0:0]
-A OVL-A -j OVL-B
-A OVL-A -p tcp -j DROP
-A OVL-B -g OVL-C
-A OVL-B -j ACCEPT
-A OVL-C -p udp -j DROP
-I FORWARD -j OVL-A
COMMIT
`)
	p := Packet{In: "azv1", Out: Uplink, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}
	for protocol, want := range map[model.Protocol]bool{model.TCP: false, model.UDP: false, model.SCTP: true} {
		p.Protocol = protocol
		if fate := k.ProbeNew(p); fate.Passed != want {
			t.Errorf("%s passes %t\n%s", protocol, fate.Passed, fate)
		}
	}
}

func TestConnectionsAreTrackedInBothDirections(t *testing.T) {
	k := quiet()
	restore(t, k, `*mangle
:OVL-A - [0:0]
-A OVL-A -m connmark --mark 0x1000000/0xff000000 -j RETURN
-A OVL-A -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j DROP
-A OVL-A -m conntrack --ctstate RELATED -j RETURN
-A OVL-A -d 10.2.0.1/32 -j CONNMARK --set-xmark 0x1000000/0xff000000
-A OVL-A -d 10.2.0.1/32 -j RETURN
-A OVL-A -j DROP
-I FORWARD -j OVL-A
COMMIT
`)
	vip, backend := netip.MustParseAddrPort("10.9.0.1:8"), netip.MustParseAddrPort("10.2.0.1:80")
	k.Translate(model.TCP, vip, backend)
	there := Packet{
		In: "azv1", Out: Uplink, Src: netip.MustParseAddr("10.1.0.1"), Dst: vip.Addr(), Protocol: model.TCP, SrcPort: 1000, DstPort: 8,
	}
	back := Packet{
		In: Uplink, Out: "azv1", Src: backend.Addr(), Dst: there.Src, Protocol: model.TCP, SrcPort: 80, DstPort: 1000,
	}
	pass := func(what string, p Packet, want bool) {
		t.Helper()
		if fate := k.Send(p); fate.Passed != want {
			t.Errorf("%s passes %t, want %t\n%s", what, fate.Passed, want, fate)
		}
	}
	pass("an answer to nothing", back, false)
	if n := len(k.Connections()); n != 0 {
		t.Errorf("%d connections from what was dropped", n)
	}
	pass("a new packet", there, true)
	pass("its answer", back, true)
	failure := Packet{In: Uplink, Out: "azv1", Src: netip.MustParseAddr("192.0.2.1"), Dst: there.Src, Protocol: 1}
	about := there
	failure.Error = &about
	pass("an error about it", failure, true)
	if _, err := k.Flows(t.Context(), iptables.FlowChange{
		Op: iptables.ResetMarks, Family: desired.IPv4, Addrs: []netip.Addr{backend.Addr()}, Mask: 0xff000000,
	}); err != nil {
		t.Fatal(err)
	}
	pass("a stale answer", back, false)
	pass("the next packet", there, true)
	pass("its answer again", back, true)
	n, err := k.Flows(t.Context(), iptables.FlowChange{Op: iptables.DeleteFlows, Family: desired.IPv4, Addrs: []netip.Addr{there.Src}})
	if err != nil || n != 1 || len(k.Connections()) != 0 {
		t.Errorf("%d deleted, %v, left %v", n, err, k.Connections())
	}
	pass("an answer that is new now", back, false)
}

func TestSourcesThatAreNotRoutedBackAreDropped(t *testing.T) {
	k := quiet()
	restore(t, k, "*raw\n:OVL-S - [0:0]\n-A OVL-S -i azv+ -m rpfilter --invert -j DROP\n-I PREROUTING -j OVL-S\nCOMMIT\n")
	p := Packet{In: "azv1", Dst: netip.MustParseAddr("10.3.0.1"), Protocol: model.UDP}
	for text, want := range map[string]bool{"10.1.0.1": true, "10.1.0.2": false, "10.3.0.1": false, "0.0.0.0": false} {
		p.Src = netip.MustParseAddr(text)
		if fate := k.ProbeNew(p); fate.Passed != want {
			t.Errorf("from %s: passes %t, want %t", text, fate.Passed, want)
		}
	}
}

func TestFaults(t *testing.T) {
	script := []byte("*raw\n:OVL-X - [0:0]\nCOMMIT\n*mangle\n:OVL-X - [0:0]\nCOMMIT\n")
	for effect, want := range map[Effect]int{Nothing: 0, All: 2} {
		k := quiet()
		k.FailNext(OpRestore, effect, iptables.ErrLocked)
		if err := k.Restore(t.Context(), desired.IPv4, script); !errors.Is(err, iptables.ErrLocked) {
			t.Errorf("effect %d: error %v", effect, err)
		}
		if got := len(k.Ours()); got != want {
			t.Errorf("effect %d: %d chains, want %d", effect, got, want)
		}
		if err := k.Restore(t.Context(), desired.IPv4, script); err != nil {
			t.Errorf("effect %d: the next one: %v", effect, err)
		}
	}
	k := quiet()
	k.KillAfter(2, All)
	restore(t, k, string(script))
	func() {
		defer func() {
			if _, ok := recover().(Killed); !ok {
				t.Error("not killed")
			}
		}()
		_ = change(t, k, iptables.CreateSet, addressSet("ovl4-a"))
	}()
	if len(k.Ours()) != 3 {
		t.Errorf("after the kill there is %q", k.Ours())
	}
}

func TestOneOperationInTenFails(t *testing.T) {
	k := NewKernel(Options{Seed: 1})
	failed := 0
	const all = 1000
	for range all {
		if _, err := k.Sets(context.Background()); err != nil {
			failed++
		}
	}
	if failed < all/20 || failed > all/5 {
		t.Errorf("%d of %d fail", failed, all)
	}
}
