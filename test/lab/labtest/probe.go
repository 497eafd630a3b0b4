package labtest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/overland-net/overland/test/lab/netprobe"
	"github.com/overland-net/overland/test/lab/ns"
)

const (
	// probeTimeout is how long a probe waits for its answer: much longer than
	// one takes, and no longer, because a probe that is meant to fail takes as
	// long.
	probeTimeout = 2 * time.Second
	// patientTimeout is for a probe that has to be answered and is not repeated:
	// a busy machine is no failure.
	patientTimeout = 10 * time.Second
	// eventually is how long Eventually repeats probes.
	eventually = 30 * time.Second
	// sourcesAtOnce is from how many places probes are sent at once.
	sourcesAtOnce = 8
	// targetsAtOnce is how many targets one place asks at once: a probe that is
	// dropped does nothing but wait.
	targetsAtOnce = 256
)

// Source is where probes are sent from.
type Source struct {
	name  string
	probe func(ctx context.Context, args []string) (Output, error)
}

// String names the place.
func (s Source) String() string { return s.name }

// FromPod sends from a pod that has a container of the image netprobe, through
// the API server's exec. Names are resolved as the pod does.
func FromPod(p *Pod) Source {
	return Source{name: "pod " + p.String(), probe: func(ctx context.Context, args []string) (Output, error) {
		for _, c := range p.Object.Spec.Containers {
			if path := c.Image[strings.LastIndexByte(c.Image, '/')+1:]; strings.HasPrefix(path, "netprobe") {
				return p.exec(ctx, c.Name, nil, append([]string{"/netprobe"}, args...))
			}
		}
		return Output{}, fmt.Errorf("%s has no container of the image netprobe", p)
	}}
}

// FromPodNetwork sends from the network namespace of any pod that is not on its
// node's, also while the API server is down. Targets have to be addresses.
func FromPodNetwork(p *Pod) Source {
	return Source{name: "network of " + p.String(), probe: func(ctx context.Context, args []string) (Output, error) {
		where, err := p.network(ctx)
		if err != nil {
			return Output{}, err
		}
		return p.Cluster.lab.netprobe(ctx, where, args)
	}}
}

// FromNode sends from a node, named CLUSTER/NODE, to addresses.
func (l *Lab) FromNode(path string) Source {
	return l.from("node "+path, strings.ReplaceAll(path, "/", "-"))
}

// FromControlPlane sends from a cluster's control plane, to addresses.
func (l *Lab) FromControlPlane(cluster string) Source {
	return l.from("control plane "+cluster, cluster+"-cp")
}

// FromOutside sends from the host that is in no cluster, to addresses.
func (l *Lab) FromOutside() Source { return l.from("outside", l.Topology.Outside.Namespace) }

func (l *Lab) from(name, namespace string) Source {
	return Source{name: name, probe: func(ctx context.Context, args []string) (Output, error) {
		where, err := l.Daemon.NetworkNamespace(namespace)
		if err != nil {
			return Output{}, err
		}
		return l.netprobe(ctx, where, args)
	}}
}

func (l *Lab) netprobe(ctx context.Context, where ns.Set, args []string) (Output, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(l.dir.Bin(), "netprobe"), args...)
	cmd.Dir = "/"
	return run(cmd, where)
}

// Target is what to ask: a scheme (tcp, udp, sctp or icmp), a host and a port,
// which icmp has none of, and options such as "size=60000".
func Target(scheme, host string, port int, options ...string) string {
	if port != 0 {
		host = net.JoinHostPort(host, strconv.Itoa(port))
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	target := scheme + "://" + host
	if len(options) > 0 {
		target += "?" + strings.Join(options, "&")
	}
	return target
}

// Ask sends all targets from one place at once and returns what became of each,
// in their order. A failed probe is a result.
func Ask(ctx context.Context, from Source, targets ...string) ([]netprobe.Result, error) {
	return ask(ctx, from, probeTimeout, targets)
}

// AskWithin is Ask with another time for each target's answer. Those that are not
// answered take as long, all of them together.
func AskWithin(ctx context.Context, from Source, timeout time.Duration, targets ...string) ([]netprobe.Result, error) {
	return ask(ctx, from, timeout, targets)
}

func ask(ctx context.Context, from Source, timeout time.Duration, targets []string) ([]netprobe.Result, error) {
	args := append([]string{"probe", "--timeout", timeout.String(), "--parallel", strconv.Itoa(targetsAtOnce)}, targets...)
	out, err := from.probe(ctx, args)
	if err != nil {
		return nil, fmt.Errorf("probe from %s: %w", from, err)
	}
	if out.Code != 0 {
		return nil, fmt.Errorf("probe from %s: %s", from, out)
	}
	results, err := netprobe.ParseResults(strings.NewReader(out.Stdout))
	if err == nil && len(results) != len(targets) {
		err = fmt.Errorf("%d results of %d probes", len(results), len(targets))
	}
	if err != nil {
		return nil, fmt.Errorf("probe from %s: %w", from, err)
	}
	return results, nil
}

// Want is what is expected of a probe: an answer, unless Kind or Fails is set.
type Want struct {
	// Kind is how the probe has to fail; Fails alone is in any way.
	Kind  netprobe.Kind
	Fails bool
	// Source, if valid, is the address that the server has to have seen.
	Source netip.Addr
	// Server, if not empty, is who has to have answered.
	Server string
	// Bytes, if not 0, is the size of the request as the server counted it.
	Bytes int
	// AtLeast, if not 0, is how long the answer must have taken.
	AtLeast time.Duration
}

// Probe is one probe and what is expected of it.
type Probe struct {
	From Source
	To   string // see Target
	Want Want
}

func (w Want) fails() bool { return w.Fails || w.Kind != "" }

// mismatch says in which way a result is not as wanted, or nothing.
func (w Want) mismatch(r netprobe.Result) string {
	took := time.Duration(r.Milliseconds * float64(time.Millisecond))
	switch {
	case w.fails() && r.OK:
		return fmt.Sprintf("expected %s, but %s answered (it saw %s)", cmp.Or(w.Kind, "a failure"), cmp.Or(r.Server, "it"), r.Source)
	case w.Kind != "" && r.Kind != w.Kind:
		return fmt.Sprintf("expected %s, got %s: %s", w.Kind, r.Kind, r.Error)
	case w.fails():
		return ""
	case !r.OK:
		return fmt.Sprintf("%s: %s", r.Kind, r.Error)
	case w.Source.IsValid() && r.Source.Addr() != w.Source:
		return fmt.Sprintf("the server saw %s, not %s", r.Source.Addr(), w.Source)
	case w.Server != "" && r.Server != w.Server:
		return fmt.Sprintf("%s answered, not %s", r.Server, w.Server)
	case w.Bytes != 0 && r.Bytes != w.Bytes:
		return fmt.Sprintf("%d bytes arrived, not %d", r.Bytes, w.Bytes)
	case took < w.AtLeast:
		return fmt.Sprintf("the answer took %s, less than %s", took, w.AtLeast)
	}
	return ""
}

// failure is a probe that was not as expected.
type failure struct {
	probe Probe
	why   string
}

// attempt sends all probes, those of one place at once, and tells which were
// not as expected. patience is how long to wait for an answer that has to come.
func attempt(ctx context.Context, probes []Probe, patience time.Duration) []failure {
	type group struct {
		from    string
		timeout time.Duration
	}
	groups := map[group][]int{}
	for i, p := range probes {
		g := group{p.From.name, patience}
		if p.Want.fails() {
			g.timeout = probeTimeout
		}
		groups[g] = append(groups[g], i)
	}
	why := make([]string, len(probes))
	var running errgroup.Group
	running.SetLimit(sourcesAtOnce)
	for g, indices := range groups {
		running.Go(func() error {
			targets := make([]string, len(indices))
			for k, i := range indices {
				targets[k] = probes[i].To
			}
			results, err := ask(ctx, probes[indices[0]].From, g.timeout, targets)
			for k, i := range indices {
				if err != nil {
					why[i] = err.Error()
					continue
				}
				why[i] = probes[i].Want.mismatch(results[k])
			}
			return nil
		})
	}
	_ = running.Wait() // the functions return no errors
	var failures []failure
	for i, p := range probes {
		if why[i] != "" {
			failures = append(failures, failure{p, why[i]})
		}
	}
	return failures
}

// Expect sends all probes at once and fails the test with a table of those that
// are not as expected.
func Expect(t testing.TB, probes ...Probe) {
	t.Helper()
	if failures := attempt(t.Context(), probes, patientTimeout); len(failures) > 0 {
		t.Errorf("%d of %d probes are not as expected:\n%s", len(failures), len(probes), table(failures))
	}
}

// Eventually is Expect for what takes effect after a while: probes that are not
// as expected are repeated, for half a minute.
func Eventually(t testing.TB, probes ...Probe) {
	t.Helper()
	deadline := time.Now().Add(eventually)
	left := probes
	for {
		failures := attempt(t.Context(), left, probeTimeout)
		if len(failures) == 0 {
			return
		}
		if time.Now().After(deadline) || t.Context().Err() != nil {
			t.Errorf("after %s, %d of %d probes are not as expected:\n%s", eventually, len(failures), len(probes), table(failures))
			return
		}
		left = nil
		for _, f := range failures {
			left = append(left, f.probe)
		}
		time.Sleep(pollInterval)
	}
}

func table(failures []failure) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range failures {
		// A builder takes every write.
		_, _ = fmt.Fprintf(w, "  %s\t→ %s\t%s\n", f.probe.From, f.probe.To, f.why)
	}
	_ = w.Flush() // as above
	return b.String()
}

// ServeOutside runs netprobe with the given arguments on the host outside,
// until the test ends.
func (l *Lab) ServeOutside(t testing.TB, args ...string) {
	t.Helper()
	where, err := l.Daemon.NetworkNamespace(l.Topology.Outside.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(l.dir.Bin(), "netprobe"), args...)
	cmd.Dir = "/"
	if err := where.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself, which its probes have told
		_ = cmd.Wait()         // as above
	})
}
