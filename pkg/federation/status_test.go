package federation

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

func canada() *v1alpha1.RemoteCluster {
	r := &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: "canada", UID: "11111111-1111-1111-1111-111111111111", Generation: 3}}
	r.Spec.PodCIDRs = []string{"10.2.0.0/16"}
	return r
}

func inSync() model.ClusterStatus {
	return model.ClusterStatus{
		State: model.StateInSync, Reason: model.ReasonInSync, Since: start().Add(-time.Hour), LastContact: start().Add(-time.Second),
		ClusterUID: "22222222-2222-2222-2222-222222222222", DeclaredName: "canada", KubernetesVersion: "v1.33.2",
	}
}

// seen is a snapshot of an agent that has run for an hour, with canada in that
// status.
func seen(s model.ClusterStatus) *agent.Snapshot {
	return &agent.Snapshot{
		Gen: 1, Self: agent.Self{Cluster: "west", Node: "node-1", Started: start().Add(-time.Hour)},
		Clusters: []agent.Cluster{
			{Name: "west", Local: true, Status: model.ClusterStatus{State: model.StateInSync, Reason: model.ReasonInSync}},
			{
				Name: "canada", Fact: &model.Cluster{Name: "canada", UID: model.ParseUID(string(canada().UID))}, Status: s,
				Counts: index.Counts{Pods: 40, Nodes: 2, Namespaces: 7}, Refused: map[model.RefusalReason]int{model.RefusedOutsideRanges: 3, model.RefusedDuplicate: 0},
			},
		},
	}
}

// plan applies PlanStatus to the object and gives it.
func plannedStatus(now time.Time, s *agent.Snapshot, r *v1alpha1.RemoteCluster) *v1alpha1.RemoteCluster {
	r = r.DeepCopy()
	r.Status = PlanStatus(now, s, r, "node-1")
	return r
}

func find(t *testing.T, r *v1alpha1.RemoteCluster, kind string) metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(r.Status.Conditions, kind)
	if c == nil {
		t.Fatalf("no condition %s in %v", kind, r.Status.Conditions)
	}
	return *c
}

func TestStatusOfAHealthyLink_1_2(t *testing.T) {
	got := plannedStatus(start(), seen(inSync()), canada()).Status
	at := metav1.NewTime(start())
	contact := metav1.NewTime(start().Add(-time.Second))
	condition := func(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: 3, LastTransitionTime: at}
	}
	want := v1alpha1.RemoteClusterStatus{
		State: "InSync", ClusterUID: "22222222-2222-2222-2222-222222222222", Endpoints: 42, Namespaces: 7,
		RejectedEndpoints: map[string]int32{"OutsideRanges": 3}, LastContactTime: &contact, KubernetesVersion: "v1.33.2",
		ObservedBy: "node-1", ObservedGeneration: 3,
		Conditions: []metav1.Condition{
			condition("Ready", "True", "InSync", "All of its pods, nodes and namespaces are known, and watched."),
			condition("Synced", "True", "InSync", "Everything has been listed."),
			condition("Stale", "False", "InContact", "Its API server answers."),
			condition("AddressesTrusted", "True", "RangesDeclared", "It may claim addresses of spec.podCIDRs and spec.nodeCIDRs only."),
			condition("CredentialsExpiring", "False", "NoExpiry", "The credentials do not expire, or do not say when."),
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestReadyFollowsStateAndReason_3_5(t *testing.T) {
	for _, tt := range []struct {
		state        model.State
		reason       string
		ready, stale metav1.ConditionStatus
	}{
		{model.StateConnecting, model.ReasonConnecting, "Unknown", "True"},
		{model.StateSyncing, model.ReasonSyncing, "False", "False"},
		{model.StateInSync, model.ReasonInSync, "True", "False"},
		{model.StateInSync, model.ReasonTooLarge, "False", "False"},
		{model.StateSyncing, model.ReasonClusterChanged, "False", "False"},
		{model.StateOutOfContact, model.ReasonUnreachable, "False", "True"},
		{model.StateOutOfContact, model.ReasonTokenExpired, "False", "True"},
		{model.StateRefused, model.ReasonSelfLink, "False", "True"},
		{model.StateRefused, model.ReasonUnsafeKubeconfig, "False", "True"},
		{model.StateSuspended, model.ReasonSuspended, "False", "True"},
	} {
		t.Run(tt.state.String()+" "+tt.reason, func(t *testing.T) {
			s := inSync()
			s.State, s.Reason = tt.state, tt.reason
			got := plannedStatus(start(), seen(s), canada())
			if c := find(t, got, "Ready"); c.Status != tt.ready || c.Reason != tt.reason || c.Message == "" {
				t.Errorf("Ready: %+v", c)
			}
			if c := find(t, got, "Stale"); c.Status != tt.stale {
				t.Errorf("Stale: %+v", c)
			}
			if got.Status.State != tt.state.String() {
				t.Errorf("state %q", got.Status.State)
			}
		})
	}
}

func reasons() []string {
	return []string{
		model.ReasonConnecting, model.ReasonSyncing, model.ReasonInSync, model.ReasonSuspended, model.ReasonUnreachable,
		model.ReasonNameNotResolved, model.ReasonUntrustedServer, model.ReasonUnauthorized, model.ReasonTokenExpired,
		model.ReasonForbidden, model.ReasonServerError, model.ReasonVersionTooOld, model.ReasonSecretNotFound,
		model.ReasonInvalidKubeconfig, model.ReasonUnsafeKubeconfig, model.ReasonInvalidName, model.ReasonInvalidSpec,
		model.ReasonNameConflict, model.ReasonSelfLink, model.ReasonDuplicateCluster, model.ReasonClusterChanged, model.ReasonTooLarge,
	}
}

func TestEveryReasonIsExplained_3_5(t *testing.T) {
	said := map[string]string{}
	for _, reason := range reasons() {
		text := explain(reason)
		if text == explain("no such reason") || said[text] != "" || !strings.HasSuffix(text, ".") {
			t.Errorf("%s: %q (as for %q)", reason, text, said[text])
		}
		said[text] = reason
	}
}

func TestTheSourcesOwnWordsWinOverTheGeneralOnes(t *testing.T) {
	s := inSync()
	s.State, s.Reason, s.Message = model.StateOutOfContact, model.ReasonUnreachable, "no route to 10.2.0.1. Peer the networks."
	if c := find(t, plannedStatus(start(), seen(s), canada()), "Ready"); c.Message != s.Message {
		t.Errorf("got %q", c.Message)
	}
}

func TestTransitionTimesChangeWithTheStatusOnly(t *testing.T) {
	r := plannedStatus(start(), seen(inSync()), canada())
	later := start().Add(time.Hour)
	s := inSync()
	s.LastContact = later
	s.Message = "other words"
	r = plannedStatus(later, seen(s), r)
	if c := find(t, r, "Ready"); !c.LastTransitionTime.Time.Equal(start()) || c.Message != "other words" {
		t.Errorf("unchanged: %+v", c)
	}
	s.State, s.Reason = model.StateOutOfContact, model.ReasonUnreachable
	r = plannedStatus(later.Add(time.Minute), seen(s), r)
	if c := find(t, r, "Ready"); !c.LastTransitionTime.Time.Equal(later.Add(time.Minute)) {
		t.Errorf("changed: %+v", c)
	}
	if c := find(t, r, "AddressesTrusted"); !c.LastTransitionTime.Time.Equal(start()) {
		t.Errorf("another condition changed, too: %+v", c)
	}
}

func TestAnOutageKeepsWhatIsKnown_3_1(t *testing.T) {
	r := plannedStatus(start(), seen(inSync()), canada())
	down := inSync()
	down.State, down.Reason, down.LastContact = model.StateOutOfContact, model.ReasonUnreachable, time.Time{}
	down.ClusterUID, down.KubernetesVersion = "", "" // an agent that has never reached it itself
	now := plannedStatus(start().Add(time.Hour), seen(down), r)
	if now.Status.ClusterUID != r.Status.ClusterUID || now.Status.KubernetesVersion != "v1.33.2" || !now.Status.LastContactTime.Equal(r.Status.LastContactTime) {
		t.Errorf("got %+v", now.Status)
	}
	if c := find(t, now, "Synced"); c.Status != "True" || c.Reason != "ListedBefore" {
		t.Errorf("Synced: %+v", c)
	}
	if c := find(t, now, "Stale"); c.Reason != "OutOfContact" || !strings.Contains(c.Message, "2026-01-02T03:04:04Z") {
		t.Errorf("Stale: %+v", c)
	}
	if compare(now.Status, PlanStatus(start().Add(2*time.Hour), seen(down), now, "node-1")) != same {
		t.Error("time alone changes the status")
	}
}

func TestIdentitiesDroppedAfterStaleAfter_1_2(t *testing.T) {
	r := canada()
	r.Spec.Identities.StaleAfter.Duration = time.Hour
	s := inSync()
	s.State, s.Reason = model.StateOutOfContact, model.ReasonUnreachable
	for after, want := range map[time.Duration]string{59 * time.Minute: "OutOfContact", time.Hour: "IdentitiesDropped"} {
		if c := find(t, plannedStatus(s.LastContact.Add(after), seen(s), r), "Stale"); c.Status != "True" || c.Reason != want {
			t.Errorf("after %s: %+v", after, c)
		}
	}
	s.State, s.Reason = model.StateSuspended, model.ReasonSuspended
	if c := find(t, plannedStatus(s.LastContact.Add(2*time.Hour), seen(s), r), "Stale"); c.Reason != "Suspended" {
		t.Errorf("suspended: %+v", c)
	}
}

// TestAContactInTheFutureIsNotBelieved_3_1: an earlier leader's clock was wrong.
func TestAContactInTheFutureIsNotBelieved_3_1(t *testing.T) {
	r := canada()
	r.Spec.Identities.StaleAfter.Duration = time.Hour
	r.Status.LastContactTime = &metav1.Time{Time: start().AddDate(70, 0, 0)}
	down := inSync()
	down.State, down.Reason = model.StateOutOfContact, model.ReasonUnreachable
	got := plannedStatus(start().Add(2*time.Hour), seen(down), r)
	if !got.Status.LastContactTime.Time.Equal(down.LastContact) {
		t.Errorf("the last contact is at %s", got.Status.LastContactTime)
	}
	if c := find(t, got, "Stale"); c.Reason != "IdentitiesDropped" {
		t.Errorf("Stale: %+v", c)
	}
}

func TestStaleIsUnknownBeforeTheFirstContact(t *testing.T) {
	s := model.ClusterStatus{State: model.StateOutOfContact, Reason: model.ReasonUnreachable}
	if c := find(t, plannedStatus(start(), seen(s), canada()), "Stale"); c.Status != "Unknown" || c.Reason != "NeverInContact" {
		t.Errorf("got %+v", c)
	}
}

func TestAddressesAreTrustedOnlyWithRanges_1_2(t *testing.T) {
	for _, tt := range []struct {
		name        string
		pods, nodes []string
		want        metav1.ConditionStatus
	}{
		{"pods", []string{"10.2.0.0/16"}, nil, "True"},
		{"none", nil, nil, "False"},
		{"nodes only", nil, []string{"10.3.0.0/24"}, "True"}, // its pods are held to them, too
	} {
		r := canada()
		r.Spec.PodCIDRs, r.Spec.NodeCIDRs = tt.pods, tt.nodes
		if c := find(t, plannedStatus(start(), seen(inSync()), r), "AddressesTrusted"); c.Status != tt.want {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
}

func TestCredentialsExpireInTime_5_2(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		name       string
		life, left time.Duration // life 0: unknown
		want       string
	}{
		{"more than a third", 30 * day, 10*day + time.Second, "Valid"},
		{"a third", 30 * day, 10 * day, "Expiring"},
		{"an hour's token", time.Hour, 21 * time.Minute, "Valid"},
		{"an hour's token, a third", time.Hour, 20 * time.Minute, "Expiring"},
		{"over", 30 * day, 0, "Expired"},
		{"no start, more than a week", 0, 7*day + time.Second, "Valid"},
		{"no start, a week", 0, 7 * day, "Expiring"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := inSync()
			s.CredentialsExpire = start().Add(tt.left)
			if tt.life > 0 {
				s.CredentialsIssued = s.CredentialsExpire.Add(-tt.life)
			}
			c := find(t, plannedStatus(start(), seen(s), canada()), "CredentialsExpiring")
			if c.Reason != tt.want || (c.Status == "True") != (tt.want != "Valid") {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func TestWarningsAreThereOnlyWhileTheyHold_1_1(t *testing.T) {
	s := inSync()
	s.DeclaredName, s.NotReadable = "kanada", []model.Kind{model.KindNode, model.KindNamespace}
	r := plannedStatus(start(), seen(s), canada())
	if c := find(t, r, ConditionNameMismatch); !strings.Contains(c.Message, `"kanada"`) || !strings.Contains(c.Message, `"canada"`) {
		t.Errorf("got %+v", c)
	}
	if c := find(t, r, ConditionPartlyReadable); !strings.Contains(c.Message, "namespaceSelector") || !strings.Contains(c.Message, "kind Node") {
		t.Errorf("got %+v", c)
	}
	if find(t, r, "Ready").Status != "True" {
		t.Error("a warning makes it not Ready")
	}
	r = plannedStatus(start(), seen(inSync()), r)
	for _, kind := range []string{ConditionNameMismatch, ConditionPartlyReadable} {
		if meta.FindStatusCondition(r.Status.Conditions, kind) != nil {
			t.Errorf("%s stays", kind)
		}
	}
}

func TestClusterUIDIsPinned_1_1(t *testing.T) {
	const other = "33333333-3333-3333-3333-333333333333"
	for _, tt := range []struct {
		name, pinned, seen string
		state              model.State
		reason             string
		want               string
	}{
		{"first contact", "", other, model.StateSyncing, model.ReasonSyncing, other},
		{"not yet known", "", "", model.StateSyncing, model.ReasonSyncing, ""},
		{"refused as ourselves", "", other, model.StateRefused, model.ReasonSelfLink, ""},
		{"changed, not listed yet", "old", other, model.StateSyncing, model.ReasonClusterChanged, "old"},
		{"changed and listed", "old", other, model.StateInSync, model.ReasonInSync, other},
		{"out of contact", "old", other, model.StateOutOfContact, model.ReasonUnreachable, "old"},
		{"unknown now", "old", "", model.StateInSync, model.ReasonInSync, "old"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := canada()
			r.Status.ClusterUID = tt.pinned
			s := inSync()
			s.State, s.Reason, s.ClusterUID = tt.state, tt.reason, tt.seen
			if got := plannedStatus(start(), seen(s), r).Status.ClusterUID; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestARemoteClusterWithTheLocalNameIsRefused_1_1(t *testing.T) {
	r := canada()
	r.Name = "west"
	got := plannedStatus(start(), seen(inSync()), r)
	if c := find(t, got, "Ready"); c.Status != "False" || c.Reason != model.ReasonNameConflict {
		t.Errorf("got %+v", c)
	}
	if got.Status.Endpoints != 0 || got.Status.State != "Refused" {
		t.Errorf("got %+v", got.Status)
	}
}

func TestTheStatusIsKeptWhereTheSnapshotCannotTell(t *testing.T) {
	r := plannedStatus(start(), seen(inSync()), canada())
	for name, change := range map[string]func(*v1alpha1.RemoteCluster, *agent.Snapshot){
		"an unknown cluster":    func(r *v1alpha1.RemoteCluster, _ *agent.Snapshot) { r.Name = "fiji" },
		"an object added again": func(r *v1alpha1.RemoteCluster, _ *agent.Snapshot) { r.UID = "44444444-4444-4444-4444-444444444444" },
		"an empty snapshot":     func(_ *v1alpha1.RemoteCluster, s *agent.Snapshot) { *s = agent.Snapshot{} },
		"a leader that is listing just after its start": func(_ *v1alpha1.RemoteCluster, s *agent.Snapshot) {
			s.Self.Started = start()
			s.Clusters[1].Status = model.ClusterStatus{State: model.StateSyncing, Reason: model.ReasonSyncing}
		},
		"a leader that has only just started": func(_ *v1alpha1.RemoteCluster, s *agent.Snapshot) { s.Self.Started = start() },
	} {
		t.Run(name, func(t *testing.T) {
			s := seen(model.ClusterStatus{State: model.StateConnecting, Reason: model.ReasonConnecting})
			changed := r.DeepCopy()
			change(changed, s)
			if d := cmp.Diff(r.Status, plannedStatus(start().Add(time.Second), s, changed).Status); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestWhatARemoteSaysIsCutToWhatAnObjectCanHold_1_6(t *testing.T) {
	s := inSync()
	long := strings.Repeat("ü", 100_000)
	s.KubernetesVersion, s.ClusterUID, s.DeclaredName, s.Message = long, long, long, long
	s.LastContact = start().Add(100 * time.Hour)
	got := plannedStatus(start(), seen(s), canada())
	if n := len(got.Status.KubernetesVersion); n > 128 {
		t.Errorf("kubernetesVersion has %d bytes", n)
	}
	if n := len(got.Status.ClusterUID); n > 128 {
		t.Errorf("clusterUID has %d bytes", n)
	}
	for _, c := range got.Status.Conditions {
		if len(c.Message) > maxMessage || len(c.Reason) == 0 {
			t.Errorf("condition %s: %d bytes, reason %q", c.Type, len(c.Message), c.Reason)
		}
	}
	if got.Status.LastContactTime.After(start()) {
		t.Error("contact in the future")
	}
}

func TestAReasonThatNoObjectCanHaveIsReplaced(t *testing.T) {
	for _, reason := range []string{"", "has blanks", "1", "ünknown", strings.Repeat("a", 200)} {
		s := inSync()
		s.State, s.Reason = model.StateOutOfContact, reason
		if c := find(t, plannedStatus(start(), seen(s), canada()), "Ready"); c.Reason != "OutOfContact" {
			t.Errorf("%q: %q", reason, c.Reason)
		}
	}
}

func TestTheStatusIsAboutTheSpecThatTheSourceActsOn(t *testing.T) {
	s := inSync()
	s.Generation = 2
	got := plannedStatus(start(), seen(s), canada())
	if got.Status.ObservedGeneration != 2 || find(t, got, "Ready").ObservedGeneration != 2 {
		t.Errorf("got %d", got.Status.ObservedGeneration)
	}
}

func TestCountsAndTimesAreDriftAllElseIsATurn_1_2(t *testing.T) {
	r := plannedStatus(start(), seen(inSync()), canada())
	for _, tt := range []struct {
		name   string
		change func(*v1alpha1.RemoteClusterStatus)
		want   difference
	}{
		{"nothing", func(*v1alpha1.RemoteClusterStatus) {}, same},
		{"an empty map", func(s *v1alpha1.RemoteClusterStatus) { s.RejectedEndpoints["OutsideRanges"] = 3 }, same},
		{"endpoints", func(s *v1alpha1.RemoteClusterStatus) { s.Endpoints++ }, drift},
		{"rejected", func(s *v1alpha1.RemoteClusterStatus) { s.RejectedEndpoints = nil }, drift},
		{"contact", func(s *v1alpha1.RemoteClusterStatus) { s.LastContactTime = nil }, drift},
		{"a condition", func(s *v1alpha1.RemoteClusterStatus) { s.Conditions[0].Status = "False" }, turn},
		{"a reason", func(s *v1alpha1.RemoteClusterStatus) { s.Conditions[0].Reason = "Other" }, turn},
		{"words, which may have a port or a time", func(s *v1alpha1.RemoteClusterStatus) { s.Conditions[0].Message = "x" }, drift},
		{"both", func(s *v1alpha1.RemoteClusterStatus) { s.Endpoints, s.State = 1, "x" }, turn},
		{"who observed", func(s *v1alpha1.RemoteClusterStatus) { s.ObservedBy = "node-2" }, turn},
	} {
		have := r.Status.DeepCopy()
		tt.change(have)
		if got := compare(*have, r.Status); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestPlanIsStable(t *testing.T) {
	r := plannedStatus(start(), seen(inSync()), canada())
	before := r.DeepCopy()
	if got := PlanStatus(start(), seen(inSync()), r, "node-1"); compare(r.Status, got) != same {
		t.Errorf("a second plan differs: %s", cmp.Diff(r.Status, got))
	}
	s := inSync()
	s.State, s.Reason = model.StateOutOfContact, model.ReasonUnreachable
	PlanStatus(start(), seen(s), r, "node-2")
	if d := cmp.Diff(before, r); d != "" {
		t.Errorf("planning changed the existing object: %s", d)
	}
}
