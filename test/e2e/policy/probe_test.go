package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/netprobe"
)

const (
	// patience is how long what an API server was told may take to be so in every
	// kernel. It takes a fraction of a second; a busy machine takes longer.
	patience = 45 * time.Second
	// answerTime is for probes while waiting: if an answer takes longer, they are
	// sent again.
	answerTime = 400 * time.Millisecond
	// finalTime is for the probes that decide.
	finalTime = 500 * time.Millisecond
	// placesAtOnce is from how many places probes are sent at once.
	placesAtOnce = 8
)

// probe is a new connection, and what has to become of it.
type probe struct {
	from labtest.Source
	to   string // a labtest.Target
	want netprobe.Kind
	text string // for messages; empty: from and to
}

func (p probe) String() string {
	if p.text != "" {
		return p.text
	}
	return fmt.Sprintf("%s -> %s", p.from, p.to)
}

// wrong is a probe that had another end.
type wrong struct {
	probe
	got string
}

func (w wrong) String() string {
	return fmt.Sprintf("%s: want %s, got %s", w.probe, outcome(w.want), w.got)
}

func outcome(k netprobe.Kind) string {
	if k == "" {
		return "an answer"
	}
	return string(k)
}

// send sends all probes at once and tells which had another end, in their order.
func send(ctx context.Context, within time.Duration, probes []probe) ([]wrong, error) {
	groups := map[string][]probe{}
	for _, p := range probes {
		groups[p.from.String()] = append(groups[p.from.String()], p)
	}
	var mu sync.Mutex // guards what follows
	var all []wrong
	var failure error
	var running sync.WaitGroup
	places := make(chan struct{}, placesAtOnce)
	for _, group := range groups {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			list, err := sendFrom(ctx, within, group)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, list...)
			if err != nil {
				failure = err
			}
		})
	}
	running.Wait()
	slices.SortFunc(all, func(a, b wrong) int { return strings.Compare(a.String(), b.String()) })
	return all, failure
}

// sendFrom sends probes of one place.
func sendFrom(ctx context.Context, within time.Duration, probes []probe) ([]wrong, error) {
	targets := make([]string, len(probes))
	for i, p := range probes {
		targets[i] = p.to
	}
	results, err := labtest.AskWithin(ctx, probes[0].from, within, targets...)
	if err != nil {
		return nil, err
	}
	var list []wrong
	for i, r := range results {
		if r.Kind != probes[i].want {
			list = append(list, wrong{probes[i], strings.TrimSpace(outcome(r.Kind) + " " + r.Error)})
		}
	}
	return list, nil
}

// disagreements waits until all probes have the end that they have to have, and
// returns those that do not come to it. What has once come to it has to stay so:
// in the end all are sent again.
func disagreements(ctx context.Context, probes []probe) ([]wrong, error) {
	deadline := time.Now().Add(patience)
	left := probes
	for {
		bad, err := send(ctx, answerTime, left)
		if err != nil {
			return nil, err
		}
		if len(bad) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return bad, nil
		}
		left = nil
		for _, w := range bad {
			left = append(left, w.probe)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return again(ctx, probes)
}

// again sends probes of a state that has been reached. Nothing may pass now that
// is denied; what is late only, on a busy machine, has two more chances.
func again(ctx context.Context, probes []probe) ([]wrong, error) {
	var open []wrong
	for range 3 {
		bad, err := send(ctx, finalTime, probes)
		if err != nil {
			return nil, err
		}
		probes = nil
		for _, w := range bad {
			if w.want != "" {
				open = append(open, w)
				continue
			}
			probes = append(probes, w.probe)
		}
		if len(probes) == 0 || len(open) > 0 {
			return append(open, lateOnes(bad)...), nil
		}
	}
	return send(ctx, patience/10, probes)
}

func lateOnes(all []wrong) []wrong {
	return slices.DeleteFunc(slices.Clone(all), func(w wrong) bool { return w.want != "" })
}

// holds waits until all probes end as they have to, and fails the test if some
// do not.
func holds(t *testing.T, probes []probe) {
	t.Helper()
	bad, err := disagreements(t.Context(), probes)
	if err != nil {
		t.Fatal(err)
	}
	if len(bad) > 0 {
		t.Errorf("%d of %d probes:\n%s", len(bad), len(probes), lines(bad))
	}
}

func lines[T fmt.Stringer](list []T) string {
	var b strings.Builder
	for i, v := range list {
		if i == 40 {
			fmt.Fprintf(&b, "  and %d more\n", len(list)-i)
			break
		}
		fmt.Fprintf(&b, "  %s\n", v)
	}
	return b.String()
}
