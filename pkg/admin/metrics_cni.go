package admin

import (
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// cniMetrics count what the CNI plugin asks for.
type cniMetrics struct {
	took        *prometheus.HistogramVec
	attachments prometheus.GaugeFunc
}

func newCNIMetrics(cni CNI) *cniMetrics {
	return &cniMetrics{
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "overland_cni_request_duration_seconds",
			Help: "How long the agent took to serve the CNI plugin, by command (add: until the kernel enforces the pod's policies) and result: ok, or an error's code.",
			// The aim is 0.15 s; the plugin gives up after 10 s.
			Buckets: []float64{.005, .01, .025, .05, .1, .15, .25, .5, 1, 2.5, 5, 10},
		}, []string{"command", "result"}),
		attachments: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "overland_cni_attachments", Help: "Pods of this node that are connected through the CNI plugin.",
		}, func() float64 { return float64(cni.Count()) }),
	}
}

// observe counts a request of one of the paths of api that began at that time.
func (m *cniMetrics) observe(of string, began time.Time, err error) {
	m.took.WithLabelValues(path.Base(of), resultOf(err)).Observe(time.Since(began).Seconds())
}
