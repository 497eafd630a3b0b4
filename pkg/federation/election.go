package federation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The timings of semantics 4.11, and how often a candidate by `auto` looks
// whether it is one. LeaseName is in the agent's namespace.
const (
	LeaseName     = "overland-leader"
	leaseDuration = 9 * time.Second
	renewDeadline = 6 * time.Second
	// client-go waits for 1 to 2.2 times as long between two tries: with 2 s, as
	// semantics 4.11 has it, a successor could need 9 + 2 × 4.4 s, and not 15.
	retryPeriod = time.Second
	lookPeriod  = 30 * time.Second
	// The look at the start must not wait: the first leader is awaited.
	retryLook = 2 * time.Second
)

// LeaderConfig is what a Leader needs to know.
type LeaderConfig struct {
	Namespace string // the agent's, where the Lease is
	Identity  string // unique among agents: the pod's name
	Node      string // the name of this agent's node
	Candidate Candidacy
	// Nodes are the local cluster's nodes as this agent knows them; only for
	// CandidateAuto. It may be called from any goroutine.
	Nodes func() []NodeInfo
}

// Leader takes part in the election. Current and Leading may be called from any
// goroutine; Run once.
type Leader struct {
	cfg    LeaderConfig
	client kubernetes.Interface
	log    *logrus.Entry

	mu      sync.Mutex
	current string // who leads, as last seen
	leading bool
	// standIn: it stood because nobody held the Lease though there were
	// candidates: their nodes have no agent that works. It does not yield to them.
	standIn bool
	// unsure is how many looks in a row could not tell whether this node is a
	// candidate.
	unsure int
	// holder and renewal are what looks saw in the Lease since the time unchanged.
	holder         string
	renewal, since time.Time
}

// NewLeader checks the configuration. Nothing is asked of the API server yet.
func NewLeader(cfg LeaderConfig, client kubernetes.Interface, log *logrus.Entry) (*Leader, error) {
	if cfg.Namespace == "" || cfg.Identity == "" {
		return nil, errors.New("leader election: namespace and identity must not be empty")
	}
	if _, err := ParseCandidacy(string(cfg.Candidate)); err != nil {
		return nil, err
	}
	if cfg.Candidate == CandidateAuto && (cfg.Nodes == nil || cfg.Node == "") {
		return nil, errors.New("leader election: candidate auto needs the node's name and the nodes")
	}
	return &Leader{cfg: cfg, client: client, log: log}, nil
}

// Current is the identity of the leader as this agent last saw it; empty if
// nobody leads or this agent does not know.
func (l *Leader) Current() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// Leading tells whether this agent leads.
func (l *Leader) Leading() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leading
}

// Run stands for election until ctx ends, and runs body while it leads. The
// context of body ends with the term, at the latest when the Lease could not be
// renewed for the renew deadline; body must return soon then. When ctx ends, the
// Lease is released as soon as body has returned, so that another can lead at
// once. Run returns when ctx has ended.
func (l *Leader) Run(ctx context.Context, body func(context.Context)) error {
	for ctx.Err() == nil {
		if l.shouldStand(ctx) {
			if err := l.stand(ctx, body); err != nil {
				return err
			}
		}
		sleep(ctx, l.lookAgain())
	}
	return nil
}

// lookAgain is when to look after a term, or after a look that did not lead to
// one: soon if it told nothing, as after a start, when the nodes are not known
// yet. Jitter spreads the looks of many nodes.
func (l *Leader) lookAgain() time.Duration {
	l.mu.Lock()
	unsure := l.unsure
	l.mu.Unlock()
	switch {
	case l.cfg.Candidate == CandidateAlways || l.Current() == "":
		return jitter(retryLook)
	case unsure > 0: // less and less often
		return jitter(min(retryLook<<min(unsure-1, 10), lookPeriod))
	}
	return jitter(lookPeriod)
}

// stand takes part in the election, leads if it wins, and returns when the term
// is over, this node is no candidate any more, or ctx has ended.
func (l *Leader) stand(ctx context.Context, body func(context.Context)) error {
	// Cancelled only after body has returned: client-go then releases the Lease.
	electing, stopElecting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopElecting()
	limits, writing := newTerm(ctx, renewDeadline)
	defer limits.end()
	started, finished := make(chan struct{}), make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &lease{
			Interface: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: l.cfg.Namespace, Name: LeaseName},
				Client:     l.client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: l.cfg.Identity},
			},
			limit: renewDeadline, renewed: limits.renewed,
		},
		Name: LeaseName, ReleaseOnCancel: true,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { close(started) },
			OnStoppedLeading: func() {},
			OnNewLeader:      l.saw,
		},
	})
	if err != nil {
		return fmt.Errorf("take part in the election of %s/%s: %w", l.cfg.Namespace, LeaseName, err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer limits.end()
		elector.Run(electing)
	}()
	go func() {
		defer close(finished)
		l.lead(writing, started, over, body)
	}()
	go l.watchCandidacy(writing, limits.end)
	<-writing.Done() // stopped, not a candidate any more, or not renewed in time
	<-finished
	stopElecting()
	<-over
	l.ended()
	return nil
}

// lead runs body once the election is won, unless it ends before.
func (l *Leader) lead(ctx context.Context, started, over <-chan struct{}, body func(context.Context)) {
	select {
	case <-started:
	case <-over:
		return
	case <-ctx.Done():
		return
	}
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	l.leading, l.current = true, l.cfg.Identity
	l.mu.Unlock()
	l.log.Info("leads: federates Services, writes the status of remote clusters and Events from now on")
	body(ctx)
	<-ctx.Done()
}

func (l *Leader) ended() {
	l.mu.Lock()
	was := l.leading
	l.leading, l.standIn = false, false
	if was {
		l.current = ""
	}
	l.mu.Unlock()
	if was {
		l.log.Info("does not lead any more")
	}
}

func (l *Leader) saw(identity string) {
	if identity == l.cfg.Identity {
		return // lead knows better, and this may come late
	}
	l.mu.Lock()
	changed := identity != l.current
	l.current = identity
	l.mu.Unlock()
	if changed && identity != "" {
		l.log.WithField("leader", identity).Info("another agent leads")
	}
}

// watchCandidacy calls end when this node is to stand no longer.
func (l *Leader) watchCandidacy(ctx context.Context, end func()) {
	for sleep(ctx, jitter(lookPeriod)) {
		if !l.shouldStand(ctx) && ctx.Err() == nil {
			l.log.Info("is not a candidate for leadership any more: other nodes are")
			end()
			return
		}
	}
}

// shouldStand tells whether this agent is to be in the election now. What cannot
// be found out changes nothing.
func (l *Leader) shouldStand(ctx context.Context) bool {
	switch l.cfg.Candidate {
	case CandidateAlways:
		return true
	case CandidateNever:
		_ = l.abandoned(ctx) // for Current
		return false
	}
	l.mu.Lock()
	leading := l.leading
	l.standIn = l.standIn && leading
	standIn := l.standIn
	l.mu.Unlock()
	if standIn {
		return true
	}
	among, err := l.candidates(ctx)
	l.mu.Lock()
	if l.unsure++; err == nil {
		l.unsure = 0
	}
	l.mu.Unlock()
	if err != nil {
		l.log.WithError(err).Debug("cannot tell which nodes are candidates for leadership")
	} else if stands(l.cfg.Node, leading, among) {
		return true
	}
	if leading || !l.abandoned(ctx) {
		return leading && err != nil
	}
	l.log.Info("nobody leads: stands for election though its node is not among the candidates")
	l.mu.Lock()
	l.standIn, l.since = true, time.Time{}
	l.mu.Unlock()
	return true
}

// candidates are the nodes that stand for election, as far as this agent knows
// all nodes, which it does not before it knows its own.
func (l *Leader) candidates(ctx context.Context) ([]NodeInfo, error) {
	nodes := l.cfg.Nodes()
	if !slices.ContainsFunc(nodes, func(n NodeInfo) bool { return n.Name == l.cfg.Node }) {
		return nil, fmt.Errorf("node %s, this agent's own, is not among the %d nodes that are known", l.cfg.Node, len(nodes))
	}
	return candidates(nodes, func(name string) (bool, error) { return l.ready(ctx, name) })
}

// abandoned tells whether looks have seen nobody hold the Lease, or nobody renew
// it, for longer than a Lease is good for and its candidates need to notice. Only
// this node's clock is used.
func (l *Leader) abandoned(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline)
	defer cancel()
	var holder string
	var renewal time.Time
	found, err := l.client.CoordinationV1().Leases(l.cfg.Namespace).Get(ctx, LeaseName, metav1.GetOptions{})
	switch {
	case err == nil:
		if found.Spec.HolderIdentity != nil {
			holder = *found.Spec.HolderIdentity
		}
		if found.Spec.RenewTime != nil {
			renewal = found.Spec.RenewTime.Time
		}
	case !apierrors.IsNotFound(err):
		return false
	}
	l.saw(holder)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() || holder != l.holder || !renewal.Equal(l.renewal) {
		l.holder, l.renewal, l.since = holder, renewal, time.Now()
	}
	return time.Since(l.since) > leaseDuration+retryPeriod
}

// ready asks the API server's cache for a node's readiness. A node that is gone
// is not ready.
func (l *Leader) ready(ctx context.Context, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline)
	defer cancel()
	node, err := l.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read node %s: %w", name, err)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue, nil
		}
	}
	return false, nil
}

// jitter is d and up to a quarter more.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4) }

// sleep tells whether the time has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
