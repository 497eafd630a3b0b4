package federation

import "time"

// The rates of status writes. A change of state is written at once: turns of one
// object, and of all, are bounded by buckets, so that a flapping link or a
// restart with two hundred links costs the API server little.
const (
	driftPeriod = time.Minute     // semantics 1.2
	turnBurst   = 4               // writes of one object in a row…
	turnPeriod  = 5 * time.Second // …and one more each so long
	totalBurst  = 20
	totalPeriod = 200 * time.Millisecond
	firstRetry  = time.Second
	lastRetry   = time.Minute
)

// bucket holds up to burst tokens and gains one each period.
type bucket struct {
	burst  int
	period time.Duration
	full   time.Time // when it will be full
}

// wait is how long until there is a token.
func (b *bucket) wait(now time.Time) time.Duration {
	missing := max(0, b.full.Sub(now)) // of all tokens, as a time
	return max(0, missing-time.Duration(b.burst-1)*b.period)
}

func (b *bucket) take(now time.Time) {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(b.period)
}

// pace decides when which object's status may be written. Times are given to it.
type pace struct {
	total   bucket
	objects map[string]*objectPace // by the object's uid
}

type objectPace struct {
	turns   bucket
	written time.Time // the last time; zero: never by this leader
	retries time.Duration
	notNow  time.Time // until then, after a failure
}

func newPace() *pace {
	return &pace{total: bucket{burst: totalBurst, period: totalPeriod}, objects: map[string]*objectPace{}}
}

func (p *pace) object(uid string) *objectPace {
	o := p.objects[uid]
	if o == nil {
		o = &objectPace{turns: bucket{burst: turnBurst, period: turnPeriod}}
		p.objects[uid] = o
	}
	return o
}

// wait is how long until the object's status may be written; 0: now.
func (p *pace) wait(now time.Time, uid string, d difference) time.Duration {
	o := p.object(uid)
	wait := max(p.total.wait(now), o.notNow.Sub(now))
	if d == turn {
		return max(wait, o.turns.wait(now))
	}
	if o.written.IsZero() {
		return wait
	}
	return max(wait, o.written.Add(driftPeriod).Sub(now))
}

// tried takes account of an attempt, which counts whatever comes of it.
func (p *pace) tried(now time.Time, uid string, d difference) {
	o := p.object(uid)
	p.total.take(now)
	o.written = now
	if d == turn {
		o.turns.take(now)
	}
}

// succeeded and failed take account of what came of it.
func (p *pace) succeeded(uid string) {
	o := p.object(uid)
	o.retries, o.notNow = 0, time.Time{}
}

func (p *pace) failed(now time.Time, uid string) {
	o := p.object(uid)
	o.retries = min(lastRetry, max(firstRetry, 2*o.retries))
	o.notNow = now.Add(o.retries)
	// The status that could not be written has not become less due.
	o.written = time.Time{}
}

// keep forgets all other objects.
func (p *pace) keep(uids map[string]bool) {
	for uid := range p.objects {
		if !uids[uid] {
			delete(p.objects, uid)
		}
	}
}
