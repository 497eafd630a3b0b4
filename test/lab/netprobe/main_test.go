package netprobe

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNamespace, in the environment, says that this process has a network
// namespace of its own, which the tests may do with as they like.
const inNamespace = "NETPROBE_TEST_IN_NAMESPACE"

// asProgram, in the environment, makes the test binary the program.
const asProgram = "NETPROBE_TEST_AS_PROGRAM"

// TestMain runs the tests in a fresh network namespace: a child process is the
// one way in which every thread has it.
func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case os.Getenv(asProgram) != "":
		os.Exit(Main(flag.Args()))
	case os.Getenv(inNamespace) != "" || os.Geteuid() != 0:
		os.Exit(m.Run())
	}
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the child dies with this thread
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintf(os.Stderr, "run the tests in a network namespace: %v\n", err)
		os.Exit(1)
	}
}

// Addresses of the test network: a router with a namespace of its own, and
// behind it prefixes that it drops, knows no way to, or forbids.
const (
	loExtra4, loOther4 = "10.9.9.8", "10.9.9.9"
	loExtra6, loOther6 = "fd00:9::8", "fd00:9::9"
	router4, router6   = "192.0.2.2", "2001:db8::2"
	dropped4, dropped6 = "198.51.100.1", "2001:db8:1::1"
	noWay4, noWay6     = "203.0.113.1", "2001:db8:2::1"
	forbid4, forbid6   = "203.0.114.1", "2001:db8:3::1"
	ownBlackhole4      = "203.0.115.1"
	ownBlackhole6      = "2001:db8:4::1"
)

// Of the errors of its IPv4 routes, the kernel sends five at once to an address,
// then one a second: a group of probes that expects errors has an address of its
// own, one of these, so that groups and runs of a test do not share the five.
const firstSource, lastSource = 10, 250

func source4(i int) string { return fmt.Sprintf("192.0.2.%d", i) }

func anySource() netip.Addr {
	return netip.MustParseAddr(source4(firstSource + rand.IntN(lastSource-firstSource+1)))
}

// network makes the test network, once a process.
func network(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root: makes network namespaces and raw sockets")
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if lo.Attrs().Flags&net.FlagUp != 0 {
		return
	}
	steps := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	steps(
		netlink.LinkSetUp(lo),
		address(lo, loExtra4, 32), address(lo, loOther4, 32), address(lo, loExtra6, 128), address(lo, loOther6, 128),
		route(nil, ownBlackhole4, 24, "", unix.RTN_BLACKHOLE), route(nil, ownBlackhole6, 64, "", unix.RTN_BLACKHOLE),
	)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	steps(err)
	_, err = netns.New() // stays open, and so alive, as long as the process
	steps(err)
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: "in0", TxQLen: -1})
	veth.PeerName, veth.PeerNamespace = "out0", netlink.NsFd(own)
	steps(netlink.LinkAdd(veth), address(veth, router4, 24), address(veth, router6, 64), netlink.LinkSetUp(veth),
		os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600),
		os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o600),
		// No limit on the errors sent, which come in bursts here. (An IPv4
		// rate of 0 would use up the tokens of the limit on route errors.)
		os.WriteFile("/proc/sys/net/ipv4/icmp_ratemask", []byte("0"), 0o600),
		os.WriteFile("/proc/sys/net/ipv6/icmp/ratelimit", []byte("0"), 0o600),
		route(nil, dropped4, 24, "", unix.RTN_BLACKHOLE), route(nil, dropped6, 64, "", unix.RTN_BLACKHOLE),
		route(nil, noWay4, 24, "", unix.RTN_UNREACHABLE), route(nil, noWay6, 64, "", unix.RTN_UNREACHABLE),
		route(nil, forbid4, 24, "", unix.RTN_PROHIBIT), route(nil, forbid6, 64, "", unix.RTN_PROHIBIT),
		netns.Set(own))
	out, err := netlink.LinkByName("out0")
	steps(err)
	steps(address(out, "192.0.2.1", 24), address(out, "2001:db8::1", 64), netlink.LinkSetUp(out),
		route(out, "0.0.0.0", 0, router4, unix.RTN_UNICAST), route(out, "::", 0, router6, unix.RTN_UNICAST))
	for i := firstSource; i <= lastSource; i++ {
		steps(address(out, source4(i), 24))
	}
	// The interfaces' own link-local addresses must be past their checks, or
	// the first packets wait for them.
	time.Sleep(1500 * time.Millisecond)
}

func address(link netlink.Link, addr string, bits int) error {
	ip := netip.MustParseAddr(addr)
	a := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(bits, ip.BitLen())}}
	if ip.Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return fmt.Errorf("add address %s: %w", addr, err)
	}
	return nil
}

func route(link netlink.Link, dst string, bits int, via string, kind int) error {
	ip := netip.MustParseAddr(dst)
	r := &netlink.Route{Type: kind}
	p, err := ip.Prefix(bits)
	if err != nil {
		return err
	}
	r.Dst = &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(bits, ip.BitLen())}
	if link != nil {
		r.LinkIndex, r.Gw = link.Attrs().Index, net.ParseIP(via)
	}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("add route %s: %w", p, err)
	}
	return nil
}

// startServer serves cfg until the test ends.
func startServer(t *testing.T, cfg ServeConfig) {
	t.Helper()
	network(t)
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	server, err := Listen(cfg, logrus.NewEntry(logger))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
	})
}

// probeAll probes the targets with short timeouts.
func probeAll(t *testing.T, opts Options, raw ...string) []Result {
	t.Helper()
	network(t)
	targets, err := readTargets(raw, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	if opts.Timeout == 0 {
		opts.Timeout = 2 * time.Second
	}
	opts.Parallel = 32
	results, err := Probe(context.Background(), targets, opts)
	if err != nil {
		t.Fatal(err)
	}
	return results
}
