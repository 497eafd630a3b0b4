package bench

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// repetitions of one change.
const repetitions = 20_000

// ipsetSelectors are alpha == 'beta' && has(ipset-i), i = 1..n.
func ipsetSelectors(n int) []selector.Selector {
	all := make([]selector.Selector, n)
	for i := range all {
		all[i] = selector.And(selector.Eq("alpha", "beta"), selector.Has(fmt.Sprintf("ipset-%d", i+1)))
	}
	return all
}

// BenchmarkIndexAddUnderSelectors adds one endpoint under live selectors of
// which it matches one, each with a View.
func BenchmarkIndexAddUnderSelectors(b *testing.B) {
	pod := names{}.numberedPod(1, false, "shop", map[string]string{"alpha": "beta", "ipset-1": "true"})
	for _, size := range []int{1_000, 10_000} {
		all := ipsetSelectors(size)
		b.Run(fmt.Sprintf("index/%d", size), func(b *testing.B) {
			x := index.New()
			for _, c := range clusters() {
				x.Apply(model.Set(c))
			}
			for _, s := range all {
				x.Track(s)
			}
			x.View()
			runtime.GC() // not while it is measured, if that can be helped
			var each []time.Duration
			once(b, func() {
				for range repetitions {
					began := time.Now()
					x.Apply(model.Set(pod))
					v := x.View()
					each = append(each, time.Since(began))
					if m, _ := v.Members(all[0]); m.V4.Len() != 1 {
						b.Fatal("it is no member")
					}
					x.Apply(model.Gone(pod.Key))
					x.View()
				}
			})
			reportEach(b, each)
		})
		b.Run(fmt.Sprintf("naive/%d", size), func(b *testing.B) {
			n := newNaive(all)
			var each []time.Duration
			once(b, func() {
				for range repetitions / 100 {
					began := time.Now()
					n.set(pod)
					each = append(each, time.Since(began))
				}
			})
			reportEach(b, each)
		})
	}
}

// reportEach reports what one change took. Where the machine does other work,
// the median says more than the mean.
func reportEach(b *testing.B, each []time.Duration) {
	slices.Sort(each)
	var all time.Duration
	for _, d := range each {
		all += d
	}
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	b.ReportMetric(micros(all)/float64(len(each)), "µs/change")
	b.ReportMetric(micros(each[len(each)/2]), "µs/median")
	b.ReportMetric(micros(each[len(each)*99/100]), "µs/p99")
}

const (
	hugeMesh  = 1_000_000
	hugeSpace = 10 // pods a namespace
)

func hugeNamespace(i, version int) *model.Namespace {
	return namespace(remoteCluster, fmt.Sprintf("namespace-%d", i), map[string]string{"stage": fmt.Sprint("stage-", (i+version)%10)})
}

func hugePod(i, version int) *model.Endpoint {
	return names{}.numberedPod(i, false, fmt.Sprintf("namespace-%d", i/hugeSpace), oneInN(i+version))
}

// BenchmarkIndexOneChange is one change at a million endpoints, with a View.
func BenchmarkIndexOneChange(b *testing.B) {
	x := index.New()
	for _, c := range clusters() {
		x.Apply(model.Set(c))
	}
	for i := range hugeMesh / hugeSpace {
		x.Apply(model.Set(hugeNamespace(i, 0)))
	}
	for i := range hugeMesh {
		x.Apply(model.Set(hugePod(i, 0)))
	}
	var tracked []selector.Selector
	for i := range markers {
		tracked = append(tracked, selector.And(selector.Eq(model.KeyKind, "Pod"), selector.Has(marker(i))))
	}
	for i := range 10 {
		tracked = append(tracked, selector.Eq(model.PrefixNamespace+"stage", fmt.Sprint("stage-", i)))
	}
	for _, s := range tracked {
		x.Track(s)
	}
	x.View()
	const step = 7919 // a prime: each change is far from the one before
	cases := []struct {
		name   string
		change func(i int) model.Change
	}{
		{"index/label", func(i int) model.Change { return model.Set(hugePod(i*step%hugeMesh, 1)) }},
		{"index/namespace-of-10", func(i int) model.Change { return model.Set(hugeNamespace(i*step%(hugeMesh/hugeSpace), 1)) }},
		{"index/gone", func(i int) model.Change { return model.Gone(hugePod(i*step%hugeMesh, 1).Key) }},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			const times = 2000
			var each []time.Duration
			once(b, func() {
				for i := range times {
					change := c.change(i)
					began := time.Now()
					x.Apply(change)
					x.View()
					each = append(each, time.Since(began))
				}
			})
			reportEach(b, each)
		})
	}
	b.Run("naive-rebuild/10000-endpoints", func(b *testing.B) {
		endpoints := make([]*model.Endpoint, 10_000)
		for i := range endpoints {
			endpoints[i] = hugePod(i, 0)
		}
		var took time.Duration
		once(b, func() {
			began := time.Now()
			n := newNaive(tracked)
			for _, e := range endpoints {
				n.set(e)
			}
			took = time.Since(began)
		})
		b.ReportMetric(float64(took.Nanoseconds())/1e3, "µs/change")
	})
}
