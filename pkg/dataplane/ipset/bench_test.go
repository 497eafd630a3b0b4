package ipset

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/desired"
)

// The benchmarks print elements a second, of a set with 100,000.
const many = 100_000

func BenchmarkAdd(b *testing.B) {
	for _, s := range []Set{{"ovl4-ip", HashIP, desired.IPv4, many}, {"ovl6-ip", HashIP, desired.IPv6, many}, {"ovl4-net", HashNet, desired.IPv4, many}, {"ovl4-port", HashIPPort, desired.IPv4, many}} {
		for _, size := range []int{many, 0} {
			b.Run(fmt.Sprintf("%s/expected=%d", s.Name, size), func(b *testing.B) {
				ctx := context.Background()
				c := dial(b)
				all := elements(s, many)
				s.Size = size
				for b.Loop() {
					b.StopTimer()
					if err := c.Destroy(ctx, s.Name); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
					if err := c.Create(ctx, s); err != nil {
						b.Fatal(err)
					}
					if _, err := c.Add(ctx, s, slices.Values(all)); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(many)*float64(b.N)/b.Elapsed().Seconds(), "elements/s")
			})
		}
	}
}

func BenchmarkElements(b *testing.B) {
	for _, s := range []Set{{"ovl4-ip", HashIP, desired.IPv4, many}, {"ovl6-port", HashIPPort, desired.IPv6, many}} {
		b.Run(s.Name, func(b *testing.B) {
			ctx := context.Background()
			c := dial(b)
			if err := c.Create(ctx, s); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Add(ctx, s, slices.Values(elements(s, many))); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, list, err := c.Elements(ctx, s.Name); err != nil || len(list) != many {
					b.Fatal(len(list), err)
				}
			}
			b.ReportMetric(float64(many)*float64(b.N)/b.Elapsed().Seconds(), "elements/s")
		})
	}
}

// BenchmarkOneChange is what one label change costs in one set.
func BenchmarkOneChange(b *testing.B) {
	ctx := context.Background()
	c := dial(b)
	s := Set{"ovl4-ip", HashIP, desired.IPv4, many}
	if err := c.Create(ctx, s); err != nil {
		b.Fatal(err)
	}
	one := elements(s, 1)
	for b.Loop() {
		if _, err := c.Add(ctx, s, slices.Values(one)); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Delete(ctx, s, slices.Values(one)); err != nil {
			b.Fatal(err)
		}
	}
}
