package netprobe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Mode is a kind of flow.
type Mode string

// The kinds of flows: who sends, and how much. Those that open a connection
// for every exchange show what becomes of new connections, the others what
// becomes of one that lasts.
const (
	TCPPush Mode = "tcp-push" // the client sends a line at a time
	TCPBulk Mode = "tcp-bulk" // the server sends much
	TCPSlow Mode = "tcp-slow" // the server sends a line at a time
	UDPPush Mode = "udp-push" // the client sends; the server never does
	UDPPull Mode = "udp-pull" // the client asks once; then only the server sends
	TCPNew  Mode = "tcp-new"  // a connection, a line and an answer, again and again
	UDPNew  Mode = "udp-new"  // a datagram from a new port and an answer, again and again
)

// modes are all of them.
func modes() []Mode {
	return []Mode{TCPPush, TCPBulk, TCPSlow, UDPPush, UDPPull, TCPNew, UDPNew}
}

const (
	// maxFlow bounds how long a flow lasts, so that none outlives its test.
	maxFlow = maxHold
	// newTimeout is how long an exchange of its own may take: several times the
	// first repetition of a SYN, so that only what is dropped for long fails.
	newTimeout = 5 * time.Second
	// bulkSize is what the server of TCPBulk sends at a time, in bytes.
	bulkSize = 32 << 10
)

// Flow is what to send, and where.
type Flow struct {
	Raw    string // as it was given
	Mode   Mode
	Target netip.AddrPort
}

// ParseFlow parses MODE://ADDRESS:PORT.
func ParseFlow(raw string) (Flow, error) {
	mode, target, ok := strings.Cut(raw, "://")
	f := Flow{Raw: raw, Mode: Mode(mode)}
	known := false
	for _, m := range modes() {
		known = known || m == f.Mode
	}
	if !ok || !known {
		return Flow{}, fmt.Errorf("flow %q: want MODE://ADDRESS:PORT, with a mode of %v", raw, modes())
	}
	var err error
	if f.Target, err = netip.ParseAddrPort(target); err != nil {
		return Flow{}, fmt.Errorf("flow %q: %w", raw, err)
	}
	return f, nil
}

// FlowReport is what a flow's client saw up to some moment: one line of JSON.
type FlowReport struct {
	Flow string    `json:"flow"` // as given
	Time time.Time `json:"time"` // of the report
	Last bool      `json:"last"` // no more of this flow follows
	// Local is the client's own end; not set for modes with many.
	Local netip.AddrPort `json:"local,omitzero"`
	// Sent counts writes, datagrams, or exchanges begun.
	Sent uint64 `json:"sent"`
	// Received counts reads, datagrams, or exchanges answered.
	Received uint64 `json:"received"`
	Bytes    uint64 `json:"bytes"` // received
	// Failed counts exchanges that ended without an answer.
	Failed uint64 `json:"failed,omitempty"`
	// Missed counts numbered datagrams of UDPPull that never came, of those
	// before the last one that did.
	Missed uint64 `json:"missed,omitempty"`
	// Heard is when something was last received, and Gap the longest time
	// between two of these, in milliseconds.
	Heard time.Time `json:"heard,omitzero"`
	Gap   float64   `json:"gap,omitempty"`
	// Error is why the flow ended before its time.
	Error string `json:"error,omitempty"`
}

// FlowOptions say how flows are sent.
type FlowOptions struct {
	For      time.Duration // how long; at most ten minutes
	Interval time.Duration // between two sendings
	Every    time.Duration // between two reports; 0: at the end alone
}

func (o FlowOptions) check() error {
	if o.For <= 0 || o.For > maxFlow || o.Interval < time.Millisecond || o.Every < 0 {
		return fmt.Errorf("--for must be above 0 and at most %s, --interval at least 1ms, --every not below 0", maxFlow)
	}
	return nil
}

// RunFlows sends all flows at once and writes their reports as they are due. It
// returns when all have ended: at their time, or with ctx.
func RunFlows(ctx context.Context, flows []Flow, opts FlowOptions, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, opts.For)
	defer cancel()
	var mu sync.Mutex // the lines of out
	write := func(r FlowReport) error {
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode a report: %w", err)
		}
		mu.Lock()
		defer mu.Unlock()
		_, err = out.Write(append(line, '\n'))
		return err
	}
	var g errgroup.Group
	for _, f := range flows {
		g.Go(func() error {
			t := &tally{report: FlowReport{Flow: f.Raw}}
			done := make(chan error, 1)
			go func() { done <- runFlow(ctx, f, opts, t) }()
			for {
				select {
				case err := <-done:
					return write(t.end(err))
				case <-after(opts.Every):
					if err := write(t.now()); err != nil {
						return err
					}
				}
			}
		})
	}
	return g.Wait()
}

// after is time.After, or never for 0.
func after(d time.Duration) <-chan time.Time {
	if d == 0 {
		return nil
	}
	return time.After(d)
}

// ParseFlowReports reads what `netprobe flow` printed and returns the last
// report of every flow.
func ParseFlowReports(r io.Reader) (map[string]FlowReport, error) {
	reports := map[string]FlowReport{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var report FlowReport
		if err := json.Unmarshal(line, &report); err != nil {
			return nil, fmt.Errorf("read the report of a flow, %q: %w", line, err)
		}
		reports[report.Flow] = report
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the reports of flows: %w", err)
	}
	return reports, nil
}

// tally counts what becomes of a flow.
type tally struct {
	mu     sync.Mutex
	report FlowReport
	next   uint64 // number of the next datagram of UDPPull
}

func (t *tally) change(f func(*FlowReport)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.report)
}

func (t *tally) sent() { t.change(func(r *FlowReport) { r.Sent++ }) }

func (t *tally) failed() { t.change(func(r *FlowReport) { r.Failed++ }) }

func (t *tally) received(n int) {
	now := time.Now()
	t.change(func(r *FlowReport) {
		r.Received++
		r.Bytes += uint64(n)
		if !r.Heard.IsZero() {
			r.Gap = max(r.Gap, float64(now.Sub(r.Heard).Microseconds())/1000)
		}
		r.Heard = now
	})
}

// numbered takes a datagram that bears its number. One that comes late is no
// longer missed.
func (t *tally) numbered(data []byte) {
	t.received(len(data))
	n, err := strconv.ParseUint(string(data), 10, 64)
	if err != nil {
		return
	}
	t.change(func(r *FlowReport) {
		switch {
		case n < t.next:
			r.Missed--
		default:
			r.Missed += n - t.next
			t.next = n + 1
		}
	})
}

func (t *tally) now() FlowReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.report
	r.Time = time.Now()
	return r
}

// end is the last report. That its time is over is not what ends a flow early.
func (t *tally) end(err error) FlowReport {
	r := t.now()
	r.Last = true
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		r.Error = err.Error()
	}
	return r
}
