package connect

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

// readyPoll is how often a link is looked at; a person is waiting.
const readyPoll = 500 * time.Millisecond

// await waits until every half is Ready, and tells why it is not at each change.
func (l *link) await(ctx context.Context, limit time.Duration, out Output) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var late []string
	for _, h := range l.halves {
		if why := h.await(ctx, out); why != "" {
			late = append(late, fmt.Sprintf("%s in %s: %s", h.Source, h.Learner, why))
		}
	}
	if len(late) > 0 {
		return fmt.Errorf("linked, but %w within %s: %s", ErrNotReady, limit, strings.Join(late, "; "))
	}
	return nil
}

// await gives the reason why it ended before the link was Ready; empty if it is.
func (h half) await(ctx context.Context, out Output) string {
	last := ""
	for {
		r, err := h.learner.Remotes.Get(ctx, h.Source, metav1.GetOptions{})
		now := ""
		switch {
		case err != nil && ctx.Err() == nil:
			now = err.Error()
		case err == nil:
			now = notReady(r)
			if now == "" {
				out.log("%s knows %s: %d endpoints", h.Learner, h.Source, r.Status.Endpoints)
				return ""
			}
		}
		if now != "" && now != last {
			out.log("%s waits for %s: %s", h.Learner, h.Source, now)
			last = now
		}
		if !sleep(ctx, readyPoll) {
			if last == "" {
				return "there was no time to look"
			}
			return last
		}
	}
}

// notReady says why a link is not Ready; empty if it is.
func notReady(r *v1alpha1.RemoteCluster) string {
	c := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case c == nil:
		return "no agent has said anything yet (is a leader elected? kubectl -n " + Namespace + " get lease overland-leader)"
	case r.Status.ObservedGeneration < r.Generation:
		return "the agents have not seen the newest version yet"
	case c.Status == metav1.ConditionTrue:
		return ""
	}
	return c.Reason + ": " + c.Message
}
