package federation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/model"
)

// Conditions that are there only while they are True: warnings.
const (
	// ConditionNameMismatch: the cluster gives itself another name (semantics 1.1).
	ConditionNameMismatch = "NameMismatch"
	// ConditionPartlyReadable: the credentials may not read a kind that the
	// cluster can do without (semantics 1.2).
	ConditionPartlyReadable = "PartlyReadable"
)

// The reasons of conditions other than Ready, where they are not the reason of
// the state.
const (
	reasonInContact          = "InContact"
	reasonNeverInContact     = "NeverInContact"
	reasonOutOfContact       = "OutOfContact"
	reasonIdentitiesDropped  = "IdentitiesDropped"
	reasonListedBefore       = "ListedBefore"
	reasonRangesDeclared     = "RangesDeclared"
	reasonNoRanges           = "NoRanges"
	reasonNoExpiry           = "NoExpiry"
	reasonValid              = "Valid"
	reasonExpiring           = "Expiring"
	reasonExpired            = "Expired"
	reasonDifferentName      = "DifferentName"
	reasonMissingPermissions = "MissingPermissions"
)

// shortNotice is how long before their end credentials count as expiring that do
// not say since when they are good.
const shortNotice = 7 * 24 * time.Hour

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

// conditions is the existing ones brought up to date, with the time of each
// transition. What others have put there stays.
func conditions(now time.Time, c agent.Cluster, existing *v1alpha1.RemoteCluster, contact time.Time) []metav1.Condition {
	all := slices.Clone(existing.Status.Conditions)
	for _, n := range []metav1.Condition{
		ready(c.Status),
		synced(c, meta.FindStatusCondition(all, v1alpha1.ConditionSynced)),
		stale(now, c.Status, contact, existing.Spec.Identities.StaleAfter.Duration),
		addressesTrusted(existing.Spec),
		credentialsExpiring(now, c.Status),
		nameMismatch(existing.Name, c.Status.DeclaredName),
		partlyReadable(c.Status.NotReadable),
	} {
		if n.Status == "" {
			meta.RemoveStatusCondition(&all, n.Type)
			continue
		}
		n.Message = clip(n.Message, maxMessage)
		n.ObservedGeneration = observedGeneration(c.Status, existing)
		n.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		meta.SetStatusCondition(&all, n)
	}
	return all
}

// readyReason is the reason of the state; one that an object cannot have, which
// no source gives, becomes the state's name.
func readyReason(s model.ClusterStatus) string {
	for i, r := range s.Reason {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return s.State.String()
		}
	}
	if s.Reason == "" || len(s.Reason) > 128 {
		return s.State.String()
	}
	return s.Reason
}

func message(s model.ClusterStatus, reason string) string {
	if s.Message != "" {
		return s.Message
	}
	return explain(reason)
}

func ready(s model.ClusterStatus) metav1.Condition {
	reason := readyReason(s)
	status := metav1.ConditionFalse
	switch {
	case s.State == model.StateConnecting:
		status = metav1.ConditionUnknown
	case s.State == model.StateInSync && reason == model.ReasonInSync:
		status = metav1.ConditionTrue
	}
	return condition(v1alpha1.ConditionReady, status, reason, message(s, reason))
}

// synced stays True through an outage: everything had been listed, and what is
// known is kept. It is about completeness; Stale is about age.
func synced(c agent.Cluster, before *metav1.Condition) metav1.Condition {
	switch c.Status.State {
	case model.StateInSync:
		return condition(v1alpha1.ConditionSynced, metav1.ConditionTrue, model.ReasonInSync, "Everything has been listed.")
	case model.StateOutOfContact, model.StateSuspended:
		if before != nil && before.Status == metav1.ConditionTrue {
			return condition(v1alpha1.ConditionSynced, metav1.ConditionTrue, reasonListedBefore, "Everything had been listed when contact ended; it is listed again at the next contact.")
		}
	}
	return condition(v1alpha1.ConditionSynced, metav1.ConditionFalse, readyReason(c.Status), "Not everything has been listed yet.")
}

// stale has no age in its message: that would be a new status every second.
func stale(now time.Time, s model.ClusterStatus, contact time.Time, staleAfter time.Duration) metav1.Condition {
	const kind = v1alpha1.ConditionStale
	if s.InContact() {
		return condition(kind, metav1.ConditionFalse, reasonInContact, "Its API server answers.")
	}
	if contact.IsZero() {
		return condition(kind, metav1.ConditionUnknown, reasonNeverInContact, "There has been no contact yet: nothing is known of it.")
	}
	at := contact.UTC().Format(time.RFC3339)
	if s.State == model.StateSuspended {
		return condition(kind, metav1.ConditionTrue, model.ReasonSuspended, "Suspended; the last contact was at "+at+". What is known is of then.")
	}
	if staleAfter > 0 && now.Sub(contact) >= staleAfter {
		return condition(kind, metav1.ConditionTrue, reasonIdentitiesDropped,
			fmt.Sprintf("The last contact was at %s, longer ago than spec.identities.staleAfter (%s): its identities are dropped.", at, staleAfter))
	}
	return condition(kind, metav1.ConditionTrue, reasonOutOfContact, "The last contact was at "+at+". What is known is of then, and is kept.")
}

func addressesTrusted(spec v1alpha1.RemoteClusterSpec) metav1.Condition {
	const kind = v1alpha1.ConditionAddressesTrusted
	if len(spec.PodCIDRs)+len(spec.NodeCIDRs) > 0 {
		return condition(kind, metav1.ConditionTrue, reasonRangesDeclared, "It may claim addresses of spec.podCIDRs and spec.nodeCIDRs only.")
	}
	return condition(kind, metav1.ConditionFalse, reasonNoRanges,
		"No ranges are declared: any address is taken that is not this cluster's own or refused for another reason. Declare the ranges of its pods and nodes in spec.podCIDRs and spec.nodeCIDRs.")
}

func credentialsExpiring(now time.Time, s model.ClusterStatus) metav1.Condition {
	const kind = v1alpha1.ConditionCredentialsExpiring
	end := s.CredentialsExpire
	if end.IsZero() {
		return condition(kind, metav1.ConditionFalse, reasonNoExpiry, "The credentials do not expire, or do not say when.")
	}
	at := end.UTC().Format(time.RFC3339)
	if left := end.Sub(now); left <= 0 {
		return condition(kind, metav1.ConditionTrue, reasonExpired, "The credentials expired at "+at+". Replace them: overland connect --rotate.")
	} else if left <= notice(s) {
		return condition(kind, metav1.ConditionTrue, reasonExpiring, "The credentials expire at "+at+". Replace them before: overland connect --rotate.")
	}
	return condition(kind, metav1.ConditionFalse, reasonValid, "The credentials are good until "+at+".")
}

// notice is how long before their end credentials count as expiring: a third of
// their life (semantics 5.2).
func notice(s model.ClusterStatus) time.Duration {
	if s.CredentialsIssued.IsZero() || !s.CredentialsIssued.Before(s.CredentialsExpire) {
		return shortNotice
	}
	return s.CredentialsExpire.Sub(s.CredentialsIssued) / 3
}

func nameMismatch(name, declared string) metav1.Condition {
	if declared == "" || declared == name {
		return metav1.Condition{Type: ConditionNameMismatch}
	}
	return condition(ConditionNameMismatch, metav1.ConditionTrue, reasonDifferentName,
		fmt.Sprintf("The cluster calls itself %q and is linked as %q: a policy that names it means different things in the two clusters. Link it under its own name.", clip(declared, 253), name))
}

func partlyReadable(kinds []model.Kind) metav1.Condition {
	if len(kinds) == 0 {
		return metav1.Condition{Type: ConditionPartlyReadable}
	}
	var parts []string
	for _, k := range kinds {
		parts = append(parts, unreadable(k))
	}
	slices.Sort(parts)
	return condition(ConditionPartlyReadable, metav1.ConditionTrue, reasonMissingPermissions,
		"The credentials may not list and watch "+strings.Join(slices.Compact(parts), "; ")+". Allow it if that matters: run overland connect again.")
}
