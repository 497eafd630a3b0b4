package source

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// reporter keeps a cluster's status and reports it: at once when the state
// changes, else at a bounded rate. Who takes the reports logs them. It is safe for concurrent use.
type reporter struct {
	cluster  string
	sink     Sink
	interval time.Duration

	mu       sync.Mutex
	status   model.ClusterStatus
	dirty    bool
	reported time.Time
}

func newReporter(cluster string, t Timing, sink Sink) *reporter {
	return &reporter{cluster: cluster, sink: sink, interval: t.ReportContact}
}

// credentials says when they expire and since when they are good.
func (r *reporter) credentials(expire, issued time.Time) {
	r.edit(func(s *model.ClusterStatus) bool {
		same := s.CredentialsExpire.Equal(expire) && s.CredentialsIssued.Equal(issued)
		s.CredentialsExpire, s.CredentialsIssued = expire, issued
		return !same
	})
}

// begin reports that a connection is tried. One that is only made anew stays what
// it was until its failure.
func (r *reporter) begin() {
	r.mu.Lock()
	keep := r.status.InContact()
	r.mu.Unlock()
	if !keep {
		r.state(model.StateConnecting, model.ReasonConnecting, "")
	}
}

// state reports a state, if it is another one than before.
func (r *reporter) state(s model.State, reason, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status.State == s && r.status.Reason == reason && r.status.Message == message && !r.status.Since.IsZero() {
		return
	}
	if r.status.State != s || r.status.Reason != reason || r.status.Since.IsZero() {
		r.status.Since = time.Now()
		if s == model.StateInSync {
			// What has just been listed is from now; a later report would let it
			// seem that there never was any contact.
			r.status.LastContact = r.status.Since
		}
	}
	r.status.State, r.status.Reason, r.status.Message = s, reason, message
	r.report()
}

// failed reports why there is no session.
func (r *reporter) failed(f *Failure) {
	state := model.StateOutOfContact
	switch f.Reason {
	case model.ReasonSelfLink, model.ReasonDuplicateCluster, model.ReasonVersionTooOld,
		model.ReasonInvalidName, model.ReasonInvalidSpec, model.ReasonNameConflict,
		model.ReasonSecretNotFound, model.ReasonInvalidKubeconfig, model.ReasonUnsafeKubeconfig:
		state = model.StateRefused
	}
	r.state(state, f.Reason, f.Message)
}

// contact says when the API server last said anything.
func (r *reporter) contact(at time.Time) {
	r.edit(func(s *model.ClusterStatus) bool {
		if !at.After(s.LastContact) {
			return false
		}
		s.LastContact = at
		return true
	})
}

// silent tells whether there has been no contact for so long.
func (r *reporter) silent(d time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.status.LastContact) >= d
}

// edit changes something that can wait, unless change tells that it is the same.
func (r *reporter) edit(change func(s *model.ClusterStatus) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty = change(&r.status) || r.dirty
	if r.dirty && !r.status.Since.IsZero() && time.Since(r.reported) >= r.interval {
		r.report()
	}
}

// identity says what the API server says of itself.
func (r *reporter) identity(uid, version string) {
	r.edit(func(s *model.ClusterStatus) bool {
		same := s.ClusterUID == uid && s.KubernetesVersion == version
		s.ClusterUID, s.KubernetesVersion = uid, version
		return !same
	})
}

// follows says which generation of the RemoteCluster is acted on.
func (r *reporter) follows(generation int64) {
	r.edit(func(s *model.ClusterStatus) bool {
		same := s.Generation == generation
		s.Generation = generation
		return !same
	})
}

func (r *reporter) declared(name string) {
	r.edit(func(s *model.ClusterStatus) bool {
		same := s.DeclaredName == name
		s.DeclaredName = name
		return !same
	})
}

// counts says what is odd, and what cannot be read.
func (r *reporter) counts(refused map[model.RefusalReason]int, reserved int, notReadable []model.Kind) {
	r.edit(func(s *model.ClusterStatus) bool {
		same := maps.Equal(s.Refused, refused) && s.ReservedLabels == reserved && slices.Equal(s.NotReadable, notReadable)
		s.Refused, s.ReservedLabels, s.NotReadable = refused, reserved, notReadable
		return !same
	})
}

// report hands the status over; maps and slices in it are never changed.
func (r *reporter) report() {
	r.dirty, r.reported = false, time.Now()
	r.sink.Status(r.cluster, r.status)
}
