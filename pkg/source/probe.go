package source

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

var (
	// errAnother ends a session whose API server is another cluster's by now.
	errAnother = errors.New("the API server is another cluster's than when the connection was made")
	// errAgain ends a session that is to be begun anew.
	errAgain = errors.New("the connection is made anew")
)

// doubt asks for a probe soon.
func (s *session) doubt() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// watchdog asks the API server something whenever nothing has been heard of it
// for a while, and soon when something looks wrong. It ends the session after two
// failures in a row: one lost packet is not worth listing everything again.
func (s *session) watchdog(ctx context.Context) error {
	// A tenth: how late silence may be noticed, and how often to ask in doubt.
	period := max(s.cfg.timing.ProbeAfter/10, time.Millisecond)
	tick := time.NewTicker(period)
	defer tick.Stop()
	failures, doubted := 0, false
	var asked time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // the session ends because its caller does
		case <-s.cluster.again:
			return errAgain
		case <-s.poke:
			doubted = true
		case <-tick.C:
		}
		if err := s.reasonToEnd(); err != nil {
			return err
		}
		s.flush()
		silent := time.Since(s.lastHeard()) >= s.cfg.timing.ProbeAfter
		if failures == 0 && !silent && !doubted || time.Since(asked) < period {
			continue
		}
		asked, doubted = time.Now(), false
		if _, err := ask(ctx, s.cfg.timing, s.clients.version); err == nil {
			failures = 0
			s.heard(time.Now())
		} else if failures++; failures == 2 && ctx.Err() == nil {
			return Explain(err, s.asking("reach the API server"), s.cfg.expire, time.Now())
		}
	}
}

func (s *session) lastHeard() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastWord
}

func (s *session) reasonToEnd() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// flush passes on what need not be known at once. Contact counts only while the
// facts are kept up to date: answers that say no are none.
func (s *session) flush() {
	refused, reserved := map[model.RefusalReason]int{}, 0
	var notReadable []model.Kind
	for _, f := range s.feeds {
		state := f.current()
		for reason, n := range state.refused {
			refused[reason] += n
		}
		reserved += state.reserved
		if state.notReadable && !slices.Contains(notReadable, f.kind) {
			notReadable = append(notReadable, f.kind)
		}
	}
	s.report.counts(maps.Clone(refused), reserved, notReadable)
	s.mu.Lock()
	last, blocked := s.lastWord, s.blocked
	s.mu.Unlock()
	if !blocked {
		s.report.contact(last)
	}
}
