package federation

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/overland-net/overland/pkg/federation/plan"
	"github.com/overland-net/overland/pkg/model"
)

// federated is a Service with that expression, and what is found of it.
func federated(expression, uid, reason string) found {
	s := &model.Service{
		Key: model.ServiceKey("west", "shop", "front"), UID: model.ParseUID(uid),
		Annotations: map[string]string{model.AnnotationServiceSelector: expression},
	}
	f := found{subject: serviceSubject(s)}
	if reason != "" {
		f.findings = []finding{{f.subject, reason, "a message"}}
	}
	return f
}

func TestOneEventForEachReasonAndDeclarationOfAService_2_13(t *testing.T) {
	a, now := newAnnouncer(), someTime()
	expect := func(what string, services []found, want ...string) {
		t.Helper()
		now = now.Add(time.Minute)
		a.update(now, knowing(), services)
		if got := drain(a, now); !slices.Equal(got, want) {
			t.Errorf("%s: wrote %q, want %q", what, got, want)
		}
	}
	expect("at first", []found{federated("x", "a", plan.ReasonInvalidExpression)}, "shop/front InvalidExpression")
	expect("again", []found{federated("x", "a", plan.ReasonInvalidExpression)})
	expect("all is well", []found{federated("x", "a", "")})
	expect("and again not", []found{federated("x", "a", plan.ReasonInvalidExpression)})
	expect("another reason", []found{federated("x", "a", plan.ReasonPartlyStale)}, "shop/front PartlyStale")
	expect("another expression", []found{federated("y", "a", plan.ReasonPartlyStale)}, "shop/front PartlyStale")
	expect("another Service of that name", []found{federated("y", "b", plan.ReasonPartlyStale)}, "shop/front PartlyStale")
}

// TestServicesAreSpokenOfWhateverPoliciesAre: what is said of one is no matter of
// what is known of the other.
func TestServicesAreSpokenOfWhateverPoliciesAre_2_13(t *testing.T) {
	a, now := newAnnouncer(), someTime()
	s := knowing(badPolicy("shop", "front", 1))
	a.update(now, s, []found{federated("x", "a", plan.ReasonPartlyStale)})
	if got := drain(a, now); len(got) != 2 {
		t.Errorf("wrote %q", got)
	}
	restored := knowing()
	restored.InSync = false
	a.update(now, restored, nil)
	a.update(now, s, []found{federated("x", "a", plan.ReasonPartlyStale)})
	if got := drain(a, now); !slices.Equal(got, []string{"shop/front PartlyStale"}) {
		// A new leader may say it again; its name tells that it is there.
		t.Errorf("then wrote %q", got)
	}
}

func TestEventsAboutServicesAreWritten_2_13(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kube := fake.NewClientset()
		services := newSources()
		services.now = &ServicesSnapshot{found: []found{federated("x", "00000000-0000-4000-8000-00000000000a", plan.ReasonForeignEndpoints)}}
		w := NewEventWriter("agent-1", kube.EventsV1(), newSnapshots(knowing()), services, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()
		time.Sleep(10 * time.Second)
		cancel()
		<-done
		all, err := kube.EventsV1().Events("shop").List(t.Context(), metav1.ListOptions{})
		if err != nil || len(all.Items) != 1 {
			t.Fatalf("got %v, %v", all, err)
		}
		e := all.Items[0]
		if e.Reason != plan.ReasonForeignEndpoints || e.Regarding.Kind != "Service" || e.Regarding.APIVersion != "v1" || e.Regarding.Name != "front" ||
			e.Regarding.UID != "00000000-0000-4000-8000-00000000000a" || e.Action == "" || e.Note != "a message" {
			t.Errorf("got %+v", e)
		}
	})
}
