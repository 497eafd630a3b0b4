package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// thing is an endpoint as the specification speaks of it.
type thing struct {
	kind, cluster, namespace, account string
	labels, clusterLabels             map[string]string
	namespaceLabels                   map[string]string // nil: not known
}

func (x thing) subject() *selector.Subject {
	s := &selector.Subject{
		Labels: model.NewLabels(x.labels), Cluster: model.NewLabels(x.clusterLabels),
		ClusterName: x.cluster, Kind: model.KindNode,
	}
	if x.kind == "Pod" {
		s.Kind, s.NamespaceName, s.ServiceAccount = model.KindPod, x.namespace, x.account
		s.Namespace, s.NamespaceUnknown = model.NewLabels(x.namespaceLabels), x.namespaceLabels == nil
	}
	return s
}

// fulfils evaluates one requirement on labels.
func fulfils(r model.Requirement, labels map[string]string) bool {
	v, found := labels[r.Key]
	switch r.Operator {
	case model.In:
		return found && slices.Contains(r.Values, v)
	case model.NotIn:
		return !found || !slices.Contains(r.Values, v)
	case model.Exists:
		return found
	}
	return !found
}

// peerMeans is 2.2 to 2.6 in the words of the specification.
func peerMeans(local string, mesh bool, policyNamespace string, peer model.PolicyPeer, x thing) bool {
	reserved := map[string]string{model.KeyCluster: x.cluster, model.KeyKind: x.kind, model.KeyServiceAccount: x.account}
	for k, v := range x.clusterLabels {
		reserved[model.PrefixCluster+k] = v
	}
	anyCluster, wantsNode := mesh, false
	var inPods, inNamespaces model.LabelSelector
	if peer.Pods != nil {
		inPods = *peer.Pods
	}
	if peer.Namespaces != nil {
		inNamespaces = *peer.Namespaces
	}
	isClusterKey := func(key string) bool {
		return key == model.KeyCluster || strings.HasPrefix(key, model.PrefixCluster)
	}
	for _, r := range slices.Concat(inPods, inNamespaces) {
		anyCluster = anyCluster || isClusterKey(r.Key)
		wantsNode = wantsNode || r.Key == model.KeyKind && r.Operator == model.In && slices.Equal(r.Values, []string{"Node"})
	}
	if !anyCluster && x.cluster != local || wantsNode != (x.kind == "Node") || wantsNode && peer.Namespaces != nil {
		return false
	}
	if !wantsNode && peer.Namespaces == nil && x.namespace != policyNamespace {
		return false
	}
	for _, r := range inPods {
		switch {
		case isClusterKey(r.Key), r.Key == model.KeyKind, r.Key == model.KeyServiceAccount && !wantsNode:
			if !fulfils(r, reserved) {
				return false
			}
		case model.ReservedKey(r.Key) || !fulfils(r, x.labels):
			return false
		}
	}
	for _, r := range inNamespaces {
		labels := maps.Clone(x.namespaceLabels)
		if labels == nil {
			labels = map[string]string{}
		}
		labels[model.KeyNamespaceName] = x.namespace
		switch {
		case isClusterKey(r.Key):
			if !fulfils(r, reserved) {
				return false
			}
		case model.ReservedKey(r.Key) || !fulfils(r, labels):
			return false
		case x.namespaceLabels == nil && r.Key != model.KeyNamespaceName:
			return false // nothing is known of its labels
		}
	}
	return true
}

type chance struct{ *rand.Rand }

func (c chance) one(of ...string) string { return of[c.IntN(len(of))] }

func (c chance) selector(odd bool) *model.LabelSelector {
	if c.IntN(3) == 0 {
		return nil
	}
	s := model.LabelSelector{}
	for range c.IntN(4) {
		r := model.Requirement{Key: c.one("a", "b"), Operator: model.In + model.Operator(c.IntN(4))}
		values := []string{"x", "y"}
		switch c.IntN(12) {
		case 0, 1:
			r.Key, values = model.KeyCluster, []string{"west", "canada"}
		case 2:
			r.Key = model.PrefixCluster + "region"
		case 3:
			r.Key, values = model.KeyKind, []string{"Pod", "Node"}
		case 4:
			r.Key = model.KeyServiceAccount
		case 5:
			r.Key, values = model.KeyNamespaceName, []string{"shop", "redis"}
		case 6:
			if odd {
				r.Key = c.one(model.KeyNamespace, model.PrefixNamespace+"a", "x.overland.dev/y", "overland.dev/a")
			}
		}
		if r.Operator == model.In || r.Operator == model.NotIn {
			r.Values = values[:1+c.IntN(2)]
			if c.IntN(2) == 0 {
				r.Values = values[1:]
			}
		}
		s = append(s, r)
	}
	return &s
}

func (c chance) labels() map[string]string {
	m := map[string]string{}
	for _, k := range []string{"a", "b"} {
		if c.IntN(2) == 0 {
			m[k] = c.one("x", "y")
		}
	}
	return m
}

func (c chance) thing() thing {
	x := thing{kind: "Pod", cluster: c.one("west", "canada"), labels: c.labels(), clusterLabels: map[string]string{}}
	if c.IntN(2) == 0 {
		x.clusterLabels["region"] = c.one("x", "y")
	}
	if c.IntN(3) == 0 {
		x.kind = "Node"
		return x
	}
	x.namespace, x.account = c.one("shop", "redis"), c.one("x", "y")
	if c.IntN(4) > 0 {
		x.namespaceLabels = c.labels()
	}
	return x
}

func TestPeersMeanWhatTheSpecificationSays_2_2_to_2_6(t *testing.T) {
	matched := 0
	for seed := range uint64(30000) {
		c := chance{rand.New(rand.NewPCG(seed, 1))}
		peer := model.PolicyPeer{Pods: c.selector(true), Namespaces: c.selector(true)}
		if peer.Pods == nil && peer.Namespaces == nil {
			continue
		}
		cfg := Config{Cluster: "west", Mesh: c.IntN(2) == 0}
		p := policyIn("shop", "")
		ns := &model.Namespace{Key: model.NamespaceKey("west", "shop")}
		s, _, problems := cfg.Peer(p, ns, peer, "spec.ingress[0].from[0]")
		if s == selector.Never() && len(problems) == 0 {
			t.Fatalf("%+v matches nothing without a Problem", peer)
		}
		m := s.Compile()
		for range 20 {
			x := c.thing()
			want := peerMeans("west", cfg.Mesh, "shop", peer, x)
			if got := m.Matches(x.subject()); got != want {
				t.Fatalf("scope mesh %v, pods %v, namespaces %v: %s on %+v is %v", cfg.Mesh, peer.Pods, peer.Namespaces, s, x, got)
			}
			if want {
				matched++
			}
		}
	}
	if matched < 10000 {
		t.Errorf("only %d matches: the test tests little", matched)
	}
}

// world is facts, and what follows from them the slow way.
type world map[model.Key]model.Fact

type outcome struct {
	Active   []string
	Wanted   []string
	Selected map[string][]string
	Problems []model.Problem
}

func (w world) outcome(cfg Config, node string) outcome {
	o := outcome{Selected: map[string][]string{}}
	wanted := map[string]bool{}
	seen := map[model.Problem]bool{}
	for _, f := range w {
		p, ok := f.(*model.Policy)
		if !ok || p.Key.Cluster != cfg.Cluster {
			continue
		}
		subjects, problems := cfg.Subjects(p)
		for _, m := range p.Malformed {
			problems = append(problems, model.Problem{Kind: model.ProblemPolicy, Object: p.Key, Message: m})
		}
		name := p.Key.Namespace + "/" + p.Key.Name
		active, concerned := false, false
		for _, f := range w {
			e, ok := f.(*model.Endpoint)
			if !ok || e.Key.Kind != model.KindPod || e.Key.Cluster != cfg.Cluster || e.Node != node || e.Key.Namespace != p.Key.Namespace {
				continue
			}
			concerned = true
			x := selector.Subject{Labels: e.Labels, Cluster: cfg.ClusterLabels, ClusterName: cfg.Cluster, NamespaceName: e.Key.Namespace, ServiceAccount: e.ServiceAccount, Kind: model.KindPod}
			if subjects.Compile().Matches(&x) {
				active = true
				o.Selected[e.Key.String()] = append(o.Selected[e.Key.String()], name)
			}
		}
		if active {
			o.Active = append(o.Active, name)
			ns, _ := w[model.NamespaceKey(cfg.Cluster, p.Key.Namespace)].(*model.Namespace)
			problems = append(problems, wantedBy(cfg, p, ns, wanted)...)
		}
		for _, pr := range problems {
			if concerned {
				seen[pr] = true
			}
		}
	}
	slices.Sort(o.Active)
	o.Wanted = slices.Sorted(maps.Keys(wanted))
	o.Problems = slices.SortedFunc(maps.Keys(seen), compareProblems)
	for _, names := range o.Selected {
		slices.Sort(names)
	}
	return o
}

func wantedBy(cfg Config, p *model.Policy, ns *model.Namespace, wanted map[string]bool) []model.Problem {
	_, problems := cfg.MeshScope(p, ns)
	visit := func(isolates bool, rules []model.PolicyRule, field string) {
		for i, rule := range rules {
			for j, peer := range rule.Peers {
				s, ok, found := cfg.Peer(p, ns, peer, fmt.Sprintf(field, i, j))
				if isolates {
					problems = append(problems, found...)
				}
				if isolates && ok && !s.Compile().Impossible() {
					wanted[s.String()] = true
				}
			}
		}
	}
	visit(p.Ingress, p.IngressRules, "spec.ingress[%d].from[%d]")
	visit(p.Egress, p.EgressRules, "spec.egress[%d].to[%d]")
	return problems
}

func (s *Set) outcome(wanted map[string]bool) outcome {
	o := outcome{Active: names(s), Wanted: slices.Sorted(maps.Keys(wanted)), Selected: map[string][]string{}, Problems: s.Problems()}
	for _, l := range s.live {
		for _, pod := range l.pods {
			for p := range s.Selecting(pod.Key) {
				o.Selected[pod.Key.String()] = append(o.Selected[pod.Key.String()], p.Key.Namespace+"/"+p.Key.Name)
			}
		}
	}
	return o
}

func (c chance) change() model.Change {
	cluster, namespace := "west", c.one("n1", "n2", "n3")
	if c.IntN(15) == 0 {
		cluster = "canada"
	}
	var f model.Fact
	switch c.IntN(5) {
	case 0:
		f = &model.Namespace{Key: model.NamespaceKey(cluster, namespace), PeerScope: c.one("", "", "mesh", "local", "odd"), Labels: model.NewLabels(c.labels())}
	case 1, 2:
		f = c.policy(cluster, namespace)
	default:
		f = &model.Endpoint{
			Key: model.PodKey(cluster, namespace, c.one("p1", "p2", "p3")), Labels: model.NewLabels(c.labels()),
			ServiceAccount: c.one("x", "y"), Node: c.one("node-1", "node-1", "node-2"),
		}
	}
	if c.IntN(3) == 0 {
		return model.Gone(f.FactKey())
	}
	return model.Set(f)
}

func (c chance) policy(cluster, namespace string) *model.Policy {
	p := &model.Policy{
		Key:       model.PolicyKey(cluster, namespace, c.one("a", "b", "c", "d")),
		PeerScope: c.one("", "", "", "mesh", "local", "odd"), Ingress: c.IntN(3) > 0, Egress: c.IntN(2) > 0,
	}
	if s := c.selector(true); s != nil {
		p.Pods = *s
	}
	if c.IntN(10) == 0 {
		p.Malformed = []string{"spec.x: malformed"}
	}
	rules := func() (rules []model.PolicyRule) {
		for range c.IntN(3) {
			r := model.PolicyRule{AnyPort: true}
			for range c.IntN(3) {
				peer := model.PolicyPeer{Pods: c.selector(true), Namespaces: c.selector(false)}
				if c.IntN(5) == 0 {
					peer = model.PolicyPeer{Block: prefix("10.0.0.0/8")}
				}
				r.Peers = append(r.Peers, peer)
			}
			rules = append(rules, r)
		}
		return rules
	}
	p.IngressRules, p.EgressRules = rules(), rules()
	return p
}

// TestSetDependsOnPresentFactsOnly drives Sets along different roads to the
// same facts: as they came, permuted, with detours, and with Update at any time.
func TestSetDependsOnPresentFactsOnly(t *testing.T) {
	for seed := range uint64(600) {
		c := chance{rand.New(rand.NewPCG(seed, 2))}
		cfg := Config{
			Cluster: "west", ClusterLabels: model.NewLabels(map[string]string{"region": "x"}),
			Mesh: c.IntN(2) == 0, ScopeOverride: Override(c.IntN(3)),
		}
		road := make([]model.Change, c.IntN(60))
		w := world{}
		for i := range road {
			road[i] = c.change()
			if road[i].Value == nil {
				delete(w, road[i].Key)
			} else {
				w[road[i].Key] = road[i].Value
			}
		}
		want := w.outcome(cfg, "node-1")
		for name, road := range c.roads(road, w) {
			s := NewSet(cfg, "node-1")
			wanted := map[string]bool{}
			for _, ch := range road {
				s.Apply(ch)
				if c.IntN(4) == 0 {
					update(t, s, wanted)
				}
			}
			update(t, s, wanted)
			if diff := cmp.Diff(want, s.outcome(wanted)); diff != "" {
				t.Fatalf("seed %d, road %s: %s", seed, name, diff)
			}
			if track, untrack, _, _ := s.Update(); track != nil || untrack != nil {
				t.Fatalf("seed %d, road %s: a second Update gives %v, %v", seed, name, track, untrack)
			}
		}
	}
}

// roads lead to the facts of w.
func (c chance) roads(straight []model.Change, w world) map[string][]model.Change {
	var facts, detour, doubled []model.Change
	for _, k := range slices.SortedFunc(maps.Keys(w), compareKeys) {
		facts = append(facts, model.Set(w[k]))
	}
	c.Shuffle(len(facts), func(i, j int) { facts[i], facts[j] = facts[j], facts[i] })
	for _, ch := range facts {
		other := c.change()
		back := model.Gone(other.Key)
		if f, found := w[other.Key]; found {
			back = model.Set(f)
		}
		detour = append(detour, ch, other, back)
		doubled = append(doubled, ch, ch)
	}
	// What a detour brought back too early is still to come.
	detour = append(detour, facts...)
	split := append(slices.Clone(straight), straight...) // the second time over the first
	return map[string][]model.Change{"straight": straight, "permuted": facts, "detour": detour, "doubled": doubled, "split": split}
}

func update(t *testing.T, s *Set, wanted map[string]bool) {
	t.Helper()
	track, untrack, _, _ := s.Update()
	text := func(sels []selector.Selector) (texts []string) {
		for _, sel := range sels {
			texts = append(texts, sel.String())
		}
		if !slices.IsSorted(texts) {
			t.Fatalf("not sorted: %q", texts)
		}
		return texts
	}
	for _, sel := range text(track) {
		if wanted[sel] {
			t.Fatalf("%s is to be tracked twice", sel)
		}
		wanted[sel] = true
	}
	for _, sel := range text(untrack) {
		if !wanted[sel] {
			t.Fatalf("%s is to be untracked, but is not tracked", sel)
		}
		delete(wanted, sel)
	}
}
