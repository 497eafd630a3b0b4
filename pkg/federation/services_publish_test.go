package federation

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/federation/plan"
)

func TestReportsAreLeftOutWhereThereIsNoRoom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var all []api.Service
	for i := range 20000 {
		all = append(all, api.Service{Namespace: "shop", Name: fmt.Sprint(i), Expression: fmt.Sprintf("%x%x%x%x", random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64())})
	}
	for _, limit := range []int{200, 10000, maxReports} {
		packed, err := Reports{Format: reportsFormat, Services: all}.pack(limit)
		if err != nil || len(packed) > limit {
			t.Fatalf("limit %d: %d bytes, %v", limit, len(packed), err)
		}
		got, err := unpack(packed)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Services)+got.LeftOut != len(all) || limit > 1000 && len(got.Services) == 0 {
			t.Errorf("limit %d: %d are there, %d left out", limit, len(got.Services), got.LeftOut)
		}
	}
}

func FuzzAnythingMayBeInTheConfigMap(f *testing.F) {
	packed, err := Reports{Format: reportsFormat, Services: []api.Service{{Name: "a"}}}.pack(maxReports)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := unpack(b); err == nil && p.Format != reportsFormat {
			t.Errorf("format %d is taken", p.Format)
		}
	})
}

func TestABombIsNotUnpacked(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for range maxUnpacked/(1<<20) + 2 {
		_, _ = z.Write(bytes.Repeat([]byte{' '}, 1<<20))
	}
	_ = z.Close()
	if _, err := unpack(b.Bytes()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

func TestOtherAgentsReadWhatTheLeaderKnows(t *testing.T) {
	inLab(t, 20, func(l *servicesLab) {
		l.world("10.2.0.1")
		follower := NewServices(ServicesConfig{Cluster: "west", Namespace: "overland-system"}, l.api.client(), l.seen, labContacts{l}, quiet())
		if _, err := follower.Published(l.Context()); err == nil || !strings.Contains(err.Error(), "no agent has published anything") {
			t.Errorf("before: %v", err)
		}
		leader, end := l.lead("agent-1")
		time.Sleep(soon)
		got, err := follower.Published(l.Context())
		if err != nil || got.Leader != "agent-1" || len(got.Services) != 1 || got.Services[0].Published != 1 || got.Services[0].Federated.Reason != plan.ReasonInSync {
			t.Fatalf("got %+v, %v", got, err)
		}
		if own, _ := leader.Snapshot(); !own.Whole || len(own.Reports) != 1 || own.Backing["canada"] != 1 || own.Published["canada"] != 1 || own.Totals.Plans == 0 {
			t.Errorf("the leader has %+v", own)
		}
		end()
		time.Sleep(time.Second)
		if own, _ := leader.Snapshot(); own.Leading || own.Whole || own.Reports != nil || own.Totals.Plans == 0 {
			t.Errorf("who does not lead any more has %+v", own)
		}
		// Another one takes over what is there, and does not empty it first.
		l.api.changed = func(resource string, is map[string]any, gone bool) {
			l.locally(resource, is, gone)
			m := new(corev1.ConfigMap)
			if resource != "configmaps" {
				return
			}
			if err := json.Unmarshal(mustJSON(is), m); err != nil {
				t.Error(err)
			}
			if p, err := unpack(m.BinaryData[reportsKey]); err != nil || len(p.Services) != 1 {
				t.Errorf("published %+v, %v", p, err)
			}
		}
		_, end = l.lead("agent-2")
		defer end()
		time.Sleep(soon)
		if got, err := follower.Published(l.Context()); err != nil || got.Leader != "agent-2" || len(got.Services) != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestReportsAreWrittenAtABoundedRateAndAgainInTime(t *testing.T) {
	inLab(t, 21, func(l *servicesLab) {
		l.api.failing = 0
		var times []time.Time
		l.api.changed = func(resource string, is map[string]any, gone bool) {
			if l.locally(resource, is, gone); resource == "configmaps" {
				times = append(times, time.Now())
			}
		}
		l.world("10.2.0.1", "10.2.0.2")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		l.api.do(func() { times = nil })
		for i := range 60 {
			l.canada(redis("canada", []string{"10.2.0.1", "10.2.0.2"}[:1+i%2]...)...)
			time.Sleep(time.Second)
		}
		l.api.do(func() {
			// Two in twelve seconds at most: what goes back to what was written is no
			// change, and the one after it is written sooner.
			if n := len(times); n < 6 || n > 11 {
				t.Errorf("%d writes in a minute of churn", n)
			}
		})
		time.Sleep(soon)
		l.api.do(func() { times = nil })
		began := time.Now()
		l.canada(redis("canada", "10.2.0.1")...)
		time.Sleep(3 * time.Second)
		l.api.do(func() {
			if len(times) != 1 {
				t.Errorf("%v after a change: %v", time.Since(began), times)
			}
		})
		time.Sleep(time.Hour)
		l.api.do(func() {
			if n := len(times); n < 11 || n > 14 {
				t.Errorf("%d writes in an hour in which nothing changed", n)
			}
		})
	})
}

func TestAConfigMapThatMayNotBeWrittenHoldsUpNothing(t *testing.T) {
	inLab(t, 22, func(l *servicesLab) {
		l.api.refuse = func(_, resource string, _, _ map[string]any) error {
			if resource == "configmaps" {
				return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, ReportsName, fmt.Errorf("no"))
			}
			return nil
		}
		l.world("10.2.0.1")
		_, end := l.lead("agent-1")
		defer end()
		time.Sleep(soon)
		l.expect("without it", "testdb-federated", plan.ReasonInSync, "10.2.0.1")
		l.api.do(func() { l.api.refuse = agentAdmission })
		time.Sleep(2 * lastRetry)
		if stored[corev1.ConfigMap](l.api, "configmaps")["overland-system/"+ReportsName] == nil {
			t.Error("it is not written once it may be")
		}
	})
}
