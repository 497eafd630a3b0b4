package services

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/api/client"
	"github.com/overland-net/overland/test/lab/labtest"
)

// remote sets spec.services of west's RemoteCluster canada until the test ends.
func remote(t *testing.T, services string) {
	t.Helper()
	links, err := client.New(west().Config)
	if err != nil {
		t.Fatal(err)
	}
	set := func(services string) {
		patch := `{"spec":{"services":` + services + `}}`
		if _, err := links.Patch(context.WithoutCancel(t.Context()), "canada", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	set(services)
	t.Cleanup(func() { set(`{"spareAfter":"60s","staleAfter":"0s","allowExternalAddresses":false}`) })
}

// stays checks for a while that a Service's addresses do not change.
func stays(t *testing.T, n *labtest.Namespace, service string, want []string, long time.Duration) {
	t.Helper()
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got, err := published(t.Context(), n, service); err != nil || !slices.Equal(got, want) {
			t.Fatalf("the addresses were to stay %v and are %v, %v", want, got, err)
		}
	}
}

// TestServicesASilentClusterBecomesSpareAndServesWhenNoOtherDoes_4_9: the API path
// of the peering is cut, pods reach each other all the time.
func TestServicesASilentClusterBecomesSpareAndServesWhenNoOtherDoes_4_9(t *testing.T) {
	remote(t, `{"spareAfter":"45s"}`)
	s := onScene(t, "spare", "")
	both := addressesOf(s.here, s.there)
	publishes(s.west, t, "fed", s.here, s.there)
	lab.CutAPI(t, "west", "canada")
	cut := time.Now()
	stays(t, s.west, "fed", both, 30*time.Second)
	publishes(s.west, t, "fed", s.here)
	condition(t, s.west, "fed", metav1.ConditionTrue, "PartlyStale")
	if d := time.Since(cut); d < 45*time.Second-quietest {
		t.Errorf("canada's endpoints were spare after %s already", d)
	}
	unready(t, s.here, s.west, true)
	labtest.Until(t, "canada's endpoints to serve again", func(ctx context.Context) (string, bool) {
		got, err := published(ctx, s.west, "fed")
		return fmt.Sprint(got, err), err == nil && slices.Contains(got, addressesOf(s.there)[0])
	})
	reaches(t, s.client, s.host, "there")
	unready(t, s.here, s.west, false)
	publishes(s.west, t, "fed", s.here)
	lab.Heal(t, "west", "canada")
	publishes(s.west, t, "fed", s.here, s.there)
	condition(t, s.west, "fed", metav1.ConditionTrue, "InSync")
}

// quietest is how old the last contact with a cluster may be that is well: a probe
// comes after 8 s in which nothing is heard of it.
const quietest = 11 * time.Second

func TestServicesWhatIsStaleIsWithdrawn_4_9(t *testing.T) {
	remote(t, `{"spareAfter":"600s","staleAfter":"40s"}`)
	s := onScene(t, "stale", "")
	publishes(s.west, t, "fed", s.here, s.there)
	lab.Kill(t, "canada/kube-apiserver")
	killed := time.Now()
	stays(t, s.west, "fed", addressesOf(s.here, s.there), 25*time.Second)
	publishes(s.west, t, "fed", s.here)
	if d := time.Since(killed); d < 40*time.Second-quietest {
		t.Errorf("canada's endpoints were withdrawn after %s already", d)
	}
	lab.Start(t, "canada/kube-apiserver")
	publishes(s.west, t, "fed", s.here, s.there)
}

// flaps counts the moments at which a Service lacked one of its addresses.
func flaps(ctx context.Context, n *labtest.Namespace, service string, want []string, found chan<- []string) {
	defer close(found)
	for ctx.Err() == nil {
		got, err := published(ctx, n, service)
		if err == nil && !slices.Equal(got, want) {
			found <- got
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// unflapping makes a change, and checks that meanwhile a Service's addresses did
// not change.
func unflapping(t *testing.T, n *labtest.Namespace, service string, want []string, change func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	found := make(chan []string, 10000)
	go flaps(ctx, n, service, want, found)
	change()
	stop()
	for got := range found {
		t.Errorf("the addresses were %v for a moment", got)
	}
}

// TestServicesALeaderIsFollowedByAnotherAndNothingFlaps_4_9_4_11: also while the
// remote is down, of which the new leader has then seen nothing.
func TestServicesALeaderIsFollowedByAnotherAndNothingFlaps_4_9_4_11(t *testing.T) {
	for _, tt := range []struct {
		name string
		down bool
	}{{"all well", false}, {"remote down", true}} {
		t.Run(tt.name, func(t *testing.T) {
			s := onScene(t, "leader", "")
			publishes(s.west, t, "fed", s.here, s.there)
			if tt.down {
				remote(t, `{"spareAfter":"600s"}`)
				lab.Kill(t, "canada/kube-apiserver")
				outOfContact(t)
			}
			node, pod := leader(t, west())
			unflapping(t, s.west, "fed", addressesOf(s.here, s.there), func() {
				began := time.Now()
				kill(t, node)
				labtest.Until(t, "another leader", func(ctx context.Context) (string, bool) {
					now, seen := holder(ctx, t)
					return seen, now != pod && now != ""
				})
				took := time.Since(began)
				t.Logf("another leads after %s", took.Round(100*time.Millisecond))
				if took > 15*time.Second {
					t.Errorf("another leads only after %s", took)
				}
				time.Sleep(5 * time.Second) // it lists, plans, and is to write nothing
			})
			lab.Start(t, node+"/kubelet")
			if tt.down {
				lab.Start(t, "canada/kube-apiserver")
			}
			condition(t, s.west, "fed", metav1.ConditionTrue, "InSync")
			// It works.
			unready(t, s.there, s.canada, true)
			reaches(t, s.client, s.host, "here")
			unready(t, s.there, s.canada, false)
			publishes(s.west, t, "fed", s.here, s.there)
		})
	}
}

// outOfContact waits until the agents of west know that canada does not answer.
func outOfContact(t *testing.T) {
	t.Helper()
	for _, node := range west().Nodes {
		labtest.Until(t, node.Path()+" to be out of contact with canada", func(ctx context.Context) (string, bool) {
			list, err := labtest.AskAgent[api.ClusterList](ctx, lab, node.Path(), api.PathClusters)
			for _, c := range list.Items {
				if c.Name == "canada" {
					return c.State + ": " + c.Message, c.State == "OutOfContact"
				}
			}
			return fmt.Sprint(list.Items, err), false
		})
	}
}

// holder is who holds the Lease of west, as it is now.
func holder(ctx context.Context, t *testing.T) (identity, seen string) {
	t.Helper()
	var lease *coordinationv1.Lease
	lease, err := west().Client.CoordinationV1().Leases("overland-system").Get(ctx, "overland-leader", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil {
		return "", fmt.Sprint(err)
	}
	// After a crash the same agent may lead again, as another start of its pod.
	return *lease.Spec.HolderIdentity, *lease.Spec.HolderIdentity
}

// kill ends the agent of a node without a warning, and keeps the kubelet from
// starting it again until the caller starts that, or the test ends: a stopped
// kubelet restarts nothing.
func kill(t *testing.T, node string) {
	t.Helper()
	lab.Stop(t, node+"/kubelet")
	t.Cleanup(func() { lab.Start(t, node+"/kubelet") })
	signal(t, node, syscall.SIGKILL)
}

func signal(t *testing.T, node string, s syscall.Signal) {
	t.Helper()
	pid := lab.AgentProcess(t, node)
	if pid == 0 {
		t.Fatalf("no agent runs on %s", node)
	}
	process, err := os.FindProcess(pid)
	if err == nil {
		err = process.Signal(s)
	}
	if err != nil {
		t.Fatalf("%s to process %d on %s: %v", s, pid, node, err)
	}
}

// TestServicesAPausedLeaderChangesNothingWhenItWakes_4_11: it is stopped past its
// Lease while the world changes; what it still had in mind is not written.
func TestServicesAPausedLeaderChangesNothingWhenItWakes_4_11(t *testing.T) {
	s := onScene(t, "paused", "")
	publishes(s.west, t, "fed", s.here, s.there)
	node, pod := leader(t, west())
	signal(t, node, syscall.SIGSTOP)
	woken := false
	t.Cleanup(func() {
		if !woken {
			signal(t, node, syscall.SIGCONT)
		}
	})
	// Seen by nobody who leads, and by the paused one when it wakes.
	unready(t, s.there, s.canada, true)
	labtest.Until(t, "another leader", func(ctx context.Context) (string, bool) {
		now, seen := holder(ctx, t)
		return seen, now != pod && now != ""
	})
	unready(t, s.there, s.canada, false)
	publishes(s.west, t, "fed", s.here, s.there)
	before := s.versions("fed")
	unflapping(t, s.west, "fed", addressesOf(s.here, s.there), func() {
		woken = true
		signal(t, node, syscall.SIGCONT)
		time.Sleep(12 * time.Second)
	})
	if after := s.versions("fed"); !maps.Equal(before, after) {
		t.Errorf("slices were written after the old leader had woken: %v, now %v", before, after)
	}
	if now, _ := holder(t.Context(), t); now == pod {
		t.Errorf("%s leads again", now)
	}
}

// versions are the resource versions of our slices of a Service, by name.
func (p pair) versions(service string) map[string]string {
	p.t.Helper()
	all, err := ours(p.t.Context(), p.west, service)
	if err != nil {
		p.t.Fatal(err)
	}
	found := map[string]string{}
	for _, slice := range all {
		found[slice.Name] = slice.ResourceVersion
	}
	return found
}
