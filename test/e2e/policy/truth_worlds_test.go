package policy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/netprobe"
	"github.com/overland-net/overland/test/lab/topology"
	"github.com/overland-net/overland/test/worlds"
)

const (
	// worldsVariable is how many worlds TestPolicyInWorldsMadeUpAtRandom tries,
	// seedVariable where it begins. The same seeds give the same objects.
	worldsVariable, seedVariable = "OVERLAND_E2E_WORLDS", "OVERLAND_E2E_SEED"
	// podsFor is how many worlds have the same pods, but for a few that come and
	// go: to make all of them anew takes longest.
	podsFor = 5
	// changes is how many things are changed from one world to the next.
	changes = 8
	// shrinkTime is how long to look for a smaller world that is wrong too.
	shrinkTime = 90 * time.Second
)

func number(t *testing.T, variable string, byDefault uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return byDefault
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("$%s: %v", variable, err)
	}
	return n
}

// Every pod asks every other one, at every port, by every protocol and in every
// family, and finds what the specification says.
func TestPolicyInWorldsMadeUpAtRandom(t *testing.T) {
	count, seed := number(t, worldsVariable, 20), number(t, seedVariable, 1)
	g := newGlobe(t)
	passed, dropped := 0, 0
	for i := range count {
		began := time.Now()
		if i%podsFor == 0 {
			g.begin(seed + i)
		}
		g.change(changes)
		probes := g.probes()
		denied := 0
		for _, p := range probes {
			if p.want != "" {
				denied++
			}
		}
		made := time.Now()
		bad, err := disagreements(t.Context(), probes)
		if err != nil {
			t.Fatal(err)
		}
		if len(bad) > 0 {
			g.fail(bad)
		}
		t.Logf("world %d: %d probes, %d dropped; made in %.1f s, as it should be after %.1f s", i, len(probes), denied,
			made.Sub(began).Seconds(), time.Since(made).Seconds())
		passed, dropped = passed+len(probes)-denied, dropped+denied
	}
	t.Logf("%d worlds from seed %d: %d probes passed, %d were dropped", count, seed, passed, dropped)
	if passed < dropped/20 || dropped < passed/20 {
		t.Error("the worlds are too much alike to prove anything")
	}
}

// globe is a world that both clusters of the lab have.
type globe struct {
	t       *testing.T
	r       *rand.Rand
	size    worlds.Size
	world   worlds.World
	history []string // since the pods were made
	pods    map[string]*labtest.Pod
	own     map[string]map[string]map[string]string // labels of nodes, by cluster and name, less those of worlds
}

func newGlobe(t *testing.T) *globe {
	t.Helper()
	size := worlds.Lab(worldPrefix)
	size.Pods, size.Policies = 8, 8
	g := &globe{t: t, size: size, own: map[string]map[string]map[string]string{}}
	// Two ports of one name are meant, and warned of each time.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	for _, c := range lab.Clusters {
		for _, name := range []string{"x", "y", "z"} {
			ensureNamespace(t, c, worldPrefix+name)
		}
		list, err := c.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		g.own[c.Name] = map[string]map[string]string{}
		for _, n := range list.Items {
			g.own[c.Name][n.Name] = n.Labels
		}
		t.Cleanup(func() { g.leave(c) })
	}
	return g
}

// leave takes the world away.
func (g *globe) leave(c *labtest.Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), labtest.WaitTimeout)
	defer cancel()
	if err := clearWorld(c); err != nil {
		g.t.Error(err)
	}
	var l worlds.List
	for name := range g.own[c.Name] {
		l.Nodes = append(l.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	todo, err := stepsOfLabels(ctx, c, l, g.own[c.Name])
	for _, s := range todo {
		err = errors.Join(err, s.do(ctx))
	}
	if err != nil {
		g.t.Error(err)
	}
}

// begin makes another world.
func (g *globe) begin(seed uint64) {
	g.t.Helper()
	g.r = rand.New(rand.NewPCG(seed, 0))
	g.world = worlds.Random(seed, g.size)
	g.history = []string{fmt.Sprintf("world of seed %d", seed)}
	for _, c := range lab.Clusters {
		if err := clearWorld(c); err != nil {
			g.t.Fatal(err)
		}
	}
	g.become(g.world)
}

// change changes a few things, whose effects meet in any order.
func (g *globe) change(count int) {
	g.t.Helper()
	w := g.world
	for range count {
		var what string
		w, what = worlds.Mutate(w, g.r, g.size)
		g.history = append(g.history, what)
	}
	g.become(w)
}

// become makes the clusters what a world says, and the world what they are then.
func (g *globe) become(w worlds.World) {
	g.t.Helper()
	var todo []step
	for _, c := range lab.Clusters {
		list, err := g.steps(c, w)
		if err != nil {
			g.t.Fatal(err)
		}
		todo = append(todo, list...)
	}
	g.r.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	// What has to come after another comes later.
	slices.SortStableFunc(todo, func(a, b step) int { return a.after - b.after })
	for _, s := range todo {
		if err := s.do(g.t.Context()); err != nil {
			g.t.Fatalf("%s: %v\n%s", s.what, err, strings.Join(g.history, "\n"))
		}
	}
	g.pods = map[string]*labtest.Pod{}
	for _, c := range lab.Clusters {
		w = g.observe(c, w)
	}
	g.world = w
}

// probes are all that there are, each with what the oracle says: from every pod,
// and a few from every node and from outside.
func (g *globe) probes() []probe {
	var all []probe
	for _, p := range g.all() {
		all = append(all, g.probe(p))
	}
	return all
}

func (g *globe) all() []worlds.Probe {
	all := worlds.Probes(g.world, ofWorlds)
	var pods []worlds.End
	for _, p := range all {
		if !slices.Contains(pods, p.To) {
			pods = append(pods, p.To)
		}
	}
	others := []worlds.End{}
	for _, a := range topology.Addrs(lab.Topology.Outside.Addresses) {
		others = append(others, worlds.End{Kind: worlds.Outside, Addr: a})
	}
	for _, c := range lab.Clusters {
		for _, n := range c.Nodes {
			for _, a := range topology.Addrs(n.Addresses) {
				others = append(others, worlds.End{Kind: worlds.Node, Cluster: c.Name, Name: n.Name, Addr: a})
			}
		}
	}
	for _, to := range pods {
		for _, from := range others {
			if from.Addr.Is4() == to.Addr.Is4() {
				all = append(all, worlds.Probe{From: from, To: to, Protocol: model.TCP, Port: 80}, worlds.Probe{From: from, To: to, Protocol: model.UDP, Port: 8080})
			}
		}
	}
	return all
}

func (g *globe) probe(p worlds.Probe) probe {
	answer := worlds.Allowed(g.world, p)
	v := probe{
		from: g.source(p.From),
		to:   labtest.Target(strings.ToLower(p.Protocol.String()), p.To.Addr.String(), int(p.Port)),
		text: p.String() + " [" + answer.Reason + "]",
	}
	if !answer.Egress || !answer.Ingress {
		v.want = netprobe.KindTimeout
	}
	return v
}

func (g *globe) source(e worlds.End) labtest.Source {
	switch e.Kind {
	case worlds.Pod:
		return labtest.FromPodNetwork(g.pods[e.Cluster+"/"+e.Namespace+"/"+e.Name])
	case worlds.Node:
		return lab.FromNode(e.Cluster + "/" + e.Name)
	}
	return lab.FromOutside()
}

// fail tells of a world that is wrong, as small as it is found in a while.
func (g *globe) fail(bad []wrong) {
	g.t.Helper()
	g.t.Errorf("%d probes disagree with the oracle:\n%s\nwhat was done:\n  %s", len(bad), lines(bad), strings.Join(g.history, "\n  "))
	whole := g.world
	deadline := time.Now().Add(shrinkTime)
	var last []wrong
	small := worlds.Shrink(whole, func(w worlds.World) bool {
		if !otherPoliciesOnly(whole, w) || time.Now().After(deadline) || g.t.Context().Err() != nil {
			return false
		}
		g.become(w)
		left, err := send(g.t.Context(), answerTime, g.those(bad))
		for try := 0; try < 5 && err == nil && len(left) > 0; try++ {
			time.Sleep(300 * time.Millisecond)
			left, err = send(g.t.Context(), answerTime, g.those(left))
		}
		if err == nil && len(left) > 0 {
			last = left
			return true
		}
		return false
	})
	g.t.Fatalf("it is so in this world too:\n%s%s", small, lines(last))
}

// otherPoliciesOnly: pods that are gone do not come back with their addresses.
func otherPoliciesOnly(whole, w worlds.World) bool {
	if len(whole.Clusters) != len(w.Clusters) {
		return false
	}
	for i, c := range w.Clusters {
		was := whole.Clusters[i]
		if !slices.Equal(c.Pods, was.Pods) || !slices.Equal(c.Namespaces, was.Namespaces) || !slices.Equal(c.Nodes, was.Nodes) ||
			len(c.Labels) != len(was.Labels) || c.Agent != was.Agent {
			return false
		}
	}
	return true
}

// those are the same probes in the world that is now.
func (g *globe) those(bad []wrong) []probe {
	var all []probe
	for _, w := range bad {
		name, _, _ := strings.Cut(w.text, " [")
		for _, p := range g.all() {
			if p.String() == name {
				all = append(all, g.probe(p))
			}
		}
	}
	return all
}
