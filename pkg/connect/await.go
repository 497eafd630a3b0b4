package connect

import (
	"context"
	"fmt"
	"slices"
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
	why := make([]string, len(l.halves)) // empty: Ready
	for i := range why {
		why[i] = "there was no time to look"
	}
	for {
		for i, h := range l.halves {
			if why[i] != "" {
				why[i] = h.look(ctx, why[i], out)
			}
		}
		if !slices.ContainsFunc(why, func(w string) bool { return w != "" }) {
			return nil
		}
		if !sleep(ctx, readyPoll) {
			break
		}
	}
	var late []string
	for i, h := range l.halves {
		if why[i] == noWord {
			why[i] += " (is a leader elected? kubectl -n " + Namespace + " get lease overland-leader)"
		}
		if why[i] != "" {
			late = append(late, fmt.Sprintf("%s in %s: %s", h.Source, h.Learner, why[i]))
		}
	}
	return fmt.Errorf("linked, but %w within %s: %s", ErrNotReady, limit, strings.Join(late, "; "))
}

// look gives the reason why a half is not Ready, and says it if it is another one
// than the last; empty if it is Ready.
func (h half) look(ctx context.Context, last string, out Output) string {
	r, err := h.learner.Remotes.Get(ctx, h.Source, metav1.GetOptions{})
	now := ""
	switch {
	case err != nil && ctx.Err() != nil:
		return last
	case err != nil:
		now = err.Error()
	default:
		now = notReady(r)
	}
	switch now {
	case last:
	case "":
		out.log("%s knows %s: %d endpoints", h.Learner, h.Source, r.Status.Endpoints)
	default:
		out.log("%s waits for %s: %s", h.Learner, h.Source, now)
	}
	return now
}

// noWord is what is true of every link for a moment.
const noWord = "no agent has said anything yet"

// notReady says why a link is not Ready; empty if it is.
func notReady(r *v1alpha1.RemoteCluster) string {
	c := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case c == nil:
		return noWord
	case r.Status.ObservedGeneration < r.Generation:
		return "the agents have not seen the newest version yet"
	case c.Status == metav1.ConditionTrue:
		return ""
	}
	return c.Reason + ": " + c.Message
}
