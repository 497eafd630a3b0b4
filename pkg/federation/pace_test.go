package federation

import (
	"fmt"
	"testing"
	"time"
)

func start() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// writes drives a pace with something due of every object at every tick, and
// counts the writes of each.
func writes(p *pace, objects int, d difference, now time.Time, tick, length time.Duration) (total int, each map[string]int) {
	each = map[string]int{}
	for end := now.Add(length); now.Before(end); now = now.Add(tick) {
		for i := range objects {
			uid := fmt.Sprint(i)
			if p.wait(now, uid, d) == 0 {
				p.tried(now, uid, d)
				p.succeeded(uid)
				each[uid]++
				total++
			}
		}
	}
	return total, each
}

func TestTurnsAreWrittenAtOnceAndThenAtABoundedRate(t *testing.T) {
	p := newPace()
	for i := range turnBurst {
		if w := p.wait(start(), "a", turn); w != 0 {
			t.Fatalf("turn %d waits %s", i, w)
		}
		p.tried(start(), "a", turn)
	}
	if w := p.wait(start(), "a", turn); w != turnPeriod {
		t.Errorf("the one after the burst waits %s, want %s", w, turnPeriod)
	}
	_, each := writes(newPace(), 1, turn, start(), 100*time.Millisecond, 10*time.Minute)
	if most := turnBurst + int(10*time.Minute/turnPeriod); each["0"] > most || each["0"] < most-1 {
		t.Errorf("an object that flaps all the time is written %d times in 10 minutes, want %d", each["0"], most)
	}
}

func TestDriftIsWrittenOnceAMinute_1_2(t *testing.T) {
	_, each := writes(newPace(), 3, drift, start(), time.Second, 10*time.Minute)
	for uid, n := range each {
		if n != 10 {
			t.Errorf("object %s: %d writes in 10 minutes", uid, n)
		}
	}
}

func TestDriftDoesNotSpendTheTurnsOfAnObject(t *testing.T) {
	p := newPace()
	p.tried(start(), "a", drift)
	for range turnBurst {
		if w := p.wait(start(), "a", turn); w != 0 {
			t.Fatalf("a turn waits %s", w)
		}
		p.tried(start(), "a", turn)
	}
}

func TestAllObjectsTogetherAreBounded(t *testing.T) {
	total, _ := writes(newPace(), 500, turn, start(), 50*time.Millisecond, time.Minute)
	if most := totalBurst + int(time.Minute/totalPeriod); total > most || total < most-1 {
		t.Errorf("%d writes in a minute, want %d", total, most)
	}
}

func TestFailuresBackOffAndStayDue(t *testing.T) {
	p, now := newPace(), start()
	var waits []time.Duration
	for range 8 {
		p.tried(now, "a", drift)
		p.failed(now, "a")
		w := p.wait(now, "a", drift)
		waits = append(waits, w)
		now = now.Add(w)
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}
	for i := range want {
		if waits[i] != want[i]*time.Second {
			t.Fatalf("waits %v", waits)
		}
	}
	p.tried(now, "a", drift)
	p.succeeded("a")
	if w := p.wait(now, "a", turn); w != 0 {
		t.Errorf("after a success a turn waits %s", w)
	}
}

func TestObjectsThatAreGoneAreForgotten(t *testing.T) {
	p := newPace()
	p.tried(start(), "a", turn)
	p.tried(start(), "b", turn)
	p.keep(map[string]bool{"b": true})
	if len(p.objects) != 1 || p.objects["b"] == nil {
		t.Errorf("kept %v", p.objects)
	}
}
