package agent

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

// enforcement is what the Core knows of its own node, and what follows for it.
type enforcement struct {
	// interfaces are those of the node, once told.
	interfaces    []model.Interface
	told          bool
	grandfathered []model.Interface
	// reading: the store is still being read.
	reading bool
	// released are addresses that lost their owner and that no State says yet.
	released []netip.Addr
	desired  *desired.State
	// sorted are all policies; nil if it must be made anew. views are what a
	// Snapshot says of them.
	sorted []*model.Policy
	views  []PolicyView
}

// setInterfaces takes the whole truth about the node's pod interfaces.
func (c *Core) setInterfaces(list []model.Interface) {
	e := &c.enforce
	if list == nil || (e.told && slices.EqualFunc(e.interfaces, list, equalInterface)) {
		return
	}
	e.interfaces, e.told = list, true
	c.keepGrandfathered(func(old model.Interface) bool {
		i, found := e.find(old.Name)
		return found && e.interfaces[i].Index == old.Index
	})
	c.tellNode()
	c.policyChanged = true
}

func (e *enforcement) find(name string) (int, bool) {
	return slices.BinarySearchFunc(e.interfaces, name, func(i model.Interface, name string) int {
		return strings.Compare(i.Name, name)
	})
}

// keepGrandfathered ends those that do not stay, for good.
func (c *Core) keepGrandfathered(stays func(model.Interface) bool) (ended bool) {
	kept := slices.DeleteFunc(slices.Clone(c.enforce.grandfathered), func(i model.Interface) bool { return !stays(i) })
	if len(kept) == len(c.enforce.grandfathered) {
		return false
	}
	c.enforce.grandfathered, c.changed = kept, true
	return true
}

func (c *Core) tellNode() {
	c.policies.Node(policy.NodeFacts{
		Interfaces: c.enforce.interfaces, Grandfathered: c.enforce.grandfathered,
		Protected: c.cfg.Protected, OwnNodeEgress: c.cfg.OwnNodeEgress, Exceptions: c.cfg.Exceptions,
	})
}

// track lets the index follow what the policies want to know.
func (c *Core) track() {
	track, untrack, trackPorts, untrackPorts := c.policies.Update()
	for _, s := range track {
		c.index.Track(s)
	}
	for _, q := range trackPorts {
		c.index.TrackPorts(q)
	}
	for _, s := range untrack {
		c.index.Untrack(s)
	}
	for _, q := range untrackPorts {
		c.index.UntrackPorts(q)
	}
}

// decide says what the node must enforce. Until the local cluster and the node's
// interfaces are known, and what the store has of remote clusters, nothing is to
// be changed: a State without what was known before the restart would cut what
// lives (semantics 3.3).
func (c *Core) decide() {
	e := &c.enforce
	e.released = append(e.released, c.index.TakeReleased()...)
	before := e.desired
	if before != nil || (c.inSync && e.told && !e.reading && !c.restoring()) {
		e.desired = c.policies.State(c.gen+1, c.view, e.released)
		e.released = nil
	} else {
		e.released = slices.Compact(slices.SortedFunc(slices.Values(e.released), netip.Addr.Compare))
	}
	if e.desired != before {
		c.changed = true
		if before == nil {
			c.transition(Transition{Kind: Enforcing, Cluster: c.cfg.Cluster, Endpoints: len(e.desired.Rules.Endpoints)})
		}
		if before == nil || before.Rules != e.desired.Rules {
			c.endGrandfathered()
		}
	}
	if c.policyChanged || e.desired != before {
		c.describePolicies()
	}
}

// restoring tells whether facts of the store wait to be worked off.
func (c *Core) restoring() bool {
	for _, cl := range c.clusters {
		if cl.backlog != nil && cl.backlog.next < len(cl.backlog.restored) {
			return true
		}
	}
	return false
}

// endGrandfathered ends those whose pod is known: when the pod goes, what is left
// behind the interface is unknown as any other.
func (c *Core) endGrandfathered() {
	rules := c.enforce.desired.Rules
	if c.keepGrandfathered(func(i model.Interface) bool { return rules.Endpoint(i.Name) == nil }) {
		c.tellNode() // for the next State: this one says the same
	}
}

// describePolicies makes what a Snapshot says of policies, if that has changed.
// Problems of members come with a State, all others with the policies.
func (c *Core) describePolicies() {
	e := &c.enforce
	problems := c.policies.Problems()
	if !c.policyChanged && slices.Equal(problems, c.policyProblems) {
		return
	}
	c.policyProblems, c.policyChanged, c.changed = problems, false, true
	if e.sorted == nil {
		e.sorted = slices.SortedFunc(maps.Values(c.rules), func(a, b *model.Policy) int { return compareNames(a.Key, b.Key) })
	}
	of := map[model.Key][]model.Problem{}
	for _, p := range problems {
		of[p.Object] = append(of[p.Object], p)
	}
	selects := map[model.Key][]model.Key{}
	for _, pod := range slices.SortedFunc(maps.Keys(c.own.placed), compareNames) {
		for p := range c.policies.Selecting(pod) {
			selects[p.Key] = append(selects[p.Key], pod)
		}
	}
	e.views = make([]PolicyView, len(e.sorted))
	for i, p := range e.sorted {
		e.views[i] = PolicyView{Policy: p, Selects: selects[p.Key], Problems: of[p.Key]}
	}
}

func compareNames(a, b model.Key) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

func equalInterface(a, b model.Interface) bool {
	return a.Name == b.Name && a.Index == b.Index && slices.Equal(a.Addrs, b.Addrs)
}
