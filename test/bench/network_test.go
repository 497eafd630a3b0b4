package bench

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/netprobe"
)

const (
	serverPort = 8080
	// connects is how many connections are made for one figure: they take about
	// a second.
	connects = 4000
	echoes   = 200
)

const serverPod = `
apiVersion: v1
kind: Pod
metadata: {name: server}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: netprobe
    image: netprobe
    args: ["serve", "--tcp", "8080", "--http", "8081"]
    readinessProbe: {httpGet: {path: /healthz, port: 8081}, periodSeconds: 1}
`

// BenchmarkNetwork measures from a pod of one cluster to a pod of the other,
// and, as the baseline, from the latter to itself.
func BenchmarkNetwork(b *testing.B) {
	var pods []*labtest.Pod
	for _, c := range measured(b).lab.Clusters[:2] {
		n := c.NewNamespace(b, "bench")
		n.Apply(serverPod)
		pods = append(pods, n.Pod("server"))
	}
	here, there := pods[0], pods[1]
	loopback := netip.MustParseAddr("127.0.0.1")
	var far, near result
	once(b, func() {
		far = measure(b, here, there.Address(4))
		near = measure(b, there, loopback)
	})
	b.ReportMetric(far.connects, "connects/s")
	b.ReportMetric(near.connects, "connects/s-loopback")
	b.ReportMetric(far.connects/near.connects, "connects/loopback")
	b.ReportMetric(far.rtt*1000, "µs/RTT")
	b.ReportMetric(near.rtt*1000, "µs/RTT-loopback")
	b.ReportMetric(far.rtt/near.rtt, "RTT/loopback")
}

// result is one way's figures.
type result struct {
	connects float64 // TCP connections, each with a request and an answer, a second
	rtt      float64 // milliseconds, the median of echoes one after the other
}

func measure(b *testing.B, from *labtest.Pod, to netip.Addr) result {
	b.Helper()
	source := labtest.FromPodNetwork(from)
	// An idle start of the prober is no part of the figure.
	empty := timed(b, source, 1, labtest.Target("tcp", to.String(), serverPort))
	targets := make([]string, connects)
	for i := range targets {
		targets[i] = labtest.Target("tcp", to.String(), serverPort)
	}
	took := timed(b, source, connects, targets...) - empty
	var rtts []float64
	for range echoes / 20 {
		for range 20 {
			for _, r := range ask(b, source, labtest.Target("icmp", to.String(), 0)) {
				rtts = append(rtts, r.Milliseconds)
			}
		}
	}
	return result{connects: connects / took.Seconds(), rtt: median(rtts)}
}

func timed(b *testing.B, from labtest.Source, want int, targets ...string) time.Duration {
	b.Helper()
	began := time.Now()
	if got := len(ask(b, from, targets...)); got != want {
		b.Fatalf("%d answers of %d", got, want)
	}
	return time.Since(began)
}

// ask asks targets, which all have to answer.
func ask(b *testing.B, from labtest.Source, targets ...string) []netprobe.Result {
	b.Helper()
	results, err := labtest.Ask(b.Context(), from, targets...)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range results {
		if !r.OK {
			b.Fatal(fmt.Errorf("%s from %s: %s", r.Target, from, r.Error))
		}
	}
	return results
}
