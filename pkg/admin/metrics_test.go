package admin

import (
	"bytes"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"

	"github.com/overland-net/overland/pkg/agent"
)

// page is what /metrics shows of our own.
func page(t *testing.T, s *agent.Snapshot) []byte {
	t.Helper()
	return pageWith(t, s, nil)
}

func pageWith(t *testing.T, s *agent.Snapshot, dp Dataplane) []byte {
	t.Helper()
	return pageOf(t, s, Config{Self: self(), Now: noon, Dataplane: dp})
}

func pageOf(t *testing.T, s *agent.Snapshot, config Config) []byte {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	server := NewServer(config, fixed{s}, quiet())
	if err := r.Register(newCollector(fixed{s}, server.enforcing, server.config.Services, self(), noon)); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestMetrics(t *testing.T) {
	golden(t, "metrics.txt", page(t, world()))
	golden(t, "metrics-starting.txt", page(t, nil))
}

func TestMetricNamesAreGood(t *testing.T) {
	enforced := enforced(t)
	problems, err := promlint.New(bytes.NewReader(pageOf(t, enforced, Config{
		Self: self(), Now: noon, Dataplane: applied(enforced), Services: leading(),
	}))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestRemoteTextCannotBreakTheMetrics_1_6(t *testing.T) {
	s := world()
	s.Clusters[1].Status.KubernetesVersion = "v1\xff\n" + strings.Repeat("é", 100000)
	s.Clusters[1].Status.ClusterUID = "\xff"
	text := string(page(t, s))
	if !strings.Contains(text, `cluster_uid="?"`) || len(text) > 10000 {
		t.Errorf("got %d bytes: %.300s", len(text), text)
	}
}
