package equivalence

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/test/worlds"
)

// The environment variables that repeat a run, and make it shorter or longer.
const (
	seedVariable  = "OVERLAND_SEED"
	countVariable = "OVERLAND_WORLDS"
)

// defaultWorlds is how many random worlds an ordinary run looks at.
const defaultWorlds = 100_000

// probesAWorld is how many connections are tried in each.
const probesAWorld = 12

// TestMain lets garbage be collected less often: worlds are small, and many.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: expected a number", variable, text)
	}
	return n
}

// firstSeed is another one in each run, unless the environment says which.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	seed := number(t, seedVariable, rand.Uint64()>>20)
	t.Logf("%s=%d repeats this run", seedVariable, seed)
	return seed
}

// count is how many worlds a test looks at that wants one of each fraction of
// those of an ordinary run.
func count(t *testing.T, fraction uint64) uint64 {
	t.Helper()
	return max(1, number(t, countVariable, defaultWorlds/slowdown)/fraction)
}

// place is a node of a world.
type place struct{ cluster, node string }

// placeOf picks the node from which a world is looked at.
func placeOf(w worlds.World, r *rand.Rand) place {
	c := &w.Clusters[r.IntN(len(w.Clusters))]
	return place{c.Name, c.Nodes[r.IntN(len(c.Nodes))].Name}
}

// finding is a disagreement.
type finding struct {
	probe worlds.Probe
	text  string
}

// judged is a state, and what it is in rules.
type judged struct {
	state   *desired.State
	program *iptables.Program
}

// judgedBy is what the agent of a place makes of a world, checked for itself.
func judgedBy(w, seen worlds.World, at place) (judged, *finding) {
	s, err := stateOf(w, seen, at)
	if err != nil {
		return judged{}, &finding{text: err.Error()}
	}
	return judge(s)
}

func judge(s *desired.State) (judged, *finding) {
	if err := s.Validate(); err != nil {
		return judged{}, &finding{text: "the state is not valid: " + err.Error()}
	}
	j := judged{s, iptables.Compile(s, iptables.Config{IPv6: true})}
	if len(j.program.Problems) > 0 {
		return judged{}, &finding{text: fmt.Sprintf("rules cannot say the state: %v", j.program.Problems)}
	}
	return j, nil
}

// compare tries one probe: the oracle's answer is the truth, and the rest is what
// the agent of the place has made of the world. It tells whether the probe passes.
func compare(w worlds.World, v view, j judged, p worlds.Probe) (allowed bool, found *finding) {
	flow, from, to := v.flow(p)
	answer := worlds.Allowed(w, p)
	want := allowedAt(answer, from, to)
	differ := func(who string, f desired.Flow, path any) *finding {
		return &finding{p, fmt.Sprintf("%s\nat %s/%s: the oracle says %v (egress %v, ingress %v: %s)\n%s of %+v does not: %+v",
			p, v.cluster, v.node, want, answer.Egress, answer.Ingress, answer.Reason, who, f, path)}
	}
	if got := j.state.Verdict(flow); got.Allowed != want {
		return want, differ("Verdict", flow, got)
	}
	if path := j.program.Trace(iptables.Packet{Flow: flow}); path.Allowed != want {
		return want, differ("Trace", flow, path)
	}
	// A reply whose connection has not been judged in this generation passes if
	// the connection does. The node's own replies are no concern of ours.
	if path := j.program.Trace(iptables.Packet{Flow: flow, Reply: true}); path.Allowed != (want || flow.To.Node) {
		return want, differ("Trace of a reply", flow, path)
	}
	if path := j.program.Trace(iptables.Packet{Flow: flow, Current: true}); !path.Allowed && !flow.To.Node {
		return want, differ("Trace of a connection that has been judged", flow, path)
	}
	if from && flow.To.Interface != flow.From.Interface {
		// The same from an address that is not the pod's own: never (2.14).
		want, flow.Src = false, flow.Dst
		if got := j.state.Verdict(flow); got.Allowed {
			return true, differ("Verdict", flow, got)
		}
		if path := j.program.Trace(iptables.Packet{Flow: flow, Current: true}); path.Allowed {
			return true, differ("Trace", flow, path)
		}
		return allowedAt(answer, from, to), nil
	}
	return want, nil
}

// score counts what was tried.
type score struct{ probes, allowed int }

// look compares in one world, as the agent of a place is told it: seen is the
// world itself, except where a test breaks something on purpose.
func look(w, seen worlds.World, at place, seed uint64, probes int) (s score, found *finding) {
	j, found := judgedBy(w, seen, at)
	if found != nil {
		return s, found
	}
	return probe(w, at, j, seed, probes)
}

func probe(w worlds.World, at place, j judged, seed uint64, probes int) (s score, found *finding) {
	v := viewOf(w, at)
	flows := worlds.FlowsOf(w, seed, at.cluster, at.node)
	for range probes {
		p, ok := flows.Next()
		if !ok {
			break
		}
		allowed, found := compare(w, v, j, p)
		if found != nil {
			return s, found
		}
		s.probes++
		if allowed {
			s.allowed++
		}
	}
	return s, nil
}

// shrunk is the report of a finding, with the smallest world that has it.
func shrunk(w worlds.World, at place, f *finding) string {
	aboutProbe := f.probe.From.Addr.IsValid()
	still := func(v worlds.World) *finding {
		c := v.Cluster(at.cluster)
		if c == nil || c.Node(at.node) == nil || aboutProbe && !v.Has(f.probe) {
			return nil
		}
		j, found := judgedBy(v, v, at)
		if found != nil || !aboutProbe {
			return found
		}
		_, found = compare(v, viewOf(v, at), j, f.probe)
		return found
	}
	w = worlds.Shrink(w, func(v worlds.World) bool { return still(v) != nil })
	text := f.text
	if last := still(w); last != nil {
		text = last.text
	}
	b := strings.Builder{}
	fmt.Fprintf(&b, "%s\n\n%s", text, w)
	if s, err := stateOf(w, w, at); err == nil {
		fmt.Fprintf(&b, "\nthe state of %s/%s:\n%s", at.cluster, at.node, s.Text())
	}
	return b.String()
}

// inParallel calls f with each number below n, until one call is false.
func inParallel(n uint64, f func(i uint64) bool) {
	var next atomic.Uint64
	var stop atomic.Bool
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for !stop.Load() {
				i := next.Add(1) - 1
				if i >= n {
					return
				}
				if !f(i) {
					stop.Store(true)
				}
			}
		})
	}
	all.Wait()
}

func TestOracleVerdictAndRulesAgreeInRandomWorlds_2(t *testing.T) {
	first, n := firstSeed(t), count(t, 1)
	var tried, allowed atomic.Int64
	inParallel(n, func(i uint64) bool {
		seed := first + i
		w := worlds.Random(seed, worlds.Small())
		at := placeOf(w, rand.New(rand.NewPCG(seed, 1)))
		s, f := look(w, w, at, seed, probesAWorld)
		tried.Add(int64(s.probes))
		allowed.Add(int64(s.allowed))
		if f != nil {
			t.Errorf("world %d: %s", seed, shrunk(w, at, f))
		}
		return f == nil
	})
	t.Logf("%d worlds, %d probes, %d of them allowed", n, tried.Load(), allowed.Load())
}
