package agent

import (
	"slices"
	"strings"
	"time"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

// Input is what a step works on.
type Input struct {
	Now time.Time
	// Listed are the remote clusters there are, if a list of them came: nil if
	// none did.
	Listed map[string]bool
	// Images are what this node's store has of clusters that it has not spoken
	// of yet.
	Images map[string]Image
	// Mail is what came in, by cluster. Of a cluster that is Busy there must be
	// none.
	Mail map[string]*Mail
	// Interfaces are all pod interfaces of this node, sorted by name, if they came:
	// nil if not, empty if there are none.
	Interfaces []model.Interface
	// Attachments are all that CNI told of pods of this node, if they came: nil if
	// not, empty if there are none.
	Attachments []model.Attachment
	// Reading: what this node's store has of a cluster is still being read.
	Reading bool
	// StoreProblems are those that this node's store has now.
	StoreProblems []model.Problem
}

// Image is what this node's store has of a cluster; see store.Image.
type Image struct {
	ClusterUID  model.UID // of the RemoteCluster; none for the local cluster
	LastContact time.Time
	Facts       []model.Change
}

// Output is what a step gives.
type Output struct {
	// Snapshot is nil if nothing has changed. Store is to be written before it
	// is published (semantics 3.3).
	Snapshot    *Snapshot
	Store       []StoreWork
	Transitions []Transition
	// More: there is work left for another step, which needs no new input.
	More bool
	// Next is when time alone will change something; zero: never.
	Next time.Time
}

// StoreWork is what has to change in the store of one cluster, in the order of
// the fields.
type StoreWork struct {
	Cluster string
	Remove  bool // everything
	Rewrite bool // from Core.Facts; Changes are empty then
	Append  bool // Changes, or the contact alone if there are none
	UID     model.UID
	Contact time.Time
	Changes []model.Change
}

// Core knows the facts and is the pure part of the agent: what it gives depends
// on what it was given only. It is for one goroutine.
type Core struct {
	cfg      Config
	self     Self
	index    *index.Index
	policies *policy.Set
	// rules are the local cluster's policies, which the index does not keep, by
	// key.
	rules map[model.Key]*model.Policy
	// view is that of the last step's end. During a step each key changes once
	// at most, so that it tells what was known before.
	view     index.View
	clusters map[string]*cluster
	// order has the names of clusters, the local one first.
	order   []string
	busy    int // how many remote clusters have a backlog
	turn    int // which of the busy ones comes first in the next step
	inSync  bool
	enforce enforcement
	own     ownPods
	gen     uint64
	changed bool
	// policyProblems are those of policies; kept while these do not change.
	policyProblems []model.Problem
	policyChanged  bool
	storeProblems  []model.Problem
	// clustersListed: a list of the remote clusters has come.
	clustersListed bool
	// Of this step: what is to be logged, the clusters whose files are to go,
	// the time.
	transitions []Transition
	gone        map[string]bool
	now         time.Time
}

// NewCore is a Core that knows of the local cluster what cfg says.
func NewCore(cfg Config, started time.Time) *Core {
	cfg = cfg.withDefaults()
	c := &Core{
		cfg:      cfg,
		self:     Self{Cluster: cfg.Cluster, Node: cfg.Node, Version: cfg.Version, Started: started},
		index:    index.New(),
		policies: policy.NewSet(cfg.policy(), cfg.Node),
		rules:    map[model.Key]*model.Policy{},
		clusters: map[string]*cluster{},
		own:      newOwnPods(),
		now:      started,
		changed:  true,
	}
	c.enforce.grandfathered = cfg.Grandfathered
	local := c.cluster(cfg.Cluster)
	local.fact = cfg.fact()
	c.showFact(local)
	return c
}

// Step takes what came in and says what follows from it.
func (c *Core) Step(in Input) Output {
	c.now, c.transitions, c.gone = in.Now, nil, map[string]bool{}
	if !slices.Equal(c.storeProblems, in.StoreProblems) {
		c.storeProblems, c.changed = in.StoreProblems, true
	}
	c.keepListed(in.Listed)
	c.setInterfaces(in.Interfaces)
	c.setAttachments(in.Attachments)
	c.enforce.reading = in.Reading
	for _, name := range c.addressed(in) {
		image, ok := in.Images[name]
		c.accept(c.cluster(name), in.Mail[name], image, ok)
	}
	c.work()
	c.expire()
	c.follow()
	work, next := c.stored()
	out := Output{Store: work, Transitions: c.transitions, More: c.busy > 0, Next: earlier(next, c.nextExpiry())}
	if c.changed {
		out.Snapshot = c.snapshot()
		c.changed = false
	}
	return out
}

// Busy tells whether what was delivered of a cluster is not worked off yet.
func (c *Core) Busy(name string) bool {
	cl := c.clusters[name]
	return cl != nil && cl.backlog != nil
}

// addressed are the clusters with input, the local one first: facts of the local
// cluster win claims of addresses anyway, but need not go back and forth.
func (c *Core) addressed(in Input) []string {
	var names []string
	for name := range in.Mail {
		names = append(names, name)
	}
	for name := range in.Images {
		if in.Mail[name] == nil {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, c.compare)
	return names
}

func (c *Core) compare(a, b string) int {
	if a == b {
		return 0
	}
	if a == c.cfg.Cluster {
		return -1
	}
	if b == c.cfg.Cluster {
		return 1
	}
	return strings.Compare(a, b)
}

// cluster is the state of a cluster, made if there is none.
func (c *Core) cluster(name string) *cluster {
	if cl := c.clusters[name]; cl != nil {
		return cl
	}
	cl := &cluster{name: name, local: name == c.cfg.Cluster, changed: true}
	c.clusters[name] = cl
	i, _ := slices.BinarySearchFunc(c.order, name, c.compare)
	c.order = slices.Insert(c.order, i, name)
	return cl
}

// keepListed forgets the remote clusters that a list of them lacks: removed
// while the agent was down, or while nobody looked.
func (c *Core) keepListed(listed map[string]bool) {
	if listed == nil {
		return
	}
	c.clustersListed = true
	for _, name := range slices.Clone(c.order) {
		if name != c.cfg.Cluster && !listed[name] {
			c.forget(c.clusters[name])
		}
	}
}

// follow lets the policies and the index see what they want of each other.
func (c *Core) follow() {
	if c.policyChanged {
		c.track()
	}
	c.view = c.index.View()
	for _, cl := range c.clusters {
		if cl.changed {
			counts := c.view.Counts(cl.name)
			cl.endpoints = counts.Pods + counts.Nodes
			cl.changed = false
			c.changed = true
			c.dropBlank(cl)
		}
	}
	c.checkInSync()
	c.decide()
}

// dropBlank drops the state of a cluster of which nothing is known: what was
// said of it was that something is gone.
func (c *Core) dropBlank(cl *cluster) {
	if cl.local || cl.fact != nil || cl.hasStatus || cl.listed != 0 || cl.backlog != nil || !c.empty(cl) {
		return
	}
	c.drop(cl.name)
}

func (c *Core) drop(name string) {
	delete(c.clusters, name)
	c.order = slices.DeleteFunc(c.order, func(n string) bool { return n == name })
}
