package agent

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

func TestAFloodCostsOneStepAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		a := newAgent(testConfig(), nil, quiet())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		synctest.Wait()
		first, _ := a.Snapshot()
		for i := range 1000 { // a second of a thousand events
			a.Facts(model.Batch{Cluster: "west", Changes: []model.Change{model.Set(pod("west", "demo", fmt.Sprint(i)))}})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		last, _ := a.Snapshot()
		if steps := last.Gen - first.Gen; steps < 40 || steps > 51 {
			t.Errorf("%d snapshots in a second, want one every 20 ms", steps)
		}
		if last.View.Len() != 1000 {
			t.Errorf("%d endpoints", last.View.Len())
		}
		// At once when idle.
		_, newer := a.Snapshot()
		before := time.Now()
		a.Facts(model.Batch{Cluster: "west", Changes: []model.Change{model.Set(pod("west", "demo", "last"))}})
		<-newer
		if waited := time.Since(before); waited != 0 {
			t.Errorf("an idle agent took a step after %v", waited)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTimeAloneMakesASnapshot_1_2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		a := newAgent(testConfig(), newFakeStore(), quiet())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		canada := remote("canada", 1)
		canada.StaleAfter = time.Hour
		a.Facts(remotes(canada))
		a.Facts(list("canada", model.KindPod, pod("canada", "demo", "a")))
		a.Status("canada", inState(model.StateOutOfContact, time.Now()))
		time.Sleep(time.Hour - time.Second)
		if s, _ := a.Snapshot(); s.View.Len() != 1 {
			t.Errorf("%d endpoints before staleAfter", s.View.Len())
		}
		time.Sleep(2 * time.Second)
		if s, _ := a.Snapshot(); s.View.Len() != 0 {
			t.Errorf("%d endpoints after staleAfter", s.View.Len())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestSnapshotsNeverChange reads snapshots, and what they hold, while the agent
// goes on. What it finds it finds with -race.
func TestSnapshotsNeverChange(t *testing.T) {
	files := newFakeStore()
	files.long = 2
	a := newAgent(testConfig(), files, quiet())
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = a.Run(ctx) })
	for range 3 {
		group.Go(func() {
			for ctx.Err() == nil {
				s, newer := a.Snapshot()
				before, problems := all(s), fmt.Sprint(s.Clusters, s.Problems)
				select {
				case <-newer:
				case <-ctx.Done():
				}
				if all(s) != before || fmt.Sprint(s.Clusters, s.Problems) != problems {
					t.Error("a snapshot has changed")
				}
			}
		})
	}
	a.Facts(remotes(remote("canada", 1), remote("texas", 2)))
	var writers sync.WaitGroup
	for _, name := range []string{"west", "canada", "texas"} {
		writers.Go(func() {
			for i := range 300 {
				a.Facts(model.Batch{Cluster: name, Changes: []model.Change{
					model.Set(pod(name, "demo", fmt.Sprint(i%40), "n", fmt.Sprint(i))),
					model.Gone(model.PodKey(name, "demo", fmt.Sprint((i+20)%40))),
				}})
				a.Status(name, inState(model.State(i%4), testStart().Add(time.Duration(i)*time.Second)))
			}
		})
	}
	writers.Wait()
	for {
		s, newer := a.Snapshot()
		if s.View.Len() == 3*20 {
			break
		}
		<-newer
	}
	stop()
	group.Wait()
}
