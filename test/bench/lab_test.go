package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/overland-net/overland/test/lab/state"
)

func BenchmarkLabUp(b *testing.B) {
	status, err := measured(b).lab.Daemon.Status(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	once(b, func() {})
	b.ReportMetric(status.Took.Seconds(), "s/ready")
	b.ReportMetric(measured(b).up.Seconds(), "s/command")
	b.ReportMetric(measured(b).bare.Seconds(), "s/bare-API-server")
	b.ReportMetric(status.Took.Seconds()/measured(b).bare.Seconds(), "ready/bare")
}

// BenchmarkLabMemory reports proportional set sizes: shared pages count once.
func BenchmarkLabMemory(b *testing.B) {
	status, err := measured(b).lab.Daemon.Status(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var sizes map[string]float64
	once(b, func() { sizes = memoryByProgram(b) })
	b.ReportMetric(float64(status.Memory)/(1<<20), "MiB/all")
	for name, size := range sizes {
		// Small ones would hide the figures that matter.
		if size >= 5 {
			b.ReportMetric(size, "MiB/"+name)
		}
	}
}

// memoryByProgram adds up the processes of each program, in MiB.
func memoryByProgram(b *testing.B) map[string]float64 {
	b.Helper()
	// The daemon's log is in the state folder's log folder.
	dir := state.Dir(filepath.Dir(filepath.Dir(measured(b).lab.Log("daemon"))))
	first, recorded, err := dir.Recorded()
	if err != nil || !recorded {
		b.Fatalf("the lab's first process: recorded %t, %v", recorded, err)
	}
	folders, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/proc/[0-9]*", first.PID))
	if err != nil {
		b.Fatal(err)
	}
	sizes := map[string]float64{}
	for _, folder := range folders {
		text, err := os.ReadFile(filepath.Join(folder, "smaps_rollup"))
		if err != nil {
			continue // it has ended
		}
		line, err := os.ReadFile(filepath.Join(folder, "cmdline"))
		if err != nil {
			continue // as above
		}
		sizes[programName(strings.Split(string(line), "\x00"))] += pss(string(text))
	}
	return sizes
}

// programName is the program that a command line runs; of the lab's own, its
// role.
func programName(words []string) string {
	name := filepath.Base(words[0])
	if name == "lab" && len(words) > 1 {
		return "lab-" + words[1]
	}
	return name
}

// pss is the proportional set size, in MiB, of a smaps_rollup file.
func pss(text string) float64 {
	lines := strings.Split(text, "\n")
	i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "Pss:") })
	if i < 0 {
		return 0
	}
	kib, err := strconv.ParseFloat(strings.Fields(lines[i])[1], 64)
	if err != nil {
		return 0
	}
	return kib / 1024
}
