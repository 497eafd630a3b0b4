package plan

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

func canonicalText(expr string) string {
	s, err := selector.Parse(expr)
	if err != nil {
		return "?"
	}
	return s.String()
}

// TestRandomWorlds_4 lets worlds live for some steps and demands of each step that
// what is applied is what the oracle says, that a second plan writes nothing, that
// a failed write ends in the same, that who is not affected has nothing to do, and
// that the road of facts does not matter.
func TestRandomWorlds_4(t *testing.T) {
	worlds := 1000
	if testing.Short() {
		worlds = 300
	}
	const steps = 8
	var seen coverage = map[string]int{}
	for seed := range worlds {
		g := newGenerator(t, uint64(seed))
		for step := range steps {
			g.step(step, seen)
			if t.Failed() {
				t.Fatalf("seed %d step %d", seed, step)
			}
		}
	}
	for _, what := range wantCoverage() {
		if seen[what] == 0 {
			t.Errorf("no world had %s: the generator does not reach it", what)
		}
	}
	t.Logf("%d worlds: %v", worlds*steps, seen)
}

// coverage counts what the worlds had, so that the generator is known to reach it.
type coverage map[string]int

func wantCoverage() []string {
	out := []string{"parked", "published", "Serving", "PreferredElsewhere", "Unlisted", "Spare", "Withdrawn", "fault", "settling"}
	return append(out, ReasonExternalName, ReasonSelectorSet, ReasonInvalidExpression, ReasonAnnotationsDisagree,
		ReasonForeignEndpoints, ReasonNoBackingServices, ReasonNoMatchingPort, ReasonNoReadyEndpoints, ReasonPartlyStale, ReasonInSync)
}

type generator struct {
	*world
	r *rand.Rand
}

func newGenerator(t testing.TB, seed uint64) *generator {
	g := &generator{world: newWorld(t), r: rand.New(rand.NewPCG(seed, 1))}
	for _, name := range feds() {
		g.set(g.federated(name))
	}
	for _, cluster := range [...]string{west, canada, europe} {
		for range g.r.IntN(7) {
			g.set(podAt(cluster, redis, g.address(cluster)))
		}
		g.set(g.service(cluster, redis, "testdb"), g.slice(cluster, redis, "testdb"), g.slice(cluster, redis, "testdb"))
	}
	return g
}

func feds() []string { return []string{"fed-a", "fed-b"} }

func (g *generator) keys() []model.Key {
	var out []model.Key
	for _, name := range feds() {
		out = append(out, model.ServiceKey(west, redis, name))
	}
	return out
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (g *generator) step(n int, seen coverage) {
	affected := map[model.Key]bool{}
	everybody := n == 0
	if g.r.IntN(3) > 0 || n == 0 {
		for range 1 + g.r.IntN(3) {
			for _, k := range g.mutate() {
				affected[k] = true
			}
		}
	}
	if g.r.IntN(2) == 0 {
		g.timePasses()
		everybody = true
	}
	had := g.api.oracleReads(g.keys())
	before := g.api.clone()
	var results []Result
	for _, k := range g.keys() {
		r := g.plan(k)
		results = append(results, r)
		if !everybody && !affected[k] && len(r.Changes) > 0 {
			g.t.Errorf("%v was not affected, and has %s", k, describe(r.Changes))
		}
		g.api.apply(g.t, r.Changes)
		if again := g.plan(k); len(again.Changes) > 0 {
			g.t.Errorf("%v: a second plan writes %s", k, describe(again.Changes))
		}
		if !r.Due.IsZero() && !r.Due.After(g.now) {
			g.t.Errorf("%v is due at %v, which is not in the future", k, r.Due)
		}
	}
	after := g.api.oracleReads(g.keys())
	for i, k := range g.keys() {
		g.compare(k, g.oracle(k, had), after[k.String()], results[i], seen)
		g.fault(k, before, after[k.String()], len(results[i].Changes), seen)
	}
	g.otherRoad(before, results)
}

func (g *generator) compare(k model.Key, want wanted, got oldHave, r Result, seen coverage) {
	sort.Strings(want.published)
	sort.Strings(want.parked)
	for _, c := range []struct {
		what      string
		got, want []string
	}{
		{"published", got.lines(false), want.published},
		{"parked", got.lines(true), want.parked},
		{"endpoints", got.endpoints, want.endpoints},
	} {
		if diff := cmp.Diff(strings.Join(c.want, "\n"), strings.Join(c.got, "\n")); diff != "" {
			g.t.Errorf("%v: %s (-oracle +plan):\n%s", k, c.what, diff)
		}
		if len(c.got) > 0 {
			seen[c.what]++
		}
	}
	reason := ""
	if r.Condition != nil {
		reason = r.Condition.Reason
		seen[reason]++
	}
	if reason != want.reason {
		g.t.Errorf("%v: reason %s, the oracle says %s", k, reason, want.reason)
	}
	for _, c := range r.Report.Clusters {
		seen[c.State.String()]++
		if want.states[c.Name] != c.State {
			g.t.Errorf("%v: %s is %v, the oracle says %v", k, c.Name, c.State, want.states[c.Name])
		}
	}
	for _, s := range got.objects {
		if s.Annotations[AnnotationSufficient] != "" {
			seen["settling"]++
		}
	}
}

// fault makes each write of a plan fail once, and plans again.
func (g *generator) fault(k model.Key, before *fakeAPI, want oldHave, writes int, seen coverage) {
	live := g.api
	defer func() { g.api = live }()
	for n := 1; n <= writes; n++ {
		g.api = before.clone()
		g.api.fail = n
		for range 3 {
			g.api.apply(g.t, g.plan(k).Changes)
		}
		got := g.api.oracleReads([]model.Key{k})[k.String()]
		if a, b := fmt.Sprint(got.lines(false), got.lines(true), got.endpoints, got.preference, got.serving, got.since), fmt.Sprint(want.lines(false), want.lines(true), want.endpoints, want.preference, want.serving, want.since); a != b {
			g.t.Errorf("%v: after write %d of %d failed:\n%s\nwithout:\n%s", k, n, writes, a, b)
		}
		seen["fault"]++
	}
}

// otherRoad plans from facts that came on another road.
func (g *generator) otherRoad(before *fakeAPI, want []Result) {
	w := g.world.world()
	w.Facts = g.permuted(g.r)
	api := before.clone()
	for i, k := range g.keys() {
		got := Plan(w, k, api.have(k))
		if !reflect.DeepEqual(got, want[i]) {
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(want[i])
			g.t.Errorf("%v: on another road the plan is\n%s\nand was\n%s", k, a, b)
		}
		api.apply(g.t, got.Changes)
	}
}

func (g *generator) timePasses() {
	g.now = g.now.Add(pick(g.r, time.Second, 10*time.Second, 31*time.Second, 31*time.Second, 61*time.Second, 61*time.Second, 2*time.Hour))
	for i := range g.clusters[1:] {
		c := &g.clusters[i+1]
		if g.r.IntN(2) == 0 {
			c.InContact = !c.InContact
		}
		c.Listed = c.Listed && g.r.IntN(6) > 0 || c.InContact && g.r.IntN(2) == 0
		if c.InContact {
			c.LastContact = g.now
		}
		if g.r.IntN(8) == 0 {
			c.External = !c.External
		}
	}
}

// mutate changes one thing, and gives whom it affects.
func (g *generator) mutate() []model.Key {
	cluster := pick(g.r, west, canada, europe)
	name := pick(g.r, "testdb", "cache")
	namespace := pick(g.r, redis, redis, redis, elsewhere)
	switch g.r.IntN(18) {
	default:
		return g.flip(cluster)
	case 0, 1:
		return g.set(g.service(cluster, namespace, name))
	case 2:
		return g.gone(model.ServiceKey(cluster, namespace, name))
	case 3:
		return g.gone(model.EndpointSliceKey(cluster, namespace, name+pick(g.r, "-1", "-2")))
	case 4, 5, 6, 7, 8:
		return g.set(g.slice(cluster, namespace, name))
	case 9:
		return g.set(g.federated(pick(g.r, feds()...)))
	case 10:
		return g.pod(cluster)
	case 11:
		foreign := sliceOf(west, "foreign", "10.9.9.9")
		foreign.Service = pick(g.r, feds()...)
		foreign.ManagedBy = pick(g.r, "somebody", ManagedBy)
		if g.r.IntN(3) > 0 {
			return g.gone(foreign.Key)
		}
		return g.set(foreign)
	}
}

// flip makes all endpoints of a cluster ready, or none.
func (g *generator) flip(cluster string) (affected []model.Key) {
	to := pick(g.r, model.True, model.False)
	for _, name := range [...]string{"testdb-1", "testdb-2"} {
		if s := g.slices[model.EndpointSliceKey(cluster, redis, name)]; s != nil {
			now := *s
			now.Endpoints = slices.Clone(s.Endpoints)
			for i := range now.Endpoints {
				now.Endpoints[i].Ready = to
			}
			affected = append(affected, g.set(&now)...)
		}
	}
	return affected
}

// pod changes who owns an address.
func (g *generator) pod(cluster string) []model.Key {
	a := g.address(cluster)
	pod := podAt(cluster, pick(g.r, redis, redis, redis, elsewhere), a)
	if g.r.IntN(3) == 0 {
		pod.Addresses = append(pod.Addresses, podAt(cluster, redis, g.address(cluster)).Addresses...)
	}
	if g.r.IntN(4) == 0 {
		pod.Key = model.NodeKey(cluster, "node-"+pod.Key.Name)
	}
	old, _ := g.index.View().Endpoint(pod.Key)
	var affected []model.Key
	if g.r.IntN(3) == 0 {
		affected = g.gone(pod.Key)
	} else {
		affected = g.set(pod)
	}
	addresses := pod.Addresses
	if old != nil {
		addresses = append(slices.Clone(addresses), old.Addresses...)
	}
	for _, a := range addresses {
		affected = append(affected, g.facts.Naming(a)...)
	}
	return affected
}

// address is one of few, mostly of a cluster's own.
func (g *generator) address(cluster string) string {
	n := map[string]int{west: 0, canada: 1, europe: 2}[cluster]
	if g.r.IntN(8) == 0 {
		n = g.r.IntN(3)
	}
	if g.r.IntN(5) == 0 {
		return fmt.Sprintf("fd00:%d::%d", n, 1+g.r.IntN(4))
	}
	return fmt.Sprintf("10.%d.0.%d", n, 1+g.r.IntN(5))
}

func (g *generator) service(cluster, namespace, name string) *model.Service {
	labels := map[string]string{}
	if g.r.IntN(5) > 0 {
		labels["federation"] = "yes"
	}
	if g.r.IntN(3) == 0 {
		labels["tier"] = pick(g.r, "db", "web")
	}
	s := backing(cluster)
	s.Key = model.ServiceKey(cluster, namespace, name)
	s.Labels = model.NewLabels(labels)
	s.Created = int64(g.r.IntN(3))
	s.External = g.r.IntN(15) == 0
	if cluster == west && g.r.IntN(6) == 0 {
		s.ClusterIPs = podAt(canada, redis, g.address(canada)).Addresses
	}
	if g.r.IntN(15) == 0 {
		s.Annotations = map[string]string{model.AnnotationServiceSelectorTigera: "all()"}
	}
	return s
}

func (g *generator) federated(name string) *model.Service {
	texts := expressions()
	s := &model.Service{
		Key: model.ServiceKey(west, redis, name), UID: model.ParseUID("fed" + name), Annotations: map[string]string{},
		Ports: pick(g.r, []model.ServicePort{{Name: "redis", Protocol: model.TCP, Port: 1}}, []model.ServicePort{{Name: "redis", Protocol: model.TCP, Port: 1}},
			[]model.ServicePort{{Name: "redis", Protocol: model.TCP, Port: 1}, {Name: "stats", Protocol: model.UDP, Port: 2}},
			[]model.ServicePort{{Protocol: model.TCP, Port: 1}}, nil),
		Headless: g.r.IntN(3) == 0, PublishNotReady: g.r.IntN(6) == 0,
		Families:            pick(g.r, []uint8{4}, []uint8{4, 6}, []uint8{6, 4}, nil),
		TrafficDistribution: pick(g.r, "", "", "PreferClose", "PreferSameNode"),
		Selecting:           g.r.IntN(20) == 0, External: g.r.IntN(20) == 0,
	}
	s.Labels = model.NewLabels(pick(g.r, map[string]string{"team": "a"}, map[string]string{"federation": "yes"}))
	if g.r.IntN(12) > 0 {
		text := pick(g.r, texts[0].text, texts[1].text, texts[2].text, texts[3].text, texts[4].text, texts[g.r.IntN(len(texts))].text)
		s.Annotations[model.AnnotationServiceSelector] = text
		if g.r.IntN(5) == 0 {
			s.Annotations[model.AnnotationServiceSelectorTigera] = pick(g.r, text, texts[0].text, texts[1].text)
		}
	}
	if g.r.IntN(3) > 0 {
		s.Annotations[model.AnnotationPreference] = pick(g.r, "any", "local", "canada,local", "canada, europe", "europe,canada,west", "west")
	}
	if g.r.IntN(3) == 0 {
		s.Annotations[model.AnnotationMinReady] = pick(g.r, "1", "2", "2", "3", "0", "many")
	}
	if g.r.IntN(3) == 0 {
		s.Annotations[model.AnnotationSettle] = pick(g.r, "0s", "5s", "60s", "soon")
	}
	return s
}

// slice is a slice of any shape: few are malformed, since that hides the rest.
func (g *generator) slice(cluster, namespace, service string) *model.EndpointSlice {
	s := &model.EndpointSlice{
		Key: model.EndpointSliceKey(cluster, namespace, service+pick(g.r, "-1", "-2")), Service: service, ManagedBy: "controller",
		AddressType: pick(g.r, "IPv4", "IPv4", "IPv4", "IPv4", "IPv6", "IPv6", "IPv4", "IPv4", "FQDN"),
		Ports: pick(g.r, []model.EndpointPort{{Name: "redis", Protocol: "TCP", Port: 6379}}, []model.EndpointPort{{Name: "redis", Protocol: "TCP", Port: 6379}},
			[]model.EndpointPort{{Name: "redis", Protocol: "TCP", Port: 6379}},
			[]model.EndpointPort{{Name: "redis", Port: 6380, AppProtocol: "kubernetes.io/h2c"}, {Name: "stats", Protocol: "UDP", Port: 9}},
			[]model.EndpointPort{{Name: "stats", Protocol: "UDP", Port: 10}, {Name: "redis", Protocol: "UDP", Port: 11}},
			[]model.EndpointPort{{Protocol: "TCP", Port: 80}},
			[]model.EndpointPort{{Name: "redis", Protocol: "TCP"}},
			[]model.EndpointPort{{Name: "redis", Protocol: "TCP", Port: 70000}, {Name: "redis", Protocol: "TCP", Port: 6379}},
			[]model.EndpointPort{{Name: "redis", Protocol: "TCP", Port: 6379, AppProtocol: "a/b/c"}}, nil),
	}
	if g.r.IntN(20) == 0 {
		s.ManagedBy = ManagedBy
	}
	for range g.r.IntN(6) {
		a := g.address(cluster)
		if (s.AddressType == "IPv6") != strings.Contains(a, ":") && g.r.IntN(10) > 0 {
			continue
		}
		s.Endpoints = append(s.Endpoints, g.endpoint(a, namespace))
	}
	return s
}

func (g *generator) endpoint(a, namespace string) model.SliceEndpoint {
	tri := func() model.Tristate { return pick(g.r, model.True, model.True, model.False, model.Unset) }
	e := model.SliceEndpoint{
		Addresses: []string{a}, Ready: tri(), Serving: tri(), Terminating: pick(g.r, model.False, model.False, model.True, model.Unset),
		Hostname: pick(g.r, "", "", "redis-0", "redis-1"), Node: pick(g.r, "node-1", "node-2", ""), Zone: pick(g.r, "", "zone-1"),
	}
	if g.r.IntN(4) > 0 {
		e.Target = model.TargetRef{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("pod-%d", g.r.IntN(4)), UID: "u"}
	}
	switch g.r.IntN(30) {
	case 0:
		e.Addresses = pick(g.r, nil, []string{"10.1.0.1", "10.1.0.2"}, []string{"10.1.0.01"}, []string{"127.0.0.1"}, []string{"169.254.1.1"}, []string{"::ffff:10.1.0.1"}, []string{"example.org"})
	case 1:
		e.Hostname = pick(g.r, "Redis", "a.b", strings.Repeat("a", 64))
	case 2:
		e.Zone = pick(g.r, "zone 1", "-", strings.Repeat("z", 64))
	case 3:
		e.Node = pick(g.r, "Node", "a..b")
	case 4:
		e.Target.Namespace, e.Target.Kind, e.Target.Name = "other", "Pod", "x"
	}
	return e
}
