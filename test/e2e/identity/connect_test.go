package identity

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/test/lab/labtest"
)

const policies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mesh, annotations: {overland.dev/peer-scope: mesh}}
spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: names-canada}
spec: {podSelector: {}, egress: [{to: [{podSelector: {matchLabels: {overland.dev/cluster: canada}}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: names-its-label}
spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: cluster.overland.dev/region, operator: In, values: [canada, chile]}]}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: names-another}
spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {overland.dev/cluster: mars}}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: local}
spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.2.0.0/16}}]}]}
`

// parts are the manifests of a dry run, by the cluster in which they belong.
func parts(t *testing.T, printed string) map[string][]string {
	t.Helper()
	in := regexp.MustCompile(`^# In (\S+) \(context (\S+)\)\n`)
	all := map[string][]string{}
	for _, document := range strings.Split(printed, "---\n")[1:] {
		where := in.FindStringSubmatch(document)
		var o struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(document), &o); err != nil || where == nil || o.Kind == "" || o.Metadata.Name == "" {
			t.Fatalf("%v in:\n%s", err, document)
		}
		all[where[1]] = append(all[where[1]], document)
	}
	return all
}

func TestIdentityConnectDryRunPrintsWhatItWouldDoAndDoesNothing(t *testing.T) {
	unlinked(t)
	n := west().NewNamespace(t, "widened")
	n.Apply(policies)
	before := made(t)
	out := connect(t, "--dry-run")
	sameThings(t, "a dry run has changed something", before, made(t))
	if out.Code != 0 || !strings.Contains(out.Stderr, "ok           reachable") || strings.Contains(out.Stdout, "Preflight") {
		t.Errorf("connect --dry-run: %s", out)
	}
	all := parts(t, out.Stdout)
	if len(all["west"]) != 6 || len(all["canada"]) != 6 {
		t.Errorf("%d objects for west, %d for canada", len(all["west"]), len(all["canada"]))
	}
	for _, c := range []*labtest.Cluster{west(), canada()} {
		text := strings.Join(all[c.Name], "---\n")
		if out := c.KubectlWith(t, strings.NewReader(text), "apply", "--dry-run=server", "-f", "-"); out.Code != 0 {
			t.Errorf("the API server of %s refuses what was printed: %s", c.Name, out)
		}
	}
	widened := func(text string) (names []string) {
		for _, m := range regexp.MustCompile(`(?i)widens +NetworkPolicy `+n.Name+`/(\S+) in west: `).FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		return names
	}
	if diff := cmp.Diff([]string{"mesh", "names-canada", "names-its-label"}, widened(out.Stdout)); diff != "" {
		t.Errorf("policies that the link widens (-want, +got):\n%s", diff)
	}
	if out := connect(t, "--dry-run", "--one-way", "--token-ttl=1h"); out.Code != 0 || len(parts(t, out.Stdout)["west"]) != 2 || strings.Contains(out.Stdout, "service-account-token") {
		t.Errorf("one way with a token that expires: %s", out)
	}
	mustKubectl(t, west(), "annotate", "namespace", n.Name, "overland.dev/peer-scope=mesh")
	if diff := cmp.Diff([]string{"local", "mesh", "names-canada", "names-its-label"}, widened(mustConnect(t))); diff != "" {
		t.Errorf("policies that the link widens (-want, +got):\n%s", diff)
	}
}

func TestIdentityConnectTwiceChangesNothing(t *testing.T) {
	wantMarked(t, slices.Concat(halfOfALink("west", "canada"), halfOfALink("canada", "west"))...)
	before := made(t)
	out := mustConnect(t)
	sameThings(t, "linking again has changed something", before, made(t))
	if n := strings.Count(out, "\n  unchanged  "); n != 12 || regexp.MustCompile(`(?m)^  (created|updated|removed) `).MatchString(out) {
		t.Errorf("linking again says:\n%s", out)
	}
	if out := connect(t, "--name-b", "mars"); out.Code != 1 || !strings.Contains(out.Stdout, "FAILED       names         west has mars linked already, as canada") {
		t.Errorf("linking under another name: %s", out)
	}
	sameThings(t, "a refused command has changed something", before, made(t))
}

// TestIdentityConnectFinishesWhatIsHalfDone takes away what an interruption, or a
// person, may have. A token of a former account is the worst of it: its Secret is
// still there when the account is made again.
func TestIdentityConnectFinishesWhatIsHalfDone(t *testing.T) {
	linkedAfter(t)
	before := slices.Sorted(maps.Keys(made(t)))
	for _, gone := range []struct {
		from *labtest.Cluster
		args []string
	}{
		{canada(), []string{"clusterrolebinding/overland-remote-west", "remotecluster/west"}},
		{west(), []string{"secret/overland-kubeconfig-canada", "serviceaccount/overland-remote-canada", "clusterrole/overland-remote-canada"}},
		{canada(), []string{"serviceaccount/overland-remote-west"}},
	} {
		mustKubectl(t, gone.from, append([]string{"delete", "-n", system}, gone.args...)...)
	}
	mustConnect(t)
	if diff := cmp.Diff(before, slices.Sorted(maps.Keys(made(t)))); diff != "" {
		t.Errorf("objects (-before, +after):\n%s", diff)
	}
	for _, node := range nodes() {
		for _, cluster := range []string{"west", "canada"} {
			untilReason(t, node, cluster, "InSync")
		}
	}
	untilTruth(t)
}

func TestIdentityConnectOneWay(t *testing.T) {
	unlinked(t)
	mustConnect(t, "--one-way")
	wantMarked(t, halfOfALink("west", "canada")...)
	untilTruth(t, "west/node-1", "west/node-2")
	untilForgotten(t, "canada", "west")
	mustConnect(t)
	untilTruth(t)
	mustDisconnect(t, "--one-way")
	wantMarked(t, halfOfALink("canada", "west")...)
	untilForgotten(t, "west", "canada")
	untilTruth(t, "canada/node-1", "canada/node-2")
}

func TestIdentityConnectWithTokensThatExpire_5_2(t *testing.T) {
	linkedAfter(t)
	pid := lab.AgentProcess(t, "west/node-1")
	ttl := []string{"--token-ttl", "20m"}
	mustConnect(t, ttl...)
	var want []string // no Secrets with tokens
	for _, name := range slices.Concat(halfOfALink("west", "canada"), halfOfALink("canada", "west")) {
		if !strings.HasSuffix(name, "-token") {
			want = append(want, name)
		}
	}
	wantMarked(t, want...)
	until(t, "the expiry to be shown", func(context.Context) (string, bool) {
		out := lab.Overland(t, "west/node-1", "clusters")
		return out.String(), regexp.MustCompile(`(?m)^canada +InSync .* 19m\d*s? *$`).MatchString(out.Stdout)
	})
	first := tokenIn(t, kubeconfigOf(credentials(t)))
	said := claims(t, first)
	if expire, ok := said["exp"].(float64); !ok || time.Until(time.Unix(int64(expire), 0)) > 20*time.Minute {
		t.Errorf("the token says %v", said)
	}
	mustConnect(t, ttl...)
	if tokenIn(t, kubeconfigOf(credentials(t))) != first {
		t.Error("a young token was replaced")
	}
	mustConnect(t, append(ttl, "--rotate")...)
	second := tokenIn(t, kubeconfigOf(credentials(t)))
	if second == first {
		t.Error("--rotate has kept the token")
	}
	// One that is past half of its life, as far as it says.
	old := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"iat":%d,"exp":%d,"kubernetes.io":{"serviceaccount":{"uid":%q}}}`,
		time.Now().Add(-11*time.Minute).Unix(), time.Now().Add(9*time.Minute).Unix(), accountUID(t, said)))
	head, rest, _ := strings.Cut(second, ".")
	_, signature, _ := strings.Cut(rest, ".")
	secret := credentials(t)
	secret.Data["kubeconfig"] = []byte(strings.Replace(kubeconfigOf(secret), second, head+"."+old+"."+signature, 1))
	if _, err := west().Client.CoreV1().Secrets(system).Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	mustConnect(t, ttl...)
	if now := tokenIn(t, kubeconfigOf(credentials(t))); strings.Contains(now, old) {
		t.Error("a token past half of its life was kept")
	}
	untilReason(t, "west/node-1", "canada", "InSync")
	mustConnect(t)
	until(t, "no expiry to be shown", func(context.Context) (string, bool) {
		out := lab.Overland(t, "west/node-1", "clusters")
		return out.String(), regexp.MustCompile(`(?m)^canada +InSync .*<never> *$`).MatchString(out.Stdout)
	})
	untilTruth(t)
	if lab.AgentProcess(t, "west/node-1") != pid {
		t.Error("the agent was started again")
	}
}

// accountUID is the uid of the account that a token is of.
func accountUID(t *testing.T, said map[string]any) string {
	t.Helper()
	kubernetes, _ := said["kubernetes.io"].(map[string]any)
	account, _ := kubernetes["serviceaccount"].(map[string]any)
	uid, ok := account["uid"].(string)
	if !ok {
		t.Fatalf("the token says %v", said)
	}
	return uid
}

func TestIdentityConnectRotatesTokensThatDoNotExpire(t *testing.T) {
	linkedAfter(t)
	before := tokenIn(t, kubeconfigOf(credentials(t)))
	for range 2 { // there and back: two Secrets take turns
		out := mustConnect(t, "--rotate")
		if !regexp.MustCompile(`(?m)^  removed    Secret overland-system/overland-remote-west-token(-2)? in canada$`).MatchString(out) {
			t.Errorf("rotation says:\n%s", out)
		}
		after := tokenIn(t, kubeconfigOf(credentials(t)))
		if after == before {
			t.Error("the token is the same")
		}
		before = after
	}
	for _, node := range nodes() {
		for _, cluster := range []string{"west", "canada"} {
			untilReason(t, node, cluster, "InSync")
		}
	}
	untilTruth(t)
}

func TestIdentityConnectGrantsWhatIsUsedAndNothingElse_1_2(t *testing.T) {
	linkedAfter(t)
	pairs := map[*labtest.Cluster]*labtest.Cluster{west(): canada(), canada(): west()}
	files := map[*labtest.Cluster]string{}
	for learner, other := range pairs {
		files[learner] = filepath.Join(t.TempDir(), "kubeconfig")
		if err := os.WriteFile(files[learner], kubeconfigFor(t, learner, other.Name).Data["kubeconfig"], 0o600); err != nil {
			t.Fatal(err)
		}
		as := func(args ...string) labtest.Output { // kubectl heeds the last of two flags
			return other.Kubectl(t, append([]string{"--kubeconfig", files[learner]}, args...)...)
		}
		var resources []string
		for line := range strings.Lines(as("auth", "can-i", "--list").Stdout) {
			at := strings.LastIndexByte(line, '[')
			if fields := strings.Fields(line); at > 0 && !strings.HasPrefix(line, " ") && !strings.Contains(fields[0], "self") {
				resources = append(resources, fields[0]+" "+strings.TrimSpace(line[at:]))
			}
		}
		slices.Sort(resources)
		want := []string{
			"clustertrustbundles.certificates.k8s.io [get list watch]", // anybody may
			"endpointslices.discovery.k8s.io [get list watch]",
			"namespaces [get list watch]", "nodes [get list watch]", "pods [get list watch]", "services [get list watch]",
		}
		if diff := cmp.Diff(want, resources); diff != "" {
			t.Errorf("what %s may do in %s (-want, +got):\n%s", learner.Name, other.Name, diff)
		}
		for resource, allowed := range map[string]bool{
			"pods": true, "nodes": true, "namespaces": true, "services": true, "endpointslices": true,
			"secrets": false, "configmaps": false, "endpoints": false, "networkpolicies": false, "remoteclusters": false,
		} {
			out := as("get", resource, "--all-namespaces", "-o", "name")
			if (out.Code == 0) != allowed || !allowed && !strings.Contains(out.Stderr, "Forbidden") {
				t.Errorf("%s reads the %s of %s: %s", learner.Name, resource, other.Name, out)
			}
		}
	}
	mustDisconnect(t)
	for learner, other := range pairs {
		// An API server remembers for some seconds whom it has let in.
		until(t, "the token to be refused", func(context.Context) (string, bool) {
			out := other.Kubectl(t, "--kubeconfig", files[learner], "get", "namespaces")
			return out.String(), out.Code != 0 && strings.Contains(out.Stderr, "Unauthorized")
		})
	}
}

func TestIdentityDisconnectRemovesExactlyItsOwn(t *testing.T) {
	linkedAfter(t)
	const role = "overland-remote-west"
	// Taken over by a person; another peer's; without a mark but for the name.
	mustKubectl(t, canada(), "label", "clusterrole", role, "app.kubernetes.io/managed-by-")
	t.Cleanup(func() { mustKubectl(t, canada(), "delete", "clusterrole", role, "--ignore-not-found") })
	apply(t, west(), `
apiVersion: v1
kind: ServiceAccount
metadata:
  name: overland-remote-mars
  namespace: overland-system
  labels: {app.kubernetes.io/managed-by: overland-connect}
  annotations: {overland.dev/connect-peer: mars}
---
apiVersion: v1
kind: Secret
metadata: {name: overland-remote-canada-token-2, namespace: overland-system}
`)
	before := made(t)
	foreign := []string{"canada ClusterRole " + role, "west ServiceAccount overland-remote-mars", "west Secret overland-remote-canada-token-2"}
	if out := disconnect(t, "--dry-run"); out.Code != 0 || strings.Count(out.Stdout, "would remove") != 11 {
		t.Errorf("disconnect --dry-run: %s", out)
	}
	sameThings(t, "a dry run has changed something", before, made(t))
	out := mustDisconnect(t)
	for _, line := range []string{"left     ClusterRole " + role + " in canada", "left     Secret overland-system/overland-remote-canada-token-2 in west"} {
		if !strings.Contains(out, line) {
			t.Errorf("disconnect does not say %q:\n%s", line, out)
		}
	}
	maps.DeleteFunc(before, func(name string, o thing) bool { return o.Marked && !slices.Contains(foreign, name) })
	sameThings(t, "disconnect has removed too much or too little", before, made(t))
	untilForgotten(t, "west", "canada")
	untilForgotten(t, "canada", "west")
	untilTruthOfItself(t)

	for _, args := range [][]string{nil, {"--dry-run"}} {
		out := connect(t, args...)
		if out.Code != 1 || !strings.Contains(out.Stderr, "ClusterRole "+role+" exists") || !strings.Contains(out.Stderr, "Secret overland-system/overland-remote-canada-token-2 exists") {
			t.Errorf("connect %v with objects of others in its way: %s", args, out)
		}
	}
	sameThings(t, "a refused command has changed something", before, made(t))
	mustKubectl(t, canada(), "delete", "clusterrole", role)
	mustKubectl(t, west(), "delete", "-n", system, "secret/overland-remote-canada-token-2", "serviceaccount/overland-remote-mars")
	// A link by hand is not connect's to change either.
	apply(t, west(), linkManifest("canada", "hello", ""))
	if out := connect(t); out.Code != 1 || !strings.Contains(out.Stderr, "RemoteCluster canada exists") {
		t.Errorf("connect with a link by hand: %s", out)
	}
	wantMarked(t)
	mustKubectl(t, west(), "delete", "rcl/canada")
	mustKubectl(t, west(), "delete", "-n", system, "secret/test-canada")
	mustConnect(t)
	untilTruth(t)
}

// untilTruthOfItself waits until each agent knows its own cluster and no other.
func untilTruthOfItself(t *testing.T) {
	t.Helper()
	for _, node := range nodes() {
		name, _, _ := strings.Cut(node, "/")
		until(t, "the truth on "+node, func(ctx context.Context) (string, bool) {
			have, err := snapshot(ctx, node)
			if err != nil {
				return err.Error(), false
			}
			want, err := truth(ctx, lab.Cluster(name))
			if err != nil {
				return err.Error(), false
			}
			diff := cmp.Diff(want, have)
			return diff, diff == ""
		})
	}
}

func TestIdentityDisconnectWithoutTheOtherAPIServerIsFinishedLater(t *testing.T) {
	linkedAfter(t)
	lab.Kill(t, "canada/kube-apiserver")
	out := disconnect(t)
	if out.Code != 3 || !strings.Contains(out.Stderr, "unlinked in part") || !strings.Contains(out.Stderr, "RemoteCluster west in canada") {
		t.Errorf("disconnect without canada's API server: %s", out)
	}
	if !strings.Contains(out.Stdout, "canada (context canada) cannot be reached") {
		t.Errorf("which cluster it is, and why, is not said: %s", out)
	}
	untilForgotten(t, "west", "canada")
	// What would tell the other's name is gone now.
	if out := disconnect(t); out.Code != 1 || !strings.Contains(out.Stderr, "--name-b") {
		t.Errorf("a repeat: %s", out)
	}
	if out := disconnect(t, "--name-b", "canada"); out.Code != 3 {
		t.Errorf("a repeat with the name: %s", out)
	}
	startAPIServer(t, canada())
	wantMarked(t,
		"canada ClusterRole overland-remote-west", "canada ClusterRoleBinding overland-remote-west",
		"canada Secret overland-remote-west-token", "canada ServiceAccount overland-remote-west",
		"canada RemoteCluster west", "canada Secret overland-kubeconfig-west")
	mustDisconnect(t)
	wantMarked(t)
	untilForgotten(t, "canada", "west")
}

func TestIdentityConnectPreflightFindsWhatCannotWork(t *testing.T) {
	unlinked(t)
	before := made(t)
	fails := func(want string, args ...string) {
		t.Helper()
		out := outside(t, append([]string{"connect", "west", "canada"}, args...)...)
		if out.Code != 1 || !regexp.MustCompile(`(?m)^  FAILED       `+want).MatchString(out.Stdout) || !strings.Contains(out.Stderr, "nothing has been changed") {
			t.Errorf("connect %q should fail with %q: %s", args, want, out)
		}
		sameThings(t, "a failed preflight has changed something", before, made(t))
	}
	patchNode := func(label string) {
		t.Helper()
		_, err := canada().Client.CoreV1().Nodes().Patch(context.WithoutCancel(t.Context()), "node-2", types.MergePatchType,
			fmt.Appendf(nil, `{"metadata":{"labels":{"kubernetes.azure.com/ebpf-host-routing":%s}}}`, label), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}

	if out := outside(t, "connect", "west", "west"); out.Code != 1 || !strings.Contains(out.Stdout, "contexts west and west lead to the same cluster") {
		t.Errorf("a cluster with itself: %s", out)
	}
	fails("names +both clusters are called west", "--name-b", "west")
	fails(`names +context canada: the name of the cluster is "any": that name is reserved`, "--name-b", "any")
	fails(`names +context west: the name of the cluster is "West": a lowercase`, "--name-a", "West")
	fails(`ranges +the pods of west \(10\.1\.1\.0/24\) and the pods of canada \(10\.1\.0\.0/16\) have addresses in common`, "--pod-cidrs-b", "10.1.0.0/16")
	fails(`ranges +the nodes of west \(10\.1\.0\.0/24\) and the nodes of canada \(10\.0\.0\.0/14\)`, "--node-cidrs-b", "10.0.0.0/14")

	apply(t, canada(), "{apiVersion: v1, kind: ConfigMap, metadata: {name: azure-ip-masq-agent-config, namespace: kube-system},"+
		` data: {ip-masq-agent: "nonMasqueradeCIDRs: [10.2.0.0/16, 10.1.1.0/24, fd00::/8]\nmasqLinkLocal: true\n"}}`)
	fails(`masquerade +pods of canada towards west leave with their node's address: azure-ip-masq-agent does not except 10\.1\.2\.0/24\. Add 10\.1\.2\.0/24 to nonMasqueradeCIDRs in ConfigMap kube-system/azure-ip-masq-agent-config of canada`)
	mustKubectl(t, canada(), "delete", "configmap", "-n", "kube-system", "azure-ip-masq-agent-config")

	t.Cleanup(func() { patchNode("null") })
	patchNode(`"true"`)
	fails(`network-mode +canada: 1 of 2 nodes \(node-2…\) have eBPF host routing`)
	if out := outside(t, "connect", "west", "canada", "--dry-run"); out.Code != 1 || !strings.Contains(out.Stderr, "connect would stop here") {
		t.Errorf("a dry run of it: %s", out)
	}
	for _, args := range [][]string{{"--skip-preflight=network-mode"}, {"--one-way"}} {
		if out := outside(t, append([]string{"connect", "west", "canada", "--dry-run"}, args...)...); out.Code != 0 {
			t.Errorf("with %q it should not stop: %s", args, out)
		}
	}
	patchNode("null")

	if out := outside(t, "connect", "west", "canada", "--skip-preflight=all"); out.Code != 2 {
		t.Errorf("a check that there is not: %s", out)
	}
	if out := outside(t, "connect", "west", "mars"); out.Code != 1 || !strings.Contains(out.Stderr, `context "mars"`) {
		t.Errorf("a context that there is not: %s", out)
	}
	sameThings(t, "something was changed", before, made(t))
}

func TestIdentityConnectPreflightAsksTheNodes(t *testing.T) {
	unlinked(t)
	before := made(t)
	fails := func(want string, args ...string) {
		t.Helper()
		out := outside(t, append([]string{"connect", "west", "canada"}, args...)...)
		if out.Code != 1 || !regexp.MustCompile(`(?m)^  FAILED       `+want).MatchString(out.Stdout) {
			t.Errorf("connect %q should fail with %q: %s", args, want, out)
		}
		sameThings(t, "a failed preflight has changed something", before, made(t))
	}
	lab.CutAPI(t, "west", "canada")
	fails(`reachable +2 of 2 nodes of west do not reach the API server of canada \(https://10\.2\.255\.4:6443\): node-\d: no answer within`)
	lab.Heal(t, "west", "canada")
	fails(`reachable +2 of 2 nodes of west do not reach .*connection refused`, "--server-b", "https://10.2.0.4:6443")
	ca := filepath.Join(t.TempDir(), "ca.crt")
	text := mustKubectl(t, west(), "get", "configmap", "-n", "kube-system", "kube-root-ca.crt", "-o", `jsonpath={.data.ca\.crt}`)
	if err := os.WriteFile(ca, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(`reachable +2 of 2 nodes of west do not reach .*certificate`, "--ca-b", ca)

	// No agents: nobody to ask, and nobody to learn.
	patch := func(selector string) {
		t.Helper()
		mustKubectl(t, canada(), "patch", "daemonset", "overland-agent", "-n", system, "--type=merge",
			"-p", `{"spec":{"template":{"spec":{"nodeSelector":{"none":`+selector+`}}}}}`)
	}
	t.Cleanup(func() {
		patch("null")
		mustKubectl(t, canada(), "rollout", "status", "daemonset/overland-agent", "-n", system, "--timeout=90s")
	})
	patch(`"such"`)
	until(t, "no agent to be left in canada", func(context.Context) (string, bool) {
		text := mustKubectl(t, canada(), "get", "pods", "-n", system, "-o", "name")
		return text, text == ""
	})
	fails(`installed +canada lacks agents' pods`)
	mustConnect(t, "--one-way") // canada needs none for that
}
