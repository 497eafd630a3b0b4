package labtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pollInterval is how often a condition is looked at.
const pollInterval = 100 * time.Millisecond

// Condition says what it sees, in a few words, and whether that is what was
// waited for. An error counts as something seen.
type Condition func(ctx context.Context) (seen string, done bool, err error)

// Wait waits until the condition holds, at most WaitTimeout. A failure ends the
// test and tells what was seen last, the namespace's pods and events, and the
// end of the log of each kubelet that has one of the pods.
func (n *Namespace) Wait(what string, condition Condition) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), WaitTimeout)
	defer cancel()
	if !n.await(ctx, what, condition) {
		n.t.FailNow()
	}
}

// Until polls for a condition, which says what it sees as long as it does not hold,
// and ends the test if it does not in WaitTimeout. It may be called in a cleanup.
func Until(t testing.TB, what string, condition func(ctx context.Context) (seen string, ok bool)) {
	t.Helper()
	deadline := time.Now().Add(WaitTimeout)
	for {
		seen, ok := condition(context.WithoutCancel(t.Context()))
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s; last seen: %s", WaitTimeout, what, seen)
		}
		time.Sleep(pollInterval)
	}
}

// await is Wait that does not end the test.
func (n *Namespace) await(ctx context.Context, what string, condition Condition) bool {
	n.t.Helper()
	began := time.Now()
	last, changed := "", began
	for {
		seen, done, err := condition(ctx)
		if done && err == nil {
			return true
		}
		if err != nil && ctx.Err() == nil {
			seen = strings.TrimSpace(seen + " error: " + err.Error())
		}
		if ctx.Err() == nil && seen != last {
			last, changed = seen, time.Now()
		}
		select {
		case <-ctx.Done():
			n.t.Errorf("waited %.1f s for %s in %s/%s\nlast seen (for %.1f s): %s\n%s", time.Since(began).Seconds(), what,
				n.Cluster.Name, n.Name, time.Since(changed).Seconds(), last, n.Trace())
			return false
		case <-time.After(pollInterval):
		}
	}
}

// Trace tells the state of the namespace: pods, events, kubelets' logs.
func (n *Namespace) Trace() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var b strings.Builder
	pods, err := n.Client.CoreV1().Pods(n.Name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "no trace: " + err.Error()
	}
	nodes := map[string]bool{}
	b.WriteString("pods:\n")
	for _, p := range pods.Items {
		fmt.Fprintf(&b, "  %s\n", describePod(p))
		nodes[p.Spec.NodeName] = p.Spec.NodeName != ""
	}
	events, err := n.Client.CoreV1().Events(n.Name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return b.String() + "no events: " + err.Error()
	}
	b.WriteString("events:\n")
	for _, e := range events.Items {
		fmt.Fprintf(&b, "  %s %s/%s %s ×%d: %s\n", eventTime(e).Format("15:04:05"), e.InvolvedObject.Kind,
			e.InvolvedObject.Name, e.Reason, max(1, e.Count), e.Message)
	}
	for _, node := range n.Nodes {
		if nodes[node.Name] {
			fmt.Fprintf(&b, "end of the kubelet's log on %s:\n%s\n", node.Path(), n.lab.tail(node.Path()+"/kubelet", 12))
		}
	}
	return b.String()
}

func eventTime(e v1.Event) time.Time {
	if !e.LastTimestamp.IsZero() {
		return e.LastTimestamp.Time
	}
	return e.EventTime.Time
}

// describePod is a pod's state in a line.
func describePod(p v1.Pod) string {
	words := []string{p.Name, "on", p.Spec.NodeName, string(p.Status.Phase)}
	if p.DeletionTimestamp != nil {
		words = append(words, "being deleted")
	}
	for _, ip := range p.Status.PodIPs {
		words = append(words, ip.IP)
	}
	for _, c := range p.Status.Conditions {
		if c.Status != v1.ConditionTrue {
			words = append(words, fmt.Sprintf("not %s (%s %s)", c.Type, c.Reason, c.Message))
		}
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		words = append(words, fmt.Sprintf("[%s ready=%v restarts=%d %s]", s.Name, s.Ready, s.RestartCount, describeState(s.State)))
	}
	return strings.Join(words, " ")
}

func describeState(s v1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Waiting != nil:
		return "waiting " + s.Waiting.Reason + " " + s.Waiting.Message
	case s.Terminated != nil:
		return fmt.Sprintf("ended %s %d %s", s.Terminated.Reason, s.Terminated.ExitCode, s.Terminated.Message)
	}
	return "no state"
}

// podReady reports whether a pod is Ready and not on its way out.
func podReady(p *v1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.PodReady && c.Status == v1.ConditionTrue
	})
}

// Pod waits until the pod of that name is Ready.
func (n *Namespace) Pod(name string) *Pod {
	n.t.Helper()
	return n.PodWhen(name, "Ready", podReady)
}

// PodWhen waits until the pod of that name is as wanted, which is said in words
// for the trace.
func (n *Namespace) PodWhen(name, want string, is func(*v1.Pod) bool) *Pod {
	n.t.Helper()
	var found *Pod
	n.Wait(fmt.Sprintf("pod %s to be %s", name, want), func(ctx context.Context) (string, bool, error) {
		p, err := n.Client.CoreV1().Pods(n.Name).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", false, err
		}
		found = newPod(n.Cluster, p)
		return describePod(*p), is(p), nil
	})
	return found
}

// Pods waits until exactly count pods match the label selector and all of them
// are Ready; they are in the order of their names.
func (n *Namespace) Pods(selector string, count int) []*Pod {
	n.t.Helper()
	var found []*Pod
	n.Wait(fmt.Sprintf("%d pods %s to be Ready", count, selector), func(ctx context.Context) (string, bool, error) {
		list, err := n.Client.CoreV1().Pods(n.Name).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return "", false, err
		}
		found = nil
		ready := 0
		for _, p := range list.Items {
			found = append(found, newPod(n.Cluster, &p))
			if podReady(&p) {
				ready++
			}
		}
		return fmt.Sprintf("%d of %d Ready", ready, len(found)), ready == count && len(found) == count, nil
	})
	slices.SortFunc(found, func(a, b *Pod) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// Deployment waits until the newest version of a Deployment is all there is of
// it, and available.
func (n *Namespace) Deployment(name string) *appsv1.Deployment {
	n.t.Helper()
	var found *appsv1.Deployment
	n.Wait("Deployment "+name+" to be rolled out", func(ctx context.Context) (string, bool, error) {
		d, err := n.Client.AppsV1().Deployments(n.Name).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", false, err
		}
		found = d
		s := d.Status
		want := *d.Spec.Replicas
		done := s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want && s.AvailableReplicas == want && s.Replicas == want
		return fmt.Sprintf("%d of %d updated, %d available, %d in all", s.UpdatedReplicas, want, s.AvailableReplicas, s.Replicas), done, nil
	})
	return found
}

// DaemonSet waits until every node has its Ready pod.
func (n *Namespace) DaemonSet(name string) *appsv1.DaemonSet {
	n.t.Helper()
	var found *appsv1.DaemonSet
	n.Wait("DaemonSet "+name+" to be on each node", func(ctx context.Context) (string, bool, error) {
		d, err := n.Client.AppsV1().DaemonSets(n.Name).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", false, err
		}
		found = d
		want := int32(len(n.Nodes))
		s := d.Status
		done := s.ObservedGeneration >= d.Generation && s.UpdatedNumberScheduled == want && s.NumberReady == want
		return fmt.Sprintf("%d of %d nodes ready", s.NumberReady, want), done, nil
	})
	return found
}
