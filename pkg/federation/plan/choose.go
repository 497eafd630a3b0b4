package plan

import (
	"slices"
	"time"
)

// choose settles which clusters serve (semantics 4.7, 4.9).
//
// What serves now is read from the state, that is from the output. What is chosen
// is chosen again by what the state then says: so it does not matter which of the
// writes of a plan have been made when the next one is made.
func (p *planner) choose() {
	switch {
	case p.pref.any:
		p.serveAll(p.parts, false)
	case p.pref.local:
		p.chooseLocal()
	default:
		p.chooseOrdered()
	}
}

// sufficient tells whether a cluster can serve alone.
func (p *planner) sufficient(c *part) bool {
	return !c.stale && !c.withdrawn && c.ready >= p.pref.minReady
}

// serveAll lets all of some clusters serve, and spare ones if the others together
// have not enough.
func (p *planner) serveAll(parts []*part, onlyReady bool) {
	p.serving = servingAll
	ready := 0
	for _, c := range parts {
		if !c.stale && !c.withdrawn {
			ready += c.ready
		}
	}
	for _, c := range parts {
		c.onlyReady = onlyReady
		switch {
		case c.withdrawn:
			c.state = StateWithdrawn
		case c.stale && ready >= p.pref.minReady:
			c.state = StateSpare
		default:
			c.state = StateServing
		}
	}
}

// serveOne lets one cluster serve, and no other. Only what is preferred to it has
// to settle.
func (p *planner) serveOne(one *part) {
	p.serving = one.Name
	if i := slices.Index(p.pref.order, one.Name); i >= 0 {
		for _, name := range p.pref.order[i:] {
			delete(p.since, name)
		}
	}
	for _, c := range p.parts {
		switch {
		case c == one:
			c.state = StateServing
		case c.withdrawn && c.state != StateUnlisted:
			c.state = StateWithdrawn
		case c.state != StateUnlisted:
			c.state = StatePreferredElsewhere
		}
	}
}

// chooseLocal is the preference local.
func (p *planner) chooseLocal() {
	local := p.part(p.local)
	if local != nil && p.sufficient(local) && (p.memory.serving == p.local || p.edited() || p.settled(local)) {
		p.serveOne(local)
		return
	}
	p.serveAll(p.parts, false)
}

// chooseOrdered is a preference of names.
func (p *planner) chooseOrdered() {
	var listed []*part
	for _, name := range p.pref.order {
		if c := p.part(name); c != nil {
			listed = append(listed, c)
		}
	}
	for _, c := range p.parts {
		if !slices.Contains(listed, c) {
			c.state = StateUnlisted
		}
	}
	now := p.part(p.memory.serving)
	keep := slices.Contains(listed, now) && p.sufficient(now)
	var first, back *part
	for _, c := range listed {
		if keep && c == now {
			break
		}
		if !p.sufficient(c) {
			continue
		}
		if first == nil {
			first = c
		}
		if p.settled(c) && back == nil {
			back = c
		}
	}
	switch {
	case keep && first != nil && p.edited():
		p.serveOne(first)
	case keep && back != nil:
		p.serveOne(back)
	case keep:
		p.serveOne(now)
	case first != nil && (p.memory.serving != servingAll || p.edited()):
		p.serveOne(first)
	case back != nil:
		p.serveOne(back)
	default:
		p.serveAll(listed, true)
	}
}

// edited tells whether the preference is another than that by which the objects
// were made: then nothing has to settle.
func (p *planner) edited() bool { return p.memory.preference != p.pref.text }

// settled tells whether a sufficient cluster has been so for long enough to go
// back to, and remembers since when if it has not.
func (p *planner) settled(c *part) bool {
	since, ok := p.memory.sufficient[c.Name]
	if !ok || since.After(p.world.Now) {
		since = p.world.Now.Truncate(time.Millisecond)
	}
	at := since.Add(p.pref.settle)
	if !p.world.Now.Before(at) {
		return true
	}
	p.since[c.Name] = since
	p.due(at)
	return false
}
