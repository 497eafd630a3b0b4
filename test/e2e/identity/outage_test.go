package identity

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
)

func query(name, value string) string { return url.Values{name: {value}}.Encode() }

func TestIdentityRestartOfTheRemoteAPIServer_3_2(t *testing.T) {
	deployed(t, canada())
	untilTruth(t)
	lab.Kill(t, "canada/kube-apiserver")
	untilState(t, "west/node-1", "canada", "OutOfContact")
	startAPIServer(t, canada())
	deployed(t, canada())
	untilTruth(t)
	untilReason(t, "west/node-1", "canada", "InSync")
}

func TestIdentityRestartOfTheLocalAPIServer(t *testing.T) {
	lab.Kill(t, "west/kube-apiserver")
	// The other cluster goes on being followed meanwhile (3.6, the other way).
	n := canada().NewNamespace(t, "meanwhile")
	n.Apply(twoPods)
	pods := n.Pods("app=web", 2)
	name := fmt.Sprintf("Pod canada/%s/%s", n.Name, pods[0].Name)
	until(t, name+" while the local API server is down", func(ctx context.Context) (string, bool) {
		w, err := snapshot(ctx, "west/node-1")
		if err != nil {
			return err.Error(), false
		}
		_, ok := w[name]
		return fmt.Sprintf("%d endpoints without it", len(w)), ok
	})
	startAPIServer(t, west())
	deployed(t, west())
	untilTruth(t)
}

func TestIdentityACutPeeringIsNoticedSurvivedAndHealed_3_1(t *testing.T) {
	kept, pods := deployed(t, canada())
	untilTruth(t)
	before, err := snapshot(t.Context(), "west/node-1")
	if err != nil {
		t.Fatal(err)
	}
	lab.Cut(t, "west", "canada")
	c := untilState(t, "west/node-1", "canada", "OutOfContact")
	if c.Reason != "Unreachable" || c.LastContactAgeSeconds == nil || c.Message == "" {
		t.Errorf("the cut peering is shown as %+v", c)
	}
	// What happens meanwhile: one pod goes, others come, a label changes.
	if err := kept.Client.CoreV1().Pods(kept.Name).Delete(t.Context(), pods[0].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	deployed(t, canada())
	during, err := snapshot(t.Context(), "west/node-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(canadas(before), canadas(during)); diff != "" {
		t.Errorf("what is known of a cluster out of contact changed:\n%s", diff)
	}
	if out := lab.Overland(t, "west/node-1", "endpoints", "--cluster", "canada"); out.Code != 3 {
		t.Errorf("partial data should be told by exit status 3: %s", out)
	}
	lab.Heal(t, "west", "canada")
	untilTruth(t)
	for _, node := range nodes() {
		for _, cluster := range []string{"west", "canada"} {
			untilReason(t, node, cluster, "InSync")
		}
	}
}

// startAPIServer starts a cluster's API server again and waits until it serves.
func startAPIServer(t *testing.T, c *labtest.Cluster) {
	t.Helper()
	lab.Start(t, c.Name+"/kube-apiserver")
	until(t, "the API server of "+c.Name, func(ctx context.Context) (string, bool) {
		text, err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return fmt.Sprintf("%s %v", text, err), err == nil
	})
}

func canadas(w world) world {
	return only(w, func(name string) bool { return name[:11] == "Pod canada/" || name[:12] == "Node canada/" })
}

func only(w world, keep func(string) bool) world {
	kept := world{}
	for name, k := range w {
		if keep(name) {
			kept[name] = k
		}
	}
	return kept
}

// untilState waits until an agent sees a cluster in that state.
func untilState(t *testing.T, node, cluster, state string) api.Cluster {
	t.Helper()
	var last api.Cluster
	until(t, fmt.Sprintf("state %s of cluster %s on %s", state, cluster, node), func(ctx context.Context) (string, bool) {
		c, err := clusterOn(ctx, node, cluster)
		if err != nil {
			return err.Error(), false
		}
		last = c
		return fmt.Sprintf("%s, %s: %s", c.State, c.Reason, c.Message), c.State == state
	})
	return last
}

// kill ends the agent of a node without a warning, and waits until the kubelet
// has started it again.
func kill(t *testing.T, node string) {
	t.Helper()
	old := lab.AgentProcess(t, node)
	if old == 0 {
		t.Fatalf("no agent runs on %s", node)
	}
	process, err := os.FindProcess(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "another agent on "+node, func(context.Context) (string, bool) {
		pid := lab.AgentProcess(t, node)
		return fmt.Sprint("process ", pid), pid != 0 && pid != old
	})
}

func TestIdentityAnAgentKilledDuringAnOutageStartsFromItsStore_3_3(t *testing.T) {
	deployed(t, canada())
	untilTruth(t)
	lab.Cut(t, "west", "canada")
	outage := untilState(t, "west/node-1", "canada", "OutOfContact")
	before, err := snapshot(t.Context(), "west/node-1")
	if err != nil {
		t.Fatal(err)
	}
	kill(t, "west/node-1")
	until(t, "the agent to be in sync with its own cluster", func(ctx context.Context) (string, bool) {
		s, err := labtest.AskAgent[api.Status](ctx, lab, "west/node-1", api.PathStatus)
		if err != nil {
			return err.Error(), false
		}
		return s.State, s.State == api.AgentInSync && !s.Restored
	})
	after, err := snapshot(t.Context(), "west/node-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(canadas(before), canadas(after)); diff != "" {
		t.Errorf("facts of the moment before were lost or invented:\n%s", diff)
	}
	c, err := clusterOn(t.Context(), "west/node-1", "canada")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Restored || c.LastContact == nil || outage.LastContact == nil {
		t.Fatalf("a restored cluster is shown as %+v; before: %+v", c, outage)
	}
	if drift := c.LastContact.Sub(*outage.LastContact).Abs(); drift > 15*time.Second {
		t.Errorf("the last contact was %s, and is %s after the restart", outage.LastContact, c.LastContact)
	}
	lab.Heal(t, "west", "canada")
	untilTruth(t)
	if c := untilReason(t, "west/node-1", "canada", "InSync"); c.Restored {
		t.Error("a cluster in sync is still shown as restored")
	}
}

func TestIdentityAnAgentKilledWithoutItsAPIServerStartsFromItsStore_3_3(t *testing.T) {
	deployed(t, west())
	untilTruth(t)
	before, err := snapshot(t.Context(), "west/node-1")
	if err != nil {
		t.Fatal(err)
	}
	lab.Kill(t, "west/kube-apiserver")
	lab.Cut(t, "west", "canada")
	kill(t, "west/node-1")
	until(t, "the agent to know what it knew", func(ctx context.Context) (string, bool) {
		after, err := snapshot(ctx, "west/node-1")
		if err != nil {
			return err.Error(), false
		}
		diff := cmp.Diff(before, after)
		return diff, diff == ""
	})
	s, err := labtest.AskAgent[api.Status](t.Context(), lab, "west/node-1", api.PathStatus)
	if err != nil || s.State != api.AgentRestored || !s.Restored {
		t.Errorf("the agent's state is %q, %v", s.State, err)
	}
	lab.Heal(t, "west", "canada")
	startAPIServer(t, west())
	untilTruth(t)
}
