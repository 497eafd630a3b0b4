package main

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"

	"github.com/overland-net/overland/pkg/cni/conflist"
)

var ourTaint = corev1.Taint{Key: notReadyTaint, Value: "x", Effect: corev1.TaintEffectNoSchedule}

func tainted(name string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "u"}, Spec: corev1.NodeSpec{Taints: taints}}
}

func taints(t *testing.T, kube kubernetes.Interface, node string) []string {
	t.Helper()
	n, err := kube.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, taint := range n.Spec.Taints {
		list = append(list, taint.ToString())
	}
	return list
}

func setTaints(t *testing.T, kube kubernetes.Interface, node string, taints ...corev1.Taint) {
	t.Helper()
	if _, err := kube.CoreV1().Nodes().Update(t.Context(), tainted(node, taints...), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// runUntainter runs one until the test ends.
func runUntainter(t *testing.T, kube kubernetes.Interface, ready func() error) {
	t.Helper()
	u := &untainter{node: "n1", ready: ready, client: kube, log: silent(), first: time.Millisecond}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestTheTaintGoesOnceTheAgentIsReady(t *testing.T) {
	other := corev1.Taint{Key: "example.com/other", Effect: corev1.TaintEffectNoSchedule}
	stays := corev1.Taint{Key: notReadyTaint, Effect: corev1.TaintEffectNoExecute}
	kube := fake.NewClientset(tainted("n1", other, ourTaint, stays), tainted("n2", ourTaint))
	var ready atomic.Bool
	runUntainter(t, kube, func() error {
		if ready.Load() {
			return nil
		}
		return errors.New("not yet")
	})
	time.Sleep(50 * time.Millisecond)
	if got := taints(t, kube, "n1"); len(got) != 3 {
		t.Fatalf("before the agent is ready the taints are %v", got)
	}
	ready.Store(true)
	want := []string{other.ToString(), stays.ToString()}
	until(t, "the taint is gone", func() bool { return slices.Equal(taints(t, kube, "n1"), want) })
	setTaints(t, kube, "n1", ourTaint)
	until(t, "it is gone again", func() bool { return len(taints(t, kube, "n1")) == 0 })
	if got := taints(t, kube, "n2"); len(got) != 1 {
		t.Errorf("another node has %v", got)
	}
}

func TestTheTaintIsTriedAgainAndOthersAreNeverRemoved(t *testing.T) {
	other := corev1.Taint{Key: "example.com/other", Effect: corev1.TaintEffectNoSchedule}
	kube := fake.NewClientset(tainted("n1", ourTaint))
	var tries atomic.Int32
	kube.PrependReactor("patch", "nodes", func(kubetesting.Action) (bool, runtime.Object, error) {
		switch tries.Add(1) {
		case 1:
			return true, nil, errors.New("no answer")
		case 2:
			// Somebody is faster: another taint is in the place now.
			return false, nil, kube.Tracker().Update(corev1.SchemeGroupVersion.WithResource("nodes"), tainted("n1", other, ourTaint), "")
		}
		return false, nil, nil
	})
	runUntainter(t, kube, func() error { return nil })
	until(t, "only the other is left", func() bool { return slices.Equal(taints(t, kube, "n1"), []string{other.ToString()}) })
	if n := tries.Load(); n < 3 {
		t.Errorf("%d tries", n)
	}
	// What is gone is not tried for ever.
	before := tries.Load()
	time.Sleep(50 * time.Millisecond)
	if now := tries.Load(); now > before+1 {
		t.Errorf("%d tries more", now-before)
	}
}

func TestAPluginThatIsNotInstalledHoldsTheTaint(t *testing.T) {
	for _, tt := range []struct {
		status conflist.Status
		held   bool
	}{
		{conflist.Status{}, true},
		{conflist.Status{Installed: true}, false},
		{conflist.Status{Installed: true, Error: "behind"}, false},
		{conflist.Status{Off: true}, false},
	} {
		if err := installed(tt.status); (err != nil) != tt.held {
			t.Errorf("%+v: %v", tt.status, err)
		}
	}
}
