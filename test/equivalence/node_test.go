package equivalence

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
	"github.com/overland-net/overland/test/worlds"
)

// agent is what makes a node's state of facts, as the agent does.
type agent struct {
	cluster, node string
	own           worlds.Agent
	index         *index.Index
	set           *policy.Set
	links         map[string]link
	extra         policy.NodeFacts // beside what the world says
	gen           uint64
	state         *desired.State
}

// link is the interface of a pod that is there. Another pod of the same name has
// another one.
type link struct {
	index int
	uid   string
}

func newAgent(c *worlds.Cluster, node string) (*agent, error) {
	override, err := policy.ParseOverride(c.Agent.ScopeOverride)
	if err != nil {
		return nil, err
	}
	cfg := policy.Config{Cluster: c.Name, ClusterLabels: model.NewLabels(c.Labels), Mesh: c.Agent.Mesh, ScopeOverride: override}
	return &agent{
		cluster: c.Name, node: node, own: c.Agent, links: map[string]link{}, extra: policy.NodeFacts{Protected: true},
		index: index.New(), set: policy.NewSet(cfg, node),
	}, nil
}

// stateOf is the state of a node in a world, made at once. What the agent learns
// from API servers is seen: the world itself, except where a test breaks
// something on purpose. What the kernel says is always true.
func stateOf(w, seen worlds.World, at place) (*desired.State, error) {
	a, err := newAgent(seen.Cluster(at.cluster), at.node)
	if err != nil {
		return nil, err
	}
	changes, err := worlds.Facts(seen, at.cluster)
	if err != nil {
		return nil, err
	}
	return a.learn(w, changes), nil
}

// learn takes what has changed; the world is what is true then, and that of
// which the node's links are made.
func (a *agent) learn(w worlds.World, changes []model.Change) *desired.State {
	for _, ch := range changes {
		if ch.Key.Kind != model.KindPolicy {
			a.index.Apply(ch)
		}
		if ch.Key.Cluster == a.cluster {
			a.set.Apply(ch)
		}
	}
	a.set.Node(a.facts(w))
	track, untrack, trackPorts, untrackPorts := a.set.Update()
	for _, s := range track {
		a.index.Track(s)
	}
	for _, q := range trackPorts {
		a.index.TrackPorts(q)
	}
	view := a.index.View()
	a.gen++
	a.state = a.set.State(a.gen, view, a.index.TakeReleased())
	for _, s := range untrack {
		a.index.Untrack(s)
	}
	for _, q := range untrackPorts {
		a.index.UntrackPorts(q)
	}
	return a.state
}

func (a *agent) facts(w worlds.World) policy.NodeFacts {
	facts := a.extra
	facts.OwnNodeEgress = a.own.OwnNodeEgress
	facts.Interfaces = slices.Clone(a.extra.Interfaces)
	for _, p := range podsOn(w, a.cluster, a.node) {
		name := policy.InterfaceName(p.Namespace, p.Name)
		l, known := a.links[name]
		if !known || l.uid != string(p.UID) {
			l = link{len(a.links) + 10*int(a.gen) + 2, string(p.UID)}
			a.links[name] = l
		}
		addrs := w.Routed(a.cluster, p)
		slices.SortFunc(addrs, netip.Addr.Compare)
		facts.Interfaces = append(facts.Interfaces, model.Interface{Name: name, Index: l.index, Addrs: addrs})
	}
	slices.SortFunc(facts.Interfaces, func(a, b model.Interface) int { return cmp.Compare(a.Name, b.Name) })
	return facts
}

// podsOn are the pods that have an interface on a node.
func podsOn(w worlds.World, cluster, node string) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, p := range w.Cluster(cluster).Pods {
		if p.Spec.NodeName == node && worlds.Live(p) {
			pods = append(pods, p)
		}
	}
	return pods
}

// view is a node of a world, with what is asked of it for each probe.
type view struct {
	place
	addrs []netip.Addr // its own
	pods  []podAt
}

// podAt is a pod of the node.
type podAt struct {
	*corev1.Pod
	iface  string
	routed []netip.Addr
}

func viewOf(w worlds.World, at place) view {
	v := view{place: at}
	if n := w.Cluster(at.cluster).Node(at.node); n != nil {
		v.addrs = worlds.NodeAddrs(n)
	}
	for _, p := range podsOn(w, at.cluster, at.node) {
		v.pods = append(v.pods, podAt{p, policy.InterfaceName(p.Namespace, p.Name), w.Routed(at.cluster, p)})
	}
	return v
}

// flow is a probe as the node sees it, and which of its ends are pods there.
func (v view) flow(p worlds.Probe) (f desired.Flow, from, to bool) {
	f = desired.Flow{Src: p.From.Addr, Dst: p.To.Addr, Protocol: p.Protocol, DstPort: p.Port}
	if p.Port != 0 {
		f.SrcPort = 40000
	}
	f.From.Node = p.From.Kind == worlds.Node && p.From.Cluster == v.cluster && p.From.Name == v.node
	f.To.Node = slices.Contains(v.addrs, p.To.Addr)
	for _, pod := range v.pods {
		if p.From.Kind == worlds.Pod && p.From.Cluster == v.cluster && p.From.Namespace == pod.Namespace && p.From.Name == pod.Name {
			f.From.Interface, from = pod.iface, true
		}
		// Where a packet goes is decided by its address.
		if slices.Contains(pod.routed, p.To.Addr) {
			f.To.Interface, to = pod.iface, true
		}
	}
	return f, from, to
}

// allowedAt is what the oracle says of a probe where it crosses a node.
func allowedAt(answer worlds.Answer, from, to bool) bool {
	return (!from || answer.Egress) && (!to || answer.Ingress)
}
