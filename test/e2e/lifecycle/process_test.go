package lifecycle

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/state"
)

// process is a process by its number in the PID namespace of a mount of proc.
type process struct {
	pid, parent int
	start       uint64
	net         string // its network namespace
	program     string // as its own mount namespace shows it
}

// processesIn lists the processes that a mount of proc shows.
func processesIn(t *testing.T, proc string) []process {
	t.Helper()
	entries, err := os.ReadDir(proc)
	if err != nil {
		t.Fatal(err)
	}
	var all []process
	for _, e := range entries {
		dir := filepath.Join(proc, e.Name())
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // no process
		}
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		// What follows the name in parentheses begins with field 3.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		start, err := strconv.ParseUint(fields[19], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		// A process that is ending has neither any more.
		net, _ := os.Readlink(filepath.Join(dir, "ns/net"))
		program, _ := os.Readlink(filepath.Join(dir, "exe"))
		all = append(all, process{pid: pid, parent: parent, start: start, net: net, program: program})
	}
	return all
}

// below lists the process itself and its descendants.
func below(all []process, root int) []process {
	var found []process
	for _, p := range all {
		if p.pid == root {
			found = append(found, p)
		}
		if p.parent == root {
			found = append(found, below(all, p.pid)...)
		}
	}
	return found
}

// processes are all processes of the lab, by the machine's numbers: the first
// one's descendants, since it is the parent of all that have lost theirs.
func (l *lab) processes() []process {
	l.t.Helper()
	first, recorded, err := l.dir.Recorded()
	if err != nil {
		l.t.Fatal(err)
	}
	if !recorded || !first.Alive() {
		return nil
	}
	return below(processesIn(l.t, "/proc"), first.PID)
}

// noneLeft checks that these processes are gone, and any other one whose
// program is, or was, in the state folder.
func (l *lab) noneLeft(old []process) {
	l.t.Helper()
	// What was killed before it had written itself down ends by itself, when it
	// comes to do that and finds the folder gone.
	const patience = 5 * time.Second
	left := l.left(old)
	for deadline := time.Now().Add(patience); len(left) > 0 && time.Now().Before(deadline); left = l.left(old) {
		time.Sleep(50 * time.Millisecond)
	}
	for _, p := range left {
		l.t.Errorf("still there: %+v", p)
	}
}

// left are those of the old processes that are alive, and all of the lab's programs.
func (l *lab) left(old []process) (left []process) {
	l.t.Helper()
	self, err := state.Self("/proc")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, p := range old {
		if (state.Process{PID: p.pid, Start: p.start, Boot: self.Boot}).Alive() {
			left = append(left, p)
		}
	}
	for _, p := range processesIn(l.t, "/proc") {
		if strings.HasPrefix(p.program, string(l.dir)+"/") {
			left = append(left, p)
		}
	}
	return left
}
