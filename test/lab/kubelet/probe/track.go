package probe

import v1 "k8s.io/api/core/v1"

// Kind is what a probe decides.
type Kind string

// The kinds, as events and messages spell them.
const (
	Startup   Kind = "Startup"
	Readiness Kind = "Readiness"
	Liveness  Kind = "Liveness"
)

// Result is one probe's answer, or what a run of them amounts to.
type Result int

// A result is Unknown until enough answers are in.
const (
	Unknown Result = iota
	Success
	Failure
)

// Key names a probe of one container instance.
type Key struct {
	ContainerID string
	Kind        Kind
}

// Results are the present results by probe; an absent one is not known yet.
type Results map[Key]Result

// Of is the container's probe of that kind, or nil.
func Of(c *v1.Container, kind Kind) *v1.Probe {
	switch kind {
	case Startup:
		return c.StartupProbe
	case Readiness:
		return c.ReadinessProbe
	}
	return c.LivenessProbe
}

// Initial is the result before the first answer: not ready, alive, and not
// known to have started.
func Initial(kind Kind) Result {
	switch kind {
	case Readiness:
		return Failure
	case Liveness:
		return Success
	}
	return Unknown
}

// Tracker turns answers into a result by the probe's thresholds.
type Tracker struct {
	success, failure int
	last             Result
	run              int
	result           Result
}

// NewTracker begins with the given result.
func NewTracker(spec *v1.Probe, initial Result) *Tracker {
	return &Tracker{
		success: max(1, int(spec.SuccessThreshold)), failure: max(1, int(spec.FailureThreshold)), result: initial,
	}
}

// Observe takes one answer and says whether the result was decided by it (it
// may be decided the same again).
func (t *Tracker) Observe(answer Result) bool {
	if answer == t.last {
		t.run++
	} else {
		t.last, t.run = answer, 1
	}
	if answer == Success && t.run < t.success || answer == Failure && t.run < t.failure || answer == Unknown {
		return false
	}
	t.result = answer
	return true
}

// Result is the present result.
func (t *Tracker) Result() Result { return t.result }

// Restart forgets the run of answers, not the result.
func (t *Tracker) Restart() { t.last, t.run = Unknown, 0 }
