package federation

import (
	"context"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	corev1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/federation/plan"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

const (
	// passPeriod is the shortest time between two looks at what has changed, and
	// passLimit how long planning may keep the next one waiting.
	passPeriod = 20 * time.Millisecond
	passLimit  = 50 * time.Millisecond
	// showPeriod is the shortest time between two ServicesSnapshots.
	showPeriod = 500 * time.Millisecond
	// firstConflict is the first wait after somebody else was faster: what is
	// there has been read again.
	firstConflict = 50 * time.Millisecond
	// lastForbidden is the longest wait after a write that is not allowed.
	lastForbidden = 5 * time.Minute
	sweepPeriod   = time.Minute
)

// round is the state of one term of Services; it belongs to one goroutine.
type round struct {
	*Services
	facts   *plan.Facts
	mail    *mailbox
	objects *ownObjects
	queue   *queue

	links  map[string]*link
	linked bool // the list of all linked clusters has come
	// services are the local ones that are declared federated, or bear our
	// condition.
	services map[model.Key]*model.Service
	view     index.View
	clusters []plan.Cluster
	// slices and endpoints are what can be read of these kinds.
	slices, endpoints access
	states            map[model.Key]*serviceState

	outcomes chan outcome
	writing  int
	// mute is until when it is not told again that conditions are forbidden.
	mute         time.Time
	waits        string // for what planning last waited
	begun        bool
	whole        bool // each Service has been planned once
	shown, swept time.Time
	changed      bool // something that a ServicesSnapshot shows
}

// outcome is what came of a job.
type outcome struct {
	key   model.Key
	wrote []written
}

// serviceState is what is remembered of a federated Service.
type serviceState struct {
	// held are the objects that could not be written.
	held   map[string]*hold
	told   *toldCondition
	toldAt time.Time
	// report is nil of one that is not federated. wired is it as it is answered,
	// nil if that has to be made anew.
	report *serviceReport
	wired  *api.Service
}

// hold keeps an object from being written again at once.
type hold struct {
	kind    kind
	result  Result
	message string
	wait    time.Duration
	until   time.Time
}

func newRound(s *Services) *round {
	return &round{
		Services: s, facts: plan.NewFacts(s.cfg.Cluster), mail: newMailbox(s.cfg.Cluster), objects: newOwnObjects(), queue: newQueue(),
		links: map[string]*link{}, services: map[model.Key]*model.Service{}, states: map[model.Key]*serviceState{},
		outcomes: make(chan outcome, maxWriters),
	}
}

// run plans and writes until ctx ends and all writers have returned.
func (r *round) run(ctx context.Context) {
	for ctx.Err() == nil {
		snapshot, newer := r.snapshots.Snapshot()
		timer := time.NewTimer(r.pass(ctx, snapshot))
		looked := time.Now()
		select {
		case <-ctx.Done():
		case <-newer:
		case <-r.mail.filled:
		case <-r.objects.changed:
		case o := <-r.outcomes:
			r.settle(time.Now(), o)
		case <-timer.C:
		}
		timer.Stop()
		sleep(ctx, passPeriod-time.Since(looked))
	}
	for ; r.writing > 0; r.writing-- {
		o := <-r.outcomes
		r.totals.wrote(o.wrote)
	}
}

// pass takes what is new, plans what is due, and gives the time until more may be.
func (r *round) pass(ctx context.Context, snapshot *agent.Snapshot) time.Duration {
	now := time.Now()
	r.takeOutcomes(now)
	r.takeMail(now)
	for s := range r.objects.takeDirty() {
		r.queue.mark(now, model.ServiceKey(r.cfg.Cluster, s.Namespace, s.Name))
	}
	wait := sweepPeriod
	if r.waits = r.unready(snapshot); r.waits == "" {
		r.takeView(now, snapshot)
		if next := r.planDue(ctx, now); next > 0 {
			wait = next
		}
	} else {
		wait = time.Second // what it waits for need not wake it
	}
	if now.Sub(r.swept) >= sweepPeriod {
		r.swept = now
		r.queue.sweep(now)
	}
	if r.changed {
		if next := r.shown.Add(showPeriod).Sub(now); next > 0 {
			return min(max(wait, passPeriod), next)
		}
		r.publish(now)
	}
	return wait
}

func (r *round) takeOutcomes(now time.Time) {
	for {
		select {
		case o := <-r.outcomes:
			r.settle(now, o)
		default:
			return
		}
	}
}

// takeMail takes what the sources have said.
func (r *round) takeMail(now time.Time) {
	mail, linked := r.mail.take()
	r.linked = r.linked || linked
	for _, cluster := range slices.Sorted(maps.Keys(mail)) {
		m := mail[cluster]
		l := r.links[cluster]
		if l == nil {
			l = &link{}
			r.links[cluster] = l
		}
		if m.told {
			another := l.fact != nil && m.fact != nil && l.fact.UID != m.fact.UID
			m.drained = m.drained || another
			l.follow(now, m.fact)
		}
		if m.drained {
			l.listed, l.status, l.floor = false, model.ClusterStatus{}, time.Time{}
			r.mark(now, r.facts.Drain(cluster))
		}
		for _, b := range m.batches(cluster) {
			rest := b
			if cluster == r.cfg.Cluster && b.Replace == 0 {
				rest.Changes = r.others(b)
			}
			r.mark(now, r.facts.Apply(rest))
			if cluster == r.cfg.Cluster {
				r.takeServices(now, b)
			}
		}
		if m.status != nil {
			l.status = *m.status
		}
		l.listed = l.listed || m.listed
		if l.fact == nil && m.told {
			delete(r.links, cluster)
		}
	}
}

// others takes what is nothing but an own condition that shows itself, which needs
// no plan, and gives the other changes. Such a write is of the very version that
// was planned with, so that there is nothing else in it.
func (r *round) others(b model.Batch) []model.Change {
	var others []model.Change
	for _, c := range b.Changes {
		s, isService := c.Value.(*model.Service)
		x := r.states[c.Key]
		if !isService || x == nil || x.told == nil || x.told.uid != s.UID || x.told.version != s.ResourceVersion {
			others = append(others, c)
			continue
		}
		r.facts.Apply(model.Batch{Cluster: b.Cluster, Changes: []model.Change{c}})
	}
	return others
}

// takeServices keeps the local Services that conditions are about.
func (r *round) takeServices(now time.Time, b model.Batch) {
	if b.Replace == model.KindService {
		maps.DeleteFunc(r.services, func(k model.Key, _ *model.Service) bool { return b.Namespace == "" || b.Namespace == k.Namespace })
	}
	for _, c := range b.Changes {
		if c.Key.Kind != model.KindService {
			continue
		}
		s, there := c.Value.(*model.Service)
		if !there || !s.Federated() && len(s.Conditions) == 0 {
			delete(r.services, c.Key)
			continue
		}
		r.services[c.Key] = s
		if !s.Federated() {
			r.queue.mark(now, c.Key)
		}
	}
}

// takeView has those Services planned again whose addresses have another owner,
// and all of them when something is different about clusters, or about what can be
// read.
func (r *round) takeView(now time.Time, snapshot *agent.Snapshot) {
	for a := range index.ChangedOwners(r.view, snapshot.View) {
		r.mark(now, r.facts.Naming(a))
	}
	r.view = snapshot.View
	slices, endpoints := r.objects.state(kindSlice), r.objects.state(kindEndpoints)
	clusters := clustersOf(r.cfg.Cluster, r.links, snapshot, r.contacts.LastContact())
	if !sameClusters(clusters, r.clusters) || slices != r.slices || endpoints != r.endpoints {
		for key := range r.services {
			r.queue.mark(now, key)
		}
	}
	r.clusters, r.slices, r.endpoints = clusters, slices, endpoints
}

func (r *round) mark(now time.Time, keys []model.Key) {
	for _, k := range keys {
		r.queue.mark(now, k)
	}
}

// planDue plans the Services that are due, as long as there are writers free, and
// gives the time until another one is.
func (r *round) planDue(ctx context.Context, now time.Time) time.Duration {
	if !r.begun {
		r.begun, r.changed = true, true
		r.log.WithField("services", len(r.services)).Info("federates Services from now on")
	}
	for began := now; r.writing < maxWriters && ctx.Err() == nil; now = time.Now() {
		if now.Sub(began) > passLimit {
			return passPeriod
		}
		key, wait, ok := r.queue.next(now)
		if !ok {
			r.changed = r.changed || !r.whole
			r.whole = true
			return wait
		}
		r.planOne(ctx, now, key)
	}
	return 0
}

// planOne plans one Service and has written what comes of it.
func (r *round) planOne(ctx context.Context, now time.Time, key model.Key) {
	service := types.NamespacedName{Namespace: key.Namespace, Name: key.Name}
	have, reread := r.objects.have(service)
	s := r.services[key]
	if s == nil && len(have.Slices) == 0 && have.Endpoints == nil {
		if r.states[key] != nil {
			delete(r.states, key)
			r.changed = true
		}
		return
	}
	x := r.states[key]
	if x == nil {
		x = &serviceState{held: map[string]*hold{}}
		r.states[key] = x
	}
	result := r.planned(now, key, s, have)
	r.queue.at(now, key, result.Due)
	r.queue.at(now, key, reread)
	j := r.jobOf(now, key, s, x, result)
	j.reread = !reread.IsZero() && !reread.After(now)
	x.report, x.wired, r.changed = reportOf(s, result), nil, true
	if !j.reread && len(j.changes) == 0 && (j.condition == nil || !dueOf(j.condition)) {
		return
	}
	r.queue.start(key)
	r.writing++
	go func() { r.outcomes <- outcome{key, r.do(ctx, j, r.objects)} }()
}

func dueOf(c *conditionWrite) bool {
	_, due := c.final(nil)
	return due
}

// planned asks for the plan.
func (r *round) planned(now time.Time, key model.Key, s *model.Service, have plan.Have) plan.Result {
	if slices := r.slices.refused; slices != "" {
		result := plan.Result{Report: plan.Report{Service: key}}
		if s != nil && s.Federated() {
			result.Condition = &plan.Condition{Reason: plan.ReasonWriteForbidden, Message: slices}
		}
		return result
	}
	endpoints := r.endpoints.refused
	began := time.Now()
	result := plan.Plan(plan.World{
		Now: now, Clusters: r.clusters, Facts: r.facts, View: r.view, Endpoints: r.cfg.Endpoints && endpoints == "",
	}, key, have)
	r.totals.planned(time.Since(began))
	if r.cfg.Endpoints && endpoints != "" {
		result.Condition = overruled(result.Condition, map[kind]string{kindEndpoints: endpoints})
	}
	return result
}

// jobOf is what may be written now.
func (r *round) jobOf(now time.Time, key model.Key, s *model.Service, x *serviceState, result plan.Result) *job {
	j := &job{service: types.NamespacedName{Namespace: key.Namespace, Name: key.Name}, held: map[kind]bool{}}
	wanted := map[string]bool{idCondition: true}
	for _, p := range result.Changes {
		c := named(p)
		wanted[c.id] = true
		if h := x.held[c.id]; h != nil && h.until.After(now) {
			r.queue.at(now, key, h.until)
			j.held[c.kind] = true
			continue
		}
		j.changes = append(j.changes, c)
	}
	maps.DeleteFunc(x.held, func(id string, _ *hold) bool { return !wanted[id] })
	if s == nil {
		return j
	}
	if h := x.held[idCondition]; h != nil && h.until.After(now) {
		r.queue.at(now, key, h.until)
		return j
	}
	c := &conditionWrite{service: s, had: conditionOf(s, x.told), want: result.Condition, words: now.Sub(x.toldAt) >= wordsPeriod}
	for id, h := range x.held {
		switch {
		case id == idCondition || !h.until.After(now):
		case h.result == ResultForbidden:
			if c.forbidden == nil {
				c.forbidden = map[kind]string{}
			}
			c.forbidden[h.kind] = h.message
		default:
			c.failing = true
		}
	}
	if want := overruled(c.want, c.forbidden); want != nil && c.had != nil && !c.words && c.had.Message != want.Message {
		r.queue.at(now, key, x.toldAt.Add(wordsPeriod))
	}
	j.condition = c
	return j
}

// settle takes account of what came of a job.
func (r *round) settle(now time.Time, o outcome) {
	r.writing--
	r.changed = true
	r.totals.wrote(o.wrote)
	x := r.states[o.key]
	x.wired = nil
	for _, w := range o.wrote {
		if w.told != nil {
			x.told, x.toldAt = w.told, now
		}
		if w.result == ResultOK || w.gone() {
			delete(x.held, w.id)
			continue
		}
		r.queue.at(now, o.key, r.hold(now, o.key, x, w))
		if w.broken() {
			r.queue.mark(now, o.key) // the others have not been tried
		}
	}
	r.queue.done(now, o.key)
}

// gone tells whether there is nothing left to write to: the plan after this will
// tell so too.
func (w *written) gone() bool {
	return w.kind == kindCondition && apierrors.IsNotFound(w.err) ||
		w.op == opName(plan.Create) && apierrors.HasStatusCause(w.err, corev1.NamespaceTerminatingCause)
}

// hold keeps an object back after a failure, and tells the failure once.
func (r *round) hold(now time.Time, key model.Key, x *serviceState, w written) time.Time {
	h := x.held[w.id]
	first := h == nil || h.result != w.result
	if first {
		h = &hold{kind: w.kind}
		x.held[w.id] = h
	}
	h.result, h.message = w.result, w.err.Error()
	begin, most := firstRetry, lastRetry
	switch w.result {
	case ResultConflict:
		begin = firstConflict
	case ResultForbidden:
		most = lastForbidden
		h.message = forbiddenMessage(w)
	}
	h.wait = min(most, max(begin, 2*h.wait))
	h.until = now.Add(h.wait)
	entry := r.log.WithError(w.err).WithField("service", key.Namespace+"/"+key.Name)
	switch {
	case w.kind == kindCondition && w.result == ResultForbidden:
		if !r.mute.After(now) {
			r.mute = now.Add(lastForbidden)
			entry.Error("may not write conditions on Services: apply the manifests' ClusterRole again")
		}
	case !first || w.result == ResultConflict:
	case w.result == ResultForbidden:
		entry.Error(h.message)
	default:
		entry.Warnf("cannot %s an object of the kind %s: tries again", w.op, w.kind)
	}
	return h.until
}
