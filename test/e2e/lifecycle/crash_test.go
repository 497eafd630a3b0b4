package lifecycle

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startTime is about how long a small lab takes to come up; moments of a crash
// are spread over it.
const startTime = 12 * time.Second

// chance is a source of random moments; the seed is printed, and it can be
// given to repeat a run.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("OVERLAND_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("OVERLAND_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// between is a random time from one share of the start to another.
func between(r *rand.Rand, from, to float64) time.Duration {
	return time.Duration((from + r.Float64()*(to-from)) * float64(startTime))
}

func TestUpKilledAtAnyMomentIsRemovedByDown(t *testing.T) {
	random := chance(t)
	// More of them early, where the steps are short.
	for _, share := range [][2]float64{{0, 0.02}, {0.02, 0.06}, {0.06, 0.12}, {0.12, 0.2}, {0.2, 0.4}, {0.4, 0.6}, {0.6, 1}} {
		after := between(random, share[0], share[1])
		t.Run(fmt.Sprintf("after %s", after), func(t *testing.T) {
			l := newLab(t, "killed")
			up := l.start(small()...)
			time.Sleep(after)
			if err := up.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			up.wait(t)
			l.down()
			if out := l.must("down"); !strings.Contains(out, "nothing to do") {
				t.Errorf("a second down says %q", out)
			}
		})
	}
}

func TestInterruptedUpRemovesAllByItself(t *testing.T) {
	random := chance(t)
	for _, signal := range []unix.Signal{unix.SIGINT, unix.SIGTERM} {
		after := between(random, 0, 0.5)
		t.Run(fmt.Sprintf("%s after %s", unix.SignalName(signal), after), func(t *testing.T) {
			l := newLab(t, "interrupted")
			up := l.start(small()...)
			l.first()
			time.Sleep(after)
			processes := l.processes()
			if err := up.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			a := up.wait(t)
			if a.status <= 0 || !strings.Contains(a.out, "interrupted: removing what was started") {
				t.Errorf("up: %s", a)
			}
			l.nothingLeft(processes)
		})
	}
}

func TestALabThatLostItsFirstProcessIsReplacedByUp(t *testing.T) {
	random := chance(t)
	l := newLab(t, "crashed")
	up := l.start(small()...)
	first := l.first()
	time.Sleep(between(random, 0, 0.5))
	processes := l.processes()
	if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if a := up.wait(t); a.status != 1 || !strings.Contains(a.complaint, "the lab ended") {
		t.Errorf("the up of a lab that was killed: %s", a)
	}
	l.refused(l.command("status"), 1, "no lab is up in "+string(l.dir))
	l.noneLeft(processes)
	out := l.must(small()...)
	if want := "found the remains of a lab that is not running in " + string(l.dir) + ": removing them\n"; !strings.Contains(out, want) {
		t.Errorf("up says\n%s\nwithout %q", out, want)
	}
	if status := l.status(); status.Phase != "ready" {
		t.Errorf("the lab's phase is %s", status.Phase)
	}
	endsWithItsDaemon(l)
}

// endsWithItsDaemon kills the daemon of a lab that is up: all ends with it.
func endsWithItsDaemon(l *lab) {
	l.t.Helper()
	first := l.first()
	processes := l.processes()
	daemon := 0
	for _, p := range processes {
		// The first process starts nothing but the daemon; what else it has for
		// a child was left to it, and is younger.
		if p.parent == first.PID && (daemon == 0 || p.pid < daemon) {
			daemon = p.pid
		}
	}
	if err := unix.Kill(daemon, unix.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
	l.eventually("the first process has ended", func() bool { return !first.Alive() })
	l.refused(l.command("status"), 1, "no lab is up in "+string(l.dir))
	if out := l.must("down"); out != "the lab in "+string(l.dir)+" is gone\n" {
		l.t.Errorf("down says %q", out)
	}
	l.nothingLeft(processes)
}
