package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// BenchmarkRemoteList is the list of a remote cluster of 100,000 pods, through
// the mailbox and the Core. The longest step is what a local change may have to
// wait for.
func BenchmarkRemoteList(b *testing.B) {
	var facts []model.Fact
	for i := range 100_000 {
		facts = append(facts, pod("canada", fmt.Sprint("space-", i%100), fmt.Sprint("pod-", i), "app", fmt.Sprint(i%500)))
	}
	for b.Loop() {
		core, box := NewCore(testConfig(), testStart()), newMailbox("west")
		box.facts(remotes(remote("canada", 1)))
		box.facts(list("canada", model.KindPod, facts...))
		longest := time.Duration(0)
		for more := true; more; {
			start := time.Now()
			mail, listed := box.take(func(name string, _ *Mail) bool { return core.Busy(name) })
			more = core.Step(Input{Now: testStart(), Mail: mail, Listed: listed}).More
			longest = max(longest, time.Since(start))
		}
		b.ReportMetric(float64(longest.Microseconds()), "µs/longest-step")
	}
}

// BenchmarkOneChange is one changed pod of 100,000.
func BenchmarkOneChange(b *testing.B) {
	core := NewCore(testConfig(), testStart())
	mail := newMail()
	for i := range 100_000 {
		p := pod("canada", fmt.Sprint("space-", i%100), fmt.Sprint("pod-", i))
		mail.Changes[p.Key] = p
	}
	for out := core.Step(Input{Mail: map[string]*Mail{"canada": mail}}); out.More; {
		out = core.Step(Input{})
	}
	n := 0
	for b.Loop() {
		n++
		mail := newMail()
		p := pod("canada", "space-1", "pod-1", "n", fmt.Sprint(n))
		mail.Changes[p.Key] = p
		core.Step(Input{Mail: map[string]*Mail{"canada": mail}})
	}
}
