package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/dataplane/nfnl"
	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
)

// The node forwards between a client and a server, each in a namespace, in both
// families; VIPs are translated to the server, as kube-proxy does.
const (
	client4, server4, vip4 = "10.9.1.2", "10.9.2.2", "10.9.9.9"
	client6, server6, vip6 = "fd09:1::2", "fd09:2::2", "fd09:9::9"
	port                   = 7001
)

type bench struct {
	*Conn
	t testing.TB
}

func node(t testing.TB) *bench {
	t.Helper()
	nfnltest.Isolate(t)
	sysctl := func(path, value string) {
		if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0o600); err != nil {
			t.Error(err)
		}
	}
	// Without the second that each address is otherwise looked for.
	const noDAD = "ipv6/conf/default/accept_dad"
	sysctl("ipv4/ip_forward", "1")
	sysctl("ipv6/conf/all/forwarding", "1")
	sysctl(noDAD, "0")
	for i, name := range []string{"client", "server"} {
		n := i + 1
		nfnltest.Run(t, "", "ip", "netns", "add", name)
		nfnltest.Enter(t, name, func() error { sysctl(noDAD, "0"); return nil })
		script := fmt.Sprintf(`link add v%[2]d type veth peer name eth0 netns %[1]s
addr add 10.9.%[2]d.1/24 dev v%[2]d
addr add fd09:%[2]d::1/64 dev v%[2]d nodad
link set v%[2]d up
`, name, n)
		nfnltest.Run(t, script, "ip", "-batch", "-")
		inside := fmt.Sprintf(`link set lo up
addr add 10.9.%[1]d.2/24 dev eth0
addr add fd09:%[1]d::2/64 dev eth0 nodad
link set eth0 up
route add default via 10.9.%[1]d.1
route add default via fd09:%[1]d::1
`, n)
		nfnltest.Run(t, inside, "ip", "-n", name, "-batch", "-")
	}
	rules := "*nat\n-A PREROUTING -d %s -j DNAT --to-destination %s\nCOMMIT\n*mangle\n" +
		"-A FORWARD -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x05001234/0xffffffff\nCOMMIT\n"
	nfnltest.Run(t, fmt.Sprintf(rules, vip4, server4), "iptables-legacy-restore", "--noflush")
	nfnltest.Run(t, fmt.Sprintf(rules, vip6, server6), "ip6tables-legacy-restore", "--noflush")
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{c, t}
}

// serve answers what arrives at the server with the same, over UDP and TCP.
func (b *bench) serve() {
	b.t.Helper()
	nfnltest.Enter(b.t, "server", func() error {
		for _, ip := range []string{server4, server6} {
			address := net.JoinHostPort(ip, fmt.Sprint(port))
			packets, err := net.ListenPacket("udp", address)
			if err != nil {
				return err
			}
			config := net.ListenConfig{KeepAlive: -1}
			listener, err := config.Listen(context.Background(), "tcp", address)
			if err != nil {
				return err
			}
			b.t.Cleanup(func() { _, _ = packets.Close(), listener.Close() })
			go echoPackets(packets)
			go echoStreams(listener)
		}
		return nil
	})
}

func echoPackets(conn net.PacketConn) {
	buf := make([]byte, 100)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(buf[:n], from) // the client will miss it
	}
}

func echoStreams(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			buf := make([]byte, 100)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				_, _ = conn.Write(buf[:n])
			}
		}()
	}
}

// flow is a connection of the client to the server, that is used once.
type flow struct {
	net.Conn
	t testing.TB
}

func (b *bench) flow(network, to string) flow {
	b.t.Helper()
	var f flow
	nfnltest.Enter(b.t, "client", func() error {
		d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1} // silent, unless used
		conn, err := d.Dial(network, net.JoinHostPort(to, fmt.Sprint(port)))
		f = flow{conn, b.t}
		return err
	})
	b.t.Cleanup(func() { _ = f.Close() })
	f.use()
	return f
}

// use sends and expects the answer, both through the node; over UDP it may take
// several attempts.
func (f flow) use() {
	f.t.Helper()
	var err error
	for range 50 {
		if err := f.SetDeadline(time.Now().Add(time.Second)); err != nil {
			f.t.Fatal(err)
		}
		if _, err = f.Write([]byte("hello")); err != nil {
			continue
		}
		var n int
		buf := make([]byte, 10)
		if n, err = f.Read(buf); err == nil && string(buf[:min(5, n)]) == "hello" {
			return
		}
	}
	f.t.Fatalf("%s: no answer: %v", key(f), err)
}

// marks are those of the node's connections with the port, by the client's, as the
// conntrack program sees them.
func (b *bench) marks() map[string]string {
	b.t.Helper()
	found := map[string]string{}
	for _, family := range []string{"ipv4", "ipv6"} {
		for line := range strings.Lines(nfnltest.Run(b.t, "", "conntrack", "-L", "-f", family, "-o", "extended")) {
			fields := strings.Fields(line)
			key, mark := "", ""
			for _, f := range fields {
				if v, ok := strings.CutPrefix(f, "sport="); ok && key == "" {
					key = fields[2] + " " + v
				}
				if v, ok := strings.CutPrefix(f, "mark="); ok {
					mark = v
				}
			}
			if strings.Contains(line, fmt.Sprintf("dport=%d ", port)) {
				found[key] = mark
			}
		}
	}
	return found
}

func key(f flow) string {
	_, p, _ := net.SplitHostPort(f.LocalAddr().String())
	return f.LocalAddr().Network() + " " + p
}

const (
	set   = "83890740" // 0x05001234
	reset = "4660"     // 0x1234
	mask  = 0xff000000
)

func addrs(list ...string) []netip.Addr {
	var found []netip.Addr
	for _, a := range list {
		found = append(found, netip.MustParseAddr(a))
	}
	return found
}

func TestMarksAreResetInTheMaskAndNATIsKept(t *testing.T) {
	ctx := context.Background()
	b := node(t)
	b.serve()
	for _, family := range []struct {
		six                 bool
		client, server, vip string
	}{{false, client4, server4, vip4}, {true, client6, server6, vip6}} {
		for name, filter := range map[string]Filter{
			"client":             {Addrs: addrs(family.client)},
			"server, behind VIP": {Addrs: addrs(family.server)},
			"both":               {Addrs: addrs(family.client, family.server)},
			"many":               {Addrs: addrs(family.client, "10.1.1.1", "10.1.1.2", "10.1.1.3", "fd00::1", "fd00::2")},
			"all":                {All: true},
		} {
			name = fmt.Sprintf("IPv6: %v, %s", family.six, name)
			var flows []flow
			for _, network := range []string{"udp", "tcp"} {
				for _, to := range []string{family.server, family.vip} {
					flows = append(flows, b.flow(network, to))
				}
			}
			before := b.marks()
			for _, f := range flows {
				if got := before[key(f)]; got != set {
					t.Fatalf("%s: %s: mark %q before, want %s", name, key(f), got, set)
				}
			}
			filter.IPv6 = family.six
			for _, want := range []int{len(flows), 0} { // those that are 0 already are not counted
				if n, err := b.ResetMarks(ctx, filter, mask); err != nil || n != want {
					t.Fatalf("%s: %d, %v; want %d", name, n, err, want)
				}
			}
			for _, f := range flows {
				f.use() // through the VIP too: the translation is as before
			}
			after := b.marks()
			for _, f := range flows {
				if got := after[key(f)]; got != reset {
					t.Errorf("%s: %s: mark %q after, want %s", name, key(f), got, reset)
				}
			}
		}
	}
}

func TestConnectionsOfOthersAreNotTouched(t *testing.T) {
	ctx := context.Background()
	b := node(t)
	b.serve()
	flows := []flow{b.flow("udp", server4), b.flow("tcp", vip4), b.flow("udp", vip6), b.flow("tcp", server6)}
	for _, filter := range []Filter{
		{},
		{IPv6: true},
		{Addrs: addrs("10.1.1.1")},
		{Addrs: addrs("10.1.1.1", "10.1.1.2", "10.1.1.3", "10.1.1.4")},
		// Neither the original source nor the real destination.
		{Addrs: addrs(vip4)},
		{IPv6: true, Addrs: addrs(vip6)},
		// Of the other family.
		{IPv6: true, Addrs: addrs(client4, server4)},
		{Addrs: addrs(client6, server6)},
	} {
		if n, err := b.ResetMarks(ctx, filter, mask); n != 0 || err != nil {
			t.Errorf("%+v: %d reset, %v", filter, n, err)
		}
		if n, err := b.Delete(ctx, filter); n != 0 || err != nil {
			t.Errorf("%+v: %d deleted, %v", filter, n, err)
		}
	}
	there := b.marks()
	for _, f := range flows {
		if got := there[key(f)]; got != set {
			t.Errorf("%s: %q", key(f), got)
		}
	}
}

func TestDeletedConnectionsAreForgotten(t *testing.T) {
	ctx := context.Background()
	b := node(t)
	b.serve()
	for _, test := range []struct {
		filter Filter
		want   int
	}{
		{Filter{Addrs: addrs(client4)}, 2},
		{Filter{Addrs: addrs(server4, client4)}, 2}, // each is found twice and is counted once
		{Filter{IPv6: true, Addrs: addrs(server6)}, 2},
		{Filter{IPv6: true, All: true}, 2},
	} {
		nfnltest.Run(t, "", "conntrack", "-F")
		flows := []flow{b.flow("udp", server4), b.flow("tcp", vip4), b.flow("udp", vip6), b.flow("tcp", server6)}
		if n, err := b.Delete(ctx, test.filter); n != test.want || err != nil {
			t.Fatalf("%+v: %d, %v", test.filter, n, err)
		}
		there := b.marks()
		if len(there) != len(flows)-test.want {
			t.Errorf("%+v: %v", test.filter, there)
		}
		for _, f := range flows[:2] {
			if _, ok := there[key(f)]; ok != test.filter.IPv6 {
				t.Errorf("%+v: %s: %v", test.filter, key(f), ok)
			}
		}
	}
}

// Two connections of equal tuples in two zones are two connections.
func TestAConnectionInAZoneIsNamedWithItsZone(t *testing.T) {
	ctx := context.Background()
	b := node(t)
	nfnltest.Run(t, "*raw\n-A PREROUTING -i v1 -j CT --zone 7\n-A PREROUTING -i v2 -j CT --zone 7\nCOMMIT\n",
		"iptables-legacy-restore", "--noflush")
	b.serve()
	b.flow("udp", server4)
	zones := func() (in7, other int) {
		for line := range strings.Lines(nfnltest.Run(t, "", "conntrack", "-L", "-o", "extended")) {
			switch {
			case !strings.Contains(line, "mark="+reset+" "):
			case strings.Contains(line, "zone=7"):
				in7++
			default:
				other++
			}
		}
		return in7, other
	}
	for _, f := range []Filter{{Addrs: addrs(client4)}, {All: true}} {
		// The other one, with the tuple of the one in the zone.
		nfnltest.Run(t, "", "conntrack", "-F")
		flow := b.flow("udp", server4)
		_, source, _ := net.SplitHostPort(flow.LocalAddr().String())
		nfnltest.Run(t, "", "conntrack", "-I", "-p", "udp", "-s", client4, "-d", server4, "--sport", source,
			"--dport", fmt.Sprint(port), "-t", "60", "-m", set)
		if n, err := b.ResetMarks(ctx, f, mask); n != 2 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		if in7, other := zones(); in7 != 1 || other != 1 {
			t.Errorf("%d in the zone, %d in none", in7, other)
		}
		if n, err := b.Delete(ctx, f); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
}

func TestASweepWhileConnectionsEndIsFine(t *testing.T) {
	ctx := context.Background()
	b := node(t)
	const n = 20_000
	fill(t, n)
	other, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	type result struct {
		n   int
		err error
	}
	done := make(chan result)
	go func() {
		n, err := other.Delete(ctx, Filter{All: true})
		done <- result{n, err}
	}()
	reset, err := b.ResetMarks(ctx, Filter{All: true}, mask)
	if err != nil || reset > n {
		t.Errorf("%d reset, %v", reset, err)
	}
	if r := <-done; r.err != nil || r.n < n {
		t.Errorf("%d deleted, %v", r.n, r.err)
	}
}

func TestAContextThatHasEndedEndsASweep(t *testing.T) {
	b := node(t)
	fill(t, 2000)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Delete(ended, Filter{All: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if n, err := b.Delete(context.Background(), Filter{All: true}); err != nil || n < 2000 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestAvailable(t *testing.T) {
	if err := node(t).Available(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestAddressesAreTakenAsTheyComeFromTheAPI(t *testing.T) {
	ctx := context.Background()
	b := node(t)
	b.serve()
	b.flow("udp", server4)
	mapped := netip.AddrFrom16(netip.MustParseAddr(client4).As16())
	if n, err := b.ResetMarks(ctx, Filter{Addrs: []netip.Addr{mapped, {}}}, mask); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// fill makes n connections, each with another source and the mark.
func fill(t testing.TB, n int) {
	t.Helper()
	var script strings.Builder
	for i := range n {
		fmt.Fprintf(&script, "-I -p udp -s 10.%d.%d.%d -d %s --sport 1000 --dport %d -t 600 -m %s\n", 100+i>>16, i>>8&255, i&255, server4, port, set)
	}
	nfnltest.Run(t, script.String(), "conntrack", "-R", "-")
	if got, err := strconv.Atoi(strings.TrimSpace(nfnltest.Run(t, "", "conntrack", "-C"))); err != nil || got < n {
		t.Fatalf("%d connections, want %d; %v", got, n, err)
	}
}

func TestTheFilterOfIPv4IsTheKernels(t *testing.T) {
	b := node(t)
	fill(t, 1000)
	for _, d := range []direction{original, reply} {
		want := map[direction]netip.Addr{original: netip.MustParseAddr("10.100.1.1"), reply: netip.MustParseAddr(server4)}[d]
		var seen []netip.Addr
		s := sweeper{conn: b.Conn, family: 2, change: nil}
		if err := s.pass(context.Background(), d, want, func(e entry) bool { seen = append(seen, e.at(d)); return false }); err != nil {
			t.Fatal(err)
		}
		if n := map[direction]int{original: 1, reply: 1000}[d]; len(seen) != n || slices.ContainsFunc(seen, func(a netip.Addr) bool { return a != want }) {
			t.Errorf("%d entries were sent, want %d", len(seen), n)
		}
	}
}

// BenchmarkSweep resets the marks of connections among 100,000.
func BenchmarkSweep(b *testing.B) {
	ctx := context.Background()
	node := node(b)
	const n = 100_000
	fill(b, n)
	all := Filter{All: true}
	b.Run("reset all", func(b *testing.B) {
		reset := 0
		bit := uint32(1)
		for b.Loop() {
			b.StopTimer()
			bit = 5<<24 | 0x1234
			restore(b, node.Conn, bit)
			b.StartTimer()
			k, err := node.ResetMarks(ctx, all, mask)
			if err != nil {
				b.Fatal(err)
			}
			reset += k
		}
		b.ReportMetric(float64(reset)/b.Elapsed().Seconds(), "flows/s")
	})
	b.Run("read all", func(b *testing.B) {
		for b.Loop() {
			if k, err := node.ResetMarks(ctx, all, 1<<31); err != nil || k != 0 {
				b.Fatal(k, err)
			}
		}
	})
	b.Run("one address", func(b *testing.B) {
		for b.Loop() {
			if _, err := node.ResetMarks(ctx, Filter{Addrs: addrs("10.100.7.7")}, 1<<31); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("delete all", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			nfnltest.Run(b, "", "conntrack", "-F")
			fill(b, n)
			b.StartTimer()
			if _, err := node.Delete(ctx, all); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// restore sets all marks.
func restore(b *testing.B, c *Conn, mark uint32) {
	b.Helper()
	if _, err := c.sweep(context.Background(), Filter{All: true}, func(batch *nfnl.Batch, family uint8, e entry) {
		batch.Begin(nfnl.Conntrack, cmdNew, 0, family)
		e.name(batch)
		batch.Uint32(attrMark, mark)
		batch.End()
	}); err != nil {
		b.Fatal(err)
	}
}
