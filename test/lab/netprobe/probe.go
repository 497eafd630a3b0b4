package netprobe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// resolveLimit bounds the resolution of one name, whatever the timeout of the
// probes: it is how long Go's resolver waits for a DNS server before the next.
const resolveLimit = 5 * time.Second

// Options say how to probe.
type Options struct {
	// Timeout bounds each exchange of a request and its answer; must be above 0.
	Timeout time.Duration
	// Retries is how many further attempts a failed probe gets, each on a
	// connection of its own.
	Retries int
	// Parallel is how many probes run at once; must be above 0.
	Parallel int
	// Source is the address to send from; the zero value leaves it to the kernel.
	Source netip.Addr
}

// Probe probes every target and returns the results in the targets' order. An
// error means that ctx ended before all were done; failed probes are results.
// Raw sockets (sctp, icmp) need root.
func Probe(ctx context.Context, targets []Target, opts Options) ([]Result, error) {
	results := make([]Result, len(targets))
	var g errgroup.Group
	g.SetLimit(opts.Parallel)
	for i, t := range targets {
		g.Go(func() error {
			results[i] = probe(ctx, t, opts)
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors
	return results, ctx.Err()
}

func probe(ctx context.Context, t Target, opts Options) Result {
	r := Result{Target: t.Raw}
	addr, err := resolve(ctx, t, opts.Source)
	if err != nil {
		r.Kind, r.Error = KindResolve, err.Error()
		return r
	}
	r.Address = addr
	for r.Attempts <= opts.Retries && ctx.Err() == nil {
		r.Attempts++
		a := attempt{target: t, dst: netip.AddrPortFrom(addr, t.Port), opts: opts, result: &r}
		err = a.run(ctx)
		if err == nil {
			r.OK, r.Kind, r.Error = true, "", ""
			return r
		}
		r.Kind, r.Error = classify(err), err.Error()
	}
	if r.Attempts == 0 {
		r.Kind, r.Error = KindOther, "not probed: "+ctx.Err().Error()
	}
	return r
}

// resolve finds the one address that all attempts use. Without a family asked
// for, that of the source address counts, then IPv4 before IPv6.
func resolve(ctx context.Context, t Target, source netip.Addr) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(t.Host); err == nil {
		return addr.Unmap(), nil
	}
	network := "ip"
	switch {
	case t.Family == 4 || t.Family == 0 && source.Is4():
		network = "ip4"
	case t.Family == 6 || t.Family == 0 && source.Is6():
		network = "ip6"
	}
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	resolver := net.Resolver{PreferGo: true} // in small images there is no other
	addrs, err := resolver.LookupNetIP(ctx, network, t.Host)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, addr := range addrs {
		if addr.Unmap().Is4() {
			return addr.Unmap(), nil
		}
	}
	if len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("%s has no address", t.Host)
	}
	return addrs[0], nil
}

// attempt is one try of one probe; it fills in the result's facts as it learns them.
type attempt struct {
	target Target
	dst    netip.AddrPort
	opts   Options
	result *Result
}

func (a *attempt) run(ctx context.Context) error {
	switch a.target.Scheme {
	case schemeTCP, schemeUDP:
		return a.askStream(ctx)
	case schemeSCTP:
		return a.timed(ctx, a.askSCTP)
	case schemeICMP:
		return a.timed(ctx, a.askICMP)
	}
	return fmt.Errorf("target of unknown scheme %q", a.target.Scheme)
}

// timed runs one exchange under the timeout and notes how long it took.
func (a *attempt) timed(ctx context.Context, exchange func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.opts.Timeout)
	defer cancel()
	start := time.Now()
	err := exchange(ctx)
	a.result.Milliseconds = float64(time.Since(start).Microseconds()) / 1000
	return err
}

// errAborted is an SCTP ABORT in answer to the INIT.
var errAborted = errors.New("association aborted by the peer")

// classify says which kind of failure an error is.
func classify(err error) Kind {
	isAny := func(errs ...error) bool {
		for _, e := range errs {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	switch {
	case isAny(context.DeadlineExceeded, os.ErrDeadlineExceeded, unix.ETIMEDOUT):
		return KindTimeout
	// ENOPROTOOPT and EPROTO are what ICMP's and ICMPv6's "no such protocol" become.
	case isAny(unix.ECONNREFUSED, unix.ENOPROTOOPT, unix.EPROTO, errAborted):
		return KindRefused
	// EACCES is a prohibition, from a route or by ICMPv6; EINVAL is what a
	// blackhole route of the own host gives.
	case isAny(unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.EACCES, unix.EINVAL):
		return KindUnreachable
	case isAny(unix.EPERM):
		return KindDenied
	case isAny(io.EOF, io.ErrUnexpectedEOF, unix.ECONNRESET, unix.EPIPE):
		return KindClosed
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return KindTimeout
	}
	return KindOther
}
