package bench

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// Pods at once: more than a node of two processors starts in one go.
const manyPods = 20

// starts is how often a single pod is started: its median is reported.
const starts = 5

func BenchmarkPodStart(b *testing.B) {
	var one []time.Duration
	var many time.Duration
	once(b, func() {
		for i := range starts {
			one = append(one, startPods(b, fmt.Sprintf("one-%d", i), 1))
		}
		many = startPods(b, "many", manyPods)
	})
	bare := bareProcess(b)
	b.ReportMetric(median(one).Seconds()*1000, "ms/pod")
	b.ReportMetric(many.Seconds(), fmt.Sprintf("s/%d-pods", manyPods))
	b.ReportMetric(bare.Seconds()*1000, "ms/bare-process")
	b.ReportMetric(median(one).Seconds()/bare.Seconds(), "pod/bare")
}

// startPods is how long it takes from asking for the first of the pods until
// the last is Ready.
func startPods(b *testing.B, name string, count int) time.Duration {
	b.Helper()
	client := measured(b).lab.Clusters[0].Client.CoreV1().Pods("default")
	options := metav1.ListOptions{LabelSelector: "bench=" + name}
	watcher, err := client.Watch(b.Context(), options)
	if err != nil {
		b.Fatal(err)
	}
	defer watcher.Stop()
	began := time.Now()
	for i := range count {
		pod := &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", name, i), Labels: map[string]string{"bench": name}},
			Spec: v1.PodSpec{
				TerminationGracePeriodSeconds: new(int64),
				Containers:                    []v1.Container{{Name: "main", Image: "agnhost", Args: []string{"pause"}}},
			},
		}
		if _, err := client.Create(b.Context(), pod, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	awaitReady(b, watcher, count)
	took := time.Since(began)
	if err := client.DeleteCollection(b.Context(), metav1.DeleteOptions{}, options); err != nil {
		b.Fatal(err)
	}
	awaitGone(b, watcher, count)
	return took
}

func awaitReady(b *testing.B, watcher watch.Interface, count int) {
	b.Helper()
	ready := map[string]bool{}
	await(b, watcher, func(_ watch.EventType, pod *v1.Pod) bool {
		if slices.ContainsFunc(pod.Status.Conditions, func(c v1.PodCondition) bool {
			return c.Type == v1.PodReady && c.Status == v1.ConditionTrue
		}) {
			ready[pod.Name] = true
		}
		return len(ready) == count
	})
}

func awaitGone(b *testing.B, watcher watch.Interface, count int) {
	b.Helper()
	gone := 0
	await(b, watcher, func(kind watch.EventType, _ *v1.Pod) bool {
		if kind == watch.Deleted {
			gone++
		}
		return gone == count
	})
}

// await reads events of pods until done says so, for a minute at most.
func await(b *testing.B, watcher watch.Interface, done func(watch.EventType, *v1.Pod) bool) {
	b.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case event, ok := <-watcher.ResultChan():
			pod, isPod := event.Object.(*v1.Pod)
			if !ok || !isPod {
				b.Fatalf("the watch of pods has ended: %v", event.Object)
			}
			if done(event.Type, pod) {
				return
			}
		case <-limit:
			b.Fatal("pods did not get there in a minute")
		}
	}
}

// bareProcess is how long a process takes that has namespaces of its own and
// ends at once: less a pod cannot cost.
func bareProcess(b *testing.B) time.Duration {
	b.Helper()
	var all []time.Duration
	for range starts {
		began := time.Now()
		if out, err := exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "true").CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		all = append(all, time.Since(began))
	}
	return median(all)
}

func median[T time.Duration | float64](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
