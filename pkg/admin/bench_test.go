package admin

import (
	"fmt"
	"io"
	"net/url"
	"testing"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// BenchmarkList makes and writes the list of 250,000 endpoints; B/op is mostly
// garbage of single items. peak-B is the memory that the list itself holds.
func BenchmarkList(b *testing.B) {
	x := index.New()
	x.Apply(model.Set(&model.Cluster{Name: "west", Local: true}))
	for i := range 250_000 {
		x.Apply(model.Set(&model.Endpoint{
			Key: model.PodKey("west", fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("pod-%d", i)), Node: "node-1",
			Addresses: addresses(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)),
			Labels:    labelSet("app", fmt.Sprintf("app-%d", i%300), "tier", "x"),
		}))
	}
	s := &agent.Snapshot{Gen: 1, Self: self(), View: x.View(), InSync: true}
	for _, query := range []url.Values{{}, {"labelSelector": {"app in (app-1,app-2),tier"}}} {
		b.Run(query.Encode(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l, err := endpoints(request{snapshot: s, known: true, now: noon(), query: query})
				if err != nil {
					b.Fatal(err)
				}
				if err := l.write(b.Context(), io.Discard); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(cap(l.entries)*8), "peak-B")
			}
		})
	}
}
