package source

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/overland-net/overland/pkg/model"
)

// The rate at which events of a remote cluster are taken: with a change of a pod
// at about 20 µs, a cluster that sends as fast as it can takes less than half a
// core. The burst lets a streamed list of a usual cluster through.
const (
	eventRate  = 20_000
	eventBurst = 100_000
)

// session is one stretch of contact with an API server: who it is has been
// checked, and everything is listed and watched until contact is lost.
type session struct {
	cluster *Cluster
	cfg     *config
	report  *reporter
	clients *clients
	budget  *budget // of endpoints, or of what federated Services are made from
	imports *imports
	events  flowcontrol.RateLimiter // nil: no limit

	feeds []*feed
	poke  chan struct{} // something may be wrong with the connection
	// changed: it is another cluster than before, until all is listed.
	changed bool
	uid     string

	mu       sync.Mutex
	lastWord time.Time
	synced   bool
	ended    error // why the session is to end, if a feed says so
	over     bool
	blocked  bool // what is known is not kept up to date
}

func newSession(c *Cluster) (*session, error) {
	s := &session{cluster: c, cfg: c.cfg, report: c.report, poke: make(chan struct{}, 1)}
	var err error
	if s.clients, err = dial(c.cfg, s.doubt); err != nil {
		return nil, failure(model.ReasonInvalidKubeconfig, "the credentials cannot be used (%s)", words(err))
	}
	s.imports = newImports(c.cfg.selector)
	s.budget = newBudget(c.cfg, "endpoints", "labels")
	if c.cfg.services {
		s.budget = newBudget(c.cfg, "Services and endpoints of EndpointSlices", "labels, addresses and names")
	}
	if !c.cfg.local {
		s.events = flowcontrol.NewTokenBucketRateLimiter(eventRate, eventBurst)
	}
	return s, nil
}

// run is the session from its first question to its end. It gives why it ended;
// nil only if ctx has.
func (s *session) run(ctx context.Context) error {
	defer s.clients.close()
	if err := s.hello(ctx); err != nil {
		return err
	}
	for _, g := range s.cluster.gathers {
		g.begin()
	}
	s.addFeeds()
	s.turned(nil)
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range s.feeds {
		group.Go(func() error {
			runReflector(ctx, f.cluster+" "+f.what(), reflected{f}, &item{}, f, s.cfg.timing)
			return nil
		})
	}
	group.Go(func() error { return s.watchdog(ctx) })
	err := group.Wait()
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	return err //nolint:wrapcheck // it is the watchdog's
}

// hello asks who is there, before anything is taken from it.
func (s *session) hello(ctx context.Context) error {
	version, err := ask(ctx, s.cfg.timing, s.clients.version)
	var tooOld *Failure
	if err != nil && (!s.cfg.local || !errors.As(err, &tooOld)) {
		return s.explain(err, "reach the API server")
	}
	names := map[string]*model.Namespace{systemNamespace: nil, s.cfg.agentNamespace: nil}
	for name := range names {
		names[name], err = ask(ctx, s.cfg.timing, func(ctx context.Context) (*model.Namespace, error) {
			return s.clients.namespace(ctx, name)
		})
		if err != nil {
			return s.explain(err, "read namespace "+name)
		}
	}
	if n := names[systemNamespace]; n != nil {
		s.uid = n.UID.String()
	}
	if s.cfg.accept != nil {
		v := s.cfg.accept(s.uid)
		if v.refused != nil || v.changed {
			s.cluster.sink.Drain(s.cfg.name)
		}
		if v.refused != nil {
			return v.refused
		}
		s.changed = v.changed
	}
	s.report.identity(s.uid, version)
	if n := names[s.cfg.agentNamespace]; n != nil {
		s.report.declared(n.ClusterName)
	}
	s.heard(time.Now())
	return nil
}

// ask puts one question, with the time of a probe to answer.
func ask[T any](ctx context.Context, t Timing, question func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, t.ProbeTimeout)
	defer cancel()
	return question(ctx)
}

func (s *session) addFeeds() {
	if s.cfg.services {
		s.addServiceFeeds()
		return
	}
	// Namespaces come first: with a selector, pods wait for them.
	s.addFeedsOf(model.KindNamespace, s.namespaceBudget())
	s.addFeed(model.KindNode, "", s.budget)
	if s.cfg.local {
		s.addFeed(model.KindPolicy, "", &budget{})
	}
	s.addFeedsOf(model.KindPod, s.budget)
}

// addServiceFeeds reads Services and EndpointSlices and, of Namespaces, only what
// the session itself needs: those that a selector is about or, without one, that
// which says whose API server it is. With an import list that one may not be
// readable, and is looked at when a session begins.
func (s *session) addServiceFeeds() {
	switch {
	case s.cfg.selector != nil:
		s.addFeedsOf(model.KindNamespace, s.namespaceBudget())
	case len(s.cfg.namespaces) == 0:
		s.addFeed(model.KindNamespace, systemNamespace, s.namespaceBudget())
	}
	s.addFeedsOf(model.KindService, s.budget)
	s.addFeedsOf(model.KindEndpointSlice, s.budget)
}

func (s *session) namespaceBudget() *budget { return newBudget(s.cfg, "Namespaces", "labels") }

// addFeedsOf adds one feed, or one a namespace of the import list.
func (s *session) addFeedsOf(kind model.Kind, b *budget) {
	if len(s.cfg.namespaces) == 0 {
		s.addFeed(kind, "", b)
	}
	for _, n := range s.cfg.namespaces {
		s.addFeed(kind, n, b)
	}
}

func (s *session) addFeed(kind model.Kind, namespace string, b *budget) {
	f := &feed{
		kind: kind, cluster: s.cfg.name, namespace: namespace,
		optional: !s.cfg.local && (kind == model.KindNode || kind == model.KindNamespace && s.cfg.selector == nil),
		timing:   s.cfg.timing, budget: b, imports: s.imports, events: s, sink: s.cluster.sink,
		seed: maphash.MakeSeed(), relist: make(chan struct{}, 1),
		taken: map[uint64]size{}, odd: newOddities(maxOddities / max(1, len(s.cfg.namespaces))),
		quiet: s.cfg.services && kind == model.KindNamespace, dependent: s.cfg.kinds(), local: s.cfg.local,
	}
	f.client, f.resource = s.clients.group(kind)
	if namespace != "" {
		f.gather = s.cluster.gathers[kind]
		if kind == model.KindNamespace {
			f.fieldSelector = "metadata.name=" + namespace
		}
	}
	s.feeds = append(s.feeds, f)
}

// reflected is a feed as reflectors want it, who use the methods with a context
// where there are any.
type reflected struct{ *feed }

func (r reflected) List(opts metav1.ListOptions) (runtime.Object, error) {
	return r.ListWithContext(context.Background(), opts)
}

func (r reflected) Watch(opts metav1.ListOptions) (watch.Interface, error) {
	return r.WatchWithContext(context.Background(), opts)
}

// heard says that the API server said something.
func (s *session) heard(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastWord = at
}

func (s *session) throttle(ctx context.Context, events int) error {
	if s.events == nil {
		return nil
	}
	for range events {
		if err := s.events.Wait(ctx); err != nil {
			return err //nolint:wrapcheck // nobody reads it
		}
	}
	return nil
}

func (s *session) explain(err error, asked string) *Failure {
	f := Explain(err, s.asking(asked), s.cfg.expire, time.Now())
	switch f.Reason {
	case model.ReasonForbidden, model.ReasonTooLarge:
	default:
		s.doubt()
	}
	return f
}

func (s *session) asking(what string) string { return what + " of " + serverURL(s.cfg.connect.Host) }

// namespace looks at the Namespaces that say something of the cluster.
func (s *session) namespace(name string, n *model.Namespace) {
	if name == s.cfg.agentNamespace {
		declared := ""
		if n != nil {
			declared = n.ClusterName
		}
		s.report.declared(declared)
	}
	if name == systemNamespace && n != nil && s.uid != "" && n.UID.String() != s.uid {
		s.mu.Lock()
		s.ended = errAnother
		s.mu.Unlock()
		s.doubt()
	}
}

// expired tells whether the agent may have dropped what is known, while one kind
// could not be read and the others were watched on: those have to be listed anew
// too. Half of staleAfter, because the agent hears of contact later than this.
func (s *session) expired() bool {
	return s.cfg.staleAfter > 0 && s.report.silent(s.cfg.staleAfter/2)
}

// turned works out the state of the cluster from that of its feeds.
func (s *session) turned(*feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.ended != nil {
		return
	}
	all := true
	var why, over *Failure
	for _, f := range s.feeds {
		state := f.current()
		all = all && state.done
		if state.over && over == nil {
			over = f.budget.failure()
		}
		if why == nil {
			why = state.failure()
		}
	}
	if s.blocked && why == nil && s.expired() {
		s.blocked, s.ended = false, errAgain
		s.report.contact(time.Now())
		s.doubt()
		return
	}
	s.synced, s.blocked = s.synced || all && why == nil, why != nil
	switch {
	case why != nil:
		s.report.state(model.StateOutOfContact, why.Reason, why.Message)
	case over != nil:
		s.report.state(model.StateOutOfContact, over.Reason, over.Message)
	case all:
		s.report.state(model.StateInSync, model.ReasonInSync, "")
	case s.changed:
		s.report.state(model.StateSyncing, model.ReasonClusterChanged,
			"the address is another cluster's than before: what was known is dropped; remove and add the RemoteCluster if that is not meant")
	default:
		s.report.state(model.StateSyncing, model.ReasonSyncing, "")
	}
}
