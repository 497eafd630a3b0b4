package federation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/federation/plan"
	"github.com/overland-net/overland/pkg/model"
)

const (
	// fieldManager owns the condition on Services, and nothing else.
	fieldManager = "overland-federation"
	// wordsPeriod is how often a condition is written of which only the words are
	// others: they may have a number in them.
	wordsPeriod = time.Minute
	// idCondition is the condition among the objects of a Service.
	idCondition = "condition"
)

// conditionWrite is the condition that a Service is to have, with what that may
// still depend on.
type conditionWrite struct {
	service *model.Service
	// had is what it has, nil: none.
	had  *model.ServiceCondition
	want *plan.Condition
	// forbidden is why objects of a kind cannot be written. failing: something
	// else could not be, so that not all is well.
	forbidden map[kind]string
	failing   bool
	// words: it may be written though only the words are others.
	words bool
}

// overruled is the condition if objects of some kinds cannot be written.
func overruled(want *plan.Condition, forbidden map[kind]string) *plan.Condition {
	if want == nil || len(forbidden) == 0 || !want.True && want.Reason != plan.ReasonForeignEndpoints {
		return want
	}
	var messages []string
	for _, k := range slices.Sorted(maps.Keys(forbidden)) {
		messages = append(messages, forbidden[k])
	}
	return &plan.Condition{Reason: plan.ReasonWriteForbidden, Message: clip(strings.Join(messages, "; "), maxMessage)}
}

// final is the condition after these writes, and whether it is to be written.
func (c *conditionWrite) final(after []written) (*plan.Condition, bool) {
	forbidden, failing := maps.Clone(c.forbidden), c.failing
	for _, w := range after {
		switch w.result {
		case ResultOK:
		case ResultForbidden:
			if forbidden == nil {
				forbidden = map[kind]string{}
			}
			forbidden[w.kind] = forbiddenMessage(w)
		default:
			failing = true
		}
	}
	want := overruled(c.want, forbidden)
	switch {
	case want == nil:
		return nil, c.had != nil
	case want.True && failing:
		return want, false // it is not yet as it says
	case c.had == nil || c.had.Status != want.Status() || c.had.Reason != want.Reason:
		return want, true
	}
	return want, c.had.Message != want.Message && c.words
}

func forbiddenMessage(w written) string {
	return fmt.Sprintf("the agent may not %s %s objects: apply the manifests' ClusterRole again, or look at the namespace's quota: %v", w.op, w.kind, w.err)
}

// apply is the body by which the API server is told the condition: it takes away
// what the field manager had there before and does not name any more.
func (c *conditionWrite) apply(now time.Time, want *plan.Condition) ([]byte, *model.ServiceCondition, error) {
	conditions := []metav1.Condition{}
	var has *model.ServiceCondition
	if want != nil {
		since := now.Truncate(time.Second)
		if c.had != nil && c.had.Status == want.Status() && c.had.LastTransition != 0 {
			since = time.Unix(c.had.LastTransition, 0)
		}
		conditions = append(conditions, metav1.Condition{
			Type: plan.ConditionFederated, Status: metav1.ConditionStatus(want.Status()), Reason: want.Reason,
			Message: want.Message, LastTransitionTime: metav1.NewTime(since.UTC()),
		})
		has = &model.ServiceCondition{
			Type: plan.ConditionFederated, Status: want.Status(), Reason: want.Reason, Message: want.Message, LastTransition: since.Unix(),
		}
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{
			"namespace": c.service.Key.Namespace, "name": c.service.Key.Name,
			"uid": c.service.UID.String(), "resourceVersion": c.service.ResourceVersion,
		},
		"status": map[string]any{"conditions": conditions},
	})
	return body, has, err
}

// toldCondition is what was written last: it bridges the time until the source
// shows it.
type toldCondition struct {
	uid     model.UID
	version string // the Service's, by that write
	has     *model.ServiceCondition
}

// conditionOf is the condition that a Service has, by what is newer: what it shows
// or what was told.
func conditionOf(s *model.Service, told *toldCondition) *model.ServiceCondition {
	if told != nil && told.uid == s.UID && newer(told.version, s.ResourceVersion) {
		return told.has
	}
	for i := range s.Conditions {
		if s.Conditions[i].Type == plan.ConditionFederated {
			return &s.Conditions[i]
		}
	}
	return nil
}

// writeCondition writes the condition, if it is to be after these writes.
func (s *Services) writeCondition(ctx context.Context, j *job, after []written) (w written, tried bool) {
	c := j.condition
	want, due := c.final(after)
	if !due {
		return written{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	w = written{id: idCondition, kind: kindCondition, op: "apply"}
	body, has, err := c.apply(time.Now(), want)
	if err == nil {
		w.bytes = len(body)
		force := true
		is, patchErr := s.client.CoreV1().Services(j.service.Namespace).Patch(ctx, j.service.Name, types.ApplyPatchType, body,
			metav1.PatchOptions{FieldManager: fieldManager, Force: &force}, "status")
		if err = patchErr; err == nil {
			w.told = &toldCondition{uid: c.service.UID, version: is.ResourceVersion, has: has}
		}
	}
	w.err, w.result = err, resultOf(err)
	if apierrors.IsInvalid(err) && strings.Contains(err.Error(), "metadata.uid") {
		w.result = ResultConflict // it is another Service of that name by now
	}
	return w, true
}
