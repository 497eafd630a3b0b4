package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Options say how two clusters are linked.
type Options struct {
	A, B   SideOptions
	OneWay bool // only A learns B
	Token  TokenOptions
	DryRun bool
	// SkipPreflight are the names of checks that may fail.
	SkipPreflight []string
	// Wait is how long to wait until the links are Ready; 0: not at all.
	Wait time.Duration
}

// Output is where people read what is done. Log may be the same as Out.
type Output struct {
	Out io.Writer // in a dry run: the manifests, nothing else
	Log io.Writer // preflight and progress
}

func (o Output) log(format string, args ...any) {
	// Who does not read the progress gets the link all the same.
	_, _ = fmt.Fprintf(o.Log, format+"\n", args...)
}

// ErrPreflight is wrapped by the error of Connect when a check has failed. Nothing
// has been changed then.
var ErrPreflight = errors.New("preflight failed")

// ErrNotReady is wrapped by the error of Connect when all is made, but a link is
// not Ready in time.
var ErrNotReady = errors.New("not Ready")

// Connect links cluster a with cluster b, both ways unless o.OneWay: then only a
// learns b. Repeated, it finishes what is unfinished and changes nothing else.
func Connect(ctx context.Context, a, b *Cluster, o Options, out Output) error {
	l, err := prepare(ctx, a, b, o)
	if err != nil {
		return err
	}
	results := Preflight(l.sides[0], l.sides[1], o.SkipPreflight)
	out.log("Preflight")
	for _, r := range results {
		out.log("  %s", r)
	}
	if failed(results) && !o.DryRun {
		return fmt.Errorf("%w: nothing has been changed. A check that is wrong about these clusters can be overruled with --skip-preflight=%s", ErrPreflight, failedNames(results))
	}
	if o.DryRun {
		return l.rehearse(ctx, o.Token, failed(results), out)
	}
	l.tellWidened(out)
	if err := l.survey(ctx); err != nil {
		return err
	}
	for _, h := range l.halves {
		if err := h.apply(ctx, o.Token, out); err != nil {
			return fmt.Errorf("%w\nWhat is made so far stays; run the same command again to finish", err)
		}
	}
	if o.Wait == 0 {
		return nil
	}
	return l.await(ctx, o.Wait, out)
}

// rehearse prints what would be made, and gives the errors at which Connect would
// stop.
func (l *link) rehearse(ctx context.Context, o TokenOptions, failed bool, out Output) error {
	if err := l.print(o, out); err != nil {
		return err
	}
	if failed {
		return fmt.Errorf("%w: connect would stop here", ErrPreflight)
	}
	if err := l.survey(ctx); err != nil {
		return fmt.Errorf("connect would stop here: %w", err)
	}
	return nil
}

func failedNames(results []Result) string {
	names := map[string]bool{}
	for _, r := range results {
		if r.Level == Failed {
			names[r.Check] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ",")
}

// link is what is to be done between two clusters.
type link struct {
	sides  [2]Side
	halves []half
}

// half is one direction, with the clusters that it is about.
type half struct {
	Direction
	learner, source *Cluster
	// makesNamespace: the agent's namespace may be missing on the source.
	makesNamespace bool
}

// prepare gathers the facts of both clusters, decides names and ranges, and lets
// nodes try the other's API server.
func prepare(ctx context.Context, a, b *Cluster, o Options) (*link, error) {
	clusters, given := [2]*Cluster{a, b}, [2]SideOptions{o.A, o.B}
	var facts [2]Facts
	group, gathering := errgroup.WithContext(ctx)
	for i := range clusters {
		group.Go(func() (err error) {
			facts[i], err = Gather(gathering, clusters[i])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	l := &link{}
	for i := range clusters {
		r, err := ranges(facts[i], Ranges{Pods: given[i].Pods, Nodes: given[i].Nodes})
		if err != nil {
			return nil, fmt.Errorf("context %q: %w", clusters[i].Context, err)
		}
		l.sides[i] = Side{Facts: facts[i], Name: facts[i].Name, Ranges: r, Learns: i == 0 || !o.OneWay}
		if given[i].Name != "" {
			l.sides[i].Name = given[i].Name
		}
	}
	for i := range clusters {
		if !l.sides[i].Learns {
			continue
		}
		other := 1 - i
		d, err := direction(ctx, l.sides[i], l.sides[other], clusters[other], given[other])
		if err != nil {
			return nil, err
		}
		l.halves = append(l.halves, half{d, clusters[i], clusters[other], !l.sides[other].Learns})
	}
	l.probe(ctx)
	return l, nil
}

// probe lets the nodes of each learner try the other's API server, all at once:
// where packets are dropped, each takes its time.
func (l *link) probe(ctx context.Context) {
	var group sync.WaitGroup
	for i, h := range l.halves {
		group.Go(func() {
			probes := Probe(ctx, h.learner, l.sides[i].Agents, h.Server, h.TLSServerName, h.CA)
			l.sides[i].Probes = &probes
		})
	}
	group.Wait()
}

// direction decides how the learner's nodes reach the source's API server.
func direction(ctx context.Context, learner, from Side, c *Cluster, given SideOptions) (Direction, error) {
	d := Direction{
		Learner: learner.Name, Source: from.Name, Server: c.Server, TLSServerName: c.TLSServerName, CA: c.CA,
		Ranges: from.Ranges, Labels: from.Config.ClusterLabels,
	}
	if given.Server != "" {
		// Another address: a name that the context's certificate was checked for
		// need not be right for it.
		d.Server, d.TLSServerName = given.Server, ""
	}
	if given.TLSServerName != "" {
		d.TLSServerName = given.TLSServerName
	}
	if len(given.CA) > 0 {
		d.CA = given.CA
	}
	if len(d.CA) > 0 {
		return d, nil
	}
	// A context may rely on the CAs of the person's machine; agents take none but
	// the one in the kubeconfig. Every cluster shows its own to its pods.
	root, err := c.Kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
	if err != nil {
		return d, fmt.Errorf("context %q has no certificate authority, and ConfigMap kube-system/kube-root-ca.crt cannot be read (give --ca-a or --ca-b): %w", c.Context, err)
	}
	d.CA = []byte(root.Data["ca.crt"])
	return d, nil
}

// survey makes sure that nothing is in the way, before anything is changed.
func (l *link) survey(ctx context.Context) error {
	var problems []error
	for _, h := range l.halves {
		remote, err := h.remoteCluster()
		if err != nil {
			return err
		}
		on := map[*Cluster][]object{
			h.source:  append(h.account(), h.token(h.tokenNames()[0]), h.token(h.tokenNames()[1])),
			h.learner: {&corev1.Secret{ObjectMeta: marks(h.kubeconfigName(), Namespace, h.Source)}, remote},
		}
		for _, c := range []*Cluster{h.source, h.learner} {
			peer := h.Learner
			if c == h.learner {
				peer = h.Source
			}
			for _, o := range on[c] {
				if _, err := c.mine(ctx, o, peer); err != nil {
					problems = append(problems, err)
				}
			}
		}
	}
	return errors.Join(problems...)
}

// apply makes one half of the link: first what the source grants, then what the
// learner does with it. Each step can be repeated.
func (h half) apply(ctx context.Context, o TokenOptions, out Output) error {
	out.log("%s learns %s", h.Learner, h.Source)
	granted := h.account()
	if h.makesNamespace {
		granted = append([]object{h.namespace()}, granted...)
	}
	for _, object := range granted {
		if err := h.put(ctx, h.source, object, h.Learner, out); err != nil {
			return err
		}
	}
	token, superseded, err := h.findToken(ctx, o, out)
	if err != nil {
		return err
	}
	secret, err := h.kubeconfig(token)
	if err != nil {
		return err
	}
	remote, err := h.remoteCluster()
	if err != nil {
		return err
	}
	for _, object := range []object{secret, remote} {
		if err := h.put(ctx, h.learner, object, h.Source, out); err != nil {
			return err
		}
	}
	// Only now: until here the learner may use them.
	for _, name := range superseded {
		if err := h.drop(ctx, h.source, h.token(name), h.Learner, out); err != nil {
			return err
		}
	}
	return nil
}

func (h half) put(ctx context.Context, c *Cluster, o object, peer string, out Output) error {
	result, kept, err := c.apply(ctx, o, peer)
	if err != nil {
		return fmt.Errorf("context %s: %w", c.Context, err)
	}
	out.log("  %-9s  %s in %s", result, describe(o), h.nameOf(c))
	if kept != "" {
		out.log("  warning    %s", kept)
	}
	return nil
}

// drop removes a Secret that is not needed any more.
func (h half) drop(ctx context.Context, c *Cluster, o object, peer string, out Output) error {
	gone, err := c.remove(ctx, o, peer)
	if err != nil {
		return fmt.Errorf("context %s: %w", c.Context, err)
	}
	if gone == removed {
		out.log("  %-9s  %s in %s", gone, describe(o), h.nameOf(c))
	}
	return nil
}

func (h half) nameOf(c *Cluster) string {
	if c == h.learner {
		return h.Learner
	}
	return h.Source
}

// tellWidened lists the policies that the link widens.
func (l *link) tellWidened(out Output) {
	for i, h := range l.halves {
		for _, w := range Widened(l.learning(i).Facts, h.Source, h.Labels) {
			out.log("  widens     NetworkPolicy %s/%s in %s: %s", w.Namespace, w.Name, h.Learner, w.Why)
		}
	}
}

// learning is the side that learns in the half of that number.
func (l *link) learning(half int) Side { return l.sides[half] }
