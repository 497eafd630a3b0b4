package bench

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/overland-net/overland/pkg/dataplane/ipset"
	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/ns"
)

const (
	latencyChanges = 150
	noisyPods      = 200
	noiseRate      = 325 // changes a second
	settleTime     = 2 * time.Second
	nowhere        = "nowhere" // a node without a kubelet
)

// latencyPods are the policy's pod, and a policy whose only peers are canada's
// pods with one of two labels.
const latencyPods = `
apiVersion: v1
kind: Pod
metadata: {name: server}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: agnhost, args: ["pause"]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: latency}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
  - from:
    - namespaceSelector: {}
      podSelector:
        matchExpressions:
        - {key: overland.dev/cluster, operator: In, values: [canada]}
        - {key: example.com/latency, operator: In, values: ["1"]}
    - namespaceSelector: {}
      podSelector:
        matchExpressions:
        - {key: overland.dev/cluster, operator: In, values: [canada]}
        - {key: example.com/noise, operator: In, values: ["1"]}
`

// BenchmarkDataplaneLatency is the time from a label change of a pod in canada
// to the kernel's set on a node of west: from the writer's request, and from the
// API server's answer to it (which may come after the change is in force: such
// are counted as 0). A plain watch of the API server in this process is the
// baseline. Idle, and while 200 other pods of canada change their labels, 325
// times a second together, each time coming into or leaving another set of the
// same policy. The set is asked again and again: ms-between-looks is
// how far apart, and so how far what is found may be too late.
func BenchmarkDataplaneLatency(b *testing.B) {
	lab := linked(b)
	l := &latency{b: b, target: lab.Cluster("canada").NewNamespace(b, "latency")}
	west := lab.Cluster("west").NewNamespace(b, "latency")
	west.Apply(latencyPods)
	west.Pod("server")
	l.open(lab)
	l.nowhere()
	var idle, busy latencies
	achieved := 0.0
	once(b, func() {
		made := l.ghost(l.target, "changing", "10.2.1.251")
		l.find(made)
		idle = l.measure()
		noise := lab.Cluster("canada").NewNamespace(b, "noise")
		end := l.noise(noise)
		time.Sleep(settleTime)
		busy = l.measure()
		achieved = end()
	})
	for name, of := range map[string]latencies{"idle": idle, "busy": busy} {
		b.Run(name, func(b *testing.B) {
			once(b, func() {})
			report(b, of.request, "ms-from-request")
			report(b, of.answer, "ms-from-answer")
			report(b, of.watch, "ms-plain-watch")
			b.ReportMetric(ms(percentile(of.looks, 50)), "ms-between-looks-p50")
			b.ReportMetric(ms(percentile(of.looks, 99)), "ms-between-looks-p99")
			if name == "busy" {
				b.ReportMetric(achieved, "changes/s")
			}
		})
	}
}

type latency struct {
	b       *testing.B
	target  *labtest.Namespace
	sets    *ipset.Conn // of the node
	set     string
	address netip.Addr
	turn    int
}

type latencies struct{ request, answer, watch, looks []time.Duration }

// open opens the sets of west's first node.
func (l *latency) open(lab *labtest.Lab) {
	where, err := lab.Daemon.NodeNamespaces(l.b.Context(), "west/node-1")
	if err != nil {
		l.b.Fatal(err)
	}
	err = ns.Net(where.Net).Do(func() (err error) {
		l.sets, err = ipset.Dial(l.b.Context())
		return err
	})
	if err != nil {
		l.b.Fatal(err)
	}
	l.b.Cleanup(func() { _ = l.sets.Close() }) // it was only read from
}

// nowhere makes the node of pods that run nowhere: those of a node that does not
// exist are deleted after a minute.
func (l *latency) nowhere() {
	nodes := l.target.Client.CoreV1().Nodes()
	if _, err := nodes.Create(l.b.Context(), &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: nowhere}}, metav1.CreateOptions{}); err != nil {
		l.b.Fatal(err)
	}
	l.b.Cleanup(func() {
		if err := nodes.Delete(context.WithoutCancel(l.b.Context()), nowhere, metav1.DeleteOptions{}); err != nil {
			l.b.Error(err)
		}
	})
}

// ghost is a pod with an address that runs nowhere.
func (l *latency) ghost(n *labtest.Namespace, name, address string) netip.Addr {
	pods := n.Client.CoreV1().Pods(n.Name)
	made, err := pods.Create(l.b.Context(), &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.PodSpec{
			NodeName: nowhere, Containers: []v1.Container{{Name: "none", Image: "pause"}},
			Tolerations: []v1.Toleration{{Operator: v1.TolerationOpExists}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		l.b.Fatal(err)
	}
	made.Status.Phase, made.Status.PodIP = v1.PodRunning, address
	made.Status.PodIPs = []v1.PodIP{{IP: address}}
	if _, err := pods.UpdateStatus(l.b.Context(), made, metav1.UpdateOptions{}); err != nil {
		l.b.Fatal(err)
	}
	return netip.MustParseAddr(address)
}

// label changes the label that decides about membership.
func (l *latency) label(value int) {
	patch := fmt.Sprintf(`{"metadata":{"labels":{"example.com/latency":"%d"}}}`, value)
	_, err := l.target.Client.CoreV1().Pods(l.target.Name).Patch(l.b.Context(), "changing", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		l.b.Fatal(err)
	}
}

// find finds the set that the pod is in once it has the label, and takes it away.
func (l *latency) find(a netip.Addr) {
	l.address = a
	l.label(1)
	for deadline := time.Now().Add(time.Minute); l.set == ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.b.Fatalf("no set of the node has %s", a)
		}
		headers, err := l.sets.List(l.b.Context(), func(name string) bool { return strings.HasPrefix(name, "ovl4-") })
		if err != nil {
			l.b.Fatal(err)
		}
		for _, h := range headers {
			if in, err := l.member(h.Name); err == nil && in {
				l.set = h.Name
			}
		}
	}
	l.label(0)
	if _, err := l.until(false); err != nil {
		l.b.Fatal(err)
	}
}

func (l *latency) member(set string) (bool, error) {
	_, all, err := l.sets.Elements(l.b.Context(), set)
	return slices.ContainsFunc(all, func(e ipset.Element) bool { return e.Addr == l.address }), err
}

// until looks at the set until the pod is a member, or is none, and tells when
// it looked.
func (l *latency) until(want bool) (looks []time.Time, err error) {
	for deadline := time.Now().Add(time.Minute); ; {
		in, err := l.member(l.set)
		looks = append(looks, time.Now())
		if err != nil || in == want {
			return looks, err
		}
		if time.Now().After(deadline) {
			return looks, fmt.Errorf("%s is still in set %s, or not: %t", l.address, l.set, in)
		}
		// Not to take a whole processor from those that are measured.
		time.Sleep(200 * time.Microsecond)
	}
}

// measure changes the label again and again, with pauses, so that each change
// is one alone.
func (l *latency) measure() (of latencies) {
	events, err := l.target.Client.CoreV1().Pods(l.target.Name).Watch(l.b.Context(), metav1.ListOptions{})
	if err != nil {
		l.b.Fatal(err)
	}
	defer events.Stop()
	for range latencyChanges {
		l.turn++
		value := l.turn % 2
		type found struct {
			looks []time.Time
			err   error
		}
		kernel, plain := make(chan found, 1), make(chan time.Time, 1)
		go func() {
			looks, err := l.until(value == 1)
			kernel <- found{looks, err}
		}()
		go func() { plain <- labelled(events, value) }()
		time.Sleep(time.Millisecond) // both have begun
		asked := time.Now()
		l.label(value)
		answered := time.Now()
		f := <-kernel
		if f.err != nil {
			l.b.Fatal(f.err)
		}
		at := f.looks[len(f.looks)-1]
		of.request = append(of.request, at.Sub(asked))
		of.answer = append(of.answer, max(0, at.Sub(answered)))
		of.watch = append(of.watch, max(0, (<-plain).Sub(answered)))
		for i := range len(f.looks) - 1 {
			of.looks = append(of.looks, f.looks[i+1].Sub(f.looks[i]))
		}
		time.Sleep(10 * time.Millisecond)
	}
	return of
}

// labelled waits until the watch shows the label.
func labelled(events watch.Interface, value int) time.Time {
	for e := range events.ResultChan() {
		pod, ok := e.Object.(*v1.Pod)
		if ok && pod.Labels["example.com/latency"] == fmt.Sprint(value) {
			break
		}
	}
	return time.Now()
}

// noise changes labels of other pods until it is told to end, and tells then how
// many changes a second there were.
func (l *latency) noise(n *labtest.Namespace) (end func() float64) {
	config := rest.CopyConfig(n.Config)
	config.QPS = -1 // no limit: it has a pace of its own
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		l.b.Fatal(err)
	}
	for i := range noisyPods {
		l.ghost(n, podName(i), fmt.Sprintf("10.2.2.%d", 40+i))
	}
	ctx, stop := context.WithCancel(l.b.Context())
	began, done := time.Now(), 0
	var all sync.WaitGroup
	var failed sync.Once
	turns, ends := make(chan int), make(chan struct{})
	const writers = 32
	for range writers {
		all.Go(func() {
			for i := range turns {
				patch := fmt.Sprintf(`{"metadata":{"labels":{"example.com/noise":"%d"}}}`, i/noisyPods%2)
				_, err := client.CoreV1().Pods(n.Name).Patch(l.b.Context(), podName(i%noisyPods), types.MergePatchType, []byte(patch), metav1.PatchOptions{})
				if err != nil {
					failed.Do(func() { l.b.Errorf("the noise: %v", err) })
				}
			}
		})
	}
	go func() {
		defer close(ends)
		defer close(turns)
		ticks := time.NewTicker(time.Second / noiseRate)
		defer ticks.Stop()
		for ; ctx.Err() == nil; <-ticks.C {
			turns <- done
			done++
		}
	}()
	return func() float64 {
		stop()
		<-ends
		all.Wait()
		return float64(done) / time.Since(began).Seconds()
	}
}
