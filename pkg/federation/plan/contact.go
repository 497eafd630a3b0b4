package plan

import "time"

// age notes how long a cluster has been out of contact (semantics 4.9), and when
// that makes a difference.
func (p *planner) age(c *part) {
	if c.Local || c.InContact {
		return
	}
	if c.LastContact.IsZero() {
		c.stale = true
		return
	}
	past := func(after time.Duration) bool {
		at := c.LastContact.Add(after)
		p.due(at)
		return !p.world.Now.Before(at)
	}
	c.stale = past(c.SpareAfter)
	c.withdrawn = c.StaleAfter > 0 && past(c.StaleAfter)
}

// due makes the plan be looked at again at a time in the future.
func (p *planner) due(at time.Time) {
	if at.After(p.world.Now) && (p.result.Due.IsZero() || at.Before(p.result.Due)) {
		p.result.Due = at
	}
}
