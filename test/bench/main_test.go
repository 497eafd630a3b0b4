package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/labtest"
)

// figures are what is measured while the lab comes up, once for all benchmarks.
type figures struct {
	lab *labtest.Lab
	// bare is from the start of a lone etcd and API server to its readiness,
	// before anything else ran.
	bare time.Duration
	up   time.Duration // of the command, to all nodes Ready and DNS serving
}

// measured is set before the benchmarks run.
var measured figures

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if pattern := flag.Lookup("test.bench"); pattern == nil || pattern.Value.String() == "" {
		return m.Run() // no benchmark is asked for
	}
	bare, err := bareAPIServer()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	began := time.Now()
	lab, down, err := labtest.Up()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	measured = figures{lab: lab, bare: bare, up: time.Since(began)}
	code := m.Run()
	if err := down(code != 0); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return code
}

// once calls f b.N times and removes the time of an operation, which means
// nothing here, from the output.
func once(b *testing.B, f func()) {
	b.Helper()
	for b.Loop() {
		f()
	}
	b.ReportMetric(0, "ns/op") // zero values are not printed
}
