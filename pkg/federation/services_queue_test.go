package federation

import (
	"fmt"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

func serviceKey(i int) model.Key { return model.ServiceKey("west", "shop", fmt.Sprint(i)) }

func TestAServiceComesOnceForManyMarks(t *testing.T) {
	q, now := newQueue(), someTime()
	for range 100 {
		q.mark(now, serviceKey(1))
	}
	if key, _, ok := q.next(now); !ok || key != serviceKey(1) {
		t.Fatalf("got %v, %v", key, ok)
	}
	if _, wait, ok := q.next(now); ok || wait != 0 {
		t.Errorf("there is another one, or in %v", wait)
	}
}

func TestOneServiceIsPlannedAtABoundedRateAndDelaysNoOther(t *testing.T) {
	q, now := newQueue(), someTime()
	planned := map[model.Key]int{}
	for range 10000 { // ten seconds
		now = now.Add(time.Millisecond)
		q.mark(now, serviceKey(1))
		for {
			key, _, ok := q.next(now)
			if !ok {
				break
			}
			planned[key]++
		}
	}
	if n, want := planned[serviceKey(1)], planBurst+int(10*time.Second/planPeriod); n < want-1 || n > want+1 {
		t.Errorf("planned %d times, want about %d", n, want)
	}
	q.mark(now, serviceKey(2))
	if key, _, ok := q.next(now); !ok || key != serviceKey(2) {
		t.Errorf("another one waits: %v, %v", key, ok)
	}
}

func TestWhatIsBeingWrittenIsNotPlannedMeanwhile(t *testing.T) {
	q, now := newQueue(), someTime()
	q.mark(now, serviceKey(1))
	q.next(now)
	q.start(serviceKey(1))
	q.mark(now, serviceKey(1))
	q.at(now, serviceKey(1), now)
	if key, _, ok := q.next(now); ok {
		t.Fatalf("%v is planned while it is written", key)
	}
	q.sweep(now.Add(time.Hour))
	q.done(now, serviceKey(1))
	if _, _, ok := q.next(now); !ok {
		t.Error("what happened meanwhile is forgotten")
	}
}

func TestTimeAloneIsAReasonToPlan_4_9(t *testing.T) {
	q, now := newQueue(), someTime()
	q.at(now, serviceKey(1), now.Add(time.Hour))
	q.at(now, serviceKey(1), now.Add(time.Minute))
	q.at(now, serviceKey(1), now.Add(2*time.Hour))
	q.at(now, serviceKey(1), time.Time{})
	if _, wait, ok := q.next(now); ok || wait != time.Minute {
		t.Errorf("due %v, in %v", ok, wait)
	}
	q.mark(now, serviceKey(1))
	if _, _, ok := q.next(now); !ok {
		t.Error("a change waits for it")
	}
	// The plan says anew when it is due.
	if _, wait, ok := q.next(now.Add(time.Hour)); ok || wait != 0 {
		t.Errorf("due %v, in %v", ok, wait)
	}
}

func TestTheQueueForgetsWhatIsIdle(t *testing.T) {
	q, now := newQueue(), someTime()
	for i := range 100 {
		q.mark(now, serviceKey(i))
	}
	for {
		if _, _, ok := q.next(now); !ok {
			break
		}
	}
	q.at(now, serviceKey(3), now.Add(time.Hour))
	q.sweep(now.Add(time.Minute))
	if len(q.items) != 1 {
		t.Errorf("%d are remembered", len(q.items))
	}
}
