package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/test/lab/labtest"
)

const system = "overland-system"

// remote is a RemoteCluster of a cluster, as its API server has it.
func remote(t *testing.T, c *labtest.Cluster, name string) v1alpha1.RemoteCluster {
	t.Helper()
	var r v1alpha1.RemoteCluster
	text := mustKubectl(t, c, "get", "remotecluster", name, "-o", "json")
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func mustKubectl(t *testing.T, c *labtest.Cluster, args ...string) string {
	t.Helper()
	out := c.Kubectl(t, args...)
	if out.Code != 0 {
		t.Fatalf("kubectl %s: %s", strings.Join(args, " "), out)
	}
	return out.Stdout
}

// apply applies a manifest to a cluster, and takes it away when the test ends.
func apply(t *testing.T, c *labtest.Cluster, manifest string) {
	t.Helper()
	t.Cleanup(func() {
		_ = c.KubectlWith(t, strings.NewReader(manifest), "delete", "--ignore-not-found", "--wait=false", "-f", "-")
	})
	if out := c.KubectlWith(t, strings.NewReader(manifest), "apply", "-f", "-"); out.Code != 0 {
		t.Fatalf("kubectl apply: %s\n%s", out, manifest)
	}
}

// credentials are the Secret of the RemoteCluster canada in west.
func credentials(t *testing.T) *corev1.Secret {
	t.Helper()
	ref := remote(t, west(), "canada").Spec.Credentials.SecretRef
	secret, err := west().Client.CoreV1().Secrets(system).Get(t.Context(), ref.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func kubeconfigOf(s *corev1.Secret) string { return string(s.Data["kubeconfig"]) }

// linkManifest is a RemoteCluster with a Secret of its own.
func linkManifest(name, kubeconfig, spec string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: test-%s, namespace: %s}
data: {kubeconfig: %s}
---
apiVersion: overland.dev/v1alpha1
kind: RemoteCluster
metadata: {name: %s}
spec:
  credentials: {secretRef: {name: test-%s}}
%s`, name, system, base64.StdEncoding.EncodeToString([]byte(kubeconfig)), name, name, spec)
}

func TestIdentityOneCommandHasLinkedTheClusters(t *testing.T) {
	for cluster, other := range map[*labtest.Cluster]string{west(): "canada", canada(): "west"} {
		until(t, fmt.Sprintf("RemoteCluster %s in %s to be Ready", other, cluster.Name), func(context.Context) (string, bool) {
			text := mustKubectl(t, cluster, "get", "rcl", other)
			return text, strings.Contains(text, "InSync")
		})
		r := remote(t, cluster, other)
		if len(r.Spec.PodCIDRs) == 0 || len(r.Spec.NodeCIDRs) == 0 {
			t.Errorf("connect has left the ranges of %s empty: %+v", other, r.Spec)
		}
		if r.Status.ClusterUID == "" || r.Status.Endpoints == 0 || r.Status.KubernetesVersion != "v1.37.1" || r.Status.LastContactTime == nil || r.Status.ObservedGeneration != r.Generation {
			t.Errorf("the status of %s in %s is %+v", other, cluster.Name, r.Status)
		}
	}
	out := lab.OverlandBeside(t, "west", "connect", "west", "canada")
	if out.Code != 0 {
		t.Errorf("linking what is linked should change nothing: %s", out)
	}
}

func TestIdentityConditionsTellTheStateOfALink_1_2(t *testing.T) {
	want := func(condition, status, reason string) {
		t.Helper()
		until(t, condition+"="+status+" "+reason, func(context.Context) (string, bool) {
			for _, c := range remote(t, west(), "canada").Status.Conditions {
				if c.Type == condition {
					return fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message), string(c.Status) == status && (reason == "" || c.Reason == reason)
				}
			}
			return "no such condition", false
		})
	}
	want("Ready", "True", "InSync")
	want("Synced", "True", "")
	want("Stale", "False", "")
	want("AddressesTrusted", "True", "")
	lab.CutAPI(t, "west", "canada")
	want("Ready", "False", "Unreachable")
	want("Stale", "True", "")
	lab.Heal(t, "west", "canada")
	want("Ready", "True", "InSync")
	want("Stale", "False", "")
}

func TestIdentityAReplacedTokenReconnectsWithoutARestart_1_2(t *testing.T) {
	pid := lab.AgentProcess(t, "west/node-1")
	secret := credentials(t)
	good := secret.Data["kubeconfig"]
	set := func(text []byte) {
		t.Helper()
		now := credentials(t)
		now.Data["kubeconfig"] = text
		if _, err := west().Client.CoreV1().Secrets(system).Update(t.Context(), now, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		now, err := west().Client.CoreV1().Secrets(system).Get(context.Background(), secret.Name, metav1.GetOptions{})
		if err == nil {
			now.Data["kubeconfig"] = good
			_, err = west().Client.CoreV1().Secrets(system).Update(context.Background(), now, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Error(err)
		}
	})
	text := string(good)
	at := strings.Index(text, "token: ") + len("token: ")
	set([]byte(text[:at] + "forged" + text[strings.IndexByte(text[at:], '\n')+at:]))
	untilReason(t, "west/node-1", "canada", "Unauthorized")
	deployed(t, canada()) // not seen now
	set(good)
	untilReason(t, "west/node-1", "canada", "InSync")
	untilTruth(t)
	if lab.AgentProcess(t, "west/node-1") != pid {
		t.Error("the agent was started again")
	}
}

func TestIdentityUnacceptableLinksAreRefusedByName(t *testing.T) {
	good := kubeconfigOf(credentials(t))
	admin := mustKubectl(t, west(), "config", "view", "--raw", "--minify", "--flatten")
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the kubeconfig has no %q:\n%s", old, good)
		}
		return strings.Replace(good, old, with, 1)
	}
	for name, tt := range map[string]struct{ kubeconfig, reason string }{
		"unsafe-exec":  {replace("    token: ", "    exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/run/overland/owned]}\n    token: "), "UnsafeKubeconfig"},
		"unsafe-file":  {replace("    token: ", "    tokenFile: /etc/shadow\n    token: "), "UnsafeKubeconfig"},
		"no-config":    {"hello", "InvalidKubeconfig"},
		"itself":       {admin, "SelfLink"},
		"twice":        {good, "DuplicateCluster"},
		"unknown-name": {replace("server: https://", "server: https://no.such.name.invalid:6443/"), "NameNotResolved"},
	} {
		t.Run(name, func(t *testing.T) {
			apply(t, west(), linkManifest(name, tt.kubeconfig, ""))
			c := untilReason(t, "west/node-1", name, tt.reason)
			if c.Pods+c.Nodes+c.Namespaces > 0 {
				t.Errorf("facts were taken from it: %+v", c)
			}
			until(t, "the condition", func(context.Context) (string, bool) {
				text := mustKubectl(t, west(), "get", "rcl", name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].reason}`)
				return text, text == tt.reason
			})
		})
	}
	if out := lab.NodeExec(t, "west/node-1", "test", "-e", "/run/overland/owned"); out.Code == 0 {
		t.Error("a command of a kubeconfig was run")
	}
	untilTruth(t)
}

func TestIdentityALinkNamedLikeTheLocalClusterIsRefused_1_1(t *testing.T) {
	apply(t, west(), linkManifest("west", kubeconfigOf(credentials(t)), ""))
	until(t, "reason NameConflict", func(context.Context) (string, bool) {
		text := mustKubectl(t, west(), "get", "rcl", "west", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].reason}`)
		return text, text == "NameConflict"
	})
	untilTruth(t)
}

func TestIdentityARemovedLinkIsDrainedAtOnceAndComesBack_3_3(t *testing.T) {
	untilTruth(t)
	secret := credentials(t)
	link := remote(t, west(), "canada")
	manifest, err := json.Marshal(map[string]any{
		"apiVersion": "overland.dev/v1alpha1", "kind": "RemoteCluster",
		"metadata": map[string]any{"name": "canada", "labels": link.Labels, "annotations": link.Annotations},
		"spec":     link.Spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	back := func() {
		if out := west().KubectlWith(t, strings.NewReader(string(manifest)), "apply", "-f", "-"); out.Code != 0 {
			t.Fatalf("apply: %s", out)
		}
	}
	drained := func(node string) {
		t.Helper()
		until(t, "canada to be gone on "+node, func(ctx context.Context) (string, bool) {
			w, err := snapshot(ctx, node)
			if err != nil {
				return err.Error(), false
			}
			left := len(canadas(w))
			_, err = clusterOn(ctx, node, "canada")
			return fmt.Sprintf("%d endpoints, %v", left, err), left == 0 && err != nil
		})
	}
	mustKubectl(t, west(), "delete", "rcl", "canada")
	drained("west/node-1")
	drained("west/node-2")
	back()
	untilTruth(t)
	// Removed while an agent is down: it must not come back from its store.
	mustKubectl(t, west(), "patch", "daemonset", "overland-agent", "-n", system, "--type=merge",
		"-p", `{"spec":{"template":{"spec":{"nodeSelector":{"none":"such"}}}}}`)
	until(t, "no agent to run in west", func(context.Context) (string, bool) {
		pid := lab.AgentProcess(t, "west/node-1") + lab.AgentProcess(t, "west/node-2")
		return fmt.Sprint(pid), pid == 0
	})
	mustKubectl(t, west(), "delete", "rcl", "canada")
	mustKubectl(t, west(), "patch", "daemonset", "overland-agent", "-n", system, "--type=merge",
		"-p", `{"spec":{"template":{"spec":{"nodeSelector":{"none":null}}}}}`)
	mustKubectl(t, west(), "rollout", "status", "daemonset/overland-agent", "-n", system, "--timeout=90s")
	drained("west/node-1")
	back()
	untilTruth(t)
	if _, err := west().Client.CoreV1().Secrets(system).Get(t.Context(), secret.Name, metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestIdentitySuspendedLinksAreKept_1_2(t *testing.T) {
	untilTruth(t)
	before, err := snapshot(t.Context(), "west/node-1")
	if err != nil {
		t.Fatal(err)
	}
	suspend := func(yes bool) {
		mustKubectl(t, west(), "patch", "rcl", "canada", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"suspend":%v}}`, yes))
	}
	t.Cleanup(func() { suspend(false) })
	suspend(true)
	untilState(t, "west/node-1", "canada", "Suspended")
	deployed(t, canada())
	after, err := snapshot(t.Context(), "west/node-1")
	if err != nil {
		t.Fatal(err)
	}
	if len(canadas(before)) != len(canadas(after)) {
		t.Errorf("%d endpoints of canada became %d while suspended", len(canadas(before)), len(canadas(after)))
	}
	suspend(false)
	untilTruth(t)
}
