package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// clusterProblems are the Problems of one cluster.
func clusterProblems(cl Cluster, stale bool) []model.Problem {
	var found []model.Problem
	add := func(kind model.ProblemKind, format string, args ...any) {
		found = append(found, model.Problem{
			Kind: kind, Object: model.ClusterKey(cl.Name), Message: fmt.Sprintf(format, args...),
		})
	}
	s := cl.Status
	switch {
	case s.State == model.StateOutOfContact, s.State == model.StateRefused, s.Reason == model.ReasonTooLarge:
		add(model.ProblemCluster, "%s: %s", s.Reason, s.Message)
	}
	if stale {
		add(model.ProblemCluster, "its identities are dropped: no contact since %s, which is longer than spec.identities.staleAfter, %s",
			moment(s.LastContact), cl.Fact.StaleAfter)
	}
	if cl.Restored {
		add(model.ProblemRestored, "known from this node's store only, as of %s", moment(s.LastContact))
	}
	if s.ReservedLabels > 0 {
		add(model.ProblemReservedLabels, "reserved labels on %d objects are ignored", s.ReservedLabels)
	}
	for reason, n := range cl.Refused {
		if n > 0 && reason != model.RefusedLimit {
			add(model.ProblemAddressRefused, "%s: %d refused", reason, n)
		}
	}
	if len(s.NotReadable) > 0 {
		var names []string
		for _, kind := range s.NotReadable {
			names = append(names, kind.String())
		}
		slices.Sort(names)
		add(model.ProblemNotReadable, "the credentials may not read: %s; selectors of these match nothing there",
			strings.Join(names, ", "))
	}
	if s.DeclaredName != "" && s.DeclaredName != cl.Name {
		add(model.ProblemNameMismatch, "it calls itself %q: manifests that name it mean different things there and here", s.DeclaredName)
	}
	return append(found, rangeProblems(cl)...)
}

func rangeProblems(cl Cluster) []model.Problem {
	problem := model.Problem{Object: model.ClusterKey(cl.Name)}
	switch {
	case cl.Fact == nil:
		return nil
	case cl.Local && len(cl.Fact.PodCIDRs) == 0:
		problem.Kind = model.ProblemLocalRangeUnknown
		problem.Message = "the local cluster's pod ranges are not known: a remote cluster may claim an address " +
			"that is in them and free; set --pod-cidrs"
	case !cl.Local && len(cl.Fact.PodCIDRs) == 0 && len(cl.Fact.NodeCIDRs) == 0:
		problem.Kind = model.ProblemAddressesTrusted
		problem.Message = "no ranges are declared: it may claim any address that is not local; set spec.podCIDRs and spec.nodeCIDRs"
	default:
		return nil
	}
	return []model.Problem{problem}
}

// moment is a time for people. A Problem says since when, not for how long, so
// that it stays the same Problem.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// bounded sorts Problems and keeps at most limit of each kind: the last of a
// kind that has more counts the rest.
func bounded(problems []model.Problem, limit int) []model.Problem {
	slices.SortFunc(problems, compareProblems)
	problems = slices.Compact(problems)
	var kept []model.Problem
	for len(problems) > 0 {
		kind := problems[0].Kind
		n := 0
		for n < len(problems) && problems[n].Kind == kind {
			n++
		}
		if n <= limit {
			kept = append(kept, problems[:n]...)
		} else {
			kept = append(kept, problems[:limit-1]...)
			kept = append(kept, model.Problem{Kind: kind, Message: fmt.Sprintf("and %d more", n-limit+1)})
		}
		problems = problems[n:]
	}
	return kept
}

func compareProblems(a, b model.Problem) int {
	return cmp.Or(
		cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Object.Cluster, b.Object.Cluster),
		cmp.Compare(a.Object.Namespace, b.Object.Namespace),
		cmp.Compare(a.Object.Kind, b.Object.Kind),
		cmp.Compare(a.Object.Name, b.Object.Name),
		cmp.Compare(a.Message, b.Message))
}
