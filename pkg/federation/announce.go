package federation

import (
	"slices"
	"time"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
)

// The rate of Events: so many at once and then one more each so long, of all
// objects and of those of one namespace, so that nobody's wait for somebody
// else's.
const (
	eventBurst  = 20
	eventPeriod = 200 * time.Millisecond
	spaceBurst  = 10
	spacePeriod = 10 * time.Second
)

// announcer decides which Events are to be written when (semantics 2.13): one for
// each reason and edition of an object. Times are given to it. It keeps something
// of the objects that there are, and of no others.
type announcer struct {
	policies map[model.Key]*looked
	said     map[model.Key]*said
	pending  []finding // sorted
	total    bucket
	spaces   map[string]*spacePace // by namespace
}

// looked is a policy, and what was found of it.
type looked struct {
	policy    *model.Policy
	namespace *model.Namespace
	findings  []finding
}

// said are the reasons for which there is an Event of this uid and edition.
type said struct {
	uid     model.UID
	edition string
	reasons []string
}

// spacePace is the pace of one namespace.
type spacePace struct {
	turns   bucket
	retries time.Duration
	notNow  time.Time // until then, after a failure
}

func newAnnouncer() *announcer {
	return &announcer{
		policies: map[model.Key]*looked{}, said: map[model.Key]*said{},
		total:  bucket{burst: eventBurst, period: eventPeriod},
		spaces: map[string]*spacePace{},
	}
}

// update takes what is known, and what was found of federated Services. Policies
// that only a store has may be gone: nothing is said of them before the API server
// confirms them.
func (a *announcer) update(now time.Time, s *agent.Snapshot, services []found) {
	a.pending = nil
	before := a.said
	a.said = make(map[model.Key]*said, len(s.Policies)+len(services))
	if local, ok := s.Cluster(s.Self.Cluster); ok && s.InSync && !local.Restored {
		a.look(s, before)
	} else {
		for key, x := range before {
			if key.Kind == model.KindPolicy {
				a.said[key] = x
			}
		}
	}
	for i := range services {
		a.expect(before, services[i])
	}
	slices.SortFunc(a.pending, compareFindings)
	a.forgetSpaces(now)
}

// look finds what is to be said of policies.
func (a *announcer) look(s *agent.Snapshot, before map[model.Key]*said) {
	known := a.policies
	a.policies = make(map[model.Key]*looked, len(s.Policies))
	for i := range s.Policies {
		p := s.Policies[i].Policy
		x := known[p.Key]
		if x == nil {
			x = &looked{}
		}
		a.policies[p.Key] = x
		x.look(s, p)
		a.expect(before, found{policySubject(p), x.findings})
	}
}

// expect has said of an object what has not been.
func (a *announcer) expect(before map[model.Key]*said, of found) {
	x := before[of.key]
	if x == nil || x.uid != of.uid || x.edition != of.edition {
		x = &said{uid: of.uid, edition: of.edition}
	}
	a.said[of.key] = x
	for _, n := range of.findings {
		if !slices.Contains(x.reasons, n.reason) {
			a.pending = append(a.pending, n)
		}
	}
}

// look translates a policy if it or its namespace has changed.
func (x *looked) look(s *agent.Snapshot, p *model.Policy) {
	ns, _ := s.View.Namespace(model.NamespaceKey(p.Key.Cluster, p.Key.Namespace))
	if x.policy == p && x.namespace == ns {
		return
	}
	x.policy, x.namespace, x.findings = p, ns, findings(p, s.Meaning.Problems(p, ns))
}

// forgetSpaces forgets namespaces that have no Event to come and whose pace would
// begin anew anyway.
func (a *announcer) forgetSpaces(now time.Time) {
	waits := map[string]bool{}
	for _, n := range a.pending {
		waits[n.key.Namespace] = true
	}
	for name, x := range a.spaces {
		if !waits[name] && !x.turns.full.After(now) {
			delete(a.spaces, name)
		}
	}
}

func (a *announcer) space(n finding) *spacePace {
	name := n.key.Namespace
	x := a.spaces[name]
	if x == nil {
		x = &spacePace{turns: bucket{burst: spaceBurst, period: spacePeriod}}
		a.spaces[name] = x
	}
	return x
}

// next is what to write now; or, with ok false, how long until there may be
// something, which is 0 if nothing is to be written at all.
func (a *announcer) next(now time.Time) (n finding, wait time.Duration, ok bool) {
	for _, n := range a.pending {
		x := a.space(n)
		until := max(a.total.wait(now), x.turns.wait(now), x.notNow.Sub(now))
		if until == 0 {
			a.total.take(now)
			x.turns.take(now)
			return n, 0, true
		}
		if wait == 0 || until < wait {
			wait = until
		}
	}
	return finding{}, wait, false
}

// written takes account of an Event that is there, or never will be.
func (a *announcer) written(n finding) {
	a.space(n).retries = 0
	if x := a.said[n.key]; x != nil && x.uid == n.uid && x.edition == n.edition {
		x.reasons = append(x.reasons, n.reason)
	}
	a.pending = slices.DeleteFunc(a.pending, func(o finding) bool { return o.subject == n.subject && o.reason == n.reason })
}

// failed takes account of a failure, which keeps back the namespace: its quota or
// a webhook may be the reason.
func (a *announcer) failed(now time.Time, n finding) {
	x := a.space(n)
	x.retries = min(lastRetry, max(firstRetry, 2*x.retries))
	x.notNow = now.Add(x.retries)
}
