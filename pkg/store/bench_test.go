package store

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/sirupsen/logrus"
)

func quiet() *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logrus.NewEntry(logger)
}

// mesh is pods as they are: six labels each, ten of a workload.
func mesh(n int) []model.Fact {
	all := make([]model.Fact, n)
	for i := range all {
		workload := fmt.Sprintf("workload-%d", i/10)
		all[i] = &model.Endpoint{
			Key: model.PodKey(canada, fmt.Sprintf("namespace-%d", i/1000), fmt.Sprintf("%s-7d9c5b8f6d-%05x", workload, i)), UID: uid(i),
			Labels: model.NewLabels(map[string]string{
				"app.kubernetes.io/name": workload, "app.kubernetes.io/instance": workload, "app.kubernetes.io/part-of": "shop",
				"pod-template-hash": "7d9c5b8f6d", "tier": "backend", "team": fmt.Sprintf("team-%d", i/1000),
			}),
			ServiceAccount: workload, Node: fmt.Sprintf("aks-nodepool1-12345678-vmss%06d", i%200), Created: 1_800_000_000 + int64(i),
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
			Ports:     []model.NamedPort{{Name: "http", Protocol: model.TCP, Port: 8080}},
		}
	}
	return all
}

func benchmarkStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.TempDir(), DefaultLimit, quiet())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closeStore(b, s) })
	return s
}

func BenchmarkAppendOneChange(b *testing.B) {
	s := benchmarkStore(b)
	s.limit = 1 << 40
	change := sets(mesh(1))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Append(canada, uid(1), at(1), change); err != nil {
			b.Fatal(err)
		}
	}
	c := s.files[canada]
	b.ReportMetric(float64(c.size-c.image)/float64(b.N), "filebytes/change")
}

func BenchmarkAppendContact(b *testing.B) {
	s := benchmarkStore(b)
	s.limit = 1 << 40
	for b.Loop() {
		if err := s.Append(canada, uid(1), at(1), nil); err != nil {
			b.Fatal(err)
		}
	}
	c := s.files[canada]
	b.ReportMetric(float64(c.size-c.image)/float64(b.N), "filebytes/change")
}

func BenchmarkRewrite100k(b *testing.B) {
	const n = 100_000
	s, all := benchmarkStore(b), mesh(n)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Rewrite(canada, uid(1), at(1), slices.Values(all)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(s.files[canada].image)/n, "filebytes/endpoint")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/endpoint")
}

func BenchmarkLoad100k(b *testing.B) {
	const n = 100_000
	s := benchmarkStore(b)
	if err := s.Rewrite(canada, uid(1), at(1), slices.Values(mesh(n))); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if image, ok := s.Load(canada); !ok || len(image.Facts) != n {
			b.Fatalf("%d facts, %v", len(image.Facts), ok)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/endpoint")
}
