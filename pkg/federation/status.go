package federation

import (
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/model"
)

// The lengths that the schema of RemoteCluster allows, and what is enough for a
// message. What a remote cluster says is cut to them: a status that the API
// server refuses would never be written again.
const (
	maxMessage = 1024
	maxText    = 128
	maxNode    = 253
)

// settling is how long after its start an agent that has not listed everything yet
// keeps the status that an earlier leader wrote: a new leader must not report a
// healthy link as lost only because it has just started.
const settling = 10 * time.Second

// PlanStatus is the status that the RemoteCluster is to have, as seen in the
// snapshot by the agent of node observedBy. Where the snapshot cannot tell (yet),
// the existing status is kept: all of it if the snapshot does not know this very
// object. The existing object is not changed.
func PlanStatus(now time.Time, snapshot *agent.Snapshot, existing *v1alpha1.RemoteCluster, observedBy string) v1alpha1.RemoteClusterStatus {
	c, known := snapshot.Cluster(existing.Name)
	if !known || otherObject(c, existing) {
		return existing.Status
	}
	if c.Local {
		// What the snapshot has under that name is this cluster (semantics 1.1).
		c = agent.Cluster{Name: c.Name, Status: model.ClusterStatus{State: model.StateRefused, Reason: model.ReasonNameConflict}}
	}
	if unsettled(now, snapshot, c.Status, existing) {
		return existing.Status
	}
	s := c.Status
	status := *existing.Status.DeepCopy()
	contact := lastContact(now, s, existing.Status.LastContactTime)
	status.Conditions = conditions(now, c, existing, contact)
	status.State = s.State.String()
	status.ClusterUID = pinned(s, existing.Status.ClusterUID)
	status.Endpoints = count(c.Counts.Pods + c.Counts.Nodes)
	status.RejectedEndpoints = rejected(c.Refused)
	status.Namespaces = count(c.Counts.Namespaces)
	if !contact.IsZero() {
		status.LastContactTime = &metav1.Time{Time: contact}
	}
	if s.KubernetesVersion != "" {
		status.KubernetesVersion = clip(s.KubernetesVersion, maxText)
	}
	status.ObservedBy = clip(observedBy, maxNode)
	status.ObservedGeneration = observedGeneration(s, existing)
	return status
}

// otherObject tells whether the snapshot's cluster is of another RemoteCluster:
// one of the same name that has been removed since, or was added just now.
func otherObject(c agent.Cluster, existing *v1alpha1.RemoteCluster) bool {
	return c.Fact != nil && !c.Local && c.Fact.UID != model.ParseUID(string(existing.UID))
}

func unsettled(now time.Time, snapshot *agent.Snapshot, s model.ClusterStatus, existing *v1alpha1.RemoteCluster) bool {
	starting := s.State == model.StateConnecting || s.State == model.StateSyncing && s.Reason == model.ReasonSyncing
	return starting && existing.Status.State != "" &&
		existing.Status.ObservedGeneration == existing.Generation &&
		now.Sub(snapshot.Self.Started) < settling
}

// observedGeneration is the generation of the spec that the source acts on, if it
// says so.
func observedGeneration(s model.ClusterStatus, existing *v1alpha1.RemoteCluster) int64 {
	if s.Generation != 0 {
		return s.Generation
	}
	return existing.Generation
}

// lastContact is the newest contact that anybody has seen, in whole seconds as
// objects have it, and never later than now. One that is written down and still
// to come is of a wrong clock, and would hide how long there has been none.
func lastContact(now time.Time, s model.ClusterStatus, before *metav1.Time) time.Time {
	at := s.LastContact
	if before != nil && before.After(at) && !before.After(now) {
		at = before.Time
	}
	if at.After(now) {
		at = now
	}
	return at.Truncate(time.Second)
}

// pinned is the uid of the cluster that this object stands for (semantics 1.1):
// of the one that first answered, until another one has been accepted and listed
// in its place.
func pinned(s model.ClusterStatus, before string) string {
	if s.ClusterUID == "" || before != "" && s.State != model.StateInSync || !s.InContact() {
		return before
	}
	return clip(s.ClusterUID, maxText)
}

func rejected(counts map[model.RefusalReason]int) map[string]int32 {
	var all map[string]int32
	for reason, n := range counts {
		if n <= 0 {
			continue
		}
		if all == nil {
			all = map[string]int32{}
		}
		all[string(reason)] = count(n)
	}
	return all
}

func count(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) }

// clip is the text, at most n bytes of it, and whole runes.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// A change of a status is one of three.
type difference int

const (
	same  difference = iota
	drift            // counts, times and words only: written at most once a minute
	turn             // of state: written at once
)

// compare says how the status that is there differs from the wanted one.
func compare(have, want v1alpha1.RemoteClusterStatus) difference {
	if equality.Semantic.DeepEqual(have, want) {
		return same
	}
	have.Endpoints, have.RejectedEndpoints, have.Namespaces = want.Endpoints, want.RejectedEndpoints, want.Namespaces
	have.Services, have.LastContactTime = want.Services, want.LastContactTime
	have.Conditions = slices.Clone(have.Conditions)
	for i := range have.Conditions {
		// Words may have the time of the last contact in them, or a port.
		if c := meta.FindStatusCondition(want.Conditions, have.Conditions[i].Type); c != nil {
			have.Conditions[i].Message = c.Message
		}
	}
	if equality.Semantic.DeepEqual(have, want) {
		return drift
	}
	return turn
}
