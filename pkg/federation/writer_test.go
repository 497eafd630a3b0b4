package federation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/model"
)

// of is a snapshot in which these links are in that status.
func of(s model.ClusterStatus, names ...string) *agent.Snapshot {
	snapshot := &agent.Snapshot{Gen: 1, Self: agent.Self{Cluster: "west", Started: time.Now().Add(-time.Hour)}}
	for _, n := range names {
		snapshot.Clusters = append(snapshot.Clusters, agent.Cluster{Name: n, Status: s})
	}
	return snapshot
}

// writing runs a StatusWriter around test, on a clock of its own.
func writing(t *testing.T, api *remotes, published *agent.Snapshot, test func(*snapshots, *fake.Clientset)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	source := newSnapshots(published)
	kube := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "overland-system"}})
	w := NewStatusWriter(WriterConfig{Node: "node-1", Cluster: "west", Namespace: "overland-system"}, api, kube.CoreV1().Namespaces(), source, quiet())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	time.Sleep(2 * time.Second)
	test(source, kube)
	cancel()
	api.close()
	<-done
}

func status(state model.State, reason string) model.ClusterStatus {
	return model.ClusterStatus{State: state, Reason: reason}
}

func TestAChangeOfStateIsWrittenAtOnceAndCountsOnceAMinute_1_2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newRemotes()
		api.edit("canada", func(*v1alpha1.RemoteCluster) {})
		writing(t, api, of(inSyncNow(), "canada"), func(source *snapshots, _ *fake.Clientset) {
			if got := api.now("canada").Status; got.State != "InSync" || got.ObservedBy != "node-1" {
				t.Fatalf("got %+v", got)
			}
			// Let the first minute pass, then count for ten more.
			before := api.written()
			for i := range 10 * 60 * 5 {
				s := of(inSyncNow(), "canada")
				s.Clusters[0].Counts.Pods = i
				source.publish(s)
				time.Sleep(200 * time.Millisecond)
			}
			if n := api.written() - before; n < 9 || n > 11 {
				t.Errorf("%d writes of counts in ten minutes", n)
			}
			source.publish(of(status(model.StateOutOfContact, model.ReasonUnreachable), "canada"))
			time.Sleep(time.Second)
			if got := api.now("canada").Status.State; got != "OutOfContact" {
				t.Errorf("a second after it was lost: %s", got)
			}
			// Nothing changes: nothing is written.
			before = api.written()
			time.Sleep(10 * time.Minute)
			if n := api.written() - before; n > 1 {
				t.Errorf("%d writes while nothing changes", n)
			}
		})
	})
}

func inSyncNow() model.ClusterStatus {
	return model.ClusterStatus{State: model.StateInSync, Reason: model.ReasonInSync, LastContact: time.Now()}
}

// TestNewWordsForTheSameReasonAreNoTurn_1_2: the time of the last contact is in
// the words, and goes on while a cluster is too large.
func TestNewWordsForTheSameReasonAreNoTurn_1_2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newRemotes()
		api.edit("canada", func(*v1alpha1.RemoteCluster) {})
		tooLarge := func() *agent.Snapshot {
			s := status(model.StateOutOfContact, model.ReasonTooLarge)
			s.LastContact = time.Now()
			return of(s, "canada")
		}
		writing(t, api, tooLarge(), func(source *snapshots, _ *fake.Clientset) {
			before := api.written()
			for range 10 * 12 {
				source.publish(tooLarge())
				time.Sleep(5 * time.Second)
			}
			if n := api.written() - before; n > 11 {
				t.Errorf("%d writes in ten minutes in which no state changed", n)
			}
		})
	})
}

func TestAFlappingLinkIsWrittenAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newRemotes()
		var names []string
		for i := range 200 {
			names = append(names, fmt.Sprintf("c%d", i))
			api.edit(names[i], func(*v1alpha1.RemoteCluster) {})
		}
		writing(t, api, of(inSyncNow(), names...), func(source *snapshots, _ *fake.Clientset) {
			before := api.written()
			for i := range 600 {
				s := inSyncNow()
				if i%2 == 0 {
					s = status(model.StateOutOfContact, model.ReasonUnreachable)
				}
				source.publish(of(s, names...))
				time.Sleep(100 * time.Millisecond)
			}
			if n := api.written() - before; n > totalBurst+60*5+1 {
				t.Errorf("%d writes in a minute", n)
			}
			source.publish(of(inSyncNow(), names...))
			time.Sleep(2 * time.Minute)
			for _, n := range names {
				if got := api.now(n).Status.State; got != "InSync" {
					t.Errorf("%s ends as %s", n, got)
				}
			}
		})
	})
}

// TestFaultsAndEditsEndInTheTruth is against conflicts, errors before and after
// the write, and a person who edits the spec meanwhile.
func TestFaultsAndEditsEndInTheTruth_4_11(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			api := newRemotes()
			names := []string{"canada", "fiji", "peru"}
			for _, n := range names {
				api.edit(n, func(*v1alpha1.RemoteCluster) {})
			}
			api.fault = faulty(rand.New(rand.NewPCG(seed, 2)), 3)
			writing(t, api, of(inSyncNow(), names...), func(source *snapshots, _ *fake.Clientset) {
				edits := map[string]string{}
				for i := range 60 {
					n := names[random.IntN(len(names))]
					switch random.IntN(4) {
					case 0:
						api.edit(n, func(r *v1alpha1.RemoteCluster) { r.Spec.Credentials.SecretRef.Name = fmt.Sprint(i) })
						edits[n] = fmt.Sprint(i)
					case 1:
						api.remove(n)
						time.Sleep(time.Duration(random.IntN(2)) * time.Second)
						api.edit(n, func(r *v1alpha1.RemoteCluster) { r.Spec.Credentials.SecretRef.Name = fmt.Sprint(i) })
						edits[n] = fmt.Sprint(i)
					case 2:
						source.publish(of(status(model.StateOutOfContact, model.ReasonUnreachable), names...))
					case 3:
						source.publish(of(inSyncNow(), names...))
					}
					time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
				}
				source.publish(of(status(model.StateSuspended, model.ReasonSuspended), names...))
				time.Sleep(10 * time.Minute)
				now, _ := source.Snapshot()
				for _, n := range names {
					r := api.now(n)
					if d := compare(r.Status, PlanStatus(time.Now(), now, r, "node-1")); d != same {
						t.Errorf("seed %d: %s is not as planned: %+v", seed, n, r.Status)
					}
					if got := r.Spec.Credentials.SecretRef.Name; got != edits[n] {
						t.Errorf("seed %d: %s: the spec is %q, a person wrote %q", seed, n, got, edits[n])
					}
				}
			})
		})
	}
}

func TestAForbiddenStatusIsTriedRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newRemotes()
		api.edit("canada", func(*v1alpha1.RemoteCluster) {})
		var tries atomic.Int32
		api.fault = func() (error, bool) {
			tries.Add(1)
			return apierrors.NewForbidden(remotesResource(), "canada", fmt.Errorf("no")), false
		}
		writing(t, api, of(inSyncNow(), "canada"), func(*snapshots, *fake.Clientset) {
			time.Sleep(10 * time.Minute)
			if n := tries.Load(); n < 10 || n > 18 {
				t.Errorf("%d tries in ten minutes", n)
			}
		})
	})
}

func TestTheClustersNameIsPublishedAndRestored_1_1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writing(t, newRemotes(), of(inSyncNow()), func(_ *snapshots, kube *fake.Clientset) {
			namespaces := kube.CoreV1().Namespaces()
			ns, err := namespaces.Get(t.Context(), "overland-system", metav1.GetOptions{})
			if err != nil || ns.Annotations[model.AnnotationClusterName] != "west" {
				t.Fatalf("got %v, %v", ns.Annotations, err)
			}
			ns.Annotations = map[string]string{"a": "b"}
			if _, err := namespaces.Update(t.Context(), ns, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * namePeriod)
			ns, err = namespaces.Get(t.Context(), "overland-system", metav1.GetOptions{})
			if err != nil || ns.Annotations[model.AnnotationClusterName] != "west" || ns.Annotations["a"] != "b" {
				t.Errorf("got %v, %v", ns.Annotations, err)
			}
		})
	})
}

func TestServicesThatBackFederatedOnesAreCounted_1_2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newRemotes()
		api.edit("canada", func(r *v1alpha1.RemoteCluster) { r.Status.Services = 5 })
		api.edit("fiji", func(r *v1alpha1.RemoteCluster) {
			r.Status.LastContactTime = &metav1.Time{Time: time.Now().Add(-time.Hour)}
		})
		var backing atomic.Pointer[map[string]int]
		backing.Store(new(map[string]int))
		ctx, cancel := context.WithCancel(t.Context())
		w := NewStatusWriter(WriterConfig{
			Node: "node-1", Cluster: "west", Namespace: "overland-system", Backing: func() map[string]int { return *backing.Load() },
		}, api, fake.NewClientset().CoreV1().Namespaces(), newSnapshots(of(status(model.StateOutOfContact, model.ReasonUnreachable), "canada", "fiji")), quiet())
		if w.LastContact() != nil {
			t.Error("contacts are known before anything was read")
		}
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()
		time.Sleep(2 * driftPeriod)
		if got := api.now("canada").Status.Services; got != 5 {
			t.Errorf("while it is not known: %d", got)
		}
		backing.Store(&map[string]int{"canada": 3})
		time.Sleep(3 * driftPeriod)
		if got := api.now("canada").Status.Services; got != 3 {
			t.Errorf("once it is known: %d", got)
		}
		if got := w.LastContact(); len(got) != 1 || !got["fiji"].Equal(api.now("fiji").Status.LastContactTime.Time) {
			t.Errorf("contacts are %v", got)
		}
		cancel()
		api.close()
		<-done
		if w.LastContact() != nil {
			t.Error("contacts are known after the term")
		}
	})
}
