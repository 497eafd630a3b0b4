package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/overland-net/overland/test/lab/labtest"
)

const connectMark = "app.kubernetes.io/managed-by=overland-connect"

// connect runs `overland connect west canada` and more arguments.
func connect(t testing.TB, args ...string) labtest.Output {
	t.Helper()
	return lab.OverlandBeside(t, "west", append([]string{"connect", "west", "canada"}, args...)...)
}

func mustConnect(t testing.TB, args ...string) string {
	t.Helper()
	out := connect(t, args...)
	if out.Code != 0 {
		t.Fatalf("overland connect west canada %q: %s", args, out)
	}
	return out.Stdout
}

func disconnect(t testing.TB, args ...string) labtest.Output {
	t.Helper()
	return lab.OverlandBeside(t, "west", append([]string{"disconnect", "west", "canada"}, args...)...)
}

func mustDisconnect(t testing.TB, args ...string) string {
	t.Helper()
	out := disconnect(t, args...)
	if out.Code != 0 {
		t.Fatalf("overland disconnect west canada %q: %s", args, out)
	}
	return out.Stdout
}

// outside runs the `overland` command on the host that is in no cluster: it
// reaches every API server, whatever is cut between the clusters.
func outside(t *testing.T, args ...string) labtest.Output {
	t.Helper()
	dir := filepath.Dir(filepath.Dir(filepath.Dir(west().Kubeconfig)))
	return lab.Command(t, append([]string{
		"netns", "outside", "--", "env", "KUBECONFIG=" + filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "bin", "overland"),
	}, args...)...)
}

// linkedAfter leaves the clusters linked as they were when the test ends.
func linkedAfter(t *testing.T) {
	t.Cleanup(func() {
		mustConnect(t)
		if left := maps.Collect(marked(made(t))); len(left) != 12 {
			t.Errorf("the link is left as %v", slices.Sorted(maps.Keys(left)))
		}
	})
}

// unlinked is linkedAfter for a test that begins without the link.
func unlinked(t *testing.T) {
	t.Helper()
	linkedAfter(t)
	mustDisconnect(t)
	if left := maps.Collect(marked(made(t))); len(left) != 0 {
		t.Fatalf("disconnect has left %v", left)
	}
}

// thing is an object of one of the kinds that connect makes.
type thing struct {
	Version string // changes with the object, its status apart
	Marked  bool
}

// made is all objects that connect may have to do with, in both clusters: by
// cluster, kind and name.
func made(t *testing.T) map[string]thing {
	t.Helper()
	all := map[string]thing{}
	for _, c := range []*labtest.Cluster{west(), canada()} {
		for _, r := range []schema.GroupVersionResource{
			{Version: "v1", Resource: "serviceaccounts"},
			{Version: "v1", Resource: "secrets"},
			{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
			{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"},
			{Group: "overland.dev", Version: "v1alpha1", Resource: "remoteclusters"},
		} {
			// Cleanups look, too.
			list, err := c.Dynamic.Resource(r).List(context.WithoutCancel(t.Context()), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range list.Items {
				if ns := o.GetNamespace(); ns == "" || ns == system {
					all[c.Name+" "+o.GetKind()+" "+o.GetName()] = newThing(t, &o)
				}
			}
		}
	}
	return all
}

func newThing(t *testing.T, o *unstructured.Unstructured) thing {
	t.Helper()
	key, value, _ := strings.Cut(connectMark, "=")
	n := thing{Version: fmt.Sprint(o.GetUID(), " ", o.GetResourceVersion()), Marked: o.GetLabels()[key] == value}
	if o.GetKind() == "RemoteCluster" {
		// Its status is written all the time, and counts in the resourceVersion.
		text, err := json.Marshal([]any{o.GetUID(), o.GetGeneration(), o.GetLabels(), o.GetAnnotations()})
		if err != nil {
			t.Fatal(err)
		}
		n.Version = string(text)
	}
	return n
}

// marked are those that bear connect's mark.
func marked(all map[string]thing) func(yield func(string, thing) bool) {
	return func(yield func(string, thing) bool) {
		for name, o := range all {
			if o.Marked && !yield(name, o) {
				return
			}
		}
	}
}

func sameThings(t *testing.T, what string, before, after map[string]thing) {
	t.Helper()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("%s (-before, +after):\n%s", what, diff)
	}
}

// halfOfALink is what makes one cluster learn another, as documented.
func halfOfALink(learner, from string) []string {
	return []string{
		from + " ClusterRole overland-remote-" + learner,
		from + " ClusterRoleBinding overland-remote-" + learner,
		from + " Secret overland-remote-" + learner + "-token",
		from + " ServiceAccount overland-remote-" + learner,
		learner + " RemoteCluster " + from,
		learner + " Secret overland-kubeconfig-" + from,
	}
}

func wantMarked(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(maps.Collect(marked(made(t)))))); diff != "" {
		t.Errorf("objects with connect's mark (-want, +got):\n%s", diff)
	}
}

// untilForgotten waits until the agents of a cluster know nothing of another.
func untilForgotten(t *testing.T, learner, cluster string) {
	t.Helper()
	for _, node := range []string{learner + "/node-1", learner + "/node-2"} {
		until(t, fmt.Sprintf("%s to be forgotten on %s", cluster, node), func(ctx context.Context) (string, bool) {
			w, err := snapshot(ctx, node)
			if err != nil {
				return err.Error(), false
			}
			left := only(w, func(name string) bool { return strings.Contains(name, " "+cluster+"/") })
			_, err = clusterOn(ctx, node, cluster)
			return fmt.Sprintf("%d endpoints, %v", len(left), err), len(left) == 0 && err != nil
		})
	}
}

// kubeconfigFor is the Secret by which the learner reads the other cluster.
func kubeconfigFor(t *testing.T, learner *labtest.Cluster, other string) *corev1.Secret {
	t.Helper()
	s, err := learner.Client.CoreV1().Secrets(system).Get(t.Context(), "overland-kubeconfig-"+other, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tokenIn is the token in a kubeconfig.
func tokenIn(t *testing.T, kubeconfig string) string {
	t.Helper()
	for line := range strings.Lines(kubeconfig) {
		if token, ok := strings.CutPrefix(strings.TrimSpace(line), "token: "); ok {
			return token
		}
	}
	t.Fatalf("no token in:\n%s", kubeconfig)
	return ""
}

// claims is what a token says.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a token of three parts: %q", token)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]any{}
	if err := json.Unmarshal(text, &said); err != nil {
		t.Fatal(err)
	}
	return said
}
