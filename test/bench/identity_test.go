package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
)

// installed tells that Overland has been installed in the lab.
var installed sync.Once

// linked is the lab with Overland in both clusters, linked.
func linked(b *testing.B) *labtest.Lab {
	b.Helper()
	lab := measured(b).lab
	installed.Do(func() {
		if err := lab.InstallOverland(); err != nil {
			b.Fatal(err)
		}
	})
	return lab
}

// BenchmarkIdentityLatency is the time from the answer of canada's API server to
// the writer of a change until the agent of a node in west shows the change, and
// until a plain watch of that API server does, which is the least possible.
func BenchmarkIdentityLatency(b *testing.B) {
	lab := linked(b)
	n := lab.Cluster("canada").NewNamespace(b, "latency")
	const pods = 50
	client := adminOf(b, lab)
	var known, watched [2][]time.Duration // address, label
	once(b, func() {
		events, err := n.Client.CoreV1().Pods(n.Name).Watch(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		defer events.Stop()
		for i := range pods {
			for j, change := range []func(){func() { address(b, n, i) }, func() { label(b, n, i) }} {
				change()
				began := time.Now()
				at := make(chan time.Time, 1)
				go func() { at <- seen(events, i, j) }()
				agentShows(b, client, n.Name, i, j)
				known[j] = append(known[j], time.Since(began))
				watched[j] = append(watched[j], max(0, (<-at).Sub(began)))
			}
		}
	})
	for j, what := range []string{"address", "label"} {
		report(b, known[j], "ms-"+what)
		b.ReportMetric(ms(percentile(watched[j], 50)), "ms-"+what+"-plain-watch-p50")
	}
}

func report(b *testing.B, all []time.Duration, unit string) {
	b.ReportMetric(ms(percentile(all, 50)), unit+"-p50")
	b.ReportMetric(ms(percentile(all, 99)), unit+"-p99")
}

func percentile(all []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)-1)*p/100]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func podName(i int) string { return fmt.Sprintf("pod-%d", i) }

// address makes a pod on a node that does not exist, and gives it an address.
func address(b *testing.B, n *labtest.Namespace, i int) {
	pods := n.Client.CoreV1().Pods(n.Name)
	made, err := pods.Create(b.Context(), &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: podName(i)},
		Spec: v1.PodSpec{
			NodeName: "ghost", Containers: []v1.Container{{Name: "none", Image: "pause"}},
			Tolerations: []v1.Toleration{{Operator: v1.TolerationOpExists}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	made.Status.Phase, made.Status.PodIP = v1.PodRunning, fmt.Sprintf("10.2.2.%d", 200+i)
	made.Status.PodIPs = []v1.PodIP{{IP: made.Status.PodIP}}
	if _, err := pods.UpdateStatus(b.Context(), made, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func label(b *testing.B, n *labtest.Namespace, i int) {
	_, err := n.Client.CoreV1().Pods(n.Name).Patch(b.Context(), podName(i), types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"changed":"yes"}}}`), metav1.PatchOptions{})
	if err != nil {
		b.Fatal(err)
	}
}

// seen waits until the watch shows the change.
func seen(events watch.Interface, i, change int) time.Time {
	for e := range events.ResultChan() {
		pod, ok := e.Object.(*v1.Pod)
		if ok && pod.Name == podName(i) && pod.Status.PodIP != "" && (change == 0 || pod.Labels["changed"] != "") {
			break
		}
	}
	return time.Now()
}

// agentShows waits until the agent knows of the change.
func agentShows(b *testing.B, client *http.Client, namespace string, i, change int) {
	path := fmt.Sprintf("%s/%s/%s?%s=canada", api.PathEndpoints, namespace, podName(i), api.ParamCluster)
	for deadline := time.Now().Add(time.Minute); ; {
		details, err := get[api.EndpointDetails](b.Context(), client, path)
		if err == nil && (change == 0 || details.Endpoint.Labels["changed"] != "") {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("the agent does not know of %s: %v", path, err)
		}
		time.Sleep(time.Millisecond)
	}
}

func adminOf(b *testing.B, lab *labtest.Lab) *http.Client {
	client, err := lab.AdminClient(b.Context(), "west/node-1")
	if err != nil {
		b.Fatal(err)
	}
	return client
}

func get[T any](ctx context.Context, client *http.Client, path string) (T, error) {
	var answer T
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return answer, err
	}
	response, err := client.Do(request)
	if err != nil {
		return answer, err
	}
	defer func() { _ = response.Body.Close() }() // read to the end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer, err
	}
	if response.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%s: %s", response.Status, text)
	}
	return answer, json.Unmarshal(text, &answer)
}

// BenchmarkIdentityStart is the time from the start of an agent until it has
// listed its own cluster, with the linked cluster in contact and out of reach:
// the two are to be the same.
func BenchmarkIdentityStart(b *testing.B) {
	lab := linked(b)
	const starts = 7
	var up, cut []time.Duration
	once(b, func() {
		for range starts {
			up = append(up, restart(b, lab))
		}
		lab.Cut(b, "west", "canada")
		for range starts {
			cut = append(cut, restart(b, lab))
		}
		lab.Heal(b, "west", "canada")
	})
	b.ReportMetric(ms(median(up)), "ms-to-sync-remote-up")
	b.ReportMetric(ms(median(cut)), "ms-to-sync-remote-cut")
}

// restart replaces the agent's pod of a node and tells how long the new agent
// takes to list its own cluster. (A killed one is started later each time.)
func restart(b *testing.B, lab *labtest.Lab) time.Duration {
	old := lab.AgentProcess(b, "west/node-1")
	pods := lab.Cluster("west").Client.CoreV1().Pods("overland-system")
	err := pods.DeleteCollection(b.Context(), metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "spec.nodeName=node-1"})
	if err != nil {
		b.Fatal(err)
	}
	client := adminOf(b, lab)
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s, err := get[api.Status](b.Context(), client, api.PathStatus)
		if err == nil && s.Started != nil && s.State == api.AgentInSync && !s.Restored && lab.AgentProcess(b, "west/node-1") != old {
			return time.Since(*s.Started)
		}
	}
	b.Fatal("no agent is in sync")
	return 0
}
