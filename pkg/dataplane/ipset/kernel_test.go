package ipset

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

func dial(t testing.TB) *Conn {
	t.Helper()
	nfnltest.Isolate(t)
	c, err := Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// nth is an address of the family; all are different.
func nth(f desired.Family, i int) netip.Addr {
	if f == desired.IPv4 {
		return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
}

// nthElement is an element for a set of the type and family; all are different,
// and of hash:net they have several lengths and are partly exceptions.
func nthElement(t Type, f desired.Family, i int) Element {
	e := Element{Addr: nth(f, i)}
	switch t {
	case HashNet:
		e.Bits = uint8(e.Addr.BitLen() - i%3)
		e.Addr = netip.PrefixFrom(nth(f, 4*i), int(e.Bits)).Masked().Addr()
		e.NoMatch = i%5 == 4
	case HashIPPort:
		e.Protocol = []model.Protocol{model.TCP, model.UDP, model.SCTP}[i%3]
		e.Port = uint16(i)
	case HashIP:
	}
	return e
}

func elements(s Set, n int) []Element {
	list := make([]Element, n)
	for i := range list {
		list[i] = nthElement(s.Type, s.Family, i)
	}
	return list
}

func kinds() []Set {
	return []Set{
		{"ovl4-ip", HashIP, desired.IPv4, 10},
		{"ovl6-ip", HashIP, desired.IPv6, 10},
		{"ovl4-net", HashNet, desired.IPv4, 10},
		{"ovl6-net", HashNet, desired.IPv6, 10},
		{"ovl4-port", HashIPPort, desired.IPv4, 10},
		{"ovl6-port", HashIPPort, desired.IPv6, 10},
	}
}

func text(list []Element) []string {
	lines := make([]string, len(list))
	for i, e := range list {
		lines[i] = e.String()
	}
	slices.Sort(lines)
	return lines
}

// saved is what the ipset program says that the set holds.
func saved(t testing.TB, s Set) []string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(nfnltest.Run(t, "", "ipset", "save", s.Name)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "add "+s.Name+" ")
		if !ok {
			continue
		}
		if s.Type == HashNet && !strings.Contains(rest, "/") { // the longest prefix is left out
			addr, flags, _ := strings.Cut(rest, " ")
			rest = strings.TrimSpace(fmt.Sprintf("%s/%d %s", addr, netip.MustParseAddr(addr).BitLen(), flags))
		}
		lines = append(lines, rest)
	}
	slices.Sort(lines)
	return lines
}

func held(t testing.TB, c *Conn, name string) []string {
	t.Helper()
	_, list, err := c.Elements(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return text(list)
}

func TestElementsComeBackAsTheyWereAdded(t *testing.T) {
	ctx := context.Background()
	c := dial(t)
	for _, s := range kinds() {
		if err := c.HasType(ctx, s.Type, s.Family); err != nil {
			t.Fatal(err)
		}
		if err := c.Create(ctx, s); err != nil {
			t.Fatal(err)
		}
		const n = 5000
		all := elements(s, n)
		for range 2 { // what is there is passed over
			if done, err := c.Add(ctx, s, slices.Values(all)); err != nil || done != n {
				t.Fatalf("%s: %d added, %v", s.Name, done, err)
			}
		}
		want := text(all)
		if got := held(t, c, s.Name); !slices.Equal(got, want) {
			t.Errorf("%s: %d elements read, %d added", s.Name, len(got), len(want))
		}
		if got := saved(t, s); !slices.Equal(got, want) {
			t.Errorf("%s: the ipset program sees %d elements, %d added: %q…", s.Name, len(got), len(want), got[:min(3, len(got))])
		}
		for range 2 { // what is not there is passed over
			if done, err := c.Delete(ctx, s, slices.Values(all[1:])); err != nil || done != n-1 {
				t.Fatalf("%s: %d deleted, %v", s.Name, done, err)
			}
		}
		if got := held(t, c, s.Name); !slices.Equal(got, text(all[:1])) {
			t.Errorf("%s: %q is left", s.Name, got)
		}
	}
	list, err := c.List(ctx, func(name string) bool { return strings.HasPrefix(name, "ovl4-") })
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	if h := list[0]; h.Name != "ovl4-ip" || h.Type != HashIP || h.Family != desired.IPv4 || h.Size != 1 || h.References != 0 || h.MaxElements != 1<<32-1 {
		t.Errorf("%+v", h)
	}
}

// The ipset program refuses a prefix of length 0, and the kernel takes it for
// one of 32 if the attribute is left out.
func TestAPrefixOfLength0IsRefusedAndItsHalvesAreNot(t *testing.T) {
	ctx := context.Background()
	c := dial(t)
	for _, s := range []Set{{"ovl4-net", HashNet, desired.IPv4, 0}, {"ovl6-net", HashNet, desired.IPv6, 0}} {
		if err := c.Create(ctx, s); err != nil {
			t.Fatal(err)
		}
		zero, high := netip.IPv4Unspecified(), netip.MustParseAddr("128.0.0.0")
		if s.Family == desired.IPv6 {
			zero, high = netip.IPv6Unspecified(), netip.MustParseAddr("8000::")
		}
		_, err := c.Add(ctx, s, slices.Values([]Element{{Addr: zero}}))
		if err == nil || !strings.Contains(err.Error(), "prefix length is 0") {
			t.Errorf("%v", err)
		}
		halves := []Element{{Addr: zero, Bits: 1}, {Addr: high, Bits: 1, NoMatch: true}}
		if _, err := c.Add(ctx, s, slices.Values(halves)); err != nil {
			t.Fatal(err)
		}
		if got := held(t, c, s.Name); !slices.Equal(got, text(halves)) || !slices.Equal(got, saved(t, s)) {
			t.Errorf("%q, the ipset program sees %q", got, saved(t, s))
		}
	}
}

// A prefix that was an exception and is none any more, or the reverse, is
// another element of the same place: the last word counts.
func TestNoMatchOfAPrefixCanChange(t *testing.T) {
	ctx := context.Background()
	c := dial(t)
	s := Set{"ovl4-net", HashNet, desired.IPv4, 0}
	if err := c.Create(ctx, s); err != nil {
		t.Fatal(err)
	}
	e := Element{Addr: netip.MustParseAddr("10.1.0.0"), Bits: 16}
	for _, e.NoMatch = range []bool{false, true, false} {
		if _, err := c.Add(ctx, s, slices.Values([]Element{e})); err != nil {
			t.Fatal(err)
		}
		if got := held(t, c, s.Name); !slices.Equal(got, []string{e.String()}) {
			t.Errorf("%q, want %q", got, e)
		}
	}
}

func TestElementsThatAreNotOfTheSetAreRefusedByName(t *testing.T) {
	ctx := context.Background()
	c := dial(t)
	for _, s := range kinds() {
		if err := c.Create(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	four, six := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::1")
	for _, test := range []struct {
		set  Set
		e    Element
		want string
	}{
		{kinds()[0], Element{Addr: six}, "add to set ovl4-ip, element fd00::1: the address is not of the set's family"},
		{kinds()[1], Element{Addr: four}, "family"},
		{kinds()[1], Element{Addr: netip.AddrFrom16(four.As16())}, "plain"},
		{kinds()[0], Element{}, "plain"},
		{kinds()[0], Element{Addr: netip.IPv4Unspecified()}, "unspecified"},
		{kinds()[2], Element{Addr: four, Bits: 33}, "1 to 32"},
		{kinds()[2], Element{Addr: four, Bits: 24}, "beyond"},
		{kinds()[4], Element{Addr: four, Port: 80}, "protocol"},
	} {
		if _, err := c.Add(ctx, test.set, slices.Values([]Element{test.e})); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s into %s: %v, want %q", test.e, test.set.Name, err, test.want)
		}
	}
}

func TestAnErrorNamesTheElementThatDidNotFit(t *testing.T) {
	ctx := context.Background()
	c := dial(t)
	nfnltest.Run(t, "", "ipset", "create", "ovl4-small", "hash:ip", "maxelem", "3000")
	s := Set{"ovl4-small", HashIP, desired.IPv4, 0}
	// Over the limit the kernel counts what is in a bucket's region, so that it
	// may be refused a little before; so no element's number is expected.
	_, err := c.Add(ctx, s, slices.Values(elements(s, 9000)))
	var refused *Error
	if !errors.Is(err, ErrFull) || !errors.As(err, &refused) || refused.Set != s.Name || refused.Errno != 4352 {
		t.Fatalf("%v", err)
	}
	there := held(t, c, s.Name)
	if refused.Element == "" || slices.Contains(there, refused.Element) || len(there) < 2000 {
		t.Errorf("%v; %d elements are there", err, len(there))
	}
	if !strings.HasPrefix(err.Error(), "add to set ovl4-small, element 10.0.") {
		t.Error(err)
	}
}

func TestSetsThatCannotBeMadeOrRemovedAreNamed(t *testing.T) {
	ctx := context.Background()
	c := dial(t)
	first := Set{"ovl4-a", HashIP, desired.IPv4, 100_000}
	for range 2 {
		if err := c.Create(ctx, first); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Add(ctx, first, slices.Values(elements(first, 3))); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(ctx, first); err != nil {
		t.Errorf("one with elements: %v", err)
	}
	for _, other := range []Set{{"ovl4-a", HashNet, desired.IPv4, 0}, {"ovl4-a", HashIP, desired.IPv6, 0}} {
		if err := c.Create(ctx, other); !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), "ovl4-a") || !strings.Contains(err.Error(), "hash:ip of IPv4") {
			t.Errorf("%v", err)
		}
	}
	nfnltest.Run(t, "", "iptables-legacy", "-A", "INPUT", "-m", "set", "--match-set", "ovl4-a", "src", "-j", "RETURN")
	if err := c.Destroy(ctx, "ovl4-a"); !errors.Is(err, ErrUsed) || !strings.Contains(err.Error(), "destroy set ovl4-a") {
		t.Errorf("%v", err)
	}
	if list, err := c.List(ctx, func(string) bool { return true }); err != nil || len(list) != 1 || list[0].References != 1 || list[0].Size != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	nfnltest.Run(t, "", "iptables-legacy", "-F")
	for range 2 {
		if err := c.Destroy(ctx, "ovl4-a"); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 32)} {
		if err := c.Destroy(ctx, name); err == nil {
			t.Errorf("%q was destroyed", name)
		}
	}
	if err := c.Create(ctx, Set{strings.Repeat("x", 32), HashIP, desired.IPv4, 0}); err == nil || !strings.Contains(err.Error(), "1 to 31") {
		t.Errorf("%v", err)
	}
	for _, op := range []func() error{
		func() error { _, err := c.Add(ctx, first, slices.Values(elements(first, 3))); return err },
		func() error { _, _, err := c.Elements(ctx, "ovl4-a"); return err },
		func() error { _, err := c.Header(ctx, "ovl4-a"); return err },
	} {
		if err := op(); !errors.Is(err, ErrNoSet) || !strings.Contains(err.Error(), "ovl4-a") {
			t.Errorf("%v", err)
		}
	}
}

// What is not changed is always listed, and what was changed before; the set
// grows meanwhile.
func TestADumpUnderChangeLeavesNothingOut(t *testing.T) {
	ctx := context.Background()
	c := dial(t)
	other, err := Dial(ctx) // in the same namespace
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	s := Set{"ovl4-a", HashIP, desired.IPv4, 0}
	if err := c.Create(ctx, s); err != nil {
		t.Fatal(err)
	}
	const still = 20_000
	all := elements(s, 5*still)
	if _, err := c.Add(ctx, s, slices.Values(all[:still])); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			_, err := other.Add(ctx, s, slices.Values(all[still:]))
			if err == nil {
				_, err = other.Delete(ctx, s, slices.Values(all[still:]))
			}
			select {
			case <-stop:
				stopped <- err
				return
			default:
			}
			if err != nil {
				stopped <- err
				return
			}
		}
	}()
	for range 20 {
		_, list, err := c.Elements(ctx, s.Name)
		if err != nil {
			t.Fatal(err)
		}
		there := make(map[Element]bool, len(list))
		for _, e := range list {
			there[e] = true
		}
		for _, e := range all[:still] {
			if !there[e] {
				t.Fatalf("%s is not listed", e)
			}
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestAContextThatHasEndedEndsACallAndTheConnectionGoesOn(t *testing.T) {
	c := dial(t)
	ended, cancel := context.WithCancel(context.Background())
	s := Set{"ovl4-a", HashIP, desired.IPv4, 0}
	if err := c.Create(ended, s); err != nil {
		t.Fatal(err)
	}
	i := 0
	_, err := c.Add(ended, s, func(yield func(Element) bool) {
		for ; i < 1_000_000; i++ {
			if i == 100_000 {
				cancel()
			}
			if !yield(nthElement(s.Type, s.Family, i)) {
				return
			}
		}
	})
	if !errors.Is(err, context.Canceled) || i > 200_000 {
		t.Errorf("%v, after %d elements", err, i)
	}
	if got := held(t, c, s.Name); len(got) < 90_000 {
		t.Errorf("%d elements", len(got))
	}
}

func TestThousandsOfSetsAreListed(t *testing.T) {
	ctx := context.Background()
	c := dial(t)
	const n = 1500
	for i := range n {
		if err := c.Create(ctx, Set{fmt.Sprintf("ovl4-%04d", i), HashIP, desired.IPv4, 0}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.List(ctx, func(string) bool { return true })
	if err != nil || len(list) != n || list[n-1].Name != "ovl4-1499" {
		t.Errorf("%d, %v", len(list), err)
	}
}

func TestErrorsSayWhatTheNumberMeans(t *testing.T) {
	for errno, want := range map[unix.Errno]string{
		4352:       "add to set s, element e: the set is full",
		4100:       "add to set s, element e: the set is in use",
		4104:       "add to set s, element e: invalid prefix length (error 4104)",
		unix.EPERM: "add to set s, element e: not permitted: NET_ADMIN is needed in this network namespace (error 1)",
		9999:       "add to set s, element e: errno 9999 (error 9999)",
	} {
		err := &Error{Op: "add to", Set: "s", Element: "e", Errno: errno}
		if err.Error() != want || !errors.Is(err, errno) {
			t.Errorf("%v", err)
		}
	}
}
