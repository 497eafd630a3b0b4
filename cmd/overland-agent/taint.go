package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/overland-net/overland/pkg/cni/conflist"
)

const (
	// notReadyTaint, with effect NoSchedule, keeps pods off a new node until its
	// agent is ready.
	notReadyTaint = "overland.dev/agent-not-ready"

	untaintFirst = time.Second
	untaintMax   = time.Minute
)

// untainter takes the taint off this node when pods may start on it: also later,
// should somebody put it back, such as a cloud that makes a node be again as it
// was made. It says that the agent is not ready, which is not so, and nobody but
// the agent would take it off.
type untainter struct {
	node   string
	ready  func() error
	client kubernetes.Interface
	log    *logrus.Entry
	first  time.Duration // how soon it is tried again; it doubles
}

func startUntainter(ctx context.Context, group *errgroup.Group, cfg Config, local *rest.Config, ready func() error, installer *conflist.Installer, log *logrus.Entry) error {
	client, err := kubernetes.NewForConfig(local)
	if err != nil {
		return fmt.Errorf("make a client of the local API server: %w", err)
	}
	u := &untainter{
		node: cfg.NodeName, client: client, log: log.WithField("taint", notReadyTaint), first: untaintFirst,
		ready: func() error { return errors.Join(ready(), installed(installer.Status())) },
	}
	group.Go(func() error { return u.Run(ctx) })
	return nil
}

// installed is why pods could start without the plugin; nil if they cannot, or if
// that is wanted.
func installed(s conflist.Status) error {
	if s.Off || s.Installed {
		return nil
	}
	return errors.New("the CNI plugin is not installed yet")
}

// Run works until ctx ends, and returns nil.
func (u *untainter) Run(ctx context.Context) error {
	// Until then there is nothing to be done, and nothing to be watched.
	for u.ready() != nil {
		if !pause(ctx, u.first) {
			return nil
		}
	}
	nodes := make(chan *corev1.Node, 1)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		u.watch(ctx, nodes)
	}()
	defer func() { <-watched }()
	wait := u.first
	var again <-chan time.Time
	var node *corev1.Node
	for {
		select {
		case <-ctx.Done():
			return nil
		case node = <-nodes:
		case <-again:
		}
		again = nil
		if taintOf(node) < 0 {
			wait = u.first
			continue
		}
		// The watch tells of the Node without its taint; if not, something is wrong.
		if err := u.untaint(ctx, node); err != nil && ctx.Err() == nil {
			u.log.WithError(err).Warn("the taint of this node stays: trying again")
		}
		again = time.After(wait)
		wait = min(2*wait, untaintMax)
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// watch gives the newest of this Node until ctx ends.
func (u *untainter) watch(ctx context.Context, nodes chan *corev1.Node) {
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, u.node).String()
	give := func(o any) {
		node, ok := o.(*corev1.Node)
		if !ok || node.Name != u.node {
			return
		}
		select {
		case <-nodes: // nobody needs the one before
		default:
		}
		nodes <- node
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			opts.FieldSelector = only
			return u.client.CoreV1().Nodes().List(ctx, opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.FieldSelector = only
			return u.client.CoreV1().Nodes().Watch(ctx, opts)
		},
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(lw, u.client),
		ObjectType:    &corev1.Node{},
		Handler:       cache.ResourceEventHandlerFuncs{AddFunc: give, UpdateFunc: func(_, o any) { give(o) }},
		Transform:     taintsOnly,
	})
	informer.RunWithContext(ctx)
}

// taintsOnly drops what is not needed of a Node, which is most of it.
func taintsOnly(o any) (any, error) {
	node, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion},
		Spec:       corev1.NodeSpec{Taints: node.Spec.Taints},
	}, nil
}

// taintOf is the place of the taint among those of the Node; -1: it has none.
func taintOf(node *corev1.Node) int {
	return slices.IndexFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == notReadyTaint && t.Effect == corev1.TaintEffectNoSchedule
	})
}

// untaint removes the taint if it is still where it was seen. Others may change
// the Node's taints at the same time.
func (u *untainter) untaint(ctx context.Context, node *corev1.Node) error {
	if err := u.ready(); err != nil {
		return err
	}
	place := fmt.Sprint("/spec/taints/", taintOf(node))
	type step struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value string `json:"value,omitempty"`
	}
	patch, err := json.Marshal([]step{
		{"test", "/metadata/uid", string(node.UID)},
		{"test", place + "/key", notReadyTaint},
		{"test", place + "/effect", string(corev1.TaintEffectNoSchedule)},
		{"remove", place, ""},
	})
	if err != nil {
		return fmt.Errorf("write the patch of node %s: %w", u.node, err)
	}
	if _, err := u.client.CoreV1().Nodes().Patch(ctx, u.node, types.JSONPatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("remove the taint of node %s: %w", u.node, err)
	}
	u.log.Info("this node's agent is ready: its taint is removed")
	return nil
}
