package bench

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/labtest"
)

// figures are what is measured while the lab comes up, once for all benchmarks.
type figures struct {
	lab  *labtest.Lab
	down func(failed bool) error
	// bare is from the start of a lone etcd and API server to its readiness,
	// before anything else ran.
	bare time.Duration
	up   time.Duration // of the command, to all nodes Ready and DNS serving
}

// brought is the lab, once a benchmark has asked for it: many need none.
var brought *figures

// measured brings the lab up, the first time.
func measured(b *testing.B) *figures {
	b.Helper()
	if brought != nil {
		return brought
	}
	bare, err := bareAPIServer()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	lab, down, err := labtest.Up()
	if err != nil {
		b.Fatal(err)
	}
	brought = &figures{lab: lab, down: down, bare: bare, up: time.Since(began)}
	return brought
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if pods := os.Getenv(syntheticVariable); pods != "" {
		return synthesize(pods)
	}
	flag.Parse()
	code := m.Run()
	if brought != nil {
		if err := brought.down(code != 0); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
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

// synthesize is the program's other role.
func synthesize(pods string) int {
	n, err := strconv.Atoi(pods)
	if err == nil {
		err = serveSynthetic(n, os.TempDir())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}
